"""The limits of quality flags: each says its unit and why it lies there, and agrees with what it refers to."""

from sarco.augmentation.draws import STRONG_SIZES
from sarco.quality.limits import LIMITS


def test_every_limit_says_its_unit_and_its_reason() -> None:
    """Catches a limit out of thin air."""
    for name, limit in LIMITS.items():
        assert limit.value > 0 and limit.unit and len(limit.reason) > 20, name
    assert {limit.unit for limit in LIMITS.values()} <= {"mm", "cm2", "1", "HU", "pieces", "spreads"}


def test_the_field_is_flagged_from_where_training_has_no_such_size() -> None:
    """Catches an augmentation that changed while the flag still speaks of the old sizes."""
    assert LIMITS["field_factor"].value == max(STRONG_SIZES)
