"""What no person's size is: spacing in cm or metres, or with its point lost."""

import pytest

from sarco.core.errors import InputError
from sarco.scan.person import check_field_of_view, describe_misfit


@pytest.mark.parametrize("factor", [0.1, 0.001, 10, 1000, 100])
@pytest.mark.parametrize(("shape", "spacing"), [((512, 512), 0.78), ((512, 512), 0.976), ((96, 120), 3.0)])
def test_other_units_are_refused(shape: tuple[int, int], spacing: float, factor: float) -> None:
    """Catches spacing in cm, in metres, and times ten; what is in mm passes."""
    check_field_of_view("x.dcm", shape, (spacing, spacing))
    with pytest.raises(InputError, match=r"x\.dcm: the picture is .* not in mm"):
        check_field_of_view("x.dcm", shape, (spacing * factor, spacing * factor))


@pytest.mark.parametrize(
    ("width", "depth", "area", "says"),
    [
        (380, 250, 740, ""),
        (95, 80, 60, ""),  # a newborn child
        (780, 520, 3200, ""),  # fills the bore
        (38, 25, 7.4, "38 mm wide"),
        (3800, 2500, 74000, "mm wide"),
        (380, 25, 74, "25 mm deep"),
        (380, 250, 7400, "cm2 in area"),
    ],
)
def test_bodies_of_no_person_are_told(width: float, depth: float, area: float, says: str) -> None:
    """Catches a verdict on a body ten times too small or large, and a child or a large patient who is doubted."""
    assert says in describe_misfit(width, depth, area)
    assert bool(describe_misfit(width, depth, area)) == bool(says)
