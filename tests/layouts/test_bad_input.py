"""Data that does not fit together is one line that names what and where, and never trains in silence."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from written_layouts import (
    LPS_TO_RAS,
    patients,
    save_image,
    save_labels,
    write_folders,
    write_nnunet,
    write_saros,
    write_totalsegmentator,
)

from sarco.core.errors import GeometryError, OptionError, SarcoError
from sarco.core.training_options import DataOptions
from sarco.io.nifti import write_label_map
from sarco.layouts.survey import survey
from sarco.scan.geometry import plane_affine
from sarco_datamodule import SarcoDataModule

PHANTOM = patients()["P1"]
IMAGE, LABEL = "P1/ct.nii.gz", "P1/label.nii.gz"


def prepare(data: Path) -> SarcoDataModule:
    """Reads a folder as a training does."""
    made = SarcoDataModule(DataOptions(data_dir=data, batch_size=2, image_size=64), cache_root=None)
    made.setup()
    return made


def save(path: Path, values: np.ndarray, affine: np.ndarray = PHANTOM.affine_lps) -> None:
    """Values (row, column, slice, ...) as they are."""
    axes = (1, 0, *range(2, values.ndim))
    nib.save(nib.Nifti1Image(np.ascontiguousarray(values.transpose(axes)), LPS_TO_RAS @ affine[:, [1, 0, 2, 3]]), path)


def shifted(mm: float, axis: int) -> np.ndarray:
    """The phantom's affine, moved along an axis of the patient."""
    affine = PHANTOM.affine_lps.copy()
    affine[axis, 3] += mm
    return affine


IDS = PHANTOM.label_map
BELOW = plane_affine(PHANTOM.affine_lps, -1)
BEYOND = plane_affine(PHANTOM.affine_lps, 1)
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another shape": (lambda d: write_label_map(d / LABEL, IDS[:-3], PHANTOM.affine_lps), r"label.*ct.*"),
    "a plane less": (lambda d: write_label_map(d / LABEL, IDS[:, :, 1:], BEYOND), r"label.*does not lie on.*ct"),
    "a plane more": (
        lambda d: write_label_map(d / LABEL, np.concatenate([IDS[:, :, :1], IDS], axis=2), BELOW),
        r"label\.nii\.gz labels 1 plane that .*ct\.nii\.gz does not have \(5 slices\)",
    ),
    "shifted in the plane": (lambda d: write_label_map(d / LABEL, IDS, shifted(1, 0)), r"label.*does not lie on.*ct"),
    "shifted along the body": (lambda d: write_label_map(d / LABEL, IDS, shifted(1, 2)), r"label.*does not lie on.*ct"),
    "four dimensions": (lambda d: save(d / IMAGE, np.stack([PHANTOM.hu] * 2, -1)), r"ct.*one slice or one volume"),
    "four dimensions of labels": (
        lambda d: save(d / LABEL, np.stack([IDS] * 2, -1)),
        r"label.*one slice or one volume",
    ),
    "colours": (
        lambda d: save(d / IMAGE, np.zeros(IDS.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "ct.*holds colours",
    ),
    "probabilities": (lambda d: save(d / LABEL, IDS / np.float32(7)), r"label.*no label id.*map of probabilities"),
    "no numbers": (
        lambda d: save(d / LABEL, np.where(IDS == 2, np.nan, IDS)),
        "label.*holds nan, which is no label id",
    ),
    "complex labels": (lambda d: save(d / LABEL, IDS.astype(np.complex64)), "label.*holds colours or complex numbers"),
    "a label map cut short": (
        lambda d: (d / LABEL).write_bytes((d / LABEL).read_bytes()[:-200]),
        "label.*cannot be read as NIfTI",
    ),
    "negative ids": (lambda d: save(d / LABEL, -IDS.astype(np.int16)), r"label.*holds -\d, which is no label id"),
    "ids beyond a byte": (lambda d: save(d / LABEL, IDS.astype(np.int16) * 100), r"label.*which is no label id"),
    "no HU": (lambda d: save(d / IMAGE, PHANTOM.hu + np.int16(1024)), r"ct.*no CT in HU.*rescale applied"),
    "packed and plain": (lambda d: save(d / "P1" / "ct.nii", PHANTOM.hu), "share a name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pair_that_does_not_fit_is_one_line_with_its_files(tmp_path: Path, fault: str) -> None:
    """Catches labels that are shifted, cut or guessed to fit, and numbers that are no ids."""
    write_folders(tmp_path)
    break_it, told = FAULTS[fault]
    break_it(tmp_path)
    with pytest.raises(SarcoError, match=told) as caught:
        prepare(tmp_path)
    assert str(tmp_path / "P1") in str(caught.value) and len(str(caught.value).splitlines()) == 1
    lines, _ = survey(tmp_path)
    assert any(re.search(f"stops a training: .*{told}", line) for line in lines)


def test_an_affine_that_differs_by_rounding_is_no_fault(tmp_path: Path) -> None:
    """Catches labels refused because a program rounds."""
    write_folders(tmp_path)
    write_label_map(tmp_path / LABEL, IDS, shifted(1e-3, 0))
    made = prepare(tmp_path)
    assert len(made.slices) == 15
    save(tmp_path / LABEL, IDS * 0.9999)
    again = prepare(tmp_path)
    np.testing.assert_array_equal(again.cache.label_maps, made.cache.label_maps)


def test_planes_without_labels_may_lie_beyond_the_image(tmp_path: Path) -> None:
    """Catches a label map refused because a program made it larger than what it labels."""
    write_folders(tmp_path)
    ids = np.concatenate([np.zeros_like(IDS[:, :, :1]), IDS, np.full_like(IDS[:, :, :1], 255)], axis=2)
    write_label_map(tmp_path / LABEL, ids, BELOW)
    made = prepare(tmp_path)
    write_folders(tmp_path)
    np.testing.assert_array_equal(prepare(tmp_path).cache.label_maps, made.cache.label_maps)


def change_json(data: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Edits ``dataset.json``."""
    content = json.loads((data / "dataset.json").read_text())
    change(content)
    (data / "dataset.json").write_text(json.dumps(content))


def listed(name: str) -> dict[str, object]:
    """A case as nnU-Net's ``dataset`` lists it."""
    return {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"}


CONTRADICTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "too few files": (lambda d: (d / "labelsTr/P1.nii.gz").unlink(), r"numTraining is 3, but .*labelsTr holds 2"),
    "an id without a name": (
        lambda d: change_json(d, lambda c: c["labels"].pop("psoas_left")),  # type: ignore[attr-defined]
        r"P1\.nii\.gz: holds label 2, which .*dataset\.json does not name",
    ),
    "another ending": (lambda d: change_json(d, lambda c: c.update(file_ending=".mha")), r"file_ending is \.mha"),
    "the other ending": (lambda d: change_json(d, lambda c: c.update(file_ending=".nii")), "has another"),
    "regions that overlap": (
        lambda d: change_json(d, lambda c: c.update(labels={"all": [*range(1, 8)], "left": [2, 4]})),
        r"dataset\.json: id 2 belongs to all and to left, but a pixel has one label; pick one of the two with --labels",
    ),
    "a region with background": (
        lambda d: change_json(d, lambda c: c.update(labels={"all": [0, 1, 2]})),
        r"dataset\.json: all holds 0, which is background",
    ),
    "an order of other regions": (
        lambda d: change_json(d, lambda c: c.update(labels={"all": [1, 2]}, regions_class_order=[1, 2])),
        r"dataset\.json: regions_class_order is \[1, 2\], but has to give each of all a number of its own",
    ),
    "regions of one number": (
        lambda d: change_json(d, lambda c: c.update(labels={"a": [1, 2], "b": [3, 4]}, regions_class_order=[1, 1])),
        "has to give each of a, b a number of its own",
    ),
    "a listed case without its file": (
        lambda d: change_json(d, lambda c: c.update(dataset={"P1": {"images": ["x.nii.gz"], "label": "y.nii.gz"}})),
        r"dataset\.json: names x\.nii\.gz, but .*x\.nii\.gz is not there",
    ),
    "a listed case with two channels": (
        lambda d: change_json(d, lambda c: c.update(dataset={"P1": {"images": ["x", "y"], "label": "z"}})),
        r"dataset\.json: dataset lists P1, but not as .* with one image",
    ),
    "a list of cases": (lambda d: change_json(d, lambda c: c.update(dataset=["P1"])), "dataset lists .*, but not as"),
    "fewer listed than counted": (
        lambda d: change_json(d, lambda c: c.update(dataset={"P1": listed("P1")})),
        r"dataset\.json: numTraining is 3, but dataset in it lists 1 label maps",
    ),
    "no labels": (lambda d: change_json(d, lambda c: c.pop("labels")), "holds no labels"),
    "a listed file": (
        lambda d: change_json(d, lambda c: c.update(training=[{"image": "./imagesTr/P9.nii.gz"}])),
        r"names \./imagesTr/P9\.nii\.gz, but .*is not there",
    ),
    "two channels": (
        lambda d: save_image(d / "imagesTr/P1_0001.nii.gz", PHANTOM.hu, PHANTOM.affine_lps),
        r"P1_0000\.nii\.gz and .*P1_0001\.nii\.gz are both images",
    ),
    "a split with a stranger": (
        lambda d: (d / "splits_final.json").write_text('[{"train": ["P1", "P9"], "val": ["P2"]}]'),
        "names the case P9",
    ),
    "a split with one on both sides": (
        lambda d: (d / "splits_final.json").write_text('[{"train": ["P1", "P2"], "val": ["P2"]}]'),
        "P2 on both sides",
    ),
    "no split": (lambda d: (d / "splits_final.json").write_text("{}"), "is no list of folds"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_dataset_json_that_contradicts_the_files_is_named(tmp_path: Path, what: str) -> None:
    """Catches a description that is believed where the files say otherwise, and the reverse."""
    write_nnunet(tmp_path)
    break_it, told = CONTRADICTIONS[what]
    break_it(tmp_path)
    with pytest.raises(SarcoError, match=told) as caught:
        prepare(tmp_path)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_the_split_of_nnunet_decides(tmp_path: Path) -> None:
    """Catches a splits_final.json that is not read."""
    write_nnunet(tmp_path)
    for val in ("P1", "P3"):
        train = [name for name in ("P1", "P2", "P3") if name != val]
        (tmp_path / "splits_final.json").write_text(
            json.dumps([{"train": train, "val": [val]}, {"train": [], "val": []}])
        )
        made = prepare(tmp_path)
        assert {made.slices[i].patient for i in made.split.val} == {val}


def in_fold(data: Path, folds: int, fold: int) -> set[str]:
    """Who validates in a fold."""
    options = DataOptions(data_dir=data, batch_size=2, image_size=64, folds=folds, fold=str(fold))
    made = SarcoDataModule(options, cache_root=None)
    made.setup()
    assert len(made.split.train) + len(made.split.val) == len(made.slices)
    return {made.slices[i].patient for i in made.split.val}


def test_the_folds_of_nnunet_decide(tmp_path: Path) -> None:
    """Catches folds of splits_final.json that are dealt anew, and a case that never validates there but does here."""
    write_nnunet(tmp_path)
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": ["P1", "P3"], "val": ["P2"]}, {"train": ["P2", "P3"], "val": ["P1"]}]))
    assert [in_fold(tmp_path, 2, fold) for fold in (1, 2)] == [{"P2"}, {"P1"}]
    with pytest.raises(OptionError, match=r"--folds=3: .*labelsTr.* has 2 folds of its own; give --folds=2"):
        in_fold(tmp_path, 3, 1)
    file.write_text(json.dumps([{"train": ["P1"], "val": ["P2"]}, {"train": ["P2"], "val": ["P1"]}]))
    found = [in_fold(tmp_path, 2, fold) for fold in (1, 2)]
    assert sorted(map(sorted, found), key=len)[1][-1] == "P3", "whom it does not name is dealt to one of them"
    assert {"P2"} <= found[0] and {"P1"} <= found[1] and not found[0] & found[1]
    file.write_text(json.dumps([{"train": ["P1"], "val": ["P2", "P3"]}, {"train": ["P3"], "val": ["P1", "P2"]}]))
    with pytest.raises(SarcoError, match=r"P2\.nii\.gz: validates in 2 folds"):
        in_fold(tmp_path, 2, 1)
    file.write_text(json.dumps([{"train": ["P1", "P2", "P3"], "val": []}, {"train": [], "val": ["P1", "P2", "P3"]}]))
    for fold, does in ((1, "validates"), (2, "trains")):
        with pytest.raises(SarcoError, match=f"fold {fold} of 2: nobody {does}"):
            in_fold(tmp_path, 2, fold)


def test_masks_on_different_grids_are_named(tmp_path: Path) -> None:
    """Catches one mask of many that is shifted."""
    write_totalsegmentator(tmp_path)
    mask = tmp_path / "P1" / "segmentations" / "psoas_left.nii.gz"
    write_label_map(mask, (IDS == 2).astype(np.uint8), shifted(8, 0))
    with pytest.raises(GeometryError, match=r"psoas_left\.nii\.gz does not lie on the grid of .*\.nii\.gz"):
        prepare(tmp_path)


def test_saros_with_an_unknown_id_is_named(tmp_path: Path) -> None:
    """Catches a file of another data set under SAROS's name."""
    write_saros(tmp_path)
    save_labels(tmp_path / "P1" / "body-regions.nii.gz", PHANTOM, np.full_like(IDS, 77))
    with pytest.raises(SarcoError, match=r"body-regions\.nii\.gz: holds label 77"):
        prepare(tmp_path)
