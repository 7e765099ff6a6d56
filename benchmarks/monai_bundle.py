"""Does MONAI verify and run an exported bundle where sarco is not, and are its masks those of `sarco predict`?

python benchmarks/monai_bundle.py IMAGE [--schema=FILE] [--append]

IMAGE is a folder with a DICOM series, or a NIfTI volume; the built-in network is exported. MONAI fetches the schema
that metadata.json names, unless --schema says where it lies.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import compare_ids, report, run, table

from sarco.io.images import find_images
from sarco.io.nifti import read_label_map

# As where a bundle is used: sarco cannot be imported.
ALONE = "import sys, runpy; sys.modules['sarco'] = None; runpy.run_module('monai.bundle', run_name='__main__')"
META, CONFIG = "--meta_file=configs/metadata.json", "--config_file=configs/inference.json"


def monai(bundle: Path, *words: str) -> str:
    """What ``python -m monai.bundle`` says in the end."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words], cwd=bundle, capture_output=True, text=True, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    told = [line.split(" - ")[-1] for line in (done.stdout + done.stderr).splitlines() if " - INFO - " in line]
    return told[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--schema", type=Path, help="MONAI's schema, where it was downloaded before")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    image = typed.image.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        bundle, masks = Path(scratch) / "bundle", Path(scratch) / "masks"
        run("-m", "sarco", "export", "built-in", f"--monai_bundle={bundle}")
        schema = Path(scratch) / "schema.json"
        if typed.schema:
            shutil.copyfile(typed.schema, schema)
        rows = [
            ["verify_metadata", monai(bundle, "verify_metadata", META, f"--filepath={schema}")],
            ["verify_net_in_out", monai(bundle, "verify_net_in_out", "network_def", META, CONFIG)],
        ]
        monai(bundle, "run", CONFIG, f"--dataset_dir={image}", f"--output_dir={masks}")
        run("-m", "sarco", "predict", str(image), f"--dest_dir={scratch}/results", "--gpu=-1", "--engine=torch",
            "--precision=32", "--wandb=no")  # fmt: skip
        (series,) = find_images(image).series
        (written,), (predicted,) = masks.iterdir(), Path(scratch).glob("results/*/label_map.nii.gz")
        maps = [read_label_map(path) for path in (predicted, written)]
        expected, found = (
            np.stack([one.on_slice(header.affine_lps, header.shape, image) for header in series.slices]) for one in maps
        )
    agreement = compare_ids(expected, found)
    labels = np.unique(expected).size - 1
    rows.append(["run, beside `sarco predict`", f"{agreement}, {agreement.n_pixels} pixels of {labels} labels"])
    text = f"{table(['command', 'result'], rows)}\n\n{len(series.slices)} slices; sarco could not be imported by MONAI."
    report("A MONAI bundle", "python benchmarks/monai_bundle.py IMAGE", text, typed.append, ("pytorch-ignite", "fire"))


if __name__ == "__main__":
    main()
