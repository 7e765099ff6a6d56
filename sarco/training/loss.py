"""The loss: Dice of the labels plus cross-entropy, from sums that add up over pixels, batches and processes."""

import torch
from torch import nn

SMOOTH = 1e-5
NEVER = -1e4  # a logit whose probability is exactly 0, finite so that 0 times it is 0


class SegmentationLoss(nn.Module):
    """1 - mean soft Dice of the labels over the batch, plus mean cross-entropy over pixels.

    The same as MONAI's ``DiceCELoss(softmax=True, include_background=False, batch=True)``, with weights: pixels that
    nobody looked at count nothing, samples that a network labelled count less.
    """

    def forward(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The loss of a batch.

        Args:
            logits: (B, K, R, C).
            target: (B, K, R, C) share of each channel in each pixel.
            weight: (B, 1, R, C) or (B, 1, 1, 1) of each pixel.
        """
        return self.from_sums(self.sums(logits, target, weight))

    @staticmethod
    def sums(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """What the loss is made of, to be added up.

        Returns:
            (2 K,) overlap of each label (K - 1, without background), total of prediction and truth of each, then
            cross-entropy and weight over all pixels.
        """
        log_probability = torch.log_softmax(logits.float(), dim=1)
        weight = weight.expand(-1, 1, *logits.shape[2:])
        entropy = -(log_probability * target * weight).sum()
        probability = log_probability[:, 1:].exp()
        overlap = (probability * target[:, 1:] * weight).sum((0, 2, 3))
        total = ((probability + target[:, 1:]) * weight).sum((0, 2, 3))
        return torch.cat([overlap, total, entropy[None], weight.sum()[None]])

    @staticmethod
    def from_sums(sums: torch.Tensor) -> torch.Tensor:
        """The loss from sums over whatever it is the loss of."""
        return 1 - soft_dice(sums).mean() + sums[-2] / sums[-1].clamp(min=1e-8)


def soft_dice(sums: torch.Tensor) -> torch.Tensor:
    """Dice between probabilities and truth of each label (K - 1,), from `SegmentationLoss.sums`."""
    n_labels = (len(sums) - 2) // 2
    overlap, total = sums[:n_labels], sums[n_labels : 2 * n_labels]
    return (2 * overlap + SMOOTH) / (total + SMOOTH)


def fold_logits(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Logits of what a sample can tell: labels that it does not know count as background.

    Where somebody drew some of the labels, background may be any of the others. So the probability of background
    becomes that of background or any unknown label, and theirs becomes 0: cross-entropy is marginal, Dice and scores
    see known labels alone, and no gradient says how the unknown ones share what they have.

    Args:
        logits: (B, K, R, C).
        known: (B, K) bool, background (always known) first.

    Source: Fang and Yan 2020, Multi-organ segmentation over partially labeled datasets (arXiv:2001.00208); Shi et al.
    2021, Marginal loss and exclusion loss (arXiv:2007.03868).
    """
    logits = logits.float()
    unknown = ~known[:, :, None, None]
    of_background = unknown.clone()
    of_background[:, 0] = True
    background = logits.masked_fill(~of_background, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits.masked_fill(unknown, NEVER)[:, 1:]], dim=1)


def fold_target(target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Shares of each channel (B, K, R, C), those of labels that are not known (B, K) added to the background's."""
    told = target * known[:, :, None, None]
    return torch.cat([told[:, :1] + (target - told).sum(1, keepdim=True), told[:, 1:]], dim=1)
