"""Tables beside the data: names of labels, whose a case is, and which side it is on."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.core.files import read_json
from sarco.core.messages import shown
from sarco.layouts.case import TEST, TRAIN, VAL
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, read_label_names

TABLE = "patients.csv"
_CASE_COLUMNS = ("case", "case_id", "image_id")
_PATIENT_COLUMNS = ("patient", "patient_id", "patientid")


def names_above(folder: Path, root: Path) -> tuple[tuple[tuple[int, str], ...], Path | None]:
    """The names that every ``labels.json`` from the data folder down to this one gives, and the innermost of them.

    Raises:
        InputError: two of them give one id two names.
    """
    inside = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
    places = [root.joinpath(*inside[:depth]) / "labels.json" for depth in range(len(inside) + 1)]
    names: dict[int, str] = {}
    said_by: dict[int, Path] = {}
    for place in places:
        for label_id, name in _names_in(place).items():
            if names.setdefault(label_id, name) != name:
                raise InputError(two_names(label_id, names[label_id], said_by[label_id], name, place))
            said_by.setdefault(label_id, place)
    return tuple(names.items()), next((place for place in reversed(places) if place.is_file()), None)


@lru_cache(maxsize=4096)
def _read_names(path: Path, mtime_ns: int) -> dict[int, str]:
    return read_label_names(path)


def _names_in(path: Path) -> dict[int, str]:
    return _read_names(path, path.stat().st_mtime_ns) if path.is_file() else {}


def two_names(label_id: int, one: str, where: object, other: str, elsewhere: object) -> str:
    """The line on an id with two names."""
    return (
        f"{where} calls label {label_id} {one!r}, {elsewhere} calls it {other!r}; use one numbering, or pick labels by "
        "their names with --labels"
    )


@dataclass(frozen=True)
class NumberedNames:
    """The labels of a ``dataset.json``.

    Attributes:
        names: what each id is called; an id that lies in several regions has several.
        numbers: for regions, which number each has in nnU-Net's own predictions, as far as it says so.
        has_regions: whether a label may be several ids.
        ignored: the id that it calls ``ignore``.
    """

    names: tuple[tuple[int, str], ...]
    numbers: tuple[tuple[int, str], ...] = ()
    has_regions: bool = False
    ignored: int | None = None


def read_numbered_names(path: Path) -> NumberedNames:
    """The labels of a ``dataset.json``.

    nnU-Net v2 has a number by name, or the list of numbers that make up a region; the Decathlon and nnU-Net v1 have a
    name by number.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md, .../ignore_label.md and
        .../region_based_training.md; nnunetv2/utilities/label_handling/label_handling.py; dataset.json of the tasks on
        http://medicaldecathlon.com.

    Raises:
        InputError: it holds no such labels, or regions that contradict each other.
    """
    content = read_dataset_json(path)
    stored = content.get("labels")
    if not isinstance(stored, dict) or not stored:
        raise InputError(f'{path}: holds no labels; write "labels": {{"background": 0, "psoas": 1}}')
    by_name = all(not (key.strip().isdecimal() and isinstance(value, str)) for key, value in stored.items())
    pairs = list(stored.items()) if by_name else [(value, key) for key, value in stored.items()]
    has_regions = any(isinstance(number, list) and len(number) > 1 for _, number in pairs)
    found: list[tuple[int, str]] = []
    ignored = None
    for name, number in pairs:
        ids = [_id_of(path, name, one) for one in (number if isinstance(number, list) and number else [number])]
        if name == "ignore" and len(ids) == 1:
            ignored = ids[0]
        elif ids != [BACKGROUND_ID]:
            found += [(label_id, name) for label_id in ids]
    named = dict(reversed(found)) | ({} if ignored is None else {ignored: "ignore"})
    for label_id, name in found:
        if (not has_regions or label_id == ignored) and named[label_id] != name:
            raise InputError(two_names(label_id, named[label_id], path, name, path))
        if label_id == BACKGROUND_ID:
            raise InputError(f"{path}: {shown(name)} holds 0, which is background; take it out")
    numbers = _numbers_of_regions(path, content, list(dict.fromkeys(name for _, name in found))) if has_regions else ()
    return NumberedNames(tuple(found), numbers, has_regions, ignored)


def _numbers_of_regions(path: Path, content: Mapping[str, Any], regions: list[str]) -> tuple[tuple[int, str], ...]:
    """The numbers of regions by ``regions_class_order``; none where it is not there."""
    order = content.get("regions_class_order")
    if order is None:
        return ()
    is_order = isinstance(order, list) and len(set(map(str, order))) == len(order) == len(regions)
    if not is_order or not all(isinstance(number, int) and 0 < number < IGNORE_ID for number in order):
        raise InputError(
            f"{path}: regions_class_order is {shown(order)}, but has to give each of {', '.join(regions)} a number of "
            "its own in 1..254; correct it"
        )
    return tuple(zip(order, regions, strict=True))


def _id_of(path: Path, name: object, number: object) -> int:
    text = str(number)
    if not (text.isdecimal() and len(text) < 4 and int(text) <= IGNORE_ID) or not isinstance(name, str):
        raise InputError(
            f"{path}: label {shown(name)} has the id {shown(number)}, no whole number in 0..255; correct it"
        )
    return int(text)


def read_dataset_json(path: Path) -> dict[str, Any]:
    """What a ``dataset.json`` holds.

    Raises:
        InputError: it cannot be read, or is no object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object; correct it")
    return content


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table with comma, semicolon or tab, by the names of its columns in small letters.

    Raises:
        InputError: it cannot be read as text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8; save it as CSV in UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); correct it") from None
    columns = [column.strip().lower() for column in rows[0]] if rows else []
    return [dict(zip(columns, (cell.strip() for cell in row), strict=False)) for row in rows[1:]]


