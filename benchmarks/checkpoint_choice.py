"""Which epoch's network is the best on strangers, and which figure of the validation slices knows it?

python benchmarks/checkpoint_choice.py --work=FOLDER [--slices_of=FOLDER] [--append]

Every epoch of every run is tested on people that differ in build and grid from those it trains on: phantoms on
phantoms, and, with --slices_of, blocks of the slices of one person on the others. No test person of strangers.py is
looked at.
"""

import argparse
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from harness import read_metrics, report, table
from strangers import ANY, dice_of

import sarco
from sarco.phantom.patient import PhantomOptions, write_dataset

Row = dict[str, str]
SMOOTHED = 3  # epochs
AVERAGED = (3, 6)  # last epochs whose weights are averaged
LENGTH = {"max_epochs": 20, "batch_size": 8}  # of 25 steps or more
KINDS = {  # of people: grid and arms, and how many
    "fine": (PhantomOptions(n_slices=6, rows=224, columns=224, spacing_mm=(1.9, 1.9, 5.0), arms=False), 4),
    "coarse": (PhantomOptions(n_slices=6, rows=144, columns=144, spacing_mm=(3.0, 3.0, 5.0), arms=True), 4),
}


@dataclass(frozen=True)
class Followed:
    """What became of one run.

    Attributes:
        rows: the lines of metrics.csv, an epoch each.
        dice: of each epoch's network on the others.
        averaged: the same of the mean of the last epochs' weights, by how many they were.
    """

    rows: Sequence[Row]
    dice: Sequence[float]
    averaged: Mapping[int, float]


@dataclass(frozen=True)
class Setting:
    """Whom to train on, and whom to test on."""

    name: str
    train: Path
    test: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--slices_of", type=Path, help="labelled slices of one person, NAME.dcm beside NAME.nii.gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    runs = []
    for setting in settings(typed.work, typed.slices_of):
        for seed in typed.seeds:
            runs.append(follow(typed.work / "runs", setting, seed))
            print(setting.name, seed, [f"{dice:.3f}" for dice in runs[-1].dice], runs[-1].averaged, flush=True)
    rows = [[name, *judge(rule, runs)] for name, rule in RULES.items()]
    rows += [[f"weights: mean of the last {many} epochs", *judge_averaged(many, runs), "-"] for many in AVERAGED]
    head = ["epoch chosen by", "Dice on strangers", "run by run", "below the best epoch", "rank correlation"]
    names = ", ".join(one.name for one in settings(typed.work, typed.slices_of))
    text = table(head, rows) + (
        f"\n\n{len(runs)} runs of 20 epochs of at least 25 steps of 8 slices: {names}, "
        f"seeds {', '.join(map(str, typed.seeds))}. Rank correlation: Spearman's, between the figure and Dice on "
        "strangers over the epochs of a run, mean over runs."
    )
    report("Which epoch to keep", "python benchmarks/checkpoint_choice.py --work=FOLDER", text, typed.append)


