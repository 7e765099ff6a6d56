"""Who the patient is, as far as an index needs it: sex, height, weight, age, each with its source."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset

from sarco.core.errors import InputError

HEIGHT_M, WEIGHT_KG, AGE_YEARS, BMI = (1.0, 2.5), (20.0, 350.0), (0.0, 125.0), (8.0, 100.0)  # what can be true
_MOST_LISTED = 20  # in one message
_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": None, "other": None}
_AGE_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}  # PS3.5 section 6.2, value representation AS
_FIELDS = ("sex", "height_m", "weight_kg", "age_years")
# Column names, letters and digits alone and without case, and what they hold.
_COLUMNS = {
    "patientid": "patient_id", "case": "patient_id",
    "studyinstanceuid": "study_uid", "studyuid": "study_uid",
    "sex": "sex", "patientsex": "sex",
    "height": "height", "heightcm": "height_cm", "heightm": "height_m", "patientsize": "height",
    "weight": "weight_kg", "weightkg": "weight_kg", "patientweight": "weight_kg",
    "age": "age_years", "ageyears": "age_years", "patientage": "age_years",
}  # fmt: skip
# How TotalSegmentator's meta.csv calls them (https://doi.org/10.5281/zenodo.6802613).
_COLUMNS_OF_IMAGES = {"imageid": "patient_id", "gender": "sex"}
# Columns that are meant by their words, with units or in languages that are not read: by what they would hold.
_MEANT = {
    "sex": r"(?:patients?)?(?:sex|gender|geschlecht|sexe|sexo)(?:[mfw]{2})?",
    "height": r"(?:patients?)?(?:body)?(?:height|stature|größe|körpergröße)(?:in)?(?:mm|cm|m|in|inch|inches|ft|feet)?",
    "weight": r"(?:patients?)?(?:body)?(?:weight|gewicht|körpergewicht)(?:in)?(?:g|kg|lb|lbs|pounds|st|stones?)?",
    "age": r"(?:patients?)?(?:age|alter)(?:in)?(?:at(?:ct|scan))?(?:y|yrs?|years?|jahren?|months?|days?)?",
}
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+|\d+\.\d+[eE][+-]?\d{1,2})")  # DICOM allows powers of ten
_LARGEST_SHOWN = 1e4  # a number beyond it may be a date or an ID


@dataclass(frozen=True)
class Identity:
    """By what a patient is found in a table; both exactly as in DICOM.

    Attributes:
        patient_id: PatientID, else "". Messages never show it.
        study_uid: StudyInstanceUID, else "".
        place: the folder of the series, for messages.
    """

    patient_id: str
    study_uid: str
    place: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Which series it is, as messages show it."""
        return f"{self.place or 'a series'} (StudyInstanceUID {self.study_uid or 'empty'})"


@dataclass(frozen=True)
class Patient:
    """What is known of a patient; None where nothing is.

    Attributes:
        sex: "F" or "M".
        height_m, weight_kg, age_years: as named.
        source: for each of these that is known, where it comes from.
        notes: what was left out or contradicts itself.
    """

    sex: str | None = None
    height_m: float | None = None
    weight_kg: float | None = None
    age_years: float | None = None
    source: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def bmi(self) -> float | None:
        """Weight over squared height, kg/m2."""
        return self.weight_kg / self.height_m**2 if self.weight_kg and self.height_m else None

    def to_builtins(self) -> dict[str, Any]:
        """The patient as a JSON file holds it, with the BMI."""
        bmi = None if self.bmi is None else round(self.bmi, 2)

        known = {name: getattr(self, name) for name in _FIELDS}
        return {**known, "bmi": bmi, "source": dict(self.source), "notes": list(self.notes)}


def identity_of(dataset: Dataset, place: str = "") -> Identity:
    """By what the patient of a slice is found; empty where a tag cannot be read."""
    found = []
    for tag in ("PatientID", "StudyInstanceUID"):
        try:
            found.append(str(dataset.get(tag) or "").strip())
        except Exception:  # a damaged element makes pydicom raise nearly anything
            found.append("")
    return Identity(found[0], found[1], place)


