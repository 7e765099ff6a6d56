"""Layouts are found by looking, and the same patients are the same data in each of them."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from written_layouts import SEEDS, WRITERS, names_of, patients, save_image, save_labels, write_saros

from sarco.api.training import train
from sarco.core.errors import DataWarning, InputError
from sarco.core.training_options import DataOptions
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.io.nifti import read_label_map
from sarco.layouts.search import find_layouts
from sarco.layouts.survey import survey
from sarco.training.cases import find_cases
from sarco_datamodule import SarcoDataModule


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each layout."""
    root = tmp_path_factory.mktemp("layouts")
    found = {}
    for layout, write in WRITERS.items():
        found[layout] = root / layout
        found[layout].mkdir()
        write(found[layout])
    return found


@pytest.fixture(autouse=True)
def no_remarks() -> Iterator[None]:
    """No layout that is whole gives a remark."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


def module(data: Path, **more: object) -> SarcoDataModule:
    """A data module that has read the folder."""
    options = DataOptions(data_dir=data, batch_size=4, image_size=96, pixel_mm=4.0, **more)  # type: ignore[arg-type]
    made = SarcoDataModule(options, cache_root=None)
    made.setup()
    return made


def by_place(made: SarcoDataModule) -> list[int]:
    """The order of slices by patient and height."""
    keys = [(item.patient, round(item.header.position[2], 2)) for item in made.slices]
    return sorted(range(len(keys)), key=keys.__getitem__)


@pytest.mark.parametrize("layout", [name for name in WRITERS if name != "DICOM series"])
def test_prepared_slices_are_the_same_bit_for_bit(written: dict[str, Path], layout: str) -> None:
    """Catches a layout in which pixels or labels are mirrored, shifted, or those of another patient or structure."""
    reference, made = module(written["DICOM series"]), module(written[layout])
    assert made.labels == reference.labels
    one, other = by_place(reference), by_place(made)
    assert [reference.slices[i].patient for i in one] == [made.slices[i].patient for i in other]
    np.testing.assert_array_equal(reference.cache.images[one], made.cache.images[other])
    np.testing.assert_array_equal(reference.cache.label_maps[one], made.cache.label_maps[other])
    assert {made.slices[i].patient for i in made.split.val} == {
        reference.slices[i].patient for i in reference.split.val
    }


@pytest.mark.parametrize("layout", ["nnU-Net", "TotalSegmentator", "turned"])
def test_the_first_epoch_is_the_same(written: dict[str, Path], layout: str, tmp_path: Path) -> None:
    """Catches slices that come in another order, so that the same data trains another network."""
    figures: list[dict[str, float]] = []
    for name in ("DICOM series", layout):
        torch.manual_seed(0)
        train(
            written[name], dirpath=tmp_path / name, run_id="r", max_epochs=1, image_size=64, batch_size=4, gpu=-1,
            pretrained="no", cache=False, passes_per_epoch=1, progress=lambda _, __, f: figures.append(f),
        )  # fmt: skip
    assert figures[0] == figures[1]


def test_a_real_series_rewritten_as_folders_of_structures_is_the_same(shared_data: Path, tmp_path: Path) -> None:
    """Catches masks of real grids that are laid one voxel off, mirrored, or given another structure's name."""
    series = find_series(shared_data / "muscle_groups" / "A").series[0]
    truth = read_label_map(shared_data / "muscle_groups" / "A.nii.gz")
    names = json.loads((shared_data / "muscle_groups" / "labels.json").read_text())
    case = tmp_path / "A"
    (case / "segmentations").mkdir(parents=True)
    hu = np.stack([read_hu(header) for header in series.slices], axis=-1)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    stored = hu.astype(np.int16).transpose(1, 0, 2), to_ras @ series.affine_lps[:, [1, 0, 2, 3]]
    nibabel.save(nibabel.Nifti1Image(*stored), case / "ct.nii.gz")
    for key, name in names.items():
        if int(key):
            mask = nibabel.Nifti1Image((truth.ids == int(key)).astype(np.uint8), to_ras @ truth.affine_lps)
            nibabel.save(mask, case / "segmentations" / f"{name}.nii.gz")
    (tmp_path / "labels.json").write_text(json.dumps(names))
    reference, made = (
        sorted(find_cases(folder).slices, key=lambda item: item.header.position[2])
        for folder in (shared_data / "muscle_groups", tmp_path)
    )
    assert find_cases(tmp_path).label_names == {int(key): name for key, name in names.items() if int(key)}
    assert len(reference) == len(made) == 112
    drawn, rewritten = (items[0].case.read_label_maps() for items in (reference, made))
    for one, other in zip(reference, made, strict=True):
        np.testing.assert_array_equal(read_hu(one.header), read_hu(other.header))
        np.testing.assert_array_equal(drawn[one.place], rewritten[other.place])
        np.testing.assert_allclose(one.header.position, other.header.position, atol=1e-4)


