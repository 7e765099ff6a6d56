"""The head starts from the labels' shares, and a rare label that comes late is learnt all the same."""

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
WITHOUT, WITH = 20, 40  # steps without the label, then with it


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


def learn_late(decoder: nn.Module, head: SegmentationHead) -> float:
    """Steps on slices without the label, as other levels of the body are, then on slices with it.

    The encoder is a fixed one of random filters: the collapse happens behind it, and so a step takes 30 ms.

    Returns:
        The Dice of the last step.
    """
    image, label = rare_label()
    filters = torch.randn(FEATURES, 1, 5, 5, generator=torch.Generator().manual_seed(0)) / 5
    found = nn.functional.conv2d(image - image.mean(), filters, padding=2)
    features = [image, *(nn.functional.avg_pool2d(found, 2**level) for level in range(1, 6))]
    weight, criterion = torch.ones(4, 1, 1, 1), SegmentationLoss()
    optimiser = torch.optim.AdamW([*decoder.parameters(), *head.parameters()], lr=2e-3)
    for step in range(WITHOUT + WITH):
        truth = label if step >= WITHOUT else torch.zeros_like(label)
        logits = head(decoder(features))
        optimiser.zero_grad()
        criterion(logits, nn.functional.one_hot(truth, 2).movedim(-1, 1).float(), weight).backward()
        optimiser.step()
    predicted = logits.argmax(1)
    return float(2 * (predicted * label).sum() / (predicted.sum() + label.sum()))


@pytest.mark.parametrize("cure", ["none", "leaky", "both"])
def test_a_rare_label_that_comes_late_is_learnt(cure: str) -> None:
    """Catches the collapse: behind ReLU and with a plain head no pixel is called muscle any more, whatever it ranks."""
    torch.manual_seed(0)
    activation = ACTIVATIONS[0] if cure != "none" else "relu"
    decoder = make_decoder("unet", (1, *[FEATURES] * 5), activation)
    head = SegmentationHead(2, DECODER_CHANNELS[-1], 2, kernel_size=3)
    if cure == "both":
        share = float(rare_label()[1].float().mean())
        start_head(head, (1 - share, share))
    dice = learn_late(decoder, head)
    assert dice < 0.05 if cure == "none" else dice > 0.5, dice


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
