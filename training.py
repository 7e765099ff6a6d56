"""Trains a network on labelled CT slices: options -> data module and model -> Trainer.fit."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sarco.core.command import (
    INTERRUPTED,
    is_first_process,
    quieten_libraries,
    run_command,
    say,
    shared_run_id,
    tune_allocator,
)
from sarco.core.options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    ResumeOptions,
    RunOptions,
)
from sarco.core.parser import build, parse

PROGRAM = "training.py"
CONSUMERS = (
    DataOptions, RunOptions, FitOptions, NetworkOptions, AugmentOptions, MixupOptions, ResumeOptions, PredictedOptions
)  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Reads the flags, then trains; heavy imports wait until the flags are known to be right."""
    typed = parse(argv, CONSUMERS, PROGRAM, "Trains a network on labelled CT slices.")
    resume = build(ResumeOptions, typed)
    if resume.ckpt_path_to_resume_from is None:
        for consumer in CONSUMERS:
            build(consumer, typed)
    tune_allocator()
    say("starting ...")
    if resume.ckpt_path_to_resume_from is None:
        train_anew(typed)
    else:
        go_on(resume, typed)


def train_anew(typed: Mapping[str, Any]) -> None:
    """A new run."""
    import pytorch_lightning as pl

    from model import SarcoModel
    from sarco.core.files import write_json
    from sarco.runs.store import RunDescription, RunStore, new_run_id

    options = build(RunOptions, {**typed, "run_id": typed.get("run_id") or shared_run_id(new_run_id)})
    data = build(DataOptions, typed)
    quieten_libraries()  # now that they are imported; they would set their own levels
    store = RunStore(options.dirpath)
    if is_first_process():
        store.check_free(options.run_id)
    datamodule = read_data(data, options, build(AugmentOptions, typed), build(PredictedOptions, typed))
    description = RunDescription(
        run=options,
        labels=datamodule.labels,
        data=data,
        network=build(NetworkOptions, typed),
        fit=build(FitOptions, typed),
        augment=datamodule.augment,
        mixup=build(MixupOptions, typed),
        predicted=datamodule.predicted,
        weights="random",
        split=datamodule.describe_split(in_full=False),
    )
    pl.seed_everything(data.seed, workers=True, verbose=False)
    model = SarcoModel(description)
    model.load_first_weights()
    if model.description.network.pretrained == "auto" and model.description.weights == "random":
        say(
            "ImageNet weights can't be fetched, so the encoder starts from random ones (--pretrained=FILE takes a file)"
        )
    run = store.create(options.run_id, options.wandb_project, data.channel_3d, shared=not is_first_process())
    if is_first_process():
        write_json(run.split_path, datamodule.describe_split(in_full=True))
    fit(model, datamodule, run, None)


def go_on(resume: ResumeOptions, typed: Mapping[str, Any]) -> None:
    """An earlier run, after its last finished epoch."""
    from model import SarcoModel
    from sarco.core.errors import InputError
    from sarco.runs.resume import open_run

    assert resume.ckpt_path_to_resume_from is not None
    quieten_libraries()
    resumed = open_run(resume.ckpt_path_to_resume_from, typed)
    stored = resumed.description
    say(f"going on with run {stored.run.run_id} from {resumed.checkpoint}")
    for change in resumed.changes:
        say(f"changed: {change}")
    datamodule = read_data(stored.data, stored.run, stored.augment, stored.predicted)
    if datamodule.labels != stored.labels or datamodule.describe_split(in_full=False) != stored.split:
        raise InputError(
            f"{stored.data.data_dir}: labels or patients are not those that run {stored.run.run_id} began with; "
            "give the same data as --data_dir, or start a new run"
        )
    fit(SarcoModel(stored), datamodule, resumed.run, resumed.checkpoint)


def read_data(data: DataOptions, options: RunOptions, augment: AugmentOptions, predicted: PredictedOptions) -> Any:
    """The data module, set up, with what it found said."""
    from sarco_datamodule import SarcoDataModule
    from sarco_datamodule_3d import SarcoDataModule_3D

    kind = SarcoDataModule_3D if data.channel_3d else SarcoDataModule
    datamodule = kind(data, options.cache_root, augment, predicted)
    datamodule.setup()
    for line in datamodule.describe():
        say(line)
    return datamodule


def fit(model: Any, datamodule: Any, run: Any, checkpoint: Any) -> None:
    """Trains until the end of the run, and says how to go on from there."""
    from sarco.network.device import choose_device
    from sarco.runs import tracking
    from sarco.training import callbacks

    description = model.description
    options, side = description.run, description.data.image_size
    device = choose_device(options.gpu, description.fit.precision, options.devices, train_side=side)
    say(device.note)
    network = description.network
    say(f"encoder: {network.backbone}, {description.weights} weights; decoder: {network.model_choice}")
    logger = None
    if is_first_process():
        mode = tracking.choose_mode(description.run.wandb)
        logger = tracking.start_logger(mode, run.wandb_project, run.run_id, run.folder, run.run_id)
        if logger:
            tracking.describe_run(logger, description)
    trainer = callbacks.make_trainer(description, run, device, logger)
    interrupted = False
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        interrupted = True
    if logger:
        tracking.finish()
    for line in callbacks.summarise_run(trainer, run, interrupted):
        say(line)
    if interrupted:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run_command(main, PROGRAM)
