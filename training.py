"""Trains a network on labelled CT slices: options -> data module and model -> Trainer.fit. ``sarco train``."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sarco.api.training import CONSUMERS, Listener, Trained, check, run_training
from sarco.core.command import INTERRUPTED, run_command, say, share_the_cpu
from sarco.core.parser import Command
from sarco.core.training_options import ALL_FOLDS

PROGRAM = "training.py"
COMMANDS = (
    Command(
        "train",
        "Trains a network on labelled CT slices, or goes on with a training.",
        CONSUMERS,
        words=("data_dir",),
        examples=(
            "sarco train phantoms --run_id=first --wandb=no --image_size=192 --batch_size=8 --max_epochs=20",
            "sarco train --resume_training=yes --ckpt_path_to_resume_from=checkpoints/first_Trains --max_epochs=60",
        ),
    ),
)


def main(argv: Sequence[str], program: str = PROGRAM) -> None:
    """Reads the options, then trains; heavy imports wait until the options are known to be right."""
    typed = COMMANDS[0].parse(argv, program)
    resume = check(typed)
    share_the_cpu(several=typed.get("devices", 1) > 1 or typed.get("num_workers", 0) > 0)
    say("starting ...")
    if resume.ckpt_path_to_resume_from is None and typed.get("fold") == ALL_FOLDS:
        train_all_folds(typed, program)
        return
    trained = run_training(resume, typed, Listener(say, bar=sys.stderr.isatty()))
    for line in closing_lines(trained, program):
        say(line)
    if trained.interrupted:
        sys.exit(INTERRUPTED)


def train_all_folds(typed: Mapping[str, Any], program: str) -> None:
    """Trains what is left of a cross-validation, and tells its scores."""
    from sarco.api.folds import run_folds, score_lines

    found = run_folds(typed, Listener(say, bar=sys.stderr.isatty()))
    if found.interrupted:
        say(f"interrupted; the same command with --run_id={found.run_id} goes on, and leaves finished folds alone")
        sys.exit(INTERRUPTED)
    say("")
    for line in ("each patient by the network that never saw them:", *score_lines(found), f"scores: {found.table}"):
        say(line)
    dirpath = shlex.quote(str(found.folders[0].parent))
    say(f"next, by the mean of all folds: {_predict(program)} --run_id='{found.run_id}_fold*' --dirpath={dirpath}")


def _predict(program: str) -> str:
    return "python inference.py --infer_path=SERIES" if program == PROGRAM else "sarco predict SERIES"


def closing_lines(trained: Trained, program: str) -> list[str]:
    """Why it stopped, run id, best score, folder, and what to try next."""
    lines = [trained.why_stopped] if trained.why_stopped else []
    lines += ["", f"run id: {trained.run_id}"]
    if trained.score is None:
        return [*lines, "no epoch was finished, so there is no checkpoint"]
    if trained.score < 0:
        lines.append(
            "no epoch's network finds anything in the validation slices; train longer, or raise --learning_rate"
        )
    best = trained.score + (trained.score < 0)
    lines += [f"best validation soft Dice: {best:.4f}", f"checkpoints: {trained.folder}"]
    if trained.interrupted:
        folder = shlex.quote(str(trained.folder))
        again = "python training.py" if program == PROGRAM else program
        resume = f"{again} --resume_training=yes --ckpt_path_to_resume_from={folder}"
        return [*lines, "interrupted; the checkpoints are those of the last finished epoch. To go on:", resume]
    dirpath = shlex.quote(str(trained.folder.parent))
    return [*lines, f"next: {_predict(program)} --run_id={trained.run_id} --dirpath={dirpath}"]


if __name__ == "__main__":
    run_command(main, PROGRAM)
