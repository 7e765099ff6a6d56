"""Predictions of an earlier run as further labels (self-distillation): which slices may be learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.core.training_options import PredictedOptions
from sarco.io.results import LABEL_MAP, PredictedSlice, find_results, read_prediction
from sarco.io.sources import SourceSearch
from sarco.layouts.case import Case
from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice, with_neighbours


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


def find_predictions(options: PredictedOptions, data_dir: Path, human: Sequence[LabelledSlice]) -> FoundPredictions:
    """Finds the source slices of predictions, and keeps those that are sure enough and that nobody labelled.

    A source is looked for where it was when it was predicted, then by SOPInstanceUID below the parent of
    ``data_dir``.

    Raises:
        InputError: a folder holds no prediction, or a source slice was moved out of reach or changed; names it.
    """
    known = {mark for item in human for mark in _marks(item.header)}
    search = SourceSearch(data_dir.resolve().parent, "put it back or leave this prediction out")
    found: list[LabelledSlice] = []
    headers: dict[tuple[Path, int], SliceHeader] = {}  # each slice once, however many predictions there are of it
    unsure = labelled = 0
    for folder in _result_folders(options.path_to_prediction):
        chosen, series = [], []
        for entry in _read_slices(folder):
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
            found += with_neighbours([Case(folder / LABEL_MAP, tuple(chosen), predicted=True)], series)
    return FoundPredictions(tuple(found), unsure, labelled)


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


def _read_slices(folder: Path) -> tuple[PredictedSlice, ...]:
    slices = read_prediction(folder).slices
    if not (folder / LABEL_MAP).is_file():
        raise InputError(f"{folder}: holds no {LABEL_MAP}; predict again")
    return slices
