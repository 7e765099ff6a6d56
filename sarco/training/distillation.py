"""Predictions of an earlier run as further labels (self-distillation): which slices may be learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from sarco.anatomy.labels import meaning_of
from sarco.core.errors import InputError
from sarco.core.training_options import PredictedOptions
from sarco.io.results import LABEL_MAP, StoredPrediction, find_results, read_prediction
from sarco.io.sources import SourceSearch
from sarco.layouts.case import Case
from sarco.layouts.labels import LabelFile, LabelSource
from sarco.scan.labels import BACKGROUND_ID, LabelTable
from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice, with_neighbours

_SAME_IDS = {label_id: label_id for label_id in range(256)}


@dataclass(frozen=True)
class FoundPredictions:
    """Predicted slices and what became of the others.

    Attributes:
        slices: to learn from.
        unsure: slices left out because their confidence was too low.
        labelled: slices left out because a person labelled them.
    """

    slices: tuple[LabelledSlice, ...]
    unsure: int
    labelled: int


def find_predictions(
    options: PredictedOptions, data_dir: Path, human: Sequence[LabelledSlice], names: Mapping[int, str]
) -> FoundPredictions:
    """Finds the source slices of predictions, and keeps those that are sure enough and that nobody labelled.

    A source is looked for where it was when it was predicted, then by SOPInstanceUID below the parent of
    ``data_dir``. A predicted label gets the id of the training's label of its name.

    Args:
        options: where the predictions are, and how sure they have to be.
        data_dir: of the training.
        human: slices that people labelled.
        names: of the training's labels by id, as far as they have any.

    Raises:
        InputError: a folder holds no prediction; a source slice was moved out of reach or changed; or an id stands for
            one label there and for another in the training.
    """
    known = {mark for item in human for mark in _marks(item.header)}
    search = SourceSearch(data_dir.resolve().parent, "put it back or leave this prediction out")
    found: list[LabelledSlice] = []
    headers: dict[tuple[Path, int], SliceHeader] = {}  # each slice once, however many predictions there are of it
    unsure = labelled = 0
    for folder in _result_folders(options.path_to_prediction):
        chosen, series = [], []
        prediction = _read_whole(folder)
        for entry in prediction.slices:
            header = search.find(entry, folder)
            header = headers.setdefault((header.path, header.frame), header)
            series.append(header)
            if known & _marks(header):
                labelled += 1
            elif entry.confidence is None or entry.confidence < options.min_confidence:
                unsure += 1
            else:
                chosen.append(header)
        if chosen:
            path, id_of = folder / LABEL_MAP, _match_ids(prediction.labels, names, folder, data_dir)
            file = LabelFile(path).renumbered({**_SAME_IDS, **id_of}, BACKGROUND_ID)
            case = Case(path, tuple(chosen), predicted=True, labels=LabelSource(path, (file,)))
            found += with_neighbours([case], series)
    return FoundPredictions(tuple(found), unsure, labelled)


def _match_ids(there: LabelTable, here: Mapping[int, str], folder: Path, data_dir: Path) -> dict[int, int]:
    """For each id of a prediction the one in the training: that of the label of its name, else the same id.

    Raises:
        InputError: an id that is not found by name has another name in the training, or two become one.
    """
    unnamed = set(there.unnamed())
    id_of: dict[int, int] = {}
    for label_id, name in there.names.items():
        same = [own for own, called in here.items() if _means_the_same(name, called)]
        id_of[label_id] = same[0] if same else label_id
        if not same and label_id not in unnamed and label_id in here:
            raise InputError(
                f"{folder}: label {label_id} is {name} there and {here[label_id]} in {data_dir}; leave this prediction "
                "out, or call the same structure alike in labels.json"
            )
    for one, other in combinations(id_of, 2):
        if id_of[one] == id_of[other]:
            raise InputError(
                f"{folder}: its labels {there.names[one]} and {there.names[other]} would both be label {id_of[one]} of "
                f"{data_dir}; leave this prediction out"
            )
    return id_of


def _means_the_same(one: str, other: str) -> bool:
    meaning = meaning_of(one)
    return one.casefold() == other.casefold() or (bool(meaning) and meaning == meaning_of(other))


def _marks(header: SliceHeader) -> set[Any]:
    """What a slice is known by: its file, and its UID with its position, because careless tools give one UID to all."""
    marks: set[Any] = {(header.path.resolve(), header.frame)}
    return marks | {(header.sop_uid, header.position)} if header.sop_uid else marks


def assign_sides(
    predicted: Sequence[LabelledSlice], human_sides: dict[str, str], to: str
) -> tuple[list[str | None], int]:
    """Decides for each predicted slice whether it trains, validates, or is left out.

    A patient with human labels stays on the side where those are; where predictions may not go there, the slice is
    left out. Patients without human labels go where ``to`` says; with ``both`` they train, because they are no truth
    to be judged by.

    Args:
        predicted: the slices.
        human_sides: ``train`` or ``val`` by patient.
        to: ``train``, ``val`` or ``both``.

    Returns:
        For each slice ``train``, ``val`` or None, and how many are None.
    """
    sides: list[str | None] = []
    for item in predicted:
        side = human_sides.get(item.patient, "train" if to == "both" else to)
        sides.append(side if to in (side, "both") else None)
    return sides, sides.count(None)


def _result_folders(paths: Sequence[Path]) -> list[Path]:
    folders = [folder.resolve() for path in paths for folder in find_results(path)]
    return list(dict.fromkeys(folders))


def _read_whole(folder: Path) -> StoredPrediction:
    prediction = read_prediction(folder)
    if not (folder / LABEL_MAP).is_file():
        raise InputError(f"{folder}: holds no {LABEL_MAP}; predict again")
    return prediction
