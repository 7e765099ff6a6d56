"""Trains the network that comes with sarco, from invented patients alone: ``python -m sarco.commands.weights``.

``make weights`` calls it. A training that was broken off goes on after its last finished epoch, and ends with the same
bytes as one that was not.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sarco.core.command import print_line, run_command, share_the_cpu
from sarco.core.options import BUILT_IN
from sarco.core.training_options import DataOptions, RunOptions
from sarco.runs.built_in import BUILT_IN_WEIGHTS, write_built_in

WORK = Path("weights")  # of a checkout; holds the run
TRAINED_AS = "weights"
# 32 bits, because processors differ in what they do with fewer.
RECIPE: Mapping[str, Any] = {
    "invented": 1.0,
    "seed": 0,
    "pixel_mm": 2.0,
    "image_size": 192,
    "batch_size": 8,
    "max_epochs": 16,
    "pretrained": "no",
    "precision": "32",
    "gpu": -1,
}
_SHOWN = ("val_soft_dice", "val_dice", "val_area_error")


def make_weights(work: Path, weights: Path, tell: Callable[[str], object], **changes: Any) -> str:
    """Trains by the recipe, or goes on with it, and writes the two files of the built-in network.

    Args:
        work: folder of the run.
        weights: the file that takes the weights; its folder exists.
        tell: takes each line for the user.
        **changes: options other than the recipe's.

    Returns:
        The hash of the weights.

    Raises:
        SarcoError: the training or the files cannot be made.
    """
    from sarco.api.training import train
    from sarco.core.errors import CheckpointError, OptionError
    from sarco.runs.store import RunStore

    recipe = {**RECIPE, **changes}
    try:
        best = RunStore(work).checkpoint(TRAINED_AS)
    except CheckpointError:  # nothing there yet
        best = train(dirpath=work, run_id=TRAINED_AS, tell=tell, **recipe).best
    else:
        try:
            train(
                resume_training=True, ckpt_path_to_resume_from=best.parent, max_epochs=recipe["max_epochs"], tell=tell
            )
        except OptionError as done:
            tell(f"the training is done: {done}")
    return ship(best, weights)


def ship(checkpoint: Path, weights: Path) -> str:
    """Writes the files of the built-in network from a checkpoint; gives the hash of the weights.

    Where the run lay, and whose machine it was, is left out.
    """
    from sarco.runs.store import load_checkpoint

    description, content = load_checkpoint(checkpoint)
    data = replace(description.data, data_dir=DataOptions().data_dir)
    invented = replace(description.invented, style_from=None)
    shipped = replace(description, run=RunOptions(run_id=BUILT_IN, wandb="no"), data=data, invented=invented)
    with open(checkpoint.with_name("metrics.csv"), newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if int(row["epoch"]) == content["epoch"])
    figures = {"epoch": content["epoch"] + 1, **{name: float(row[name]) for name in _SHOWN}}
    return write_built_in(weights, shipped.to_builtins(), content["state_dict"], figures)


def main() -> None:
    """Makes the weights and says what became of them."""
    share_the_cpu()
    BUILT_IN_WEIGHTS.parent.mkdir(exist_ok=True)
    sha256 = make_weights(WORK, BUILT_IN_WEIGHTS, print_line)
    print_line(f"{BUILT_IN_WEIGHTS}: {BUILT_IN_WEIGHTS.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256}")


if __name__ == "__main__":
    run_command(lambda argv, program: main(), "weights")
