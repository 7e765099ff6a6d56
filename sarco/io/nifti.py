"""The only module that opens or writes NIfTI, and the only place where (column, row, slice) and RAS appear."""

import gzip
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.files import atomic_file
from sarco.io.nifti_file import StoredValues, check_volume, open_stored, unit_of, usable_affine_lps
from sarco.scan.geometry import GRID_TOLERANCE_VOXELS, Affine, lps_to_ras, ras_to_lps, swap_rows_and_columns
from sarco.scan.hu import AIR_HU
from sarco.scan.label_map import LabelMap
from sarco.scan.series import pick_evenly

SUFFIXES = (".nii.gz", ".nii")
# Names as data sets in common use have them: ct (TotalSegmentator), image (SAROS), imaging beside segmentation (KiTS),
# CASE_0000 in imagesTr beside CASE in labelsTr (nnU-Net v2).
IMAGE_NAMES = ("ct", "image", "img", "imaging", "scan", "volume")
LABEL_NAMES = ("label", "labels", "seg", "segmentation", "mask", "label_map", "labelmap")
MASK_FOLDERS = ("segmentations", "labelstr", "labelsts")  # in small letters
_OTHER_LABELS = ("body-regions", "body-parts", "label_map_predicted")
_CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's number of a channel
_IMAGE_ENDING = re.compile(rf"[_-](?:{'|'.join(IMAGE_NAMES)})$", re.IGNORECASE)
_LABEL_ENDING = re.compile(rf"[_-](?:{'|'.join(LABEL_NAMES)})$", re.IGNORECASE)
_LABEL_TOLERANCE = 1e-3  # of a whole number: scl_slope and float32 round
_SMALLEST_STEP_MM, _LARGEST_LENGTH_MM = 1e-4, 1e5  # beyond lies damage, not patients
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_PLANES_LOOKED_AT = 16  # of a volume, to see whether it is in HU


def is_nifti(path: Path) -> bool:
    """Whether the file name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def nifti_stem(path: Path) -> str:
    """The file name without ``.nii`` or ``.nii.gz``."""
    name = path.name
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def scan_name(path: Path) -> str:
    """The name of the case that a NIfTI volume is the scan of: what its patient goes by.

    It is the file's name without what only says that it is an image; where nothing is left, that of its folder.

    >>> scan_name(Path("set/s0011/ct.nii.gz")), scan_name(Path("imagesTr/P7_0000.nii.gz")), scan_name(Path("P7.nii"))
    ('s0011', 'P7', 'P7')
    """
    stem = nifti_stem(path)
    if stem.lower() in IMAGE_NAMES:
        return path.absolute().parent.name or stem
    return _IMAGE_ENDING.sub("", without_channel(stem))


def without_channel(stem: str) -> str:
    """A name without nnU-Net's number of a channel."""
    return _CHANNEL.sub("", stem)


def label_case(stem: str) -> str:
    """The name of a case by that of a label map which lies beside its image; empty where the name says no such thing.

    >>> label_case("P7_label"), label_case("P7")
    ('P7', '')
    """
    return _LABEL_ENDING.sub("", stem) if _LABEL_ENDING.search(stem) else ""


def is_label_by_name(path: Path) -> bool:
    """Whether a NIfTI file is a label map by its name, its folder, or by a scan of the same name beside it."""
    stem = nifti_stem(path)
    if stem.lower() in (*LABEL_NAMES, *_OTHER_LABELS) or label_case(stem):
        return True
    beside = path.with_name(stem)
    return path.parent.name.lower() in MASK_FOLDERS or beside.is_dir() or beside.with_name(f"{stem}.dcm").is_file()


def results_name(path: Path) -> str:
    """The name of a scan for the folder of its results: with that of its folder where many scans are called so."""
    resolved = path.resolve()
    if is_nifti(resolved):
        stem = nifti_stem(resolved)
        return f"{resolved.parent.name}_{stem}" if stem.lower() in IMAGE_NAMES and resolved.parent.name else stem
    return resolved.stem if resolved.is_file() else resolved.name or "scan"


def read_label_map(path: Path) -> LabelMap:
    """Reads a label map: one slice or a volume.

    Raises:
        InputError: the file cannot be read, is no label map (fractions, negative or too large ids) or has more than
            three dimensions.
        GeometryError: its sform and its qform contradict each other.
    """
    stored = open_stored(path, "label map")
    check_volume(stored, "label map")
    affine = usable_affine_lps(path, stored.image)
    values = stored.read("label map")
    if values.dtype.kind not in "buif":
        raise InputError(f"{path}: holds colours or complex numbers, not label ids; is it an image?")
    if values.dtype == np.uint8 and stored.scaling == (1, 0):
        return LabelMap(values.transpose(1, 0, 2), affine, path)  # as they are: no second copy
    rows, columns, planes = values.shape[1], values.shape[0], values.shape[2]
    ids = np.empty((planes, rows, columns), dtype=np.uint8).transpose(1, 2, 0)  # plane after plane in memory
    for plane in range(planes):  # so that what is wider than a byte is never in memory twice
        ids[:, :, plane] = _ids_of(stored, values[:, :, plane]).T
    return LabelMap(ids, affine, path)