def patient_from_dicom(dataset: Dataset) -> Patient:
    """What PatientSex, PatientSize, PatientWeight and PatientAge of a slice say.

    PatientSize is in metres (PS3.3 C.7.2.2); many write centimetres, which are told apart. Values that cannot be
    true (often 0) are left out with a note.
    """
    known: dict[str, Any] = {}
    source: dict[str, str] = {}
    notes: list[str] = []
    readers: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("sex", "PatientSex", _read_sex),
        ("height_m", "PatientSize", _read_height),
        ("weight_kg", "PatientWeight", _read_weight),
        ("age_years", "PatientAge", _read_age),
    )
    for name, tag, read in readers:
        try:
            stored = dataset.get(tag)
            text = "" if stored is None else str(stored).strip()
            value = read(text) if text else None
        except Exception as error:  # a damaged element makes pydicom raise nearly anything
            notes.append(f"DICOM {tag} is left out: {error if isinstance(error, ValueError) else 'cannot be read'}")
            continue
        if value is not None:
            known[name] = value
            in_cm = name == "height_m" and not math.isclose(_number(text, name), value)
            source[name] = f"DICOM {tag}" + (" (in cm there)" if in_cm else "")
    patient = Patient(**known, source=source, notes=tuple(notes))
    if patient.bmi is not None and not _is_plausible(patient.bmi):
        note = f"DICOM PatientSize and PatientWeight are left out: together they give a BMI of {patient.bmi:.1f}"
        kept = _without(source, ("height_m", "weight_kg"))
        return replace(patient, height_m=None, weight_kg=None, source=kept, notes=(*notes, note))
    return patient


@dataclass(frozen=True)
class PatientTable:
    """The rows of a patients file.

    Attributes:
        path: the file.
        by_study: patients by StudyInstanceUID.
        by_patient: patients by PatientID: rows without a StudyInstanceUID.
        patient_of_study: the PatientID that a row names beside its StudyInstanceUID.
    """

    path: Path
    by_study: dict[str, Patient]
    by_patient: dict[str, Patient]
    patient_of_study: dict[str, str]

    def find(self, identity: Identity) -> Patient:
        """The patient whose StudyInstanceUID or PatientID is exactly the given one.

        A row with a StudyInstanceUID speaks of that study alone, because weights change.

        Raises:
            InputError: there is no such row, or its two keys belong to different patients.
        """
        self.check([identity])
        return self.by_study.get(identity.study_uid) or self.by_patient[identity.patient_id]

    def check(self, identities: Iterable[Identity]) -> None:
        """Raises an `InputError` that lists all who have no row; to be called before hours of work."""
        missing, contradicting = [], []
        for one in dict.fromkeys(identities):
            if one.study_uid in self.by_study:
                named = self.patient_of_study.get(one.study_uid, one.patient_id)
                if named != one.patient_id:
                    contradicting.append(f"{one}: the row of its study names another PatientID")
            elif one.patient_id not in self.by_patient:
                missing.append(str(one))
        if missing:
            raise InputError(
                f"{self.path}: no row for {len(missing)} of the series: {_listed(missing)}; PatientID or "
                "StudyInstanceUID has to be exactly the one in DICOM, of a NIfTI volume the name of its case"
            )
        if contradicting:
            raise InputError(f"{self.path}: rows that contradict DICOM: {_listed(contradicting)}; correct them")


def read_patients(path: Path) -> PatientTable:
    """Reads a table of patients: CSV with comma, semicolon or tab and a line of column names.

    Columns: ``PatientID`` or ``StudyInstanceUID`` or both, and any of ``sex``, ``height`` (or ``height_cm``,
    ``height_m``), ``weight_kg``, ``age_years``. A NIfTI volume's PatientID is the name of its case, also in a column
    ``case`` or, as in TotalSegmentator's meta.csv, ``image_id``. Others are not looked at. An empty cell means unknown.

    Raises:
        InputError: the file cannot be read, columns are missing, a value cannot be true, or a key comes twice; lists
            the lines.
    """
    rows = _read_rows(path)
    lines_of: dict[str, list[int]] = {}
    faults: list[str] = []
    by_study: dict[str, Patient] = {}
    by_patient: dict[str, Patient] = {}
    patient_of_study: dict[str, str] = {}
    for line, cells in rows:
        patient_id, study_uid = cells.pop("patient_id", ""), cells.pop("study_uid", "")
        if not patient_id and not study_uid:
            faults.append(f"line {line}: neither PatientID nor StudyInstanceUID")
            continue
        try:
            patient = _patient_of_row(cells, f"{path.name} line {line}")
        except ValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        lines_of.setdefault(study_uid or patient_id, []).append(line)
        if study_uid:
            by_study[study_uid] = patient
            if patient_id:
                patient_of_study[study_uid] = patient_id
        else:
            by_patient[patient_id] = patient
    if faults:
        raise InputError(f"{path}: {_listed(faults)}; correct them or leave the cells empty")
    if twice := [" and ".join(map(str, lines)) for lines in lines_of.values() if len(lines) > 1]:
        raise InputError(f"{path}: lines {_listed(twice)} are of one patient; keep one, or name the StudyInstanceUID")
    return PatientTable(path, by_study, by_patient, patient_of_study)


