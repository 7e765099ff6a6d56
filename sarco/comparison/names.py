"""What the labels of two sides are called: the same number has to mean the same structure."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from sarco.core.errors import InputError
from sarco.io.results import LABEL_MAP, PREDICTION, read_prediction
from sarco.scan.labels import BACKGROUND_ID, read_label_names, read_side


def names_of(label_map: Path, side: Path) -> dict[int, str]:
    """The names of a label map's labels: those of its results folder, else of the ``labels.json`` of its side.

    Args:
        label_map: the file.
        side: what was given to compare, a folder or the file itself.

    Raises:
        InputError: the ``labels.json`` cannot be used.
    """
    folder = label_map.parent
    if label_map.name == LABEL_MAP and (folder / PREDICTION).is_file():
        with contextlib.suppress(InputError):  # the label map can be compared without its names
            return dict(read_prediction(folder).labels.names)
    return read_label_names((side if side.is_dir() else folder) / "labels.json")


def compare_names(truth: Mapping[int, str], prediction: Mapping[int, str], path: Path) -> list[str]:
    """What to know of numbers that both sides name, a line each; sides and words count, not how they are written.

    Args:
        truth: names by label id.
        prediction: likewise.
        path: of the prediction, for messages.

    Raises:
        InputError: a structure of the truth has another number in the prediction.
    """
    numbers = {read_side(name): label_id for label_id, name in truth.items() if label_id != BACKGROUND_ID}
    told = []
    for label_id, name in sorted(prediction.items()):
        here = truth.get(label_id, "")
        if label_id == BACKGROUND_ID or read_side(here) == read_side(name):
            continue
        if there := numbers.get(read_side(name)):
            raise InputError(
                f"{path}: label {label_id} is {name!r}, but {truth[there]!r} is {there} in the truth; renumber one side"
            )
        if here and f"label_{label_id}" not in (here, name):
            told.append(
                f"label {label_id} is {here!r} in the truth and {name!r} in the prediction; they are compared as one"
            )
    return told
