"""The segmentation lies where the label map lies, as highdicom and nibabel read the two files; faults are errors."""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError
from sarco.io.dicom import find_series, read_series
from sarco.io.nifti import write_label_map
from sarco.pacs.seg import check_segmentation, segment_label, write_segmentation
from sarco.pacs.source import Origin, Source, read_source
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable

hd = pytest.importorskip("highdicom", reason="highdicom is not installed")

ORIGIN = Origin("run1", "a" * 64, datetime(2024, 5, 6, 7, 8, 9))  # DICOM's dates have no zone
GEOMETRIES = ("axial", "oblique", "feet first", "prone", "coronal", "sagittal", "sagittal from below", "rows flipped")
CENTROID_TOLERANCE_MM = 0.01
SECRET = "Phantom^"  # every phantom's name begins so


@pytest.fixture(scope="session")
def all_phantoms(turned_phantoms: dict[str, Phantom]) -> dict[str, Phantom]:
    """Those of the other tests, one with rows from back to front, and one with a tilted gantry."""
    axial = turned_phantoms["axial"]
    flipped, tilted = axial.affine_lps.copy(), axial.affine_lps.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 2] *= -1  # slices follow the normal
    tilted[1, 2] = 2.5
    return {
        **turned_phantoms,
        "rows flipped": dataclasses.replace(axial, affine_lps=flipped),
        "tilted": dataclasses.replace(axial, affine_lps=tilted),
    }


def source_of(folder: Path) -> Source:
    """The one series of a folder."""
    (series,) = find_series(folder).series
    return read_source(series)


def in_world(points: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) indices to (N, 3) mm."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def voxels_of_nifti(path: Path, label_id: int) -> NDArray[np.float64]:
    """World points (LPS mm) of a label in a NIfTI file, as nibabel places them."""
    image = nib.load(path)
    ras = in_world(np.argwhere(np.asarray(image.dataobj) == label_id).astype(float), image.affine)
    return ras * (-1, -1, 1)


def voxels_of_segment(path: Path, number: int) -> NDArray[np.float64]:
    """World points (LPS mm) of a segment, as highdicom places them."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    return in_world(np.argwhere(volume.array == number).astype(float), volume.affine)


def assert_same_points(one: NDArray[np.float64], two: NDArray[np.float64]) -> None:
    """The two sets hold the same points and so have the same centroid."""
    assert len(one) == len(two) > 0
    np.testing.assert_allclose(one.mean(axis=0), two.mean(axis=0), atol=CENTROID_TOLERANCE_MM)
    one, two = (points[np.lexsort(np.round(points, 1).T)] for points in (one, two))
    np.testing.assert_allclose(one, two, atol=CENTROID_TOLERANCE_MM)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_it_lies_where_the_nifti_lies(
    all_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path, geometry: str
) -> None:
    """Catches a segmentation that is mirrored, reversed, transposed or shifted against the label map."""
    phantom = all_phantoms[geometry]
    source, labels = source_of(series_folder(phantom)), LabelTable(phantom.label_names)
    write_segmentation(tmp_path / "segmentation.dcm", source, phantom.label_map, labels, ORIGIN)
    write_label_map(tmp_path / "label_map.nii.gz", phantom.label_map, source.series.affine_lps)
    for number, label_id in enumerate(labels.ids, start=1):
        assert_same_points(
            voxels_of_segment(tmp_path / "segmentation.dcm", number),
            voxels_of_nifti(tmp_path / "label_map.nii.gz", label_id),
        )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_brought_onto_the_grid_of_the_label_map_it_is_the_label_map(
    all_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path, geometry: str
) -> None:
    """Catches masks that differ in any voxel; highdicom itself finds the way between the grids."""
    phantom = all_phantoms[geometry]
    source = source_of(series_folder(phantom))
    write_segmentation(tmp_path / "s.dcm", source, phantom.label_map, LabelTable(phantom.label_names), ORIGIN)
    ours = hd.VolumeGeometry(
        affine=source.series.affine_lps[:, [2, 0, 1, 3]],  # highdicom's order is (slice, row, column)
        spatial_shape=(phantom.hu.shape[2], *phantom.hu.shape[:2]),
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.first.FrameOfReferenceUID,
    )
    volume = hd.seg.segread(tmp_path / "s.dcm").get_volume(combine_segments=True).match_geometry(ours)
    np.testing.assert_array_equal(np.moveaxis(volume.array, 0, 2), phantom.label_map)


def test_a_tilted_gantry_keeps_its_shear(
    all_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches frames that are put above each other where the scanner shifted them."""
    phantom = all_phantoms["tilted"]
    source, labels = source_of(series_folder(phantom)), LabelTable(phantom.label_names)
    write_segmentation(tmp_path / "s.dcm", source, phantom.label_map, labels, ORIGIN)
    write_label_map(tmp_path / "n.nii.gz", phantom.label_map, source.series.affine_lps)
    points = points_by_frame(tmp_path / "s.dcm")
    for number, label_id in enumerate(labels.ids, start=1):
        assert_same_points(points[number], voxels_of_nifti(tmp_path / "n.nii.gz", label_id))


