"""The two decoders that attach to the encoder."""

import torch
from monai.networks.blocks.segresnet_block import ResBlock, get_conv_layer, get_upsample_layer
from monai.networks.nets.flexible_unet import UNetDecoder
from torch import nn

from sarco.core.training_options import ACTIVATIONS
from sarco.network.encoder import BATCH_NORM_MOMENTUM

# From the deepest level up. Half of what MONAI's FlexibleUNet has: 8.5 instead of 18.8 GFLOP a 512 x 512 slice.
DECODER_CHANNELS = (128, 64, 32, 16, 16)
BATCH_NORM = ("batch", {"eps": 1e-3, "momentum": BATCH_NORM_MOMENTUM})
# Where ReLU stands before the head, a rare label can die: the head learns "background" faster than features of the
# label, all of which then end up below 0, where ReLU lets nothing through and no gradient back.
LAYERS = {"leakyrelu": ("leakyrelu", {"negative_slope": 0.01, "inplace": True}), "relu": ("relu", {"inplace": True})}


class SegResNetDecoder(nn.Module):
    """The up-path of MONAI's SegResNet: 1x1 convolution, linear upsampling, sum with the skip, residual block."""

    def __init__(self, encoder_channels: tuple[int, ...], decoder_channels: tuple[int, ...], activation: str) -> None:
        """Random weights.

        Args:
            encoder_channels: of the image and of each level.
            decoder_channels: from the deepest level up, the last at full resolution.
            activation: a name in `LAYERS`.
        """
        super().__init__()
        skips = [*encoder_channels[1:-1][::-1], 0]
        sources = [encoder_channels[-1], *decoder_channels[:-1]]
        self.reduce = nn.ModuleList()
        self.project = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for source, skip, channels in zip(sources, skips, decoder_channels, strict=True):
            up = get_upsample_layer(2, channels, upsample_mode="nontrainable")
            self.reduce.append(nn.Sequential(get_conv_layer(2, source, channels, kernel_size=1), up))
            self.project.append(get_conv_layer(2, skip, channels, kernel_size=1) if skip else nn.Identity())
            self.blocks.append(ResBlock(2, channels, norm=("group", {"num_groups": 8}), act=LAYERS[activation]))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features by level to (B, c, R, C)."""
        x = features[-1]
        skips: list[torch.Tensor | None] = [*features[1:-1][::-1], None]
        for reduce, project, block, skip in zip(self.reduce, self.project, self.blocks, skips, strict=True):
            x = reduce(x)
            x = block(x if skip is None else x + project(skip))
        return x


def make_decoder(model_choice: str, encoder_channels: tuple[int, ...], activation: str = ACTIVATIONS[0]) -> nn.Module:
    """The decoder called ``unet`` or ``segresnet``, for an encoder with these channels; random weights."""
    if model_choice == "segresnet":
        return SegResNetDecoder(encoder_channels, DECODER_CHANNELS, activation)
    return UNetDecoder(
        spatial_dims=2,
        encoder_channels=encoder_channels,
        decoder_channels=DECODER_CHANNELS,
        act=LAYERS[activation],
        norm=BATCH_NORM,
        dropout=0.0,
        bias=False,
        upsample="nontrainable",
        pre_conv="default",
        interp_mode="nearest",
        align_corners=None,
        is_pad=False,
    )
