"""Where runs keep their checkpoints, and how a checkpoint is opened; nothing else knows these names."""

import contextlib
import hashlib
import pickle
import secrets
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sarco
from sarco.core.errors import CheckpointError, InputError, OptionError, SarcoError
from sarco.core.files import hash_file, locked, read_json, write_json
from sarco.core.options import BUILT_IN, notice_of
from sarco.core.parser import build, to_builtins
from sarco.core.resources import writing
from sarco.core.training_options import (
    ACTIVATIONS,
    AugmentOptions,
    DataOptions,
    FitOptions,
    InventedOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.runs.built_in import built_in_weights, is_built_in, load_built_in, read_built_in
from sarco.scan.labels import LabelTable

CHOICES = ("best", "last")
_RECORD = "run.json"
SAY_PROJECT = "say which with --ckpt_wandb_project"


@dataclass(frozen=True)
class RunDescription:
    """All that a checkpoint says of its run besides the weights; enough to predict without any flag.

    Attributes:
        run: its name, and where it ran.
        labels: what each channel of the network means.
        data, network, fit, augment, mixup, predicted: the options it was trained with.
        weights: where the encoder's first weights came from.
        split: who trained and who validated (see `SarcoDataModule.describe_split`).
        version: of sarco.
        area_errors: relative errors of the area on validation patients, by label (see `sarco.quality.intervals`); empty
            where there are none, as in checkpoints of earlier versions.
        validation: Dice and area error of each validation patient (see `sarco.quality.folds`); likewise.
        training_statistics: what the training slices look like (see `sarco.quality.likeness`); likewise.
        invented: how much of the training was invented.
        taken: parts of the network (encoder, decoder, head) whose first weights were no random ones.
        activation: of the decoder; no option, because ``relu`` is there for checkpoints of earlier versions alone.
    """

    run: RunOptions
    labels: LabelTable
    data: DataOptions
    network: NetworkOptions
    fit: FitOptions
    augment: AugmentOptions
    mixup: MixupOptions
    predicted: PredictedOptions
    weights: str
    split: Mapping[str, Any]
    version: str = sarco.__version__
    area_errors: Mapping[str, list[list[float]]] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    training_statistics: Mapping[str, Any] = field(default_factory=dict)
    activation: str = ACTIVATIONS[0]
    taken: tuple[str, ...] = ()
    invented: InventedOptions = InventedOptions(0.0)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"its decoder's activation is {self.activation!r}, which this version does not know")

    def to_builtins(self) -> dict[str, Any]:
        """Plain str, int, float, bool, list and dict, as a checkpoint may hold them."""
        return {
            "run": to_builtins(self.run),
            "labels": self.labels.to_builtins(),
            "data": to_builtins(self.data),
            "network": to_builtins(self.network),
            "fit": to_builtins(self.fit),
            "augment": to_builtins(self.augment),
            "mixup": to_builtins(self.mixup),
            "predicted": to_builtins(self.predicted),
            "weights": self.weights,
            "split": dict(self.split),
            "version": self.version,
            "area_errors": dict(self.area_errors),
            "validation": dict(self.validation),
            "training_statistics": dict(self.training_statistics),
            "activation": self.activation,
            "taken": list(self.taken),
            "invented": to_builtins(self.invented),
        }

    @classmethod
    def from_builtins(cls, stored: Mapping[str, Any]) -> "RunDescription":
        """The inverse of `to_builtins`."""
        # What earlier versions did not store has the meaning that it had then.
        earlier = {"passes_per_epoch": 1, "crop": "box", "pixel_mm": None, "field_mm": None}
        data = build(DataOptions, {"data_dir": Path(stored["data"]["data_dir"])}, {**earlier, **stored["data"]})
        data.crop_size  # noqa: B018 - a run whose crop nobody knows cannot predict
        run = {**stored["run"], "dirpath": Path(stored["run"]["dirpath"])}
        if run.get("cache_dir"):
            run["cache_dir"] = Path(run["cache_dir"])
        # The file that the first weights came from need not exist any more: the checkpoint holds the weights.
        network = {**stored["network"], "pretrained": "no"}
        paths = tuple(Path(path) for path in stored["predicted"]["path_to_prediction"])
        predicted = {**stored["predicted"], "path_to_prediction": paths}
        invented = {"invented": 0.0, **stored.get("invented", {})}
        if invented.get("style_from"):
            invented["style_from"] = Path(invented["style_from"])
        augment = {"augment": "no", **stored["augment"]}  # there was nothing but the flags before there was a choice
        return cls(
            run=build(RunOptions, {}, run),
            labels=LabelTable.from_builtins(stored["labels"]),
            data=data,
            network=build(NetworkOptions, {}, network),
            fit=build(FitOptions, {}, stored["fit"]),
            augment=build(AugmentOptions, {}, augment),
            mixup=build(MixupOptions, {}, stored["mixup"]),
            predicted=build(PredictedOptions, {}, predicted),
            weights=stored["weights"],
            split=stored["split"],
            version=stored["version"],
            area_errors=stored.get("area_errors", {}),
            validation=stored.get("validation", {}),
            training_statistics=stored.get("training_statistics", {}),
            activation=stored.get("activation", ACTIVATIONS[1]),
            taken=tuple(stored.get("taken", ())),
            invented=build(InventedOptions, {}, invented),
        )


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        folder: holds ``best.ckpt`` and ``last.ckpt``.
        run_id, wandb_project, channel_3d: as the folder's name says them.
        recorded: whether they come from its record; otherwise they are a guess from the name.
    """

    folder: Path
    run_id: str
    wandb_project: str
    channel_3d: bool
    recorded: bool = True

    def checkpoint_path(self, choice: str) -> Path:
        """Where the ``best`` or the ``last`` checkpoint lies."""
        return self.folder / f"{choice}.ckpt"

    @property
    def split_path(self) -> Path:
        """Where the split into training and validation is written."""
        return self.folder / "split.json"


def id_of_fold(run_id: str, fold: str) -> str:
    """What the run of a fold is called, ``RUN_fold2``; the id itself where there are no folds."""
    end = f"_fold{fold}"
    return run_id if not fold or run_id.endswith(end) else run_id + end


def new_run_id() -> str:
    """A fresh run id: 8 characters a-z0-9."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


