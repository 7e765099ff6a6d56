"""A label map in memory, and how it is laid over slices by their place in the patient."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import GeometryError
from sarco.scan.geometry import GRID_TOLERANCE_VOXELS, Affine, find_plane, spacing_mm, take_plane
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID
from sarco.scan.series import Series

_HIGHEST_NUMBERING = 126  # label sets are numbered from 1; the largest in common use (TotalSegmentator) ends at 117
_MOST_GREYS = 5  # structures that a picture is likely to tell apart, 255 among them


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

    @property
    def held(self) -> set[int]:
        """The ids that it holds; counted plane by plane, because counting takes eight bytes a voxel."""
        planes = (self.ids[:, :, plane].ravel() for plane in range(self.ids.shape[2]))
        return {int(label_id) for plane in planes for label_id in np.flatnonzero(np.bincount(plane, minlength=256))}

    @property
    def is_unseen_in_part(self) -> bool:
        """Whether 255 stands beside other values within planes, whichever way these run."""
        unseen = self.ids == IGNORE_ID
        others = ((1, 2), (0, 2), (0, 1))
        return all((unseen.any(axis=axes) & ~unseen.all(axis=axes)).any() for axes in others)

    def fault_of_255(self, named: Collection[int] = ()) -> str:
        """Why 255 is a structure here rather than "nobody looked"; empty where nothing speaks for it.

        Pictures and masks of other programs have 255 for what they mark, and greys for what they mark besides. Sparse
        labels are 255 on whole planes, and ids that somebody named were meant.

        Args:
            named: ids that have a name.
        """
        held = self.held
        others = held - {BACKGROUND_ID, IGNORE_ID}
        if IGNORE_ID in named or (others and not _are_greys(others - set(named))) or not self.is_unseen_in_part:
            return ""
        if not others:
            return (
                'holds no label but 255, which means "nobody looked"; is this a mask of 0/255? If so, save it with 1 '
                "instead of 255"
            )
        greys = ", ".join(map(str, sorted(others)[:_MOST_GREYS])) + (", ..." if len(others) > _MOST_GREYS else "")
        return (
            f'holds {greys} beside 255, which means "nobody looked"; are these greys of a picture? If so, save it with '
            "1, 2, ... instead; if not, name them in labels.json"
        )

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

    def labelled_planes_beyond(self, slices: Sequence[tuple[Affine, tuple[int, int]]]) -> int:
        """How many planes hold labels that none of some slices covers.

        Args:
            slices: ``affine_lps`` and (rows, columns) of each.

        Raises:
            GeometryError: the label map does not lie on the grid of one of them.
        """
        if self.affine_lps is None:
            raise GeometryError("the label map has no usable affine")
        rows, columns, planes = self.ids.shape
        found = [find_plane(self.affine_lps, (rows, columns, planes), affine, shape) for affine, shape in slices]
        across = found[0][0]
        covered = {index for _, index, _ in found}
        along = np.moveaxis(self.ids, across, 0)
        rest = (along[index] for index in range(len(along)) if index not in covered)
        return sum(bool(((plane != BACKGROUND_ID) & (plane != IGNORE_ID)).any()) for plane in rest)

    def assume_ras(self, grid_affine: ArrayLike, grid_shape: tuple[int, int, int]) -> "LabelMap":
        """The label map laid over a grid as a file without a usable affine is: its axes count as RAS.

        Args:
            grid_affine: ``affine_lps`` of the image.
            grid_shape: (rows, columns, planes) of the image.
        """
        return replace(self, affine_lps=_affine_of_ras_array(grid_affine, grid_shape))


def _are_greys(ids: Iterable[int]) -> bool:
    """Whether ids beside 255 are shades, not numbers that somebody gave: high, or steps of a scale that ends at 255."""
    scales = [[step * IGNORE_ID / count for step in range(1, count)] for count in range(2, _MOST_GREYS + 1)]
    ids = list(ids)
    if max(ids, default=0) > _HIGHEST_NUMBERING:
        return True
    return bool(ids) and any(all(min(abs(i - grey) for grey in scale) < 1 for i in ids) for scale in scales)


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


def compare_steps(label_map: LabelMap, series: Series) -> str:
    """The end of a message: by how much the distances of planes differ; empty where they do not."""
    if label_map.affine_lps is None or series.n_planes == 1:
        return ""
    axes = label_map.affine_lps[:3, :3] / np.array(spacing_mm(label_map.affine_lps))
    axis = int(np.abs(axes.T @ series.affine_lps[:3, 2]).argmax())
    label_mm, scan_mm = spacing_mm(label_map.affine_lps)[axis], spacing_mm(series.affine_lps)[2]
    off = abs(label_mm - scan_mm) * (series.n_planes - 1)
    if label_map.ids.shape[axis] == 1 or off <= GRID_TOLERANCE_VOXELS * scan_mm:
        return ""
    return f" (planes of the label map are {label_mm:.4g} mm apart, slices of the scan {scan_mm:.4g} mm)"


def lay_over(label_map: LabelMap, series: Series) -> tuple[dict[int, NDArray[np.uint8]], int]:
    """The label map on the slices of a series, found by their place in the patient; it may cover only some.

    Returns:
        (row, column) label ids by plane, and how many labelled voxels lie on no slice of the series.

    Raises:
        GeometryError: it lies on no slice at all; names both files.
    """
    if label_map.affine_lps is None:
        label_map = label_map.assume_ras(series.affine_lps, series.shape)
    planes: dict[int, NDArray[np.uint8]] = {}
    faults: list[GeometryError] = []
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        try:
            planes[plane] = label_map.on_slice(series.plane_affine_lps(plane), header.shape, header.path)
        except GeometryError as error:
            faults.append(error)
    if not planes:
        raise GeometryError(f"{faults[0]}{compare_steps(label_map, series)}")
    on_slices = sum(int(np.count_nonzero(ids)) for ids in planes.values())
    return planes, int(np.count_nonzero(label_map.ids)) - on_slices
