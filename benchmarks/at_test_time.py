"""What --tta=mirror and --drop_islands bring, and what they cost: Dice on people, seconds a slice.

python benchmarks/at_test_time.py --runs CHECKPOINT ... --people FOLDER ... [--append]

Each folder holds the labelled slices of one person.
"""

import argparse
import time
from pathlib import Path

from harness import report, table
from peers import volumes
from strangers import ANY, dice_of

WAYS = {
    "plain": {},
    "--tta=mirror": {"mirrored": True},
    "--drop_islands=yes": {"drop_islands": True},
    "both": {"mirrored": True, "drop_islands": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="checkpoints")
    parser.add_argument("--people", type=Path, nargs="+", required=True, help="folders of labelled slices")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    rows = []
    for run in typed.runs:
        for folder in typed.people:
            n_slices = sum(len(slices) for slices, _, _ in volumes(folder))
            figures = []
            for options in WAYS.values():
                start = time.perf_counter()
                dice = dice_of(run, folder, **options)[ANY]
                figures.append((dice, (time.perf_counter() - start) / n_slices))
            rows.append(
                [run.parent.name, folder.name, *(f"{dice:.3f}, {1000 * each:.0f} ms" for dice, each in figures)]
            )
            print(rows[-1], flush=True)
    text = table(["run", "person", *WAYS], rows) + (
        "\n\nDice over all pixels of a person, every label as one; the time of a slice holds reading and the way back. "
        "Nothing was chosen by it."
    )
    command = "python benchmarks/at_test_time.py --runs CHECKPOINT ... --people FOLDER ..."
    report("Mirror images and islands at test time", command, text, typed.append)


if __name__ == "__main__":
    main()
