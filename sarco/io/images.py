"""What can be predicted: DICOM series, or a NIfTI volume in HU; both come as `Series`, slice by slice."""

import hashlib
import os
from collections.abc import Container
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError, OtherKindError, SarcoError
from sarco.core.tree import look_below
from sarco.io.dicom import FoundSeries, find_series
from sarco.io.dicom_groups import ListedSeries
from sarco.io.dicom_header import read_dicom_headers
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.nifti import ImageVolume, is_label_by_name, is_nifti, open_volume, scan_name
from sarco.scan.geometry import plane_affine, slice_normal, unit_cosines
from sarco.scan.hu import OFF_SCALE, Scale, describe_difference, judge_scale
from sarco.scan.labels import IGNORE_ID
from sarco.scan.person import check_field_of_view
from sarco.scan.series import Series, SliceHeader, check_axial, pick_evenly
from sarco.scan.step import check_step

_LOOKED_AT = 3  # slices of a series, evenly spread
_MOST_LABELS = 128  # that a label map is likely to hold; grey values of a picture are 256


def find_images(path: Path, allow_gaps: bool = False, without: Container[Path] = ()) -> FoundSeries:
    """Finds every axial CT in a folder tree, DICOM series and NIfTI volumes, or the one that a file holds.

    Label maps among NIfTI files are passed over, by their names (`sarco.io.nifti`) or what they hold.

    Args:
        path: a folder, a DICOM file, or a NIfTI volume in HU.
        allow_gaps: cut series with uneven gaps into runs of equal steps instead of refusing them.
        without: NIfTI files of the tree that are not looked at.

    Raises:
        InputError: nothing there can be used; says why.
        GeometryError: the only series there cannot be used.
    """
    try:
        is_volume = path.is_file() and is_nifti(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if is_volume:
        return FoundSeries((_listed_volume(_checked_volume(path)),))
    volumes = _volumes_below(path, without) if path.is_dir() else ()
    try:
        found = find_series(path, allow_gaps)
    except InputError:
        if not volumes:
            raise
        found = FoundSeries(())
    return replace(found, listed=(*(_only_usable(one) for one in found.listed), *volumes))


def _volumes_below(folder: Path, without: Container[Path]) -> tuple[ListedSeries, ...]:
    """The NIfTI volumes of a folder tree that are images."""
    files = (file for file in look_below(folder).files if is_nifti(file) and file not in without)
    images = (file for file in files if not is_label_by_name(file))
    return tuple(filter(None, map(_volume_or_reason, images)))


def _volume_or_reason(path: Path) -> ListedSeries | None:
    """A NIfTI volume, or the reason why it cannot be predicted; None where it is no image but a label map."""
    try:
        if _are_label_ids(_open_volume(path).sample_planes()):
            return None
        return _listed_volume(_checked_volume(path))
    except SarcoError as error:
        return ListedSeries(path.name, "", "", "NIfTI", 1, (), error, ())


def _are_label_ids(values: NDArray[np.float32]) -> bool:
    """Whether values are those of a label map: few whole numbers of a byte, where a CT in HU has negative ones."""
    if values.min() < 0 or values.max() > IGNORE_ID:
        return False
    held = np.unique(values)
    return held.size <= _MOST_LABELS and bool((held == np.rint(held)).all())


def _listed_volume(series: Series) -> ListedSeries:
    (path,) = {header.path for header in series.slices}
    turned = ", planes of the file turned to axial ones" if _open_volume(path).is_turned else ""
    return ListedSeries(series.uid, f"{path.name}{turned}", "CT", "NIfTI", 1, (series,), None, ())


def _only_usable(one: ListedSeries) -> ListedSeries:
    """A series as it was listed, or the reason why it is not axial or its pixels cannot be used."""
    try:
        return replace(one, series=tuple(map(_look_at_pixels, one.series)))
    except SarcoError as error:
        return replace(one, series=(), reason=error)


def _look_at_pixels(series: Series) -> Series:
    """A series with what its pixels make doubtful; so what no slice can be read for is known at once.

    Raises:
        GeometryError: it is not axial.
        InputError: pixels cannot be read, are no HU, or those of a slice are on another scale than its neighbours.
    """
    check_axial(series.slices[0])
    places = pick_evenly(range(len(series.slices)), _LOOKED_AT)
    scale = judge_scale(np.stack([read_dicom_hu(series.slices[place]) for place in places]))
    _check_one_scale(series)
    first = series.slices[0]
    if not scale.doubt or any(doubt.startswith(OFF_SCALE) for doubt in series.doubts):
        return series
    return replace(series, slices=(replace(first, doubts=(*first.doubts, scale.doubt)), *series.slices[1:]))


def _check_one_scale(series: Series) -> None:
    """Slices may have scales of their own, as long as neighbours then show the same air and tissue."""
    for one, other in pairwise(series.slices):
        if one.scale == other.scale:
            continue
        difference = describe_difference(read_dicom_hu(one), read_dicom_hu(other))
        if difference:
            raise InputError(
                f"{other.name}: has another RescaleSlope or RescaleIntercept than {one.path.name}, and its "
                f"{difference} that of the other, so one of the two is wrong; export the series again"
            )


def read_hu(header: SliceHeader) -> NDArray[np.float32]:
    """The pixels of one slice, wherever it comes from: (row, column) Hounsfield units.

    Raises:
        InputError: they cannot be read, or are no HU; see `check_hu` and `sarco.io.dicom_pixels.read_dicom_hu`.
    """
    if is_nifti(header.path):
        check_hu(header.path)
        return _open_volume(header.path).read_plane(header.frame)
    return read_dicom_hu(header)


def read_headers(path: Path) -> tuple[SliceHeader, ...]:
    """The slices that a file holds, in the order of their ``frame``.

    Raises:
        InputError: it holds none that can be used.
    """
    return _checked_volume(path).slices if is_nifti(path) else read_dicom_headers(path)


def _open_volume(path: Path) -> ImageVolume:
    status = path.stat()
    return _open_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)  # planes of a volume are read one after the other
