"""Mixup: the same share for features and labels at every level, exact at its ends, and only in training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixup import draw_mix, mix_target
from model import SarcoModel
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.mixing import LEVELS, Mix
from sarco.network.segmentation import build_network
from sarco.runs.store import RunDescription
from sarco.scan.labels import LabelTable
from sarco.training.loss import SegmentationLoss

PARTNER = torch.tensor([2, 0, 3, 1])
LOSS = SegmentationLoss()


@pytest.fixture(scope="module", params=["unet", "segresnet"])
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    """A network in eval mode, so that a sample's logits depend on nothing but the sample."""
    torch.manual_seed(0)
    network = build_network(NetworkOptions(model_choice=request.param, pretrained="no"), 1, 3)
    with torch.no_grad():
        for _ in range(15):  # gives batch normalisation something to go by, else deep features all but vanish
            network(torch.rand(4, 1, 64, 64))
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Four images (4, 1, 64, 64)."""
    return torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def describe(mixup: str = "no", **more: Any) -> RunDescription:
    """A run with one label."""
    return RunDescription(
        run=RunOptions(run_id="x"),
        labels=LabelTable({1: "muscle"}),
        data=DataOptions(image_size=64, crop="box"),
        network=NetworkOptions(pretrained="no"),
        fit=FitOptions(),
        augment=AugmentOptions(),
        mixup=MixupOptions(mixup=mixup, **more),
        predicted=PredictedOptions(),
        weights="random",
        split={},
    )


@pytest.mark.parametrize("level", range(LEVELS))
def test_whole_share_is_no_mixup(network: torch.nn.Module, images: torch.Tensor, level: int) -> None:
    """Catches rounding, and a level where something else is mixed: lambda = 1 equals no mixup bit for bit."""
    with torch.no_grad():
        assert torch.equal(network(images, Mix(1.0, PARTNER, level)), network(images))


@pytest.mark.parametrize("level", range(LEVELS))
def test_no_share_is_the_partner(network: torch.nn.Module, images: torch.Tensor, level: int) -> None:
    """Catches skip connections that are left out of the mix: lambda = 0 equals the partner.

    Up to rounding: some processors add up a convolution in an order that depends on the place in the batch.
    """
    with torch.no_grad():
        mixed, plain = network(images, Mix(0.0, PARTNER, level)), network(images)
    torch.testing.assert_close(mixed, plain[PARTNER], rtol=1e-4, atol=1e-5)
    assert (plain - plain[PARTNER]).abs().max() > 1e-2, "the partners differ, or nothing is shown"


@pytest.mark.parametrize("level", range(LEVELS))
def test_gradient_reaches_both_samples(network: torch.nn.Module, images: torch.Tensor, level: int) -> None:
    """Catches a partner that is detached, and so teaches nothing."""
    image = images.clone().requires_grad_()
    network(image, Mix(0.4, PARTNER, level))[0].square().mean().backward()
    assert image.grad is not None
    sizes = image.grad.abs().amax(dim=(1, 2, 3))
    assert sizes[0] > 0 and sizes[PARTNER[0]] > 0
    assert sizes[1] == 0 and sizes[3] == 0, "nobody but the two"


@pytest.mark.parametrize("level", range(LEVELS))
def test_skip_connections_are_mixed_by_the_same_share(
    network: torch.nn.Module, images: torch.Tensor, level: int
) -> None:
    """Catches a decoder that sees one patient's outlines and two patients' muscles."""
    mix = Mix(0.3, PARTNER, level)
    with torch.no_grad():
        plain, mixed = network.encoder(images), network.encoder(images, mix)
        for depth in range(1, level + 1):
            assert torch.equal(mixed[depth], mix(plain[depth])), depth
        seen: list[torch.Tensor] = []
        handle = network.decoder.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
        network(images, mix)
        handle.remove()
    assert all(torch.equal(one, two) for one, two in zip(seen[1:], mixed[1:], strict=True))


def test_level_0_is_input_mixup(network: torch.nn.Module, images: torch.Tensor) -> None:
    """Catches two kinds of mixing images."""
    mix = Mix(0.3, PARTNER, 0)
    with torch.no_grad():
        assert torch.equal(network(images, mix), network(mix(images)))


def test_encoder_is_not_disturbed_by_a_mix(network: torch.nn.Module, images: torch.Tensor) -> None:
    """Catches features that are mixed in place."""
    with torch.no_grad():
        before = network(images)
        network(images, Mix(0.3, PARTNER, 3))
        assert torch.equal(network(images), before)


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_mixed_target_is_the_mix_of_the_targets(share: float, seed: int) -> None:
    """Catches a share that goes to the wrong one of the two, and shares of channels that do not add up to 1."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.nn.functional.one_hot(torch.randint(0, 3, (4, 5, 5), generator=generator), 3).movedim(-1, 1).float()
    mixed, weight = mix_target(target, torch.ones(4, 1, 5, 5), Mix(share, PARTNER, 2))
    assert torch.allclose(mixed, share * target + (1 - share) * target[PARTNER], atol=1e-6)
    assert torch.allclose(mixed.sum(1), torch.ones(4, 5, 5), atol=1e-6)
    assert torch.allclose(weight, torch.ones(4, 1, 5, 5))


