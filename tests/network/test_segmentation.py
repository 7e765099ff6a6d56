"""Networks against their reference implementation, and weights from outside."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from sarco.core.errors import InputError
from sarco.core.training_options import NetworkOptions
from sarco.network.encoder import BATCH_NORM_MOMENTUM
from sarco.network.segmentation import build_network
from sarco.network.weights import adapt_stem, load_encoder_weights

# From the image's channels to those at strides 2, 4, 8, 16 and 32 (efficientnet-pytorch's reduction_1..5).
CHANNELS = {
    "efficientnet-b0": (16, 24, 40, 112, 320),
    "efficientnet-b1": (16, 24, 40, 112, 320),
    "efficientnet-b2": (16, 24, 48, 120, 352),
    "efficientnet-b3": (24, 32, 48, 136, 384),
    "efficientnet-b4": (24, 32, 56, 160, 448),
    "efficientnet-b5": (24, 40, 64, 176, 512),
    "efficientnet-b6": (32, 40, 72, 200, 576),
    "efficientnet-b7": (32, 48, 80, 224, 640),
}
QUICK = ("efficientnet-b0", "efficientnet-b1", "efficientnet-b2")
BACKBONES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHANNELS]


def options(backbone: str = "efficientnet-b0", **changes: Any) -> NetworkOptions:
    """Network options without a download."""
    return NetworkOptions(**{"backbone": backbone, "pretrained": "no", **changes})


def random_image(channels: int, side: int = 64, n: int = 2) -> torch.Tensor:
    """Images in [0, 1], (B, C, R, C)."""
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_encoder_halves_five_times(backbone: str) -> None:
    """Catches a level of the wrong depth: a decoder on it would still run."""
    encoder = build_network(options(backbone), 1, 2).encoder.eval()
    assert encoder.channels == (1, *CHANNELS[backbone])
    with torch.no_grad():
        features = encoder(random_image(1))
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 64 >> level, 64 >> level) for level, channels in enumerate(encoder.channels)
    ]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_encoder_equals_its_reference(backbone: str, in_channels: int) -> None:
    """Catches any difference from efficientnet-pytorch: order of blocks, padding, activation, normalisation."""
    encoder = build_network(options(backbone), in_channels, 2).encoder.eval()
    # image_size=None pads for the size that comes; the default of b1 pads for 240 pixels, which is no multiple of 32.
    reference = EfficientNet.from_name(backbone, in_channels=in_channels, image_size=None).eval()
    state = {name: value for name, value in reference.state_dict().items() if name in encoder.net.state_dict()}
    generator = torch.Generator().manual_seed(1)
    for name, value in state.items():  # fresh normalisation layers would hide a wrong one
        if name.endswith(("running_mean", "bias")):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    encoder.net.load_state_dict(state)
    for side in (64, 96):
        with torch.no_grad():
            features = encoder(random_image(in_channels, side))
            expected = reference.extract_endpoints(random_image(in_channels, side))
        for level in range(1, 6):
            wanted = expected[f"reduction_{level}"]
            assert torch.allclose(features[level], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("side", [64, 96])
def test_logits_lie_on_the_image(model_choice: str, in_channels: int, side: int) -> None:
    """Catches a decoder that stops at half resolution, or whose channels are not background and labels."""
    network = build_network(options(model_choice=model_choice), in_channels, 4)
    image = random_image(in_channels, side)
    assert network.eval()(image).shape == (2, 4, side, side)
    network.train()(image).sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert without == [], "weights that nothing flows through"


@pytest.mark.slow
@pytest.mark.parametrize("backbone", CHANNELS)
@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_every_encoder_fits_every_decoder(backbone: str, model_choice: str) -> None:
    """Catches a decoder built for b0 only."""
    with torch.no_grad():
        assert build_network(options(backbone, model_choice=model_choice), 3, 3).eval()(random_image(3)).shape[1] == 3


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_logits_move_with_the_image(model_choice: str) -> None:
    """Catches rows and columns swapped on the way through."""
    torch.manual_seed(0)
    network = build_network(options(model_choice=model_choice), 1, 2).eval()
    image = torch.zeros(1, 1, 128, 128)
    spot = image.clone()
    spot[..., 20:28, 84:92] = 1
    with torch.no_grad():
        change = (network(spot) - network(image)).abs().sum(1)[0]
    rows, columns = (change.sum(axis) / change.sum() for axis in (1, 0))
    centre = torch.arange(128.0)
    assert float(rows @ centre) < float(columns @ centre)


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_batch_norm_keeps_up_with_short_runs(model_choice: str) -> None:
    """Catches EfficientNet's momentum of 0.01, with which a short run predicts nothing in eval mode."""
    network = build_network(options(model_choice=model_choice), 1, 2)
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(layers) > 40  # the encoder's; SegResNet's decoder normalises by groups
    assert {layer.momentum for layer in layers} == {BATCH_NORM_MOMENTUM} == {0.1}


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 3), (1, 1), (3, 5)])
def test_stem_for_other_channels_answers_grey_as_before(before: int, after: int) -> None:
    """Catches ImageNet weights cut or repeated without their sum, which shifts everything behind them."""
    weight = torch.randn(8, before, 3, 3, generator=torch.Generator().manual_seed(0))
    adapted = adapt_stem(weight, after)
    assert adapted.shape == (8, after, 3, 3)
    grey = random_image(1)
    old, new = (nn.functional.conv2d(grey.expand(-1, n, -1, -1), w) for n, w in ((before, weight), (after, adapted)))
    assert torch.allclose(old, new, atol=1e-5)


