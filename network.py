"""The network: an EfficientNet encoder, a U-Net or SegResNet decoder, a head; and its weights.

Nothing of Lightning is imported here: it takes seconds, and a prediction does without.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from monai.networks.blocks.segresnet_block import ResBlock, get_conv_layer, get_upsample_layer
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from torch import nn

from mixup import Mix
from sarco.core.errors import CheckpointError, InputError
from sarco.core.options import NetworkOptions
from sarco.precision import DepthwiseConv
from sarco.runs.store import RunDescription, load_checkpoint

# From the deepest level up. Half of what MONAI's FlexibleUNet has: 8.5 instead of 18.8 GFLOP a 512 x 512 slice.
DECODER_CHANNELS = (128, 64, 32, 16, 16)
BATCH_NORM_MOMENTUM = 0.1  # EfficientNet ships 0.01, with which short runs predict nothing in eval mode
BATCH_NORM = ("batch", {"eps": 1e-3, "momentum": BATCH_NORM_MOMENTUM})
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


class SegResNetDecoder(nn.Module):
    """The up-path of MONAI's SegResNet: 1x1 convolution, linear upsampling, sum with the skip, residual block."""

    def __init__(self, encoder_channels: tuple[int, ...], decoder_channels: tuple[int, ...]) -> None:
        """Random weights.

        Args:
            encoder_channels: of the image and of each level.
            decoder_channels: from the deepest level up, the last at full resolution.
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
            self.blocks.append(ResBlock(2, channels, norm=("group", {"num_groups": 8})))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features by level to (B, c, R, C)."""
        x = features[-1]
        skips: list[torch.Tensor | None] = [*features[1:-1][::-1], None]
        for reduce, project, block, skip in zip(self.reduce, self.project, self.blocks, skips, strict=True):
            x = reduce(x)
            x = block(x if skip is None else x + project(skip))
        return x


class SegmentationNetwork(nn.Module):
    """Encoder, decoder, head: (B, C, R, C) in [0, 1] to logits (B, K, R, C)."""

    def __init__(self, backbone: str, model_choice: str, in_channels: int, n_channels: int) -> None:
        """Random weights; see `build_network`."""
        super().__init__()
        self.encoder = Encoder(backbone, in_channels)
        self.decoder = _make_decoder(model_choice, self.encoder.channels)
        self.head = SegmentationHead(2, DECODER_CHANNELS[-1], n_channels, kernel_size=3)

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """Logits (B, K, R, C)."""
        return self.head(self.decoder(self.encoder(image, mix)))


def _make_decoder(model_choice: str, encoder_channels: tuple[int, ...]) -> nn.Module:
    if model_choice == "segresnet":
        return SegResNetDecoder(encoder_channels, DECODER_CHANNELS)
    return UNetDecoder(
        spatial_dims=2,
        encoder_channels=encoder_channels,
        decoder_channels=DECODER_CHANNELS,
        act=("relu", {"inplace": True}),
        norm=BATCH_NORM,
        dropout=0.0,
        bias=False,
        upsample="nontrainable",
        pre_conv="default",
        interp_mode="nearest",
        align_corners=None,
        is_pad=False,
    )


def build_network(options: NetworkOptions, in_channels: int, n_channels: int) -> SegmentationNetwork:
    """The network with random weights.

    Args:
        options: encoder and decoder.
        in_channels: slices that make up an image, 1 or 3.
        n_channels: background and one a label.
    """
    return SegmentationNetwork(options.backbone, options.model_choice, in_channels, n_channels)


def load_encoder_weights(network: SegmentationNetwork, options: NetworkOptions) -> str:
    """Gives the encoder the weights that ``--pretrained`` asks for.

    Returns:
        Where they came from: ``random``, ``imagenet`` or the file.

    Raises:
        InputError: weights that were asked for cannot be had or do not fit.
    """
    choice = options.pretrained
    if choice == "no":
        return "random"
    if choice not in ("auto", "imagenet"):
        _adopt(network.encoder, _read_weights(Path(choice)), choice)
        return choice
    url = url_map[options.backbone]
    try:
        weights = torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=True, weights_only=True)
    except Exception as error:  # no network, no space, a damaged file in the cache
        if choice == "auto":
            return "random"
        raise InputError(
            f"--pretrained=imagenet: the weights of {options.backbone} cannot be had ({error}); download "
            f"{Path(url).name} elsewhere and give it as --pretrained=FILE, or use --pretrained=auto"
        ) from None
    _adopt(network.encoder, weights, "imagenet")
    return "imagenet"


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch raise nearly anything
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(f"--pretrained={path}: cannot be read as weights ({reason})") from None
    if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):  # a run of sarco
        prefix = "network.encoder.net."
        return {k.removeprefix(prefix): v for k, v in weights["state_dict"].items() if k.startswith(prefix)}
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise InputError(f"--pretrained={path}: holds no weights; give a state dict of efficientnet-pytorch")
    return weights


def _adopt(encoder: Encoder, weights: Mapping[str, torch.Tensor], source: str) -> None:
    own = encoder.net.state_dict()
    used = {name: value for name, value in weights.items() if not name.startswith(NOT_USED)}
    stem = "_conv_stem.weight"
    if stem in used and used[stem].ndim == 4:
        used[stem] = adapt_stem(used[stem], own[stem].shape[1])
    if missing := set(own) - set(used):
        raise InputError(f"--pretrained={source}: {len(missing)} weights are missing, such as {min(missing)}")
    wrong = [name for name in own if used[name].shape != own[name].shape]
    if wrong:
        raise InputError(f"--pretrained={source}: {wrong[0]} has another shape; is it for another backbone?")
    encoder.net.load_state_dict({name: used[name] for name in own})


def adapt_stem(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """The first convolution for another number of channels, with the response to a grey image unchanged.

    Args:
        weight: (filters, channels, k, k).
        in_channels: channels wanted.
    """
    if weight.shape[1] == in_channels:
        return weight
    return weight.sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels


def network_of(description: RunDescription) -> SegmentationNetwork:
    """The network that a run is described to have, with random weights, channels last in memory."""
    in_channels = 3 if description.data.channel_3d else 1
    network = build_network(description.network, in_channels, description.labels.n_channels)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_network(path: Path) -> tuple[RunDescription, SegmentationNetwork]:
    """What a checkpoint says of its run, and the network with its weights.

    Raises:
        CheckpointError: see `sarco.runs.store.load_checkpoint`, or the weights do not fit the description.
    """
    description, checkpoint = load_checkpoint(path)
    network = network_of(description)
    try:
        weights = {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: weights do not fit the network it describes ({reason})") from None
    return description, network
