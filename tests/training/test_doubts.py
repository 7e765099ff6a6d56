"""What a person should know about labels: masks of 0/255, values that mean something else, labels of one side alone."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, InputError
from sarco.core.training_options import DataOptions
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.scan.label_map import LabelMap
from sarco.scan.labels import LabelTable
from sarco.training.doubts import describe_sides, warn_of_sides
from sarco_datamodule import SarcoDataModule

Change = Callable[[NDArray[np.uint8]], NDArray[Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three patients of three slices, with label maps of 0 and 1."""
    write_dataset(tmp_path / "data", 3, 1, PhantomOptions(n_slices=3, rows=64, columns=72))
    return tmp_path / "data"


def change_labels(data: Path, names: str, change: Change) -> None:
    """Writes the label maps of some cases again."""
    for name in names.split():
        image = nib.load(data / f"{name}.nii.gz")
        values = change(np.asarray(image.dataobj))
        nib.save(nib.Nifti1Image(values, image.affine), data / f"{name}.nii.gz")


def module(data: Path, **more: Any) -> SarcoDataModule:
    """The data module, set up."""
    datamodule = SarcoDataModule(DataOptions(**{"data_dir": data, "image_size": 64, "batch_size": 4, **more}), None)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("names", ["P001", "P001 P002", "P001 P002 P003"])
def test_masks_of_0_and_255_are_refused_by_name(data: Path, names: str) -> None:
    """Catches cases that teach background alone because another program writes 255 for what it marks."""
    change_labels(data, names, lambda ids: ids * np.uint8(255))
    with pytest.raises(InputError, match=r"is this a mask of 0/255\? If so, save it with 1 instead of 255") as caught:
        module(data)
    assert all((f"{name}.nii.gz" in str(caught.value)) == (name in names) for name in ("P001", "P002", "P003"))


