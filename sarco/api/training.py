"""A training, new or resumed: `train` from Python, and what training.py is made of."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco.api.caller import left_as_found
from sarco.api.options import options_of
from sarco.core.command import is_first_process, quieten_libraries, shared_run_id, tune_allocator
from sarco.core.errors import CheckpointError, InputError, OptionError
from sarco.core.files import write_json
from sarco.core.messages import OnEpoch
from sarco.core.parser import build, require
from sarco.core.processes import check_processes, forget_strange_processes
from sarco.core.resources import within_memory, writing
from sarco.core.training_options import (
    ALL_FOLDS,
    CROP_MULTIPLE,
    FIRST_WEIGHTS,
    FLOOR_FROM_NETWORK,
    FLOOR_OF_STEPS,
    AugmentOptions,
    DataOptions,
    FitOptions,
    InventedOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    ResumeOptions,
    RunOptions,
)

if TYPE_CHECKING:
    from sarco.network.warm_start import KnownStart

CONSUMERS = (
    DataOptions, RunOptions, FitOptions, NetworkOptions, AugmentOptions, MixupOptions, ResumeOptions, PredictedOptions,
    InventedOptions,
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        run_id: by which `sarco.predict` finds it.
        folder: holds the checkpoints, ``metrics.csv`` and ``curves.png``.
        score: the best validation score, soft Dice less 1 where no epoch's network finds anything; None where no
            epoch was finished.
        why_stopped: why it ended before its last epoch; empty where it did not.
        interrupted: whether Ctrl-C ended it; the checkpoints are those of the last finished epoch.
    """

    run_id: str
    folder: Path
    score: float | None
    why_stopped: str = ""
    interrupted: bool = False

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last finished epoch."""
        return self.folder / "last.ckpt"


def train(
    data_dir: str | Path | None = None,
    *,
    progress: OnEpoch | None = None,
    tell: Callable[[str], object] | None = None,
    **options: Any,
) -> Trained:
    """Trains a network on labelled CT slices, or goes on with a training.

    Args:
        data_dir: images with label maps; see the documents for the layouts. None where a training is resumed.
        progress: called after each epoch with its number (from 1), how many there are (-1 without end), and its
            figures by name.
        tell: called with each line for the user: what was found, the device, each epoch.
        **options: as of ``sarco train``, by their names: ``image_size``, ``max_epochs``, ``resume_training`` ...
            W&B takes part only where ``wandb`` says so.

    Nothing is printed. Remarks about the data are Python warnings (`sarco.core.errors.DataWarning`). The process is
    left as it was found, random generators too, but for glibc's allocator: it keeps big blocks (about 1 GB) from then
    on, and steps take half the time; ``SARCO_MALLOC=default`` in the environment prevents that.

    Raises:
        SarcoError: data, options or the checkpoint cannot be used; see `sarco.core.errors`.
    """
    typed = options_of(CONSUMERS, {"wandb": "no", **options}, data_dir=data_dir)
    require(typed.get("fold") != ALL_FOLDS, "fold", ALL_FOLDS, "is what sarco.cross_validate does")
    resume = check(typed)
    with left_as_found(), torch_left_as_found():
        return run_training(resume, typed, Listener(tell or (lambda line: None), progress))


@contextlib.contextmanager
def torch_left_as_found() -> Iterator[None]:
    """Brings random generators and torch's choice of algorithms back."""
    import random

    import numpy as np
    import torch
    from torch.backends import cudnn

    chosen = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, by_python, by_numpy = cudnn.benchmark, random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(by_python)
        np.random.set_state(by_numpy)
        cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(chosen[0], warn_only=chosen[1])


@dataclass(frozen=True)
class Listener:
    """Who hears what a training says.

    Attributes:
        tell: takes each line.
        progress: as of `train`.
        bar: whether a bar over the steps is drawn.
    """

    tell: Callable[[str], object]
    progress: OnEpoch | None = None
    bar: bool = False


def check(typed: Mapping[str, Any]) -> ResumeOptions:
    """Whether an earlier run goes on; where none does, every option is checked before anything is imported.

    Raises:
        OptionError: a value is out of its range.
    """
    resume = build(ResumeOptions, typed)
    if resume.ckpt_path_to_resume_from is None:
        for consumer in CONSUMERS:
            build(consumer, typed)
        run, invented = build(RunOptions, typed), build(InventedOptions, typed)
        alone, style = invented.alone, invented.style_from
        require(style is None or style.exists(), "style_from", style, "there is no such folder; check the path")
        require(not alone or "data_dir" not in typed, "invented", 1, "needs no data; drop --data_dir, or give a share")
        if folds := build(DataOptions, typed).folds:
            require(not alone, "folds", folds, "does nothing with --invented=1; drop one of the two")
            share = typed.get("val_fraction")
            require(share is None, "val_fraction", share, "does nothing beside --folds; drop one of the two")
        _with_run_found(build(NetworkOptions, typed), run.dirpath)
        check_processes(run.devices, run.num_nodes)
    return resume


