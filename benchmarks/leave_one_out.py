"""Which of the things that make training work on strangers brings what? Each is left out once, by its old way.

python benchmarks/leave_one_out.py --work=FOLDER --learn FOLDER --test FOLDER [--seeds 0 1] [--append]

Each folder holds the labelled slices of one person; everything but what is left out is as in strangers.py.
"""

import argparse
import statistics
from pathlib import Path

from harness import report, table
from strangers import ANY, Outcome, join, train_and_test

COMMON = "--pretrained=no --batch_size=8 --max_epochs=10 --gpu=-1"
TWICE = "--passes_per_epoch=2"
LEFT_OUT = {  # what is left out: what is typed instead
    "nothing": TWICE,
    "the head: ReLU, and a bias of 0": TWICE,
    "the field of view: the body's box instead": f"{TWICE} --crop=box --image_size=128",
    "strong augmentation: light instead": f"{TWICE} --augment=light --do_elastic_transforms=yes",
    "strong augmentation: none instead": f"{TWICE} --augment=no",
    "rate and schedule: 1e-4, constant": f"{TWICE} --learning_rate=1e-4 --scheduler=none --early_stopping=no",
    "passes: half the steps": "--passes_per_epoch=1",
}
OLD_HEAD = "the head: ReLU, and a bias of 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--learn", type=Path, required=True, help="whom to train on")
    parser.add_argument("--test", type=Path, required=True, help="whom to test on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    learn, test = typed.learn.resolve(), typed.test.resolve()
    data = join(typed.work / "data", learn.name, [learn])
    outcomes: dict[str, list[Outcome]] = {name: [] for name in LEFT_OUT}
    for seed in typed.seeds:
        for number, (name, flags) in enumerate(LEFT_OUT.items()):
            script = "benchmarks/old_head.py" if name == OLD_HEAD else "training.py"
            run_id = f"without-{number}-{seed}"
            words = f"{COMMON} {flags}"
            outcomes[name].append(
                train_and_test(typed.work / "runs", run_id, data, seed, {test.name: test}, words, script)
            )
            print(seed, name, outcomes[name][-1], flush=True)
    rows = [[name, *cells(each, test.name)] for name, each in outcomes.items()]
    head = ["left out", "Dice, best", "run by run", "Dice, last", "run by run", "CPU seconds"]
    looks = len(LEFT_OUT) * len(typed.seeds)
    text = table(head, rows) + (
        f"\n\nTrained on {learn.name}, tested on {test.name}; {COMMON} {TWICE}; {len(typed.seeds)} seeds. "
        f"{test.name} was tested on {looks} times (two checkpoints each), and nothing was chosen by it."
    )
    report("What each part brings on strangers", "python benchmarks/leave_one_out.py --work=FOLDER", text, typed.append)


def cells(outcomes: list[Outcome], who: str) -> list[str]:
    """The cells of a row: best and last, mean and each run."""
    found = []
    for choice in ("best", "last"):
        each = [one.dice[choice, who, ANY] for one in outcomes]
        found += [f"{statistics.mean(each):.3f}", ", ".join(f"{dice:.3f}" for dice in each)]
    return [*found, f"{statistics.mean(one.cpu_seconds for one in outcomes):.0f}"]


if __name__ == "__main__":
    main()
