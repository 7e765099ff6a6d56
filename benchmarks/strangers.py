"""How well does a network do on people it never saw? Trains on some people, tests on all others.

python benchmarks/strangers.py --work=FOLDER --people FOLDER ... [--subsets A B A+F] [--nnunet=PYTHON] [--append]

Each folder holds the labelled slices of one person and gives them their name; labels of one name are compared. Training
has no flags but seeds and what --flags adds. nnU-Net, where its Python is given, trains on the same people for as many
CPU seconds as the fastest seed and for four times those, every label as one; its planning, start-up, reading and
validation never count, sarco's always do.
"""

import argparse
import json
import shlex
import statistics
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import measure, report, table
from peers import nnunet, prepare_nnunet, versions, volumes

from sarco.anatomy.labels import invented_names
from sarco.prediction.choose import open_network
from sarco.prediction.mirror import MirroredNetwork
from sarco.prediction.pipeline import predict_series
from sarco.scan.labels import IGNORE_ID
from sarco.scan.series import make_series
from sarco.training.cases import find_cases

ANY = "any"  # every label as one
TIMES = (1, 4)  # of sarco's CPU seconds, for nnU-Net


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Attributes:
        cpu_seconds: of the whole command, or of nnU-Net's steps.
        dice: by checkpoint (or mark), person and label.
    """

    cpu_seconds: float
    dice: Mapping[tuple[str, str, str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument(
        "--people", type=Path, nargs="+", required=True, help="folders of labelled slices, one a person"
    )
    parser.add_argument("--subsets", nargs="+", help="whom to train on: A, or A+B for both; each alone by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--flags", default="", help="further flags of training.py, in one word")
    parser.add_argument("--nnunet", type=Path, help="python of an environment with nnunetv2")
    parser.add_argument("--nnunet_runs", type=int, default=1)
    parser.add_argument("--every", type=int, default=8, help="nnU-Net is tested on each so-many-th slice: it is slow")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    people = {folder.resolve().name: folder.resolve() for folder in typed.people}
    rows = []
    for subset in typed.subsets or people:
        learnt = subset.split("+")
        strangers = {who: folder for who, folder in people.items() if who not in learnt}
        data = join(typed.work / "data", subset, [people[who] for who in learnt])
        outcomes = []
        for seed in typed.seeds:
            run_id = f"{subset.replace('+', '_')}-{seed}-{zlib.crc32(typed.flags.encode()):08x}"
            outcomes.append(train_and_test(typed.work / "runs", run_id, data, seed, strangers, typed.flags))
            print(subset, seed, outcomes[-1], flush=True)
        rows += summarise("sarco", subset, outcomes)
        if typed.nnunet:
            seconds = min(one.cpu_seconds for one in outcomes)  # other work on the machine only adds to it
            folders = [people[who] for who in learnt]
            rows += summarise("nnU-Net", subset, beside_nnunet(typed, subset, folders, strangers, seconds))
    head = ["trained on", "network", "tested on", "label", "Dice", "run by run", "CPU seconds"]
    text = table(head, rows) + (
        f"\n\nDice over all pixels of a person. {len(typed.seeds)} seeds; flags: {typed.flags or 'none'}. Each "
        "person was tested on once for each row and run."
    )
    more = f"\n\n{versions(typed.nnunet)}" if typed.nnunet else ""
    command = "python benchmarks/strangers.py --work=FOLDER --people FOLDER ..."
    report("Dice on people that training never saw", command, text + more, typed.append)


def join(place: Path, name: str, folders: Sequence[Path]) -> Path:
    """One folder with all of these people."""
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    for person in folders:
        if not (folder / person.name).is_symlink():
            (folder / person.name).symlink_to(person)
    return folder


def train_and_test(
    runs: Path,
    run_id: str,
    data: Path,
    seed: int,
    strangers: Mapping[str, Path],
    flags: str,
    script: str = "training.py",
    called: str = "",
    without: Container[Path] = (),
) -> Outcome:
    """A training as a user would start it, and the Dice of its best and its last checkpoint on everybody else.

    What came of a training that was there before is read from beside its folder.
    """
    kept = runs / f"{run_id}.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        return Outcome(found["cpu_seconds"], {(choice, who, label): dice for choice, who, label, dice in found["dice"]})
    words = [f"--data_dir={data}", f"--dirpath={runs}", f"--run_id={run_id}", f"--seed={seed}", "--wandb=no"]
    learnt = measure(script, *words, *shlex.split(flags))
    dice = {}
    for choice in ("best", "last"):
        checkpoint = runs / f"{run_id}_Trains" / f"{choice}.ckpt"
        for who, folder in strangers.items():
            found = dice_of(checkpoint, folder, called=called, without=without)
            dice |= {(choice, who, label): value for label, value in found.items()}
    kept.write_text(json.dumps({"cpu_seconds": learnt.cpu_seconds, "dice": [[*key, dice[key]] for key in dice]}))
    return Outcome(learnt.cpu_seconds, dice)


def dice_of(
    checkpoint: Path,
    folder: Path,
    mirrored: bool = False,
    drop_islands: bool = False,
    called: str = "",
    without: Container[Path] = (),
) -> dict[str, float]:
    """Dice over all pixels of a folder's slices, each on its own grid: of labels of one name, and of all as one.

    Where the truth has a single label and ``called`` says its name, what the network calls so, or parts of it, counts.
    Slices of files in ``without`` are predicted with the others and do not count.
    """
    opened = open_network(checkpoint, "", engine="torch", precision="32", gpu=-1)
    network = MirroredNetwork(opened.network, opened.description.labels) if mirrored else opened.network
    found_names = opened.description.labels.names
    true_names = dict(find_cases(folder).label_names)
    sums: dict[str, list[int]] = {}
    for slices, _, drawn_map in volumes(folder):
        data, labels = opened.description.data, opened.description.labels
        counts = np.array([header.path not in without for header in slices])
        predicted = predict_series(network, make_series(slices), data, labels, drop_islands=drop_islands)
        found, truth = predicted.label_map[..., counts], drawn_map[..., counts]
        drawn = (truth > 0) & (truth != IGNORE_ID)
        pairs = {ANY: (found > 0, drawn)}
        if called:
            meant = {called, *invented_names(called)}
            own = [label_id for label_id, name in found_names.items() if name in meant]
            pairs = {called: (np.isin(found, own), drawn)}
            true_names = {}
        for true_id in np.unique(truth[truth > 0]).tolist():
            name = true_names.get(true_id, "")
            same = [label_id for label_id, other in found_names.items() if other == name]
            if same and len(found_names) > 1:
                pairs[name] = found == same[0], truth == true_id
        for name, (one, other) in pairs.items():
            both, either = sums.setdefault(name, [0, 0])
            sums[name] = [both + int((one & other).sum()), either + int(one.sum()) + int(other.sum())]
    return {name: 2 * both / max(either, 1) for name, (both, either) in sums.items()}


def beside_nnunet(
    typed: argparse.Namespace, subset: str, learnt: Sequence[Path], strangers: Mapping[str, Path], seconds: float
) -> list[Outcome]:
    """nnU-Net on the same people, for as many CPU seconds and for multiples of them."""
    place = typed.work.resolve() / "nnunet" / subset
    prepare_nnunet(typed.nnunet.absolute(), place, learnt, strangers, typed.every)
    marks = [str(seconds * times) for times in TIMES]
    outcomes = []
    for _ in range(typed.nnunet_runs):
        figures = nnunet(
            typed.nnunet.absolute(), place, "train", "--batch=2", "--clock=cpu", "--target=1", "--marks", *marks
        )
        dice = {
            (f"{times} x CPU", who, ANY): float(value)
            for times, figure in zip(TIMES, figures, strict=True)
            for who, value in figure["dice"].items()
        }
        outcomes.append(Outcome(float(figures[-1]["seconds"]), dice))
    return outcomes


def summarise(program: str, subset: str, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row for each checkpoint, person and label: the mean over runs, and each run's figure."""
    seconds = f"{statistics.mean(one.cpu_seconds for one in outcomes):.0f}"
    rows = []
    for key in outcomes[0].dice:
        which, who, label = key
        each = [one.dice[key] for one in outcomes]
        mean = f"{statistics.mean(each):.3f}"
        rows.append([subset, f"{program}, {which}", who, label, mean, ", ".join(f"{one:.3f}" for one in each), seconds])
    return rows


if __name__ == "__main__":
    main()
