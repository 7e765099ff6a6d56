"""The loss against MONAI's, and what weights and pixels that nobody looked at do to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceCELoss

from sarco.training.loss import SegmentationLoss, fold_logits, fold_target

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


def drawn_of_some(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (2, 5, 6, 6), labels (2, 6, 6) and who knows what: the first sample labels 1 and 3, the second all."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 6, 6, generator=generator)
    known = torch.tensor([[True, True, False, True, False], [True] * 5])
    label = torch.randint(0, 5, (2, 6, 6), generator=generator)
    label[0][(label[0] == 2) | (label[0] == 4)] = 0
    return logits, label, known


@given(st.integers(0, 10**6))
def test_background_may_be_any_label_that_nobody_drew(seed: int) -> None:
    """Catches partial labels that teach background where a label stands that the person did not draw."""
    logits, _, known = drawn_of_some(seed)
    log_probability = torch.log_softmax(fold_logits(logits, known), dim=1)
    probability = torch.softmax(logits, dim=1)
    for sample, row, column in [(0, 0, 0), (0, 3, 5), (1, 2, 2), (1, 5, 1)]:
        p = probability[sample, :, row, column]
        for channel in range(5):
            if not known[sample, channel]:
                assert float(log_probability[sample, channel, row, column].exp()) == 0
                continue
            of_it = p[0] + p[~known[sample]].sum() if channel == 0 else p[channel]
            expected = float(of_it.log())
            assert float(log_probability[sample, channel, row, column]) == pytest.approx(expected, abs=1e-4)


def test_no_gradient_says_which_unknown_label_it_is() -> None:
    """Catches Dice or cross-entropy that pulls at a label which nobody looked for."""
    logits, label, known = drawn_of_some(4)
    known[1] = known[0]
    label[label == 2] = label[label == 4] = 0
    logits.requires_grad_()
    target = torch.nn.functional.one_hot(label, 5).movedim(-1, 1).float()
    LOSS(fold_logits(logits, known), target, ones(2)).backward()
    assert logits.grad is not None
    group = [0, 2, 4]
    shares = torch.softmax(logits.detach()[:, group], dim=1)
    of_group = logits.grad[:, group].sum(1, keepdim=True)
    torch.testing.assert_close(logits.grad[:, group], shares * of_group, atol=1e-6, rtol=1e-4)
    assert float(logits.grad[:, 1].abs().max()) > 1e-4


def test_who_knows_all_is_judged_as_ever() -> None:
    """Catches a fold that changes what complete labels teach."""
    logits, _, _ = drawn_of_some(5)
    all_known = torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(fold_logits(logits, all_known), logits)


def test_shares_of_unknown_labels_are_background() -> None:
    """Catches a mixed slice whose shares no longer add up to one."""
    target = torch.rand(2, 5, 3, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    known = torch.tensor([[True, True, False, True, False], [True] * 5])
    folded = fold_target(target, known)
    torch.testing.assert_close(folded.sum(1), torch.ones(2, 3, 3))
    torch.testing.assert_close(folded[0, 0], target[0, [0, 2, 4]].sum(0))
    assert not folded[0, [2, 4]].any()
    torch.testing.assert_close(folded[1], target[1])
