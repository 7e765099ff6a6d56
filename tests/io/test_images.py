"""Images for inference: a NIfTI volume is read as the DICOM series it was made from, whichever way its axes run."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError
from sarco.io.dicom import find_series, read_series
from sarco.io.images import find_images, read_headers, read_hu
from sarco.io.nifti import read_label_map, write_label_map
from sarco.phantom.patient import Phantom
from sarco.scan.series import Series

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(
    path: Path, phantom: Phantom, order: tuple[int, ...] = (1, 0, 2), flips: tuple[bool, ...] = (False,) * 3
) -> Path:
    """The phantom's HU as a NIfTI file whose axes are these of (row, column, slice), some of them reversed."""
    hu, affine = phantom.hu.transpose(order), LPS_TO_RAS @ phantom.affine_lps[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            hu = np.flip(hu, axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    image = nib.Nifti1Image(np.ascontiguousarray(hu), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def volume_of(series: Series) -> NDArray[np.float32]:
    """All slices of a series."""
    return np.stack([read_hu(header) for header in series.slices], axis=-1)


def only(path: Path) -> Series:
    """The one series of a path."""
    found = find_images(path)
    assert not found.refused
    (series,) = found.series
    return series


@pytest.mark.parametrize("name", ["anisotropic", "oblique"])
@pytest.mark.parametrize("order", permutations(range(3)), ids=str)
def test_a_volume_is_read_at_its_world_points(
    phantoms: dict[str, Phantom], tmp_path: Path, name: str, order: tuple[int, ...]
) -> None:
    """Catches axes that are taken for others, and mirror images: every voxel has its HU at its point in the patient."""
    phantom = phantoms[name]
    for number, flips in enumerate(product((False, True), repeat=3)):
        series = only(save(tmp_path / f"scan{number}.nii.gz", phantom, order, flips))
        volume = volume_of(series)
        assert series.shape == volume.shape
        to_phantom = np.linalg.inv(phantom.affine_lps) @ series.affine_lps
        assert np.abs(to_phantom - np.rint(to_phantom)).max() < 1e-3
        grid = np.indices(volume.shape).reshape(3, -1)
        places = np.rint(to_phantom[:3, :3] @ grid + to_phantom[:3, 3:]).astype(int)
        np.testing.assert_array_equal(volume[tuple(grid)], phantom.hu[tuple(places)])
        for header, plane in zip(series.slices, series.plane_index, strict=True):
            own = header.affine_lps
            np.testing.assert_allclose(own[:, [0, 1, 3]], series.plane_affine_lps(plane)[:, [0, 1, 3]], atol=1e-3)


@pytest.mark.parametrize("order", permutations(range(3)), ids=str)
def test_the_mask_comes_back_on_the_file_s_own_grid(
    phantoms: dict[str, Phantom], tmp_path: Path, order: tuple[int, ...]
) -> None:
    """Catches a mask that other programs cannot lay over the scan, because its axes run another way."""
    scan = save(tmp_path / "scan.nii", phantoms["oblique"], order, (True, False, True))
    series = only(scan)
    label_map = (volume_of(series) > 100).astype(np.uint8)
    write_label_map(tmp_path / "mask.nii.gz", label_map, series.affine_lps, series.file_axes)
    image, mask = nib.load(scan), nib.load(tmp_path / "mask.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 100)


def test_a_volume_and_its_series_are_one(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches two ways of reading that differ by a plane, a flip or a shift."""
    phantom = phantoms["anisotropic"]
    from_dicom = find_series(series_folder(phantom)).series[0]
    from_nifti = only(save(tmp_path / "scan.nii.gz", phantom))
    np.testing.assert_array_equal(volume_of(from_nifti), read_series(from_dicom))
    np.testing.assert_allclose(from_nifti.affine_lps, from_dicom.affine_lps, atol=1e-3)


def test_headers_of_a_volume_are_its_planes(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches predictions whose source slice cannot be found again."""
    path = save(tmp_path / "scan.nii.gz", phantoms["anisotropic"])
    headers = read_headers(path)
    assert [header.frame for header in headers] == list(range(5))
    np.testing.assert_array_equal(read_hu(headers[3]), phantoms["anisotropic"].hu[..., 3])


def test_a_file_that_changed_is_read_anew(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches pixels of an earlier file of the same name."""
    path = save(tmp_path / "scan.nii", phantoms["anisotropic"])
    first = read_hu(read_headers(path)[2])
    save(path, phantoms["oblique"])
    assert not np.array_equal(read_hu(read_headers(path)[2]), first)


def test_values_outside_the_field_of_view_are_air(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches NaN that travels into the network."""
    phantom = phantoms["anisotropic"]
    hu = phantom.hu.transpose(1, 0, 2).astype(np.float32)
    hu[:4] = np.nan
    nib.save(nib.Nifti1Image(hu, LPS_TO_RAS @ phantom.affine_lps[:, [1, 0, 2, 3]]), tmp_path / "scan.nii.gz")
    volume = volume_of(only(tmp_path / "scan.nii.gz"))
    assert (volume[:, :4] == -1024).all()
    np.testing.assert_array_equal(volume[:, 4:], phantom.hu[:, 4:])


def test_units_other_than_mm_are_converted(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a patient of half a millimetre."""
    path = save(tmp_path / "scan.nii", phantoms["anisotropic"])
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3] /= 1000
    in_metres = nib.Nifti1Image(np.array(image.dataobj), affine)
    in_metres.header.set_xyzt_units("meter")
    nib.save(in_metres, path)
    np.testing.assert_allclose(only(path).affine_lps, phantoms["anisotropic"].affine_lps, atol=1e-3)


@pytest.mark.parametrize("factor", [0.001, 10, 1000])
def test_a_step_in_another_unit_is_refused(phantoms: dict[str, Phantom], tmp_path: Path, factor: float) -> None:
    """Catches a volume of slices in metres, times ten, or in micrometres."""
    path = save(tmp_path / "scan.nii", phantoms["anisotropic"])
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 2] *= factor
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)
    with pytest.raises(GeometryError, match="slices lie"):
        find_images(path)


def test_a_scale_that_is_off_is_told_of_series_and_volume_alike(
    phantoms: dict[str, Phantom], tmp_path: Path, series_folder: Callable[..., Path]
) -> None:
    """Catches air at -900 HU that one format tells and the other does not."""
    phantom = phantoms["anisotropic"]
    moved = replace(phantom, hu=phantom.hu + 100)
    (told,) = only(save(tmp_path / "scan.nii", moved)).doubts
    assert re.match(r"off the scale of HU: air lies at -(89|90)\d", told)
    assert only(series_folder(moved)).doubts == (told,)
    assert only(save(tmp_path / "plain.nii", phantom)).doubts == only(series_folder(phantom, "plain")).doubts == ()


def rescaled(folder: Path, slope: float, intercept: float, values_too: bool) -> Path:
    """One slice with a rescale of its own, to which its values were fitted or not."""
    path = sorted(folder.iterdir())[2]
    dataset = pydicom.dcmread(path)
    old = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if values_too:
        hu = dataset.pixel_array * old[0] + old[1]
        dataset.PixelData = np.rint((hu - old[1] - intercept) / (old[0] * slope)).astype("<i2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{old[0] * slope:g}", f"{old[1] + intercept:g}"
    dataset.save_as(path)
    return folder


@pytest.mark.parametrize(("slope", "intercept"), [(1, 24), (1, -60), (1, 124), (0.9, 0), (1.1, 0), (2, 0), (0.5, 100)])
@pytest.mark.parametrize("values_too", [True, False])
def test_one_slice_of_another_scale_is_compared_with_its_neighbours(
    series_folder: Callable[..., Path], phantoms: dict[str, Phantom], slope: float, intercept: float, values_too: bool
) -> None:
    """Catches one slice whose intercept or slope is wrong, and a refusal of slices that have rescales of their own."""
    folder = rescaled(series_folder(phantoms["anisotropic"]), slope, intercept, values_too)
    found = find_images(folder)
    if values_too:
        np.testing.assert_allclose(volume_of(found.series[0]), phantoms["anisotropic"].hu, atol=2)
        assert found.series[0].doubts == ()
        return
    assert not found.series
    assert "one of the two is wrong" in str(found.refused[0]) or "no CT in HU" in str(found.refused[0])


def test_a_file_that_may_not_be_read_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches "export it again" where the file is sound and only its permissions are not."""
    path = tmp_path / "scan.nii"
    path.write_bytes(b"x" * 400)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match="no permission to read it"):
        find_images(path)


def broken(path: Path, phantom: Phantom, kind: str) -> Path:
    """A volume with one fault."""
    save(path, phantom)
    image = nib.load(path)
    values, affine = np.array(image.dataobj), image.affine.copy()
    if kind == "grey values":
        values = ((values.clip(-200, 300) + 200) // 2).astype(np.uint8)
    if kind == "four dimensions":
        values = np.stack([values, values], axis=-1)
    if kind == "colours":
        values = np.zeros(values.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    new = nib.Nifti1Image(values, affine)
    if kind == "no affine":
        new.set_sform(None, code=0)
        new.set_qform(None, code=0)
    if kind == "contradiction":
        new.set_sform(affine, code=1)
        new.set_qform(affine @ np.diag([-1, 1, 1, 1]), code=1)
    if kind == "sheared in the plane":
        affine[:3, 0] += 0.2 * affine[:3, 1]
        new.set_sform(affine, code=1)
        new.set_qform(None, code=0)
    nib.save(new, path)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("grey values", "no CT in HU"),
        ("four dimensions", "one slice or one volume"),
        ("colours", "colours"),
        ("no affine", "does not say how it lies"),
        ("contradiction", "sform and qform"),
        ("sheared in the plane", "right angles"),
    ],
)
def test_a_volume_that_cannot_be_trusted_is_refused(
    phantoms: dict[str, Phantom], tmp_path: Path, kind: str, says: str
) -> None:
    """Catches a mask in the wrong place, or from pixels that are no HU, without a word."""
    path = broken(tmp_path / "scan.nii.gz", phantoms["anisotropic"], kind)
    with pytest.raises((InputError, GeometryError), match=says) as caught:
        find_images(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("read", [find_images, read_label_map])
def test_a_header_that_claims_too_much_takes_no_memory(
    phantoms: dict[str, Phantom], tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """Catches a few damaged bytes that ask for terabytes."""
    path = save(tmp_path / "scan.nii", phantoms["anisotropic"])
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="claims to hold 32000 x 32000 x 32000"):
        read(path)


def test_only_axial_series_are_predicted(
    turned_phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches coronal and sagittal series that go through a network which knows axial slices only."""
    for geometry in ("coronal", "sagittal"):
        found = find_images(series_folder(turned_phantoms[geometry], name=geometry))
        assert not found.series
        assert geometry in str(found.refused[0])
    for geometry in ("feet first", "prone"):
        assert find_images(series_folder(turned_phantoms[geometry], name=geometry)).series


@pytest.mark.parametrize("path", ["x" * 300, "/".join(["long"] * 2000)])
def test_a_path_that_no_system_takes_is_told(path: str) -> None:
    """Catches a traceback for a name that is too long to be one."""
    with pytest.raises(InputError, match=r"cannot be read \(File name too long\); check the path"):
        find_images(Path(path))
