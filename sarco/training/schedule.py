"""The learning rate as a function of the epoch."""

import math
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR

from sarco.core.training_options import FitOptions


def make_scheduler(optimiser: torch.optim.Optimizer, fit: FitOptions) -> LambdaLR | None:
    """The scheduler of the learning rate, to be stepped once an epoch; None for a constant rate."""
    return None if fit.scheduler == "none" else LambdaLR(optimiser, partial(rate_factor, fit))


def rate_factor(fit: FitOptions, epoch: int) -> float:
    """What the learning rate is multiplied by in an epoch.

    ``cosine`` follows LinearWarmupCosineAnnealingLR of lightning-bolts 0.7.0, epoch by epoch: linear from 0 to the
    full rate in ``warmup_epochs`` epochs (at most a third of the run), then a cosine towards 0.
    ``step``: a tenth from 80 % of the epochs on, and a fifth of that from 90 % on.
    """
    epochs = fit.max_epochs
    if fit.scheduler == "cosine":
        return warmup_cosine(epoch, min(fit.warmup_epochs, epochs // 3), epochs)
    if fit.scheduler == "step":
        return (0.1 if epoch >= math.ceil(0.8 * epochs) else 1.0) * (0.2 if epoch >= math.ceil(0.9 * epochs) else 1.0)
    return 1.0


def warmup_cosine(epoch: int, warmup: int, epochs: int) -> float:
    """Share of the full learning rate in an epoch: linear from 0 to 1 over the warm-up, then a cosine towards 0."""
    if epoch < warmup:
        return epoch / max(warmup - 1, 1)
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1)))