def points_by_frame(path: Path) -> dict[int, NDArray[np.float64]]:
    """World points of each segment by PS3.3 C.7.6.2.1.1, frame by frame; pydicom unpacks the bits."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)
    points: dict[int, list[NDArray[np.float64]]] = {}
    for mask, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        rows, columns = np.nonzero(mask)
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        steps = np.outer(columns * spacing[1], cosines[:3]) + np.outer(rows * spacing[0], cosines[3:])
        points.setdefault(number, []).append(origin + steps)
    return {number: np.concatenate(parts) for number, parts in points.items()}


REAL_SERIES = ["series_b/B", "odd_series/feet_first_3_slices", "odd_series/uneven_gaps", "odd_series/gantry_tilt"]


@pytest.mark.parametrize("name", REAL_SERIES)
def test_real_series(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Catches compressed sources, missing PatientIDs, feet first, gaps and tilt that only real headers have."""
    for number, path in enumerate(sorted((shared_data / name).iterdir())[:6]):
        dataset = pydicom.dcmread(path)
        for tag in ("StudyInstanceUID", "SeriesInstanceUID"):  # those of series B were taken out
            setattr(dataset, tag, dataset.get(tag) or "1.2.3")
        (tmp_path / "scan").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "scan" / f"{number}.dcm")
    source = source_of(tmp_path / "scan")
    label_map = np.where(read_series(source.series) > -900, 1, 0).astype(np.uint8)
    label_map[::3] *= 2
    write_segmentation(tmp_path / "s.dcm", source, label_map, LabelTable({1: "muscle", 2: "every third row"}), ORIGIN)
    write_label_map(tmp_path / "n.nii.gz", label_map, source.series.affine_lps)
    points = points_by_frame(tmp_path / "s.dcm")
    for number in (1, 2):
        ours, theirs = points[number], voxels_of_nifti(tmp_path / "n.nii.gz", number)
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=CENTROID_TOLERANCE_MM)