def merge_patients(from_table: Patient, from_dicom: Patient) -> Patient:
    """What the table says, and what only DICOM knows. Where they differ the table counts, and a note says so."""
    merged = {name: _first(getattr(from_table, name), getattr(from_dicom, name)) for name in _FIELDS}
    source = {**from_dicom.source, **from_table.source}
    notes = [*from_table.notes, *from_dicom.notes]
    for name, tolerance in (("sex", 0.0), ("height_m", 0.025), ("weight_kg", 5.0), ("age_years", 1.0)):
        ours, theirs = getattr(from_table, name), getattr(from_dicom, name)
        if ours is None or theirs is None:
            continue
        if ours != theirs if name == "sex" else abs(ours - theirs) > tolerance:
            notes.append(
                f"{name} is {ours} in {source[name]} but {theirs} in {from_dicom.source[name]}; the first counts"
            )
    patient = Patient(**merged, source=source, notes=tuple(notes))
    if patient.bmi is not None and not _is_plausible(patient.bmi):
        # Each table row was checked in itself, so one of the two comes from DICOM.
        doubtful = [name for name in ("height_m", "weight_kg") if getattr(from_table, name) is None]
        note = f"{' and '.join(doubtful)} of DICOM left out: with the table they give a BMI of {patient.bmi:.1f}"
        return replace(patient, **dict.fromkeys(doubtful), source=_without(source, doubtful), notes=(*notes, note))
    return patient


def _is_plausible(bmi: float) -> bool:
    return BMI[0] <= bmi <= BMI[1]


def _without(source: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: text for name, text in source.items() if name not in set(names)}


def _first(one: Any, other: Any) -> Any:
    return other if one is None else one


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _MOST_LISTED} more" if len(items) > _MOST_LISTED else ""
    return ", ".join(items[:_MOST_LISTED]) + more


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and cells of all rows that are not empty, by what the columns hold."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:  # of 16 bits
            raise UnicodeError
    except UnicodeError:
        raise InputError(f"{path}: is not UTF-8 text; save the table as CSV (UTF-8)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check --patients") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return _rows_of(path, reader, delimiter)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no CSV ({error}); save the table again") from None


def _columns_of(path: Path, header: list[str]) -> list[str | None]:
    """What each column holds; None for what is not looked at."""
    names = ["".join(c for c in name.lower() if c.isalnum()) for name in header]
    known_names = _COLUMNS | _COLUMNS_OF_IMAGES if "imageid" in names else _COLUMNS
    columns = [known_names.get(name) for name in names]
    known = Counter(name for name in columns if name)
    if not {"patient_id", "study_uid"} & known.keys():
        raise InputError(f"{path}: has no column PatientID or StudyInstanceUID; name it in the first line")
    if not known.keys() - {"patient_id", "study_uid"}:
        raise InputError(f"{path}: has none of the columns sex, height, weight_kg, age_years; name them in line 1")
    if double := [name for name, count in known.items() if count > 1]:
        raise InputError(f"{path}: two columns hold {double[0]}; keep one")
    for what, words in _MEANT.items():
        meant = [name for name, plain in zip(header, names, strict=True) if re.fullmatch(words, plain)]
        if meant and not any(name.startswith(what) for name in known):
            raise InputError(
                f"{path}: column {meant[0].strip()!r} is none that is read; make it sex (F or M), height_cm, weight_kg "
                "or age_years, or take it out"
            )
    return columns


