"""Where bf16 pays on a CPU, and the one kind of convolution that has to stay in fp32 for it to pay."""

import torch
from torch import nn

SMALLEST_SIDE = 128  # pixels; smaller images were measured to train faster in fp32


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 itself (AVX-512 BF16 or AMX); others only imitate it, slower than fp32."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return bool(torch.cpu._is_avx512_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def bf16_pays_in_training(side: int) -> bool:
    """Whether a training step on this CPU is faster in bf16 with fp32 depthwise convolutions than in fp32.

    A rule from measurements (``benchmarks/training_step.py``), not a measurement of its own, which would give runs
    with the same seed another precision from time to time.

    Args:
        side: of the images, in pixels.
    """
    return cpu_has_bf16() and side >= SMALLEST_SIDE


class DepthwiseConv(nn.Module):
    """A depthwise convolution that computes in fp32 where bf16 would be slower: in training on a CPU.

    There oneDNN's way back through most depthwise convolutions (5x5, or with a stride) takes 2 to 6 times as long in
    bf16 as in fp32, which eats up all that bf16 gains elsewhere. Without gradients bf16 is the faster one here too.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Takes over the weight and the padding of a convolution, under their names.

        Args:
            conv: of efficientnet-pytorch, which pads on its own.
        """
        super().__init__()
        self.weight = conv.weight
        self.static_padding: nn.Module = conv.get_submodule("static_padding")
        self.stride, self.groups = conv.stride, conv.groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c, R, C) to the same, divided by the stride."""
        if x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float())
        return self._convolve(x)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(self.static_padding(x), self.weight, stride=self.stride, groups=self.groups)