def read_patients_of_cases(path: Path) -> dict[str, str]:
    """Whose each case is, by a table with the columns ``case`` and ``patient``; none where it has not both.

    Raises:
        InputError: a case comes twice with two patients.
    """
    patients: dict[str, str] = {}
    for row in read_rows(path):
        case, patient = (next((row[name] for name in names if row.get(name)), "") for names in _COLUMNS)
        if case and patient and patients.setdefault(case, patient) != patient:
            raise InputError(f"{path}: gives the case {shown(case)} two patients; correct it")
    return patients


_COLUMNS = (_CASE_COLUMNS, _PATIENT_COLUMNS)


def read_sides(path: Path) -> dict[str, str]:
    """Which side each case is on, by TotalSegmentator's ``meta.csv``: columns ``image_id`` and ``split``.

    Source:
        https://github.com/wasserth/TotalSegmentator/blob/master/resources/convert_dataset_to_nnunet.py; the head of
        meta.csv in https://doi.org/10.5281/zenodo.6802613.
    """
    sides = {row.get("image_id", ""): row.get("split", "").lower() for row in read_rows(path)}
    return {case: side for case, side in sides.items() if case and side in (TRAIN, VAL, TEST)}


def read_splits(path: Path, cases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which side each case is on in each fold of nnU-Net's ``splits_final.json``; empty where a fold leaves it out.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/manual_data_splits.md

    Raises:
        InputError: it is no such file, names a case that is not there, or one on both sides.
    """
    stored = read_json(path)
    folds = stored if isinstance(stored, list) and stored else [None]
    known = set(cases)
    sides: dict[str, list[str]] = {}
    for place, fold in enumerate(folds):
        for side in (TRAIN, VAL):
            names = fold.get(side) if isinstance(fold, Mapping) else None
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError(
                    f'{path}: is no list of folds such as [{{"train": ["case_1"], "val": ["case_2"]}}]; correct it'
                )
            for name in names:
                if name not in known:
                    raise InputError(
                        f"{path}: names the case {shown(name)}, which has no label map in labelsTr/; correct it"
                    )
                in_folds = sides.setdefault(name, [""] * len(folds))
                if in_folds[place] not in ("", side):
                    raise InputError(f"{path}: has the case {shown(name)} on both sides; correct it")
                in_folds[place] = side
    return {name: tuple(in_folds) for name, in_folds in sides.items()}
