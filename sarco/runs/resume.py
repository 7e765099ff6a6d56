"""Going on with an earlier run: what its checkpoint stored, what was typed now, and what may not change."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sarco.core.errors import CheckpointError, OptionError
from sarco.core.parser import build
from sarco.runs.store import CHOICES, Run, RunDescription, load_checkpoint, read_run

# What the weights, the split or the run's name were made from; anything else may change.
FIXED = (
    "backbone",
    "model_choice",
    "pretrained",
    "channel_3d",
    "crop",
    "pixel_mm",
    "field_mm",
    "image_size",
    "hu_min",
    "hu_max",
    "val_fraction",
    "folds",
    "fold",
    "seed",
    "run_id",
    "wandb_project",
    "dirpath",
    "add_predicted_data",
    "predicted_data_to",
    "min_confidence",
    "invented",
    "style_from",
)


@dataclass(frozen=True)
class ResumedRun:
    """A run to go on with.

    Attributes:
        run: its folder.
        checkpoint: the file to go on from.
        description: what was stored, with what was typed now.
        changes: a line for each value that is another one now.
        why_done: why nothing is left to do, as of an `OptionError`; empty where something is.
    """

    run: Run
    checkpoint: Path
    description: RunDescription
    changes: tuple[str, ...]
    why_done: str = ""


def open_run(path: Path, typed: Mapping[str, Any], done_too: bool = False) -> ResumedRun:
    """Opens the run that a folder or a checkpoint belongs to.

    Args:
        path: the run's folder (its ``last`` checkpoint is taken) or one of its checkpoints.
        typed: flags typed now, by field name.
        done_too: whether a run that has nothing left to do is opened, too.

    Raises:
        CheckpointError: there is no such run or its checkpoint cannot be read.
        OptionError: a flag was typed that cannot change, or the run has nothing left to do.
    """
    checkpoint = _checkpoint_of(path)
    stored, content = load_checkpoint(checkpoint)
    run = read_run(checkpoint.parent)
    if run is None or (run.recorded and run.run_id != stored.run.run_id):
        raise CheckpointError(f"{checkpoint}: lies in no folder of its run; give <run_id>_<wandb_project>[_3d]")
    here = replace(stored.run, dirpath=run.folder.parent)
    stored = replace(stored, run=here)
    if "dirpath" in typed and Path(typed["dirpath"]).resolve() == here.dirpath.resolve():
        typed = {**typed, "dirpath": here.dirpath}
    description, changes = _with_typed(stored, typed)
    why_done = _why_done(description, stored, content)
    if why_done and not done_too:
        raise OptionError(why_done)
    return ResumedRun(run, checkpoint, description, tuple(changes), why_done)


def _checkpoint_of(path: Path) -> Path:
    if path.is_dir():
        path = path / f"{CHOICES[1]}.ckpt"
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint; give the folder of a run that finished an epoch")
    return path


def _with_typed(stored: RunDescription, typed: Mapping[str, Any]) -> tuple[RunDescription, list[str]]:
    updated: dict[str, Any] = {}
    changes = []
    for part in ("run", "data", "fit", "augment", "mixup", "predicted", "network", "invented"):
        before = getattr(stored, part)
        values = {item.name: getattr(before, item.name) for item in fields(before)}
        for name, value in values.items():
            if name not in typed or typed[name] in (value, None):  # auto keeps what was chosen
                continue
            if name in FIXED:
                raise OptionError(
                    f"--{name}={_word(typed[name])}: cannot change in a run that goes on (it is {_word(value)}); "
                    "leave it out, or start a new run"
                )
            changes.append(f"--{name}: {_word(value)} -> {_word(typed[name])}")
        updated[part] = build(type(before), typed, values)
    return replace(stored, **updated), changes


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value) or "left out"


def _why_done(now: RunDescription, stored: RunDescription, content: Mapping[str, Any]) -> str:
    done = int(content["epoch"]) + 1
    limit = now.fit.max_epochs
    if limit != -1 and done >= limit:
        return f"--max_epochs={limit}: run {stored.run.run_id} has finished {done} epochs already; give a larger number"
    if not now.fit.stops_early:
        return ""
    for name, state in content.get("callbacks", {}).items():
        if "EarlyStopping" in name and state["wait_count"] >= now.fit.patience:
            return (
                f"--patience={now.fit.patience}: run {stored.run.run_id} stopped early after {done} epochs; give a "
                "larger number, or --early_stopping=no"
            )
    return ""
