"""Corrections drawn on a review page: read with suspicion, and laid over the label map that they were drawn on.

``corrections.json`` comes from a browser and perhaps from another machine, so nothing in it is taken on trust: it
changes pixels only where its hash names the very label map, and only to ids that the label table holds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import InputError
from sarco.core.files import UnfitError, demand
from sarco.review.pixels import label_map_digest, slice_digest
from sarco.scan.labels import BACKGROUND_ID, LabelTable

FORMAT_NAME, FORMAT_VERSION = "sarco corrections", 1
_LARGEST_FILE = 200_000_000  # bytes; a whole series drawn anew takes a few million
_LONGEST_NAME = 200


@dataclass(frozen=True)
class SliceCorrection:
    """What was changed in one slice.

    Attributes:
        slice_index: its plane in the series.
        runs: (N, 3) first pixel (row by row on the original grid), number of pixels, new id; ascending, apart.
        n_pixels: pixels by label id after the correction, as the page count_of them.
    """

    slice_index: int
    runs: NDArray[np.int64]
    n_pixels: dict[int, int]


@dataclass(frozen=True)
class Corrections:
    """A checked ``corrections.json``.

    Attributes:
        series_uid: of the scan.
        label_map_sha256: `sarco.review.pixels.label_map_digest` of the label map that was corrected.
        shape: (rows, columns, planes) of that label map.
        corrected_by: a name that somebody typed, or nothing.
        corrected_at: when it was saved, ISO 8601.
        checked_slices: planes that were looked at and found right.
        slices: the changes, in order of planes.
    """

    series_uid: str
    label_map_sha256: str
    shape: tuple[int, int, int]
    corrected_by: str
    corrected_at: str
    checked_slices: tuple[int, ...]
    slices: tuple[SliceCorrection, ...]

    @property
    def seen_slices(self) -> tuple[int, ...]:
        """Planes that a person stands for: changed or checked."""
        return tuple(sorted({*self.checked_slices, *(one.slice_index for one in self.slices)}))


def read_corrections(path: Path) -> Corrections:
    """Reads the file that a review page saved.

    Raises:
        InputError: it is no such file, or anything in it is not as a page writes it; says what.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path}: is larger than corrections can be; give the file that the review page saved")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the file that the page saved") from None
    except (ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise InputError(f"{path}: is no JSON ({reason}); save the corrections on the review page again") from None
    try:
        return _corrections_of(content)
    except UnfitError as unfit:
        raise InputError(f"{path}: {unfit}; save the corrections on the review page again") from None


def _corrections_of(content: Any) -> Corrections:
    demand(isinstance(content, dict) and content.get("format") == FORMAT_NAME, "holds no corrections of a review page")
    demand(
        content.get("version") == FORMAT_VERSION,
        f"is of version {str(content.get('version'))[:20]}, not {FORMAT_VERSION}",
    )
    for name in ("series_uid", "label_map_sha256", "corrected_by", "corrected_at"):
        demand(isinstance(content.get(name), str), f"{name} is no text")
        demand(len(content[name]) <= _LONGEST_NAME, f"{name} is longer than {_LONGEST_NAME} characters")
    try:
        datetime.fromisoformat(content["corrected_at"])
    except ValueError:
        raise UnfitError("corrected_at is no date") from None
    rows, columns, planes = _whole_numbers(content.get("shape"), "shape", 3)
    demand(min(rows, columns, planes) >= 1, "shape is not positive")
    checked = _whole_numbers(content.get("checked_slices"), "checked_slices")
    demand(all(0 <= plane < planes for plane in checked), "checked_slices lie outside the series")
    demand(isinstance(content.get("slices"), list), "slices is no list")
    slices = [_slice_of(entry, rows * columns, planes) for entry in content["slices"]]
    indices = [one.slice_index for one in slices]
    demand(len(set(indices)) == len(indices), "a slice occurs twice")
    return Corrections(
        series_uid=content["series_uid"],
        label_map_sha256=content["label_map_sha256"],
        shape=(rows, columns, planes),
        corrected_by="".join(character for character in content["corrected_by"] if character.isprintable()),
        corrected_at=content["corrected_at"],
        checked_slices=tuple(sorted(set(checked))),
        slices=tuple(sorted(slices, key=lambda one: one.slice_index)),
    )


def _slice_of(entry: Any, pixels: int, planes: int) -> SliceCorrection:
    demand(isinstance(entry, dict), "a slice is no object")
    (plane,) = _whole_numbers([entry.get("slice_index")], "slice_index")
    demand(0 <= plane < planes, f"slice {plane} lies outside the series")
    demand(isinstance(entry.get("runs"), list) and entry["runs"], f"slice {plane} holds no changes")
    runs = np.array([_whole_numbers(run, f"a run of slice {plane}", 3) for run in entry["runs"]], dtype=np.int64)
    ends = runs[:, 0] + runs[:, 1]
    demand(bool((runs[:, 0] >= 0).all() and (runs[:, 1] >= 1).all()), f"a run of slice {plane} is not positive")
    demand(bool((ends <= pixels).all()), f"a run of slice {plane} reaches beyond the slice")
    demand(bool((runs[1:, 0] >= ends[:-1]).all()), f"runs of slice {plane} overlap or are out of order")
    demand(isinstance(entry.get("n_pixels"), dict), f"slice {plane} holds no n_pixels")
    counts = {}
    for label_id, count in entry["n_pixels"].items():
        demand(label_id.isascii() and label_id.isdigit() and len(label_id) <= 3, "n_pixels names no label id")
        (counts[int(label_id)],) = _whole_numbers([count], "n_pixels")
    return SliceCorrection(plane, runs, counts)


def _whole_numbers(values: Any, name: str, count: int | None = None) -> list[int]:
    demand(isinstance(values, list) and count in (None, len(values)), f"{name} is not a list of whole numbers")
    fits = all(isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**40 for value in values)
    demand(fits, f"{name} is not a list of whole numbers")
    return list(values)


def correct_label_map(
    label_map: NDArray[np.uint8],
    planes: tuple[int, ...],
    labels: LabelTable,
    corrections: Corrections,
    path: Path,
) -> NDArray[np.uint8]:
    """The label map with the corrections laid over it; the one that was given stays as it is.

    Args:
        label_map: (row, column, plane) label ids.
        planes: those that hold a slice.
        labels: the ids that may be painted, besides the background.
        corrections: drawn on this label map.
        path: their file, for messages.

    Raises:
        InputError: they were drawn on another label map, paint an unknown id, or give other pixel counts than the
            page showed.
    """
    if corrections.shape != label_map.shape:
        raise InputError(
            f"{path}: was drawn on a label map of {corrections.shape}, this one is {label_map.shape}; apply it to the "
            "results that it was drawn on"
        )
    if corrections.label_map_sha256 != hash_of_label_map(label_map, planes):
        raise InputError(
            f"{path}: was drawn on another label map than lies here now (its hash differs); apply it to the results "
            "that it was drawn on, or draw it again on the new review page"
        )
    allowed = np.array([BACKGROUND_ID, *labels.ids])
    corrected = label_map.copy()
    for one in corrections.slices:
        if one.slice_index not in planes:
            raise InputError(f"{path}: slice {one.slice_index} is a gap of the series; save the corrections again")
        if unknown := sorted(set(one.runs[:, 2].tolist()) - set(allowed.tolist())):
            raise InputError(f"{path}: paints label id {unknown[0]}, which this label table lacks; save them again")
        flat = corrected[:, :, one.slice_index].ravel()  # a copy, row by row
        for start, length, label_id in one.runs.tolist():
            flat[start : start + length] = label_id
        counts = np.bincount(flat, minlength=256)
        if any(int(counts[label_id]) != one.n_pixels.get(label_id) for label_id in labels.ids):
            raise InputError(
                f"{path}: slice {one.slice_index} has other areas than the page showed; the file is damaged, save the "
                "corrections again"
            )
        corrected[:, :, one.slice_index] = flat.reshape(label_map.shape[:2])
    return corrected


def hash_of_label_map(label_map: NDArray[np.uint8], planes: tuple[int, ...]) -> str:
    """The hash that a review page of this label map carries.

    Args:
        label_map: (row, column, plane) label ids.
        planes: those that hold a slice.
    """
    rows, columns, n_planes = label_map.shape
    return label_map_digest(
        (rows, columns, n_planes), {plane: slice_digest(label_map[:, :, plane]) for plane in planes}
    )


def describe_changes(
    before: NDArray[np.uint8], after: NDArray[np.uint8], labels: LabelTable, corrections: Corrections
) -> dict[str, Any]:
    """Who corrected what, as ``prediction.json`` notes it.

    Args:
        before: (row, column, plane) label ids as they were drawn on.
        after: the same after the correction.
        labels: names of the ids.
        corrections: what was applied.
    """
    changed = before != after

    def pixels(which: NDArray[np.uint8]) -> Mapping[int, int]:
        return dict(enumerate(np.bincount(which[changed], minlength=256).tolist()))

    removed, added = pixels(before), pixels(after)
    return {
        "corrected_by": corrections.corrected_by,
        "corrected_at": corrections.corrected_at,
        "slices": [one.slice_index for one in corrections.slices],
        "checked_slices": list(corrections.checked_slices),
        "label_map_sha256_before": corrections.label_map_sha256,
        "labels": [
            {"id": label_id, "name": name, "pixels_added": added[label_id], "pixels_removed": removed[label_id]}
            for label_id, name in labels.names.items()
            if added[label_id] or removed[label_id]
        ],
    }
