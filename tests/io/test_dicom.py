"""DICOM: pixels in HU, in their place, as two readers that we did not write see them; and errors in one line."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_parts import read_slice
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sarco.commands.list import main
from sarco.core.errors import GeometryError, InputError, SarcoError
from sarco.doctor.cases import phantom as invented
from sarco.io.dicom import Series, describe_series, find_series, read_header, read_series
from sarco.io.dicom_tags import is_dicom
from sarco.io.images import find_images
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.scan.series import make_series

GEOMETRIES = ("axial", "oblique", "feet first", "prone", "coronal", "sagittal", "sagittal from below")
REAL_SERIES = ("series_b/B", "muscle_groups/A", "odd_series/feet_first_3_slices", "paraspinal_pairs/B")
# dcm2niix resamples these and SimpleITK averages their steps: compared slice by slice.
ODD_SERIES = ("odd_series/uneven_gaps", "odd_series/gantry_tilt")
LOSSLESS = ("1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5")
WORLD_TOLERANCE_MM = 0.01

Change = Callable[[pydicom.Dataset], object]
SliceFile = Callable[..., Path]


def only_series(folder: Path) -> Series:
    """The one series of a folder, read without complaint."""
    found = find_series(folder)
    assert not found.refused
    assert len(found.series) == 1
    return found.series[0]


def assert_one_line(error: BaseException, path: Path) -> None:
    """The message is one line and names the file."""
    assert str(path) in str(error)
    assert len(str(error).splitlines()) == 1


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))  # every way of storing HU
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_phantom_is_read_as_it_was_made(
    turned_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], geometry: str, seed: int
) -> None:
    """Catches a rescale, an order or an affine that differs from what was written."""
    phantom = turned_phantoms[geometry]
    series = only_series(series_folder(phantom, seed=seed))
    np.testing.assert_array_equal(read_series(series), phantom.hu)
    np.testing.assert_allclose(series.affine_lps, phantom.affine_lps, atol=1e-5)
    assert series.shape == phantom.hu.shape
    assert series.plane_index == tuple(range(phantom.hu.shape[2]))


def test_a_plane_has_the_affine_of_its_own_header(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches a plane's affine that drifts from the position in its file."""
    series = only_series(series_folder(phantoms["oblique"]))
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        np.testing.assert_allclose(series.plane_affine_lps(plane), header.affine_lps, atol=1e-5)