def _open_version(path: Path, mtime_ns: int, size: int) -> ImageVolume:
    return open_volume(path)


def describe_volume(path: Path) -> Series:
    """A NIfTI volume as a series whose slices are its planes; pixels are not read.

    Its UID is that of the file's place.

    Raises:
        InputError: as `sarco.io.nifti.open_volume`.
        GeometryError: its grid has no right angles, or steps that no scan has.
    """
    uid = f"nifti-{hashlib.blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()}"
    return _series_of_volume(path, uid, ())


def check_hu(path: Path) -> str:
    """Looks at planes of a NIfTI volume; gives why its values may be off the scale of HU, or nothing.

    Raises:
        OtherKindError: they are no HU.
        InputError: they cannot be read.
    """
    status = path.stat()
    scale = _scale_of_version(path, status.st_mtime_ns, status.st_size)
    if scale.fault:
        raise OtherKindError(f"{path}: {scale.fault}; convert the scan with its rescale applied")
    return scale.doubt


@lru_cache(maxsize=4096)  # it is asked for with every plane
def _scale_of_version(path: Path, mtime_ns: int, size: int) -> Scale:
    return judge_scale(_open_version(path, mtime_ns, size).sample_planes())


def _checked_volume(path: Path) -> Series:
    """A NIfTI volume whose pixels were looked at, under a UID by its content."""
    doubt = check_hu(path)
    with open(path, "rb") as file:
        uid = f"nifti-{hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()}"
    return _series_of_volume(path, uid, (doubt,) if doubt else ())


def _series_of_volume(path: Path, uid: str, doubts: tuple[str, ...]) -> Series:
    volume = _open_volume(path)
    affine = volume.affine_lps
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    orientation = tuple(np.concatenate([affine[:3, 1] / lengths[1], affine[:3, 0] / lengths[0]]).tolist())
    try:
        orientation = unit_cosines(orientation)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}; resample the image to a grid with right angles") from None
    step_mm = float(abs(affine[:3, 2] @ slice_normal(orientation)))
    rows, columns, n_planes = volume.shape
    check_field_of_view(str(path), (rows, columns), (float(lengths[0]), float(lengths[1])))
    try:
        check_step(step_mm, n_planes, n_planes, None)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None
    slices = tuple(
        SliceHeader(
            path=path,
            sop_uid="",
            series_uid=uid,
            study_uid="",
            patient_id=scan_name(path),
            shape=(rows, columns),
            spacing_mm=(float(lengths[0]), float(lengths[1])),
            orientation=orientation,
            position=tuple(plane_affine(affine, plane)[:3, 3].tolist()),
            thickness_mm=step_mm,
            description="",
            number=None,
            frame=plane,
            has_patient_id=False,
            doubts=doubts,
        )
        for plane in range(n_planes)
    )
    return Series(uid, slices, tuple(range(n_planes)), affine, n_planes, file_axes=volume.file_axes)
