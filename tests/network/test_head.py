"""The head starts from the labels' shares, and features that died come back."""

import numpy as np
import pytest
import torch
from monai.networks.nets.flexible_unet import SegmentationHead
from torch import nn

from sarco.core.training_options import ACTIVATIONS, NetworkOptions
from sarco.network.decoder import DECODER_CHANNELS, make_decoder
from sarco.network.head import RAREST_SHARE, bias_of, start_head
from sarco.network.segmentation import build_network
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.training.loss import SegmentationLoss

SIDE, RARE = 64, 2  # pixels; the id of a phantom's label that 0.6 % of the pixels have
FEATURES = 8  # a level
DEAD, STEPS = -10.0, 60  # normalised features reach about 4; steps of learning


def rare_label() -> tuple[torch.Tensor, torch.Tensor]:
    """Slices of four phantoms in [0, 1] (4, 1, R, C), and where the rare label is (4, R, C)."""
    pixel_mm = 380 / SIDE
    options = PhantomOptions(
        n_slices=1, rows=SIDE, columns=SIDE, spacing_mm=(pixel_mm, pixel_mm, 5.0), arms=False, labels="groups"
    )
    found = [make_phantom(seed, options) for seed in range(8, 12)]
    hu = torch.from_numpy(np.stack([phantom.hu[..., 0] for phantom in found]).astype(np.float32))
    label = torch.from_numpy(np.stack([phantom.label_map[..., 0] == RARE for phantom in found]).astype(np.int64))
    return ((hu + 250) / 500).clamp(0, 1)[:, None], label


def learn_after_death(decoder: nn.Module, head: SegmentationHead) -> float:
    """Steps on slices with the label, of a decoder whose last features begin far below zero.

    That is where they end when slices without the label, as other levels of the body are, come first; how fast hangs on
    the last bit of a sum, so the test begins there. The encoder is a fixed one of random filters: the collapse
    happens behind it, and so a step takes 30 ms.

    Returns:
        The Dice of the last step.
    """
    image, label = rare_label()
    filters = torch.randn(FEATURES, 1, 5, 5, generator=torch.Generator().manual_seed(0)) / 5
    found = nn.functional.conv2d(image - image.mean(), filters, padding=2)
    features = [image, *(nn.functional.avg_pool2d(found, 2**level) for level in range(1, 6))]
    last_norm = [module for module in decoder.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    nn.init.constant_(last_norm.bias, DEAD)
    weight, criterion = torch.ones(4, 1, 1, 1), SegmentationLoss()
    optimiser = torch.optim.AdamW([*decoder.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(STEPS):
        logits = head(decoder(features))
        optimiser.zero_grad()
        criterion(logits, nn.functional.one_hot(label, 2).movedim(-1, 1).float(), weight).backward()
        optimiser.step()
    predicted = logits.argmax(1)
    return float(2 * (predicted * label).sum() / (predicted.sum() + label.sum()))


@pytest.mark.parametrize("activation", ["relu", *ACTIVATIONS])
@pytest.mark.parametrize("started", [False, True])
def test_dead_features_come_back(activation: str, started: bool) -> None:
    """Catches the collapse: behind ReLU no pixel is called muscle ever again, whatever the labels say."""
    torch.manual_seed(0)
    decoder = make_decoder("unet", (1, *[FEATURES] * 5), activation)
    head = SegmentationHead(2, DECODER_CHANNELS[-1], 2, kernel_size=3)
    if started:
        share = float(rare_label()[1].float().mean())
        start_head(head, (1 - share, share))
    dice = learn_after_death(decoder, head)
    assert dice == 0 if activation == "relu" else dice > 0.5, dice


def test_first_probabilities_are_the_shares() -> None:
    """Catches a bias of the wrong sign, order or scale, and weights that drown it."""
    torch.manual_seed(0)
    network = build_network(NetworkOptions(pretrained="no"), 1, 4)
    start_head(network.head, (0.9, 0.07, 0.03, 0.0))
    expected = np.array([0.9, 0.07, 0.03, RAREST_SHARE])
    alone = torch.softmax(bias_of(network.head), 0).detach().numpy()
    np.testing.assert_allclose(alone, expected / expected.sum(), rtol=1e-5)
    with torch.no_grad():
        mean = torch.softmax(network.train()(rare_label()[0]), 1).mean((0, 2, 3)).numpy()
    np.testing.assert_array_less(np.abs(np.log(mean / expected)), np.log(2))
