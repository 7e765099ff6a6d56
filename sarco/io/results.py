"""A results folder read again: its file names, ``prediction.json``, ``summary.json``; `sarco.results` writes them.

Anybody may have edited these files, so every value that sarco uses is of the kind that sarco writes, or the file is
refused in one line.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.core.files import UnfitError, chosen_folder, demand, read_json
from sarco.core.messages import shown
from sarco.core.tree import files_below
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable

LABEL_MAP, OVERLAY = "label_map.nii.gz", "overlay.png"
PREDICTED = "_predicted"  # ends the name of what still holds the network's own label map after a correction
PREDICTION, SUMMARY, MEASUREMENTS = "prediction.json", "summary.json", "measurements.csv"

_DEEPEST = 32  # layers of objects and lists; sarco writes five
_LARGEST = 1e15  # no figure comes near; beyond it sums overflow
_TEXTS = ("run_id", "wandb_project", "checkpoint_sha256", "sarco_version", "predicted_at")


@dataclass(frozen=True)
class PredictedSlice:
    """One slice of a prediction.

    Attributes:
        slice_index: its plane in the series.
        file: where it was when it was predicted.
        frame: its place among the frames of the file.
        sop_uid: its SOPInstanceUID; empty where it had none.
        blake2b: hash of the file.
        confidence: mean probability of the winning label, 0..1; None where it was no number.
    """

    slice_index: int
    file: str
    frame: int
    sop_uid: str
    blake2b: str
    confidence: float | None


@dataclass(frozen=True)
class StoredPrediction:
    """A checked ``prediction.json``.

    Attributes:
        folder: the results folder.
        series_uid: of the scan.
        labels: what the ids of the label map mean.
        volumes_ml: by label id; labels without one are left out.
        slices: at least one, in the order of the series.
        corrections: what people changed since, the latest last; each with ``corrected_by``, ``corrected_at`` and
            ``slices``.
        run_id, sarco_version: who predicted; empty where nobody wrote it down.
        mean_confidence: over the slices; None where it is unknown.
        raw: all of the file, to be written again.
    """

    folder: Path
    series_uid: str
    labels: LabelTable
    volumes_ml: Mapping[int, float]
    slices: tuple[PredictedSlice, ...]
    corrections: tuple[Mapping[str, Any], ...]
    run_id: str
    sarco_version: str
    mean_confidence: float | None
    raw: Mapping[str, Any] = field(repr=False)


def find_results(folder: Path) -> list[Path]:
    """Every results folder below a folder, itself included, sorted.

    Raises:
        InputError: there is no such folder, or it holds none, or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give a results folder, or one that holds some")
    found = [file.parent for file in files_below(folder) if file.name == PREDICTION]
    if not found:
        raise InputError(f"{folder}: holds no {PREDICTION}; give a results folder, or one that holds some")
    return found


def read_prediction(folder: Path) -> StoredPrediction:
    """The ``prediction.json`` of a results folder.

    Raises:
        InputError: there is none, or it is not as sarco writes it; says what.
    """
    path = folder / PREDICTION
    if not path.is_file():
        raise InputError(f"{folder}: holds no {PREDICTION}; give the results folder of one series")
    content = read_json(path)
    try:
        return _prediction_of(folder, _checked(content, with_nan=True))
    except UnfitError as unfit:
        raise InputError(f"{path}: cannot be used ({unfit}); predict again") from None


def read_summary(folder: Path) -> dict[str, Any]:
    """The ``summary.json`` of a results folder; parts that it lacks are empty, as all are where there is no such file.

    Returns:
        Its content, with lists ``flags``, ``labels``, ``cutoffs`` (of objects), ``muscle_labels``, ``not_checked`` (of
        texts) and objects ``level``, ``patient``, ``smi``, ``hu_ranges``. Every number in it is finite, every flag has
        a name.

    Raises:
        InputError: it is not as sarco writes it; says what.
    """
    path = folder / SUMMARY
    try:
        return _summary_of(_checked(read_json(path), with_nan=False) if path.exists() else {})
    except UnfitError as unfit:
        raise InputError(f"{path}: cannot be used ({unfit}); predict again") from None


def all_at_once(
    path: Path, *, replace: bool, beside: Callable[[Path], object] | None = None
) -> AbstractContextManager[Path]:
    """A temporary folder that becomes ``path`` where the block ends well and vanishes where it does not.

    Args:
        path: the results folder.
        replace: whether what is in ``path`` may be replaced, which is done only then.
        beside: called where it may not and something came there meanwhile: with the folder that the results got.

    Raises:
        InputError: the folder cannot be written.
    """
    return chosen_folder(path, "dest_dir", replace=replace, beside=beside)


def _checked(content: Any, with_nan: bool) -> dict[str, Any]:
    """The object that a file holds, of few layers, so that it can be walked through and written again.

    Args:
        content: of the file.
        with_nan: whether numbers may be anything that JSON of Python holds.
    """
    demand(isinstance(content, dict), "it holds no object")
    layer: list[Any] = [content]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in layer:
            inner += [*value, *value.values()] if isinstance(value, dict) else value
        demand(all(_is_writable(value) for value in inner if isinstance(value, str)), "a text is no Unicode")
        if not with_nan:
            numbers = [value for value in inner if isinstance(value, (int, float))]
            demand(all(-_LARGEST < value < _LARGEST for value in numbers), "a number is too large, or none")
        layer = [value for value in inner if isinstance(value, (dict, list))]
        if not layer:
            return dict(content)
    raise UnfitError("it is nested too deeply")