def test_each_layout_is_recognised(written: dict[str, Path]) -> None:
    """Catches a layout that is taken for another, and a case that is lost."""
    for name, folder in written.items():
        found = find_layouts(folder)
        assert len(found.cases) == (15 if name == "DICOM slices" else 3), name
        assert not found.lonely and not found.tests
    said = {name: find_layouts(folder).cases[0].layout for name, folder in written.items()}
    assert said["nnU-Net"] == "nnU-Net" and said["Decathlon"] == "Medical Segmentation Decathlon"
    assert said["TotalSegmentator"] == "TotalSegmentator" and said["DICOM SEG"] == "DICOM SEG"


def test_layouts_mix_and_nest(written: dict[str, Path], tmp_path: Path) -> None:
    """Catches a layout that is only found alone and at the top."""
    for place, layout in (("a", "nnU-Net"), ("b/deep", "TotalSegmentator"), ("c", "DICOM series")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(written[layout])
    assert len(find_layouts(tmp_path).cases) == 9
    with pytest.warns(DataWarning, match="names of several NIfTI images, which count as one patient's"):
        dataset = find_cases(tmp_path)
    assert len(dataset.slices) == 45 and dataset.label_names.items() >= names_of(patients()["P1"]).items()


def test_saros_is_sparse_and_has_its_names(tmp_path: Path) -> None:
    """Catches slices that nobody labelled counted as background, and ids under wrong names."""
    write_saros(tmp_path)
    dataset = find_cases(tmp_path)
    assert dataset.label_names[2] == "muscle" and dataset.label_names[13] == "submandibular_glands"
    made = module(tmp_path)
    assert made.labels.names == {1: "subcutaneous_tissue", 2: "muscle"}
    assert len(made.split.train) + len(made.split.val) == 9
    assert module(tmp_path, labels="muscle").labels.names == {1: "muscle"}
    assert module(tmp_path, labels="torso").labels.names == {1: "torso"}


def test_saros_has_folds_of_its_own(tmp_path: Path) -> None:
    """Catches folds that are dealt anew, where others' figures are of those that SAROS gives."""
    write_saros(tmp_path)
    table = tmp_path / "Segmentation Info.csv"
    head, *rows = table.read_text().splitlines()
    folds = {"P1": "fold-1", "P2": "fold-4", "P3": "fold-5"}
    where = head.split(",").index("split")
    moved = []
    for row in rows:
        cells = row.split(",")
        cells[where] = folds[cells[0]]
        moved.append(",".join(cells))
    table.write_text("\n".join([head, *moved]) + "\n")
    for item in find_cases(tmp_path).slices:
        validates = [f"fold-{number}" for number, side in enumerate(item.case.folds, 1) if side == "val"]
        assert validates == [folds[item.case.label_path.parent.name]] and len(item.case.folds) == 5
        assert item.case.side == ""


def test_saros_says_who_has_two_scans(tmp_path: Path) -> None:
    """Catches one person of SAROS on both sides of the split, its test set learnt from, and silence on either."""
    write_saros(tmp_path)
    table = tmp_path / "Segmentation Info.csv"
    text = table.read_text().replace("TCGA-P2", "TCGA-P1")
    table.write_text(text)
    dataset = find_cases(tmp_path)
    assert {item.header.patient_id for item in dataset.slices} == {"TCGA-P1", "TCGA-P3"}
    assert "1 patient has several scans: P1, P2" in dataset.notes
    made = module(tmp_path)
    assert (
        len({made.slices[i].patient for i in made.split.val} & {made.slices[i].patient for i in made.split.train}) == 0
    )
    lines, _ = survey(tmp_path)
    assert any("2 patients; labels" in line for line in lines) and "1 patient has several scans: P1, P2" in lines
    table.write_text(text.replace("1.2.23,fold-1", "1.2.23,test"))
    with pytest.warns(DataWarning, match="1 case kept for testing, as the data set says"):
        assert {item.case.label_path.parent.name for item in find_cases(tmp_path).slices} == {"P1", "P2"}
    table.write_text(text + "P1,LIDC-IDRI,LIDC-1,chest,1.2.3,fold-1\n")
    with pytest.raises(InputError, match=r"Segmentation Info\.csv: gives the case P1 two patients or splits"):
        find_cases(tmp_path)
    table.unlink()
    with pytest.warns(DataWarning, match=r"nobody says who .*image\.nii\.gz and 2 others are of; put its table"):
        find_cases(tmp_path)
    lines, _ = survey(tmp_path)
    assert any(line.startswith("remark: some of SAROS's patients have two scans") for line in lines)


def test_a_table_says_whose_a_case_is(written: dict[str, Path], tmp_path: Path) -> None:
    """Catches two scans of one person on both sides of the split."""
    data = tmp_path / "data"
    data.symlink_to(written["nnU-Net"])
    phantom = patients()["P1"]
    for name in ("a", "b", "c"):
        save_image(tmp_path / "set" / name / "ct.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(tmp_path / "set" / name / "label.nii.gz", phantom)
    (tmp_path / "set" / "patients.csv").write_text("case;patient\na;one\nb;one\nc;two\n")
    assert [item.patient for item in find_cases(tmp_path / "set").slices[::5]] == ["one", "one", "two"]
    (tmp_path / "set" / "patients.csv").write_text("case,patient\na,one\na,two\n")
    with pytest.raises(InputError, match="gives the case a two patients"):
        find_cases(tmp_path / "set")


def test_splits_of_the_data_set_are_kept(written: dict[str, Path], tmp_path: Path) -> None:
    """Catches a network that trains on what its data set keeps for validation or testing."""
    root = tmp_path / "TotalSegmentator"
    root.symlink_to(written["TotalSegmentator"])
    sides = dict(zip(SEEDS, ("val", "train", "train"), strict=True))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in SEEDS:
        (copy / name).symlink_to(written["TotalSegmentator"] / name)
    rows = "".join(f"{name};60;f;A;ct;{side}\n" for name, side in sides.items())
    (copy / "meta.csv").write_text(f"\ufeffimage_id;age;gender;institute;study_type;split\n{rows}")
    made = module(copy)
    assert {made.slices[i].patient for i in made.split.val} == {"P1"}
    assert any("the data set's own" in note for note in made.notes)
    (copy / "meta.csv").write_text(f"image_id;age;gender;institute;study_type;split\n{rows.replace('val', 'test')}")
    with pytest.warns(DataWarning, match="1 case kept for testing, as the data set says"):
        assert len(find_cases(copy).slices) == 10


def test_an_image_without_labels_and_labels_without_an_image_are_told(written: dict[str, Path], tmp_path: Path) -> None:
    """Catches cases that are lost without a word."""
    phantom = patients()["P1"]
    for name in ("a", "b"):
        save_image(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", phantom.hu, phantom.affine_lps)
    for name in ("a", "c"):
        save_labels(tmp_path / "labelsTr" / f"{name}.nii.gz", phantom)
    with pytest.warns(DataWarning, match=r"2 files without a partner .*b_0000\.nii\.gz, .*c\.nii\.gz"):
        assert len(find_cases(tmp_path).slices) == 5