class RunStore:
    """The folder with all runs: ``<run_id>_<wandb_project>[_3d]/{best,last}.ckpt``."""

    def __init__(self, dirpath: Path) -> None:
        """Looks at ``dirpath``, which need not exist yet."""
        self.dirpath = dirpath

    def create(self, run_id: str, wandb_project: str, channel_3d: bool, shared: bool = False) -> Run:
        """Makes the folder of a new run, or takes over that of a run which ended before its first epoch did.

        Args:
            run_id: the run's name.
            wandb_project: the second part of the folder's name.
            channel_3d: whether the folder's name ends in ``_3d``.
            shared: whether another process of the same run makes the folder.

        Raises:
            OptionError: the id is taken, or the folder cannot be made.
        """
        folder = self.dirpath / f"{run_id}_{wandb_project}{'_3d' if channel_3d else ''}"
        run = Run(folder, run_id, wandb_project, channel_3d)
        if shared:
            return run
        self.check_free(run_id)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            there = read_run(folder) if folder.is_dir() else None
            if there is None or not _is_abandoned(there):
                raise OptionError(f"--run_id={run_id}: {folder} exists already; choose another id") from None
        except OSError as error:
            raise OptionError(f"--dirpath: {folder} cannot be made ({error.strerror}); choose another folder") from None
        record = {"run_id": run_id, "wandb_project": wandb_project, "channel_3d": channel_3d}
        with writing("the record of the run", folder / _RECORD, "or choose another --dirpath"):
            try:
                write_json(folder / _RECORD, record)
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # where it is new; without its record nobody would know it again
                raise
        return run

    def check_free(self, run_id: str) -> None:
        """Raises an `OptionError` where a run has this id already."""
        if run_id == BUILT_IN:
            raise OptionError(f"--run_id={run_id}: is the network that comes with sarco; choose another id")
        runs = (run for run in self.runs() if run.run_id == run_id)
        taken = next((run.folder for run in runs if not _is_abandoned(run)), None)
        if taken:
            raise OptionError(f"--run_id={run_id}: exists already ({taken}); choose another id or leave it out")

    def runs(self) -> list[Run]:
        """Every run in the folder, by name."""
        if not self.dirpath.is_dir():
            return []
        found = (read_run(folder) for folder in sorted(self.dirpath.iterdir()) if folder.is_dir())
        return [run for run in found if run]

    def find(self, run_id: str, wandb_project: str | None = None, otherwise: str = SAY_PROJECT) -> Run:
        """The run with this id.

        Args:
            run_id: the whole id.
            wandb_project: needed only where the id stands for several runs.
            otherwise: what the user can do in that case.

        Raises:
            CheckpointError: no such run (lists the known ones), or several.
        """
        runs = self.runs()
        matching = [run for run in runs if _matches(run, run_id, wandb_project)]
        matching = [run for run in matching if _has_checkpoint(run.folder)] or matching
        if len(matching) == 1:
            return matching[0]
        if matching:
            projects = ", ".join(sorted({r.wandb_project for r in matching}))
            raise CheckpointError(
                f"run {run_id} stands for {len(matching)} runs in {self.dirpath} (projects {projects}); {otherwise}"
            )
        known = ", ".join(f"{r.run_id} ({r.wandb_project})" for r in runs) or "none"
        project = f" of project {wandb_project}" if wandb_project else ""
        raise CheckpointError(f"no run {run_id}{project} in {self.dirpath}; known runs: {known}")

    def checkpoint(
        self, run_id: str, wandb_project: str | None = None, choice: str = "best", otherwise: str = SAY_PROJECT
    ) -> Path:
        """The checkpoint file of a run; the weights of the built-in network.

        Raises:
            CheckpointError: as `find`, or the run has no such checkpoint yet.
        """
        if run_id == BUILT_IN:
            return built_in_weights()
        path = self.find(run_id, wandb_project, otherwise).checkpoint_path(choice)
        if not path.is_file():
            raise CheckpointError(f"{path}: run {run_id} has no {choice} checkpoint; let it finish an epoch first")
        return path


