"""`sarco.compare` over two maps and over folders, by counting voxels."""

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import sarco
from sarco.core.errors import DataWarning, SarcoError


def change(source: Path, target: Path) -> float:
    """Writes a label map without its last slice; gives the Dice of the two, by counting."""
    image = nib.load(source)
    before = np.asarray(image.dataobj)
    after = before.copy()
    after[..., -1] = 0
    target.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(after, image.affine), target)
    return float(2 * np.count_nonzero(before & after) / (np.count_nonzero(before) + np.count_nonzero(after)))


def test_two_maps(tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches truth and prediction swapped, a Dice that is none, and printed lines."""
    truth = f"{tiny_run.unseen}.nii.gz"
    dice = change(Path(truth), tmp_path / "other.nii.gz")
    found = sarco.compare(truth, str(tmp_path / "other.nii.gz"))
    (row,) = found.rows
    assert row.dice == pytest.approx(dice) and 0.5 < dice < 1
    assert row.prediction_ml < row.truth_ml
    assert (found.n_pairs, list(found.alone), list(found.failed)) == (1, [], [])
    (same,) = sarco.compare(truth, truth).rows
    assert same.dice == 1 and same.hd95_mm == 0
    assert capfd.readouterr() == ("", "")


def test_folders_pair_by_name(tiny_run: Any, tmp_path: Path) -> None:
    """Catches pairs that are mixed up, a file without a partner that passes unseen, and one bad file that ends all."""
    truth, other = tmp_path / "truth", tmp_path / "other"
    truth.mkdir()
    dices = {}
    for name in ("P001", "P002", "P003"):
        shutil.copyfile(tiny_run.data / f"{name}.nii.gz", truth / f"{name}.nii.gz")
        dices[name] = change(truth / f"{name}.nii.gz", other / f"{name}.nii.gz")
    shutil.copyfile(truth / "P001.nii.gz", truth / "alone.nii.gz")
    (other / "P003.nii.gz").write_bytes(b"\x1f\x8b broken")
    found = sarco.compare(truth, other)
    assert {row.patient: row.dice for row in found.rows} == pytest.approx(
        {name: dices[name] for name in ("P001", "P002")}
    )
    assert found.n_pairs == 3
    assert [path.name for path in found.alone] == ["alone.nii.gz"]
    (failed,) = found.failed
    assert isinstance(failed, SarcoError) and "P003.nii.gz" in str(failed)
    (mean,) = [one.mean for one in found.summary if one.measure == "dice"]
    assert mean == pytest.approx((dices["P001"] + dices["P002"]) / 2)
    assert [one.n for one in found.agreement if one.label_id == 1][:1] == [2]


def test_names_of_two_sides(tiny_run: Any, tmp_path: Path) -> None:
    """Catches structures compared by numbers that mean something else, and one remark a patient about their names."""
    truth, other = tmp_path / "truth", tmp_path / "other"
    truth.mkdir()
    for name in ("P001", "P002"):
        shutil.copyfile(tiny_run.data / f"{name}.nii.gz", truth / f"{name}.nii.gz")
        change(truth / f"{name}.nii.gz", other / f"{name}.nii.gz")
    (truth / "labels.json").write_text('{"1": "psoas_left", "2": "psoas_right"}')
    (other / "labels.json").write_text('{"1": "iliopsoas_left"}')
    with pytest.warns(
        DataWarning, match=r"P001\.nii\.gz: label 1 is 'psoas_left' in the truth and 'iliopsoas_l"
    ) as told:
        assert len(sarco.compare(truth, other).rows) == 2
    assert len(told) == 1
    (other / "labels.json").write_text('{"1": "psoas_right", "2": "psoas_left"}')
    assert ["renumber" in str(error) for error in sarco.compare(truth, other).failed] == [True, True]


def test_the_only_pair_that_cannot_be_compared_is_an_error(tiny_run: Any, tmp_path: Path) -> None:
    """Catches an empty comparison that looks as if nothing were wrong."""
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(SarcoError, match="broken"):
        sarco.compare(f"{tiny_run.unseen}.nii.gz", tmp_path / "broken.nii.gz")
    with pytest.raises(SarcoError, match="absent"):
        sarco.compare("absent.nii.gz", "absent.nii.gz")


def test_every_patient_is_counted(tiny_run: Any, tmp_path: Path) -> None:
    """Catches means over those patients alone whose label maps hold something, and an exit that says all is well."""
    truth, other = tmp_path / "truth", tmp_path / "other"
    for folder in (truth, other):
        folder.mkdir()
        for name in ("P001", "P002", "P003"):
            image = nib.load(tiny_run.data / f"{name}.nii.gz")
            factor = {"P002": 0, "P003": 255 if folder == truth else 1}.get(name, 1)
            values = np.asarray(image.dataobj) * np.uint8(factor)
            nib.save(nib.Nifti1Image(values, image.affine), folder / f"{name}.nii.gz")
    found = sarco.compare(truth, other)
    assert [(row.patient, row.state) for row in found.rows] == [("P001", "both"), ("P002", "neither")]
    (dice,) = [one for one in found.summary if one.measure == "dice"]
    assert (dice.n, dice.undefined, found.n_pairs) == (1, 1, 3)
    (failed,) = found.failed
    assert "P003.nii.gz" in str(failed) and "mask of 0/255" in str(failed)
    (row,) = sarco.compare(truth / "P002.nii.gz", other / "P002.nii.gz").rows
    assert (row.state, row.label_id) == ("neither", 0)
    for folder in (truth, other):
        for name in ("P001", "P003"):
            (folder / f"{name}.nii.gz").unlink()
    assert [row.patient for row in sarco.compare(truth, other).rows] == ["P002"]