def test_a_missing_slice_leaves_an_empty_plane(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches slices above a gap that move down by one."""
    phantom = phantoms["oblique"]
    folder = series_folder(phantom)
    only_series(folder).slices[2].path.unlink()
    series = only_series(folder)
    assert series.plane_index == (0, 1, 3, 4)
    volume = read_series(series)
    assert (volume[:, :, 2] == -1024).all()
    np.testing.assert_array_equal(volume[:, :, [0, 1, 3, 4]], phantom.hu[:, :, [0, 1, 3, 4]])
    np.testing.assert_allclose(series.affine_lps, phantom.affine_lps, atol=1e-5)


def test_one_file_is_a_series_of_one_slice(slice_file: SliceFile, phantoms: dict[str, Phantom]) -> None:
    """Catches a lone slice that needs a neighbour to know its thickness."""
    series = find_series(slice_file()).series[0]
    assert series.shape == (96, 120, 1)
    np.testing.assert_allclose(series.affine_lps, phantoms["anisotropic"].affine_lps, atol=1e-5)


def test_two_series_in_one_tree_stay_apart(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches series that are mixed because they share a folder."""
    for seed, geometry in enumerate(("anisotropic", "oblique")):
        write_series(phantoms[geometry], tmp_path / geometry, patient_id=geometry, seed=seed)
    for path in (tmp_path / "oblique").iterdir():
        shutil.copy(path, tmp_path / "anisotropic" / f"other_{path.name}")
    shutil.rmtree(tmp_path / "oblique")
    (tmp_path / "anisotropic" / "notes.txt").write_text("no DICOM")
    found = find_series(tmp_path)
    assert sorted(len(series.slices) for series in found.series) == [5, 5]
    assert {series.slices[0].patient_id for series in found.series} == {"anisotropic", "oblique"}


def test_series_whose_uids_were_emptied_stay_apart_by_folder(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches two anonymised series that merge because both have an empty UID."""
    for seed, name in enumerate(("one", "two")):
        for path in write_series(phantoms["anisotropic"], tmp_path / name, patient_id="P", seed=seed):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = dataset.StudyInstanceUID = dataset.PatientID = ""
            dataset.save_as(path)
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5, 5]
    assert len({series.uid for series in found.series}) == 2
    assert len({series.slices[0].patient_id for series in found.series}) == 2


def test_series_without_uid_stay_apart_by_numbers_that_are_none(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches two series of a folder that become one because what tells them apart is a text."""
    for number, name in enumerate(("3A", "3B")):
        folder = tmp_path / name
        write_series(phantoms["anisotropic"], folder, patient_id="P", seed=1)
        for place, path in enumerate(sorted(folder.iterdir())):
            dataset = pydicom.dcmread(path)
            tags = dict.fromkeys(("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"), "")
            for tag, value in tags.items():
                setattr(dataset, tag, value)
            put_raw("SeriesNumber", "IS", name.encode())(dataset)
            dataset.save_as(tmp_path / f"{number}{place}.dcm")
        shutil.rmtree(folder)
    assert [len(series.slices) for series in find_series(tmp_path).series] == [5, 5]


def test_values_that_are_hu_already_need_no_slope(slice_file: SliceFile) -> None:
    """Catches a refusal of signed files without rescale, whose values reach down to air."""

    def change(dataset: pydicom.Dataset) -> None:
        stored = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        dataset.PixelData = stored.astype("<i2").tobytes()
        dataset.PixelRepresentation = 1
        del dataset.RescaleSlope, dataset.RescaleIntercept

    np.testing.assert_array_equal(read_slice(slice_file(change))[0], read_slice(slice_file(name="same.dcm"))[0])


@pytest.mark.parametrize(
    ("thickness", "between", "right"),
    [
        ("4", "99", 4),
        ("4", None, 4),
        ("", "2.5", 2.5),
        ("0", "2.5", 2.5),
        ("", None, 1),
        ("", "99", 1),
        ("500", "3", 3),
    ],
)
def test_a_lone_slice_is_as_thick_as_it_says(
    slice_file: SliceFile, thickness: str, between: str | None, right: float
) -> None:
    """Catches a volume that comes from SpacingBetweenSlices, or from a thickness that no slice has."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.SliceThickness = thickness
        if between is not None:
            dataset.SpacingBetweenSlices = between

    assert read_header(slice_file(change)).thickness_mm == right


# --- real data -------------------------------------------------------------------------------------------------------


def test_nine_lossless_encodings_decode_to_the_same_hu(shared_data: Path) -> None:
    """Catches a decoder that shifts, clips or misreads the sign of compressed pixels."""
    expected, header = read_slice(shared_data / "encodings" / "CTImage.dcm")
    files = [p for p in (shared_data / "encodings").glob("CTImage.dcm_*") if "Lossy" not in p.name]
    files = [p for p in files if p.name.removesuffix(".dcm").split("1.2.840.10008.")[1] in LOSSLESS]
    assert len(files) == 9
    for path in files:
        hu, other = read_slice(path)
        np.testing.assert_array_equal(hu, expected, err_msg=path.name)
        np.testing.assert_array_equal(other.affine_lps, header.affine_lps)


@pytest.mark.parametrize(("syntax", "error_hu"), [("81", 5), ("91", 150), ("51", 20), ("50", 60)])
def test_lossy_encodings_are_rescaled(shared_data: Path, syntax: str, error_hu: float) -> None:
    """Catches a slope other than 1 that is left out: values would be off by hundreds."""
    folder = shared_data / "encodings"
    expected, _ = read_slice(folder / "CTImage.dcm")
    (path,) = folder.glob(f"CTImage.dcm_*1.2.840.10008.1.2.4.{syntax}.dcm")
    hu, _ = read_slice(path)
    assert np.mean(np.abs(hu - np.clip(expected, -4047, 4145))) < error_hu


@pytest.mark.parametrize("name", ["*4.53.dcm", "*4.55.dcm", "no-pixel-data.dcm", "no-pixel-spacing.dcm"])
def test_what_cannot_be_decoded_says_so_in_one_line(shared_data: Path, name: str) -> None:
    """Catches a decoder's traceback."""
    (path,) = (shared_data / "encodings").glob(name)
    with pytest.raises(InputError) as caught:
        read_slice(path)
    assert_one_line(caught.value, path)


def test_instance_numbers_against_z_do_not_turn_the_series(shared_data: Path) -> None:
    """Catches an order by InstanceNumber, which runs against z in series A."""
    series = only_series(shared_data / "muscle_groups" / "A")
    z = [header.position[2] for header in series.slices]
    numbers = [pydicom.dcmread(h.path, stop_before_pixels=True).InstanceNumber for h in series.slices]
    assert z == sorted(z)
    assert numbers == sorted(numbers, reverse=True)
    assert series.affine_lps[2, 2] == pytest.approx(3.0)


def test_file_names_against_z_do_not_turn_the_series(shared_data: Path) -> None:
    """Catches an order by file name, and a step from SliceThickness: 3 in the header, 2 in truth."""
    series = only_series(shared_data / "series_b" / "B")
    names = [header.path.name for header in series.slices]
    assert names == sorted(names, reverse=True)
    assert len(names) == 20
    assert series.slices[0].thickness_mm == 3
    np.testing.assert_allclose(series.affine_lps[:3, 2], (0, 0, 2))
    assert series.uid


def test_a_real_gap_leaves_a_plane_out(shared_data: Path) -> None:
    """Catches gaps of 5, 5, 10 mm that are refused or closed."""
    series = only_series(shared_data / "odd_series" / "uneven_gaps")
    assert series.plane_index == (0, 1, 2, 4)
    assert series.n_planes == 5
    assert (read_series(series)[:, :, 3] == -1024).all()


def test_a_real_tilt_is_a_shear(shared_data: Path) -> None:
    """Catches a tilted gantry that is straightened: the table moved along z, not along the normal."""
    series = only_series(shared_data / "odd_series" / "gantry_tilt")
    step = series.affine_lps[:3, 2]
    np.testing.assert_allclose(step, (0, 0, 5), atol=1e-6)
    row_direction = series.affine_lps[:3, 0] / np.linalg.norm(series.affine_lps[:3, 0])
    assert row_direction @ (0, 0, 1) == pytest.approx(-np.sin(np.radians(14)), abs=1e-3)


def test_feet_first_is_where_its_position_says(shared_data: Path) -> None:
    """Catches a reader that turns the patient because PatientPosition says feet first: LPS is the patient's already."""
    series = only_series(shared_data / "odd_series" / "feet_first_3_slices")
    assert [h.position[2] for h in series.slices] == pytest.approx([-128.69, -127.69, -126.69], abs=1e-4)
    np.testing.assert_allclose(series.affine_lps[:3, 2], (0, 0, 1), atol=1e-4)
    assert read_series(series).min() < -2000  # padding


# --- the same world as other readers ---------------------------------------------------------------------------------


def assert_same_world(
    volume: NDArray[np.float32],
    affine_lps: NDArray[np.float64],
    other: NDArray[np.generic],
    other_affine_lps: NDArray[np.float64],
    planes: tuple[int, ...],
) -> None:
    """Every voxel of ours has the same HU at the same world point in the other array.

    Args:
        volume: (row, column, slice) HU.
        affine_lps: (row, column, slice) to LPS mm.
        other: HU in any index order.
        other_affine_lps: that index order to LPS mm.
        planes: planes of `volume` to compare.
    """
    corners = np.array(
        [(r, c, p, 1) for r in (0, volume.shape[0] - 1) for c in (0, volume.shape[1] - 1) for p in planes]
    )
    index = np.linalg.inv(other_affine_lps) @ affine_lps
    whole = np.rint(index)
    # Whole grid against whole grid: where our corners lie in the other's index, and the error that rounding hides.
    target = np.rint(corners @ index.T)
    error_mm = float(np.linalg.norm((corners @ affine_lps.T - target @ other_affine_lps.T)[:, :3], axis=1).max())
    print(f"largest error in world space: {error_mm:.6f} mm")
    assert error_mm < WORLD_TOLERANCE_MM
    assert np.abs(index - whole)[:3, :3].max() < 0.05
    grid = np.stack(np.meshgrid(*map(np.arange, volume.shape[:2]), planes, indexing="ij"), axis=-1).reshape(-1, 3)
    places = np.rint(grid @ index[:3, :3].T + index[:3, 3]).astype(int)
    assert (places >= 0).all()
    assert (places < other.shape).all()
    np.testing.assert_array_equal(volume[tuple(grid.T)], other[tuple(places.T)])


def by_dcm2niix(program: str, folder: Path, out: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """HU in NIfTI's index order, and its affine to LPS."""
    out.mkdir()
    command = [program, "-z", "n", "-b", "n", "-f", "converted", "-o", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    images = sorted(out.glob("*.nii"))
    assert [p.name for p in images] == ["converted.nii"], done.stdout + done.stderr
    image = nib.load(images[0])
    return image.get_fdata(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine


def by_simpleitk(paths: list[Path]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """HU as (column, row, slice), and the affine of this order to LPS."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage([str(p) for p in paths]) if len(paths) > 1 else sitk.ReadImage(str(paths[0]))
    affine = np.eye(4)
    affine[:3, 3] = image.TransformIndexToPhysicalPoint((0, 0, 0))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine


def itk_order(folder: Path) -> list[Path]:
    """The slices in the order that SimpleITK's own series search gives."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    (uid,) = reader.GetGDCMSeriesIDs(str(folder))
    return [Path(name) for name in reader.GetGDCMSeriesFileNames(str(folder), uid)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_dcm2niix_sees_a_phantom_at_the_same_world_points(
    dcm2niix: str,
    turned_phantoms: dict[str, Phantom],
    series_folder: Callable[..., Path],
    geometry: str,
    tmp_path: Path,
) -> None:
    """Catches our own idea of geometry, shared by phantom and reader alike."""
    folder = series_folder(turned_phantoms[geometry])
    series = only_series(folder)
    other = by_dcm2niix(dcm2niix, folder, tmp_path / "out")
    assert_same_world(read_series(series), series.affine_lps, *other, series.plane_index)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_simpleitk_sees_a_phantom_at_the_same_world_points(
    turned_phantoms: dict[str, Phantom],
    series_folder: Callable[..., Path],
    geometry: str,
) -> None:
    """Catches the same by a second reader, which works in LPS."""
    folder = series_folder(turned_phantoms[geometry])
    series = only_series(folder)
    other = by_simpleitk(itk_order(folder))
    assert_same_world(read_series(series), series.affine_lps, *other, series.plane_index)


@pytest.mark.parametrize("name", REAL_SERIES)
def test_dcm2niix_sees_a_real_series_at_the_same_world_points(
    dcm2niix: str, shared_data: Path, name: str, tmp_path: Path
) -> None:
    """Catches what only real files have: emptied UIDs, odd thickness, padding, compression."""
    series = only_series(shared_data / name)
    folder = tmp_path / "series"  # without the label maps that lie beside the slices
    folder.mkdir()
    for header in series.slices:
        (folder / header.path.name).symlink_to(header.path)
    other = by_dcm2niix(dcm2niix, folder, tmp_path / "out")
    assert_same_world(read_series(series), series.affine_lps, *other, series.plane_index)


@pytest.mark.parametrize("name", REAL_SERIES)
def test_simpleitk_sees_a_real_series_at_the_same_world_points(shared_data: Path, name: str) -> None:
    """Catches the same by a second reader."""
    series = only_series(shared_data / name)
    other = by_simpleitk(itk_order(shared_data / name))
    assert_same_world(read_series(series), series.affine_lps, *other, series.plane_index)


@pytest.mark.parametrize("reader", ["dcm2niix", "SimpleITK"])
@pytest.mark.parametrize("name", ODD_SERIES)
def test_each_plane_of_an_odd_series_lies_where_other_readers_see_its_slice(
    request: pytest.FixtureRequest,
    shared_data: Path,
    name: str,
    reader: str,
    tmp_path: Path,
) -> None:
    """Catches a gap or a tilt that moves slices: other readers see one slice at a time, we see it in its series."""
    series = only_series(shared_data / name)
    volume = read_series(series)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        if reader == "dcm2niix":
            folder = tmp_path / f"slice{plane}"
            folder.mkdir()
            (folder / header.path.name).symlink_to(header.path)
            other, affine = by_dcm2niix(request.getfixturevalue("dcm2niix"), folder, tmp_path / f"out{plane}")
            other = other.reshape(*other.shape[:2], 1)
        else:
            other, affine = by_simpleitk([header.path])
        affine[:3, 2] = series.affine_lps[:3, 2]  # one slice has no step of its own
        assert_same_world(volume[:, :, plane : plane + 1], series.plane_affine_lps(plane), other, affine, (0,))


# --- what cannot be used ---------------------------------------------------------------------------------------------


def put(keyword: str, value: object) -> Change:
    """Sets a tag to a value that pydicom takes."""
    return lambda dataset: setattr(dataset, keyword, value)


def put_raw(keyword: str, vr: str, value: bytes) -> Change:
    """Sets a tag to bytes, whatever they are."""
    tag = Tag(keyword)
    return lambda dataset: dataset._dict.__setitem__(tag, RawDataElement(tag, vr, len(value), value, 0, False, True))


def drop(keyword: str) -> Change:
    """Removes a tag."""
    return lambda dataset: delattr(dataset, keyword)


BAD_TAGS: dict[str, tuple[Change, str]] = {
    "no spacing": (drop("PixelSpacing"), "PixelSpacing"),
    "empty spacing": (put("PixelSpacing", None), "PixelSpacing"),
    "spacing 0": (put("PixelSpacing", [0, 1]), "PixelSpacing"),
    "spacing negative": (put("PixelSpacing", [1, -1]), "PixelSpacing"),
    "spacing NaN": (put_raw("PixelSpacing", "DS", b"nan\\nan "), "PixelSpacing"),
    "spacing text": (put_raw("PixelSpacing", "DS", b"wide\\high "), "PixelSpacing"),
    "one spacing": (put("PixelSpacing", 1.5), "PixelSpacing"),
    "no orientation": (drop("ImageOrientationPatient"), "ImageOrientationPatient"),
    "orientation of zeros": (put("ImageOrientationPatient", [0] * 6), "ImageOrientationPatient"),
    "orientation of five": (put("ImageOrientationPatient", [1, 0, 0, 0, 1]), "ImageOrientationPatient"),
    "orientation parallel": (put("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "ImageOrientationPatient"),
    "orientation infinite": (
        put_raw("ImageOrientationPatient", "DS", b"inf\\0\\0\\0\\1\\0 "),
        "ImageOrientationPatient",
    ),
    "no position": (drop("ImagePositionPatient"), "ImagePositionPatient"),
    "position NaN": (put_raw("ImagePositionPatient", "DS", b"0\\nan\\0 "), "ImagePositionPatient"),
    "position of two": (put("ImagePositionPatient", [1, 2]), "ImagePositionPatient"),
    "rows 0": (put("Rows", 0), "Rows"),
    "no columns": (drop("Columns"), "Columns"),
    "rows of three bytes": (put_raw("Rows", "US", b"abc"), "Rows"),
    "rows of four bytes": (put_raw("Rows", "US", b"abcd"), "Rows"),
    "rows too many": (put("Rows", 60000), "Rows"),
    "rows more than pixels": (put("Rows", 97), "pixel"),
    "slope 0": (put("RescaleSlope", "0"), "RescaleSlope"),
    "slope text": (put_raw("RescaleSlope", "DS", b"steep "), "RescaleSlope"),
    "no slope": (drop("RescaleSlope"), "RescaleSlope"),
    "no intercept": (drop("RescaleIntercept"), "RescaleIntercept"),
    "MR": (put("Modality", "MR"), "Modality is MR"),
    "no modality": (drop("Modality"), "Modality is missing"),
    "colours": (put("SamplesPerPixel", 3), "colours"),
    "frames": (put("NumberOfFrames", 7), "several frames"),
    "frames text": (put_raw("NumberOfFrames", "IS", b"many"), "NumberOfFrames"),
    "no pixels": (drop("PixelData"), "no pixel data"),
    "half the pixels": (lambda ds: setattr(ds, "PixelData", ds.PixelData[: len(ds.PixelData) // 4 * 2]), "pixels"),
    "bits of 7": (put("BitsAllocated", 7), "pixels"),
    "no sign": (drop("PixelRepresentation"), "pixels"),
    "unknown encoding": (lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.3.4"), "encoded as 1.2.3.4"),
    "no encoding": (lambda ds: delattr(ds.file_meta, "TransferSyntaxUID"), "Transfer Syntax"),
    "line break in a text": (put_raw("Modality", "CS", b"C\nT\x00Doe^Jane who was born in 1950 "), "Modality is CTDoe"),
}


@pytest.mark.parametrize("fault", BAD_TAGS)
def test_a_bad_tag_is_named_in_one_line(slice_file: SliceFile, fault: str) -> None:
    """Catches bad values that pass, and errors of pydicom or numpy that show through."""
    change, says = BAD_TAGS[fault]
    path = slice_file(change)
    with pytest.raises(InputError) as caught:
        read_slice(path)
    assert_one_line(caught.value, path)
    assert says in str(caught.value)
    assert "1950" not in str(caught.value)


def test_odd_tags_that_do_no_harm_are_read(slice_file: SliceFile) -> None:
    """Catches a refusal for a tag that has no part in pixels or place."""
    for change in (
        put_raw("PatientName", "PN", b"\xff\xfe\x00"),
        put("SpecificCharacterSet", "NONSENSE"),
        put_raw("PatientBirthDate", "DA", b"yesterday "),
        put_raw("InstanceNumber", "IS", b"first "),
        drop("SOPInstanceUID"),
        drop("SliceThickness"),
        put("PatientID", ""),
        put_raw("SliceThickness", "DS", b"5,0 "),
        put_raw("SliceThickness", "DS", b"5\\5 "),
        put_raw("SpacingBetweenSlices", "DS", b"n/a "),
        put_raw("SeriesNumber", "IS", b"3A"),
        put_raw("SeriesNumber", "IS", b"3\\3 "),
        put_raw("RescaleType", "LO", b"HU\\HU "),
        put_raw("Modality", "CS", b"CT\\CT "),
    ):
        assert read_slice(slice_file(change))[1].sop_uid


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named_in_one_line(slice_file: SliceFile, share: float) -> None:
    """Catches a copy that broke off."""
    path = slice_file()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as caught:
        read_slice(path)
    assert_one_line(caught.value, path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text\n" * 40, bytes(range(1, 256)) * 20, bytes(128) + b"DICM" + b"\xff" * 400]
)
def test_what_is_no_dicom_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    """Catches a text file called .dcm, and rubbish behind a right beginning."""
    path = tmp_path / "slice.dcm"
    path.write_bytes(content)
    for read in (read_header, read_slice, find_series):
        with pytest.raises(InputError) as caught:
            read(path)
        assert_one_line(caught.value, path)


def test_damaged_bytes_never_show_a_traceback(slice_file: SliceFile) -> None:
    """Catches any exception but ours, and any message of more than one line."""
    path = slice_file()
    whole = path.read_bytes()
    header_end = len(whole) - 96 * 120 * 2
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(250):
        content = bytearray(whole)
        for place in rng.integers(128, header_end, int(rng.integers(1, 9))):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_slice(path)
        except SarcoError as error:
            refused += 1
            assert_one_line(error, path)
    assert refused > 50


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    """Catches a FileNotFoundError."""
    for read in (read_header, read_slice, find_series):
        with pytest.raises(InputError, match="there is no such file"):
            read(tmp_path / "absent")


@pytest.mark.parametrize("content", [None, b"hello"])
def test_a_folder_without_ct_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Catches an empty result that breaks somewhere later."""
    if content:
        (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(InputError, match="no CT slice in this folder") as caught:
        find_series(tmp_path)
    assert_one_line(caught.value, tmp_path)


def test_a_folder_of_mr_says_why(slice_file: SliceFile) -> None:
    """Catches 'no CT slice' without the reason."""
    path = slice_file(put("Modality", "MR"))
    with pytest.raises(InputError, match="Modality is MR"):
        find_series(path.parent)


def test_one_bad_file_does_not_hide_the_good_ones(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches a report of an MR image or a DICOMDIR in the folder that costs the whole series."""
    folder = series_folder(phantoms["anisotropic"])
    dataset = pydicom.dcmread(next(folder.iterdir()))
    dataset.Modality = "SR"
    dataset.save_as(folder / "report.dcm")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.dcm").write_bytes(b"x")
    found = find_series(folder)
    assert len(found.series) == 1
    assert len(found.refused) == 1
    assert_one_line(found.refused[0], folder / "report.dcm")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("PixelSpacing", [3.1, 3.5]), "pixel spacing"),
        (put("Rows", 95), "size"),
        (put("ImagePositionPatient", [0, 0, 0.5]), "series"),
    ],
)
def test_mixed_geometry_in_a_series_is_refused_with_the_reason(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], change: Change, says: str
) -> None:
    """Catches two kinds of slices stacked as one."""
    folder = series_folder(phantoms["anisotropic"])
    path = sorted(folder.iterdir())[2]
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    found = find_series(folder)
    assert not found.series
    (error,) = found.refused
    assert isinstance(error, GeometryError)
    assert says in str(error)
    assert str(folder) in str(error)
    assert len(str(error).splitlines()) == 1


def test_a_slice_twice_is_refused(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> None:
    """Catches a copied file that takes another slice's place."""
    folder = series_folder(phantoms["anisotropic"])
    first = sorted(folder.iterdir())[0]
    shutil.copy(first, folder / "copy of a slice.dcm")
    with pytest.raises(GeometryError, match="share the position"):
        make_series([read_header(p) for p in folder.iterdir()])


def test_dicom_is_known_by_its_mark_and_not_by_its_name(slice_file: SliceFile, tmp_path: Path) -> None:
    """Catches files without a suffix, as PACS export them, that are passed over."""
    assert is_dicom(slice_file(name="CT.1.2.840.1"))
    (tmp_path / "text.dcm").write_text("no")
    assert not is_dicom(tmp_path / "text.dcm")


@pytest.mark.parametrize(("tag", "value"), [("RescaleSlope", "1e30"), ("RescaleIntercept", "-1e9")])
def test_a_scale_that_is_no_hu_scale_is_refused(tag: str, value: str, tmp_path: Path) -> None:
    """Catches infinite or absurd HU from a damaged tag."""
    path = write_series(
        make_phantom(3, PhantomOptions(n_slices=1, rows=32, columns=32)), tmp_path, patient_id="p", seed=3
    )[0]
    dataset = pydicom.dcmread(path)
    setattr(dataset, tag, value)
    dataset.save_as(path)
    with pytest.raises(InputError, match=tag) as error:
        read_slice(path)
    assert str(path) in str(error.value)


def test_a_thousand_slices_are_one_series(tmp_path: Path) -> None:
    """Catches an order, a step or a search that goes wrong, or grinds to a halt, on a long thin-slice scan."""
    options = PhantomOptions(n_slices=1, rows=16, columns=16, spacing_mm=(20.0, 20.0, 0.6))
    dataset = pydicom.dcmread(write_series(make_phantom(1, options), tmp_path / "one", patient_id="p", seed=1)[0])
    (tmp_path / "scan").mkdir()
    x, y, z = (float(number) for number in dataset.ImagePositionPatient)
    for number in np.random.default_rng(0).permutation(1200):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
        dataset.ImagePositionPatient = [x, y, round(z + 0.6 * number, 2)]
        dataset.save_as(tmp_path / "scan" / f"{number * 7919 % 1201}")
    series = only_series(tmp_path / "scan")
    assert series.shape == (16, 16, 1200)
    assert [header.sop_uid for header in series.slices] == [f"1.2.3.{n + 1}" for n in range(1200)]
    np.testing.assert_allclose(series.affine_lps[:3, 2], (0, 0, 0.6), atol=1e-5)


def test_the_list_says_why(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a table that hides a series, or says yes to one that inference refuses."""
    folder = series_folder(phantoms["oblique"])
    shutil.copytree(folder, folder.parent / "tree" / "good")
    for name, change in {
        "mr": put("Modality", "MR"),
        "scout": put("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "coronal": put("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
    }.items():
        (folder.parent / "tree" / name).mkdir()
        for number, path in enumerate(sorted(folder.iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = f"1.2.{len(name)}"
            dataset.ImagePositionPatient = [0, 5 * number, 0]
            change(dataset)
            dataset.save_as(folder.parent / "tree" / name / path.name)
    (folder.parent / "tree" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 400)
    main([str(folder.parent / "tree")])
    shown = capsys.readouterr().out
    for text in ("Modality is MR", "localizer", "coronal", "oblique", "Explicit VR Little Endian", "96 x 120", "yes"):
        assert text in shown
    assert "4 series, 1 can be predicted" in shown
    assert "not readable" in shown or "broken.dcm" in shown


@pytest.mark.parametrize("content", [b"", b"DICM", b"\0" * 127 + b"DICM and more"])
def test_a_slice_file_that_is_no_dicom_any_more_is_named(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], content: bytes
) -> None:
    """Catches a damaged slice that vanishes without a word, at the end of a series even without a gap."""
    folder = series_folder(phantoms["anisotropic"])
    last = only_series(folder).slices[-1].path
    last.write_bytes(content)
    found = find_series(folder)
    assert not found.series
    for line in found.refused:
        assert_one_line(line, last)
    assert len(found.failed) == 1
    found = find_series(folder, allow_gaps=True)
    assert [len(series.slices) for series in found.series] == [4]
    assert_one_line(found.refused[0], last)


def test_a_whole_number_of_400_digits_is_refused(slice_file: SliceFile) -> None:
    """Catches an overflow where a decimal string is made a number."""
    path = slice_file(put_raw("NumberOfFrames", "IS", b"1" * 400))
    with pytest.raises(InputError, match="NumberOfFrames") as caught:
        find_series(path)
    assert_one_line(caught.value, path)


# --- who is who ------------------------------------------------------------------------------------------------------


def anonymise(folder: Path, change: Callable[[pydicom.Dataset, int], object], **tags: str) -> Path:
    """Gives all files of a folder these tags, then changes each; files are taken in order of height."""
    for number, path in enumerate(sorted(folder.rglob("*.dcm"), key=lambda one: read_header(one).position[2])):
        dataset = pydicom.dcmread(path)
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        change(dataset, number)
        dataset.save_as(path)
    return folder


def place_at(offset: float, step: float = 5.0) -> Callable[[pydicom.Dataset, int], None]:
    """Puts slices onto one line, a step apart."""

    def change(dataset: pydicom.Dataset, number: int) -> None:
        dataset.ImagePositionPatient = [-180, -180, round(-600 + offset + step * number, 3)]
        dataset.PixelSpacing = [2.9, 2.9]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]

    return change


EMPTY = dict.fromkeys(("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"), "")
SAME = {**EMPTY, "SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3", "PatientID": "anonymous"}


@pytest.mark.parametrize("identity", [EMPTY, SAME, {**EMPTY, "SeriesInstanceUID": "1"}], ids=["empty", "same", "one"])
@pytest.mark.parametrize("offset", [0.0, 25.0, 35.0, 2.0, 500.0])
def test_two_people_in_folders_of_one_name_are_two_series(
    tmp_path: Path, identity: dict[str, str], offset: float
) -> None:
    """Catches two people in one label map because an anonymiser took or shared what tells them apart."""
    for number, person in enumerate(("person1", "person2")):
        folder = tmp_path / person / "CT"
        write_series(invented(number), folder, patient_id=person, seed=number)
        anonymise(folder, place_at(number * offset), **identity)
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5, 5]
    assert [{header.path.parent for header in series.slices} for series in found.series] == [
        {tmp_path / "person1" / "CT"}, {tmp_path / "person2" / "CT"}
    ]  # fmt: skip
    assert len({series.key for series in found.series}) == 2
    assert not any(series.missing_planes for series in found.series)


def test_patients_of_one_uid_are_told_apart_by_folder(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a refusal of both, where each folder holds one of them."""
    for number, person in enumerate(("one", "two")):
        write_series(phantoms["anisotropic"], tmp_path / person, patient_id=person, seed=number)
        anonymise(tmp_path / person, place_at(0), SeriesInstanceUID="1.2.3.4")
    assert [series.slices[0].patient_id for series in find_series(tmp_path).series] == ["one", "two"]


def test_a_series_over_several_folders_is_one(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a disc whose folders hold a part of a series each, and come as several."""
    for number, path in enumerate(write_series(phantoms["oblique"], tmp_path / "all", patient_id="P", seed=1)):
        folder = tmp_path / f"DIR{number // 2:03d}"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    assert len(only_series(tmp_path).slices) == 5


def test_a_copy_of_a_series_is_set_aside_in_one_line(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches slices that count twice, and a line for each of a thousand."""
    write_series(phantoms["oblique"], tmp_path / "one", patient_id="P", seed=1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5]
    (line,) = found.refused
    assert "5 slices are there twice" in str(line)
    assert not found.failed


# --- files that cannot be read ---------------------------------------------------------------------------------------


def break_link(path: Path) -> None:
    """A link to a place that is not there, as of a share that is not mounted."""
    path.unlink()
    path.symlink_to("/nonexistent/share/slice")


LOSSES: dict[str, Callable[[Path], object]] = {
    "dangling link": break_link,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(34192)),
    "a bit of a header": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "half a header": lambda path: path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\x20\x00\x32\x00")]),
    "another start": lambda path: path.write_bytes(b"\x00\x01\x02\x03" * 3000),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("name", ["{}.dcm", "{}", "{}.IMA", "1.2.840.{}"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_slice_refuses_its_series_by_name(
    phantoms: dict[str, Phantom], tmp_path: Path, loss: str, name: str
) -> None:
    """Catches a series that ends early without a word: "98.8 ml on 2 slices" of 6."""
    folder = tmp_path / "CT"
    paths = []
    for number, path in enumerate(write_series(phantoms["anisotropic"], folder, patient_id="P", seed=1)):
        paths.append(path.rename(folder / name.format(number)))
    (folder / "notes.txt").write_bytes(b"")
    (folder / "README").write_text("from the hospital")
    assert len(only_series(folder).slices) == 5  # other files are nobody's slices
    LOSSES[loss](paths[-1])
    found = find_series(folder)
    assert not found.series
    assert len(found.failed) == 1
    assert any(str(paths[-1]) in str(line) for line in found.refused)
    assert all(len(str(line).splitlines()) == 1 for line in found.refused)
    found = find_series(folder, allow_gaps=True)
    assert [len(series.slices) for series in found.series] == [4]
    assert any(str(paths[-1]) in str(line) for line in found.refused)


def test_most_slices_lost_is_said_with_their_number(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches two slices of six that are predicted as if they were all."""
    for path in write_series(phantoms["anisotropic"], tmp_path, patient_id="P", seed=1)[:4]:
        break_link(path)
    (reason,) = find_series(tmp_path).failed
    assert "4 files beside its slices may be part of it but cannot be read" in str(reason)


def test_a_lost_file_of_another_folder_is_nobodys(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a whole tree that is refused for one file."""
    write_series(phantoms["anisotropic"], tmp_path / "CT", patient_id="P", seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "IM1.dcm").write_bytes(b"")
    (tmp_path / "latest").symlink_to("nowhere")
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5]
    assert ["IM1.dcm" in str(line) for line in found.refused] == [True]


def test_a_dicomdir_is_passed_over(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a line, or a refusal, for the table of contents that every disc has."""
    write_series(phantoms["anisotropic"], tmp_path, patient_id="P", seed=1)
    contents = pydicom.Dataset()
    contents.file_meta = pydicom.dataset.FileMetaDataset()
    contents.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    contents.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    contents.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    contents.FileSetID = "DISC"
    contents.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert len(only_series(tmp_path).slices) == 5


def test_scouts_and_reformats_are_no_failure(
    phantoms: dict[str, Phantom], turned_phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches a tree that ends with an error because of the scout views and coronal images every study has."""
    write_series(phantoms["oblique"], tmp_path / "CT", patient_id="P", seed=1)
    for number, (name, kind) in enumerate((("scout", "ORIGINAL"), ("derived", "DERIVED"))):
        write_series(phantoms["anisotropic"], tmp_path / name, patient_id="P", seed=2 + number)
        tags = {"ImageType": [kind, "PRIMARY", "LOCALIZER"]}
        anonymise(tmp_path / name, lambda dataset, _: None, **tags)  # type: ignore[arg-type]
    write_series(turned_phantoms["coronal"], tmp_path / "coronal", patient_id="P", seed=4)
    found = find_images(tmp_path)
    assert [series.slices[0].path.parent.name for series in found.series] == ["CT"]
    assert len(found.refused) == 3
    assert not found.failed


def test_the_list_looks_at_what_a_prediction_looks_at(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches "can be predicted" for series whose pixels nobody can decode."""

    def without_pixels(dataset: pydicom.Dataset, _: int) -> None:
        del dataset.PixelData

    def in_private_compression(dataset: pydicom.Dataset, _: int) -> None:
        data = dataset.PixelData
        del dataset.PixelData
        block = dataset.private_block(0x07A1, "ELSCINT1", create=True)
        block.add_new(0x0A, "OB", data)
        block.add_new(0x11, "LO", "PMSCT_RLE1")

    def cut(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PixelData = dataset.PixelData[:1000]

    reasons = {without_pixels: "no pixel data", in_private_compression: "private compression", cut: "bytes of pixels"}
    for number, change in enumerate(reasons):
        folder = tmp_path / change.__name__
        write_series(phantoms["anisotropic"], folder, patient_id="P", seed=number)
        anonymise(folder, change)
        (listed,) = find_images(folder).listed
        assert reasons[change] in describe_series(listed)[-1]
        assert describe_series(listed)[-1].startswith("no: ")


@pytest.mark.parametrize(("name", "fails"), [("P002", True), ("lost+found", False)])
def test_a_closed_folder_is_told_and_counts(
    phantoms: dict[str, Phantom], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fails: bool
) -> None:
    """Catches a patient who is passed over with exit status 0, and a disk's own folder that counts as one."""
    import os

    write_series(phantoms["oblique"], tmp_path / "P001", patient_id="P", seed=1)
    (tmp_path / name).mkdir()
    scandir = os.scandir

    def refuse(place: Path) -> object:
        if place.name == name:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_series(tmp_path)
    assert [len(series.slices) for series in found.series] == [5]
    assert [str(tmp_path / name) in str(line) for line in found.refused] == [True]
    assert bool(found.failed) == fails
