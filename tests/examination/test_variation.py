"""How numbers are drawn: within their range, as often as said, one draw independent of the next."""

import numpy as np
import pytest

from sarco.examination.scanner import SCANNER, ScannerDraw, draw_scanner
from sarco.examination.setting import SETTING, SettingDraw, draw_setting
from sarco.examination.variation import Variation, among, draw_all

TABLES = {"scanner": SCANNER, "setting": SETTING}


def test_half_the_ratios_lie_below_the_middle_ratio() -> None:
    """Catches a logarithmic range that is drawn evenly, and a chance that is not kept."""
    rng = np.random.default_rng(0)
    drawn = np.array([Variation(1, 100, chance=0.5, absent=-1, log=True).draw(rng) for _ in range(4000)])
    assert np.mean(drawn == -1) == pytest.approx(0.5, abs=0.03)
    assert np.mean(drawn[drawn > 0] < 10) == pytest.approx(0.5, abs=0.03)


def test_a_value_named_twice_is_twice_as_likely() -> None:
    """Catches a choice that skips its last value or drops repetitions."""
    rng = np.random.default_rng(0)
    drawn = [among(1, 1, 2).draw(rng) for _ in range(3000)]
    assert drawn.count(1) / drawn.count(2) == pytest.approx(2, abs=0.25)


def test_a_range_does_not_shift_the_next_draw() -> None:
    """Catches draws that use up more or fewer numbers by what came out: one new range would change all patients."""
    rare, sure = Variation(0, 1, chance=0.0), Variation(3, 4)
    for first in (rare, sure, among(1, 2, 3), Variation(1, 9, log=True)):
        second = draw_all({"first": first, "second": sure}, np.random.default_rng(5))["second"]
        assert second == draw_all({"first": rare, "second": sure}, np.random.default_rng(5))["second"]


@pytest.mark.parametrize("table", TABLES)
def test_draws_fill_their_ranges_and_do_not_leave_them(table: str) -> None:
    """Catches a range that is written down and never reached, or left."""
    rng = np.random.default_rng(0)
    drawn = [draw_all(TABLES[table], rng) for _ in range(3000)]
    for name, variation in TABLES[table].items():
        values = np.array([one[name] for one in drawn])
        there = values[values != variation.absent] if variation.chance < 1 else values
        assert there.min() >= variation.low
        assert there.max() <= variation.high
        assert len(there) / 3000 == pytest.approx(variation.chance, abs=0.2 if variation.among else 0.03), name
        if variation.among:
            assert set(there) == set(variation.among) - ({variation.absent} if variation.chance < 1 else set())
            continue
        low, high = np.quantile(there, (0.02, 0.98))
        ends = np.log([variation.low, variation.high]) if variation.log else (variation.low, variation.high)
        reach = np.log([low, high]) if variation.log else (low, high)
        assert reach[1] - reach[0] > 0.85 * (ends[1] - ends[0]), name


def test_the_same_state_draws_the_same() -> None:
    """Catches randomness from elsewhere."""
    for draw in (draw_scanner, draw_setting):
        assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
        assert draw(np.random.default_rng(3)) != draw(np.random.default_rng(4))


def test_tables_and_draws_have_the_same_fields() -> None:
    """Catches a property that is drawn but not used, or used but never drawn."""
    assert list(SCANNER) == list(ScannerDraw.__dataclass_fields__)
    assert list(SETTING) == list(SettingDraw.__dataclass_fields__)