def run_training(resume: ResumeOptions, typed: Mapping[str, Any], listener: Listener) -> Trained:
    """A training by its options, new or resumed.

    Raises:
        SarcoError: data, options, the checkpoint or the machine do not allow it.
    """
    tune_allocator()
    with within_memory(lambda: "preparing the training", "lower --image_size, or close other programs"):
        if resume.ckpt_path_to_resume_from is None:
            return _train_anew(typed, listener)
        return _go_on(resume, typed, listener)


def _train_anew(typed: Mapping[str, Any], listener: Listener) -> Trained:
    """A new run."""
    from sarco.runs.store import RunDescription, RunStore, id_of_fold, new_run_id

    data = build(DataOptions, typed)
    run_id = id_of_fold(typed.get("run_id") or shared_run_id(new_run_id), data.fold)
    options = build(RunOptions, {**typed, "run_id": run_id})
    forget_strange_processes(options.num_nodes)  # before Lightning looks at them

    import pytorch_lightning as pl

    from model import SarcoModel
    from sarco.network.warm_start import known_start
    from sarco.training.sampling import channel_shares

    quieten_libraries()  # now that they are imported; they would set their own levels
    store = RunStore(options.dirpath)
    if is_first_process():
        store.check_free(options.run_id)
    invented = build(InventedOptions, typed)
    augment, predicted = build(AugmentOptions, typed), build(PredictedOptions, typed)
    network = _with_run_found(build(NetworkOptions, typed), options.dirpath)
    start = known_start(network, data.channel_3d)
    data = _with_pixels_of_start(data, start, listener)
    datamodule = _read_data(data, options, augment, predicted, invented, listener, start.labels if start else ())
    fit = build(FitOptions, typed)
    floor = FLOOR_FROM_NETWORK if start and start.is_whole else FLOOR_OF_STEPS
    _settle_passes(datamodule, fit, options, typed, listener, floor)
    description = RunDescription(
        run=options,
        labels=datamodule.labels,
        data=datamodule.options,
        network=network,
        fit=fit,
        augment=datamodule.augment,
        mixup=build(MixupOptions, typed),
        predicted=datamodule.predicted,
        weights="random",
        invented=invented if invented.alone else datamodule.invented,
        split=datamodule.describe_split(in_full=False),
    )
    pl.seed_everything(data.seed, workers=True, verbose=False)
    model = SarcoModel(description)
    shares = channel_shares(datamodule.cache.label_maps, datamodule.split.train, datamodule.labels.ids)
    model.load_first_weights(shares, listener.tell)
    run = store.create(options.run_id, options.wandb_project, data.channel_3d, shared=not is_first_process())
    with _at_work(run):
        if is_first_process():
            with writing("the split", run.split_path, "or choose another --dirpath"):
                write_json(run.split_path, datamodule.describe_split(in_full=True))
        return _fit(model, datamodule, run, None, listener)


def _with_pixels_of_start(data: DataOptions, start: "KnownStart | None", listener: Listener) -> DataOptions:
    """The options, with pixels as large as the network knows that the run starts from, where nothing else was typed."""
    typed = data.crop != "field" or data.pixel_mm is not None or data.image_size is not None
    if typed or start is None or start.pixel_mm is None:
        return data
    listener.tell(f"pixels of {start.pixel_mm:g} mm, as {start.name} learnt from (--pixel_mm takes another size)")
    return replace(data, pixel_mm=start.pixel_mm)


def _settle_passes(
    datamodule: Any, fit: FitOptions, run: RunOptions, typed: Mapping[str, Any], listener: Listener, floor: int
) -> None:
    """Settles how often an epoch draws each slice, where that was left open, and tells what was chosen."""
    from sarco.training.sampling import choose_passes

    data: DataOptions = datamodule.options
    passes = data.passes_per_epoch or 1
    if data.passes_per_epoch is None and "max_epochs" not in typed:
        draws = datamodule.draws_per_pass
        a_step = data.batch_size * fit.accumulate_grad_batches * run.devices * run.num_nodes
        passes = choose_passes(draws, a_step, fit.max_epochs, floor)
        if passes > 1:
            listener.tell(
                f"small data: each epoch draws every training slice {passes} times, so that {fit.max_epochs} epochs "
                f"have {-(-passes * draws // a_step) * fit.max_epochs} steps (--passes_per_epoch=1 draws it once)"
            )
    datamodule.options = replace(data, passes_per_epoch=passes)


def _with_run_found(network: NetworkOptions, dirpath: Path) -> NetworkOptions:
    """The options, with the best checkpoint in place of a run id for ``--pretrained``.

    Raises:
        OptionError: there is no such run, or it has no checkpoint.
    """
    from sarco.runs.store import RunStore

    first = network.pretrained
    if first in FIRST_WEIGHTS or Path(first).is_file():
        return network
    try:
        found = RunStore(dirpath).checkpoint(first, otherwise="give its checkpoint's file")
    except CheckpointError as error:
        raise OptionError(f"--pretrained={first}: {error}; auto, imagenet, no or a file are taken too") from None
    return replace(network, pretrained=str(found))


