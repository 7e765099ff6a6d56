"""Which epoch's network is the best on strangers, and which figure of the validation slices knows it?

python benchmarks/checkpoint_choice.py --work=FOLDER [--slices_of=FOLDER] [--append]

Every epoch of every run is tested on people that differ in build and grid from those it trains on: phantoms on
phantoms, and, with --slices_of, blocks of the slices of one person on the others. No test person of strangers.py is
looked at.
"""

import argparse
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from harness import read_metrics, report, table
from strangers import ANY, dice_of

import sarco
from sarco.phantom.patient import PhantomOptions, write_dataset

Row = dict[str, str]
SMOOTHED = 3  # epochs
LENGTH = {"max_epochs": 20, "batch_size": 8}  # of 25 steps or more
KINDS = {  # of people: grid and arms, and how many
    "fine": (PhantomOptions(n_slices=6, rows=224, columns=224, spacing_mm=(1.9, 1.9, 5.0), arms=False), 4),
    "coarse": (PhantomOptions(n_slices=6, rows=144, columns=144, spacing_mm=(3.0, 3.0, 5.0), arms=True), 4),
}


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
            print(setting.name, seed, [f"{dice:.3f}" for _, dice in runs[-1]], flush=True)
    rows = [[name, *judge(rule, runs)] for name, rule in RULES.items()]
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


def follow(runs: Path, setting: Setting, seed: int) -> list[tuple[Row, float]]:
    """For each epoch of a run its line of metrics.csv, and Dice on the others."""
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
    return [(row, dice_of(epochs / f"{k}.ckpt", setting.test)[ANY]) for k, row in enumerate(rows, start=1)]


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


def judge(rule: Callable[[Sequence[Row]], list[float]], runs: Sequence[Sequence[tuple[Row, float]]]) -> list[str]:
    """The cells of a row."""
    chosen, missed, ranks = [], [], []
    for run in runs:
        scores, dice = rule([row for row, _ in run]), [dice for _, dice in run]
        chosen.append(dice[int(np.argmax(scores))])
        missed.append(max(dice) - chosen[-1])
        ranks.append(float(np.corrcoef(ranked(scores), ranked(dice))[0, 1]))
    each = ", ".join(f"{dice:.3f}" for dice in chosen)
    return [f"{statistics.mean(chosen):.3f}", each, f"{statistics.mean(missed):.3f}", f"{statistics.mean(ranks):.2f}"]


def ranked(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal ones share theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + ordered.count(value) / 2 for value in values]


if __name__ == "__main__":
    main()