def _rows_of(path: Path, reader: Any, delimiter: str) -> list[tuple[int, dict[str, str]]]:
    header: list[str] = next(reader, [])
    columns = _columns_of(path, header)
    last_named = max(place for place, name in enumerate(header) if name.strip())
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()
        if any(_swallows_rows(cell, delimiter, len(header)) for cell in cells):
            raise InputError(f"{path}: a quote that ends on line {reader.line_num} swallows whole lines; correct it")
        if any(cell.strip() for cell in cells[last_named + 1 :]):
            raise InputError(
                f"{path}: line {reader.line_num} has a cell beyond the last named column; quote cells that hold a "
                f"{delimiter!r}, or name the column"
            )
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {reader.line_num} has {len(cells)} cells, the first line {len(header)}; quote cells "
                f"that hold a {delimiter!r}"
            )
        named = zip(columns, cells, strict=True)
        rows.append((reader.line_num, {name: cell.strip() for name, cell in named if name}))
    return rows


def _swallows_rows(cell: str, delimiter: str, n_columns: int) -> bool:
    """Whether a cell begins in one row and ends in a later one, because a quote is missing."""
    breaks = len(cell.strip().splitlines()) - 1
    return breaks > 0 and cell.count(delimiter) == breaks * (n_columns - 1)


def _patient_of_row(cells: dict[str, str], source: str) -> Patient:
    heights = [_read_height(cells[name], name) for name in ("height", "height_cm", "height_m") if cells.get(name)]
    if len(heights) > 1 and max(heights) - min(heights) > 0.005:
        raise ValueError(f"two different heights, {heights[0]} m and {heights[1]} m")
    known: dict[str, Any] = {
        "sex": _read_sex(cells["sex"]) if cells.get("sex") else None,
        "height_m": heights[0] if heights else None,
        "weight_kg": _read_weight(cells["weight_kg"]) if cells.get("weight_kg") else None,
        "age_years": _read_age(cells["age_years"]) if cells.get("age_years") else None,
    }
    patient = Patient(**known, source={name: source for name, value in known.items() if value is not None})
    if patient.bmi is not None and not _is_plausible(patient.bmi):
        raise ValueError(
            f"height {patient.height_m} m and weight {patient.weight_kg} kg give a BMI of {patient.bmi:.1f}"
        )
    return patient


def _read_sex(text: str) -> str | None:
    if text.lower() not in _SEXES:
        raise ValueError(f"sex is {repr(text) if len(text) == 1 else 'a word or number'}, not F or M")
    return _SEXES[text.lower()]


def _read_height(text: str, column: str = "height") -> float:
    """Metres, from metres or centimetres; inches and feet fall between the two and are refused."""
    value = _number(text, column)
    if value in (1, 2) and len(text) == 1:
        raise ValueError(f"{column} is {text}, as if cut off at a decimal comma")
    in_m, in_cm = (HEIGHT_M[0] <= metres <= HEIGHT_M[1] for metres in (value, value / 100))
    if not ((in_m and column != "height_cm") or (in_cm and column != "height_m")):
        raise ValueError(f"{column} is {_shown(value)}, which is no height in {_unit_of(column)}")
    return value if in_m else round(value / 100, 4)


def _unit_of(column: str) -> str:
    return {"height_cm": "cm", "height_m": "m"}.get(column, "m or cm")


def _read_weight(text: str) -> float:
    value = _number(text, "weight")
    if not WEIGHT_KG[0] <= value <= WEIGHT_KG[1]:
        raise ValueError(f"weight is {_shown(value)}, which is no weight in kg")
    return value


def _read_age(text: str) -> float:
    """Years, from a number or from DICOM's 060Y, 018M, 003W, 010D."""
    match = re.fullmatch(r"(\d{1,3})([YMWD])", text.upper())
    value = int(match[1]) * _AGE_UNITS[match[2]] if match else _number(text, "age")
    if not AGE_YEARS[0] <= value <= AGE_YEARS[1]:
        raise ValueError(f"age is {_shown(value)}, which is no age in years")
    return round(value, 2)


def _number(text: str, name: str) -> float:
    """A number as people write it, decimal commas too; the text is not shown, because it may be a name or a date."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} is no number; write it as digits without a unit")
    return float(text.replace(",", "."))


def _shown(value: float) -> str:
    return f"{value:g}" if abs(value) < _LARGEST_SHOWN else "a large number"
