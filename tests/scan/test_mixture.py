"""Two scans in one stack: which groups of slices alternate, and which are the habit of a scanner."""

import doctest

import pytest

import sarco.scan.mixture
from sarco.scan.mixture import alternating, stretches


def test_doctests_hold() -> None:
    """Catches documentation that promises what the code does not do."""
    assert doctest.testmod(sarco.scan.mixture).failed == 0


@pytest.mark.parametrize(
    ("planes", "marks", "counts"),
    [
        (range(10), "ababababab", (5, 5)),
        (range(9), "abcabcabc", (3, 3, 3)),
        ((0, 2, 4, 5, 6, 7, 8, 9, 11, 13), "aaabababbb", (5, 5)),  # they overlap in part
        ((0, 1, 2, 3, 5, 6, 7), "ababbab", (3, 4)),  # a slice is missing
    ],
)
def test_scans_between_each_other_are_seen(planes: list[int], marks: str, counts: tuple[int, ...]) -> None:
    """Catches two phases that make one volume with half the step."""
    assert alternating(list(planes), marks) == counts


@pytest.mark.parametrize(
    "marks", ["aaaaa", "abcdefgh", "aabbccdd", "aaaabbbb", "aabbaabb", "aaabaaa", "aabbbbaa", "abcdabcd", "aaaaabab"]
)
def test_turns_of_one_scan_are_none(marks: str) -> None:
    """Catches a refusal of times that differ by slice, and of numbers that differ by turn of the table."""
    assert alternating(range(len(marks)), marks) == ()


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        ((1, 2, 3, 4, 5, 6), ()),
        ((6, 5, 4, 3, 2, 1), ()),
        ((3, 5, 1, 4, 2), ()),
        ((None,) * 6, ()),
        ((1, 4, 2, 5, 3, 6), (3, 3)),
        ((1, 6, 2, 5, 3, 4), (3, 3)),
        ((1, 4, 7, 2, 5, 8, 3, 6, 9), (3, 3, 3)),
    ],
)
def test_numbers_tell_scans_apart(numbers: tuple[int | None, ...], counts: tuple[int, ...]) -> None:
    """Catches two scans between each other that differ in nothing but the order of their numbers."""
    planes = range(len(numbers))
    assert alternating(planes, stretches(planes, numbers)) == counts
