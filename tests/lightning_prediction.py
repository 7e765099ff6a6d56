"""A series predicted by a Lightning Trainer with `SarcoInfDataModule`: what the pipeline equals."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from sarco.network.device import Device
from sarco.scan.label_volume import LabelVolume
from sarco_infdatamodule import SarcoInfDataModule


class SliceCollector(BasePredictionWriter):
    """Restores each batch as it comes and keeps the label maps only, so that memory does not grow with the series."""

    def __init__(self, datamodule: SarcoInfDataModule) -> None:
        """Starts empty.

        Args:
            datamodule: whose batches are predicted.
        """
        super().__init__(write_interval="batch")
        self.datamodule = datamodule
        series = datamodule.series
        self.volume = LabelVolume(series.shape, series.plane_index)
        self.confidence: dict[int, float] = {}

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Takes the logits of one batch."""
        for restored in self.datamodule.restore(batch, prediction):
            self.volume.put(restored.slice_index, restored.label_map)
            self.confidence[restored.slice_index] = restored.confidence


def predict_with_trainer(model: pl.LightningModule, datamodule: SarcoInfDataModule, device: Device) -> SliceCollector:
    """Predicts all slices of a series.

    Args:
        model: whose logits `SarcoInfDataModule.restore` understands.
        datamodule: the series.
        device: where to compute.
    """
    collector = SliceCollector(datamodule)
    trainer = pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices,
        precision=device.precision,
        logger=False,
        callbacks=[collector],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.predict(model, datamodule=datamodule, return_predictions=False)
    return collector
