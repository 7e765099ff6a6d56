"""Does nnU-Net itself take the nnU-Net folder that the tests make, whose patients sarco reads bit for bit?

python benchmarks/nnunet_folder.py --nnunet=PYTHON [--append]

PYTHON is the interpreter of an environment of its own with `pip install nnunetv2`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import ROOT, report

sys.path.insert(0, str(ROOT / "tests"))

from written_layouts import write_nnunet

WORDS = ("nnUNetv2_plan_and_preprocess", "-d", "1", "--verify_dataset_integrity", "-c", "2d", "-npfp", "1", "-np", "1")
RESULT = "verify_dataset_integrity Done"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    program = typed.nnunet.absolute().with_name(WORDS[0])
    with tempfile.TemporaryDirectory() as scratch:
        places = {f"nnUNet_{name}": Path(scratch) / name for name in ("raw", "preprocessed", "results")}
        folder = places["nnUNet_raw"] / "Dataset001_Invented"
        folder.mkdir(parents=True)
        write_nnunet(folder)
        done = subprocess.run(
            [program, *WORDS[1:]], capture_output=True, text=True, check=False,
            env={**os.environ, **{name: str(place) for name, place in places.items()}},
        )  # fmt: skip
        made = sorted((places["nnUNet_preprocessed"] / folder.name / "nnUNetPlans_2d").glob("*.pkl"))
    if done.returncode or RESULT not in done.stdout:
        sys.exit(f"{' '.join(WORDS)} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    version = subprocess.run(
        [typed.nnunet, "-c", "from importlib import metadata; print(metadata.version('nnunetv2'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    lines = done.stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if RESULT in line)
    said = "\n".join(line.rstrip() for line in lines[start : start + 2])
    text = f"nnunetv2 {version}, `{' '.join(WORDS)}`, said:\n\n```\n{said}\n```\n\nIt preprocessed {len(made)} cases."
    command = "python benchmarks/nnunet_folder.py --nnunet=PYTHON"
    report("nnU-Net takes the tests' nnU-Net folder", command, text, typed.append)


if __name__ == "__main__":
    main()