def _is_writable(text: str) -> bool:
    """Whether a file can hold a text: JSON can name halves of characters."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _prediction_of(folder: Path, content: dict[str, Any]) -> StoredPrediction:
    series_uid = content.get("series_uid")
    if not isinstance(series_uid, str) or not series_uid:
        raise UnfitError("it has no series_uid")
    for name in _TEXTS:
        demand(isinstance(content.get(name), (str, type(None))), f"{name} is no text")
    for run in _objects(content, "runs") if "runs" in content else ():  # which predicted together
        for name in _TEXTS[:3]:
            demand(isinstance(run.get(name), str), f"one of its runs has no {name}, or a wrong one")
    labels, volumes_ml = _labels_of(_objects(content, "labels"))
    slices = tuple(_slice_of(number, stored) for number, stored in enumerate(_objects(content, "slices")))
    demand(bool(slices), "it names no slices")
    return StoredPrediction(
        folder=folder,
        series_uid=series_uid,
        labels=labels,
        volumes_ml=volumes_ml,
        slices=slices,
        corrections=_corrections_of(content),
        run_id=content.get("run_id") or "",
        sarco_version=content.get("sarco_version") or "",
        mean_confidence=_confidence(content["mean_confidence"], "it") if "mean_confidence" in content else None,
        raw=content,
    )


def _slice_of(number: int, stored: Mapping[str, Any]) -> PredictedSlice:
    values = {"frame": 0, **stored}  # results of older versions name no frame
    for name in ("slice_index", "frame"):
        demand(_is_whole(values.get(name)) and values[name] >= 0, f"slice {number} has no {name}, or a wrong one")
    for name in ("file", "sop_uid", "blake2b"):
        demand(isinstance(values.get(name), str), f"slice {number} has no {name}, or a wrong one")
    return PredictedSlice(
        slice_index=values["slice_index"],
        file=values["file"],
        frame=values["frame"],
        sop_uid=values["sop_uid"],
        blake2b=values["blake2b"],
        confidence=_confidence(values.get("confidence"), f"slice {number}"),
    )


def _confidence(value: Any, whose: str) -> float | None:
    """A probability; NaN, which is none, becomes None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    demand(good, f"{whose} has confidence {shown(value)}, not 0 to 1")
    return float(value)


def _labels_of(entries: list[dict[str, Any]]) -> tuple[LabelTable, dict[int, float]]:
    names: dict[int, str] = {}
    volumes_ml: dict[int, float] = {}
    for entry in entries:
        label_id, name = entry.get("id"), entry.get("name")
        if type(label_id) is not int or not BACKGROUND_ID < label_id < IGNORE_ID or label_id in names:
            raise UnfitError(f"label id {shown(label_id)} is no whole number in 1..254, or comes twice")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise UnfitError(f"label id {label_id} has no name")
        names[label_id] = name
        if entry.get("volume_ml") is not None:
            demand(_is_figure(entry["volume_ml"]), f"label id {label_id} has a volume_ml that is no number")
            volumes_ml[label_id] = float(entry["volume_ml"])
    demand(bool(names), "it names no labels")
    return LabelTable(names), volumes_ml


def _corrections_of(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    found = _objects(content, "corrections") if "corrections" in content else []
    for one in found:
        for name in ("corrected_by", "corrected_at"):
            demand(isinstance(one.get(name), str), f"a correction has no {name}, or a wrong one")
        slices = one.get("slices")
        demand(isinstance(slices, list) and all(map(_is_whole, slices)), "a correction has no slices, or wrong ones")
    return tuple(found)


def _summary_of(content: dict[str, Any]) -> dict[str, Any]:
    found = dict(content)
    for name in ("flags", "labels", "cutoffs"):
        found[name] = [] if content.get(name) is None else _objects(content, name)
    for name in ("muscle_labels", "not_checked"):
        found[name] = [] if content.get(name) is None else content[name]
        fits = isinstance(found[name], list) and all(isinstance(text, str) for text in found[name])
        demand(fits, f"{name} is no list of texts")
    for name in ("level", "patient", "smi", "hu_ranges"):
        found[name] = {} if content.get(name) is None else content[name]
        demand(isinstance(found[name], dict), f"{name} is no object")
    for flag in found["flags"]:
        slices = flag.get("slices", [])
        demand(isinstance(flag.get("name"), str), "a flag has no name")
        demand(isinstance(slices, list) and all(map(_is_whole, slices)), "the slices of a flag are no whole numbers")
    for figures, name in [(found["smi"], "value"), *((label, "volume_ml") for label in found["labels"])]:
        demand(figures.get(name) is None or _is_figure(figures[name]), f"a {name} is no number")
    return found


def _objects(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = content.get(name)
    if not isinstance(found, list):
        raise UnfitError(f"it holds no list of {name}")
    for number, one in enumerate(found):
        demand(isinstance(one, dict), f"{name} {number} is no object")
    return found


def _is_whole(value: Any) -> bool:
    return type(value) is int  # a bool is an int too


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST
