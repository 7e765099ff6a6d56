"""A DICOM segmentation and the series that it names, wherever in the data folder that lies."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from sarco.core.errors import InputError
from sarco.io.dicom_tags import open_dataset, quiet_pydicom, quiet_text
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles
from sarco.layouts.labels import SEG, LabelFile, LabelSource
from sarco.layouts.names import names_above

DICOM_SEG = "DICOM SEG"
# Segmentation Storage, Label Map Segmentation Storage (PS3.4 table B.5-1)
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_TAGS = ["SOPClassUID", "SeriesInstanceUID", "ReferencedSeriesSequence", "SegmentSequence"]


def find_segmentations(files: DataFiles) -> tuple[list[FoundCase], list[Path]]:
    """Every DICOM segmentation whose series is there, and those whose series is not."""
    objects: dict[Path, Any] = {}
    folders: dict[str, set[Path]] = defaultdict(set)
    for file in files.left:
        if file.suffix.lower() != ".dcm":
            continue
        try:
            with quiet_pydicom():
                dataset = open_dataset(file, stop_before_pixels=True, specific_tags=_TAGS)
        except InputError:
            continue  # whoever needs it will say so
        if quiet_text(dataset, "SOPClassUID") in _SEGMENTATIONS:
            objects[file] = dataset
        else:
            folders[quiet_text(dataset, "SeriesInstanceUID")].add(file.parent)
    cases, lonely = [], []
    for file, dataset in objects.items():
        files.claim([file])
        uid = _referenced_series(dataset)
        folder = max(folders.get(uid, ()), key=lambda place: (_shared(place, file.parent), str(place)), default=None)
        if folder is None:
            lonely.append(file)
            continue
        names = tuple((number, name) for number, name in _segments(dataset))
        numbers, _ = names_above(file.parent, files.root)
        source = LabelSource(file, (LabelFile(file, SEG, names, numbers, file),))
        cases.append(FoundCase(file.stem, DICOM_SEG, folder, source, series_uid=uid))
        files.claim(one for one in files.below(folder) if one.suffix.lower() == ".dcm" and one.parent == folder)
    return cases, lonely


def _referenced_series(dataset: Any) -> str:
    """The SeriesInstanceUID of what was segmented; empty where it names none."""
    items = dataset.get("ReferencedSeriesSequence") or []
    return quiet_text(items[0], "SeriesInstanceUID") if len(items) else ""


def _segments(dataset: Any) -> list[tuple[int, str]]:
    """Number and label of each segment (PS3.3 C.8.20.4)."""
    return [
        (int(item.SegmentNumber), quiet_text(item, "SegmentLabel") or f"segment_{item.SegmentNumber}")
        for item in dataset.get("SegmentSequence") or []
        if int(item.get("SegmentNumber", 0)) in range(1, 255)
    ]


def _shared(one: Path, other: Path) -> int:
    """How many folders from the root two places have in common."""
    pairs = zip(one.parts, other.parts, strict=False)
    return next((depth for depth, (a, b) in enumerate(pairs) if a != b), min(len(one.parts), len(other.parts)))
