"""Proof that a written label map lies on its scan: the file is read again, and compared with the slices' own headers.

Nothing of the way there is used on the way back. The file is taken apart by the NIfTI-1 standard itself, not with the
library that wrote it, and where a pixel has to lie is worked out for each slice from ImagePositionPatient,
ImageOrientationPatient and PixelSpacing (DICOM PS3.3 C.7.6.2.1.1), not from the affine of the series.
"""

import gzip
import struct
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError
from sarco.scan.geometry import GRID_TOLERANCE_VOXELS, spacing_mm
from sarco.scan.series import Series
from sarco.scan.stack import STRAY_MM, STRAY_SHARE

TOLERANCE_MM = 0.01  # of the file against the grid of the series; float32 affines of NIfTI keep 0.0001 mm
_HEADER_BYTES = 348


def prove_export(path: Path, series: Series, label_map: NDArray[np.uint8]) -> dict[str, float]:
    """Compares a written label map with the scan: place of every corner of every slice, orientation, ids, labels.

    Args:
        path: the NIfTI file.
        series: the scan.
        label_map: (row, column, plane) what had to be written.

    Returns:
        Largest errors: ``grid_mm`` of the file against the grid of the series, ``corner_mm`` against the headers of its
        slices, ``centroid_mm`` of a label, and ``volume_share`` of a voxel (relative).

    Raises:
        GeometryError: they differ; the file must not be used.
    """
    file_axis_of = [series.file_axes.index(axis) for axis in range(3)]  # row, column, plane
    try:
        ids, affines_lps = _read(path)
        ids = ids.transpose(file_axis_of)  # (row, column, plane)
    except (OSError, EOFError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise GeometryError(f"{path}: cannot be read again after writing ({error}); is the disk full?") from None
    affines_lps = [affine[:, [*file_axis_of, 3]] for affine in affines_lps]
    affine_lps = affines_lps[0]
    # Slice by slice here and below: a comparison of all at once would hold another array of that size.
    same = ids.shape == label_map.shape and all(
        np.array_equal(ids[:, :, plane], label_map[:, :, plane]) for plane in range(ids.shape[2])
    )
    if not same:
        raise GeometryError(f"{path}: holds other labels than were predicted; please report this")
    grid_mm, *qform_mm = (_grid_error_mm(series, affine) for affine in affines_lps)
    corner_mm = _corner_error_mm(series, affine_lps)
    centroid_mm, volume_share = _label_errors(series, ids, affine_lps)
    for what, found, limit in (
        ("grid corners", grid_mm, TOLERANCE_MM),
        ("corners by the qform", max(qform_mm, default=0.0), GRID_TOLERANCE_VOXELS * min(spacing_mm(affine_lps))),
        ("slice corners", corner_mm, _allowed_mm(series)),
        ("label centres", centroid_mm, _allowed_mm(series)),
        ("voxel volumes", volume_share, 1e-3),
    ):
        if not found <= limit:
            raise GeometryError(
                f"{path}: {what} differ from the scan by {found:.4g} (at most {limit:.4g}); please report this"
            )
    return {"grid_mm": grid_mm, "corner_mm": corner_mm, "centroid_mm": centroid_mm, "volume_share": volume_share}


def _read(path: Path) -> tuple[NDArray[np.uint8], list[NDArray[np.float64]]]:
    """Ids in the order of the file, and the affines of its indices to LPS mm: sform and, where there is one, qform.

    Source: the NIfTI-1 standard, nifti1.h, methods 3 and 2.
    """
    raw = path.read_bytes()
    data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    size, dims = struct.unpack_from("<i", data, 0)[0], struct.unpack_from("<8h", data, 40)
    datatype, offset = struct.unpack_from("<h", data, 70)[0], int(struct.unpack_from("<f", data, 108)[0])
    unit, (qform_code, sform_code) = data[123], struct.unpack_from("<2h", data, 252)
    if size != _HEADER_BYTES or data[344:348] != b"n+1\0" or datatype != 2 or unit & 7 != 2 or sform_code < 1:
        raise ValueError("no NIfTI-1 file of 8 bits in mm with an sform")
    affines_ras = [np.vstack([np.frombuffer(data, "<f4", 12, 280).reshape(3, 4), [0, 0, 0, 1]]).astype(np.float64)]
    if qform_code > 0:
        affines_ras.append(_qform(struct.unpack_from("<4f", data, 76), struct.unpack_from("<6f", data, 256)))
    shape = tuple(dims[1:4])
    ids = np.frombuffer(data, np.uint8, int(np.prod(shape)), offset).reshape(shape, order="F")
    return ids, [np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine for affine in affines_ras]


def _qform(pixdim: tuple[float, ...], quaternion: tuple[float, ...]) -> NDArray[np.float64]:
    """The affine to RAS mm of a unit quaternion (b, c, d), an offset, and pixdim (handedness, then spacings).

    Three float32 numbers hold a rotation near 180 degrees to about 0.0005, so a qform can be off by 0.2 mm.
    """
    b, c, d = quaternion[:3]
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    affine = np.eye(4)
    affine[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
        [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
        [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
    ]
    affine[:3, :3] *= (pixdim[1], pixdim[2], pixdim[3] * (-1.0 if pixdim[0] < 0 else 1.0))
    affine[:3, 3] = quaternion[3:]
    return affine


def _allowed_mm(series: Series) -> float:
    """Rounded positions of slices may stray from a regular grid by what `stack_slices` lets pass."""
    step_mm = float(np.linalg.norm(series.affine_lps[:3, 2]))
    stray = max(STRAY_MM, STRAY_SHARE * step_mm)
    return TOLERANCE_MM + (stray if len(series.slices) > 2 else 0.0)


def _grid_error_mm(series: Series, affine_lps: NDArray[np.float64]) -> float:
    """Largest distance of the grid's corners by the file and by the series."""
    corners = np.array([(*corner, 1.0) for corner in np.ndindex(2, 2, 2)]) * (*(n - 1 for n in series.shape), 1)
    return float(np.linalg.norm(corners @ (affine_lps - series.affine_lps).T, axis=1).max())


def _corner_error_mm(series: Series, affine_lps: NDArray[np.float64]) -> float:
    """Largest distance between where the file and where the slices' headers place the corners of the slices."""
    rows, columns = series.slices[0].shape
    largest = 0.0
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        along_row, along_column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
        for row in (0, rows - 1):
            for column in (0, columns - 1):
                expected = header.position + along_column * row * header.spacing_mm[0]
                expected = expected + along_row * column * header.spacing_mm[1]
                found = (affine_lps @ (row, column, plane, 1))[:3]
                largest = max(largest, float(np.linalg.norm(found - expected)))
    return largest


def _label_errors(series: Series, ids: NDArray[np.uint8], affine_lps: NDArray[np.float64]) -> tuple[float, float]:
    """Largest distance of a label's centroid, and largest relative difference of its volume, to the scan's."""
    sums: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    world: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    counts: Counter[int] = Counter()
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        rows, columns = (np.flatnonzero(ids[:, :, plane].any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            continue
        box = ids[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, plane]  # all that is labelled: saves time
        along_row, along_column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
        for i in np.flatnonzero(np.bincount(box[box > 0])).tolist():
            per_row, per_column = (np.count_nonzero(box == i, axis=axis) for axis in (1, 0))
            n = int(per_row.sum())
            row_sum = int(np.arange(rows[0], rows[-1] + 1) @ per_row)
            column_sum = int(np.arange(columns[0], columns[-1] + 1) @ per_column)
            counts[i] += n
            sums[i] += (row_sum, column_sum, plane * n)
            world[i] += n * np.array(header.position) + along_column * row_sum * header.spacing_mm[0]
            world[i] += along_row * column_sum * header.spacing_mm[1]
    centroid_mm = 0.0
    for i, total in sums.items():
        found = (affine_lps @ (*(total / counts[i]), 1))[:3]
        centroid_mm = max(centroid_mm, float(np.linalg.norm(found - world[i] / counts[i])))
    return centroid_mm, _volume_error(series, affine_lps)


def _volume_error(series: Series, affine_lps: NDArray[np.float64]) -> float:
    """Relative difference of a voxel's volume: by the headers: area of a pixel x distance of planes."""
    first, last = series.slices[0], series.slices[-1]
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    normal = normal / np.linalg.norm(normal)
    n_steps = series.plane_index[-1] - series.plane_index[0]
    between = (np.array(last.position) - np.array(first.position)) @ normal
    step_mm = abs(float(between)) / n_steps if n_steps else first.thickness_mm
    expected = first.spacing_mm[0] * first.spacing_mm[1] * step_mm
    return abs(abs(float(np.linalg.det(affine_lps[:3, :3]))) / expected - 1)
