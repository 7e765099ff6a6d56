"""Which values can be HU at all: one rule for DICOM and NIfTI."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.scan.hu import describe_no_hu, holds_tissue


def a_slice(
    air: float = -1000, fat: float = -100, muscle: float = 50, padding: float | None = None
) -> NDArray[np.float32]:
    """A body in air, in a circle of padding if there is any."""
    row, column = np.ogrid[-1:1:64j, -1:1:64j]
    radius = np.hypot(row, column)
    hu = np.where(radius < 0.4, muscle, np.where(radius < 0.6, fat, air))
    if padding is not None:
        hu[radius > 1] = padding
    return hu.astype(np.float32)


@pytest.mark.parametrize("padding", [None, -2000, -3024])
def test_ct_is_ct_with_any_padding(padding: float | None) -> None:
    """Catches a rule that refuses what scanners write."""
    assert describe_no_hu(a_slice(padding=padding)) == ""
    assert describe_no_hu(a_slice(padding=padding).astype(np.int16)) == ""
    assert describe_no_hu(a_slice(air=-2000)) == ""  # cut out along the skin
    assert holds_tissue(a_slice(padding=padding))


@pytest.mark.parametrize("padding", [None, -2000, -3024])
def test_a_lost_intercept_is_seen_behind_padding(padding: float | None) -> None:
    """Catches values that are 1024 too high because somebody dropped the intercept, padding or not."""
    assert "no CT in HU" in describe_no_hu(a_slice(24, 924, 1074, padding))


def test_a_slice_of_grey_levels_is_none_in_hu() -> None:
    """Catches 8 bits, masks and values that were shifted to begin at 0."""
    for other in (a_slice(0, 120, 255), a_slice(0, 1, 1), a_slice(0, 900, 1050)):
        assert "no CT in HU" in describe_no_hu(other)


def test_an_intercept_that_counts_twice_leaves_no_tissue() -> None:
    """Catches values that are 1024 too low."""
    assert not holds_tissue(a_slice() - 1024)
    assert "no CT in HU" in describe_no_hu(a_slice() - 4000)
    assert "no CT in HU" in describe_no_hu(a_slice() * 100)
