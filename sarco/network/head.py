"""How the head starts: with the shares that the labels have, so that rare ones need not be learnt from below."""

from collections.abc import Sequence

import torch
from monai.networks.nets.flexible_unet import SegmentationHead

RAREST_SHARE = 1e-3  # of all pixels; rarer labels start from here, or their probability would take long to rise


def start_head(head: SegmentationHead, shares: Sequence[float]) -> None:
    """Sets the bias so that the head begins with each channel's share as its probability.

    The weights stay as they were drawn: with them the logits vary by about 0.4, far less than the biases differ.

    Args:
        head: random weights.
        shares: of each channel in the training pixels, background first.

    Source: Lin 2017, Focal Loss for Dense Object Detection, section 3.3.
    """
    logs = torch.tensor([max(share, RAREST_SHARE) for share in shares], dtype=torch.double).log()
    with torch.no_grad():
        bias_of(head).copy_(logs - logs[0])  # softmax sees differences alone


def bias_of(head: SegmentationHead) -> torch.Tensor:
    """The bias of each channel, (K,)."""
    bias: torch.Tensor = head.get_parameter("0.bias")
    return bias
