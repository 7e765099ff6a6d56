"""The learning rate as a function of how far a run is, in epochs."""

import math

from sarco.core.training_options import FitOptions


def rate_factor(fit: FitOptions, epoch: float) -> float:
    """What the learning rate is multiplied by.

    ``cosine`` follows LinearWarmupCosineAnnealingLR of lightning-bolts 0.7.0 at whole epochs, and runs on between them:
    linear from 0 to the full rate in ``warmup_epochs`` epochs (at most a third of the run), then a cosine towards 0.
    ``step``: a tenth from 80 % of the epochs on, and a fifth of that from 90 % on.

    Args:
        fit: schedule and length of the run.
        epoch: epochs that are over, with the part of the present one.
    """
    epochs = fit.max_epochs
    if fit.schedule == "cosine":
        return warmup_cosine(epoch, min(fit.warmup_epochs, epochs // 3), epochs)
    if fit.schedule == "step":
        return (0.1 if epoch >= math.ceil(0.8 * epochs) else 1.0) * (0.2 if epoch >= math.ceil(0.9 * epochs) else 1.0)
    return 1.0


def warmup_cosine(epoch: float, warmup: int, epochs: int) -> float:
    """Share of the full learning rate: linear from 0 to 1 over the warm-up, then a cosine towards 0."""
    if epoch < warmup:
        return min(epoch / max(warmup - 1, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1)))
