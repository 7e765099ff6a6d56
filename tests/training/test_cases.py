"""Pairs of image and label map, who trains and who validates, and which slices lie beside each other."""

import itertools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_dataset, write_series
from sarco.training.cases import Dataset, LabelledSlice, find_cases, make_label_table, split_by_patient

GRID = PhantomOptions(n_slices=4, rows=40, columns=48, spacing_mm=(9.0, 8.0, 5.0), labels="groups")
Places = dict[tuple[str, int], LabelledSlice]


@pytest.fixture(scope="session")
def pair() -> tuple[Phantom, Phantom]:
    """Two patients on one grid each."""
    return make_phantom(11, GRID), make_phantom(12, GRID)


def write_case(phantom: Phantom, root: Path, name: str, patient_id: str = "P1", seed: int = 1) -> list[Path]:
    """A series folder beside its volume label map; gives the slices in order."""
    paths = write_series(phantom, root / name, patient_id=patient_id, seed=seed)
    write_label_map(root / f"{name}.nii.gz", phantom.label_map, phantom.affine_lps)
    return paths


def write_slices(
    phantom: Phantom, root: Path, name: str, patient_id: str = "P1", seed: int = 1, suffix: str = ".nii.gz"
) -> list[Path]:
    """NAME_index.dcm beside NAME_index.nii.gz for each slice; gives the images in order."""
    images = []
    for index, path in enumerate(write_series(phantom, root / "tmp", patient_id=patient_id, seed=seed)):
        images.append(path.rename(root / f"{name}_{index}.dcm"))
        affine = phantom.affine_lps.copy()
        affine[:3, 3] += index * affine[:3, 2]
        write_label_map(root / f"{name}_{index}{suffix}", phantom.label_map[:, :, index : index + 1], affine)
    (root / "tmp").rmdir()
    return images


def edit(paths: list[Path], change: Callable[[pydicom.Dataset, int], None]) -> None:
    """Changes DICOM files in place."""
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        change(dataset, index)
        dataset.save_as(path)


def by_name(dataset: Dataset) -> dict[str, LabelledSlice]:
    """Slices by file name without suffix."""
    return {item.header.path.stem: item for item in dataset.slices}


def label_maps(dataset: Dataset) -> dict[Path, NDArray[np.uint8]]:
    """The label map of each image file."""
    maps = {}
    for case in {item.case for item in dataset.slices}:
        maps.update(zip((header.path for header in case.slices), case.read_label_maps(), strict=True))
    return maps


def assert_labels_lie_on_their_slices(dataset: Dataset, paths: list[Path], phantom: Phantom) -> None:
    """Every image has the label map of its own plane."""
    maps = label_maps(dataset)
    for index, path in enumerate(paths):
        assert np.array_equal(maps[path], phantom.label_map[:, :, index]), f"slice {index}"


