"""SarcoInfDataModule: a series for a Lightning Trainer, and `restore`, the way back onto the patient's grid.

inference.py goes through `sarco.prediction.pipeline`, which does the same without Lightning and MONAI; tests hold that
both give the same label map.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from sarco.batches.samples import scale_window
from sarco.core.errors import GeometryError
from sarco.core.training_options import DataOptions
from sarco.crop.slices import RestoredSlice
from sarco.io.images import read_hu
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, find_neighbours
from transforms import as_meta_tensor, make_crop, placement_of

AFFINE_TOLERANCE_MM = 1e-3
BATCHES_AHEAD = 2  # decoded while the network works


class SarcoInfDataModule(pl.LightningDataModule):
    """One series to predict.

    A batch is a dict: ``image`` MetaTensor (B, C, S, S) in [0, 1] that carries its crop in its trace; ``series_uid``,
    ``slice_index`` and ``patient_id`` say what each sample is. The order of arrival is never used.
    """

    def __init__(self, series: Series, options: DataOptions, labels: LabelTable, batch_size: int) -> None:
        """Remembers the series; slices are read while batches are drawn.

        Args:
            series: what to predict.
            options: crop, window and 2D/3-slice as in training: those of the checkpoint.
            labels: what each channel of the network means.
            batch_size: slices a forward pass.
        """
        super().__init__()
        self.series = series
        self.batch_size = batch_size
        self.crop = make_crop(options, keys=("image",))
        self.options = options
        self._id_of_channel = np.array([0, *labels.ids], dtype=np.uint8)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches in order of position; a thread reads ahead while the network works."""
        dataset = SeriesDataset(self.series, self.options, self.crop)
        return ReadAheadLoader(dataset, batch_size=self.batch_size, num_workers=0, collate_fn=list_data_collate)

    def restore(self, batch: Mapping[str, Any], logits: torch.Tensor) -> list[RestoredSlice]:
        """Brings the network's output back onto the grid of the slices it was made from.

        What comes back is what ``Invertd`` and argmax give, pixel for pixel, ten times as fast.

        Args:
            batch: a batch of `predict_dataloader`.
            logits: (B, K, S, S) the network's output for it.

        Raises:
            GeometryError: a map did not come back onto its slice's grid.
        """
        image = batch["image"]
        if not isinstance(image, MetaTensor):
            raise self._lost(int(batch["slice_index"][0]))
        probability = torch.softmax(logits.float(), dim=1).cpu()  # (B, K, S, S)
        winning = probability.amax(dim=1)  # (B, S, S)
        in_body = image.as_tensor()[:, image.shape[1] // 2].cpu() > 0
        confidence = (winning * in_body).sum((1, 2)) / in_body.sum((1, 2)).clamp(min=1)
        samples = decollate_batch({"image": image.cpu(), "slice_index": batch["slice_index"]})
        restored = []
        for sample, maps, mean in zip(samples, probability, confidence.tolist(), strict=True):
            plane = int(sample["slice_index"])
            if not self._has_our_trace(sample["image"]):
                raise self._lost(plane)
            trace = sample["image"].applied_operations[-1]
            placement = placement_of(trace, image.shape[-1])
            self._check_grid(placement.shape, trace["extra_info"]["affine"].numpy(), plane)
            channel = placement.restore_channels(maps.numpy())
            restored.append(RestoredSlice(plane, self._id_of_channel[channel], float(mean)))
        return restored

    def _has_our_trace(self, image: MetaTensor) -> bool:
        """Whether an image was cropped by `crop` and nothing else; MONAI knows transforms by their identity."""
        return [int(step["id"]) for step in image.applied_operations] == [id(step) for step in self.crop.transforms]

    def _check_grid(self, shape: tuple[int, int], affine_lps: NDArray[np.float64], plane: int) -> None:
        """Raises where a map would come back onto another grid than its slice's."""
        expected = self.series.plane_affine_lps(plane)
        same = np.allclose(affine_lps, expected, rtol=0, atol=AFFINE_TOLERANCE_MM)
        if shape != self.series.shape[:2] or not same:
            raise self._lost(plane)

    def _lost(self, plane: int) -> GeometryError:
        return GeometryError(
            f"series {self.series.uid}: the prediction of slice {plane} did not come back onto its grid; "
            "please report this"
        )


class ReadAheadLoader(DataLoader[dict[str, Any]]):
    """A loader whose batches are made by a thread while the network works.

    MONAI's ThreadDataLoader does that too, but an error while a slice is read ends its batches in silence.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The batches, in order; an error of the thread is raised here."""
        batches = super().__iter__()
        with ThreadPoolExecutor(max_workers=1) as thread:
            waiting = deque(thread.submit(next, batches, None) for _ in range(BATCHES_AHEAD))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, batches, None))
                yield batch


class SeriesDataset(Dataset[dict[str, Any]]):
    """The slices of a series, cropped and windowed."""

    def __init__(self, series: Series, options: DataOptions, crop: Compose) -> None:
        """Reads nothing yet.

        Args:
            series: the slices.
            options: window and 2D/3-slice.
            crop: the pipeline whose inverse `SarcoInfDataModule.restore` applies.
        """
        self.series = series
        self.options = options
        self.crop = crop
        self._neighbours = dict(find_neighbours(series.slices))
        self._read = lru_cache(maxsize=4)(read_hu)  # neighbours are decoded once

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.series.slices)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """One sample, as `SarcoInfDataModule` describes it."""
        header = self.series.slices[place]
        plane = self.series.plane_index[place]
        headers = [header]
        if self.options.channel_3d:
            below, above = self._neighbours[header]
            headers = [below, header, above]
        hu = np.stack([self._read(h) for h in headers])
        sample: dict[str, Any] = self.crop({"image": as_meta_tensor(hu, self.series.plane_affine_lps(plane))})
        sample["image"] = scale_window(sample["image"], self.options.hu_min, self.options.hu_max)
        return {
            **sample,
            "series_uid": self.series.uid,
            "slice_index": plane,
            "patient_id": header.patient_id,
        }
