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


@pytest.mark.parametrize("spacing", [(7.2, 0.05), (0.05, 7.2), (0.78, 7.8), (7.8, 0.78), (0.04, 0.2)])
def test_one_side_in_another_unit_is_refused(spacing: tuple[float, float]) -> None:
    """Catches a picture whose longer side is a person's, and whose other side is 3 mm."""
    check_field_of_view("x.dcm", (96, 120), (3.1, 3.4))
    check_field_of_view("x.dcm", (96, 512), (0.78, 0.78))  # cut around the muscles of the back
    with pytest.raises(InputError, match="correct it"):
        check_field_of_view("x.dcm", (60, 512) if spacing[0] < spacing[1] else (96, 120), spacing)


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
