"""NIfTI: label maps keep their place on the way out, on the way in, and in the eyes of other readers."""

import gzip
import itertools
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_parts import read_slice
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError, SarcoError
from sarco.io.dicom import find_series, read_header
from sarco.io.nifti import is_nifti, nifti_stem, open_volume, read_label_map, read_volumes, write_label_map
from sarco.phantom.patient import Phantom
from sarco.scan.geometry import lps_to_ras, swap_rows_and_columns

GEOMETRIES = ("axial", "oblique", "feet first", "prone", "coronal", "sagittal", "sagittal from below")
TURNS = [
    (list(perm), flips) for perm in itertools.permutations(range(3)) for flips in itertools.product((0, 1), repeat=3)
]
IMAGE = Path("image.dcm")


def some_voxels(phantom: Phantom) -> NDArray[np.int64]:
    """Labelled voxels from all over the volume, (N, 3): row, column, slice."""
    voxels = np.argwhere(phantom.label_map > 0)
    return voxels[np.linspace(0, len(voxels) - 1, 40).astype(int)]


def world_lps(phantom: Phantom, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """LPS mm of voxel centres, (N, 3)."""
    return voxels @ phantom.affine_lps[:3, :3].T + phantom.affine_lps[:3, 3]


def save(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> Path:
    """Writes an array by nibabel alone."""
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_was_written_is_read(
    turned_phantoms: dict[str, Phantom], geometry: str, suffix: str, tmp_path: Path
) -> None:
    """Catches ids or an affine that change on the way to the disk and back."""
    phantom = turned_phantoms[geometry]
    write_label_map(tmp_path / f"label{suffix}", phantom.label_map, phantom.affine_lps)
    label = read_label_map(tmp_path / f"label{suffix}")
    np.testing.assert_array_equal(label.ids, phantom.label_map)
    assert label.affine_lps is not None
    np.testing.assert_allclose(label.affine_lps, phantom.affine_lps, atol=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_nibabel_sees_every_label_at_its_world_point(
    turned_phantoms: dict[str, Phantom], geometry: str, tmp_path: Path
) -> None:
    """Catches LPS written as RAS, or rows written as columns."""
    phantom = turned_phantoms[geometry]
    write_label_map(tmp_path / "label.nii.gz", phantom.label_map, phantom.affine_lps)
    image = nib.load(tmp_path / "label.nii.gz")
    voxels = some_voxels(phantom)
    ras = world_lps(phantom, voxels) * [-1, -1, 1]
    for affine in (image.affine, image.get_sform(), image.get_qform()):
        index = (ras - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
        column, row, plane = np.rint(index).astype(int).T
        np.testing.assert_array_equal(np.asarray(image.dataobj)[column, row, plane], phantom.label_map[tuple(voxels.T)])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_simpleitk_sees_every_label_at_its_world_point(
    turned_phantoms: dict[str, Phantom], geometry: str, tmp_path: Path
) -> None:
    """Catches a file that only nibabel understands."""
    sitk = pytest.importorskip("SimpleITK")
    phantom = turned_phantoms[geometry]
    write_label_map(tmp_path / "label.nii.gz", phantom.label_map, phantom.affine_lps)
    image = sitk.ReadImage(str(tmp_path / "label.nii.gz"))
    voxels = some_voxels(phantom)
    for (row, column, plane), point in zip(voxels.tolist(), world_lps(phantom, voxels), strict=True):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((column, row, plane)), point, atol=1e-3)
        assert image[column, row, plane] == phantom.label_map[row, column, plane]


def test_header_says_scanner_millimetres_and_uint8(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a header from which viewers guess the place, the unit or the type."""
    phantom = phantoms["oblique"]
    write_label_map(tmp_path / "label.nii", phantom.label_map, phantom.affine_lps)
    header = nib.load(tmp_path / "label.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == np.uint8
    assert header.get_slope_inter() in [(None, None), (1, 0)]


def test_same_label_map_gives_the_same_bytes(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a time stamp in the file."""
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_map(tmp_path / name, phantoms["oblique"].label_map, phantoms["oblique"].affine_lps)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[344:347] == b"n+1"


def test_a_sheared_grid_gets_no_qform(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a qform that straightens the grid of a tilted gantry: readers that prefer it would shift the labels."""
    affine = phantoms["anisotropic"].affine_lps.copy()
    affine[:3, 2] += (0, 1.5, 0)
    write_label_map(tmp_path / "label.nii.gz", phantoms["anisotropic"].label_map, affine)
    image = nib.load(tmp_path / "label.nii.gz")
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(image.affine, lps_to_ras(swap_rows_and_columns(affine)), atol=1e-4)
    label = read_label_map(tmp_path / "label.nii.gz")
    np.testing.assert_allclose(label.affine_lps, affine, atol=1e-4)  # type: ignore[arg-type]


def test_shear_by_rounding_stays_readable_for_itk(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a result that ITK refuses because positions were rounded to 0.01 mm: 'no orthonormal definition'."""
    sitk = pytest.importorskip("SimpleITK")
    phantom = phantoms["oblique"]
    affine = phantom.affine_lps.copy()
    affine[:3, 2:] = affine[:3, 2:].round(2)
    write_label_map(tmp_path / "label.nii.gz", phantom.label_map, affine)
    image = sitk.ReadImage(str(tmp_path / "label.nii.gz"))
    for row, column, plane in [(0, 0, 0), (95, 119, 4), (50, 3, 2)]:
        expected = (affine @ [row, column, plane, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((column, row, plane)), expected, atol=0.2)


@pytest.mark.parametrize(("perm", "flips"), TURNS)
def test_a_volume_laid_any_way_lands_on_the_image(
    phantoms: dict[str, Phantom], perm: list[int], flips: tuple[int, ...], tmp_path: Path
) -> None:
    """Catches labels drawn in another program's axes that come out mirrored: RAS, LPS, transposed and the rest."""
    phantom = phantoms["oblique"]
    values = phantom.label_map.transpose(1, 0, 2)  # NIfTI's (column, row, slice)
    affine = lps_to_ras(swap_rows_and_columns(phantom.affine_lps))
    values, affine = values.transpose(perm), affine[:, [*perm, 3]].copy()
    for axis in np.flatnonzero(flips):
        values = np.flip(values, axis)
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    label = read_label_map(save(tmp_path / "label.nii", values, affine))
    for plane in range(phantom.label_map.shape[2]):
        slice_affine = phantom.affine_lps.copy()
        slice_affine[:3, 3] += plane * slice_affine[:3, 2]
        on_slice = label.on_slice(slice_affine, phantom.label_map.shape[:2], IMAGE)
        np.testing.assert_array_equal(on_slice, phantom.label_map[:, :, plane])


@pytest.mark.parametrize("flips", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("n_axes", [2, 3])
def test_a_lone_slice_laid_any_way_lands_on_the_image(
    phantoms: dict[str, Phantom], transpose: bool, flips: tuple[int, int], n_axes: int, tmp_path: Path
) -> None:
    """Catches the same for one slice a file, with two axes or three."""
    phantom, plane = phantoms["oblique"], 3
    slice_affine = phantom.affine_lps.copy()
    slice_affine[:3, 3] += plane * slice_affine[:3, 2]
    affine = lps_to_ras(swap_rows_and_columns(slice_affine))
    values = phantom.label_map[:, :, plane].T
    if transpose:
        values, affine = values.T, affine[:, [1, 0, 2, 3]]
    for axis in np.flatnonzero(flips):
        values = np.flip(values, axis)
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    path = save(tmp_path / "label.nii.gz", values if n_axes == 2 else values[..., None], affine)
    on_slice = read_label_map(path).on_slice(slice_affine, phantom.label_map.shape[:2], IMAGE)
    np.testing.assert_array_equal(on_slice, phantom.label_map[:, :, plane])


def without_affine(path: Path, values: NDArray[np.uint8]) -> Path:
    """A file whose header says nothing of the place."""
    image = nib.Nifti1Image(values, None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_volume_without_affine_counts_as_ras(
    turned_phantoms: dict[str, Phantom], geometry: str, tmp_path: Path
) -> None:
    """Catches labels without an affine that land mirrored or turned on a grid of any direction."""
    phantom = turned_phantoms[geometry]
    # Each axis of the image runs closest to one of x, y, z: lay them in that order, and towards R, A, S.
    ras = lps_to_ras(phantom.affine_lps)[:3, :3]
    world_axis = np.abs(ras / np.linalg.norm(ras, axis=0)).argmax(axis=0)
    values = phantom.label_map
    for axis in range(3):
        if ras[world_axis[axis], axis] < 0:
            values = np.flip(values, axis)
    values = values.transpose(np.argsort(world_axis))
    label = read_label_map(without_affine(tmp_path / "label.nii.gz", values))
    assert label.affine_lps is None
    label = label.assume_ras(phantom.affine_lps, phantom.label_map.shape)
    for plane in range(phantom.label_map.shape[2]):
        slice_affine = phantom.affine_lps.copy()
        slice_affine[:3, 3] += plane * slice_affine[:3, 2]
        on_slice = label.on_slice(slice_affine, phantom.label_map.shape[:2], IMAGE)
        np.testing.assert_array_equal(on_slice, phantom.label_map[:, :, plane])


def test_an_axial_slice_without_affine_counts_as_ras(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a slice without an affine that is laid as LPS: the file's axes run to the right and forward."""
    phantom = phantoms["anisotropic"]
    one = phantom.label_map[:, :, 2]  # rows run to posterior, columns to the left
    rows, columns = one.shape
    label = read_label_map(without_affine(tmp_path / "label.nii.gz", np.ascontiguousarray(one[::-1, ::-1].T)))
    label = label.assume_ras(phantom.affine_lps, (rows, columns, 1))
    np.testing.assert_array_equal(label.on_slice(phantom.affine_lps, (rows, columns), IMAGE), one)


def test_a_slice_without_affine_is_refused_where_nobody_assumed_one(tmp_path: Path) -> None:
    """Catches a guess where a caller did not ask for one."""
    label = read_label_map(without_affine(tmp_path / "label.nii", np.ones((4, 5, 1), np.uint8)))
    with pytest.raises(GeometryError, match="no usable affine"):
        label.on_slice(np.eye(4), (5, 4), IMAGE)


def with_sform(path: Path, numbers: list[float]) -> Path:
    """A label map whose sform says these twelve numbers."""
    content = bytearray(save(path, np.ones((4, 5, 2), np.uint8)).read_bytes())
    content[280:328] = struct.pack("<12f", *numbers)  # srow_x, srow_y, srow_z
    path.write_bytes(content)
    return path


def test_an_affine_that_was_never_written_counts_as_none(tmp_path: Path) -> None:
    """Catches a division by a flat grid."""
    assert read_label_map(with_sform(tmp_path / "label.nii", [0.0] * 12)).affine_lps is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30, 0.0])
def test_a_damaged_affine_is_refused(number: float, tmp_path: Path) -> None:
    """Catches labels that are laid as RAS, perhaps mirrored, because one number of their affine is damaged."""
    path = with_sform(tmp_path / "label.nii", [2, 0, 0, 5, 0, number, 0, 5, 0, 0, 4, 5])
    with pytest.raises(InputError, match="affine is damaged") as caught:
        read_label_map(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("offset", [252, 254])
def test_a_form_code_that_nifti_does_not_know_is_refused(offset: int, tmp_path: Path) -> None:
    """Catches labels that are laid as RAS because a damaged code was taken for none."""
    path = save(tmp_path / "label.nii", np.ones((4, 5, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[offset : offset + 2] = struct.pack("<h", 2048)
    path.write_bytes(content)
    with pytest.raises(InputError, match="code is 2048"):
        read_label_map(path)


def test_a_packed_file_is_read_to_its_checksum(tmp_path: Path) -> None:
    """Catches other labels than were written, or half a file, although the file itself says that it is damaged."""
    path = save(tmp_path / "label.nii.gz", np.ones((40, 50, 2), np.uint8))
    whole = path.read_bytes()
    inside = bytearray(gzip.decompress(whole))
    inside[-7] ^= 2
    other = gzip.compress(bytes(inside), mtime=0)
    for damaged in (whole[:-1], whole[:-8], other[:-8] + whole[-8:], whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            read_label_map(path)


@pytest.mark.parametrize("name", ["label.nii", "label.nii.gz"])
def test_voxels_that_a_file_cannot_hold_take_no_memory(name: str, tmp_path: Path) -> None:
    """Catches gigabytes that are taken because a header of 348 bytes says so."""
    image = nib.Nifti1Image(np.ones((4, 5, 2), np.float64), np.eye(4))
    content = bytearray(image.to_bytes())
    content[42:48] = struct.pack("<3h", 1200, 1200, 1200)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match="claims to hold 1200 x 1200 x 1200 voxels"):
        read_label_map(path)


def test_nibabel_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches remarks about repairs in between our own lines; a negative pixdim does no harm beside an sform."""
    path = save(tmp_path / "label.nii", np.ones((4, 5, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[80:84] = struct.pack("<f", -2)
    path.write_bytes(content)
    assert read_label_map(path).ids.all()
    assert capfd.readouterr().err == ""


def test_another_grid_is_refused_with_both_files(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a message that leaves the user to search for the pair."""
    phantom = phantoms["oblique"]
    path = tmp_path / "label.nii.gz"
    write_label_map(path, phantom.label_map, phantom.affine_lps)
    moved = phantom.affine_lps.copy()
    moved[:3, 3] += moved[:3, 1] * 0.5
    with pytest.raises(GeometryError) as caught:
        read_label_map(path).on_slice(moved, phantom.label_map.shape[:2], tmp_path / "slice.dcm")
    message = str(caught.value)
    assert str(path) in message
    assert str(tmp_path / "slice.dcm") in message
    assert "shifted by 0.5 pixels" in message
    assert len(message.splitlines()) == 1


ONES = np.ones((3, 4, 2), np.float32)


@pytest.mark.parametrize(
    "values",
    [
        ONES * 0.5,
        -ONES,
        ONES * 256,
        ONES * np.nan,
        ONES * np.inf,
        ONES.astype(np.complex64),
        np.ones((3, 4, 2, 2), np.uint8),
        np.ones(3, np.uint8),
        np.zeros((3, 4, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]),
    ],
    ids=["fractions", "negative", "over 255", "NaN", "infinite", "complex", "four axes", "one axis", "colours"],
)
def test_what_is_no_label_map_is_refused_in_one_line(values: NDArray[np.generic], tmp_path: Path) -> None:
    """Catches an image that is used as labels, and a traceback where one line would do."""
    path = save(tmp_path / "label.nii.gz", values)
    with pytest.raises(InputError) as caught:
        read_label_map(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64, np.uint16, np.int64])
def test_whole_numbers_of_any_type_are_label_ids(kind: type[np.generic], tmp_path: Path) -> None:
    """Catches a reader that takes uint8 only: many programs write labels as int16 or float."""
    values = np.arange(24).reshape(3, 4, 2)
    image = nib.Nifti1Image(values.astype(kind), np.eye(4), dtype=kind)
    nib.save(image, tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "label.nii.gz").ids, values.transpose(1, 0, 2))


def test_trailing_axes_of_length_one_do_no_harm(tmp_path: Path) -> None:
    """Catches a volume with an empty time axis that is refused."""
    values = np.arange(24, dtype=np.uint8).reshape(3, 4, 2, 1, 1)
    label = read_label_map(save(tmp_path / "label.nii", values))
    np.testing.assert_array_equal(label.ids, values[..., 0, 0].transpose(1, 0, 2))


@pytest.mark.parametrize("content", [b"", b"no NIfTI", bytes(4000), b"\x1f\x8b" + bytes(50)])
@pytest.mark.parametrize("name", ["label.nii", "label.nii.gz"])
def test_what_is_no_nifti_is_refused_in_one_line(content: bytes, name: str, tmp_path: Path) -> None:
    """Catches a traceback of nibabel."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as NIfTI") as caught:
        read_label_map(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Catches a FileNotFoundError."""
    with pytest.raises(InputError, match=r"absent\.nii"):
        read_label_map(tmp_path / "absent.nii")


@pytest.mark.parametrize("name", ["label.nii", "label.nii.gz"])
def test_a_damaged_file_never_shows_a_traceback(name: str, tmp_path: Path) -> None:
    """Catches any exception but ours on truncated files and flipped bytes."""
    whole = save(tmp_path / name, np.ones((6, 5, 4), np.uint8)).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 352), 4):
            content[place] = rng.integers(256)
        if trial % 3 == 0:
            content = bytearray(whole[: rng.integers(len(whole) - 1)])
        path = tmp_path / f"damaged_{name}"
        path.write_bytes(content)
        try:
            read_label_map(path)
        except SarcoError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused >= 50


def test_names() -> None:
    """Catches a stem that keeps half of .nii.gz, or loses a dot of the name."""
    assert nifti_stem(Path("a/CT.1.2.NII.GZ")) == "CT.1.2"
    assert nifti_stem(Path("a/b.nii")) == "b"
    assert is_nifti(Path("x.nii.gz"))
    assert not is_nifti(Path("x.gz"))


def test_real_labels_lie_on_their_real_slices(shared_data: Path) -> None:
    """Catches labels in RAS laid mirrored over pixels in LPS: what is labelled would not be muscle."""
    folder = shared_data / "skeletal_muscle_pairs"
    for path in sorted(folder.glob("A_*.dcm"))[::6]:
        hu, header = read_slice(path)
        label = read_label_map(folder / f"{path.stem}.nii.gz").on_slice(header.affine_lps, header.shape, path)
        muscle = (hu > -30) & (hu < 150)
        mirrored = [np.mean(muscle[turned == 1]) for turned in (label[::-1], label[:, ::-1], label[::-1, ::-1])]
        assert np.mean(muscle[label == 1]) > max(0.75, *mirrored)


def test_a_real_volume_label_agrees_with_the_slice_labels(shared_data: Path) -> None:
    """Catches slice labels and the volume label of one patient that end up in different places."""
    series = find_series(shared_data / "muscle_groups" / "A").series[0]
    groups = read_label_map(shared_data / "muscle_groups" / "A.nii.gz")
    muscle_folder = shared_data / "skeletal_muscle_pairs"
    compared = 0
    for path in sorted(muscle_folder.glob("A_*.dcm"))[::10]:
        header = read_header(path)
        one = read_label_map(muscle_folder / f"{path.stem}.nii.gz").on_slice(header.affine_lps, header.shape, path)
        place = [np.allclose(s.position, header.position) for s in series.slices].index(True)
        whole = groups.on_slice(series.plane_affine_lps(series.plane_index[place]), header.shape, path)
        assert np.mean(one[whole > 0]) > 0.9  # what belongs to a muscle group is skeletal muscle
        compared += 1
    assert compared >= 3


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    """Catches "export the label map again" where the path is wrong."""
    with pytest.raises(InputError, match=r"absent\.nii\.gz: there is no such file; check the path"):
        read_label_map(tmp_path / "absent.nii.gz")
    with pytest.raises(InputError, match="is a folder; give a NIfTI file in it"):
        read_label_map(tmp_path)


def with_forms(path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], second: bool = False) -> Path:
    """A label map of 12 x 10 x 6 voxels that says twice how it lies."""
    image = (nib.Nifti2Image if second else nib.Nifti1Image)(np.ones((12, 10, 6), np.uint8), sform)
    image.set_sform(sform, code=1)
    image.set_qform(qform, code=1)
    nib.save(image, path)
    return path


GRID = np.array([[-0.7, 0, 0, 100], [0, -0.8, 0, 150], [0, 0, 3, -300], [0, 0, 0, 1.0]])
CONTRADICTIONS = {
    "mirrored": GRID @ [[-1, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "upside down": GRID @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 5], [0, 0, 0, 1]],
    "shifted": GRID @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]],
    "another spacing": GRID @ np.diag([1, 1, 1.2, 1]),
    "permuted": GRID[:, [1, 0, 2, 3]],
    "turned": GRID @ [[0.98, -0.199, 0, 0], [0.199, 0.98, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
}


@pytest.mark.parametrize("second", [False, True], ids=["NIfTI-1", "NIfTI-2"])
@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_forms_of_a_label_map_that_contradict_each_other_are_refused(what: str, second: bool, tmp_path: Path) -> None:
    """Catches labels that lie mirrored or elsewhere for every program that believes the other of the two."""
    path = with_forms(tmp_path / "label.nii.gz", GRID, CONTRADICTIONS[what], second)
    with pytest.raises(GeometryError, match=r"label\.nii\.gz: sform and qform place its voxels .* voxels apart"):
        read_label_map(path)


@pytest.mark.parametrize("start", [76, 256], ids=["pixdim", "quatern_b"])
def test_a_damaged_qform_beside_a_good_sform_is_refused(start: int, tmp_path: Path) -> None:
    """Catches a guess which of the two is the damaged one: a negative spacing, a quaternion longer than 1, NaN."""
    for numbers in ((-1.0, -2.0), (1.5, 1.5), (np.nan, np.nan)):
        path = with_forms(tmp_path / "label.nii", GRID, GRID)
        content = bytearray(path.read_bytes())
        content[start : start + 8] = struct.pack("<2f", *numbers)
        path.write_bytes(content)
        with pytest.raises(SarcoError, match=r"sform or qform is damaged|voxels apart"):
            read_label_map(path)


def test_an_empty_sform_does_not_hide_a_qform(tmp_path: Path) -> None:
    """Catches labels laid as RAS, perhaps mirrored, although their qform says how they lie."""
    path = with_forms(tmp_path / "label.nii", GRID, GRID)
    content = bytearray(path.read_bytes())
    content[280:328] = bytes(48)
    path.write_bytes(content)
    with pytest.raises(InputError, match="affine is damaged"):
        read_label_map(path)


@pytest.mark.parametrize("tilt", [0.0, 1e-4, 3e-4, 1e-3, 1e-2, 0.3])
def test_a_quaternion_of_float32_is_no_contradiction(tilt: float, tmp_path: Path) -> None:
    """Catches scans in LPS on a slightly turned table that are refused: their quaternion is rounded by 0.001 rad."""
    for sign, axis in itertools.product((-1, 1), ([0, 1], [0, 2], [1, 2])):
        turn = np.eye(4)
        turn[np.ix_(axis, axis)] = [[np.cos(tilt), -sign * np.sin(tilt)], [sign * np.sin(tilt), np.cos(tilt)]]
        grid = turn @ np.diag([-0.7, -0.7, 1.25, 1])
        image = nib.Nifti1Image(np.zeros((512, 512, 1), np.uint8), grid)
        image.set_sform(grid, code=1)
        image.set_qform(grid, code=1)
        nib.save(image, tmp_path / "label.nii")
        np.testing.assert_allclose(
            read_label_map(tmp_path / "label.nii").affine_lps,  # type: ignore[arg-type]
            swap_rows_and_columns(lps_to_ras(grid)),  # the signs of x and y, either way
            atol=1e-6,
        )


def scaled(path: Path, slope: float, intercept: float = 0.0) -> Path:
    """Stored bytes 0, 1, .. 5 that the header scales."""
    content = bytearray(save(path, np.arange(6, dtype=np.uint8).reshape(1, 2, 3)).read_bytes())
    content[112:120] = struct.pack("<2f", slope, intercept)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("slope", "intercept"), [(1.00000006, 0), (0.9999, 0), (2, 1), (1, 1e-4)])
def test_scaling_that_rounds_leaves_whole_numbers(slope: float, intercept: float, tmp_path: Path) -> None:
    """Catches labels that are refused because a program stored 1.0000001 for 1, or cut down to 0 where it is 0.9999."""
    found = read_label_map(scaled(tmp_path / "label.nii", slope, intercept)).ids
    expected = np.arange(6).reshape(1, 2, 3) * round(slope) + round(intercept)
    np.testing.assert_array_equal(found, expected.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("slope", "intercept", "value"), [(0.5, 0, "1.5"), (1.01, 0, "3.02999997"), (100, 0, "300"), (1, -1, "-1")]
)
def test_a_value_that_is_no_label_id_is_named_with_the_scaling(
    slope: float, intercept: float, value: str, tmp_path: Path
) -> None:
    """Catches a message that leaves it to the user to find the one value, and why it is so."""
    path = scaled(tmp_path / "label.nii", slope, intercept)
    told = rf"holds {value} \(by scl_slope {slope} and scl_inter {intercept}\), which is no label id"
    with pytest.raises(InputError, match=told):
        read_label_map(path)


def test_a_value_that_no_scaling_made_is_named_alone(tmp_path: Path) -> None:
    """Catches talk of scaling where there is none."""
    with pytest.raises(InputError, match=r"holds 1000, which is no label id \(whole number 0\.\.255\); is it"):
        read_label_map(save(tmp_path / "label.nii", np.full((2, 3, 1), 1000, np.int16)))


@pytest.mark.parametrize("name", ["packed.nii", "PACKED.NII", "plain.nii.gz", "plain.NII.GZ"])
def test_whether_a_file_is_packed_its_first_bytes_tell(name: str, tmp_path: Path) -> None:
    """Catches "data code -16476 not recognized" for a file whose suffix somebody changed, image and label map alike."""
    for values, suffix in ((np.ones((4, 5, 2), np.uint8), ""), (np.full((4, 5, 2), -1000, np.int16), "image_")):
        content = nib.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0])).to_bytes()
        (tmp_path / f"{suffix}{name}").write_bytes(gzip.compress(content) if "packed" in name.lower() else content)
    assert read_label_map(tmp_path / name).ids.all()
    assert open_volume(tmp_path / f"image_{name}").shape == (5, 4, 2)
    assert read_volumes(tmp_path / f"image_{name}")[0][0].shape == (4, 5, 2)


@pytest.mark.parametrize("forms", ["both", "sform", "qform"])
@pytest.mark.parametrize("axes", [2, 3, 4])
def test_an_image_of_one_slice_is_read(axes: int, forms: str, tmp_path: Path) -> None:
    """Catches a slice that is refused or ends in a traceback because its file has two dimensions, or four."""
    values = np.arange(20, dtype=np.int16).reshape((4, 5, *[1] * (axes - 2))) - 1000
    image = nib.Nifti1Image(values, GRID)
    image.set_sform(GRID if forms != "qform" else None, code=1 if forms != "qform" else 0)
    image.set_qform(GRID if forms != "sform" else None, code=1 if forms != "sform" else 0)
    nib.save(image, tmp_path / "slice.nii.gz")
    assert int(nib.load(tmp_path / "slice.nii.gz").header["dim"][0]) == axes
    if axes == 2:
        with pytest.warns(DataWarning, match=r"has two dimensions, so it may not know how thick its slice is; \d mm"):
            volume = open_volume(tmp_path / "slice.nii.gz")
    else:
        volume = open_volume(tmp_path / "slice.nii.gz")
    np.testing.assert_array_equal(volume.read_plane(0), values.reshape(4, 5).T)
    np.testing.assert_allclose(volume.affine_lps[:3, :2], [[0, 0.7], [0.8, 0], [0, 0]], atol=1e-6)
    assert volume.shape == (5, 4, 1)


@pytest.mark.filterwarnings("ignore:.*two dimensions")
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("across", [0, 1], ids=["sagittal", "coronal"])
def test_a_lone_slice_along_the_body_is_refused(across: int, axes: int, tmp_path: Path) -> None:
    """Catches a coronal slice that is predicted as a hundred axial slices of one row."""
    in_plane = [1 - across, 2]
    affine = np.eye(4)
    affine[:3, :3] = np.diag([3.0, 3.0, 3.0])[:, [*in_plane, across]]
    path = save(tmp_path / "slice.nii.gz", np.full((8, 9, 1)[:axes], -1000, np.int16), affine)
    with pytest.raises(GeometryError, match="is one slice along the body, not across it; give axial slices"):
        open_volume(path)


def test_a_slice_as_simpleitk_writes_it_is_read(tmp_path: Path) -> None:
    """Catches the same for the program that writes two dimensions with both forms."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.full((6, 5, 4), -1000, np.int16))
    image.SetSpacing((0.7, 0.8, 5))
    sitk.WriteImage(image[:, :, 2], str(tmp_path / "slice.nii.gz"))
    with pytest.warns(DataWarning, match="1 mm count"):
        assert open_volume(tmp_path / "slice.nii.gz").shape == (5, 4, 1)


def test_a_label_map_of_two_dimensions_is_read_with_both_forms_and_without(tmp_path: Path) -> None:
    """Catches labels of a lone slice that are refused, or laid by a third axis that their file does not have."""
    values = np.arange(20, dtype=np.uint8).reshape(4, 5)
    image = nib.Nifti1Image(values, GRID)
    image.set_sform(GRID, code=1)
    image.set_qform(GRID @ np.diag([1, 1, 1.5, 1]), code=1)
    nib.save(image, tmp_path / "both.nii")
    nib.save(nib.Nifti1Image(values, None), tmp_path / "none.nii")
    both, none = (read_label_map(tmp_path / name) for name in ("both.nii", "none.nii"))
    np.testing.assert_array_equal(both.ids[:, :, 0], values.T)
    assert both.affine_lps is not None
    np.testing.assert_array_equal(none.ids, both.ids)


@pytest.mark.parametrize("name", ["label.nii", "label.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_is_read(name: str, order: str, tmp_path: Path) -> None:
    """Catches a traceback on the longer header of the second version, whichever way its bytes run."""
    values = np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    header = nib.Nifti2Header(endianness=order)
    nib.save(nib.Nifti2Image(values, GRID, header), tmp_path / name)
    label = read_label_map(tmp_path / name)
    np.testing.assert_array_equal(label.ids, values.transpose(1, 0, 2))
    np.testing.assert_allclose(label.affine_lps, swap_rows_and_columns(lps_to_ras(GRID)))  # type: ignore[arg-type]
