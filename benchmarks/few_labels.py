"""How far do a few labelled slices of one person take a network: on that person's other slices, and on others?

python benchmarks/few_labels.py --work=FOLDER --learn_from=FOLDER --test_on FOLDER ... [--counts 0 1 3 10 30] [--append]

Slices of --learn_from that hold a label, evenly spread, are learnt from, and all of its other slices tested on. Each
count is trained from the built-in network with no flags but seeds, and from scratch; 0 is the built-in network itself.
nnU-Net, where its Python is given, trains on the same slices for as many CPU seconds as the first of them.
"""

import argparse
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from harness import report, table
from strangers import Outcome, beside_nnunet, dice_of, summarise, train_and_test

from sarco.runs.built_in import built_in_weights
from sarco.scan.labels import IGNORE_ID
from sarco.scan.series import pick_evenly
from sarco.training.cases import LabelledSlice, find_cases

STARTS = {"built-in": "--pretrained=built-in", "scratch": "--pretrained=no"}
REST = "the others of {}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--learn_from", type=Path, required=True, help="labelled slices, NAME.dcm beside NAME.nii.gz")
    parser.add_argument("--test_on", type=Path, nargs="+", default=[], help="folders of labelled slices of others")
    parser.add_argument("--label", required=True, help="what the one label is called: paraspinal, skeletal_muscle")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1, 3, 10, 30])
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--flags", default="", help="further flags of training.py, in one word")
    parser.add_argument("--nnunet", type=Path, help="python of an environment with nnunetv2")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    typed.every, typed.nnunet_runs = 8, 1
    rows: list[list[str]] = []
    for count in typed.counts:
        rows += rows_of(count, typed)
    head = ["slices", "network", "tested on", "label", "Dice", "run by run", "CPU seconds"]
    text = table(head, rows) + (
        f"\n\nSlices of `{typed.learn_from.name}`, evenly spread over those that hold the label. Dice over all pixels; "
        f"{len(typed.seeds)} seeds; flags: {typed.flags or 'none'}. Whoever is tested on was looked at once per row."
    )
    command = "python benchmarks/few_labels.py --work=FOLDER --learn_from=FOLDER --test_on FOLDER ..."
    report("A few labelled slices", command, text, typed.append)


def rows_of(count: int, typed: argparse.Namespace) -> list[list[str]]:
    """The rows of one count of slices."""
    person = typed.learn_from.resolve()
    chosen = slices_to_learn(person, count)
    learnt = link(typed.work / f"{person.name}-{count}", chosen, typed.label)
    strangers = {one.name: one.resolve() for one in typed.test_on}
    others = {REST.format(person.name): person, **strangers}  # a series is predicted whole, without gaps
    if count == 0:
        dice = {
            ("as shipped", who, label): value
            for who, folder in others.items()
            for label, value in dice_of(built_in_weights(), folder, called=typed.label, without=chosen).items()
        }
        return summarise("built-in", "0", [Outcome(0.0, dice)])
    rows = []
    seconds = 0.0
    for start in typed.starts:
        outcomes = []
        for seed in typed.seeds:
            run_id = f"{typed.learn_from.name}-{count}-{start}-{seed}-{zlib.crc32(typed.flags.encode()):08x}"
            flags = f"{STARTS[start]} {typed.flags}"
            runs = typed.work / "runs"
            outcomes.append(
                train_and_test(runs, run_id, learnt, seed, others, flags, called=typed.label, without=chosen)
            )
            print(count, start, seed, outcomes[-1], flush=True)
        seconds = seconds or min(one.cpu_seconds for one in outcomes)
        rows += summarise(f"from {start}", str(count), outcomes)
    if typed.nnunet:
        rest = link(typed.work / f"{person.name}-{count}-rest", set(all_slices(person)) - chosen, typed.label)
        tested = {REST.format(person.name): rest, **strangers}
        rows += summarise("nnU-Net", str(count), beside_nnunet(typed, f"few{count}", [learnt], tested, seconds))
    return rows


def all_slices(person: Path) -> dict[Path, LabelledSlice]:
    """The labelled slices of a person by their files."""
    return {one.header.path: one for one in find_cases(person).slices}


def slices_to_learn(person: Path, count: int) -> set[Path]:
    """The files of so many slices that hold a label, evenly spread."""
    holding = [
        path
        for path, one in sorted(all_slices(person).items())
        if np.isin(one.case.read_label_maps()[one.place], (0, IGNORE_ID), invert=True).any()
    ]
    return set(pick_evenly(holding, count)) if count else set()


def link(folder: Path, slices: Iterable[Path], label: str) -> Path:
    """A folder of links to slices and their label maps, with the label's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in slices:
        for file in (path, path.with_suffix(".nii.gz")):
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
    (folder / "labels.json").write_text(json.dumps({"0": "background", "1": label}))
    return folder


if __name__ == "__main__":
    main()
