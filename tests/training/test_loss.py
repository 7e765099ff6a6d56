"""The loss against MONAI's, and what weights and pixels that nobody looked at do to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceCELoss

from sarco.training.loss import SegmentationLoss

LOSS = SegmentationLoss()


def batch(seed: int = 0, n: int = 4, k: int = 4, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and a hard target, (B, K, R, C) each."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, side, side, generator=generator, dtype=torch.float32)
    label = torch.randint(0, k, (n, side, side), generator=generator)
    return logits, torch.nn.functional.one_hot(label, k).movedim(-1, 1).float()


def ones(n: int = 4) -> torch.Tensor:
    """Every sample counts in full."""
    return torch.ones(n, 1, 1, 1)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_equals_monai(seed: int, k: int) -> None:
    """Catches a loss that is nearly the one its docstring names: background counted, or Dice a sample."""
    logits, target = batch(seed, k=k)
    reference = DiceCELoss(softmax=True, include_background=False, batch=True)
    assert float(LOSS(logits, target, ones())) == pytest.approx(float(reference(logits, target)), abs=1e-5)


def test_equals_monai_with_soft_targets_and_in_its_gradient() -> None:
    """Catches mixed targets that are rounded, and another way down."""
    logits, target = batch(1)
    soft = 0.3 * target + 0.7 * target.flip(0)
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    LOSS(one, soft, ones()).backward()
    DiceCELoss(softmax=True, include_background=False, batch=True)(two, soft).backward()
    assert one.grad is not None and two.grad is not None
    assert torch.allclose(one.grad, two.grad, atol=1e-7)


def test_halves_add_up_to_the_whole() -> None:
    """Catches a validation loss that depends on the batch size, or on how many processes share it."""
    logits, target = batch(2)
    parts = [LOSS.sums(logits[i::2], target[i::2], ones(2)) for i in (0, 1)]
    assert float(LOSS.from_sums(parts[0] + parts[1])) == pytest.approx(float(LOSS(logits, target, ones())), abs=1e-6)


def test_unlabelled_pixels_count_nothing() -> None:
    """Catches sparse labels that teach background wherever nobody looked."""
    logits, target = batch(3)
    weight = torch.ones(4, 1, 12, 12)
    weight[:, :, 5:] = 0
    whole = LOSS(logits[..., :5, :], target[..., :5, :], ones())
    disturbed, other = logits.clone(), target.clone()
    disturbed[..., 5:, :] += 7
    other[..., 5:, :] = other[..., 5:, :].roll(1, dims=1)
    disturbed.requires_grad_()
    loss = LOSS(disturbed, other, weight)
    assert float(loss.detach()) == pytest.approx(float(whole), abs=1e-6)
    loss.backward()
    assert disturbed.grad is not None
    assert (disturbed.grad[..., 5:, :] == 0).all() and (disturbed.grad[..., :5, :] != 0).any()


def test_batch_without_any_label_has_a_loss() -> None:
    """Catches 0 / 0, which makes every weight NaN."""
    logits, target = batch(4)
    logits.requires_grad_()
    loss = LOSS(logits, target, torch.zeros(4, 1, 12, 12))
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and (logits.grad == 0).all()


def test_half_a_weight_is_half_a_sample() -> None:
    """Catches weights that are ignored, squared, or that make the whole loss smaller."""
    logits, target = batch(5, n=2)
    halved = LOSS(logits, target, torch.tensor([1.0, 0.5])[:, None, None, None])
    # Two copies of the first beside one of the second have the same shares.
    copies = LOSS(logits[[0, 0, 1]], target[[0, 0, 1]], ones(3))
    assert float(halved) == pytest.approx(float(copies), abs=1e-5)
    assert float(LOSS(logits, target, 0.5 * ones(2))) == pytest.approx(float(LOSS(logits, target, ones(2))), abs=1e-5)


def test_sample_of_weight_zero_is_not_there() -> None:
    """Catches --predicted_weight=0 that still teaches."""
    logits, target = batch(6)
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None, None, None]
    assert float(LOSS(logits, target, weight)) == pytest.approx(float(LOSS(logits[:2], target[:2], ones(2))), abs=1e-6)


def test_perfect_prediction_costs_nothing() -> None:
    """Catches a constant that keeps the loss from its floor."""
    _, target = batch(7)
    assert float(LOSS(40 * target, target, ones())) == pytest.approx(0, abs=1e-4)


def test_half_precision_is_summed_in_full() -> None:
    """Catches sums over pixels in bfloat16, which stop growing at 256."""
    logits, target = batch(8, side=64)
    rough = logits.to(torch.bfloat16)
    assert LOSS(rough, target, ones()).dtype == torch.float32
    assert float(LOSS(rough, target, ones())) == pytest.approx(float(LOSS(rough.float(), target, ones())), abs=1e-6)
