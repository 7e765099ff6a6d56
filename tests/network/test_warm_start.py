"""First weights from a network of sarco: what is taken, what is not, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_pytorch import EfficientNet

from model import SarcoModel
from sarco.core.errors import CheckpointError, InputError
from sarco.core.options import ExportOptions
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.encoder import NOT_USED
from sarco.network.warm_start import why_not_built_in
from sarco.network.weights import SQUEEZE, adapt_stem
from sarco.prediction.convert import export_onnx
from sarco.prediction.onnx_file import write_onnx_file
from sarco.runs.built_in import write_built_in
from sarco.runs.store import RunDescription, RunStore
from sarco.scan.labels import LabelTable

BEFORE = {1: "psoas", 2: "rectus", 3: "obliques"}
SHARES = (0.9, 0.06, 0.03, 0.01)


def describe(labels: dict[int, str], channel_3d: bool = False, **network: Any) -> RunDescription:
    """A run on 64 x 64 pixels."""
    return RunDescription(
        RunOptions(run_id="first", wandb="no"), LabelTable(labels),
        DataOptions(image_size=64, pixel_mm=6.0, channel_3d=channel_3d),
        NetworkOptions(**{"pretrained": "no", **network}), FitOptions(), AugmentOptions(), MixupOptions(),
        PredictedOptions(), "random", {},
    )  # fmt: skip


def trained(path: Path, **changes: Any) -> SarcoModel:
    """A model whose every weight differs from a fresh one, in a checkpoint at ``path``."""
    torch.manual_seed(7)
    model = SarcoModel(describe(**{"labels": BEFORE, **changes}))
    with torch.no_grad():
        for value in model.network.state_dict().values():
            if value.is_floating_point():
                value.mul_(0.9 + 0.2 * torch.rand(value.shape)).add_(0.01 * torch.rand(value.shape))
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "epoch": 0}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return model


def begin(path: Path, labels: dict[int, str] | None = None, **changes: Any) -> tuple[SarcoModel, list[str]]:
    """A new run that starts from a file, and what it tells."""
    torch.manual_seed(3)
    model = SarcoModel(describe(labels or BEFORE, pretrained=str(path), **changes))
    lines: list[str] = []
    model.load_first_weights(SHARES[: model.n_channels], lines.append)
    return model, lines


def same(one: SarcoModel, two: SarcoModel, part: str) -> bool:
    """Whether both have the same weights there."""
    own = two.network.state_dict()
    return all(torch.equal(v, own[k]) for k, v in one.network.state_dict().items() if k.startswith(f"{part}."))


def test_the_whole_network_is_taken(tmp_path: Path) -> None:
    """Catches a decoder or a head that starts anew, and a run that begins with other masks than the one before."""
    before = trained(tmp_path / "best.ckpt")
    model, lines = begin(tmp_path / "best.ckpt")
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(image), before.eval()(image))
    assert lines == [f"taken from {tmp_path / 'best.ckpt'}: encoder, decoder, head of psoas, rectus, obliques"]
    assert model.description.taken == ("encoder", "decoder", "head")
    assert model.description.weights == str(tmp_path / "best.ckpt")


def test_channels_of_the_head_go_by_name(tmp_path: Path) -> None:
    """Catches channels that go by number, so that the psoas starts as the rectus, and a new label without its share."""
    before = trained(tmp_path / "best.ckpt")
    model, lines = begin(tmp_path / "best.ckpt", {1: "rectus", 5: "erector", 9: "psoas"})
    old, new = before.network.head[0], model.network.head[0]
    for channel, source in ((0, 0), (1, 2), (3, 1)):
        assert torch.equal(new.weight[channel], old.weight[source]) and torch.equal(new.bias[channel], old.bias[source])
    torch.manual_seed(3)
    fresh = SarcoModel(describe({1: "rectus", 5: "erector", 9: "psoas"})).network.head[0]
    assert torch.equal(new.weight[2], fresh.weight[2])
    assert float((new.bias[2] - new.bias[0]).detach()) == pytest.approx(np.log(SHARES[2] / SHARES[0]), rel=1e-4)
    assert lines[0].endswith("encoder, decoder, head of rectus, psoas; new: erector; left out: obliques")


def test_a_head_without_common_labels_starts_anew(tmp_path: Path) -> None:
    """Catches a background that is everything but another muscle."""
    before = trained(tmp_path / "best.ckpt")
    model, lines = begin(tmp_path / "best.ckpt", {1: "erector"})
    assert same(before, model, "encoder") and same(before, model, "decoder")
    assert float(model.network.head[0].bias[1].detach()) == pytest.approx(np.log(SHARES[1] / SHARES[0]), rel=1e-4)
    assert "head of" not in lines[0] and "new: erector; left out: psoas, rectus, obliques" in lines[0]
    assert model.description.taken == ("encoder", "decoder")


def test_another_decoder_leaves_the_encoder(tmp_path: Path) -> None:
    """Catches a head behind a decoder that it does not know, and a decoder that is dropped without a word."""
    before = trained(tmp_path / "best.ckpt", model_choice="segresnet")
    model, lines = begin(tmp_path / "best.ckpt")
    assert same(before, model, "encoder") and model.description.taken == ("encoder",)
    assert "its decoder is segresnet and was not taken" in lines[0]
    assert float(model.network.head[0].bias[0].detach()) == 0


@pytest.mark.parametrize(("before_3d", "now_3d"), [(False, True), (True, False)])
def test_slices_per_image_may_differ(tmp_path: Path, before_3d: bool, now_3d: bool) -> None:
    """Catches a first convolution that answers otherwise, and one that is refused."""
    before = trained(tmp_path / "best.ckpt", channel_3d=before_3d)
    model, lines = begin(tmp_path / "best.ckpt", channel_3d=now_3d)
    wanted = adapt_stem(before.network.encoder.net._conv_stem.weight, 3 if now_3d else 1)
    assert torch.equal(model.network.encoder.net._conv_stem.weight, wanted)
    assert same(before, model, "decoder") and same(before, model, "head")
    assert f"made for {3 if before_3d else 1} slice(s) an image, now {3 if now_3d else 1}" in lines[0]


@pytest.mark.parametrize("fault", ["backbone", "decoder weight", "head", "text", "description"])
def test_what_does_not_fit_changes_nothing(tmp_path: Path, fault: str) -> None:
    """Catches a network that is taken in part, and a traceback."""
    path = tmp_path / "best.ckpt"
    trained(path)
    content = torch.load(path, weights_only=True)
    names = {"decoder weight": next(name for name in content["state_dict"] if ".decoder." in name)}
    names |= {"head": "network.head.0.bias", "text": "network.encoder.net._bn0.weight"}
    if fault == "description":
        content["hyper_parameters"] = {"labels": 3}
    elif fault in names:
        content["state_dict"][names[fault]] = "1, 2, 3" if fault == "text" else torch.zeros(9)
    torch.save(content, path)
    more = {"backbone": "efficientnet-b1"} if fault == "backbone" else {}
    model = SarcoModel(describe(BEFORE, pretrained=str(path), **more))
    before = {name: value.clone() for name, value in model.network.state_dict().items() if "head" not in name}
    with pytest.raises((InputError, CheckpointError)) as caught:
        model.load_first_weights(SHARES)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert fault != "backbone" or "--backbone=efficientnet-b0" in str(caught.value)
    assert all(torch.equal(value, model.network.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_an_exported_network_gives_what_its_checkpoint_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_choice: str
) -> None:
    """Catches an export whose weights lost their names or were folded into others."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    monkeypatch.setenv("SARCO_MALLOC", "default")
    run = RunStore(tmp_path).create("first", "Trains", False)
    torch.manual_seed(7)
    model = SarcoModel(describe(BEFORE, model_choice=model_choice))
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "epoch": 0}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, run.checkpoint_path("best"))
    write_onnx_file(ExportOptions(run_id="first", dirpath=tmp_path, onnx=tmp_path / "network.onnx"))
    taken, lines = begin(tmp_path / "network.onnx", model_choice=model_choice)
    assert all(same(model, taken, part) for part in ("encoder", "decoder", "head"))
    assert "encoder, decoder, head of psoas, rectus, obliques" in lines[0]


