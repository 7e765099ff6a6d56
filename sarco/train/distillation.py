"""Predictions of an earlier run as further labels (self-distillation): which slices may be learnt from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.core.files import files_below, hash_file, read_json
from sarco.core.messages import shown
from sarco.core.options import PredictedOptions
from sarco.io.dicom_header import is_dicom, read_dicom_headers
from sarco.io.images import read_headers
from sarco.results.folder import LABEL_MAP, PREDICTION
from sarco.scan.series import SliceHeader
from sarco.train.cases import Case, LabelledSlice, with_neighbours


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
    elsewhere = _SourceSearch(data_dir.resolve().parent)
    cases: list[Case] = []
    headers: dict[tuple[Path, int], SliceHeader] = {}  # each slice once, however many predictions there are of it
    unsure = labelled = 0
    for folder in _result_folders(options.path_to_prediction):
        chosen = []
        for entry in _read_slices(folder):
            header = _find_source(entry, folder, elsewhere)
            header = headers.setdefault((header.path, header.frame), header)
            if known & _marks(header):
                labelled += 1
            elif not entry.confidence >= options.min_confidence:  # NaN is no confidence
                unsure += 1
            else:
                chosen.append(header)
        if chosen:
            cases.append(Case(folder / LABEL_MAP, tuple(chosen), predicted=True))
    return FoundPredictions(with_neighbours(cases, list(headers.values())), unsure, labelled)


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
        side = human_sides.get(item.header.patient_id, "train" if to == "both" else to)
        sides.append(side if to in (side, "both") else None)
    return sides, sides.count(None)


def _result_folders(paths: Sequence[Path]) -> list[Path]:
    folders = []
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder; give a results folder of inference.py")
        inside = [file.parent for file in files_below(path) if file.name == PREDICTION]
        if not inside:
            raise InputError(f"{path}: holds no {PREDICTION}; give a results folder of inference.py")
        folders += [folder.resolve() for folder in inside]
    return list(dict.fromkeys(folders))


@dataclass(frozen=True)
class _Entry:
    """What ``prediction.json`` says of one slice."""

    file: str
    frame: int
    sop_uid: str
    blake2b: str
    confidence: float


def _read_slices(folder: Path) -> list[_Entry]:
    path = folder / PREDICTION
    content = read_json(path)
    slices = content.get("slices") if isinstance(content, dict) else None
    if not isinstance(slices, list):
        raise InputError(f"{path}: cannot be used (it holds no list of slices); predict again")
    if not (folder / LABEL_MAP).is_file():
        raise InputError(f"{folder}: holds no {LABEL_MAP}; predict again")
    return [_entry_of(path, number, stored) for number, stored in enumerate(slices)]


def _entry_of(path: Path, number: int, stored: Any) -> _Entry:
    """One slice, each of its values of the kind that `sarco.results.folder.write_results` writes."""
    if not isinstance(stored, dict):
        raise InputError(f"{path}: cannot be used (slice {number} is no object); predict again")
    values = {"frame": 0, **stored}  # results of older versions name no frame
    for name, kind in (("file", str), ("frame", int), ("sop_uid", str), ("blake2b", str)):
        if type(values.get(name)) is not kind:  # a bool is an int too
            raise InputError(f"{path}: cannot be used (slice {number} has no {name}, or a wrong one); predict again")
    confidence = values.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or confidence < 0 or confidence > 1:
        raise InputError(
            f"{path}: cannot be used (slice {number} has confidence {shown(confidence)}, not 0 to 1); predict again"
        )
    return _Entry(values["file"], values["frame"], values["sop_uid"], values["blake2b"], float(confidence))


class _SourceSearch:
    """Slices below a folder by SOPInstanceUID; read only when the first one is missed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_uid: dict[str, Path] | None = None

    def find(self, sop_uid: str) -> Path | None:
        if self._by_uid is None:
            self._by_uid = {}
            for file in files_below(self.root):
                try:
                    if is_dicom(file):
                        self._by_uid.setdefault(read_dicom_headers(file)[0].sop_uid, file)
                except (InputError, OSError):
                    continue
        return self._by_uid.get(sop_uid)


def _find_source(entry: _Entry, folder: Path, elsewhere: _SourceSearch) -> SliceHeader:
    path: Path | None = Path(entry.file)
    try:
        is_there = path is not None and path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        is_there = False
    if not is_there:
        path = elsewhere.find(entry.sop_uid) if entry.sop_uid else None
    if path is None:
        raise InputError(
            f"{folder}: the source slice {shown(entry.file)} (SOPInstanceUID {shown(entry.sop_uid)}) is gone, and none "
            f"with its UID lies below {elsewhere.root}; put it back or leave this prediction out"
        )
    if hash_file(path, hashlib.blake2b) != entry.blake2b:
        raise InputError(f"{folder}: the source slice {path} was changed since it was predicted; predict again")
    headers = read_headers(path)
    if not 0 <= entry.frame < len(headers):
        raise InputError(f"{folder}: the source {path} holds no frame {shown(entry.frame)}; predict again")
    return headers[entry.frame]
