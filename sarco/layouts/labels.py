"""Where the labels of a case come from: a label map, mask files that are put together, or a DICOM segmentation."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.io.nifti import read_label_map
from sarco.scan.geometry import GRID_TOLERANCE_VOXELS
from sarco.scan.label_map import LabelMap
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID

MAP, MASK, SEG, UNION = "map", "mask", "seg", "union"
_N_IDS = 256


@dataclass(frozen=True)
class LabelFile:
    """A file with labels.

    Attributes:
        path: where it lies.
        kind: `MAP`, ids in NIfTI; `MASK`, one structure in NIfTI, whatever its values; `SEG`, a DICOM segmentation;
            `UNION`, ids in NIfTI of which several may make up a structure.
        names: what its ids are called, as far as somebody says so; a mask has the id 1.
        numbers: ids in the training that a ``labels.json`` above, or nnU-Net for its regions, gives names of structures
            without an id of their own.
        named_in: the file that says so; a file's own path where its name or its content does.
        is_complete: whether an id without a name is an error.
        ignored: an id that means "nobody looked", besides 255.
        to: for each id in the file the one in the training; None for the same.
    """

    path: Path
    kind: str = MAP
    names: tuple[tuple[int, str], ...] = ()
    numbers: tuple[tuple[int, str], ...] = ()
    named_in: Path | None = None
    is_complete: bool = False
    ignored: int | None = None
    to: bytes | None = None

    def renumbered(self, id_of: Mapping[int, int], other: int) -> "LabelFile":
        """The file with its ids as the training has them.

        Args:
            id_of: the id in the training for ids in the file.
            other: what all others are; 255 stays "nobody looked".
        """
        to = [id_of.get(label_id, other) for label_id in range(_N_IDS)]
        if self.kind == MASK:
            to = [other, *[id_of[1]] * (_N_IDS - 1)]
        else:
            to[IGNORE_ID] = IGNORE_ID
        if self.ignored is not None:
            to[self.ignored] = IGNORE_ID
        return replace(self, to=bytes(to))


@dataclass(frozen=True)
class LabelSource:
    """All that labels an image.

    Attributes:
        path: what stands for it: its file, or the folder of its files.
        files: in order; where two label one pixel, the later one counts.
        beyond: what a pixel is that none of them labels: background, or "nobody looked".
    """

    path: Path
    files: tuple[LabelFile, ...]
    beyond: int = BACKGROUND_ID

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""
        return tuple(file.path for file in self.files)

    @property
    def settings(self) -> list[object]:
        """What a label map depends on besides the content of its files."""
        return [self.beyond, *(list(file.to) if file.to else None for file in self.files)]

    def read(self) -> LabelMap | None:
        """The label map, its ids as the training has them; None where there is no file, so that all is `beyond`.

        Raises:
            InputError: a file cannot be read, or holds an id that its table does not name.
            GeometryError: two files lie on different grids.
        """
        parts = [part for file in self.files for part in _parts_of(file)] if len(self.files) == 1 else None
        if parts is not None and len(parts) == 1:
            return parts[0]
        return self._put_together(iter(parts) if parts is not None else self._all_parts())

    def _all_parts(self) -> Iterator[LabelMap]:
        for file in self.files:
            yield from _parts_of(file)

    def _put_together(self, parts: Iterator[LabelMap]) -> LabelMap | None:
        """One label map of several, one after the other in memory."""
        first = next(parts, None)
        if first is None:
            return None
        ids, unseen = first.ids.copy(), first.ids == IGNORE_ID
        ids[unseen] = BACKGROUND_ID
        overlap, pair = 0, (first.path, first.path)
        for part in parts:
            _check_grids(first, part)
            unseen |= part.ids == IGNORE_ID
            held = (part.ids != BACKGROUND_ID) & (part.ids != IGNORE_ID)
            if shared := int(np.count_nonzero(held & (ids != BACKGROUND_ID) & (ids != part.ids))):
                overlap, pair = overlap + shared, (pair[1], part.path)
            ids[held] = part.ids[held]
        if overlap:
            told = (
                f"{self.path}: {overlap} voxels are labelled twice, last in {pair[1].name}; the later structure counts"
            )
            warnings.warn(told, DataWarning, 4)
        ids[unseen & (ids == BACKGROUND_ID)] = IGNORE_ID
        if self.beyond:
            ids[ids == BACKGROUND_ID] = self.beyond
        return replace(first, ids=ids, path=self.path)


def plain_source(path: Path) -> LabelSource:
    """A label map whose ids mean what they are."""
    return LabelSource(path, (LabelFile(path),))


def _parts_of(file: LabelFile) -> Iterator[LabelMap]:
    """The label maps of a file, renumbered: one, or one a segment where segments of a DICOM segmentation overlap."""
    if file.kind == SEG:
        from sarco.pacs.read_seg import read_segments

        stored: Iterator[LabelMap] = read_segments(file.path)
    else:
        stored = iter([read_label_map(file.path)])
    for label_map in stored:
        if file.is_complete:
            _check_complete(file, label_map)
        yield label_map if file.to is None else replace(label_map, ids=_renumber(label_map.ids, file.to))


def _renumber(ids: NDArray[np.uint8], to: bytes) -> NDArray[np.uint8]:
    table = np.frombuffer(to, dtype=np.uint8)
    return table[ids]


def _check_complete(file: LabelFile, label_map: LabelMap) -> None:
    known = {BACKGROUND_ID, IGNORE_ID, file.ignored, *(label_id for label_id, _ in file.names)}
    if strange := sorted(label_map.held - known):
        raise InputError(
            f"{file.path}: holds label {strange[0]}, which {file.named_in} does not name; name it there, or correct "
            "the label map"
        )


def _check_grids(first: LabelMap, other: LabelMap) -> None:
    """Raises a `GeometryError` where two label maps of one case lie on different grids."""
    same = first.ids.shape == other.ids.shape and (first.affine_lps is None) == (other.affine_lps is None)
    if same and first.affine_lps is not None and other.affine_lps is not None:
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*first.ids.shape, 1)
        difference = np.linalg.inv(first.affine_lps) @ other.affine_lps - np.eye(4)
        same = float(np.abs(difference @ corners.T).max()) <= GRID_TOLERANCE_VOXELS
    if not same:
        raise GeometryError(
            f"{other.path} does not lie on the grid of {first.path}; export all masks of a case on one grid"
        )