def _at_work(run: Any) -> contextlib.AbstractContextManager[None]:
    """Keeps other trainings out of the run's folder; the first of several processes does."""
    from sarco.runs.store import held

    return held(run) if is_first_process() else contextlib.nullcontext()


def _go_on(resume: ResumeOptions, typed: Mapping[str, Any], listener: Listener) -> Trained:
    """An earlier run, after its last finished epoch."""
    from sarco.runs.resume import open_run

    assert resume.ckpt_path_to_resume_from is not None
    resumed = open_run(resume.ckpt_path_to_resume_from, typed)
    stored = resumed.description
    check_processes(stored.run.devices, stored.run.num_nodes)
    forget_strange_processes(stored.run.num_nodes)

    from model import SarcoModel

    quieten_libraries()
    listener.tell(f"going on with run {stored.run.run_id} from {resumed.checkpoint}")
    for change in resumed.changes:
        listener.tell(f"changed: {change}")
    kept = tuple(stored.labels.names.values())
    datamodule = _read_data(stored.data, stored.run, stored.augment, stored.predicted, stored.invented, listener, kept)
    if datamodule.labels != stored.labels or datamodule.describe_split(in_full=False) != stored.split:
        raise InputError(
            f"{stored.data.data_dir}: labels or patients are not those that run {stored.run.run_id} began with; "
            "give the same data as --data_dir, or start a new run"
        )
    with _at_work(resumed.run):
        return _fit(SarcoModel(stored), datamodule, resumed.run, resumed.checkpoint, listener)


def _read_data(
    data: DataOptions,
    options: RunOptions,
    augment: AugmentOptions,
    predicted: PredictedOptions,
    invented: InventedOptions,
    listener: Listener,
    kept: Sequence[str] = (),
) -> Any:
    """The data module, set up, with what it found said."""
    from sarco_datamodule import SarcoDataModule
    from sarco_datamodule_3d import SarcoDataModule_3D
    from sarco_datamodule_invented import SarcoDataModule_Invented

    if invented.alone:
        datamodule: SarcoDataModule = SarcoDataModule_Invented(data, augment, predicted, invented.style_from)
    else:
        kind = SarcoDataModule_3D if data.channel_3d else SarcoDataModule
        datamodule = kind(data, options.cache_root, augment, predicted, listener.bar, invented, kept)
    datamodule.setup()
    _check_smallest_batch(datamodule, options.devices * options.num_nodes)
    for line in datamodule.describe():
        listener.tell(line)
    return datamodule


def _check_smallest_batch(datamodule: Any, processes: int) -> None:
    """Whether batch normalisation has something to average: one slice is one pixel where the image is smallest.

    Raises:
        OptionError: a process has one slice and its image ends up as one pixel.
    """
    slices = len(datamodule.train_dataloader().sampler)
    side, _ = datamodule.options.crop_size
    if side == CROP_MULTIPLE and slices <= processes:
        of_each = f" for {processes} processes" if processes > 1 else ""
        raise OptionError(
            f"--image_size={side}: needs more than {slices} training slice(s){of_each}, because a slice is one pixel "
            f"in the depth of the network; give --image_size={2 * side} or more"
        )


def _fit(model: Any, datamodule: Any, run: Any, checkpoint: Any, listener: Listener) -> Trained:
    """Trains until the end of the run."""
    from sarco.network.device import choose_device
    from sarco.network.taken import why_nothing_happens
    from sarco.training.callbacks import best_score, make_trainer, why_stopped
    from sarco.training.progress import EpochLines, counted

    description = model.description
    options, (side, _) = description.run, description.data.crop_size
    device = choose_device(options.gpu, description.fit.precision, options.devices, train_side=side)
    listener.tell(device.note)
    network = description.network
    if idle := why_nothing_happens(network, description.taken):
        listener.tell(idle)
    listener.tell(f"encoder: {network.backbone}, {description.weights} weights; decoder: {network.model_choice}")
    with _wandb_logger(description, run, listener) as logger:
        lines = EpochLines(listener.tell, listener.progress)
        trainer = make_trainer(description, run, device, logger, lines, listener.bar)
        interrupted = False
        try:
            with within_memory(
                lambda: f"training, {counted(trainer)}, step {trainer.fit_loop.batch_idx + 1}",
                f"lower --batch_size ({description.data.batch_size}) or --image_size ({side}); "
                "--accumulate_grad_batches keeps the steps as large",
            ):
                trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            interrupted = True
    return Trained(run.run_id, run.folder, best_score(trainer), why_stopped(trainer), interrupted)


@contextlib.contextmanager
def _wandb_logger(description: Any, run: Any, listener: Listener) -> Iterator[Any]:
    """A W&B run that is ended behind the training; None where none is wanted or another process has it."""
    if not is_first_process():
        yield None
        return
    from sarco.runs import tracking

    mode = tracking.choose_mode(description.run.wandb, listener.tell)
    logger = tracking.start_logger(mode, run.wandb_project, run.run_id, run.folder, listener.tell, run.run_id)
    if logger:
        tracking.describe_run(logger, description)
    failed = 1
    try:
        yield logger
        failed = 0
    finally:
        tracking.finish(failed)
