"""Which slice stands for the level of L3. There is no default: without an answer there is a reason, and no index."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sarco.core.errors import InputError, OptionError
from sarco.core.messages import count_of

NOT_GIVEN = "the L3 slice is unknown; give --l3, or --vertebrae with --l3_label"

LEVEL = "L3"  # the only one that there are cut-offs for

_INDEX, _UID = re.compile(r"\d+"), re.compile(r"\d+(\.\d+)+")
_TIE_MM = 1e-6


@dataclass(frozen=True)
class PlacedSlice:
    """A slice that can be chosen.

    Attributes:
        slice_index: its plane in the series.
        z_mm: z of its ImagePositionPatient.
        sop_uid: its SOPInstanceUID.
    """

    slice_index: int
    z_mm: float
    sop_uid: str


@dataclass(frozen=True)
class Level:
    """Where a vertebral level lies in a series, or why nobody knows.

    Attributes:
        name: the level, as files name it: `LEVEL`.
        slice_index: the slice that is measured; None where unknown.
        slices: all slices of the vertebra, ascending; that one slice where it was typed; empty where unknown.
        how: where the answer comes from.
        note: what to mind about it; often empty.
        why_not: why there is none; empty where there is one.
    """

    name: str
    slice_index: int | None
    slices: tuple[int, ...]
    how: str
    note: str
    why_not: str

    def to_builtins(self) -> dict[str, Any]:
        """The level as a JSON file holds it."""
        return {**vars(self), "slices": list(self.slices)}


def unknown_level(why_not: str = NOT_GIVEN) -> Level:
    """No slice, and the reason."""
    return Level(LEVEL, None, (), "", "", why_not)


def check_request(request: str) -> None:
    """Raises an `OptionError` unless the text has the form of an index, a z or a UID."""
    if not (_INDEX.fullmatch(request) or _UID.fullmatch(request) or _z_of(request) is not None):
        raise OptionError(f"--l3={request}: give a slice index such as 57, a position such as z=-412.5, or a UID")


def is_uid(request: str) -> bool:
    """Whether the text names a slice by its SOPInstanceUID."""
    return bool(_UID.fullmatch(request))


def choose_slice(request: str, slices: Sequence[PlacedSlice]) -> Level:
    """The slice that somebody named.

    Args:
        request: a slice index (from 0, as in measurements.csv), ``z=<mm>``, or a SOPInstanceUID.
        slices: those of the series; gaps are absent.

    Raises:
        OptionError: the request has none of these forms.
        InputError: no slice answers to it, or two do; says what there is.
    """
    check_request(request)
    if _INDEX.fullmatch(request):
        found = [one for one in slices if one.slice_index == int(request)]
        if not found:
            indices = [one.slice_index for one in slices]
            gap = "; a slice is missing there" if min(indices) <= int(request) <= max(indices) else ""
            raise InputError(f"--l3={request}: the slices of this series are {min(indices)} to {max(indices)}{gap}")
    elif _UID.fullmatch(request):
        found = [one for one in slices if one.sop_uid == request]
        if not found:
            raise InputError(f"--l3={request}: no slice of this series has this SOPInstanceUID; check both")
    else:
        found = [_nearest(_z_of(request) or 0.0, slices)]
    if len(found) > 1:
        raise InputError(f"--l3={request}: {len(found)} slices answer to it; give the slice index instead")
    return Level(LEVEL, found[0].slice_index, (found[0].slice_index,), f"--l3={request}", "", "")


def _z_of(request: str) -> float | None:
    match = re.fullmatch(r"z=([-+]?\d+(?:\.\d*)?)(?:mm)?", request)
    return float(match[1]) if match else None


def _nearest(z_mm: float, slices: Sequence[PlacedSlice]) -> PlacedSlice:
    """The slice at a z, at most half a step away from it."""
    by_z = sorted(slices, key=lambda one: one.z_mm)
    low, high = by_z[0].z_mm, by_z[-1].z_mm
    gaps = [above.z_mm - below.z_mm for below, above in pairwise(by_z)]
    if gaps and min(gaps) < _TIE_MM:
        raise InputError(f"--l3=z={z_mm:g}: several slices share a z in this series; give the slice index instead")
    first, *rest = sorted(by_z, key=lambda one: abs(one.z_mm - z_mm))
    reach = min(gaps) / 2 if gaps else 0.5
    if abs(first.z_mm - z_mm) > reach + _TIE_MM:
        raise InputError(
            f"--l3=z={z_mm:g}: no slice lies there; they go from z={low:g} to z={high:g} mm and the nearest is at "
            f"z={first.z_mm:g}"
        )
    if rest and abs(abs(rest[0].z_mm - z_mm) - abs(first.z_mm - z_mm)) < _TIE_MM:
        raise InputError(f"--l3=z={z_mm:g}: lies midway between z={first.z_mm:g} and z={rest[0].z_mm:g}; give one")
    return first


def find_vertebra(voxels_by_slice: Mapping[int, int], series_slices: Sequence[int], source: str) -> Level:
    """The middle slice of a vertebra, and all its slices.

    The middle is where half of the vertebra's voxels lie on either side: a stray voxel far away, or a long spinous
    process, moves it little.

    Args:
        voxels_by_slice: voxels with the vertebra's label by slice index; slices without any may be left out.
        series_slices: every slice index of the series.
        source: the label and its file, for messages.
    """
    counts = {index: count for index, count in sorted(voxels_by_slice.items()) if count > 0}
    if not counts:
        # An argmax of nothing is 0, and slice 0 would be measured in silence.
        return unknown_level(f"{source} marks no voxel of this series; check the label and the file")
    total, below, middle = sum(counts.values()), 0, next(iter(counts))
    for index, count in counts.items():
        middle, below = index, below + count
        if 2 * below >= total:
            break
    notes = []
    ends = {min(series_slices), max(series_slices)} & counts.keys()
    if ends and len(series_slices) > 1:
        notes.append(f"the vertebra reaches slice {sorted(ends)[0]}, where the series ends: its middle may be another")
    inside = [index for index in series_slices if min(counts) <= index <= max(counts)]
    if len(inside) > len(counts):
        notes.append(f"{count_of(len(inside) - len(counts), 'slice')} between its first and its last without any of it")
    return Level(LEVEL, middle, tuple(counts), f"middle of {source}", "; ".join(notes), "")