@pytest.mark.parametrize("fault", ["earlier version", "garbage", "no labels"])
def test_unfit_exports_are_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    """Catches an export of an earlier version, whose weights have no names, and a traceback of protobuf."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    path = tmp_path / "network.onnx"
    proto = onnx.load_model_from_string(
        export_onnx(SarcoModel(describe(BEFORE)).network, np.zeros((1, 1, 64, 64), np.float32))["model.onnx"]
    )
    told = {"run_id": "old7"} | ({"network": json.dumps({"backbone": "b"})} if fault == "no labels" else {})
    onnx.helper.set_model_props(proto, told)
    path.write_bytes(b"hello" * 99 if fault == "garbage" else proto.SerializeToString())
    with pytest.raises(InputError) as caught:
        begin(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert fault != "earlier version" or "export run old7 again" in str(caught.value)


def test_other_pixels_are_told(tmp_path: Path) -> None:
    """Catches muscles that are twice as large as what the network learnt, without a word."""
    from sarco.network.warm_start import KnownNetwork, _tell_of_pixels

    lines: list[str] = []
    for known_mm, pixel_mm in ((None, 1.0), (1.0, None), (1.0, 1.3), (1.0, 1.5), (1.5, 1.0)):
        _tell_of_pixels(KnownNetwork(tmp_path, {}, (), "", "", known_mm), pixel_mm, lines.append)
    assert len(lines) == 2
    assert "1 mm, here they have 1.5 mm" in lines[0] and "--pixel_mm=1.5" in lines[1]


def test_lite_weights_are_taken_without_squeeze_and_excitation(tmp_path: Path) -> None:
    """Catches EfficientNet-Lite files that are refused, and layers that start at random without a word."""
    state = EfficientNet.from_name("efficientnet-b0").state_dict()
    lite = {name: value for name, value in state.items() if not any(layer in name for layer in SQUEEZE)}
    torch.save(lite, tmp_path / "lite0.pth")
    model, lines = begin(tmp_path / "lite0.pth")
    own = model.network.encoder.net.state_dict()
    taken = [name for name in lite if not name.startswith((*NOT_USED, "_conv_stem"))]
    assert len(taken) > 200 and all(torch.equal(own[name], lite[name]) for name in taken)
    assert len(lines) == 1 and "squeeze" in lines[0] and "16 blocks" in lines[0]
    torch.save({k: v for k, v in lite.items() if "_blocks.3." not in k}, tmp_path / "lite0.pth")
    with pytest.raises(InputError, match="missing"):
        begin(tmp_path / "lite0.pth")


def test_description_remembers_what_was_taken(tmp_path: Path) -> None:
    """Catches a run that goes on with other groups of weights than it began with."""
    trained(tmp_path / "best.ckpt")
    description = begin(tmp_path / "best.ckpt")[0].description
    again = RunDescription.from_builtins(description.to_builtins())
    assert again == replace(description, network=replace(description.network, pretrained="no"))


def test_auto_takes_the_built_in_network_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a first network that is not taken, one that does not fit, and a label whose sides are not found."""
    weights = tmp_path / "network.safetensors"
    labels = {1: "psoas_left", 2: "psoas_right", 3: "body"}
    before = trained(tmp_path / "best.ckpt", labels=labels)
    write_built_in(weights, before.description.to_builtins(), before.state_dict(), {})
    monkeypatch.setattr("sarco.runs.built_in.BUILT_IN_WEIGHTS", weights)
    model = SarcoModel(describe({1: "psoas", 2: "liver"}, pretrained="auto"))
    lines: list[str] = []
    model.load_first_weights(SHARES[:3], lines.append)
    assert model.description.weights == "built-in" and model.description.taken == ("encoder", "decoder", "head")
    head = before.network.head.get_parameter("0.weight")
    torch.testing.assert_close(model.network.head.get_parameter("0.weight")[1], head[1:3].mean(0), rtol=1e-2, atol=1e-3)
    assert "taken from the built-in network: encoder, decoder, head of psoas; new: liver; left out: body" in lines
    assert why_not_built_in(NetworkOptions(model_choice="segresnet"), False) == "its decoder is unet, not segresnet"
    assert "--channel_3d" in why_not_built_in(NetworkOptions(), True)
    with pytest.raises(InputError, match="segresnet"):
        other = SarcoModel(describe(BEFORE, pretrained="built-in", model_choice="segresnet"))
        other.load_first_weights(SHARES)