def labelled_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch with a predicted sample and with pixels that nobody looked at."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 2, (4, 64, 64), generator=generator)
    return {
        "image": torch.rand(4, 1, 64, 64, generator=generator),
        "label": label,
        "weight": torch.tensor([1.0, 0.5, 1.0, 0.5]),
        "index": torch.arange(4),
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_cross_entropy_under_mixing_is_the_mixed_cross_entropy(share: float) -> None:
    """Catches weights and unlabelled pixels that go to the wrong one of a pair (Zhang 2018, equation 1)."""
    model, batch = SarcoModel(describe()), labelled_batch()
    target, weight = model.make_target(batch)
    mix = Mix(share, PARTNER, 1)
    logits = torch.randn(4, 2, 64, 64, generator=torch.Generator().manual_seed(3))
    mixed = LOSS.sums(logits, *mix_target(target, weight, mix))
    own, others = LOSS.sums(logits, target, weight), LOSS.sums(logits, target[PARTNER], weight[PARTNER])
    assert torch.allclose(mixed, share * own + (1 - share) * others, rtol=1e-4)


def test_predicted_partner_counts_by_its_weight() -> None:
    """Catches a human label that loses half its share to a partner that counts half, or the other way round."""
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, :, None, None]  # muscle, background
    weight = torch.tensor([1.0, 0.5])[:, None, None, None]
    mixed, mixed_weight = mix_target(target, weight, Mix(0.5, torch.tensor([1, 0]), 0))
    assert mixed_weight.flatten().tolist() == pytest.approx([0.75, 0.75])
    assert mixed[:, 1].flatten().tolist() == pytest.approx([2 / 3, 2 / 3])


def test_unlabelled_partner_leaves_the_other_ones_label() -> None:
    """Catches pixels that nobody looked at, taken for background in a mix."""
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, :, None, None]
    weight = torch.tensor([1.0, 0.0])[:, None, None, None]
    mixed, mixed_weight = mix_target(target, weight, Mix(0.3, torch.tensor([1, 0]), 0))
    assert mixed[:, 1].flatten().tolist() == [1.0, 1.0]
    assert mixed_weight.flatten().tolist() == pytest.approx([0.3, 0.7])
    both, nothing = mix_target(target, torch.zeros(2, 1, 1, 1), Mix(0.3, torch.tensor([1, 0]), 0))
    assert torch.isfinite(both).all() and (nothing == 0).all()


