"""NIfTI volumes are predicted as DICOM series are: one by one, as a tree, by their patients, and back into training."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review_results import write_corrections
from written_layouts import save_image, save_labels, write_totalsegmentator

import inference
import sarco
from sarco.core.errors import InputError
from sarco.io.images import find_images
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom
from sarco.review.apply import apply_corrections
from sarco.training.cases import find_cases

PHANTOM = make_phantom(7, PhantomOptions(n_slices=4, rows=64, columns=72))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Scans in three shapes of folder, and label maps beside them."""
    root = tmp_path / "scans"
    save_image(root / "s1" / "ct.nii.gz", PHANTOM.hu, PHANTOM.affine_lps)
    save_image(root / "s2" / "ct.nii.gz", PHANTOM.hu, PHANTOM.affine_lps, (2, 0, 1))
    save_labels(root / "s1" / "segmentations" / "psoas.nii.gz", PHANTOM)
    for name in ("a", "b"):
        save_image(root / "flat" / f"{name}_0000.nii", PHANTOM.hu, PHANTOM.affine_lps)
    save_labels(root / "flat" / "anything.nii.gz", PHANTOM)
    return root


def predict(tiny_run: Any, *words: object) -> None:
    """The command."""
    own = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--wandb=no", "--engine=torch"]
    inference.main([*map(str, words), *own])


def test_a_tree_of_volumes_is_predicted_like_one_of_series(tiny_run: Any, tree: Path, tmp_path: Path) -> None:
    """Catches a tree with "no CT slice in this folder", a volume that is lost, and a label map that is predicted."""
    predict(tiny_run, tree, f"--dest_dir={tmp_path / 'out'}")
    results = tmp_path / "out" / "preds_from_tiny_of_scans"
    assert {path.name for path in results.iterdir()} == {"s1", "s2", "flat_a_0000", "flat_b_0000"}
    alone = sarco.predict(tree / "s1" / "ct.nii.gz", **tiny_run.options)
    for name in ("s1", "flat_b_0000"):
        np.testing.assert_array_equal(read_label_map(results / name / "label_map.nii.gz").ids, alone.label_map)


def test_turned_planes_are_told(tree: Path) -> None:
    """Catches a volume in sagittal planes whose axial ones are taken without a word."""
    said = {one.series[0].slices[0].patient_id: one.description for one in find_images(tree).listed}
    assert said == {
        "s1": "ct.nii.gz",
        "s2": "ct.nii.gz, planes of the file turned to axial ones",
        "a": "a_0000.nii",
        "b": "b_0000.nii",
    }


def test_two_scans_of_one_name_have_results_of_their_own(tiny_run: Any, tree: Path, tmp_path: Path) -> None:
    """Catches the second ct.nii.gz refused, or written over the first."""
    for name in ("s1", "s2"):
        predict(tiny_run, tree / name / "ct.nii.gz", f"--dest_dir={tmp_path / 'out'}")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "preds_from_tiny_of_s1_ct",
        "preds_from_tiny_of_s2_ct",
    }


def test_patients_join_on_the_name_of_the_case(tiny_run: Any, tree: Path, tmp_path: Path) -> None:
    """Catches the height of one patient with the muscle of another; TotalSegmentator's own table works too."""
    table = tmp_path / "patients.csv"
    table.write_text("case,sex,height_cm\ns1,F,160\ns2,M,180\n")
    found = {}
    for name in ("s1", "s2"):
        predicted = sarco.predict(tree / name / "ct.nii.gz", patients=table, **tiny_run.options)
        found[name] = predicted.summary["patient"]["height_m"]
    assert found == {"s1": 1.6, "s2": 1.8}
    table.write_text("\ufeffimage_id;age;gender;institute;study_type;split\ns1;61;f;A;ct;train\n")
    patient = sarco.predict(tree / "s1" / "ct.nii.gz", patients=table, **tiny_run.options).summary["patient"]
    assert (patient["sex"], patient["age_years"]) == ("F", 61)
    with pytest.raises(InputError, match="of a NIfTI volume the name of its case"):
        sarco.predict(tree / "s2" / "ct.nii.gz", patients=table, **tiny_run.options)


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_corrections_of_a_volume_become_a_training_case(tiny_run: Any, tree: Path, tmp_path: Path, name: str) -> None:
    """Catches corrections that are lost, or lie mirrored or shifted, because the scan was NIfTI."""
    predict(tiny_run, tree / name / "ct.nii.gz", f"--dest_dir={tmp_path / 'out'}")
    results = tmp_path / "out" / f"preds_from_tiny_of_{name}_ct"
    series = find_images(tree / name / "ct.nii.gz").series[0]
    before = sarco.predict(tree / name / "ct.nii.gz", **tiny_run.options).label_map
    path = write_corrections(tmp_path / "c.json", series, before)
    content = json.loads(path.read_text())
    for run in content["slices"][0]["runs"]:
        run[2] = 1
    counts = np.bincount(before[:, :, 1].ravel(), minlength=2)
    counts[1] += 4 - int(before[0, :4, 1].sum())
    content["slices"][0]["n_pixels"] = {"1": int(counts[1])}
    path.write_text(json.dumps(content))
    applied = apply_corrections(results, path, add_to=tmp_path / "data")
    (case,) = {item.case for item in find_cases(tmp_path / "data").slices}
    assert applied.case == case.label_path
    truth = before.copy()
    truth[0, :4, 1] = 1
    seen = content["checked_slices"] + [1]
    for place, ids in enumerate(case.read_label_maps()):
        expected = truth[:, :, place] if place in seen else np.full_like(ids, 255)
        np.testing.assert_array_equal(ids, expected)
    assert not any(name in str(file.relative_to(tmp_path)) for file in (tmp_path / "data").rglob("*"))


def test_a_data_set_is_predicted_without_its_masks(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a hundred masks that are opened as scans, and told as failures."""
    write_totalsegmentator(tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "P2")
    assert [one.series[0].slices[0].patient_id for one in find_images(tmp_path / "set").listed] == ["P1", "P3"]
    phantom: Phantom = PHANTOM
    save_image(tmp_path / "set" / "grey.nii.gz", phantom.hu + np.int16(1024), phantom.affine_lps)
    (refused,) = find_images(tmp_path / "set").refused
    assert "no CT in HU" in str(refused) and not find_images(tmp_path / "set").failed
