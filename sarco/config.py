"""Flags and what they mean: one frozen dataclass per consumer, and the parser that is made from their fields.

A flag *is* a field: its name, type, default, help and range stand in one place. Parsers leave out what was not typed,
so that ``replace(stored_or_default, **typed)`` gives *default < checkpoint < typed now*.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from sarco.errors import OptionError

Options = TypeVar("Options")

YES, NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
PROJECT = re.compile(r"[^/\\#?%:.\x00-\x1f][^/\\#?%:\x00-\x1f]*")  # what both W&B and file systems take
BACKBONES = tuple(f"efficientnet-b{n}" for n in range(8))
CROP_MULTIPLE = 32  # the encoder halves five times

DATA, BASICS = "Data and logging", "Basics"
OPTIMISATION, STACKING, INFERENCE = "Optimisation", "Stacking", "Inference"


def flag(default: Any, group: str, text: str, *, name: str | None = None, choices: Sequence[str] = ()) -> Any:
    """A dataclass field that is a flag.

    Args:
        default: the default; None where there is none to show.
        group: the heading that ``-h`` shows it under.
        text: its help.
        name: a second name of the flag.
        choices: the words it takes.
    """
    return field(default=default, metadata={"group": group, "help": text, "alias": name, "choices": tuple(choices)})


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise OptionError(f"--{name}={value}: {rule}")


def _check_wandb(value: str) -> str:
    word = value.lower()
    if word in (*YES, *NO):
        return "yes" if word in YES else "no"
    _require(word in ("online", "offline"), "wandb", value, "give online, offline, yes or no")
    return word


def _check_project(name: str, value: str) -> None:
    _require(
        bool(PROJECT.fullmatch(value)), name, value, r"a project name holds none of / \ # ? % : and starts with no dot"
    )


@dataclass(frozen=True)
class DataOptions:
    """What the training data is and how a slice becomes the network's input."""

    data_dir: Path = flag(
        Path("./data/dataset"),
        DATA,
        "folder with NAME.dcm beside NAME.nii.gz, or CASE/ beside CASE.nii.gz; nested as you like",
    )
    val_fraction: float = flag(0.2, DATA, "share of the slices for validation, in whole patients")
    seed: int = flag(0, DATA, "split, initial weights and order: the same seed gives the same run")
    batch_size: int = flag(16, BASICS, "slices a step; even")
    image_size: int = flag(512, BASICS, "side of the square that the body is cropped and resized to; a multiple of 32")
    hu_min: float = flag(-250.0, BASICS, "lower end of the HU window")
    hu_max: float = flag(250.0, BASICS, "upper end of the HU window")
    channel_3d: bool = flag(False, STACKING, "three neighbouring slices as channels; the mask is the middle one's")
    num_workers: int = flag(0, STACKING, "loader processes")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "has to lie between 0 and 1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "has to lie between 0 and 4294967295")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "has to be 2 or more")
        _require(self.batch_size % 2 == 0, "batch_size", self.batch_size, "has to be even, for example "
                 f"{self.batch_size + 1}")  # fmt: skip
        rounded = max(1, round(self.image_size / CROP_MULTIPLE)) * CROP_MULTIPLE
        _require(
            self.image_size == rounded,
            "image_size",
            self.image_size,
            f"has to be a multiple of 32, for example {rounded}",
        )
        for name in ("hu_min", "hu_max"):
            _require(math.isfinite(getattr(self, name)), name, getattr(self, name), "has to be a finite number")
        _require(self.hu_min < self.hu_max, "hu_min", self.hu_min, f"has to be below --hu_max ({self.hu_max})")
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "has to be 0 or more")


@dataclass(frozen=True)
class NetworkOptions:
    """What the network is."""

    backbone: str = flag("efficientnet-b0", BASICS, "encoder", choices=BACKBONES)
    model_choice: str = flag("unet", BASICS, "decoder", choices=("unet", "segresnet"))
    pretrained: str = flag(
        "auto", BASICS, "encoder weights: auto (ImageNet where they can be had), imagenet, no, or a file with weights"
    )

    def __post_init__(self) -> None:
        """Checks the choices."""
        _require(self.backbone in BACKBONES, "backbone", self.backbone, f"choose from {', '.join(BACKBONES)}")
        _require(
            self.model_choice in ("unet", "segresnet"), "model_choice", self.model_choice, "choose unet or segresnet"
        )
        known = self.pretrained in ("auto", "imagenet", "no") or Path(self.pretrained).is_file()
        _require(known, "pretrained", self.pretrained, "give auto, imagenet, no, or a file that exists")


@dataclass(frozen=True)
class FitOptions:
    """How the network is fitted."""

    max_epochs: int = flag(30, BASICS, "epochs; -1 = until early stopping or Ctrl-C")
    learning_rate: float = flag(1e-4, BASICS, "step size of the optimiser")
    scheduler: str = flag(
        "none", BASICS, "cosine: warm-up, then cosine; step: /10 at 80 %% and /5 at 90 %% of the epochs",
        choices=("none", "cosine", "step"),
    )  # fmt: skip
    warmup_epochs: int = flag(10, BASICS, "warm-up of the cosine scheduler, at most a third of the run")
    precision: str = flag(
        "auto", BASICS, "auto: fastest that is safe on the device", choices=("auto", "32", "bf16", "16")
    )
    early_stopping: bool = flag(
        True, OPTIMISATION, "stop when the best validation average precision is no longer beaten"
    )
    patience: int = flag(7, OPTIMISATION, "epochs without an increase before stopping")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        epochs = self.max_epochs
        _require(epochs == -1 or epochs >= 1, "max_epochs", epochs, "has to be 1 or more, or -1 for no limit")
        rate = self.learning_rate
        _require(math.isfinite(rate) and rate > 0, "learning_rate", rate, "has to be above 0")
        _require(self.scheduler in ("none", "cosine", "step"), "scheduler", self.scheduler, "give none, cosine or step")
        _require(
            epochs != -1 or self.scheduler == "none", "scheduler", self.scheduler,
            "needs to know the end of the run; give --max_epochs or --scheduler=none",
        )  # fmt: skip
        _require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "has to be 0 or more")
        _require(self.patience >= 1, "patience", self.patience, "has to be 1 or more")


@dataclass(frozen=True)
class RunOptions:
    """Where a training runs and where it leaves its traces."""

    dirpath: Path = flag(Path("./checkpoints"), DATA, "folder for checkpoints: DIRPATH/<run_id>_<wandb_project>[_3d]/")
    wandb_project: str = flag("Trains", DATA, "Weights & Biases project")
    wandb: str = flag("yes", DATA, "online, offline or no; yes = online where an API key is configured, else offline")
    gpu: int = flag(0, DATA, "which GPU; -1 asks for the CPU, which is also used where there is no GPU")
    run_id: str = flag("", DATA, "names the run: letters, digits, - and _ (default: fresh 8 characters)")

    def __post_init__(self) -> None:
        """Checks the names."""
        object.__setattr__(self, "wandb", _check_wandb(self.wandb))
        _check_project("wandb_project", self.wandb_project)
        ok = not self.run_id or RUN_ID.fullmatch(self.run_id)
        _require(bool(ok), "run_id", self.run_id, "may hold letters, digits, - and _ only")
        _require(self.gpu >= -1, "gpu", self.gpu, "has to be the number of a GPU, or -1 for the CPU")


@dataclass(frozen=True)
class InferenceOptions:
    """What is predicted, by which run, and where the results go."""

    infer_path: Path = flag(None, INFERENCE, "a DICOM series, a tree with several (each is predicted), or one slice")
    run_id: str = flag("", INFERENCE, "the run whose checkpoint predicts")
    dirpath: Path = flag(Path("./checkpoints"), INFERENCE, "folder with the checkpoints")
    ckpt_choice: str = flag("best", INFERENCE, "which checkpoint of the run", choices=("best", "last"))
    ckpt_wandb_project: str = flag("", INFERENCE, "project the run was trained in, where its id is not unique")
    wandb_project: str = flag(
        "Predictions", INFERENCE, "Weights & Biases project that predictions are logged to", name="log_wandb_project"
    )
    wandb: str = flag(
        "yes", INFERENCE, "online, offline or no; yes = online where an API key is configured, else offline"
    )
    gpu: int = flag(0, INFERENCE, "which GPU; -1 asks for the CPU, which is also used where there is no GPU")
    precision: str = flag(
        "auto", INFERENCE, "auto: fastest that is safe on the device", choices=("auto", "32", "bf16", "16")
    )
    dest_dir: Path = flag(Path("./data"), INFERENCE, "results go to DEST_DIR/preds_from_<run_id>_of_<scan name>/")
    overwrite: bool = flag(False, INFERENCE, "replace results that are there already")
    batch_size: int = flag(8, INFERENCE, "slices a forward pass")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        object.__setattr__(self, "wandb", _check_wandb(self.wandb))
        _require(self.infer_path is not None, "infer_path", "", "is needed: the DICOM series to predict")
        _require(bool(self.run_id), "run_id", "", "is needed: the run whose checkpoint predicts")
        _check_project("wandb_project", self.wandb_project)
        _require(self.gpu >= -1, "gpu", self.gpu, "has to be the number of a GPU, or -1 for the CPU")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "has to be 1 or more")