def read_run(folder: Path) -> Run | None:
    """The run that a folder belongs to, by its record or else by its name; None where it is no run's folder."""
    with contextlib.suppress(InputError):
        record = read_json(folder / _RECORD)
        if isinstance(record, dict):
            run_id, project, channel_3d = (record.get(key) for key in ("run_id", "wandb_project", "channel_3d"))
            if isinstance(run_id, str) and isinstance(project, str) and isinstance(channel_3d, bool):
                return Run(folder, run_id, project, channel_3d)
    if not _has_checkpoint(folder):
        return None
    run_id, _, project = folder.name.partition("_")  # a folder that was copied without its record
    return Run(folder, run_id, project.removesuffix("_3d"), project.endswith("_3d"), recorded=False)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / f"{choice}.ckpt").is_file() for choice in CHOICES)


def _is_abandoned(run: Run) -> bool:
    """Whether a run ended before its first epoch did; one whose process cannot be asked for may live still."""
    if not run.recorded or _has_checkpoint(run.folder):
        return False
    try:
        with locked(run.folder) as got:
            return got is True
    except OSError:
        return False


@contextlib.contextmanager
def held(run: Run) -> Iterator[None]:
    """Shows other processes that a run is at work until the block ends.

    Raises:
        OptionError: another process is at work on it.
    """
    with locked(run.folder) as got:
        if got is False:
            raise OptionError(f"--run_id={run.run_id}: another process is training it ({run.folder}); wait for its end")
        yield


def _matches(run: Run, run_id: str, wandb_project: str | None) -> bool:
    if run.recorded:
        return run.run_id == run_id and wandb_project in (None, run.wandb_project)
    name = run.folder.name.removesuffix("_3d")  # run ids and projects may hold "_" themselves
    return name.startswith(f"{run_id}_") and (wandb_project is None or name == f"{run_id}_{wandb_project}")


def is_pickled_code(error: pickle.UnpicklingError) -> bool:
    """Whether torch refused a file because it would run code, not because it is damaged."""
    return "Unsupported" in str(error) or "GLOBAL" in str(error)


def load_checkpoint(path: Path) -> tuple[RunDescription, dict[str, Any]]:
    """Opens a checkpoint without running any code that it might hold.

    Returns:
        What it says of its run, and the whole checkpoint; its ``["state_dict"]`` holds the weights.

    Raises:
        CheckpointError: the file is missing, truncated, holds pickled code, or is no checkpoint of sarco.
    """
    if is_built_in(path):
        return _described(path, load_built_in(path))
    import torch  # takes seconds, and an exported network does without

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except pickle.UnpicklingError as error:
        if is_pickled_code(error):
            raise CheckpointError(f"{path}: holds pickled code, which is never run; train or copy it again") from None
        raise CheckpointError(f"{path}: is damaged and cannot be read; train or copy it again") from None
    except Exception as error:  # a damaged archive makes torch raise nearly anything
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason}); it may be truncated, copy it again") from None
    return _described(path, checkpoint)


def built_in_description() -> RunDescription:
    """What the built-in network says of itself.

    Raises:
        CheckpointError: it is not there or cannot be read.
    """
    weights = built_in_weights()
    return _described(weights, {**read_built_in(weights), "state_dict": {}})[0]


def _described(path: Path, checkpoint: Mapping[str, Any]) -> tuple[RunDescription, dict[str, Any]]:
    try:
        description = RunDescription.from_builtins(checkpoint["hyper_parameters"])
        checkpoint["state_dict"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, SarcoError) as error:
        raise CheckpointError(
            f"{path}: is no checkpoint of sarco {sarco.__version__} ({type(error).__name__}: {error}); "
            "give the id of a run of sarco"
        ) from None
    return description, dict(checkpoint)


@dataclass(frozen=True)
class Provenance:
    """Which checkpoint predicts.

    Attributes:
        run_id, wandb_project: the run.
        checkpoint: its file.
        sha256: of the file, to tell checkpoints apart for good.
        tta: ``mirror`` where mirror images were looked at too, else ``no``.
        drop_islands: whether parts that no neighbouring slice supports were left out.
        members: of several runs that predict together; see `sarco.runs.members`.
    """

    run_id: str
    wandb_project: str
    checkpoint: Path
    sha256: str = field(default="")
    tta: str = "no"
    drop_islands: bool = False
    members: "tuple[Provenance, ...]" = ()

    @property
    def notice(self) -> str:
        """What every result has to say of the network; empty for a person's own."""
        return notice_of(self.run_id)

    @classmethod
    def of(cls, run_id: str, wandb_project: str, checkpoint: Path) -> "Provenance":
        """With the hash of the file."""
        return cls(run_id, wandb_project, checkpoint, hash_file(checkpoint, hashlib.sha256))
