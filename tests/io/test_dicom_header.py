"""Headers: files of several frames, files without a preamble, and numbers that no scanner writes."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_parts import real_world
from turns import rotation

from sarco.core.errors import InputError, OtherKindError
from sarco.io.dicom import find_series, read_series
from sarco.io.dicom_header import inspect_file, read_dicom_headers
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.dicom_tags import is_dicom
from sarco.phantom.patient import Phantom, write_series
from sarco.scan.geometry import spacing_mm


@pytest.fixture
def enhanced_file(phantoms: dict[str, Phantom], tmp_path: Path) -> Callable[..., Path]:
    """A legacy converted enhanced CT of a phantom, made by highdicom, after `change` has had its way with it."""
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

    def write(change: Callable[[pydicom.Dataset], object] | None = None, geometry: str = "oblique") -> Path:
        files = write_series(phantoms[geometry], tmp_path / "slices", patient_id="P001", seed=3)
        slices = [pydicom.dcmread(path) for path in files]
        order = np.random.default_rng(0).permutation(len(slices))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = highdicom.legacy.LegacyConvertedEnhancedCTImage(
                [slices[i] for i in order],
                series_instance_uid=highdicom.UID(),
                series_number=2,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
            )
            if change:
                change(dataset)
            (tmp_path / "enhanced").mkdir()
            dataset.save_as(tmp_path / "enhanced" / "frames.dcm")
        return tmp_path / "enhanced" / "frames.dcm"

    return write


@pytest.mark.parametrize("geometry", ["anisotropic", "oblique"])
def test_frames_of_an_enhanced_file_are_slices(
    enhanced_file: Callable[..., Path], phantoms: dict[str, Phantom], geometry: str
) -> None:
    """Catches frames that are stacked in the order of the file, or that lose their place or their rescale."""
    path = enhanced_file(geometry=geometry)
    (series,) = find_series(path.parent).series
    phantom = phantoms[geometry]
    np.testing.assert_array_equal(read_series(series), phantom.hu)
    np.testing.assert_allclose(series.affine_lps, phantom.affine_lps, atol=1e-5)
    assert sorted(header.frame for header in series.slices) == list(range(phantom.hu.shape[2]))


def frame_group(change: Callable[[pydicom.Dataset, pydicom.Dataset], None]) -> Callable[[pydicom.Dataset], None]:
    """Gives the second frame a pixel value transformation of its own, and changes it and the groups of the frame."""

    def of(dataset: pydicom.Dataset) -> None:
        groups = dataset.PerFrameFunctionalGroupsSequence[1]
        own = copy.deepcopy(dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence)
        groups.PixelValueTransformationSequence = own
        change(groups, own[0])

    return of


def test_a_frame_may_have_its_own_rescale(enhanced_file: Callable[..., Path], phantoms: dict[str, Phantom]) -> None:
    """Catches the rescale of the first frame on all of them."""

    def raised_by_2(_: pydicom.Dataset, own: pydicom.Dataset) -> None:
        own.RescaleIntercept = float(own.RescaleIntercept) + 2

    path = enhanced_file(frame_group(raised_by_2))
    (series,) = find_series(path).series
    raised = [plane for header, plane in zip(series.slices, series.plane_index, strict=True) if header.frame == 1]
    difference = read_series(series) - phantoms["oblique"].hu
    assert [float(difference[..., plane].mean()) for plane in raised] == [2]
    assert np.count_nonzero(difference.any(axis=(0, 1))) == 1
    assert len({header.scale for header in series.slices}) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda groups, own: setattr(own, "RescaleType", "MGML"), "RescaleType is MGML"),
        (
            lambda groups, own: setattr(groups, "RealWorldValueMappingSequence", real_world("mg/mL")),
            "its unit is mg/mL",
        ),
        (lambda groups, own: setattr(groups, "RealWorldValueMappingSequence", real_world("s", "[hnsf'U]")), ""),
    ],
)
@pytest.mark.parametrize("has_frame_type", [True, False])
def test_each_frame_is_asked_for_its_unit(
    enhanced_file: Callable[..., Path],
    change: Callable[[pydicom.Dataset, pydicom.Dataset], None],
    says: str,
    has_frame_type: bool,
) -> None:
    """Catches a frame in mg/ml among frames in HU, in a file whose frames do not say their FrameType."""

    def change_all(dataset: pydicom.Dataset) -> None:
        frame_group(change)(dataset)
        for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
            if not has_frame_type and "CTImageFrameTypeSequence" in groups:
                del groups.CTImageFrameTypeSequence

    path = enhanced_file(change_all)
    if not says:
        assert len(read_dicom_headers(path)) > 1
        return
    with pytest.raises(OtherKindError, match=says):
        read_dicom_headers(path)


def drop_group(name: str, frame: int) -> Callable[[pydicom.Dataset], None]:
    """Removes a functional group of one frame."""
    return lambda dataset: delattr(dataset.PerFrameFunctionalGroupsSequence[frame], name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_group("PlanePositionSequence", 2), "ImagePositionPatient"),
        (lambda ds: setattr(ds, "NumberOfFrames", 10**9), "NumberOfFrames is 1000000000"),
        (lambda ds: setattr(ds, "NumberOfFrames", 4), "5 frames are described"),
        (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), "does not say where each lies"),
    ],
)
def test_a_damaged_enhanced_file_is_named(
    enhanced_file: Callable[..., Path], change: Callable[[pydicom.Dataset], object], says: str
) -> None:
    """Catches frames without a place, and a number of frames that takes all memory."""
    path = enhanced_file(change)
    with pytest.raises(InputError, match=says) as caught:
        find_series(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_preamble_is_read(slice_file: Callable[..., Path], tmp_path: Path) -> None:
    """Catches files of old programs, which begin with their first element, that count as no DICOM."""
    dataset = pydicom.dcmread(slice_file())
    expected = dataset.pixel_array
    del dataset.file_meta
    dataset.preamble = None
    bare = tmp_path / "bare.dcm"
    dataset.save_as(bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert bare.read_bytes()[:2] == b"\x08\x00"
    assert is_dicom(bare)
    (series,) = find_series(bare).series
    stored = (read_series(series)[..., 0] - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
    np.testing.assert_array_equal(stored, expected)


def test_what_a_refused_file_says_of_itself_is_kept(slice_file: Callable[..., Path]) -> None:
    """Catches a list of series that cannot say what it refused."""
    path = slice_file(lambda ds: setattr(ds, "Modality", "MR"))
    found = inspect_file(path)
    assert (found.modality, found.headers) == ("MR", ())
    assert found.series_uid
    assert "Modality is MR" in str(found.reason)
    with pytest.raises(InputError, match="Modality is MR"):
        read_dicom_headers(path)


@pytest.mark.parametrize(
    ("tag", "value"),
    [("PixelSpacing", [1e9, 1e9]), ("ImagePositionPatient", [0, 0, 1e12]), ("PixelSpacing", [1e-9, 1e-9])],
)
def test_lengths_that_no_scanner_writes_are_refused(slice_file: Callable[..., Path], tag: str, value: Any) -> None:
    """Catches a damaged number that becomes a volume of cubic kilometres."""
    with pytest.raises(InputError, match=tag):
        read_dicom_headers(slice_file(lambda ds: setattr(ds, tag, value)))


def test_spacing_keeps_its_value_beside_rounded_cosines(slice_file: Callable[..., Path]) -> None:
    """Catches 0.43101 mm for 0.431 mm, and two decimals that are found out after the whole prediction."""

    def turned(decimals: int) -> Path:
        turn = rotation(0.2, -0.1, 0.3)
        cosines = np.round([*turn[:, 0], *turn[:, 1]], decimals)
        return slice_file(lambda ds: setattr(ds, "ImageOrientationPatient", [f"{one:g}" for one in cosines]))

    plain = read_dicom_headers(slice_file())[0].spacing_mm
    for decimals in (3, 4, 6):
        (header,) = read_dicom_headers(turned(decimals))
        np.testing.assert_allclose(spacing_mm(header.affine_lps)[:2], plain, rtol=1e-9)
        assert read_dicom_hu(header).shape == header.shape  # the pixels' own header is compared with it
    with pytest.raises(InputError, match="two unit vectors at right angles; correct ImageOrientationPatient"):
        read_dicom_headers(turned(1))


@pytest.mark.parametrize("factor", [0.1, 0.001, 10])
def test_spacing_in_another_unit_is_refused(slice_file: Callable[..., Path], factor: float) -> None:
    """Catches an SMI of 0.4 or 3878 from spacing in cm, metres, or without its point."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.PixelSpacing = [f"{float(one) * factor:.8g}" for one in dataset.PixelSpacing]

    with pytest.raises(InputError, match="not in mm"):
        read_dicom_headers(slice_file(change))