def parse(argv: Sequence[str], consumers: Sequence[type], program: str, description: str) -> dict[str, Any]:
    """What was typed, by field name; flags that were not typed are absent.

    Args:
        argv: the words after the program's name.
        consumers: dataclasses whose fields are the flags.
        program: the script's name.
        description: what it does, for ``-h``.

    Raises:
        OptionError: a flag is unknown, given twice with different values, or its value cannot be read.
    """
    parser = _Parser(prog=program, description=description, allow_abbrev=False, formatter_class=_Formatter)
    groups: dict[str, Any] = {}
    known: set[str] = set()
    for consumer in consumers:
        hints = get_type_hints(consumer)
        for item in dataclasses.fields(consumer):
            if item.name in known:
                continue
            known |= {item.name, *filter(None, [item.metadata["alias"]])}
            heading = item.metadata["group"]
            group = groups.get(heading) or groups.setdefault(heading, parser.add_argument_group(heading))
            _add_flag(group, item, hints[item.name])
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors too")
    _explain_typos(argv, known | {"debug"})
    return vars(parser.parse_args(list(argv)))


def build(consumer: type[Options], typed: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Options:
    """The options of one consumer: default < stored < typed.

    Raises:
        OptionError: a value is out of its range.
    """
    names = {item.name for item in dataclasses.fields(consumer)}  # type: ignore[arg-type]
    values = {**(stored or {}), **typed}
    return consumer(**{name: value for name, value in values.items() if name in names})


def to_builtins(options: Any) -> dict[str, Any]:
    """The options as a checkpoint holds them: str, int, float and bool only."""
    values = dataclasses.asdict(options)
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message.replace("argument ", "") + "; -h lists the flags")


class _StoreOnce(argparse.Action):
    """Stores a value; a second, different one is an error, also under the flag's other name."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, values)
        if before != values:
            names = " and ".join(self.option_strings)
            raise OptionError(f"{names}: given as {before} and as {values}; give one value")
        setattr(namespace, self.dest, values)


def _add_flag(group: Any, item: "dataclasses.Field[Any]", kind: Any) -> None:
    names = [f"--{name}" for name in (item.name, item.metadata["alias"]) if name]
    choices = item.metadata["choices"]
    default: Any = item.default
    if kind is bool:
        default = "yes" if default else "no"
    shown = "" if default in (None, "") else f" (default: {default})"
    words = f" [{', '.join(choices)}]" if choices and len(choices) < 6 else ""
    group.add_argument(
        *names,
        dest=item.name,
        action=_StoreOnce,
        type=_reader(item.name, kind, choices),
        metavar={Path: "PATH", bool: "yes|no", int: "N", float: "X"}.get(kind, "WORD"),
        default=argparse.SUPPRESS,
        help=item.metadata["help"] + words + shown,
    )


def _reader(name: str, kind: Any, choices: Sequence[str]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text == "":
            raise OptionError(f"--{name} has no value; write --{name}=VALUE without spaces around the =")
        if kind is bool:
            if text.lower() in YES:
                return True
            _require(text.lower() in NO, name, text, "give yes or no")
            return False
        if choices:
            _require(text in choices, name, text, f"choose from {', '.join(choices)}")
        try:
            return kind(text)
        except ValueError:
            rule = {int: "has to be a whole number", float: "has to be a number"}.get(kind, "cannot be read")
            raise OptionError(f"--{name}={text}: {rule}") from None

    return read


def _explain_typos(argv: Sequence[str], known: set[str]) -> None:
    """Raises an `OptionError` with the right form for slips that argparse would explain badly."""
    previous = ""
    for word in argv:
        flag_name, _, value = word.partition("=")
        if word in ("-h", "--help"):
            previous = ""
            continue
        glued = re.search(r"--(\w+)=", value)
        if flag_name.startswith("--") and glued and glued[1] in known:
            raise OptionError(f"{word}: a space is missing before --{glued[1]}")
        expects_value = previous.startswith("--") and "=" not in previous and previous != "--debug"
        if not word.startswith("--") and not expects_value:
            if previous.endswith("=") and word.startswith("="):
                raise OptionError(f"{previous} {word}: write {previous}{word[1:]}")
            if "=" in previous:
                raise OptionError(
                    f"{word!r} belongs to no flag; if it is part of {previous}, write / for the space or quote it"
                )
            raise OptionError(f"{word!r} belongs to no flag; every value needs its flag, as in --flag=value")
        previous = word
