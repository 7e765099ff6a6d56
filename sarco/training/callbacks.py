"""What happens around an epoch: checkpoints that survive a power cut, early stopping, and the run's own record."""

import csv
import io
import logging
import shlex
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping

from sarco.core.errors import DataWarning
from sarco.core.files import atomic_file
from sarco.core.messages import count_of, reason_of
from sarco.core.resources import writing
from sarco.network.device import Device
from sarco.quality.folds import score_patients
from sarco.quality.intervals import area_errors
from sarco.runs.store import Run, RunDescription
from sarco.runs.tracking import WandbLogger
from sarco.training.finite import FiniteLoss
from sarco.training.progress import EpochLines, StepBar
from sarco.training.split import pseudonym
from sarco.training.unpredicted import NeverPredicted
from sarco.training.validation_report import ValidationReport

MONITORED = "val_score"  # soft Dice, as SarcoModel logs it
STEPS_BETWEEN_READINGS = 20  # of the loss, on a GPU
# Norm over all weights. Healthy runs have 1 to 2 in the median, and more than this in none to 2 of 100 steps.
LARGEST_GRADIENT = 5.0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill at any moment leaves a whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes, forces to disk, renames.

        Raises:
            InputError: it cannot be written; the one that was there stays.
        """
        target = Path(path)
        otherwise = "or choose another --dirpath"
        if (target.parent / "last.ckpt").is_file():
            folder = shlex.quote(str(target.parent))
            otherwise = (
                f"then go on with --resume_training=yes --ckpt_path_to_resume_from={folder} (what lies there is whole)"
            )
        what = f"the checkpoint of epoch {checkpoint.get('epoch', 0) + 1}"
        with writing(what, target, otherwise, _bytes_of(checkpoint)):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as file:
                _save(checkpoint, file)


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """What `torch.save` does, with the system's own error where a file cannot be written."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides it behind "unexpected pos"
            raise error.__context__ from None
        raise


def _bytes_of(value: Any) -> int:
    """What the tensors of a checkpoint take."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(_bytes_of(item) for item in items)


class BestAndLast(Checkpoint):
    """Writes ``last.ckpt`` at the end of each epoch, and ``best.ckpt`` when the validation score is beaten.

    The score is soft Dice, less 1 where the network finds nothing: no such epoch beats one that does.
    Lightning's own ModelCheckpoint is not used: its ``save_last`` (2.6) leaves out epochs that are not the best, so
    that a run could not go on after its last finished epoch; and it forgets the best score when a folder is moved.
    """

    def __init__(self, run: Run) -> None:
        """Checkpoints go to the run's folder."""
        self.run = run
        self.best_score: float | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves; a kill between the two files is mended when the epoch is run again."""
        score = float(trainer.callback_metrics[MONITORED])
        beaten = self.best_score is None or score > self.best_score
        if beaten:
            self.best_score = score  # first, because it is part of what is saved
            trainer.save_checkpoint(self.run.checkpoint_path("best"))
        trainer.save_checkpoint(self.run.checkpoint_path("last"))

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.best_score = state_dict["best_score"]


class PatientEarlyStopping(EarlyStopping):
    """Stops where the best validation score has not been beaten for ``patience`` epochs."""

    def __init__(self, patience: int) -> None:
        """Waits for so many epochs."""
        super().__init__(monitor=MONITORED, mode="max", patience=patience)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting; the patience is the one asked for now."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def why_stopped(self) -> str:
        """Why the run ended before its last epoch; empty where it did not."""
        if not self.stopped_epoch:
            return ""
        epochs = count_of(self.wait_count, "epoch")
        return (
            f"stopped early after epoch {self.stopped_epoch + 1}: the validation score was not beaten for {epochs} "
            "(--patience)"
        )


class RunEvidence(pl.Callback):
    """Puts into the run's description what predictions are judged by: training statistics and validation errors.

    The errors are those of the epoch that is saved, so ``best.ckpt`` holds the errors of the best epoch.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Measures the training slices, once a run."""
        datamodule = _datamodule_of(trainer)
        if datamodule:
            statistics = datamodule.training_statistics()
            pl_module.description = replace(pl_module.description, training_statistics=statistics)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keeps the relative area errors and the scores of the validation patients."""
        datamodule = _datamodule_of(trainer)
        if not datamodule:
            return
        patients = datamodule.validation_patients()
        confusions: dict[str, list[Any]] = {}
        for index, confusion in pl_module.slice_confusions.items():
            if index in patients:
                confusions.setdefault(pseudonym(patients[index]), []).append(confusion.numpy())
        areas = {  # labels without the background, truth in rows, prediction in columns
            patient: [(one.sum(1)[1:].tolist(), one.sum(0)[1:].tolist()) for one in slices]
            for patient, slices in confusions.items()
        }
        names = list(pl_module.description.labels.names.values())
        scores = score_patients(confusions, names)
        pl_module.description = replace(pl_module.description, area_errors=area_errors(areas, names), validation=scores)


def _datamodule_of(trainer: pl.Trainer) -> Any:
    """The data module, where it is one of sarco's."""
    datamodule = getattr(trainer, "datamodule", None)
    return datamodule if hasattr(datamodule, "validation_patients") else None