def test_a_gap_stays_a_gap(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Catches frames for slices that nobody has, and those above a gap that move down."""
    phantom = phantoms["oblique"]
    folder = series_folder(phantom)
    find_series(folder).series[0].slices[2].path.unlink()
    source, labels = source_of(folder), LabelTable(phantom.label_names)
    label_map = phantom.label_map.copy()
    with pytest.raises(GeometryError, match="plane 2, where the series has no slice"):
        write_segmentation(tmp_path / "s.dcm", source, label_map, labels, ORIGIN)
    label_map[:, :, 2] = 0
    written = write_segmentation(tmp_path / "s.dcm", source, label_map, labels, ORIGIN)
    assert {plane for _, plane in written.frames} == {0, 1, 3, 4}
    write_label_map(tmp_path / "n.nii.gz", label_map, source.series.affine_lps)
    for number, label_id in enumerate(labels.ids, start=1):
        assert_same_points(
            voxels_of_segment(tmp_path / "s.dcm", number), voxels_of_nifti(tmp_path / "n.nii.gz", label_id)
        )


@pytest.fixture
def axial(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> tuple[Source, NDArray[np.uint8], LabelTable]:
    """A source, its label map and its labels."""
    phantom = phantoms["anisotropic"]
    return source_of(series_folder(phantom)), phantom.label_map, LabelTable(phantom.label_names)


@pytest.mark.parametrize("names", [{1: "a"}, {1: "a", 2: "b", 3: "c"}])
def test_one_slice_of_odd_size_is_enough(
    slice_file: Callable[..., Path], tmp_path: Path, names: dict[int, str]
) -> None:
    """Catches bits that shift where frames are no whole bytes, and a lone slice or label that is stored otherwise."""

    def cut(dataset: pydicom.Dataset) -> None:
        pixels = dataset.pixel_array[:35, :47]
        dataset.Rows, dataset.Columns, dataset.PixelData = 35, 47, pixels.tobytes()

    (series,) = find_series(slice_file(cut)).series
    label_map = np.random.default_rng(0).integers(0, len(names) + 1, (35, 47, 1), dtype=np.uint8)
    write_segmentation(tmp_path / "s.dcm", read_source(series), label_map, LabelTable(names), ORIGIN)
    frames = hd.seg.segread(tmp_path / "s.dcm").get_pixels_by_source_instance(
        [series.slices[0].sop_uid], combine_segments=True
    )
    np.testing.assert_array_equal(frames[0], label_map[:, :, 0])


def test_segments_say_what_they_are(axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path) -> None:
    """Catches segments that follow label ids instead of counting, and names, sides and origin that get lost."""
    source, label_map, _ = axial
    label_map = np.where(label_map == 2, 9, np.where(label_map == 3, 12, 0)).astype(np.uint8)
    labels = LabelTable({9: "iliopsoas_left", 12: "iliopsoas_right", 200: "nowhere\\at all"})
    write_segmentation(tmp_path / "s.dcm", source, label_map, labels, ORIGIN)
    segmentation = hd.seg.segread(tmp_path / "s.dcm")
    described = [segmentation.get_segment_description(number) for number in segmentation.segment_numbers]
    assert [item.segment_label for item in described] == ["iliopsoas_left", "iliopsoas_right", "nowhere/at all"]
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in described]
    assert [t.CodeValue for t in types] == ["68455001", "68455001", "85756007"]
    sides = [t.get("SegmentedPropertyTypeModifierCodeSequence") for t in types]
    assert [side and side[0].CodeMeaning for side in sides] == ["Left", "Right", None]
    assert [item.SegmentDescription for item in described] == [
        f"label id {label_id} in label_map.nii.gz" for label_id in (9, 12, 200)
    ]
    assert "a" * 64 in described[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert segmentation.segmentation_type.value == "BINARY"


def test_it_belongs_to_patient_study_and_slices(
    axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path
) -> None:
    """Catches a segmentation that an archive files under another patient, or that refers to the wrong slice."""
    source, label_map, labels = axial
    write_segmentation(tmp_path / "s.dcm", source, label_map, labels, ORIGIN)
    stored, original = pydicom.dcmread(tmp_path / "s.dcm"), pydicom.dcmread(source.series.slices[0].path)
    for tag in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert stored[tag].value == original[tag].value
    assert stored.SeriesInstanceUID != original.SeriesInstanceUID
    referenced = stored.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == original.SeriesInstanceUID
    uids = {header.sop_uid for header in source.series.slices}
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == uids
    positions = {header.sop_uid: header.position for header in source.series.slices}
    for group in stored.PerFrameFunctionalGroupsSequence:
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(group.PlanePositionSequence[0].ImagePositionPatient, positions[uid], atol=1e-6)


def test_the_same_prediction_is_the_same_file(
    axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path
) -> None:
    """Catches a chance UID: an archive would keep a copy for each repetition."""
    source, label_map, labels = axial
    paths = [tmp_path / f"{name}.dcm" for name in ("one", "two", "later", "other map", "other names")]
    later = dataclasses.replace(ORIGIN, created=datetime(2025, 1, 1))
    other = label_map.copy()
    other[0, 0, 0] = 1
    renamed = LabelTable({label_id: f"{name}_2" for label_id, name in labels.names.items()})
    for path, content, table, origin in zip(
        paths,
        (label_map, label_map, label_map, other, label_map),
        (labels, labels, labels, labels, renamed),
        (ORIGIN, ORIGIN, later, ORIGIN, ORIGIN),
        strict=True,
    ):
        write_segmentation(path, source, content, table, origin)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    assert uids[0] == uids[2]
    assert len(set(uids)) == 3


def test_an_empty_label_map_is_written_too(axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path) -> None:
    """Catches a crash where the network found nothing."""
    source, label_map, labels = axial
    write_segmentation(tmp_path / "s.dcm", source, np.zeros_like(label_map), labels, ORIGIN)
    assert not pydicom.dcmread(tmp_path / "s.dcm").pixel_array.any()


def test_a_label_map_that_does_not_fit_is_one_clear_error(
    axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path
) -> None:
    """Catches a label map on another grid, and pixels that vanish because their id has no name."""
    source, label_map, labels = axial
    with pytest.raises(GeometryError, match="has shape") as caught:
        write_segmentation(tmp_path / "s.dcm", source, label_map.transpose(1, 0, 2), labels, ORIGIN)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match="holds id 7"):
        write_segmentation(tmp_path / "s.dcm", source, label_map, LabelTable({i: str(i) for i in range(1, 7)}), ORIGIN)
    assert not (tmp_path / "s.dcm").exists()


def flip_a_bit(dataset: pydicom.Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 8
    dataset.PixelData = bytes(pixels)


def move_a_frame(dataset: pydicom.Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient[2] += 0.02


def swap_axes(dataset: pydicom.Dataset) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def lose_a_frame(dataset: pydicom.Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1]


def swap_spacing(dataset: pydicom.Dataset) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = measures.PixelSpacing[::-1]


def swap_segments(dataset: pydicom.Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = {2: 3, 3: 2}.get(item.ReferencedSegmentNumber, item.ReferencedSegmentNumber)


@pytest.mark.parametrize("spoil", [flip_a_bit, move_a_frame, swap_axes, lose_a_frame, swap_spacing, swap_segments])
def test_the_check_after_writing_sees_every_fault(
    axial: tuple[Source, NDArray[np.uint8], LabelTable], tmp_path: Path, spoil: Callable[[pydicom.Dataset], None]
) -> None:
    """Catches a check that passes whatever was written."""
    source, label_map, labels = axial
    path = tmp_path / "s.dcm"
    write_segmentation(path, source, label_map, labels, ORIGIN)
    dataset = pydicom.dcmread(path)
    spoil(dataset)
    dataset.save_as(path)
    with pytest.raises(GeometryError) as caught:
        check_segmentation(path, source, label_map, labels)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["x" * 300, "a\nb", "\\", " ", "Müskel 筋肉"])
def test_any_name_makes_a_label_that_dicom_can_hold(name: str) -> None:
    """Catches names that break the value representation LO (PS3.5 table 6.2-1)."""
    label = segment_label(name)
    assert 0 < len(label) <= 64
    assert not set(label) & set("\\\n")
