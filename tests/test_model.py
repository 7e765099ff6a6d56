"""The model: its checkpoint, weights from outside, and that it learns."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from model import SarcoModel
from sarco.core.errors import CheckpointError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.encoder import BATCH_NORM_MOMENTUM
from sarco.network.mixing import Mix
from sarco.network.segmentation import build_network
from sarco.network.weights import load_encoder_weights
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.runs.store import RunDescription
from sarco.scan.labels import LabelTable


def options(backbone: str = "efficientnet-b0", **changes: Any) -> NetworkOptions:
    """Network options without a download."""
    return NetworkOptions(**{"backbone": backbone, "pretrained": "no", **changes})


def describe(seed: int = 0, channel_3d: bool = False, **network: Any) -> RunDescription:
    """A run on 64 x 64 pixels with one label."""
    return RunDescription(
        run=RunOptions(run_id="aa", wandb="no"),
        labels=LabelTable({1: "muscle"}),
        data=DataOptions(image_size=64, crop="box", seed=seed, channel_3d=channel_3d),
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


def weights_file(path: Path, backbone: str = "efficientnet-b0", **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A state dict as efficientnet-pytorch publishes them: 3 channels, with the classifier."""
    state = EfficientNet.from_name(backbone).state_dict()
    torch.save({**state, **changes}, path)
    return path, state


def test_weights_from_a_run_of_sarco(tmp_path: Path) -> None:
    """Catches an own checkpoint that is refused, or whose decoder confuses the reader."""
    trained = SarcoModel(describe(seed=1))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "best.ckpt")
    network = build_network(options(), 1, 5)
    load_encoder_weights(network, options(pretrained=str(tmp_path / "best.ckpt")))
    for name, value in trained.network.encoder.net.state_dict().items():
        assert torch.equal(network.encoder.net.state_dict()[name], value)


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


@pytest.mark.parametrize("model_choice", ["unet", "segresnet"])
def test_checkpoints_of_earlier_versions_keep_their_activation(tmp_path: Path, model_choice: str) -> None:
    """Catches an old network that is opened with the new layers, and gives other masks than it did."""
    before = SarcoModel(replace(describe(model_choice=model_choice), activation="relu")).eval()
    checkpoint: dict[str, Any] = {"state_dict": before.state_dict()}
    before.on_save_checkpoint(checkpoint)
    del checkpoint["hyper_parameters"]["activation"]
    torch.save(checkpoint, tmp_path / "best.ckpt")
    again = SarcoModel.from_checkpoint(tmp_path / "best.ckpt").eval()
    kinds = [{type(one) for one in model.network.decoder.modules()} for model in (again, SarcoModel(describe()))]
    assert nn.ReLU in kinds[0] and nn.LeakyReLU not in kinds[0]
    assert nn.LeakyReLU in kinds[1]
    new = SarcoModel(describe(model_choice=model_choice)).eval()
    new.load_state_dict(before.state_dict())
    with torch.no_grad():
        assert torch.equal(again(random_image(1)), before(random_image(1)))
        assert not torch.equal(new(random_image(1)), before(random_image(1)))


def test_unknown_activation_is_refused(tmp_path: Path) -> None:
    """Catches a checkpoint of a later version that ends with a traceback."""
    checkpoint: dict[str, Any] = {"state_dict": SarcoModel(describe()).state_dict()}
    SarcoModel(describe()).on_save_checkpoint(checkpoint)
    checkpoint["hyper_parameters"]["activation"] = "mish"
    torch.save(checkpoint, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="mish"):
        SarcoModel.from_checkpoint(tmp_path / "best.ckpt")


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


