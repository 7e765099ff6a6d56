"""Networks against their reference implementation, weights from outside, and that it learns."""

import io
import math
import pickle
import urllib.error
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from model import (
    BATCH_NORM_MOMENTUM,
    SarcoModel,
    adapt_stem,
    build_network,
    load_encoder_weights,
)
from sarco.config import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.errors import CheckpointError, InputError
from sarco.labels import LabelTable
from sarco.phantom import PhantomOptions, make_phantom
from sarco.runs import RunDescription

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


def describe(seed: int = 0, channel_3d: bool = False, **network: Any) -> RunDescription:
    """A run on 64 x 64 pixels with one label."""
    return RunDescription(
        run=RunOptions(run_id="aa", wandb="no"),
        labels=LabelTable({1: "muscle"}),
        data=DataOptions(image_size=64, seed=seed, channel_3d=channel_3d),
        network=options(**network),
        fit=FitOptions(learning_rate=1e-3),
        augment=AugmentOptions(),
        mixup=MixupOptions(),
        predicted=PredictedOptions(),
        weights="random",
        split={},
    )


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


def test_weights_from_a_run_of_sarco(tmp_path: Path) -> None:
    """Catches an own checkpoint that is refused, or whose decoder confuses the reader."""
    trained = SarcoModel(describe(seed=1))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "best.ckpt")
    network = build_network(options(), 1, 5)
    load_encoder_weights(network, options(pretrained=str(tmp_path / "best.ckpt")))
    for name, value in trained.network.encoder.net.state_dict().items():
        assert torch.equal(network.encoder.net.state_dict()[name], value)


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


def refuse(error: Exception) -> Any:
    """A download that fails."""

    def load(*_: object, **__: object) -> None:
        raise error

    return load


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), RuntimeError("invalid hash"), pickle.UnpicklingError("bad cache")]
)
def test_imagenet_without_network(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Catches a hospital without internet that cannot train at all, or that is not told how to go on."""
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse(error))
    network = build_network(options(), 1, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_encoder_weights(network, options(pretrained="auto")) == "random"
    with pytest.raises(InputError, match="--pretrained=FILE") as caught:
        load_encoder_weights(network, options(pretrained="imagenet"))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_imagenet_weights_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a download that is not used, or whose use is not told."""
    state = EfficientNet.from_name("efficientnet-b0").state_dict()
    asked: list[str] = []

    def load(url: str, **settings: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        assert settings["weights_only"] is True
        return state

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", load)
    model = SarcoModel(describe(pretrained="auto"))
    model.load_first_weights()
    assert model.description.weights == "imagenet"
    assert "efficientnet-b0" in asked[0]
    assert torch.equal(model.network.encoder.net.state_dict()["_bn0.weight"], state["_bn0.weight"])


def test_same_seed_same_first_weights() -> None:
    """Catches weights that come from anything but torch's seed."""
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(options(), 1, 2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def slice_of_a_phantom(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two copies of a phantom's slice in [0, 1] (2, 1, R, C), and its label map (2, R, C)."""
    phantom = make_phantom(8, PhantomOptions(n_slices=1, rows=side, columns=side, arms=False))
    image = ((torch.from_numpy(phantom.hu[..., 0].astype(np.float32)) + 250) / 500).clamp(0, 1)
    label = torch.from_numpy(phantom.label_map[..., 0].astype(np.int64))
    return image[None, None].repeat(2, 1, 1, 1), label[None].repeat(2, 1, 1)


def learn(model: SarcoModel, steps: int) -> list[float]:
    """Fits the model to one slice; gives the losses."""
    image, label = slice_of_a_phantom()
    target, weight = model.make_target({"label": label, "weight": torch.ones(2)})
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model.loss(model(image), target, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_loss_falls(model_choice: str) -> None:
    """Catches a loss that is turned round, or gradients that do not arrive."""
    torch.manual_seed(0)
    losses = learn(SarcoModel(describe(model_choice=model_choice)), 8)
    assert all(math.isfinite(loss) for loss in losses)
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_one_slice_is_learnt_by_heart(model_choice: str) -> None:
    """Catches a network that cannot learn, and one that forgets everything in eval mode."""
    torch.manual_seed(0)
    model = SarcoModel(describe(model_choice=model_choice))
    learn(model, 150)
    image, label = slice_of_a_phantom()
    with torch.no_grad():
        found = model.eval()(image).argmax(1)
    overlap = int(((found == 1) & (label == 1)).sum())
    assert 2 * overlap / int((found == 1).sum() + (label == 1).sum()) > 0.9


def test_checkpoint_rebuilds_the_model(tmp_path: Path) -> None:
    """Catches a checkpoint that needs flags to be used again."""
    model = SarcoModel(describe(model_choice="segresnet", channel_3d=True)).eval()
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "best.ckpt")
    again = SarcoModel.from_checkpoint(tmp_path / "best.ckpt").eval()
    assert again.description == model.description
    with torch.no_grad():
        assert torch.equal(again(random_image(3)), model(random_image(3)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """Catches a description and weights that do not belong together."""
    checkpoint: dict[str, Any] = {"state_dict": SarcoModel(describe(model_choice="segresnet")).state_dict()}
    SarcoModel(describe()).on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="do not fit"):
        SarcoModel.from_checkpoint(tmp_path / "best.ckpt")


def test_checkpoint_can_be_read_without_running_code(tmp_path: Path) -> None:
    """Catches a Path or another object among the hyperparameters."""
    checkpoint: dict[str, Any] = {"state_dict": SarcoModel(describe()).state_dict()}
    SarcoModel(describe()).on_save_checkpoint(checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["hyper_parameters"]["data"]["image_size"] == 64


def test_calibrated_statistics_are_those_of_the_weights_as_they_are() -> None:
    """Catches running statistics that lag behind the weights, with which a network that fits predicts nothing."""
    model = SarcoModel(describe())
    first = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    first.running_mean.fill_(1e3)
    batches = [torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    seen: list[torch.Tensor] = []
    handle = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    model.eval()
    with torch.no_grad():
        model.calibrate(batches)
    handle.remove()
    torch.testing.assert_close(first.running_mean, torch.stack(seen).mean(0))
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(layer.momentum == BATCH_NORM_MOMENTUM and not layer.training for layer in layers)


def test_training_step_never_reads_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a metric that makes a GPU wait: on the meta device there is nothing to read, so reading is an error."""
    monkeypatch.setattr(SarcoModel, "log", lambda *_, **__: None)
    model = SarcoModel(describe()).to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        model.train_loss.total.sum().item()
    batch = {
        "image": torch.rand(2, 1, 64, 64),
        "label": torch.zeros(2, 64, 64, dtype=torch.long),
        "weight": torch.ones(2),
        "index": torch.arange(2),
    }
    on_meta = {name: value.to("meta") for name, value in batch.items()}
    model.training_step(on_meta, 0).backward()
    assert model.train_scores.update_called and model.train_loss.update_called
    with torch.no_grad():
        model.validation_step(on_meta, 0)
    assert model.val_scores.update_called


def test_batches_of_one_step_draw_differently() -> None:
    """Catches drop-connect and mixup that draw the same for all batches whose gradients add up."""
    model = SarcoModel(replace(describe(), fit=FitOptions(accumulate_grad_batches=2)))
    draws = [model._step_rng(batch_idx).integers(2**63) for batch_idx in range(4)]
    assert draws[0] == draws[2] and draws[1] == draws[3], "a step of its own has another number"
    assert draws[0] != draws[1]
