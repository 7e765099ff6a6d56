"""Pairs of image and label map, who trains and who validates, and which slices lie beside each other."""

import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from labelled_cases import edit, write_case
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_dataset, write_series
from sarco.training.cases import Dataset, LabelledSlice, find_cases, make_label_table

Places = dict[tuple[str, int], LabelledSlice]


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


@pytest.mark.parametrize(
    ("there", "too"),
    [
        ("A_0.nii.gz", "A_0.nii"),
        ("A_0.nii.gz", "A_0.NII.GZ"),
        ("B/B.nii.gz", "B/B.nii"),
        ("B/B.nii.gz", "B/B.Nii.gz"),
        ("A_0.dcm", "A_0.DCM"),
    ],
)
def test_two_files_of_one_name_are_refused(tmp_path: Path, pair: tuple[Phantom, Phantom], there: str, too: str) -> None:
    """Catches an old label map that silently beats a newer one, packed or not, and one of two images."""
    write_slices(pair[0], tmp_path, "A")
    (tmp_path / "B").mkdir()
    write_case(pair[1], tmp_path / "B", "B", patient_id="P2", seed=2)
    shutil.copy(tmp_path / there, tmp_path / too)
    with pytest.raises(InputError, match="share a name, so nobody can say which counts") as caught:
        find_cases(tmp_path)
    assert str(tmp_path / there) in str(caught.value) and str(tmp_path / too) in str(caught.value)


def test_a_case_behind_links_counts_once(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a slice that is learned twice; another label map of the same image is another case."""
    write_slices(pair[0], tmp_path, "A")
    write_case(pair[1], tmp_path, "B", patient_id="P2", seed=2)
    for name in ("A_0", "A_1"):
        (tmp_path / f"L{name}.dcm").symlink_to(f"{name}.dcm")
    (tmp_path / "LA_0.nii.gz").symlink_to("A_0.nii.gz")
    shutil.copy(tmp_path / "A_1.nii.gz", tmp_path / "LA_1.nii.gz")
    (tmp_path / "LB").symlink_to("B")
    (tmp_path / "LB.nii.gz").symlink_to("B.nii.gz")
    (tmp_path / "loop").symlink_to(".")
    with pytest.warns(DataWarning) as caught:
        dataset = find_cases(tmp_path)
    assert sorted(str(one.message).split(": ")[1] for one in caught) == ["LA_0.nii.gz", "LB.nii.gz"]
    assert len(dataset.slices) == 9


def test_an_image_behind_a_dead_link_is_named(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a labelled slice that vanishes because its disk is not there."""
    image = write_slices(pair[0], tmp_path, "A")[0]
    image.unlink()
    image.symlink_to("/nowhere/A_0.dcm")
    with pytest.raises(InputError, match=r"A_0\.dcm: "):
        find_cases(tmp_path)


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


@pytest.mark.parametrize("step_mm", [3.0, 7.0])
def test_a_label_map_with_another_step_is_refused_with_both_steps(
    tmp_path: Path, pair: tuple[Phantom, Phantom], step_mm: float
) -> None:
    """Catches a message from which nobody learns that the step is wrong."""
    write_case(pair[0], tmp_path, "A")
    affine = pair[0].affine_lps @ np.diag([1, 1, step_mm / 5, 1])
    write_label_map(tmp_path / "A.nii.gz", pair[0].label_map, affine)
    with pytest.raises(GeometryError, match=rf"planes of the label map are {step_mm:g} mm apart, .* the scan 5 mm"):
        label_maps(find_cases(tmp_path))


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


def positions(item: LabelledSlice) -> list[float]:
    """Heights of the slices below, the slice, and above."""
    return [header.position[2] for header in (item.neighbours[0], item.header, item.neighbours[1])]


@pytest.mark.parametrize("layout", ["series", "slices"])
def test_neighbours_of_copies_come_from_their_own_folder(
    tmp_path: Path, pair: tuple[Phantom, Phantom], layout: str
) -> None:
    """Catches three-slice images that repeat one slice because a second reader has the same series in his folder."""
    for reader in ("one", "two"):
        (tmp_path / reader).mkdir()
        (write_case if layout == "series" else write_slices)(pair[0], tmp_path / reader, "A", seed=1)
    slices = find_cases(tmp_path).slices
    assert len(slices) == 8
    for item in slices:
        assert all(item.header.path.parent == header.path.parent for header in item.neighbours)
        expected = [item.header.position[2] + step * 5 * (0 <= item.slice_index + step < 4) for step in (-1, 0, 1)]
        assert positions(item) == pytest.approx(expected)


@pytest.mark.parametrize("layout", ["series", "slices"])
@pytest.mark.parametrize("same", ["SeriesInstanceUID", "SeriesInstanceUID PatientID", "all"])
def test_patients_who_share_uids_are_no_neighbours(
    tmp_path: Path, pair: tuple[Phantom, Phantom], same: str, layout: str
) -> None:
    """Catches slices of another patient beside a slice because a careless tool gave one UID to all."""
    values = {"SeriesInstanceUID": "1.2.3.4", "PatientID": "ANON", "StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2"}
    chosen = values if same == "all" else {name: values[name] for name in same.split()}
    for number, phantom in enumerate(pair):
        (tmp_path / f"P{number}").mkdir()
        write = write_case if layout == "series" else write_slices
        paths = write(phantom, tmp_path / f"P{number}", "A", f"P{number}", number)
        edit(paths, lambda ds, _: [setattr(ds, name, value) for name, value in chosen.items()] and None)
    slices = find_cases(tmp_path).slices
    assert len(slices) == 8
    for item in slices:
        assert all(item.header.path.parts[-3:-1] == header.path.parts[-3:-1] for header in item.neighbours)
        assert len(set(positions(item))) == 2 + (0 < item.slice_index < 3)


def test_a_copy_of_a_slice_is_no_neighbour(tmp_path: Path, pair: tuple[Phantom, Phantom]) -> None:
    """Catches a copy that stands beside its own original, or in the way of the slices above and below."""
    write_slices(pair[0], tmp_path, "A")
    shutil.copy(tmp_path / "A_2.dcm", tmp_path / "0_2.dcm")
    for suffix in (".dcm", ".nii.gz"):
        shutil.copy(tmp_path / f"A_1{suffix}", tmp_path / f"A_1_again{suffix}")
    with pytest.warns(DataWarning, match=r"1 file without a partner .*0_2\.dcm"):
        slices = find_cases(tmp_path).slices
    assert len(slices) == 5
    for item in slices:
        index = int(item.header.path.stem.split("_")[1])
        expected = [item.header.position[2] + step * 5 * (0 <= index + step < 4) for step in (-1, 0, 1)]
        assert positions(item) == pytest.approx(expected), item.header.path.name


def test_all_empty_label_maps_are_refused(tmp_path: Path) -> None:
    """Catches a training that has nothing to learn."""
    for ids in ([0], [0, 255], [255]):
        with pytest.raises(InputError, match="no label map holds a label"):
            make_label_table(ids, {}, tmp_path)
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


def test_a_lone_slice_beside_its_series_is_refused(pair: tuple[Phantom, Phantom], tmp_path: Path) -> None:
    """Catches NAME.dcm that takes the label map of NAME/, so that one slice of a series trains."""
    paths = write_case(pair[0], tmp_path, "P001")
    shutil.copy(paths[0], tmp_path / "P001.dcm")
    with pytest.raises(InputError, match=r"both .*P001\.dcm and .*P001/ could be its image"):
        find_cases(tmp_path)