class RunRecord(Checkpoint):
    """Keeps ``metrics.csv`` and ``curves.png`` in the run's folder, so that a run can be judged without W&B.

    It is a `Checkpoint` because Lightning calls those last, when the training scores of the epoch are in.
    """

    def __init__(self, run: Run) -> None:
        """Files go to the run's folder."""
        self.csv_path = run.folder / "metrics.csv"
        self.png_path = run.folder / "curves.png"
        self.rows: list[dict[str, str]] = []
        self.learning_rate = 0.0
        self._told: set[Path] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps what an earlier part of the run wrote, up to where it goes on."""
        if self.csv_path.is_file():
            with open(self.csv_path, newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the learning rate that the epoch began with."""
        if batch_idx == 0:
            self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
            pl_module.log("learning_rate", self.learning_rate, on_step=False, on_epoch=True, rank_zero_only=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds a line."""
        metrics = trainer.callback_metrics  # on every process: reading them brings them together
        if not trainer.is_global_zero:
            return
        figures = {name: f"{float(value):.6g}" for name, value in sorted(metrics.items())}
        for name in ("learning_rate", "loss"):  # of the next epoch, and of the last step
            figures.pop(name, None)
        self.rows.append({"epoch": str(trainer.current_epoch), "learning_rate": f"{self.learning_rate:.6g}", **figures})
        self._keep(self.csv_path, write_rows)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the curves."""
        if trainer.is_global_zero and self.rows:
            self._keep(self.png_path, draw_curves)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Draws the curves of a run that was interrupted, too; why it ended is news enough where that fails."""
        self._told.add(self.png_path)
        self.on_fit_end(trainer, pl_module)

    def _keep(self, path: Path, write: Callable[[list[dict[str, str]], Path], None]) -> None:
        """Writes a file of the record; that it cannot be is told once, and no reason for a run to end."""
        try:
            write(self.rows, path)
        except Exception as error:  # matplotlib has many ways to fail
            if path not in self._told:
                self._told.add(path)
                warnings.warn(
                    f"{path}: cannot be written ({reason_of(error)}); the training goes on without it",
                    DataWarning,
                    stacklevel=2,
                )


def write_rows(rows: list[dict[str, str]], path: Path) -> None:
    """Writes ``metrics.csv``, whole.

    Args:
        rows: a line each; columns that a line lacks stay empty.
        path: the file.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        text.detach()


def make_trainer(
    description: RunDescription,
    run: Run,
    device: Device,
    logger: WandbLogger | None,
    lines: EpochLines | None = None,
    bar: bool = False,
) -> pl.Trainer:
    """Lightning's Trainer with checkpoints, early stopping, the run's record and, with W&B, overlays.

    Args:
        description: options of the run.
        run: its folder.
        device: where it trains.
        logger: W&B, or None.
        lines: what is told of each epoch; nothing by default.
        bar: whether somebody watches the steps.
    """
    fit, options = description.fit, description.run
    # The record first: killed between the two, a run does an epoch again rather than go on without its line.
    # Whoever reads a figure makes a GPU wait for it, so there not every step is shown.
    shown_steps = 1 if device.accelerator == "cpu" else STEPS_BETWEEN_READINGS
    callbacks: list[pl.Callback] = [FiniteLoss(run, shown_steps), RunEvidence(), RunRecord(run), BestAndLast(run)]
    if lines:
        callbacks += [lines, NeverPredicted(lines.tell)]
    if bar:
        callbacks.append(StepBar(refresh_rate=shown_steps))
    if fit.stops_early:
        callbacks.append(PatientEarlyStopping(fit.patience))
    if logger:
        callbacks.append(ValidationReport(description.labels))
    # Named, because Lightning would otherwise let variables of SLURM or LSF decide how many processes there are.
    environment = TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices,
        num_nodes=options.num_nodes,
        strategy="ddp" if options.devices * options.num_nodes > 1 else "auto",
        precision=device.precision,
        max_epochs=fit.max_epochs,
        accumulate_grad_batches=fit.accumulate_grad_batches,
        gradient_clip_val=LARGEST_GRADIENT,
        logger=logger or False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), environment],
        deterministic="warn",
        use_distributed_sampler=False,  # our samplers know about processes, and count no slice twice
        num_sanity_val_steps=0,
        log_every_n_steps=shown_steps,
        enable_progress_bar=bar,
        enable_model_summary=False,
    )


def best_score(trainer: pl.Trainer) -> float | None:
    """The best validation score so far; None where no epoch was finished."""
    return next(c.best_score for c in trainer.checkpoint_callbacks if isinstance(c, BestAndLast))


def why_stopped(trainer: pl.Trainer) -> str:
    """Why a training ended before its last epoch; empty where it did not."""
    stopping = trainer.early_stopping_callback
    return stopping.why_stopped() if isinstance(stopping, PatientEarlyStopping) else ""


def draw_curves(rows: list[dict[str, str]], path: Path) -> None:
    """Draws loss, scores and learning rate over the epochs.

    Args:
        rows: of ``metrics.csv``.
        path: the picture.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would tell of a home that cannot be written
    from matplotlib.figure import Figure  # half a second to import, needed once a run

    panels = (
        ("loss", ("train_loss", "val_loss")),
        ("average precision and Dice", ("train_ap", "val_ap", "train_dice", "val_dice")),
        ("muscle area error", ("train_area_error", "val_area_error")),
        ("learning rate", ("learning_rate",)),
    )
    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for name in names:
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axes.set(title=title, xlabel="epoch")
        if title in ("average precision and Dice", "muscle area error"):
            axes.set_ylim(0, 1)  # the first epochs' area error can be 20 and hide the rest
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with atomic_file(path) as file:
        figure.savefig(file, dpi=80, format="png")