def weights_file(path: Path, backbone: str = "efficientnet-b0", **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A state dict as efficientnet-pytorch publishes them: 3 channels, with the classifier."""
    state = EfficientNet.from_name(backbone).state_dict()
    torch.save({**state, **changes}, path)
    return path, state


@pytest.mark.parametrize("in_channels", [1, 3])
def test_weights_from_a_file(tmp_path: Path, in_channels: int) -> None:
    """Catches weights that are read and not used."""
    path, state = weights_file(tmp_path / "b0.pth")
    network = build_network(options(), in_channels, 2)
    assert load_encoder_weights(network, options(pretrained=str(path))) == str(path)
    own = network.encoder.net.state_dict()
    for name, value in own.items():
        if name != "_conv_stem.weight":
            assert torch.equal(value, state[name]), name
    assert torch.equal(own["_conv_stem.weight"], adapt_stem(state["_conv_stem.weight"], in_channels))


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "fault", ["other backbone", "garbage", "empty", "code", "number", "no names", "no tensors", "list", "one missing"]
)
def test_unfit_weights_are_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    """Catches weights loaded in part, a traceback, and a stranger's code being run."""
    path = tmp_path / "weights.pth"
    trace = tmp_path / "was here"
    if fault == "other backbone":
        weights_file(path, "efficientnet-b2")
    elif fault == "garbage":
        path.write_bytes(b"hello\nworld" * 100)
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "code":
        path.write_bytes(pickle.dumps({"_conv_stem.weight": Hostile(trace)}, protocol=2))
    elif fault == "number":
        weights_file(path, **{"_conv_stem.weight": 5})
    else:
        _, state = weights_file(path)
        kept = dict(list(state.items())[3:])
        content = {"no names": {1: torch.zeros(3)}, "no tensors": {"a": "b"}, "list": [1], "one missing": kept}
        torch.save(content[fault], path)
    with pytest.raises(InputError) as caught:
        load_encoder_weights(build_network(options(), 1, 2), options(pretrained=str(path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not trace.exists()


def test_same_seed_same_first_weights() -> None:
    """Catches weights that come from anything but torch's seed."""
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(options(), 1, 2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
