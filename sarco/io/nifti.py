"""The only module that opens or writes NIfTI, and the only place where (column, row, slice) and RAS appear."""

import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.files import atomic_file
from sarco.core.messages import reason_of
from sarco.scan.geometry import (
    GRID_TOLERANCE_VOXELS,
    Affine,
    lps_to_ras,
    ras_to_lps,
    swap_rows_and_columns,
)
from sarco.scan.hu import AIR_HU, describe_no_hu
from sarco.scan.label_map import LabelMap

SUFFIXES = (".nii.gz", ".nii")
_MOST_VOXELS = 2**31  # 4 GB of 16 bits: what a damaged header claims is refused before memory is taken
_BEST_PACKING = 1100  # deflate makes at most 1032 bytes of one
_HEADER_BYTES, _SECOND_VERSION = 348, 540  # sizeof_hdr, which tells NIfTI-2 from NIfTI-1
_GZIP_MARK = b"\x1f\x8b"  # RFC 1952
_FORM_CODES = range(6)  # nifti1.h and nifti2.h: NIFTI_XFORM_*
_LABEL_TOLERANCE = 1e-3  # of a whole number: scl_slope and float32 round
_SMALLEST_STEP_MM, _LARGEST_LENGTH_MM = 1e-4, 1e5  # beyond lies damage, not patients
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
# What nibabel raises on damaged files.
_READ_ERRORS = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
    WrapStructError,
)


def is_nifti(path: Path) -> bool:
    """Whether the file name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def nifti_stem(path: Path) -> str:
    """The file name without ``.nii`` or ``.nii.gz``."""
    name = path.name
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def read_label_map(path: Path) -> LabelMap:
    """Reads a label map: one slice or a volume.

    Raises:
        InputError: the file cannot be read, is no label map (fractions, negative or too large ids) or has more than
            three dimensions.
        GeometryError: its sform and its qform contradict each other.
    """
    image, values = _load(path, "label map")
    affine = _usable_affine_lps(path, image)
    ids = np.ascontiguousarray(_ids_of(path, image, values).transpose(1, 0, 2))
    return LabelMap(ids, affine, path)


def _ids_of(path: Path, image: nib.Nifti1Image, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as label ids; what scaling in the file rounded is a whole number again."""
    if values.dtype.kind not in "buif":
        raise InputError(f"{path}: holds colours or complex numbers, not label ids; is it an image?")
    whole = np.rint(values) if values.dtype.kind == "f" else values
    with np.errstate(invalid="ignore"):  # NaN
        ids: NDArray[np.uint8] = whole.astype(np.uint8)
        fits = np.abs(values - ids) <= _LABEL_TOLERANCE if values.dtype.kind == "f" else ids == values
    if not fits.all():
        odd = values[np.unravel_index(int(fits.argmin()), fits.shape)]
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        scaling = f" (by scl_slope {slope:g} and scl_inter {intercept:g})" if (slope, intercept) != (1, 0) else ""
        raise InputError(
            f"{path}: holds {odd:.9g}{scaling}, which is no label id (whole number 0..255); is it an image?"
        )
    return ids


def _load(path: Path, what: str) -> tuple[nib.Nifti1Image, NDArray[Any]]:
    """A file with its values as an array of three dimensions, in the order of the file."""
    try:
        if not path.is_file():
            fault = "is a folder; give a NIfTI file in it" if path.is_dir() else "there is no such file; check the path"
            raise InputError(f"{path}: {fault}")
        with _quiet_nibabel():
            image, values = _read_whole(path)
    except PermissionError:
        raise InputError(f"{path}: you have no permission to read it; ask for it, or copy the file") from None
    except _READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({reason_of(error)}); export the {what} again") from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.size == 0:
        article = "an image" if what == "image" else f"a {what}"
        raise InputError(f"{path}: has shape {values.shape}, but {article} is one slice or one volume")
    return image, values


def _read_whole(path: Path) -> tuple[nib.Nifti1Image, NDArray[Any]]:
    """The file to its last byte, where the checksum of a packed one stands; nothing is mapped.

    A mapped file that somebody cuts short ends the process without a word. Whether it is packed its first bytes tell:
    programs and people give the wrong suffix.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MARK
    with gzip.open(path, "rb") if packed else open(path, "rb") as file:
        head = file.read(_SECOND_VERSION)  # long enough for either header
        file.seek(0)
        second = int.from_bytes(head[:4], "little") == _SECOND_VERSION or int.from_bytes(head[:4]) == _SECOND_VERSION
        image = (nib.Nifti2Image if second else nib.Nifti1Image).from_stream(file)
        n_bytes = math.prod(image.shape) * image.get_data_dtype().itemsize
        most = path.stat().st_size * (_BEST_PACKING if packed else 1)
        if math.prod(image.shape) > _MOST_VOXELS or n_bytes > most:
            raise ValueError(f"it claims to hold {' x '.join(map(str, image.shape))} voxels, but does not")
        values = np.asanyarray(image.dataobj)
        while file.read(2**20):
            pass
    for code in _form_codes(head, second):
        if code not in _FORM_CODES:  # nibabel would count it as 0, as if nobody had said how the file lies
            raise ValueError(f"its sform_code or qform_code is {code}, which NIfTI does not know")
    return image, values


def _form_codes(head: bytes, second: bool) -> tuple[int, ...]:
    """qform_code and sform_code as they stand in the header (nifti1.h, nifti2.h)."""
    version = _SECOND_VERSION if second else _HEADER_BYTES
    order = "<" if int.from_bytes(head[:4], "little") == version else ">"
    start, form = (344, "2i") if second else (252, "2h")
    return struct.unpack_from(f"{order}{form}", head, start)


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Damage is told in one line or does no harm: without nibabel's remarks and numpy's warnings about it."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


@dataclass(frozen=True)
class ImageVolume:
    """A CT volume from a NIfTI file, in memory order.

    Attributes:
        hu: (row, column, plane) Hounsfield units, of the kind that the file holds; planes run across the body.
        affine_lps: (row, column, plane, 1) to LPS mm.
        file_axes: for each axis of the file, which of (row, column, plane) it is.
    """

    hu: NDArray[Any]
    affine_lps: Affine
    file_axes: tuple[int, int, int]


def read_volume(path: Path) -> ImageVolume:
    """Reads a CT volume in HU, whichever way its axes run.

    Planes are taken along the file axis that lies closest to the patient's length. NaN, which some programs write
    outside the field of view, counts as air.

    Raises:
        InputError: the file cannot be read, holds no CT in HU, or does not say how it lies in the patient.
        GeometryError: its sform and its qform contradict each other, or it is one slice that is coronal or sagittal.
    """
    image, values = _load(path, "image")
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds colours or complex numbers, not HU; give a CT volume in HU")
    affine = _usable_affine_lps(path, image)
    if affine is None:
        raise InputError(
            f"{path}: does not say how it lies in the patient (sform_code and qform_code are 0, or the affine is "
            "empty); convert the scan again with a tool that writes the affine, or give the DICOM series"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, np.asarray(AIR_HU, values.dtype))
    if fault := describe_no_hu(values):
        raise InputError(f"{path}: {fault}; convert the scan with its rescale applied")
    file_axes_affine = affine[:, [1, 0, 2, 3]] * _MM_PER_UNIT[_unit(image)]  # (i, j, k) of the file
    file_axes_affine[3, 3] = 1
    steps_mm = np.linalg.norm(file_axes_affine[:3, :3], axis=0)
    if steps_mm.min() < _SMALLEST_STEP_MM or np.abs(file_axes_affine).max() > _LARGEST_LENGTH_MM:
        raise InputError(
            f"{path}: no patient has voxels of {steps_mm.tolist()} mm or lies so far away; export it again"
        )
    if len(image.shape) == 2:
        told = f"{path}: has two dimensions, so it may not know how thick its slice is; {steps_mm[2]:g} mm count"
        warnings.warn(told, DataWarning, 2)
    directions = np.abs(file_axes_affine[:3, :3]) / steps_mm
    plane = int(directions[2].argmax())
    if 1 in values.shape and values.shape[plane] > 1:
        raise GeometryError(f"{path}: is one slice along the body, not across it; give axial slices")
    column, row = (axis for axis in range(3) if axis != plane)
    order = (row, column, plane)
    file_axes = tuple(order.index(axis) for axis in range(3))
    return ImageVolume(
        np.ascontiguousarray(values.transpose(order)),
        file_axes_affine[:, [*order, 3]],
        (file_axes[0], file_axes[1], file_axes[2]),
    )


def _unit(image: nib.Nifti1Image) -> str:
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:  # a code that the standard does not know
        return "unknown"


def _check_forms_agree(path: Path, image: nib.Nifti1Image) -> None:
    """Programs differ in which of the two they believe, so a contradiction is a mask in the wrong place for some."""
    header = image.header
    if header["sform_code"] == 0 or header["qform_code"] == 0:
        return
    extents = np.array([*image.shape[:3], 0][:3])  # a file of two dimensions says nothing sure of a third
    try:
        with _quiet_nibabel():
            sform, qform = image.get_sform(), image.get_qform()
            difference = np.linalg.inv(sform) @ qform - np.eye(4)
    except (np.linalg.LinAlgError, HeaderDataError, ValueError):
        raise InputError(f"{path}: its sform or qform is damaged; export it again") from None
    with np.errstate(all="ignore"):  # infinities end as NaN, which is within no tolerance
        steps = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*extents, 1)
        drift = np.abs(difference[:3, :3] @ corners[:, :3].T).max()
        rounding = _rounding_of_qform(header) * np.max(extents * steps[0]) / steps[0].min()
        off = np.max([*np.abs(difference[:3, 3]), *(np.abs(steps[1] / steps[0] - 1) * extents), drift - rounding])
    if not off <= 2 * GRID_TOLERANCE_VOXELS:
        raise GeometryError(
            f"{path}: sform and qform place its voxels {off:.3g} voxels apart, so nobody can say where it lies; "
            "set both to the same affine"
        )


def _rounding_of_qform(header: nib.Nifti1Header) -> float:
    """By what angle, in rad, a qform may be turned because its quaternion is three float32 numbers.

    The fourth number is the root of what they leave to 1, so near half a turn, as scans in LPS have it, little is left
    of it; nibabel takes less than 3.6e-7 below the root for 0.
    """
    left = 1.0 - sum(float(header[f"quatern_{name}"]) ** 2 for name in "bcd")
    return 6e-7 / math.sqrt(max(left, 2e-7))


def _usable_affine_lps(path: Path, image: nib.Nifti1Image) -> Affine | None:
    """The affine, in memory order and the file's own unit; None where the file says that it has none.

    Raises:
        InputError: it has one, but that is damaged: nobody can say how the file lies, and a guess may mirror it.
        GeometryError: it has two that contradict each other.
    """
    header = image.header
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        return None
    affine_ras = np.asarray(image.affine, dtype=np.float64)
    turned = [float(header[name]) for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y")]
    if not affine_ras[:3, :3].any() and not (header["qform_code"] > 0 and any(turned)):
        return None  # zeros: declared, but never written
    steps = np.linalg.norm(affine_ras[:3, :3], axis=0)
    with np.errstate(all="ignore"):
        share = abs(np.linalg.det(affine_ras[:3, :3] / steps))  # of the volume of a voxel with right angles
    if not (np.abs(affine_ras).max() < 1e9 and steps.min() > 1e-9 and share > 1e-6):  # NaN is neither
        raise InputError(f"{path}: its affine is damaged, so nobody can say how it lies; export it again")
    _check_forms_agree(path, image)
    return swap_rows_and_columns(ras_to_lps(affine_ras))


def write_label_map(
    path: Path,
    label_map: NDArray[np.uint8],
    affine_lps: ArrayLike,
    file_axes: tuple[int, int, int] = (1, 0, 2),
) -> None:
    """Writes a label map as NIfTI-1, uint8, spatial unit mm, with sform and (where it can hold the grid) qform.

    A qform knows no shear, so a series with tilted gantry gets an sform alone. Shear that is mere rounding keeps its
    qform, because ITK reads only grids with right angles.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        label_map: (row, column, slice) uint8 label ids.
        affine_lps: (row, column, slice, 1) to LPS mm.
        file_axes: for each axis of the file, which of (row, column, slice) it is; that of the source image where it
            was a NIfTI file, so that the label map lies on its very grid.
    """
    affine_ras = lps_to_ras(np.asarray(affine_lps, dtype=np.float64)[:, [*file_axes, 3]])
    image = nib.Nifti1Image(np.asfortranarray(label_map.transpose(file_axes)), affine_ras)  # the order of the file
    image.set_sform(affine_ras, code="scanner")
    image.set_qform(affine_ras, code="scanner")  # the nearest grid without shear
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*image.shape, 1)
    difference = np.linalg.inv(affine_ras) @ image.get_qform() - np.eye(4)
    if np.abs(difference @ corners.T).max() > GRID_TOLERANCE_VOXELS:
        image.set_qform(None, code="unknown")
    image.header.set_xyzt_units("mm")
    with atomic_file(path) as file:
        if path.name.lower().endswith(".gz"):  # level 1: label maps are small; no name and time: same in, same out
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def write_volume(path: Path, hu: NDArray[np.float32], affine_lps: ArrayLike) -> None:
    """Writes an image as NIfTI-1, float32, spatial unit mm, with an sform, which can hold shear.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        hu: (row, column, slice) HU.
        affine_lps: (row, column, slice, 1) to LPS mm.
    """
    affine_ras = lps_to_ras(swap_rows_and_columns(affine_lps))
    image = nib.Nifti1Image(np.ascontiguousarray(hu.transpose(1, 0, 2)), affine_ras)
    image.set_sform(affine_ras, code="scanner")
    image.set_qform(None, code="unknown")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def read_volumes(path: Path) -> tuple[list[NDArray[np.float32]], Affine]:
    """Reads whatever image a program wrote, to compare it in world space.

    Returns:
        Each 3D volume of the file (one, unless it has a fourth axis) in the file's own index order (column, row,
        slice), and the affine from that order to LPS mm. Colours give no volume.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        image, values = _read_whole(path)
    except _READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({reason_of(error)}); write the image again") from None
    if values.dtype.kind not in "buif":
        return [], ras_to_lps(image.affine)
    values = values.reshape(*values.shape[:3], *[1] * (3 - values.ndim), -1)  # (column, row, slice, volume)
    return [values[..., index].astype(np.float32) for index in range(values.shape[3])], ras_to_lps(image.affine)