def test_series_beside_its_volume(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a volume label map that is put on slices by file order instead of position."""
    paths = write_case(pair[0], tmp_path, "A")
    dataset = find_cases(tmp_path)
    assert {item.header.path for item in dataset.slices} == set(paths)
    assert [item.slice_index for item in dataset.slices] == [0, 1, 2, 3]
    assert [item.header.path for item in dataset.slices] == paths
    assert_labels_lie_on_their_slices(dataset, paths, pair[0])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_slice_beside_its_label(tmp_path: Path, pair: tuple[Phantom, Phantom], suffix: str) -> None:
    """Catches a label map of one plane that is not found, or lands on another slice."""
    images = write_slices(pair[0], tmp_path, "A", suffix=suffix)
    dataset = find_cases(tmp_path)
    assert {item.header.path for item in dataset.slices} == set(images)
    assert_labels_lie_on_their_slices(dataset, images, pair[0])


def test_layouts_mixed_and_nested(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a search that looks at one level or one layout only."""
    (tmp_path / "one" / "deep").mkdir(parents=True)
    series = write_case(pair[0], tmp_path / "one" / "deep", "A", seed=1)
    slices = write_slices(pair[1], tmp_path / "one", "B", patient_id="P2", seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        dataset = find_cases(tmp_path)
    assert {item.header.path for item in dataset.slices} == {*series, *slices}
    assert_labels_lie_on_their_slices(dataset, series, pair[0])
    assert_labels_lie_on_their_slices(dataset, slices, pair[1])


def test_volume_stored_another_way_round(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches index order taken for geometry: the same voxels, stored flipped and transposed."""
    paths = write_case(pair[0], tmp_path, "A")
    file = tmp_path / "A.nii.gz"
    image = nib.load(file)
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), file)
    assert_labels_lie_on_their_slices(find_cases(tmp_path), paths, pair[0])


def test_series_with_fewer_slices_than_its_volume(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches planes counted off instead of found: a curated folder has gaps."""
    paths = write_case(pair[0], tmp_path, "A")
    paths[1].unlink()
    dataset = find_cases(tmp_path)
    maps = label_maps(dataset)
    assert len(maps) == 3
    for index in (0, 2, 3):
        assert np.array_equal(maps[paths[index]], pair[0].label_map[:, :, index])


def test_label_names_come_from_the_folder(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a labels.json that is not read."""
    write_case(pair[0], tmp_path, "A")
    (tmp_path / "labels.json").write_text('{"1": "psoas"}', encoding="utf-8")
    assert find_cases(tmp_path).label_names == {1: "psoas"}


def test_files_without_partner_are_told_in_one_warning(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches files that are dropped without a word, or a warning a file."""
    images = write_slices(pair[0], tmp_path, "A")
    (tmp_path / "A_1.nii.gz").unlink()
    shutil.copy(tmp_path / "A_0.nii.gz", tmp_path / "lonely.nii.gz")
    with pytest.warns(DataWarning) as caught:
        dataset = find_cases(tmp_path)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "2 files" in text and "A_1.dcm" in text and "lonely.nii.gz" in text
    assert {item.header.path for item in dataset.slices} == {images[0], images[2], images[3]}


def test_both_suffixes_of_one_label_make_one_case(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a slice that is learned twice because its label map lies there packed and unpacked."""
    write_slices(pair[0], tmp_path, "A")
    (tmp_path / "B").mkdir()
    write_case(pair[1], tmp_path / "B", "B", patient_id="P2", seed=2)
    for name in ("A_0", "B/B"):
        nib.save(nib.load(tmp_path / f"{name}.nii.gz"), tmp_path / f"{name}.nii")
    with pytest.warns(DataWarning, match="2 files"):
        dataset = find_cases(tmp_path)
    paths = [item.header.path for item in dataset.slices]
    assert len(paths) == len(set(paths)) == 8


def test_unlabelled_file_that_is_no_ct_does_not_stop_training(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a scout or a report beside the slices ending the run."""
    images = write_slices(pair[0], tmp_path, "A")
    for name, tag in (("scout", "PixelSpacing"), ("report", "Modality")):
        dataset = pydicom.dcmread(images[0])
        delattr(dataset, tag)
        dataset.save_as(tmp_path / f"{name}.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.warns(DataWarning, match="3 files"):
        assert len(find_cases(tmp_path).slices) == 4


@pytest.mark.parametrize("content", ["nothing", "images", "labels", "folder without label"])
def test_nothing_paired_is_an_error(tmp_path: Path, pair: tuple[Phantom, Phantom], content: str) -> None:
    """Catches a training on nothing."""
    data = tmp_path / "data"
    data.mkdir()
    if content == "images":
        write_slices(pair[0], data, "A")
        for label in data.glob("*.nii.gz"):
            label.unlink()
    elif content == "labels":
        write_label_map(data / "A.nii.gz", pair[0].label_map, pair[0].affine_lps)
    elif content == "folder without label":
        write_series(pair[0], data / "A", patient_id="P1", seed=1)
    with pytest.raises(InputError, match=str(data)):
        find_cases(data)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """Catches a traceback for a mistyped path."""
    with pytest.raises(InputError, match="absent"):
        find_cases(tmp_path / "absent")


def test_two_series_in_a_case_folder(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches the first of two series being taken at random."""
    write_case(pair[0], tmp_path, "A")
    write_series(pair[1], tmp_path / "A" / "again", patient_id="P2", seed=2)
    with pytest.raises(InputError, match=r"A\.nii\.gz.*2 series"):
        find_cases(tmp_path)


@pytest.mark.parametrize("layout", ["series", "slices"])
def test_label_of_another_shape_names_both_files(tmp_path: Path, pair: tuple[Phantom, Phantom], layout: str) -> None:
    """Catches a label map that is cut, padded or resized to fit."""
    image = (write_case if layout == "series" else write_slices)(pair[0], tmp_path, "A")[0]
    label = tmp_path / ("A.nii.gz" if layout == "series" else "A_0.nii.gz")
    write_label_map(label, pair[0].label_map[:-3], pair[0].affine_lps)
    with pytest.raises(GeometryError) as caught:
        label_maps(find_cases(tmp_path))
    assert str(label) in str(caught.value)
    assert str(image if layout == "slices" else image.parent) in str(caught.value)


def test_label_of_another_place_names_both_files(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a label map of another scan with the same shape."""
    images = write_slices(pair[0], tmp_path, "A")
    shutil.copy(tmp_path / "A_1.nii.gz", tmp_path / "A_0.nii.gz")
    with pytest.raises(GeometryError) as caught:
        label_maps(find_cases(tmp_path))
    assert str(images[0]) in str(caught.value) and str(tmp_path / "A_0.nii.gz") in str(caught.value)


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledSlice, ...]:
    """Seven patients with 1 to 7 slices each."""
    root = tmp_path_factory.mktemp("patients")
    for count in range(1, 8):
        options = PhantomOptions(n_slices=count, rows=24, columns=24)
        write_case(make_phantom(count, options), root, f"P{count}", patient_id=f"P{count}", seed=count)
    return find_cases(root).slices


def choose(slices: tuple[LabelledSlice, ...], names: set[str]) -> tuple[LabelledSlice, ...]:
    """The slices of some patients."""
    return tuple(item for item in slices if item.header.patient_id in names)


@given(counts=st.sets(st.integers(1, 7), min_size=2), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
@example(counts={6, 7}, fraction=0.01, seed=0)
@example(counts={1, 7}, fraction=0.99, seed=0)
def test_split_keeps_patients_whole_and_comes_closest(
    patients: tuple[LabelledSlice, ...], counts: set[int], fraction: float, seed: int
) -> None:
    """Catches a patient on both sides, an empty side, and a share that another choice would meet better."""
    slices = choose(patients, {f"P{count}" for count in counts})
    split = split_by_patient(slices, fraction, seed)
    assert split.by_patient
    assert sorted(split.train + split.val) == list(range(len(slices)))
    sides = [{slices[i].header.patient_id for i in side} for side in (split.train, split.val)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    target = fraction * len(slices)
    sums = [sum(chosen) for n in range(1, len(counts)) for chosen in itertools.combinations(counts, n)]
    assert abs(len(split.val) - target) == pytest.approx(min(abs(total - target) for total in sums))


def test_seed_decides_who_validates(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a split that never varies, and one that varies under the same seed."""
    for number in range(5):
        write_case(pair[0], tmp_path, f"P{number}", patient_id=f"P{number}", seed=number)
    slices = find_cases(tmp_path).slices
    splits = [split_by_patient(slices, 0.2, seed) for seed in range(20)]
    assert splits == [split_by_patient(slices, 0.2, seed) for seed in range(20)]
    assert {slices[split.val[0]].header.patient_id for split in splits} == {f"P{number}" for number in range(5)}
    assert all(len(split.val) == 4 for split in splits)


def test_one_patient_gives_a_block_of_neighbours_and_a_warning(tmp_path: Path) -> None:
    """Catches validation on slices between training slices, which looks far too good."""
    write_case(make_phantom(1, PhantomOptions(n_slices=10, rows=24, columns=24)), tmp_path, "A")
    slices = find_cases(tmp_path).slices
    starts = set()
    for seed in range(8):
        with pytest.warns(DataWarning, match="no independent test"):
            split = split_by_patient(slices, 0.3, seed)
        assert not split.by_patient
        assert len(split.val) == 3
        assert sorted(split.train + split.val) == list(range(10))
        planes = sorted(slices[i].slice_index for i in split.val)
        assert planes == list(range(planes[0], planes[0] + 3))
        starts.add(planes[0])
    assert len(starts) > 1


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_two_slices_of_one_patient_serve_both_sides(tmp_path: Path, fraction: float) -> None:
    """Catches an empty side where rounding takes everything or nothing."""
    write_case(make_phantom(1, PhantomOptions(n_slices=2, rows=24, columns=24)), tmp_path, "A")
    with pytest.warns(DataWarning, match="no independent test"):
        split = split_by_patient(find_cases(tmp_path).slices, fraction, 0)
    assert len(split.train) == len(split.val) == 1


def test_one_slice_cannot_be_split(tmp_path: Path) -> None:
    """Catches a training that validates on nothing."""
    write_case(make_phantom(1, PhantomOptions(n_slices=1, rows=24, columns=24)), tmp_path, "A")
    with pytest.raises(InputError):
        split_by_patient(find_cases(tmp_path).slices, 0.2, 0)


def test_without_patient_id_the_study_counts(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches anonymised scans all becoming one patient, or slices of one scan becoming many."""
    for number, seed in (("1", 1), ("2", 2)):
        paths = write_case(pair[0], tmp_path, f"S{number}", seed=seed)
        edit(paths, lambda ds, _: setattr(ds, "PatientID", ""))
    slices = find_cases(tmp_path).slices
    assert len({item.header.patient_id for item in slices}) == 2
    split = split_by_patient(slices, 0.5, 0)
    assert split.by_patient and len(split.train) == len(split.val) == 4


def neighbours(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """File names of the slices below and above, by file name."""
    return {
        item.header.path.name: (item.neighbours[0].path.name, item.neighbours[1].path.name) for item in dataset.slices
    }


def test_neighbours_lie_beside_a_slice_in_space(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches neighbours by file name or InstanceNumber: a phantom's names do not follow its positions."""
    names = [path.name for path in write_case(pair[0], tmp_path, "A", seed=3)]
    assert names != sorted(names), "choose another seed"
    found = neighbours(find_cases(tmp_path))
    for index, name in enumerate(names):
        below, above = names[max(index - 1, 0)], names[min(index + 1, 3)]
        assert found[name] == (below, above)


def test_slice_stands_in_for_a_neighbour_beyond_a_gap(tmp_path: Path) -> None:
    """Catches a slice far away being taken for a neighbour."""
    phantom = make_phantom(5, PhantomOptions(n_slices=6, rows=24, columns=24, spacing_mm=(16.0, 16.0, 4.0)))
    images = write_slices(phantom, tmp_path, "A")
    for path in (images[2], tmp_path / "A_2.nii.gz"):
        path.unlink()
    found = neighbours(find_cases(tmp_path))
    assert found["A_1.dcm"] == ("A_0.dcm", "A_1.dcm")
    assert found["A_3.dcm"] == ("A_3.dcm", "A_4.dcm")


def test_unlabelled_slice_serves_as_neighbour(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches context thrown away because nobody drew on it."""
    write_slices(pair[0], tmp_path, "A")
    (tmp_path / "A_2.nii.gz").unlink()
    with pytest.warns(DataWarning, match=r"A_2\.dcm"):
        dataset = find_cases(tmp_path)
    found = neighbours(dataset)
    assert "A_2.dcm" not in found
    assert found["A_1.dcm"] == ("A_0.dcm", "A_2.dcm")
    assert found["A_3.dcm"] == ("A_2.dcm", "A_3.dcm")


def test_other_series_are_no_neighbours(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches slices of two scans of one place being stacked into one image."""
    write_slices(pair[0], tmp_path, "A", seed=1)
    for index in (1, 2):
        (tmp_path / f"A_{index}.dcm").unlink()
        (tmp_path / f"A_{index}.nii.gz").unlink()
    (tmp_path / "B").mkdir()
    write_slices(pair[0], tmp_path / "B", "B", seed=2)
    found = neighbours(find_cases(tmp_path))
    assert all(name[0] == other[0] for name, pair_of in found.items() for other in pair_of)


def test_all_empty_label_maps_are_refused(tmp_path: Path) -> None:
    """Catches a training that has nothing to learn."""
    with pytest.raises(InputError, match="empty"):
        make_label_table([0], {}, tmp_path)
    assert make_label_table([0, 3], {1: "one", 3: "three"}, tmp_path).names == {3: "three"}


def test_a_report_beside_the_slices_of_a_case_is_left_out_with_a_warning(tmp_path: Path) -> None:
    """Catches a whole case refused because its folder holds a file that is no CT slice."""
    [folder] = write_dataset(tmp_path / "data", 1, 5, PhantomOptions(n_slices=3, rows=32, columns=32))
    dataset = pydicom.dcmread(next(folder.glob("*.dcm")))
    dataset.Modality = "SR"
    dataset.save_as(folder / "report.dcm")
    with pytest.warns(DataWarning, match=r"report\.dcm"):
        found = find_cases(tmp_path / "data")
    assert len(found.slices) == 3
