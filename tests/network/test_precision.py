"""bf16 on a CPU: taken where it was measured to pay, the same curve of the loss, and depthwise convolutions in fp32."""

from typing import Any

import pytest
import torch
from efficientnet_pytorch.utils import Conv2dStaticSamePadding
from torch import nn

import sarco.network.precision
from sarco.core.errors import OptionError
from sarco.core.training_options import NetworkOptions
from sarco.network.device import choose_device
from sarco.network.precision import DepthwiseConv, bf16_pays_in_training
from sarco.network.segmentation import build_network
from sarco.training.loss import SegmentationLoss

SHAPES = [(3, 1), (5, 1), (3, 2), (5, 2)]  # kernel, stride


def depthwise(kernel: int, stride: int) -> nn.Conv2d:
    """As EfficientNet has them."""
    torch.manual_seed(kernel)
    conv: nn.Conv2d = Conv2dStaticSamePadding(
        8, 8, kernel_size=kernel, stride=stride, groups=8, bias=False, image_size=256
    )
    return conv


def cpu_with(monkeypatch: pytest.MonkeyPatch, **flags: bool) -> None:
    """A CPU that says so of itself."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_same_convolution_under_the_same_names(kernel: int, stride: int) -> None:
    """Catches checkpoints and ImageNet weights that no longer fit, and another padding or stride."""
    conv = depthwise(kernel, stride)
    ours = DepthwiseConv(conv)
    assert ours.state_dict().keys() == conv.state_dict().keys() == {"weight"}
    x = torch.randn(2, 8, 24, 32, requires_grad=True)
    assert torch.equal(ours(x), conv(x))
    gradients = [torch.autograd.grad(layer(x).square().sum(), [x, conv.weight]) for layer in (ours, conv)]
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_autocast_leaves_it_in_fp32_in_training_only(kernel: int, stride: int) -> None:
    """Catches the slow way back in bf16, in which the weight loses digits too, and the slow way of predicting."""
    conv = depthwise(kernel, stride)
    ours = DepthwiseConv(conv)
    x = torch.randn(2, 8, 24, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(x)
        assert conv(x).dtype == torch.bfloat16, "else there would be nothing to prevent"
        with torch.no_grad():
            assert ours(x).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, conv(x.float()))


def test_network_has_no_other_depthwise_convolution() -> None:
    """Catches a layer that was forgotten, which alone eats up the gain."""
    network = build_network(NetworkOptions(pretrained="no"), 1, 2)
    plain = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert plain == []
    assert sum(isinstance(module, DepthwiseConv) for module in network.modules()) == 16  # blocks of b0


def losses(precision: str, steps: int) -> list[float]:
    """The curve of a small network that learns a blob by heart."""
    torch.manual_seed(0)
    network = build_network(NetworkOptions(pretrained="no"), 1, 2).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, fused=True)
    image = torch.zeros(2, 1, 64, 64)
    image[0, 0, 10:40, 20:50] = image[1, 0, 30:60, 5:25] = 0.8
    label = (image[:, 0] > 0.5).long()
    target = nn.functional.one_hot(label, 2).movedim(-1, 1).float()
    curve = []
    for step in range(steps):
        torch.manual_seed(step)  # drop-connect draws the same in both
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = SegmentationLoss()(network(image), target, torch.ones(2, 1, 1, 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    return curve


def test_loss_curve_is_that_of_fp32() -> None:
    """Catches a precision that is bought with learning."""
    full, half = losses("32", 16), losses("bf16", 16)
    assert full[-1] < 0.75 * full[0], "the curve falls, so that there is something to compare"
    assert half == pytest.approx(full, rel=0.05)
    assert half != full, "bf16 was computed at all"


@pytest.mark.parametrize(
    ("flags", "side", "expected"),
    [
        ({"avx512_bf16": True}, 256, True),
        ({"amx_bf16": True}, 128, True),
        ({"avx512_bf16": True}, 96, False),
        ({"avx512_f": True, "avx512_bf16": False}, 512, False),
        ({}, 512, False),
    ],
)
def test_auto_takes_what_was_measured_faster(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], side: int, expected: bool
) -> None:
    """Catches bf16 on a CPU that imitates it, and on images so small that it loses."""
    cpu_with(monkeypatch, **flags)
    assert bf16_pays_in_training(side) is expected
    assert choose_device(-1, "auto", train_side=side).precision == ("bf16-mixed" if expected else "32-true")
    assert choose_device(-1, "32", train_side=side).precision == "32-true"
    assert choose_device(-1, "auto").precision == "32-true", "inference has its own rule"


def test_precision_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a flag that is taken and does something else, or is slower without a word."""
    cpu_with(monkeypatch, avx512_bf16=True)
    device = choose_device(-1, "bf16", train_side=64)
    assert (device.precision, "depthwise convolutions in 32" in device.note) == ("bf16-mixed", True)
    assert "imitates" not in device.note
    cpu_with(monkeypatch)
    assert "--precision=32 is faster" in choose_device(-1, "bf16", train_side=64).note
    with pytest.raises(OptionError, match="--precision=16"):
        choose_device(-1, "16", train_side=64)


def test_this_cpu_is_seen() -> None:
    """Catches a name that torch no longer uses, with which every CPU would count as one without bf16."""
    known: dict[str, Any] = dict(torch.cpu.get_capabilities())
    if known.get("architecture") != "x86_64":
        pytest.skip("another kind of CPU has other names")
    assert {"avx512_bf16", "amx_bf16"} <= known.keys()
    assert sarco.network.precision.cpu_has_bf16() == (known["avx512_bf16"] or known["amx_bf16"])
