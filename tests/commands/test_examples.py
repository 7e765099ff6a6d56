"""Every example of every command runs, in the order in which a newcomer meets them."""

import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sarco.__main__ import main
from sarco.commands.table import every_command
from sarco.core.parser import Command
from sarco.io.nifti import read_label_map
from sarco.review.pixels import label_map_digest, slice_digest

RESULTS = Path("data/preds_from_first_of_P001")
# What makes them quick; a value that an example gives is replaced.
SHORTER = {
    "phantom": ["--size=64", "--slices=6", "--patients=3"],
    "train": ["--image_size=64", "--batch_size=4", "--gpu=-1"],
    "predict": ["--gpu=-1", "--wandb=no"],
    "doctor": ["--fault=padding"],
}
IN_ORDER = (
    "phantom", "list", "train", "predict", "measure", "compare", "review index", "review apply", "export", "cache",
    "doctor",
)  # fmt: skip


def shortened(command: Command, example: str) -> list[str]:
    """The words of an example with a smaller patient, network or set of faults."""
    words = shlex.split(example)[1:]
    for option in SHORTER.get(command.name, []):
        name = option.split("=")[0]
        if name == "--patients" and "--patients=1" in words:
            continue
        if name in ("--image_size", "--batch_size") and "--resume_training=yes" in words:
            continue  # they belong to the run
        words = [word for word in words if not word.startswith(f"{name}=")] + [option]
    if command.name == "train":
        resumed = "--resume_training=yes" in words
        words = [word for word in words if not word.startswith("--max_epochs=")]
        words += ["--max_epochs=2"] if resumed else ["--max_epochs=1", "--pretrained=no"]
    return words


@pytest.fixture
def sarco_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[list[str]], str]:
    """Runs ``sarco`` in an empty folder, which has to go well; gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["sarco", *words])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main()
            except SystemExit as end:
                assert not end.code, (words, capfd.readouterr())
        return capfd.readouterr().out

    return run


def write_corrections(results: Path, path: Path) -> None:
    """What a review page saves after four pixels of slice 1 were painted over."""
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    ids = read_label_map(results / "label_map.nii.gz").ids
    painted = ids[..., 1].copy()
    painted[0, :4] = 1 - painted[0, 0]
    corrections = {
        "format": "sarco corrections",
        "version": 1,
        "series_uid": prediction["series_uid"],
        "label_map_sha256": label_map_digest(ids.shape, {k: slice_digest(ids[..., k]) for k in range(ids.shape[2])}),
        "shape": list(ids.shape),
        "corrected_by": "AB",
        "corrected_at": "2026-01-02T03:04:05.000Z",
        "checked_slices": [],
        "slices": [
            {
                "slice_index": 1,
                "runs": [[0, 4, int(painted[0, 0])]],
                "n_pixels": {"1": int(np.count_nonzero(painted == 1))},
            }
        ],
    }
    path.write_text(json.dumps(corrections), encoding="utf-8")


def test_every_example_runs(
    sarco_here: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch, dcm2niix: str
) -> None:
    """Catches an example that fails, or that needs what none of the examples before it makes."""
    monkeypatch.setenv("PATH", f"{Path(dcm2niix).parent}{os.pathsep}{os.environ['PATH']}")
    commands = {command.name: command for command in every_command()}
    assert set(IN_ORDER) == set(commands)
    made = {
        "phantom": ["phantoms/P003.nii.gz", "unseen/P001.nii.gz"],
        "train": ["checkpoints/first_Trains/best.ckpt"],
        "predict": [str(RESULTS / "review.html")],
        "measure": ["measurements_of_P001/summary.json", "measured/measurements.csv"],
        "compare": ["comparison/bland_altman.png"],
        "review index": ["data/index.html"],
        "review apply": [str(RESULTS / "label_map_predicted.nii.gz"), "phantoms"],
        "export": ["first.onnx", "first.json"],
        "doctor": ["scores.md"],
    }
    for name in IN_ORDER:
        cases = len(list(Path("phantoms").glob("*.nii.gz")))
        for example in commands[name].examples:
            if name == "review apply":  # a page is painted on anew once its corrections are taken over
                write_corrections(RESULTS, Path("corrections.json"))
            out = sarco_here(shortened(commands[name], example))
            assert out.strip(), example
        for path in made.get(name, []):
            assert Path(path).exists(), path
        if name == "review apply":
            assert len(list(Path("phantoms").rglob("*.nii.gz"))) > cases
