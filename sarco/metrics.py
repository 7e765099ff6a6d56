"""Dice, IoU, accuracy and average precision of label maps. Counts first, scores once from the sums."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import Metric

N_BINS = 200  # of probability, for average precision


def dice(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Dice of two masks of one shape; 1 where both are empty.

    >>> dice(np.array([1, 1, 0]) > 0, np.array([1, 0, 0]) > 0)
    0.6666666666666666
    """
    overlap = np.count_nonzero(truth & prediction)
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return 1.0 if total == 0 else 2 * overlap / total


def average_precision(positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Average precision from histograms of predicted probability.

    Args:
        positives: (..., bins) number of pixels that belong to the label, by rising probability.
        negatives: (..., bins) number of pixels that do not.

    Returns:
        (...) sum over thresholds of precision x rise in recall; NaN where no pixel belongs to the label.
    """
    true_positive = positives.flip(-1).cumsum(-1).double()
    predicted = true_positive + negatives.flip(-1).cumsum(-1)
    precision = torch.where(predicted > 0, true_positive / predicted, torch.ones_like(predicted))
    recall = true_positive / true_positive[..., -1:]  # 0 / 0 = NaN: no such pixel
    rise = torch.diff(recall, dim=-1, prepend=torch.zeros_like(recall[..., :1]))
    return (precision * rise).sum(-1)


class SegmentationScores(Metric):
    """Scores of a whole epoch, from counts that add up over batches and processes.

    `compute` gives, over labels that occur in the truth: ``dice``, ``iou``, ``ap`` (means over labels), ``accuracy``
    (over all pixels) and ``dice_per_label``.
    """

    full_state_update = False
    confusion: torch.Tensor
    positives: torch.Tensor
    negatives: torch.Tensor

    def __init__(self, n_channels: int) -> None:
        """Starts at zero.

        Args:
            n_channels: background and one a label.
        """
        super().__init__()
        self.n_channels = n_channels
        zeros = torch.zeros(n_channels, n_channels, dtype=torch.long)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")
        for name in ("positives", "negatives"):
            self.add_state(name, torch.zeros(n_channels - 1, N_BINS, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probability: torch.Tensor, target: torch.Tensor) -> None:
        """Adds a batch.

        Args:
            probability: (B, K, R, C), sums to 1 over K.
            target: (B, R, C) channel numbers.
        """
        k = self.n_channels
        target = target.long()
        flat = target.flatten() * k + probability.argmax(1).flatten()
        self.confusion += torch.bincount(flat, minlength=k * k).reshape(k, k)
        bins = (probability * N_BINS).long().clamp_(max=N_BINS - 1)
        for channel in range(1, k):
            belongs = (target == channel).long()
            counts = torch.bincount((bins[:, channel] + belongs * N_BINS).flatten(), minlength=2 * N_BINS)
            self.negatives[channel - 1] += counts[:N_BINS]
            self.positives[channel - 1] += counts[N_BINS:]

    def compute(self) -> dict[str, torch.Tensor]:
        """The scores; means over labels leave out labels that the truth does not hold."""
        hits = self.confusion.diagonal().double()
        truth, predicted = self.confusion.sum(1), self.confusion.sum(0)
        per_label = (2 * hits / (truth + predicted))[1:]
        iou = (hits / (truth + predicted - hits))[1:]
        occurs = truth[1:] > 0
        precision = average_precision(self.positives, self.negatives)
        nothing = torch.zeros((), dtype=torch.double, device=hits.device)
        return {
            "dice": per_label[occurs].mean() if occurs.any() else nothing,
            "iou": iou[occurs].mean() if occurs.any() else nothing,
            "ap": precision[occurs].mean() if occurs.any() else nothing,
            "accuracy": hits.sum() / self.confusion.sum().clamp(min=1),
            "dice_per_label": torch.where(occurs, per_label, torch.nan),
        }


def dice_per_label(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], ids: Sequence[int]) -> dict[int, float]:
    """Dice of each label of two label maps of one shape."""
    return {label_id: dice(truth == label_id, prediction == label_id) for label_id in ids}