def settings(work: Path, slices_of: Path | None) -> list[Setting]:
    """Pairs of people that differ; written once."""
    for number, (kind, (options, patients)) in enumerate(KINDS.items()):
        if not (work / kind).is_dir():
            write_dataset(work / kind, patients, 100 * (number + 1), options)
    found = [
        Setting("coarse on fine", work / "coarse", work / "fine"),
        Setting("fine on coarse", work / "fine", work / "coarse"),
    ]
    if slices_of:
        images = [
            one for one in sorted(slices_of.glob("*.dcm")) if np.asarray(nibabel.load(label_of(one)).dataobj).any()
        ]
        for number, half in enumerate((images[: len(images) // 3], images[-len(images) // 3 :])):
            train, test = work / f"block{number}", work / f"outside{number}"
            for folder, chosen in ((train, half), (test, [one for one in images if one not in half][::3])):
                folder.mkdir(exist_ok=True)
                for image in chosen:
                    for path in (image, label_of(image)):
                        if not (folder / path.name).exists():
                            (folder / path.name).symlink_to(path.resolve())
            found.append(Setting(f"block {number + 1} of a person on the rest", train, test))
    return found


def label_of(image: Path) -> Path:
    """The label map beside a slice."""
    return image.with_suffix(".nii.gz")


def follow(runs: Path, setting: Setting, seed: int) -> Followed:
    """Trains, and tests each epoch's network on the others."""
    run_id = f"{setting.name.replace(' ', '-')}-{seed}"
    shutil.rmtree(runs / f"{run_id}_Trains", ignore_errors=True)
    epochs = runs / f"{run_id}_epochs"
    epochs.mkdir(parents=True, exist_ok=True)

    def keep(number: int, total: int, figures: dict[str, float]) -> None:  # called when the epoch is saved
        shutil.copy(runs / f"{run_id}_Trains" / "last.ckpt", epochs / f"{number}.ckpt")

    trained = sarco.train(
        setting.train, dirpath=runs, run_id=run_id, seed=seed, gpu=-1, pretrained="no", progress=keep, **LENGTH,
        passes_per_epoch=-(-25 * LENGTH["batch_size"] // len(list(setting.train.rglob("*.dcm")))),
    )  # fmt: skip
    rows = read_metrics(trained.folder)
    kept = [epochs / f"{k}.ckpt" for k in range(1, len(rows) + 1)]
    dice = [dice_of(path, setting.test)[ANY] for path in kept]
    averaged = {many: dice_of(average(kept[-many:]), setting.test)[ANY] for many in AVERAGED}
    return Followed(rows, dice, averaged)


def average(checkpoints: Sequence[Path]) -> Path:
    """A checkpoint beside the last of these, whose weights and statistics are the mean over all of them."""
    loaded = [torch.load(path, map_location="cpu", weights_only=True) for path in checkpoints]
    state = loaded[-1]["state_dict"]
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = torch.stack([one["state_dict"][name] for one in loaded]).mean(dim=0)
    path = checkpoints[-1].with_name(f"mean-of-{len(checkpoints)}.ckpt")
    torch.save(loaded[-1], path)
    return path


def figure(name: str) -> Callable[[Sequence[Row]], list[float]]:
    """A column of metrics.csv."""
    return lambda rows: [float(row[name]) for row in rows]


def smoothed(name: str) -> Callable[[Sequence[Row]], list[float]]:
    """The mean of a column over the last epochs."""

    def means(rows: Sequence[Row]) -> list[float]:
        values = [float(row[name]) for row in rows]
        return [statistics.mean(values[max(0, k + 1 - SMOOTHED) : k + 1]) for k in range(len(values))]

    return means


RULES: dict[str, Callable[[Sequence[Row]], list[float]]] = {
    "average precision": figure("val_ap"),
    "Dice": figure("val_dice"),
    "soft Dice": figure("val_soft_dice"),
    "loss": lambda rows: [-float(row["val_loss"]) for row in rows],
    f"average precision, mean of {SMOOTHED} epochs": smoothed("val_ap"),
    f"soft Dice, mean of {SMOOTHED} epochs": smoothed("val_soft_dice"),
    "the last one": lambda rows: [float(k) for k in range(len(rows))],
}


def judge(rule: Callable[[Sequence[Row]], list[float]], runs: Sequence[Followed]) -> list[str]:
    """The cells of a row."""
    chosen, missed, ranks = [], [], []
    for run in runs:
        scores, dice = rule(run.rows), run.dice
        chosen.append(dice[int(np.argmax(scores))])
        missed.append(max(dice) - chosen[-1])
        ranks.append(float(np.corrcoef(ranked(scores), ranked(dice))[0, 1]))
    each = ", ".join(f"{dice:.3f}" for dice in chosen)
    return [f"{statistics.mean(chosen):.3f}", each, f"{statistics.mean(missed):.3f}", f"{statistics.mean(ranks):.2f}"]


def judge_averaged(many: int, runs: Sequence[Followed]) -> list[str]:
    """The cells of a row, without a correlation."""
    dice = [run.averaged[many] for run in runs]
    missed = [max(run.dice) - one for run, one in zip(runs, dice, strict=True)]
    each = ", ".join(f"{one:.3f}" for one in dice)
    return [f"{statistics.mean(dice):.3f}", each, f"{statistics.mean(missed):.3f}"]


def ranked(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal ones share theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + ordered.count(value) / 2 for value in values]


if __name__ == "__main__":
    main()
