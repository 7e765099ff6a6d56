"""EfficientNet without its classifier."""

from typing import Any

import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from sarco.network.mixing import Mix
from sarco.network.precision import DepthwiseConv

BATCH_NORM_MOMENTUM = 0.1  # EfficientNet ships 0.01, with which short runs predict nothing in eval mode
STATIC_PADDING_SIZE = 256  # any multiple of 32 gives the same padding as every other
NOT_USED = ("_conv_head", "_bn1", "_fc")  # EfficientNet's classifier


class Encoder(nn.Module):
    """EfficientNet without its classifier; gives features at strides 2, 4, 8, 16 and 32."""

    def __init__(self, backbone: str, in_channels: int) -> None:
        """Random weights.

        Args:
            backbone: ``efficientnet-b0`` .. ``efficientnet-b7``.
            in_channels: slices that make up an image.
        """
        super().__init__()
        self.net = EfficientNet.from_name(backbone, in_channels=in_channels, image_size=STATIC_PADDING_SIZE)
        self.net.set_swish(memory_efficient=False)  # faster, and it can be exported
        for name in NOT_USED:
            delattr(self.net, name)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM
        for block in self.net._blocks:
            block._depthwise_conv = DepthwiseConv(block._depthwise_conv)
        self._level_ends = [i - 1 for i, block in enumerate(self.net._blocks) if i > 0 and _halves(block)] + [
            len(self.net._blocks) - 1
        ]
        self.channels = (
            in_channels,
            *(self.net._blocks[i]._block_args.output_filters for i in self._level_ends),
        )

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> list[torch.Tensor]:
        """Features by level: the image (B, C, R, C), then (B, c, R/2, C/2) down to (B, c, R/32, C/32).

        With ``mix`` the trunk is mixed at its level, and so, for the skip connections, are all levels above it:
        what reaches the decoder is mixed throughout by the same share.
        """
        features = [image]
        x = mix(image) if mix and mix.level == 0 else image
        x = self.net._swish(self.net._bn0(self.net._conv_stem(x)))
        drop_rate = self.net._global_params.drop_connect_rate or 0.0
        for i, block in enumerate(self.net._blocks):
            x = block(x, drop_connect_rate=drop_rate * i / len(self.net._blocks))
            if i in self._level_ends:
                if mix and mix.level == len(features):
                    features = [mix(feature) for feature in features]
                    x = mix(x)
                features.append(x)
        return features


def _halves(block: Any) -> bool:
    return bool(block._depthwise_conv.stride[0] == 2)
