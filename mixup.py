"""Mixup of inputs and of hidden features.

Source: Zhang et al. 2018 (arXiv:1710.09412); Verma et al. 2019 (arXiv:1806.05236).
"""

import numpy as np
import torch

from sarco.core.training_options import MixupOptions
from sarco.network.mixing import INPUT_LEVEL, LEVELS, Mix


def draw_mix(options: MixupOptions, batch_size: int, rng: np.random.Generator) -> Mix | None:
    """Draws how a training batch is mixed; None where it is not.

    Args:
        options: kind of mixup, alpha of Beta(alpha, alpha), and the level.
        batch_size: samples in the batch.
        rng: the step's own generator.
    """
    if options.mixup == "no" or batch_size < 2:
        return None
    share = float(rng.beta(options.mixup_alpha, options.mixup_alpha))
    partner = torch.from_numpy(rng.permutation(batch_size))
    level = INPUT_LEVEL
    if options.mixup == "manifold":
        level = int(rng.integers(LEVELS)) if options.mixed_layer == "random" else int(options.mixed_layer)
    return Mix(share, partner, level)


def mix_target(target: torch.Tensor, weight: torch.Tensor, mix: Mix) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and weight of a mixed batch; each sample of a pair counts by its own weight.

    Args:
        target: (B, K, R, C) shares of each channel.
        weight: (B, 1, R, C) of each pixel.
        mix: what was done to the images.

    Returns:
        The mixed target, again shares that add up to 1 wherever the weight is above 0, and the mixed weight.
    """
    mixed_weight = mix(weight)
    weighted = mix(target * weight)
    return torch.where(mixed_weight > 0, weighted / mixed_weight.clamp(min=1e-8), mix(target)), mixed_weight
