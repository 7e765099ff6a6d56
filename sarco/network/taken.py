"""How weights that were taken from elsewhere are treated: at a rate of their own, and left as they are at first."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sarco.core.training_options import NetworkOptions
from sarco.network.segmentation import SegmentationNetwork
from sarco.network.warm_start import HEAD


def taken_modules(network: SegmentationNetwork, taken: Sequence[str]) -> list[nn.Module]:
    """Encoder and decoder where they were taken. The head always learns: it is small, and new labels need it."""
    return [network.get_submodule(part) for part in taken if part != HEAD]


def parameter_groups(network: SegmentationNetwork, taken: Sequence[str]) -> list[dict[str, Any]]:
    """The parameters as an optimiser takes them: what was not taken, then what was, in an order that stays.

    Where nothing was taken there is one group. So a checkpoint fits, whatever the factor of the rate is now.
    """
    old = [weight for module in taken_modules(network, taken) for weight in module.parameters()]
    known = {id(weight) for weight in old}
    new = [weight for weight in network.parameters() if id(weight) not in known]
    return [{"params": group} for group in (new, old) if group]


def set_rates(optimiser: torch.optim.Optimizer, options: NetworkOptions, rate: float) -> None:
    """Gives each of the `parameter_groups` its learning rate.

    Args:
        optimiser: of these groups.
        options: the factor for what was taken.
        rate: of what was not taken.
    """
    for place, group in enumerate(optimiser.param_groups):
        group["lr"] = rate * (options.encoder_lr_factor if place else 1.0)


def why_nothing_happens(options: NetworkOptions, taken: Sequence[str]) -> str:
    """A line where options ask for something that was not taken; empty where all is well."""
    typed = {"encoder_lr_factor": options.encoder_lr_factor != 1, "freeze_epochs": options.freeze_epochs > 0}
    names = [f"--{name}" for name, is_typed in typed.items() if is_typed]
    if taken or not names:
        return ""
    return f"without effect: {', '.join(names)} (all weights are random; see --pretrained)"
