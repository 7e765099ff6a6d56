"""How well does the built-in network do on people, of whom it never saw any?

python benchmarks/built_in.py --people FOLDER[=NAME] ... [--checkpoint=FILE] [--append]

Each folder holds labelled slices; NAME says what a single label without a name is (paraspinal, skeletal_muscle). What a
label's name means among the network's labels is decided as in training (`sarco.anatomy.labels.meaning_of`).
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from harness import report, table
from numpy.typing import NDArray
from peers import volumes

from sarco.anatomy.labels import invented_names
from sarco.prediction.choose import open_network
from sarco.prediction.pipeline import predict_series
from sarco.runs.built_in import built_in_weights
from sarco.scan.series import make_series
from sarco.training.cases import find_cases

Mask = NDArray[np.bool_]
HEAD = ["people", "label", "Dice, mean over slices", "Dice over all", "precision", "recall", "area", "slices"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", nargs="+", required=True, help="folders of labelled slices, FOLDER or FOLDER=NAME")
    parser.add_argument("--checkpoint", type=Path, help="another network than the built-in one")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    rows = []
    for word in typed.people:
        folder, _, name = word.partition("=")
        rows += judge(typed.checkpoint or built_in_weights(), Path(folder), name)
        print(*rows[-1], flush=True)
    text = table(HEAD, rows) + (
        "\n\nMean over the slices that hold the label in the truth; precision, recall, area (found of true) over all "
        "slices. These people were looked at while the invented patients were drawn: development data."
    )
    report("The built-in network on people", "python benchmarks/built_in.py --people FOLDER ...", text, typed.append)


def judge(checkpoint: Path, folder: Path, name: str) -> list[list[str]]:
    """The rows of one folder, a label each."""
    opened = open_network(checkpoint, "", gpu=-1)
    ids = {own: label for label, own in opened.description.labels.names.items()}
    true_names = find_cases(folder).label_names
    masks: dict[str, list[tuple[Mask, Mask]]] = {}
    for slices, _, truth in volumes(folder):
        data, labels = opened.description.data, opened.description.labels
        found = predict_series(opened.network, make_series(slices), data, labels).label_map
        for label in np.unique(truth[(truth > 0) & (truth < 255)]).tolist():
            called = name or true_names[label]
            meant = [ids[own] for own in invented_names(called)]
            masks.setdefault(called, []).append((np.isin(found, meant), truth == label))
    return [[f"`{folder.parent.name}/{folder.name}`", called, *cells(pairs)] for called, pairs in masks.items()]


def cells(pairs: list[tuple[Mask, Mask]]) -> list[str]:
    """Figures of a label over series of (row, column, slice)."""
    each = [dice(one[..., k], true[..., k]) for one, true in pairs for k in range(true.shape[2]) if true[..., k].any()]
    found, true, both = (
        sum(int(count) for count in counts)
        for counts in zip(*((one.sum(), true.sum(), (one & true).sum()) for one, true in pairs), strict=True)
    )
    figures = (
        statistics.mean(each),
        2 * both / max(found + true, 1),
        both / max(found, 1),
        both / max(true, 1),
        found / max(true, 1),
    )
    return [*(f"{figure:.3f}" for figure in figures), str(len(each))]


def dice(one: Mask, true: Mask) -> float:
    """Dice of two masks of which the second is not empty."""
    return 2 * int((one & true).sum()) / (int(one.sum()) + int(true.sum()))


if __name__ == "__main__":
    main()