def test_the_score_is_of_labels_that_the_truth_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a label that no validation slice holds and that pulls every score to a part of what it is."""
    model = SarcoModel(replace(describe(), labels=LabelTable({1: "psoas", 2: "rectus"})))
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: float(value)}))
    label = torch.zeros(1, 4, 4, dtype=torch.long)
    label[0, :2] = 1
    probability = nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    model.val_scores.update(probability, label, torch.tensor([0]))
    model.val_loss_sums.update(torch.tensor([8.0, 0.0, 16.0, 0.5, 1.0, 16.0]))
    model.on_validation_epoch_end()
    assert logged["val_score"] == pytest.approx(1.0)


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


def test_an_epoch_that_finds_nothing_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a best checkpoint that ranks pixels well and predicts no muscle at all, as young networks do."""
    label = torch.zeros(1, 8, 8, dtype=torch.long)
    label[0, :2] = 1
    muscle = label.float()
    timid = 0.1 + 0.3 * muscle  # ranks every pixel right, and calls none of them muscle
    clumsy = torch.where(torch.arange(64).reshape(1, 8, 8) % 3 == 0, 0.9, 0.1)  # finds some, by chance
    model, scores = SarcoModel(describe()), []
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: float(value)}))
    for probability in (timid, clumsy, muscle.clamp(0.1, 0.9)):
        model.val_scores.update(torch.stack([1 - probability, probability], dim=1), label, torch.tensor([0]))
        model.val_loss_sums.update(torch.tensor([(probability * label).sum(), (probability + label).sum(), 1.0, 64.0]))
        model.on_validation_epoch_end()
        scores.append((logged["val_score"], logged["val_soft_dice"], logged["val_dice"]))
    (nothing, high, zero), (some, low, _), (best, sure, _) = scores
    assert zero == 0 and high > low
    assert nothing < some < best
    assert nothing == pytest.approx(high - 1) and some == pytest.approx(low) and best == pytest.approx(sure)


def partly() -> tuple[SarcoModel, dict[str, torch.Tensor]]:
    """A model of two labels, and a batch of two slices: a person drew label 1 alone, the invented one has both."""
    model = SarcoModel(replace(describe(), labels=LabelTable({1: "psoas", 2: "body"})))
    label = torch.zeros(2, 64, 64, dtype=torch.long)
    label[0, :20] = 1
    label[1, :20], label[1, 20:40] = 1, 2
    known = torch.tensor([[True, True, False], [True, True, True]])
    batch = {"image": random_image(1), "label": label, "weight": torch.ones(2), "index": torch.arange(2)}
    return model, {**batch, "known": known}


def logits_of(channel: torch.Tensor) -> torch.Tensor:
    """Logits (B, 3, R, C) of a network that is sure of these channels (B, R, C)."""
    return 20 * nn.functional.one_hot(channel, 3).movedim(-1, 1).float()


def test_labels_that_a_person_did_not_draw_are_no_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a loss or a score that punishes a network for what it finds where nobody looked."""
    model, batch = partly()
    monkeypatch.setattr(SarcoModel, "log", lambda *_, **__: None)
    found = batch["label"].clone()
    found[0, 20:40] = 2  # the person's slice has a body too
    monkeypatch.setattr(SarcoModel, "forward", lambda self, image, mix=None: logits_of(found))
    assert float(model.training_step(batch, 0)) == pytest.approx(0, abs=1e-4)
    model.validation_step(batch, 0)
    for scores in (model.train_scores.compute(), model.val_scores.compute()):
        assert float(scores["dice"]) == 1 and float(scores["accuracy"]) == 1
    assert float(model.loss.from_sums(model.val_loss_sums.compute())) == pytest.approx(0, abs=1e-4)
    without = {name: value for name, value in batch.items() if name != "known"}
    assert float(model.training_step(without, 0)) > 0.5


def test_a_mixed_slice_knows_what_both_its_parts_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches mixup that teaches a share of a label to a slice of which a part may hold more of it."""
    model, batch = partly()
    model.description = replace(model.description, mixup=MixupOptions(mixup="input"))
    monkeypatch.setattr(SarcoModel, "log", lambda *_, **__: None)
    monkeypatch.setattr("model.draw_mix", lambda *_: Mix(0.5, torch.tensor([1, 0]), 0))
    seen = []
    for body in (0, 2):  # whether that part is called background or body
        sure = torch.zeros(2, 64, 64, dtype=torch.long)
        sure[:, :20], sure[:, 20:] = 1, body
        monkeypatch.setattr(SarcoModel, "forward", lambda self, image, mix=None, sure=sure: logits_of(sure))
        seen.append(float(model.training_step(batch, 0)))
    assert seen == pytest.approx([0, 0], abs=1e-4)
