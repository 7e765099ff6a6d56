"""`sarco.measure` gives in memory what the command writes to disk, and writes nothing itself."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import sarco
from sarco.commands.measure import main
from sarco.core.errors import GeometryError, InputError, OptionError


def test_it_is_what_the_command_writes(
    tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches figures that differ from those on disk, printed lines, and files that nobody asked for."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    image, label_map = str(tiny_run.unseen), f"{tiny_run.unseen}.nii.gz"
    found = sarco.measure(image, label_map, l3=1, muscle_labels="all")
    assert capfd.readouterr() == ("", "")
    assert list(here.iterdir()) == []
    main([image, label_map, "--l3=1", "--muscle_labels=all", f"--out={tmp_path / 'out'}"])
    assert found.summary == json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    with open(tmp_path / "out" / "measurements.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.measurements) == 4
    for row, measured in zip(rows, found.measurements, strict=True):
        assert {name: row[name] for name in ("label", "slice_index", "n_pixels")} == {
            name: str(measured[name]) for name in ("label", "slice_index", "n_pixels")
        }
        assert float(row["area_in_range_cm2"]) == pytest.approx(measured["area_in_range_cm2"], abs=1e-4)


def test_planes_are_those_of_the_series(tiny_run: Any) -> None:
    """Catches a mask that is measured on other pixels than those it was drawn on: areas by affine and count."""
    found = sarco.measure(tiny_run.unseen, f"{tiny_run.unseen}.nii.gz")
    steps_mm = np.linalg.norm(found.series.affine_lps[:3, :2], axis=0)
    assert sorted(found.planes) == [0, 1, 2, 3]
    for row in found.rows:
        n_pixels = np.count_nonzero(found.planes[row.slice_index] == row.label_id)
        assert row.area_cm2 == pytest.approx(n_pixels * steps_mm.prod() / 100)


def test_names_of_labels_may_be_given(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a `labels` that takes no text, and names that do not reach the rows."""
    (tmp_path / "names.json").write_text('{"1": "skeletal_muscle"}', encoding="utf-8")
    found = sarco.measure(tiny_run.unseen, f"{tiny_run.unseen}.nii.gz", labels=str(tmp_path / "names.json"))
    assert {row["label"] for row in found.measurements} == {"skeletal_muscle"}


def test_series_that_are_left_out_are_told(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a damaged series beside the right one that nobody hears of."""
    shutil.copytree(tiny_run.unseen, tmp_path / "scan" / "good")
    shutil.copytree(tiny_run.data / "P001", tmp_path / "scan" / "bad")
    for path in (tmp_path / "scan" / "bad").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    told: list[str] = []
    sarco.measure(tmp_path / "scan", f"{tiny_run.unseen}.nii.gz", tell=told.append)
    assert told and all(line.startswith("left out: ") for line in told)


def test_what_cannot_be_used_is_one_line(tiny_run: Any) -> None:
    """Catches an option that is swallowed, and errors of other kinds than documented."""
    label_map = f"{tiny_run.unseen}.nii.gz"
    with pytest.raises(OptionError, match="no option 'engine' here"):
        sarco.measure(tiny_run.unseen, label_map, engine="torch")
    with pytest.raises(InputError, match="absent"):
        sarco.measure("absent", label_map)
    with pytest.raises(GeometryError):
        sarco.measure(tiny_run.data / "P001", label_map)