@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.0, 4.0])
def test_shares_follow_beta(alpha: float) -> None:
    """Catches another distribution, such as max(lambda, 1 - lambda)."""
    options = MixupOptions(mixup="input", mixup_alpha=alpha)
    shares = np.array([draw_mix(options, 4, np.random.default_rng(seed)).share for seed in range(4000)])  # type: ignore[union-attr]
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_same_chance_same_mix() -> None:
    """Catches a mix that a resumed run cannot draw again."""
    options = MixupOptions(mixup="manifold")
    one, two, other = (draw_mix(options, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one and two and other
    assert (one.share, one.level, one.partner.tolist()) == (two.share, two.level, two.partner.tolist())
    assert one.share != other.share
    assert sorted(one.partner.tolist()) == list(range(8)), "everybody is somebody's partner once"


def test_random_level_reaches_all_levels() -> None:
    """Catches a random level that leaves out the image or the deepest features."""
    mixes = [draw_mix(MixupOptions(mixup="manifold"), 4, np.random.default_rng(seed)) for seed in range(200)]
    counts = np.bincount([mix.level for mix in mixes if mix], minlength=LEVELS)
    assert len(counts) == LEVELS == 6 and counts.min() > 15


@pytest.mark.parametrize("level", range(LEVELS))
def test_fixed_level_is_kept(level: int) -> None:
    """Catches --mixed_layer that is accepted and not used."""
    options = MixupOptions(mixup="manifold", mixed_layer=str(level))
    mixes = [draw_mix(options, 4, np.random.default_rng(seed)) for seed in range(10)]
    assert {mix.level for mix in mixes if mix} == {level}


def test_input_mixup_mixes_images() -> None:
    """Catches --mixup=input that mixes features, because --mixed_layer says so."""
    options = MixupOptions(mixup="input", mixed_layer="4")
    assert {draw_mix(options, 4, np.random.default_rng(seed)).level for seed in range(20)} == {0}  # type: ignore[union-attr]


def test_nothing_to_mix() -> None:
    """Catches mixing that nobody asked for, and a sample mixed with itself."""
    assert draw_mix(MixupOptions(), 4, np.random.default_rng(0)) is None
    assert draw_mix(MixupOptions(mixup="input"), 1, np.random.default_rng(0)) is None


@pytest.mark.parametrize("kind", ["no", "input", "manifold"])
def test_training_step_learns_from_the_mix(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a mix of the images without the labels, or of the labels without the images."""
    torch.manual_seed(0)
    model = SarcoModel(describe(kind, mixed_layer="2")).eval()
    model.description = replace(model.description, data=replace(model.description.data, seed=5))
    monkeypatch.setattr(SarcoModel, "log", lambda *_, **__: None)
    monkeypatch.setattr(SarcoModel, "_step_rng", lambda *_: np.random.default_rng(11))
    batch = labelled_batch()
    loss = model.training_step(batch, 0)
    mix = draw_mix(model.description.mixup, 4, np.random.default_rng(11))
    target, weight = model.make_target(batch)
    if mix:
        assert mix.level == (0 if kind == "input" else 2)
        target, weight = mix_target(target, weight, mix)
    assert torch.equal(loss, LOSS(model(batch["image"], mix), target, weight))
    assert (mix is None) == model.train_scores.update_called, "a mixed slice has no one truth to be scored against"


@pytest.mark.parametrize("kind", ["input", "manifold"])
def test_validation_is_never_mixed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches scores that depend on --mixup for the same weights."""
    logged: dict[str, dict[str, float]] = {}
    batch = labelled_batch()
    for mixup in ("no", kind):
        torch.manual_seed(0)
        model = SarcoModel(describe(mixup)).eval()
        found = logged.setdefault(mixup, {})
        monkeypatch.setattr(
            SarcoModel, "log", lambda _, name, value, found=found, **__: found.update({name: float(value)})
        )
        with torch.no_grad():
            model.validation_step(batch, 0)
            model.on_validation_epoch_end()
    assert logged["no"] == logged[kind] and {"val_loss", "val_ap", "val_dice"} <= logged["no"].keys()