def sparse(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Nobody looked at slices but the first, which is empty."""
    found = np.full_like(ids, 255)
    found[:, :, 0] = 0
    return found


def test_sparse_labels_whose_slices_are_empty_are_lawful(data: Path) -> None:
    """Catches a case that is refused because a person looked at one slice and found nothing."""
    change_labels(data, "P001", sparse)
    datamodule = module(data)
    assert len(datamodule.split.train) + len(datamodule.split.val) == 7


def mask_of(*shape: int) -> NDArray[np.uint8]:
    """A box of 255."""
    ids = np.zeros(shape, np.uint8)
    ids[1:-1, 1:-2, 1 if shape[2] > 1 else 0 :] = 255
    return ids


LOOKED_AT_ONE = np.full((6, 7, 5), 255, np.uint8)
LOOKED_AT_ONE[:, :, 2] = 0
WITH_A_LABEL = mask_of(6, 7, 5)
WITH_A_LABEL[2, 2, 2] = 1


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (mask_of(6, 7, 5), True),
        (mask_of(6, 7, 1), True),
        (mask_of(6, 7, 5).transpose(2, 0, 1), True),
        (LOOKED_AT_ONE, False),
        (LOOKED_AT_ONE.transpose(2, 0, 1), False),  # planes along another axis of the file
        (LOOKED_AT_ONE.transpose(0, 2, 1), False),
        (np.full((6, 7, 5), 255, np.uint8), False),
        (np.zeros((6, 7, 5), np.uint8), False),
        (mask_of(6, 7, 5) // 2, False),  # 0 and 127
        (mask_of(6, 7, 5) - mask_of(6, 7, 5) // 255, False),  # 0 and 254
        (WITH_A_LABEL, False),
    ],
)
def test_a_mask_of_255_is_told_from_what_nobody_looked_at(ids: NDArray[np.uint8], expected: bool) -> None:
    """Catches sparse labels taken for a mask, a mask taken for sparse labels, and one value taken for another."""
    fault = LabelMap(np.ascontiguousarray(ids), None, Path("label.nii")).fault_of_255()
    assert bool(fault) is expected and ("mask of 0/255" in fault) is expected


@pytest.mark.parametrize(
    ("beside", "named", "expected"),
    [
        ("127", "", True),
        ("128", "", True),
        ("85 170", "", True),
        ("85", "", True),  # a case that lacks the other one
        ("64 128 191", "", True),
        ("51 102 153 204", "", True),
        ("1 2 253 254", "", True),  # packed with losses, or made smaller
        ("1 128", "1", True),
        ("1", "", False),
        ("2", "2", False),
        ("1 2 3", "", False),
        ("86 87 88 89", "", False),  # muscles of a large set
        ("128", "128", False),
        ("85 170", "85 170 255", False),
    ],
)
def test_greys_of_a_picture_are_told_from_labels(beside: str, named: str, expected: bool) -> None:
    """Catches the brightest structure of a picture that is left out of everything as "nobody looked"."""
    ids = mask_of(6, 7, 5)
    for row, value in enumerate(map(int, beside.split()), start=1):
        ids[row, 2:4, 1:4] = value
    names = [int(one) for one in named.split()]
    fault = LabelMap(ids, None, Path("label.nii")).fault_of_255(names)
    assert ("greys of a picture" in fault) is expected and bool(fault) is expected
    ids[...] = np.where(ids == 255, 0, ids)
    ids[:, :, 2] = 255  # nobody looked at a slice
    assert not LabelMap(ids, None, Path("label.nii")).fault_of_255(names)


def with_greys(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is labelled as 128 in its upper half and 255 in its lower one."""
    lower = np.arange(len(ids))[:, None, None] > len(ids) // 2
    return np.where(ids == 0, 0, np.where(lower, 255, 128)).astype(np.uint8)


def test_greys_are_refused_unless_they_have_names(data: Path) -> None:
    """Catches a structure that is lost because its label map went through a picture, and a name that does not help."""
    change_labels(data, "P001 P003", with_greys)
    with pytest.raises(
        InputError, match=r"P001.*P003\.nii\.gz: each holds 128 beside 255.*greys of a picture"
    ) as caught:
        module(data)
    assert "P002" not in str(caught.value)
    (data / "labels.json").write_text('{"1": "muscle", "128": "other muscle"}')
    datamodule = module(data)
    assert datamodule.labels.ids == (1, 128)
    assert any(note.startswith("6 slices hold 255 (nobody looked) beside other values") for note in datamodule.notes)
    (data / "labels.json").write_text('{"1": "muscle", "128": "other muscle", "255": "fat"}')
    with pytest.raises(InputError, match=r"255 is called .fat. in labels\.json, but means .nobody looked."):
        module(data)


def test_label_maps_without_an_affine_are_told(data: Path) -> None:
    """Catches labels that are mirrored in silence, because a file does not say how it lies."""
    for name in ("P001", "P003"):
        image = nib.load(data / f"{name}.nii.gz")
        image = nib.Nifti1Image(np.asarray(image.dataobj), None)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nib.save(image, data / f"{name}.nii.gz")
    with pytest.warns(DataWarning, match=r"2 label maps without a usable affine, .*P001\.nii\.gz, .*P003\.nii\.gz$"):
        module(data)


@pytest.mark.parametrize(
    ("names", "born", "told"),
    [
        ("Doe^Jane|DOE^JANE^^|Roe^Ann", "19500212|19500212|19500212", True),
        ("Doe^Jane|Doe Jane|Doe^Jane", "19500212|19500212|19500212", True),
        ("Doe^Jane|Doe^Jane|Doe^Jane", "19500212|19500213|19500214", False),
        ("Doe^Jane|Doe^Joan|Doe^June", "19500212|19500212|19500212", False),
        ("Doe^Jane|Doe^Jane|Doe^Jane", "||", False),
        ("||", "19500212|19500212|19500212", False),
        ("Doe^Jane|Doe^Jane|Doe^Jane", "19500101|19500101|19500101", False),  # the year alone was kept
        ("Anonymous|Anonymous|Anonymous", "19500212|19500212|19500212", False),
    ],
)
def test_one_person_under_two_ids_is_told(data: Path, names: str, born: str, told: bool) -> None:
    """Catches a person on both sides who has an ID of each hospital, and a name in a message."""
    for case, name, date in zip(("P001", "P002", "P003"), names.split("|"), born.split("|"), strict=True):
        for path in (data / case).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientName, dataset.PatientBirthDate = name, date
            dataset.save_as(path)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", DataWarning)
        module(data)
    texts = [str(one.message) for one in found if "birth date" in str(one.message)]
    assert len(texts) == told
    assert not any(part in text.lower() for text in texts for part in ("doe", "jane", "1950"))
    assert all("P001" in text and "P00" in text.partition(" and ")[2] for text in texts)


def test_names_count_where_slices_were_prepared_before(data: Path, tmp_path: Path) -> None:
    """Catches greys that pass for labels from the second run on, after their names were taken away again."""
    change_labels(data, "P001 P003", with_greys)
    (data / "labels.json").write_text('{"1": "muscle", "128": "other muscle"}')
    options = DataOptions(data_dir=data, image_size=64, batch_size=4)
    SarcoDataModule(options, tmp_path / "cache").setup()
    (data / "labels.json").unlink()
    with pytest.raises(InputError, match="greys of a picture"):
        SarcoDataModule(options, tmp_path / "cache").setup()


@pytest.mark.parametrize("value", [2, 128, 254])
def test_one_structure_under_two_numbers_is_told(data: Path, value: int) -> None:
    """Catches two channels for one structure because some cases come from another program."""
    (data / "labels.json").unlink(missing_ok=True)
    change_labels(data, "P002", lambda ids: ids * np.uint8(value))
    with pytest.warns(DataWarning, match=rf"labels 1 \(as in .*\), {value} \(as in .*P002.*never in one label map"):
        module(data)
    (data / "labels.json").write_text(f'{{"1": "muscle", "{value}": "fat"}}')
    module(data)


def test_all_cases_under_another_number_are_no_doubt(data: Path) -> None:
    """Catches a warning about data that agree."""
    (data / "labels.json").unlink(missing_ok=True)
    change_labels(data, "P001 P002 P003", lambda ids: ids * np.uint8(128))
    assert module(data).labels.ids == (128,)


def test_a_label_map_without_background_is_told(data: Path) -> None:
    """Catches 1 for background and 2 for muscle: everything else would be learnt as a structure."""
    change_labels(data, "P001 P002 P003", lambda ids: ids + np.uint8(1))
    with pytest.warns(DataWarning, match=r"without any background \(0\): 9 slices, .*P001\.nii\.gz, .*P003"):
        module(data)


def test_a_value_that_is_no_label_id_names_the_file(data: Path) -> None:
    """Catches 0/1000 cut down to a byte: 232."""
    change_labels(data, "P002", lambda ids: ids.astype(np.int16) * np.int16(1000))
    with pytest.raises(InputError, match=r"P002\.nii\.gz: holds 1000, which is no label id"):
        module(data)


def test_a_label_of_one_patient_trains_and_is_said_to_be_untested(data: Path) -> None:
    """Catches a channel that was never trained, whoever the seed lets validate."""

    def add_another(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where((ids == 1) & (np.arange(ids.shape[0])[:, None, None] < 36), 2, ids).astype(np.uint8)

    change_labels(data, "P003", add_another)
    for seed in range(4):
        datamodule = module(data, seed=seed)
        trains = {datamodule.slices[i].header.path.parent.name for i in datamodule.split.train}
        assert "P003" in trains
        assert any("no validation slice has label_2" in note for note in datamodule.notes)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({1: "psoas_g", 2: "psoas_d"}, "'psoas_g' and 'psoas_d' may be left and right"),
        ({1: "label_1", 2: "label_2", 3: "fat"}, "labels 1, 2 have no names"),
        ({1: "psoas_left", 2: "psoas_rihgt"}, "labels 'psoas_left' name a side"),
    ],
)
def test_mirrors_that_may_teach_left_as_right_are_told(names: dict[int, str], told: str) -> None:
    """Catches a pair that mirrored slices mix up in silence because its names do not say that it is one."""
    with pytest.warns(DataWarning, match=told):
        warn_of_sides(LabelTable(names))


@pytest.mark.parametrize("names", [{1: "label_1"}, {1: "label_1", 2: "fat"}, {1: "lpsoas", 2: "Psoas (right)"}])
def test_mirrors_without_a_doubt_are_not_told(names: dict[int, str]) -> None:
    """Catches a warning about labels that cannot be mixed up."""
    warn_of_sides(LabelTable(names))


def test_a_label_that_cannot_train_is_told() -> None:
    """Catches the same where each patient has a label of his own."""
    train, val = np.zeros(256, bool), np.zeros(256, bool)
    train[1], val[[1, 3]] = True, True
    with pytest.warns(DataWarning, match=r"no training slice has label 3 \(psoas\), so it is never learnt"):
        assert describe_sides(LabelTable({1: "muscle", 3: "psoas"}), train, val) == []
