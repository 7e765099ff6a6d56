"""The learning rate of each epoch, against the curves that users of the predecessor know."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.core.training_options import FitOptions
from sarco.training.schedule import rate_factor, warmup_cosine

CURVES = Path(__file__).with_name("warmup_cosine_curve.json")


@pytest.fixture(scope="module")
def golden_curves() -> list[dict[str, Any]]:
    """Curves of lightning-bolts' LinearWarmupCosineAnnealingLR."""
    return json.loads(CURVES.read_text())["curves"]


def test_warmup_cosine_equals_the_golden_curves(golden_curves: list[dict[str, Any]]) -> None:
    """Catches a curve that is off by an epoch, or that rises again at its end."""
    assert len(golden_curves) == 2
    for curve in golden_curves:
        warmup, epochs, peak = curve["warmup_epochs"], curve["max_epochs"], curve["base_lr"]
        rates = []
        for epoch in range(epochs):
            lowest = curve["warmup_start_lr"] if epoch < warmup else curve["eta_min"]
            rates.append(lowest + (peak - lowest) * warmup_cosine(epoch, warmup, epochs))
        assert np.abs(np.array(rates) - curve["lr"]).max() < 1e-12


def rates_of(fit: FitOptions, epochs: int) -> list[float]:
    """The learning rate that each epoch begins with."""
    return [fit.learning_rate * rate_factor(fit, epoch) for epoch in range(epochs)]


def test_cosine_scheduler_equals_the_golden_curve(golden_curves: list[dict[str, Any]]) -> None:
    """Catches a schedule that is not the formula's."""
    curve = next(one for one in golden_curves if one["warmup_start_lr"] == one["eta_min"] == 0)
    epochs = curve["max_epochs"]
    fit = FitOptions(
        scheduler="cosine", max_epochs=epochs, warmup_epochs=curve["warmup_epochs"], learning_rate=curve["base_lr"]
    )
    assert np.abs(np.array(rates_of(fit, epochs)) - curve["lr"]).max() < 1e-12


@pytest.mark.parametrize(("warmup", "epochs", "peak_at"), [(10, 6, 1), (10, 30, 9), (0, 6, 0), (1, 2, 0), (10, 1, 0)])
def test_warm_up_takes_at_most_a_third_of_the_run(warmup: int, epochs: int, peak_at: int) -> None:
    """Catches a short run that spends itself warming up, and a run of rate 0."""
    rates = rates_of(FitOptions(scheduler="cosine", max_epochs=epochs, warmup_epochs=warmup, learning_rate=1.0), epochs)
    assert int(np.argmax(rates)) == peak_at
    assert max(rates) == pytest.approx(1.0)
    assert all(0 <= rate <= 1 for rate in rates)


def test_step_scheduler_falls_at_80_and_90_percent() -> None:
    """Catches drops in the wrong epoch or by the wrong factor."""
    rates = rates_of(FitOptions(scheduler="step", max_epochs=20, learning_rate=1.0), 20)
    assert rates == pytest.approx([1.0] * 16 + [0.1] * 2 + [0.02] * 2)
    assert rates_of(FitOptions(scheduler="none", learning_rate=0.5), 5) == [0.5] * 5


def test_the_rate_runs_on_within_an_epoch() -> None:
    """Catches a first epoch of rate 0, a rate above the typed one at the end of the warm-up, and jumps."""
    fit = FitOptions(max_epochs=12, warmup_epochs=3, learning_rate=1.0)
    factors = np.array([rate_factor(fit, step / 50) for step in range(12 * 50)])
    assert factors[25] == pytest.approx(0.25)
    assert factors.max() == 1.0
    assert np.abs(np.diff(factors)).max() < 0.011
    assert factors[-1] < 1e-3


def test_auto_is_the_cosine_where_the_run_has_an_end() -> None:
    """Catches --max_epochs=-1 that is refused for want of a schedule, and a run cut short by default."""
    cosine, auto = (FitOptions(scheduler=name, max_epochs=12) for name in ("cosine", "auto"))
    assert rates_of(auto, 12) == rates_of(cosine, 12)
    assert rates_of(FitOptions(max_epochs=-1, learning_rate=0.5), 5) == [0.5] * 5
    assert not auto.stops_early and FitOptions(max_epochs=-1).stops_early
    assert FitOptions(scheduler="none").stops_early and not FitOptions(max_epochs=-1, early_stopping=False).stops_early
