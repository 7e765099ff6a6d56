"""SarcoModel: trains the network, as Lightning wants it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from mixup import draw_mix, mix_target
from sarco.anatomy.labels import invented_names
from sarco.network.encoder import BATCH_NORM_MOMENTUM
from sarco.network.head import start_head
from sarco.network.mixing import Mix
from sarco.network.segmentation import SegmentationNetwork, load_network, network_of
from sarco.network.taken import parameter_groups, set_rates, taken_modules
from sarco.network.warm_start import give_first_weights
from sarco.runs.store import RunDescription
from sarco.training.loss import SegmentationLoss, fold_logits, fold_target, soft_dice
from sarco.training.sampling import SEED_OF_STEP
from sarco.training.schedule import rate_factor
from sarco.training.scores import SegmentationScores, SumMetric


class SarcoModel(pl.LightningModule):
    """Trains the network; its checkpoint carries the `RunDescription` it was made from."""

    def __init__(self, description: RunDescription, network: SegmentationNetwork | None = None) -> None:
        """Random weights, where no network is given; training gives it the encoder's.

        Args:
            description: network, labels and how to fit.
            network: with the weights of a checkpoint.
        """
        super().__init__()
        self.description = description
        self.n_channels = description.labels.n_channels
        self.network = network or network_of(description)
        self.loss = SegmentationLoss()
        # Sums over the epoch, brought together from all processes when it ends: logging with sync_dist would do so
        # whenever one process happens to look, and the others would wait for ever.
        self.train_loss = SumMetric(2)  # of losses, of slices; torchmetrics' MeanMetric waits for the GPU in each step
        self.train_scores = SegmentationScores(self.n_channels)
        self.val_scores = SegmentationScores(self.n_channels, keep_slices=True)
        self.val_loss_sums = SumMetric(2 * self.n_channels)
        self.slice_confusions: dict[int, torch.Tensor] = {}  # of the last validation, by slice

    @classmethod
    def from_checkpoint(cls, path: Path) -> "SarcoModel":
        """The model that a checkpoint describes, with its weights.

        Raises:
            CheckpointError: see `network.load_network`.
        """
        return cls(*load_network(path))

    def load_first_weights(self, shares: Sequence[float], tell: Callable[[str], object] = lambda line: None) -> None:
        """Gives the network the weights that ``--pretrained`` asks for, and says in the description which they were.

        Args:
            shares: of each channel in the training pixels, background first: where the head starts from.
            tell: takes a line where there is something to say.
        """
        start_head(self.network.head, shares)
        weights, taken = give_first_weights(self.network, self.description, tell, invented_names)
        self.description = replace(self.description, weights=weights, taken=taken)

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """(B, C, R, C) in [0, 1] to logits (B, K, R, C)."""
        return self.network(image.contiguous(memory_format=torch.channels_last), mix)

    def make_target(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """The target (B, K, R, C), shares of each channel, and the weight (B, 1, R, C) of each pixel."""
        label = batch["label"]
        target = nn.functional.one_hot(label.clamp(min=0), self.n_channels).movedim(-1, 1).float()
        weight = batch["weight"].float()[:, None, None, None] * (label >= 0)[:, None]
        return target, weight

    def frozen(self) -> list[nn.Module]:
        """The parts of the network that stay as they are in this epoch."""
        if self.current_epoch >= self.description.network.freeze_epochs:
            return []
        return taken_modules(self.network, self.description.taken)

    def on_train_epoch_start(self) -> None:
        """Lets frozen parts use the statistics that they came with."""
        frozen = self.frozen()
        for module in taken_modules(self.network, self.description.taken):
            module.train(module not in frozen)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps frozen parts as they are; gradients that are not needed at all would confuse DDP when they are."""
        for module in self.frozen():
            for weight in module.parameters():
                weight.grad = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes all chance of a step, and its rate, a function of where the run is, so that it can go on exactly."""
        torch.manual_seed(self._step_rng(batch_idx).integers(2**63))
        fit = self.description.fit
        rate = fit.learning_rate * rate_factor(fit, self.current_epoch + batch_idx / self.trainer.num_training_batches)
        for optimiser in self.trainer.optimizers:
            set_rates(optimiser, self.description.network, rate)

    def _step_rng(self, batch_idx: int) -> np.random.Generator:
        part = batch_idx % self.description.fit.accumulate_grad_batches
        seed = (SEED_OF_STEP, self.description.data.seed, self.global_step, self.global_rank, part)
        return np.random.default_rng(seed)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """The loss of a batch, mixed where that was asked for."""
        target, weight = self.make_target(batch)
        mix = draw_mix(self.description.mixup, len(target), self._step_rng(batch_idx))
        logits = self(batch["image"], mix)
        known = batch.get("known")
        if mix:
            target, weight = mix_target(target, weight, mix)
        if mix and known is not None:  # a mixed slice knows what both its parts know
            known = known & known[mix.partner]
            target = fold_target(target, known)
        logits = logits if known is None else fold_logits(logits, known)
        loss: torch.Tensor = self.loss(logits, target, weight)
        self.log("loss", loss, prog_bar=True, batch_size=len(target))
        counted = torch.stack([loss.detach() * len(target), torch.full_like(loss, len(target))])
        self.train_loss.update(counted.where(counted.isfinite().all(), 0.0))  # of steps that half precision left out
        if not mix:  # a mixed slice has no one truth to be scored against
            self.train_scores.update(torch.softmax(logits.detach().float(), dim=1), batch["label"], batch["index"])
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs the scores of the training slices, as they were when each was learnt from."""
        total, n = self.train_loss.compute()
        self.log("train_loss", (total / n).float(), prog_bar=True)
        self.train_loss.reset()
        if self.train_scores.update_called:
            self._log_scores("train", self.train_scores.compute())
            self.train_scores.reset()

    def on_validation_epoch_start(self) -> None:
        """Measures the means and variances of batch normalisation anew, while a run trains.

        The running ones lag behind weights that change fast, and are those of augmented and mixed slices: after the
        first epochs a network that fits can predict nothing with them.
        """
        loader = getattr(getattr(self.trainer, "datamodule", None), "calibration_dataloader", None)
        if self.trainer.state.fn == TrainerFn.FITTING and loader:
            with torch.no_grad(), self.trainer.precision_plugin.val_step_context():
                self.calibrate(batch["image"].to(self.device) for batch in loader())

    def calibrate(self, images: Iterable[torch.Tensor]) -> None:
        """Sets the statistics of batch normalisation to the averages over some batches; those of frozen parts stay.

        Args:
            images: (B, C, R, C) in [0, 1] each.
        """
        kept = {id(layer) for part in self.frozen() for layer in part.modules()}
        layers = [one for one in self.network.modules() if isinstance(one, nn.BatchNorm2d) and id(one) not in kept]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain average
            layer.train()
        for image in images:
            self(image)
        for layer in layers:
            layer.momentum = BATCH_NORM_MOMENTUM
            layer.eval()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Adds a batch to the epoch's scores."""
        logits = self(batch["image"])
        if "known" in batch:
            logits = fold_logits(logits, batch["known"])
        target, weight = self.make_target(batch)
        self.val_loss_sums.update(self.loss.sums(logits, target, weight))
        self.val_scores.update(torch.softmax(logits.float(), dim=1), batch["label"], batch["index"])

    def on_validation_epoch_end(self) -> None:
        """Logs loss and scores of the whole epoch, the same however it was cut into batches."""
        scores = self.val_scores.compute()
        self.slice_confusions = self.val_scores.synced_per_slice
        sums = self.val_loss_sums.compute()
        self.log("val_loss", self.loss.from_sums(sums).float())
        self._log_scores("val", scores)
        occurs = ~scores["dice_per_label"].isnan()
        soft = soft_dice(sums)[occurs].mean() if occurs.any() else torch.zeros_like(sums[0])
        self.log("val_soft_dice", soft.float())
        # Of the figures tried, soft Dice agrees best with Dice on strangers, see benchmarks/checkpoint_choice.py. No
        # epoch whose network finds nothing may be the best.
        self.log("val_score", (soft - (scores["dice"] == 0).to(soft.dtype)).float())
        names = list(self.description.labels.names.values())
        if len(names) > 1:
            for name, dice in zip(names, scores["dice_per_label"].tolist(), strict=True):
                if not math.isnan(dice):
                    self.log(f"val_dice_{name}", dice)
        self.val_scores.reset()
        self.val_loss_sums.reset()

    def _log_scores(self, side: str, scores: Mapping[str, torch.Tensor]) -> None:
        for name in ("dice", "iou", "accuracy", "ap", "area_error"):
            self.log(f"{side}_{name}", scores[name].float(), prog_bar=side == "val" and name in ("dice", "ap"))

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Logits (B, K, S, S)."""
        return self(batch["image"].as_tensor())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; `on_train_batch_start` sets the rate of each group."""
        # Half precision scales gradients, and a fused optimiser would scale them back only after they are clipped.
        fused = getattr(self.trainer.precision_plugin, "scaler", None) is None
        groups = parameter_groups(self.network, self.description.taken)
        return torch.optim.AdamW(groups, lr=self.description.fit.learning_rate, fused=fused)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by norm, as Lightning does, which refuses fused optimisers in bf16 too: there nothing is scaled."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lets the checkpoint describe itself."""
        checkpoint["hyper_parameters"] = self.description.to_builtins()
