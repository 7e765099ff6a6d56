"""Trains a network on labelled CT slices: options -> data module and model -> Trainer.fit."""

from collections.abc import Sequence
from typing import Any

from sarco.command import quieten_libraries, run_command, tune_allocator
from sarco.config import DataOptions, FitOptions, NetworkOptions, RunOptions, build, parse

PROGRAM = "training.py"


def main(argv: Sequence[str]) -> None:
    """Reads the flags, then trains; heavy imports wait until the flags are known to be right."""
    typed = parse(argv, (RunOptions, DataOptions, FitOptions, NetworkOptions), PROGRAM, __doc__ or "")
    train(build(RunOptions, typed), build(DataOptions, typed), build(FitOptions, typed), build(NetworkOptions, typed))


def train(run_options: RunOptions, data: DataOptions, fit: FitOptions, network: NetworkOptions) -> None:
    """One training, from the data folder to the best and the last checkpoint."""
    tune_allocator()
    print("starting ...", flush=True)
    import pytorch_lightning as pl

    import tracking
    from model import SarcoModel
    from sarco.device import choose_device
    from sarco.runs import RunDescription, RunStore, new_run_id, write_json
    from sarco_datamodule import SarcoDataModule
    from sarco_datamodule_3d import SarcoDataModule_3D

    quieten_libraries()
    device = choose_device(run_options.gpu, fit.precision)
    print(device.note)
    wandb_mode = tracking.choose_mode(run_options.wandb)
    store = RunStore(run_options.dirpath)
    run_id = run_options.run_id or new_run_id()
    store.check_free(run_id)

    datamodule = (SarcoDataModule_3D if data.channel_3d else SarcoDataModule)(data, run_options.dirpath / ".cache")
    datamodule.setup()
    print_data(datamodule)
    if data.batch_size & (data.batch_size - 1):
        print(f"hint: --batch_size={data.batch_size} is no power of 2; those are often faster")

    pl.seed_everything(data.seed, workers=True, verbose=False)
    description = RunDescription(
        run_id=run_id,
        wandb_project=run_options.wandb_project,
        labels=datamodule.labels,
        data=data,
        network=network,
        fit=fit,
        weights="random",
        split=datamodule.describe_split(in_full=False),
    )
    model = SarcoModel(description)
    model.load_first_weights()
    print(f"encoder: {network.backbone} with {model.description.weights} weights; decoder: {network.model_choice}")

    run = store.create(run_id, run_options.wandb_project, data.channel_3d)
    write_json(run.split_path, datamodule.describe_split(in_full=True))
    logger = tracking.start_logger(wandb_mode, run.wandb_project, run_id, run.folder, run_id)
    if logger:
        logger.log_hyperparams(model.description.to_builtins())
    trainer = make_trainer(device, fit, run, logger, model)
    trainer.fit(model, datamodule=datamodule)
    tracking.finish()
    print_summary(trainer, run, run_options)


def make_trainer(device: Any, fit: FitOptions, run: Any, logger: Any, model: Any) -> Any:
    """Lightning's Trainer with checkpoints, early stopping and overlays."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

    import tracking

    checkpoint = ModelCheckpoint(
        dirpath=run.folder,
        filename="best",
        monitor="val_ap",
        mode="max",
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    callbacks: list[Any] = [checkpoint]
    if fit.early_stopping:
        callbacks.append(EarlyStopping(monitor="val_ap", mode="max", patience=fit.patience))
    if logger:
        callbacks += [LearningRateMonitor("epoch"), tracking.ValidationOverlays(model.description.labels)]
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices,
        precision=device.precision,
        max_epochs=fit.max_epochs,
        logger=logger or False,
        callbacks=callbacks,
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_model_summary=False,
    )


def print_data(datamodule: Any) -> None:
    """Says what the data folder held."""
    split, cache = datamodule.split, datamodule.cache
    names = ", ".join(f"{label_id} {name}" for label_id, name in datamodule.labels.names.items())
    how = "by patient" if split.by_patient else "of one patient, no independent test"
    print(f"data: {len(split.train)} slices train, {len(split.val)} validate ({how}); labels: {names}")
    print(f"prepared slices: {cache.size_mb:.0f} MB in {cache.folder}{' (found there)' if cache.reused else ''}")


def print_summary(trainer: Any, run: Any, options: RunOptions) -> None:
    """The last lines: run id, best score, folder, and what to try next."""
    best = trainer.checkpoint_callback.best_model_score
    print(f"run id: {run.run_id}")
    print(f"best validation average precision: {'none' if best is None else f'{float(best):.4f}'}")
    print(f"checkpoints: {run.folder}")
    print(f"next: python inference.py --infer_path=SERIES --run_id={run.run_id} --dirpath={options.dirpath}")


if __name__ == "__main__":
    run_command(main, PROGRAM)
