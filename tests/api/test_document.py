"""The page on the Python interface: its examples run, in order, and name what there is."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sarco
from sarco.phantom.patient import PhantomOptions, write_dataset

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SMALL = PhantomOptions(n_slices=3, rows=64, columns=72)
# What makes the examples quick.
SHORTER = {
    "image_size=192": 'image_size=64, pretrained="no", gpu=-1',
    "max_epochs=20": "max_epochs=1",
    "max_epochs=60": "max_epochs=2",
}
FIRST_RUN = 'import sarco\nsarco.train("phantoms", run_id="first", image_size=192, batch_size=8, max_epochs=20)\n'


def test_the_examples_run_in_order(tmp_path: Path) -> None:
    """Catches an example that fails, prints what it was not asked to print, or needs what a later one makes."""
    write_dataset(tmp_path / "phantoms", 3, 1, SMALL)
    write_dataset(tmp_path / "unseen", 1, 9, dataclasses.replace(SMALL, n_slices=6))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 11
    code = FIRST_RUN + "".join(blocks)
    for long, short in SHORTER.items():
        assert long in "".join(blocks)
        code = code.replace(long, short)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path.parent)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "6 of 6 slices" in done.stdout and "absent" in done.stdout.splitlines()[-1]
    assert (tmp_path / "results" / "preds_from_first_of_P001" / "review.html").is_file()
    kinds = {path.name for path in tmp_path.iterdir()}
    assert kinds == {"phantoms", "unseen", "checkpoints", "results", "mask.nii.gz"}
    by_sarco = tmp_path / "results" / "preds_from_first_of_P001" / "label_map.nii.gz"
    assert [row.dice for row in sarco.compare(by_sarco, tmp_path / "mask.nii.gz").rows] == [1]


@pytest.mark.parametrize(
    ("part", "kind"),
    [("Predict", sarco.PredictedSeries), ("Train", sarco.Trained), ("Cross-validate", sarco.CrossValidated)],
)
def test_the_tables_name_every_attribute(part: str, kind: type) -> None:
    """Catches an attribute that came, went or has another name now."""
    table = PAGE.split(f"\n## {part}\n")[1].split("\n## ")[0].split("| Attribute |")[1].split("\n\n")[0]
    first = "\n".join(line.split("|")[1] for line in table.splitlines()[2:])
    told = set(re.findall(r"`(\w+)`", first))
    there = {item.name for item in dataclasses.fields(kind)}
    there |= {name for name, value in vars(kind).items() if isinstance(value, property)}
    assert told == there - {"shown"}  # pictures for W&B


def test_every_kind_of_error_is_told_of() -> None:
    """Catches a class of error that one learns of from a traceback."""
    from sarco.core import errors

    told = set(re.findall(r"^\| `(\w+Error)` \|", PAGE, re.MULTILINE))
    kinds = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert told == {name for name in kinds if name.endswith("Error")} - {"SarcoError"}
