"""The step of a series against what its slices say of it: positions in another unit, and slices that were left out."""

from collections.abc import Sequence

import numpy as np

from sarco.core.errors import GeometryError

_SMALLEST_STEP_MM = 0.08  # the finest that scanners reconstruct is 0.1
_LONGEST_MM = 2500.0  # tables move 2 m
_LARGEST_STEP_MM = 50.0  # where nothing is said of thickness
_SURE_RATIO = 80.0  # of step and thickness; nobody plans such slices, but metres and micrometres make them
_ODD_RATIO = 9.0  # slices of 1 mm every 10 mm are a protocol of lungs; centimetres make the same of a plain scan
_FEWEST_SLICES = 3  # two single slices of a protocol may lie anywhere
_SAME = 0.05  # share by which lengths that are meant to be the same may differ


def check_step(step_mm: float, n_slices: int, n_planes: int, thickness_mm: float | None) -> None:
    """Refuses a step that no scan of a person has.

    Args:
        step_mm: distance of neighbouring planes.
        n_slices: how many slices there are.
        n_planes: planes of their grid, gaps included.
        thickness_mm: what all of them say of their thickness; None where they say nothing, or differ.

    Raises:
        GeometryError: it is; positions are in another unit, probably.
    """
    if n_slices < 2:
        return
    length_mm = step_mm * (n_planes - 1)
    told = ""
    if step_mm < _SMALLEST_STEP_MM or length_mm > _LONGEST_MM:
        told = f"{n_slices} slices lie {step_mm:.3g} mm apart over {length_mm:.4g} mm, which no scan of a person has"
    elif thickness_mm and n_slices >= _FEWEST_SLICES and not 1 / _SURE_RATIO < step_mm / thickness_mm < _SURE_RATIO:
        told = f"{n_slices} slices of {thickness_mm:.3g} mm lie {step_mm:.3g} mm apart, which no scan of a person has"
    elif not thickness_mm and n_slices >= _FEWEST_SLICES and step_mm > _LARGEST_STEP_MM:
        told = f"{n_slices} slices lie {step_mm:.3g} mm apart, which no scan of a person has"
    if told:
        raise GeometryError(f"{told}; positions are in another unit than mm, or damaged: correct them")


def doubts_of_step(
    step_mm: float, thickness_mm: float | None, between_mm: float | None, numbers: Sequence[int | None]
) -> tuple[str, ...]:
    """Why the step may not be that of the scan, a line each.

    Overlapping slices and slices with gaps between them are no reason, and neither are numbers that leave some out.

    Args:
        step_mm: distance of neighbouring planes.
        thickness_mm: SliceThickness of all slices; None where they say nothing, or differ.
        between_mm: the same of SpacingBetweenSlices.
        numbers: InstanceNumber of each slice in order of position; None where it is no whole number.
    """
    if len(numbers) < _FEWEST_SLICES:
        return ()
    found = []
    ratio = step_mm / thickness_mm if thickness_mm else 1.0
    confirmed = ratio > 1 and between_mm is not None and _are_same(step_mm, between_mm)
    if not 1 / _ODD_RATIO < ratio < _ODD_RATIO and not confirmed:
        found.append(
            f"slices of {thickness_mm:.3g} mm lie {step_mm:.3g} mm apart: positions may be in another unit than mm"
        )
    by = _numbers_go_by(numbers)
    if by > 1 and any(length and _are_same(step_mm, by * length) for length in (between_mm, thickness_mm)):
        found.append(f"InstanceNumbers go by {by}, and so does the step: slices in between may be missing")
    return tuple(found)


def _are_same(one_mm: float, other_mm: float) -> bool:
    return abs(one_mm - other_mm) <= _SAME * other_mm


def _numbers_go_by(numbers: Sequence[int | None]) -> int:
    """By how much numbers grow or fall from each slice to the next; 0 where they do not keep to it."""
    known = [number for number in numbers if number is not None]
    steps = {abs(int(step)) for step in np.diff(np.array(known, dtype=object))}
    return steps.pop() if len(known) == len(numbers) and len(steps) == 1 else 0
