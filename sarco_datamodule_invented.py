"""SarcoDataModule_Invented: invented patients alone train and validate; no data is needed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from sarco.anatomy.labels import INVENTED_LABELS
from sarco.batches.invented import InventedCrops
from sarco.batches.mixed import MixedSampler
from sarco.batches.samples import ALL_NUMBERS, SliceDataset
from sarco.core.errors import OptionError
from sarco.core.training_options import AugmentOptions, DataOptions, PredictedOptions
from sarco.crop.size import settle_crop
from sarco.phantom.stream import FIELD_MM, VALIDATION
from sarco.scan.labels import LabelTable
from sarco.training.cache import CachedSlice, keep_in_memory
from sarco.training.split import Split
from sarco_datamodule import SarcoDataModule

PIXEL_MM = 1.5  # where nobody asks for another
DRAWS_A_PASS, PASSES = 256, 4  # slices that count as one pass over what has no end, and passes an epoch
SAMPLE_SLICES = 32  # of the training, for batch normalisation, the head's start and the statistics
VALIDATION_SLICES = 64
VALIDATION_SEED = 0  # of every run, so that their scores can be compared


class SarcoDataModule_Invented(SarcoDataModule):  # noqa: N801 - named as the others are
    """Invented slices, each of another patient, painted when they are drawn; a fixed set of others validates."""

    def __init__(
        self,
        options: DataOptions,
        augment: AugmentOptions,
        predicted: PredictedOptions,
        style_from: Path | None = None,
    ) -> None:
        """Paints nothing yet.

        Args:
            options: crop, window, seed and loader; where the data is does not matter.
            augment: how training slices are varied.
            predicted: as of other trainings.
            style_from: folder with CT that lends its style to training slices; none by default.

        Raises:
            OptionError: predictions are to be learnt from, too.
        """
        if predicted.add_predicted_data:
            raise OptionError("--add_predicted_data=yes: does nothing with --invented=1; drop one of the two")
        self.channels = 3 if options.channel_3d else 1
        super().__init__(options, None, augment, predicted)
        self.style_from = style_from

    def setup(self, stage: str | None = None) -> None:
        """Settles the crop and paints what validates; the second call does nothing."""
        if hasattr(self, "cache"):
            return
        typed = self.options
        coarse = typed.crop == "field" and typed.image_size is None and typed.pixel_mm is None
        options = replace(typed, pixel_mm=PIXEL_MM) if coarse else typed
        options = settle_crop(options, (), [FIELD_MM])
        self.options = replace(options, passes_per_epoch=options.passes_per_epoch or PASSES)
        self._borrow_styles()
        self.drawn = self.labels = LabelTable(INVENTED_LABELS)
        side, _ = self.options.crop_size
        n = VALIDATION_SLICES + SAMPLE_SLICES
        self.cache = keep_in_memory(n, (self.channels, side, side), self._paint)
        self.split = Split(tuple(range(VALIDATION_SLICES, n)), tuple(range(VALIDATION_SLICES)), by_patient=True)

    def _paint(self) -> Iterator[CachedSlice]:
        validating = InventedCrops(self.options, self.labels, VALIDATION_SEED, VALIDATION)
        for crops, count in ((validating, VALIDATION_SLICES), (self._training_crops(), SAMPLE_SLICES)):
            for number in range(count):
                image, label_map = crops.take(number)
                yield image, label_map, np.unique(label_map).tolist()

    @property
    def draws_per_pass(self) -> int:
        """How many slices count as a pass."""
        return DRAWS_A_PASS

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of slices that nobody saw before; which ones depends on seed and epoch alone."""
        n, size = DRAWS_A_PASS * (self.options.passes_per_epoch or PASSES), self.options.batch_size
        sampler = MixedSampler(n, size, 1.0, *self._rank())
        return self._loader(self.split.train, sampler, size, self.augment, drop_last=len(sampler) % size == 1)

    def _dataset(
        self, indices: Sequence[int], augment: AugmentOptions | None = None, on_device: bool = False
    ) -> Dataset[dict[str, Any]]:
        """What was painted at the start; or, where slices are varied, whatever is painted then."""
        if augment is None:
            return SliceDataset(self.cache, indices, None, self.labels, self.options, None, on_device)
        return SliceDataset(self._training_crops(), ALL_NUMBERS, None, self.labels, self.options, augment, on_device)

    def describe(self) -> list[str]:
        """What there is to learn from, a line each."""
        options = self.options
        side, pixel_mm = options.crop_size
        of_size = f" of {pixel_mm:.3g} mm" if pixel_mm else ""
        epoch = DRAWS_A_PASS * (options.passes_per_epoch or PASSES)
        return [
            f"data: invented patients alone, {epoch} slices an epoch, none twice; {VALIDATION_SLICES} others validate",
            f"labels: {', '.join(f'{label_id} {name}' for label_id, name in self.labels.names.items())}",
            f"crop: {side} x {side} pixels{of_size}",
            *self.notes,
        ]

    def describe_split(self, in_full: bool) -> dict[str, Any]:
        """Who is on which side: invented people of streams that share nobody."""
        train, val = {"invented": True, "seed": self.options.seed}, {"invented": True, "slices": VALIDATION_SLICES}
        return {"by_patient": True, "seed": self.options.seed, "train": train, "val": val}

    def validation_patients(self) -> dict[int, str]:
        """Each validation slice is of a patient of its own."""
        return {index: f"invented {index}" for index in self.split.val}
