"""What a training would find in a folder, before it starts: layouts, cases, slices, labels, patients, and faults."""

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sarco.core.errors import DataWarning, SarcoError
from sarco.core.messages import count_of
from sarco.layouts.case import Case, FoundCase
from sarco.layouts.labels import MASK
from sarco.layouts.search import FoundData, describe_cases, find_layouts, warn_of_shared_names
from sarco.layouts.wanted import settle_labels
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID

_MOST_LISTED = 20


@dataclass
class _Counts:
    cases: int = 0
    slices: int = 0
    labelled: int = 0
    ids: set[int] = field(default_factory=set)
    patients: set[str] = field(default_factory=set)


def survey(data_dir: Path) -> tuple[list[str], FoundData | None]:
    """Reads every labelled image of a folder, and its labels; masks of single structures by their names alone.

    Returns:
        Lines: for each layout what it holds, then what would be left out, and what would stop a training. None where
        the folder holds no labelled image. And what was found; None where nobody can say what belongs together.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # what cannot be looked into is told where series are listed
            found = find_layouts(data_dir)
    except SarcoError as error:
        return [f"stops a training: {error}"], None
    if not found.cases:
        return [], found
    faults: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        warn_of_shared_names(found.cases)
        names: dict[int, str] = {}
        settled = found.cases
        try:
            settled, names = settle_labels(found.cases)
        except SarcoError as error:
            faults.append(str(error))
        counts: dict[str, _Counts] = defaultdict(_Counts)
        usable = []
        for case in settled:
            try:
                _count(case, counts[case.layout])
                usable.append(case)
            except SarcoError as error:
                faults.append(str(error))
    lines = [_describe(layout, one, names) for layout, one in counts.items()]
    lines += describe_cases(usable)[1:]
    lines += [f"remark: {one.message}" for one in said if issubclass(one.category, DataWarning)]
    if found.tests:
        lines.append(f"left out: {count_of(len(found.tests), 'case')} that the data set keeps for testing")
    if found.lonely:
        shown = ", ".join(str(file.relative_to(data_dir)) for file in found.lonely[:_MOST_LISTED])
        lines.append(f"left out: {count_of(len(found.lonely), 'file')} without a partner: {shown}")
    return [*lines, *(f"stops a training: {fault}" for fault in faults)], found


def _count(found: FoundCase, counts: _Counts) -> None:
    """Adds a case.

    Raises:
        SarcoError: its image or its labels cannot be used.
    """
    case = Case(found.labels.path, found.open_image(), labels=found.labels)
    found.check_pixels()
    labelled, ids = len(case.slices), set[int]()
    if all(file.kind == MASK for file in found.labels.files):
        ids = {file.to[1] for file in found.labels.files if file.to}
    else:
        label_map = case.read_labels()
        held = [set(np.unique(case.lay(label_map, place)).tolist()) for place in range(len(case.slices))]
        labelled, ids = sum(one != {IGNORE_ID} for one in held), set().union(*held)
    counts.cases += 1
    counts.slices += len(case.slices)
    counts.labelled += labelled
    counts.ids |= ids - {BACKGROUND_ID, IGNORE_ID}
    counts.patients |= {header.patient_id for header in case.slices}


def _describe(layout: str, counts: _Counts, names: dict[int, str]) -> str:
    ids = sorted(counts.ids)
    labels = ", ".join(f"{label_id} {names[label_id]}" if label_id in names else str(label_id) for label_id in ids)
    return (
        f"{layout}: {count_of(counts.cases, 'case')}, {count_of(counts.slices, 'slice')} ({counts.labelled} labelled), "
        f"{count_of(len(counts.patients), 'patient')}; labels: {labels or 'none'}"
    )