def _ids_of(stored: StoredValues, plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as label ids; what scaling in the file rounded is a whole number again."""
    values = stored.scaled(plane)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    with np.errstate(invalid="ignore"):  # NaN
        ids: NDArray[np.uint8] = whole.astype(np.uint8)
        fits = np.abs(values - ids) <= _LABEL_TOLERANCE if values.dtype.kind == "f" else ids == values
    if not fits.all():
        odd = values[np.unravel_index(int(fits.argmin()), fits.shape)]
        slope, intercept = stored.scaling
        scaling = f" (by scl_slope {slope:g} and scl_inter {intercept:g})" if (slope, intercept) != (1, 0) else ""
        raise InputError(
            f"{stored.path}: holds {odd:.9g}{scaling}, which is no label id (whole number 0..255); is it an image, or "
            "a map of probabilities? Save label ids"
        )
    return ids


@dataclass
class ImageVolume:
    """A CT volume in a NIfTI file, whose planes are read as they are asked for.

    The values of a packed file, or of one that is stored along another axis, are in memory once, as they are stored,
    from the first plane on; of other files only the plane that is asked for.

    Attributes:
        stored: the file.
        shape: (rows, columns, planes); planes run across the body.
        affine_lps: (row, column, plane, 1) to LPS mm.
        file_axes: for each axis of the file, which of (row, column, plane) it is.
    """

    stored: StoredValues
    shape: tuple[int, int, int]
    affine_lps: Affine
    file_axes: tuple[int, int, int]
    _values: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def is_turned(self) -> bool:
        """Whether the planes of the file are coronal or sagittal, so that those across the body are others."""
        return self.file_axes[2] != 2 and self.shape[2] > 1

    def read_plane(self, plane: int) -> NDArray[np.float32]:
        """HU of one plane, (row, column). NaN, which some programs write outside the field of view, counts as air.

        Raises:
            InputError: the file is damaged.
        """
        hu: NDArray[np.float32] = self.stored.scaled(self._stored_plane(plane)).astype(np.float32)
        return hu if np.isfinite(hu).all() else np.where(np.isfinite(hu), hu, np.float32(AIR_HU))

    def sample_planes(self) -> NDArray[np.float32]:
        """Planes, evenly spread, as (row, column, plane) HU: what shows whether the values are HU at all."""
        chosen = pick_evenly(range(self.shape[2]), _PLANES_LOOKED_AT)
        return np.stack([self.read_plane(plane) for plane in chosen], axis=-1)

    def _stored_plane(self, plane: int) -> NDArray[Any]:
        row, column, across = (self.file_axes.index(axis) for axis in range(3))
        if self._values is None and (self.stored.is_packed or across != 2):
            self._values = self.stored.read("image")
        values = self._values
        found = self.stored.read_plane(plane, "image") if values is None else np.moveaxis(values, across, 0)[plane]
        return np.ascontiguousarray(found.T if row > column else found)


def open_volume(path: Path) -> ImageVolume:
    """Opens a CT volume, whichever way its axes run; reads its header alone.

    Planes are taken along the file axis that lies closest to the patient's length.

    Raises:
        InputError: the file cannot be read, holds no single volume, or does not say how it lies in the patient.
        GeometryError: its sform and its qform contradict each other, or it is one slice that is coronal or sagittal.
    """
    stored = open_stored(path, "image")
    check_volume(stored, "image")
    if stored.image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: holds colours or complex numbers, not HU; give a CT volume in HU")
    affine = usable_affine_lps(path, stored.image)
    if affine is None:
        raise InputError(
            f"{path}: does not say how it lies in the patient (sform_code and qform_code are 0, or the affine is "
            "empty); convert the scan again with a tool that writes the affine, or give the DICOM series"
        )
    file_axes_affine = affine[:, [1, 0, 2, 3]] * _MM_PER_UNIT[unit_of(stored.image)]  # (i, j, k) of the file
    file_axes_affine[3, 3] = 1
    steps_mm = np.linalg.norm(file_axes_affine[:3, :3], axis=0)
    if steps_mm.min() < _SMALLEST_STEP_MM or np.abs(file_axes_affine).max() > _LARGEST_LENGTH_MM:
        raise InputError(
            f"{path}: no patient has voxels of {steps_mm.tolist()} mm or lies so far away; export it again"
        )
    if len(stored.image.shape) == 2:
        told = f"{path}: has two dimensions, so it may not know how thick its slice is; {steps_mm[2]:g} mm count"
        warnings.warn(told, DataWarning, 2)
    directions = np.abs(file_axes_affine[:3, :3]) / steps_mm
    plane = int(directions[2].argmax())
    lengths = stored.shape
    if 1 in lengths and lengths[plane] > 1:
        raise GeometryError(f"{path}: is one slice along the body, not across it; give axial slices")
    column, row = (axis for axis in range(3) if axis != plane)
    order = (row, column, plane)
    file_axes = tuple(order.index(axis) for axis in range(3))
    return ImageVolume(
        stored,
        (lengths[row], lengths[column], lengths[plane]),
        file_axes_affine[:, [*order, 3]],
        (file_axes[0], file_axes[1], file_axes[2]),
    )


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
    stored = open_stored(path, "image")
    affine = ras_to_lps(stored.image.affine)
    if stored.image.get_data_dtype().kind not in "buif":
        return [], affine
    values = stored.scaled(stored.read("image"))
    values = values.reshape(*values.shape[:3], -1)  # (column, row, slice, volume)
    return [values[..., index].astype(np.float32) for index in range(values.shape[3])], affine
