"""Samples that are mixed with each other, at the image or at a level of the encoder."""

from dataclasses import dataclass

import torch

INPUT_LEVEL = 0
LEVELS = 6  # the image and the encoder's five levels


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: each sample with one partner, all with the same share.

    Attributes:
        share: lambda, the sample's own share; the partner has the rest.
        partner: for each sample the index of its partner.
        level: where the mixing happens: 0 the image, 1..5 the encoder's levels.
    """

    share: float
    partner: torch.Tensor
    level: int

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """``share`` of each sample and the rest of its partner, along the first axis; exact for shares 0 and 1."""
        return torch.lerp(values[self.partner], values, self.share)
