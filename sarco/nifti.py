"""The only module that opens or writes NIfTI, and the only place where (column, row, slice) and RAS appear."""

import gzip
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import ArrayLike, NDArray

from sarco.errors import GeometryError, InputError
from sarco.geometry import (
    GRID_TOLERANCE_VOXELS,
    Affine,
    find_plane,
    lps_to_ras,
    ras_to_lps,
    swap_rows_and_columns,
    take_plane,
)

SUFFIXES = (".nii.gz", ".nii")
# What nibabel raises on damaged files.
_READ_ERRORS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error)


def is_nifti(path: Path) -> bool:
    """Whether the file name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def nifti_stem(path: Path) -> str:
    """The file name without ``.nii`` or ``.nii.gz``."""
    name = path.name
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


@dataclass(frozen=True)
class LabelMap:
    """A label map as it lies in its file, in memory order.

    Attributes:
        ids: (row, column, slice) uint8 label ids.
        affine_lps: (row, column, slice, 1) to LPS mm; None where the file holds no usable affine.
        path: the file it came from, for messages.
    """

    ids: NDArray[np.uint8]
    affine_lps: Affine | None
    path: Path

    def on_slice(self, slice_affine: ArrayLike, shape: tuple[int, int], image: Path) -> NDArray[np.uint8]:
        """The label map on the grid of one image slice.

        Args:
            slice_affine: ``affine_lps`` of the slice.
            shape: (rows, columns) of the slice.
            image: the slice's file, for messages.

        Returns:
            (row, column) uint8 label ids.

        Raises:
            GeometryError: the label map does not lie on the slice's grid; names both files.
        """
        try:
            if self.affine_lps is None:
                raise GeometryError("the label map has no usable affine")
            rows, columns, planes = self.ids.shape
            return take_plane(self.ids, find_plane(self.affine_lps, (rows, columns, planes), slice_affine, shape))
        except GeometryError as error:
            raise GeometryError(
                f"{self.path} does not lie on {image}: {error}; draw or export the label map on this image's own grid"
            ) from None

    def assume_ras(self, grid_affine: ArrayLike, grid_shape: tuple[int, int, int]) -> "LabelMap":
        """The label map laid over a grid as a file without a usable affine is: its axes count as RAS.

        Args:
            grid_affine: ``affine_lps`` of the image.
            grid_shape: (rows, columns, planes) of the image.
        """
        return replace(self, affine_lps=_affine_of_ras_array(grid_affine, grid_shape))


def _affine_of_ras_array(grid_affine: ArrayLike, grid_shape: tuple[int, int, int]) -> Affine:
    """The affine, in memory order, of an array whose file axes run to the right, anterior and superior over a grid.

    Each file axis goes with the grid axis that lies closest to it. For a single plane the two in-plane axes come
    first and in this order, as programs write a lone slice.
    """
    grid = np.asarray(grid_affine, dtype=np.float64)
    axes = grid[:3, :3] / np.linalg.norm(grid[:3, :3], axis=0)
    world_axis = np.abs(axes).argmax(axis=0)
    is_plane = grid_shape[2] == 1
    by_file_axis = sorted(range(3), key=lambda axis: (is_plane and axis == 2, world_axis[axis]))
    affine = np.eye(4)
    affine[:3, 3] = grid[:3, 3]
    for file_axis, grid_axis in enumerate(by_file_axis):
        step = grid[:3, grid_axis]
        towards_ras = step[world_axis[grid_axis]] * (1 if world_axis[grid_axis] == 2 else -1)
        if towards_ras < 0:
            affine[:3, 3] += step * (grid_shape[grid_axis] - 1)
            step = -step
        affine[:3, (1, 0, 2)[file_axis]] = step  # files hold (column, row, slice), memory (row, column, slice)
    return affine


def read_label_map(path: Path) -> LabelMap:
    """Reads a label map: one slice or a volume.

    Raises:
        InputError: the file cannot be read, is no label map (fractions, negative or too large ids) or has more than
            three dimensions.
    """
    try:
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)
    except _READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as NIfTI ({reason}); export the label map again") from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.size == 0:
        raise InputError(f"{path}: has shape {values.shape}, but a label map is one slice or one volume")
    if values.dtype.kind not in "buif":
        raise InputError(f"{path}: holds colours or complex numbers, not label ids; is it an image?")
    with np.errstate(invalid="ignore"):  # NaN
        ids = values.astype(np.uint8)
    if not np.array_equal(ids, values):
        raise InputError(f"{path}: holds values that are no label ids (whole numbers 0..255); is it an image?")
    return LabelMap(np.ascontiguousarray(ids.transpose(1, 0, 2)), _usable_affine_lps(image), path)


def _usable_affine_lps(image: nib.Nifti1Image) -> Affine | None:
    header = image.header
    if not isinstance(header, nib.Nifti1Header) or (header["sform_code"] == 0 and header["qform_code"] == 0):
        return None
    affine_ras = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine_ras).all() or abs(np.linalg.det(affine_ras[:3, :3])) < 1e-9:
        return None
    return swap_rows_and_columns(ras_to_lps(affine_ras))


def write_label_map(path: Path, label_map: NDArray[np.uint8], affine_lps: ArrayLike) -> None:
    """Writes a label map as NIfTI-1, uint8, spatial unit mm, with sform and (where it can hold the grid) qform.

    A qform knows no shear, so a series with tilted gantry gets an sform alone. Shear that is mere rounding keeps its
    qform, because ITK reads only grids with right angles.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        label_map: (row, column, slice) uint8 label ids.
        affine_lps: (row, column, slice, 1) to LPS mm.
    """
    affine_ras = lps_to_ras(swap_rows_and_columns(affine_lps))
    image = nib.Nifti1Image(np.ascontiguousarray(label_map.transpose(1, 0, 2)), affine_ras)
    image.set_sform(affine_ras, code="scanner")
    image.set_qform(affine_ras, code="scanner")  # the nearest grid without shear
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*image.shape, 1)
    difference = np.linalg.inv(affine_ras) @ image.get_qform() - np.eye(4)
    if np.abs(difference @ corners.T).max() > GRID_TOLERANCE_VOXELS:
        image.set_qform(None, code="unknown")
    image.header.set_xyzt_units("mm")
    data = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, compresslevel=1, mtime=0)  # level 1: label maps are small; mtime: same in, same out
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)
    except _READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as NIfTI ({reason}); write the image again") from None
    if values.dtype.kind not in "buif":
        return [], ras_to_lps(image.affine)
    values = values.reshape(*values.shape[:3], *[1] * (3 - values.ndim), -1)  # (column, row, slice, volume)
    return [values[..., index].astype(np.float32) for index in range(values.shape[3])], ras_to_lps(image.affine)
