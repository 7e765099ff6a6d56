"""The step of a series: what no scan has, and what a person should look at."""

import pytest

from sarco.core.errors import GeometryError
from sarco.scan.step import check_step, doubts_of_step

NUMBERS = [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("step_mm", "thickness_mm"),
    [(0.005, None), (0.06, 0.6), (5000.0, 5.0), (700.0, None), (0.5, 50.0), (0.05, 5.0), (100.0, 1.0), (90.0, None)],
)
def test_a_step_that_no_scan_has_is_refused(step_mm: float, thickness_mm: float | None) -> None:
    """Catches volumes that are a thousandth or a thousandfold, as of positions in metres or micrometres."""
    with pytest.raises(GeometryError, match="another unit than mm") as caught:
        check_step(step_mm, 5, 5, thickness_mm)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("step_mm", "n_slices", "thickness_mm"),
    [(0.1, 5, 0.2), (0.5, 4000, 0.6), (1.0, 5, 10.0), (10.0, 5, 1.0), (20.0, 30, 1.0), (500.0, 2, 5.0), (5.0, 1, 0.01)],
)
def test_thin_overlapping_and_sparse_slices_are_scans(step_mm: float, n_slices: int, thickness_mm: float) -> None:
    """Catches a refusal of finest slices, of overlapping ones, of lungs every 10 or 20 mm, and of two single slices."""
    check_step(step_mm, n_slices, n_slices, thickness_mm)


@pytest.mark.parametrize(
    ("step_mm", "thickness_mm", "between_mm", "numbers", "says"),
    [
        (0.5, 5.0, None, NUMBERS, "another unit"),
        (0.5, 5.0, 0.5, NUMBERS, "another unit"),
        (50.0, 5.0, None, NUMBERS, "another unit"),
        (10.0, 5.0, 5.0, [1, 3, 5, 7], "go by 2"),
        (10.0, None, 5.0, [9, 7, 5, 3], "go by 2"),
        (10.0, 5.0, None, [1, 3, 5, 7], "go by 2"),
        (7.5, 3.0, 2.5, [10, 13, 16], "go by 3"),
    ],
)
def test_a_step_beside_what_slices_say_is_told(
    step_mm: float, thickness_mm: float | None, between_mm: float | None, numbers: list[int | None], says: str
) -> None:
    """Catches a volume of a tenth, and one of every second slice, that nobody hears of."""
    (line,) = doubts_of_step(step_mm, thickness_mm, between_mm, numbers)
    assert says in line


@pytest.mark.parametrize(
    ("step_mm", "thickness_mm", "between_mm", "numbers"),
    [
        (5.0, 5.0, None, NUMBERS),
        (1.0, 5.0, None, NUMBERS),  # overlapping
        (10.0, 5.0, None, NUMBERS),  # with gaps between slices
        (10.0, 1.0, 10.0, NUMBERS),  # lungs
        (5.0, 5.0, 5.0, [1, 3, 5, 7]),  # numbers alone say nothing
        (5.0, 5.0, 99.0, NUMBERS),
        (10.0, 5.0, 5.0, [1, 3, 6, 7]),
        (10.0, 5.0, 5.0, [1, None, 5, 7]),
        (10.0, 5.0, 5.0, [7, 7, 7]),
        (10.0, 5.0, 5.0, [1, 3]),
        (5.0, None, None, NUMBERS),
    ],
)
def test_protocols_are_no_doubt(
    step_mm: float, thickness_mm: float | None, between_mm: float | None, numbers: list[int | None]
) -> None:
    """Catches a flag that every overlapping or sparse scan has, so that nobody reads it."""
    assert doubts_of_step(step_mm, thickness_mm, between_mm, numbers) == ()
