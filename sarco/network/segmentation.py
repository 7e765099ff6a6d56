"""The network: an EfficientNet encoder, a U-Net or SegResNet decoder, a head; and its weights.

Nothing of Lightning is imported here: it takes seconds, and a prediction does without.
"""

from pathlib import Path

import torch
from monai.networks.nets.flexible_unet import SegmentationHead
from torch import nn

from sarco.core.errors import CheckpointError
from sarco.core.training_options import ACTIVATIONS, NetworkOptions
from sarco.network.decoder import DECODER_CHANNELS, make_decoder
from sarco.network.encoder import Encoder
from sarco.network.mixing import Mix
from sarco.runs.store import RunDescription, load_checkpoint


class SegmentationNetwork(nn.Module):
    """Encoder, decoder, head: (B, C, R, C) in [0, 1] to logits (B, K, R, C)."""

    def __init__(self, backbone: str, model_choice: str, in_channels: int, n_channels: int, activation: str) -> None:
        """Random weights; see `build_network`."""
        super().__init__()
        self.encoder = Encoder(backbone, in_channels)
        self.decoder = make_decoder(model_choice, self.encoder.channels, activation)
        self.head = SegmentationHead(2, DECODER_CHANNELS[-1], n_channels, kernel_size=3)

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """Logits (B, K, R, C)."""
        return self.head(self.decoder(self.encoder(image, mix)))


def build_network(
    options: NetworkOptions, in_channels: int, n_channels: int, activation: str = ACTIVATIONS[0]
) -> SegmentationNetwork:
    """The network with random weights.

    Args:
        options: encoder and decoder.
        in_channels: slices that make up an image, 1 or 3.
        n_channels: background and one a label.
        activation: of the decoder, one of `ACTIVATIONS`.
    """
    return SegmentationNetwork(options.backbone, options.model_choice, in_channels, n_channels, activation)


def network_of(description: RunDescription) -> SegmentationNetwork:
    """The network that a run is described to have, with random weights, channels last in memory."""
    in_channels = 3 if description.data.channel_3d else 1
    network = build_network(description.network, in_channels, description.labels.n_channels, description.activation)
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
