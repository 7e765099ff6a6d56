"""Signs that what claims to be one stack of slices is two: groups of slices that alternate along the axis."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise

_FEWEST_SLICES = 3  # of a group, where there are more than two groups


def alternating(planes: Sequence[int], marks: Sequence[Hashable]) -> tuple[int, ...]:
    """How many slices each group has, where groups of one mark alternate along the axis.

    Two scans of one region lie so: each is regular by itself, and between its slices are those of the other. A scan
    that was made in turns of the table or of the tube is none: there neighbours are alike. Neither is one in which
    every slice has a mark of its own, such as its time.

    Args:
        planes: plane of each slice, ascending.
        marks: what each slice says, such as its AcquisitionNumber.

    Returns:
        The size of each group that alternates with another; empty where none do.

    >>> alternating(range(6), "ababab"), alternating(range(6), "aabbcc"), alternating(range(6), "abcdef")
    ((3, 3), (), ())
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for plane, mark in zip(planes, marks, strict=True):
        groups[mark].append(plane)
    fewest = 2 if len(groups) == 2 else _FEWEST_SLICES
    regular = {mark: lying for mark, lying in groups.items() if len(lying) >= fewest and _leaves_room(lying)}
    shared = [mark for mark in marks if mark in regular]
    blocks = Counter(mark for place, mark in enumerate(shared) if place == 0 or mark != shared[place - 1])
    mixed = [mark for mark, count in blocks.items() if count > 1]
    return tuple(len(groups[mark]) for mark in mixed) if len(mixed) > 1 else ()


def _leaves_room(planes: Sequence[int]) -> bool:
    """Whether planes are spaced evenly, but for slices that are missing, with at least one plane in between."""
    gaps = [upper - lower for lower, upper in pairwise(planes)]
    smallest = min(gaps)
    return smallest > 1 and all(gap % smallest == 0 for gap in gaps)


def stretches(planes: Sequence[int], numbers: Sequence[int | None]) -> list[Hashable]:
    """For each slice to which stretch it belongs, in which slices of growing number are equally far apart.

    Args:
        planes: plane of each slice, ascending.
        numbers: InstanceNumber of each; None where it is no whole number.

    >>> stretches((0, 1, 2, 3, 4, 5), (1, 11, 2, 12, 3, 13))
    [0, 1, 0, 1, 0, 1]
    """
    order = sorted(range(len(planes)), key=lambda place: (numbers[place] is None, numbers[place] or 0, place))
    belongs: list[Hashable] = [0] * len(planes)
    stretch, last = 0, 0
    for place, following in pairwise(order):
        step = planes[following] - planes[place]
        if last and step != last:
            stretch, step = stretch + 1, 0  # the first of a stretch has no step yet
        belongs[following] = stretch
        last = step
    return belongs
