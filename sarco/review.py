"""Takes corrections of a review page back, and lists reviews: ``python -m sarco.review apply | index``.

Corrections become the label map of the results folder, everything beside it is made anew, and all of that appears at
once: whatever goes wrong leaves the folder as it was.
"""

import argparse
import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import sarco
from sarco.command import run_command, say
from sarco.corrected_case import add_case
from sarco.corrections import correct_label_map, describe_changes, hash_of_label_map, read_corrections
from sarco.dicom import Series, SliceHeader, files_below, is_dicom, make_series, read_header, read_slice
from sarco.errors import InputError, SarcoError
from sarco.geometry import voxel_volume_mm3
from sarco.labels import LabelTable
from sarco.nifti import nifti_stem, read_label_map, write_label_map
from sarco.overlay import contact_sheet, draw_tile, show_slices, write_png
from sarco.results import LABEL_MAP, OVERLAY, PREDICTION, all_at_once, hash_file
from sarco.review_index import write_index
from sarco.review_page import REVIEW, ReviewWriter, pixel_area_of, provenance_of
from sarco.runs import write_json

PROGRAM = "python -m sarco.review"
MEASUREMENTS, SUMMARY = "measurements.csv", "summary.json"
PREDICTED = "_predicted"  # appended to what still holds the network's own label map
SLICES_SHOWN = 20  # on the contact sheet


class Measurer(Protocol):
    """Measures a series again, slice by slice, and writes what it found."""

    pixel_area_cm2: float

    def add(self, slice_index: int, hu: NDArray[np.float32], label_map: NDArray[np.uint8]) -> None:
        """Takes one slice: its plane, (row, column) HU and (row, column) label ids."""

    def finish(self, folder: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """Writes ``measurements.csv`` and ``summary.json``; gives the summary and the rows."""


@dataclass(frozen=True)
class Applied:
    """What `apply_corrections` did.

    Attributes:
        review: the new page.
        slices: planes that changed.
        case: the label map of the training case, if one was asked for.
    """

    review: Path
    slices: tuple[int, ...]
    case: Path | None


class PixelCounter:
    """Areas and volumes alone, counted: pixels x pixel area."""

    def __init__(self, results: Path, series: Series, labels: LabelTable) -> None:
        """Starts empty.

        Args:
            results: the results folder as it was; not needed here, but by those who measure more.
            series: what is measured.
            labels: names of the ids.
        """
        self.pixel_area_cm2 = pixel_area_of(series.affine_lps)
        self._series, self._labels = series, labels
        self._rows: list[dict[str, Any]] = []

    def add(self, slice_index: int, hu: NDArray[np.float32], label_map: NDArray[np.uint8]) -> None:
        """Counts one slice."""
        counts = np.bincount(label_map.ravel(), minlength=256)
        voxel_ml = voxel_volume_mm3(self._series.affine_lps) / 1000
        for label_id, name in self._labels.names.items():
            self._rows.append(
                {
                    "slice_index": slice_index,
                    "z_mm": round(float(self._series.plane_affine_lps(slice_index)[2, 3]), 3),
                    "label_id": label_id,
                    "label": name,
                    "n_pixels": int(counts[label_id]),
                    "area_cm2": int(counts[label_id]) * self.pixel_area_cm2,
                    "volume_ml": int(counts[label_id]) * voxel_ml,
                }
            )

    def finish(self, folder: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """Writes both files."""
        totals = dict.fromkeys(self._labels.ids, 0.0)
        for row in self._rows:
            totals[row["label_id"]] += row["volume_ml"]
        names = self._labels.names
        summary = {"labels": [{"id": i, "name": names[i], "volume_ml": round(ml, 4)} for i, ml in totals.items()]}
        write_json(folder / SUMMARY, summary)
        with open(folder / MEASUREMENTS, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self._rows[0]))
            writer.writeheader()
            writer.writerows(self._rows)
        return summary, self._rows


MakeMeasurer = Callable[[Path, Series, LabelTable], Measurer]


def apply_corrections(
    results: Path,
    path: Path,
    make_measurer: MakeMeasurer = PixelCounter,
    add_to: Path | None = None,
    all_slices: bool = False,
    scan: Path | None = None,
) -> Applied:
    """Makes corrections the label map of a results folder and everything beside it anew.

    The network's own label map stays as ``label_map_predicted.nii.gz``. ``prediction.json`` notes who corrected what.

    Args:
        results: the folder of one series.
        path: ``corrections.json``.
        make_measurer: measures again, from results folder, series and labels.
        add_to: data folder that gets a training case.
        all_slices: whether somebody looked at every slice, so that all are to be learnt from.
        scan: where the slices are looked for, if they are no longer where they were.

    Raises:
        InputError: the folder or the file cannot be used, or they do not belong together; nothing was changed.
    """
    results = results.resolve()
    corrections = read_corrections(path)
    prediction = read_prediction(results)
    labels = labels_of(prediction, results)
    before = read_label_map(results / LABEL_MAP)
    if corrections.series_uid != prediction["series_uid"]:
        raise InputError(f"{path}: belongs to series {corrections.series_uid}, not to the one in {results}")
    planes = tuple(int(entry["slice_index"]) for entry in prediction["slices"])
    if max(planes) >= before.ids.shape[2]:
        raise InputError(f"{results}: {LABEL_MAP} has fewer slices than {PREDICTION} names; predict again")
    after = correct_label_map(before.ids, planes, labels, corrections, path)
    if not corrections.seen_slices:
        raise InputError(f"{path}: holds no change and no checked slice; correct something first")
    series = find_source(prediction, results, scan)
    if series.shape != after.shape or series.plane_index != planes:
        raise InputError(f"{results}: the slices make up {series.shape}, the label map {after.shape}; predict again")
    note = describe_changes(before.ids, after, labels, corrections)
    seen = series.plane_index if all_slices else corrections.seen_slices
    case = None
    with all_at_once(results) as folder:
        shutil.copytree(results, folder, dirs_exist_ok=True)
        _keep_predicted(folder)
        write_label_map(folder / LABEL_MAP, after, series.affine_lps)
        prediction = _noted(prediction, note, after, planes, series)
        write_json(folder / PREDICTION, prediction)
        _measure_and_show(folder, series, after, labels, make_measurer(results, series, labels), prediction)
        if add_to is not None:
            case = add_case(add_to, series, after, seen, labels)
    return Applied(results / REVIEW, tuple(one.slice_index for one in corrections.slices), case)


def _measure_and_show(
    folder: Path,
    series: Series,
    label_map: NDArray[np.uint8],
    labels: LabelTable,
    measurer: Measurer,
    prediction: Mapping[str, Any],
) -> None:
    """One pass over the slices for figures and page, then the contact sheet."""
    writer = ReviewWriter(series, labels, measurer.pixel_area_cm2)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        hu, _ = read_slice(header.path)
        measurer.add(plane, hu, label_map[:, :, plane])
        writer.add(plane, hu, label_map[:, :, plane])
    summary, rows = measurer.finish(folder)
    writer.finish(folder, summary, provenance_of(prediction), rows)
    shown = show_slices(series, label_map, SLICES_SHOWN)
    tiles = [draw_tile(one.hu, one.label_map, one.affine_lps, labels, one.caption) for one in shown]
    title = f"corrected, {len(series.slices)} slices, series {series.uid}"
    write_png(folder / OVERLAY, contact_sheet(tiles, labels, title))


def _keep_predicted(folder: Path) -> None:
    """Renames what holds the network's label map, so that nobody takes it for the corrected one."""
    for name in (LABEL_MAP, *(file.name for file in folder.glob("*.dcm") if not file.stem.endswith(PREDICTED))):
        stem = nifti_stem(Path(name)) if name == LABEL_MAP else Path(name).stem
        kept = folder / f"{stem}{PREDICTED}{name[len(stem) :]}"
        if not kept.exists():  # else an earlier correction kept it
            (folder / name).rename(kept)


def _noted(
    prediction: Mapping[str, Any],
    note: dict[str, Any],
    label_map: NDArray[np.uint8],
    planes: tuple[int, ...],
    series: Series,
) -> dict[str, Any]:
    """``prediction.json`` with the volumes of the corrected label map and a note of this correction."""
    note = note | {
        "applied_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sarco_version": sarco.__version__,
        "label_map_sha256": hash_of_label_map(label_map, planes),
    }
    counts = np.bincount(label_map.ravel(), minlength=256)
    voxel_ml = voxel_volume_mm3(series.affine_lps) / 1000
    labels = [
        entry | {"volume_ml": round(int(counts[int(entry["id"])]) * voxel_ml, 4)} for entry in prediction["labels"]
    ]
    return dict(prediction) | {"labels": labels, "corrections": [*prediction.get("corrections", []), note]}


def read_prediction(results: Path) -> dict[str, Any]:
    """The content of ``prediction.json``.

    Raises:
        InputError: the folder holds none that can be used.
    """
    path = results / PREDICTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        str(content["series_uid"])
        for entry in content["slices"]:
            int(entry["slice_index"]), str(entry["file"]), str(entry["sop_uid"]), str(entry["blake2b"])
        if not content["slices"]:
            raise ValueError("no slices")
    except FileNotFoundError:
        raise InputError(f"{results}: holds no {PREDICTION}; give the results folder of one series") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be used ({type(error).__name__}: {error}); predict again") from None
    return dict(content)


def labels_of(prediction: Mapping[str, Any], results: Path) -> LabelTable:
    """The label table that ``prediction.json`` holds."""
    try:
        return LabelTable({int(entry["id"]): str(entry["name"]) for entry in prediction["labels"]})
    except (KeyError, TypeError, ValueError, SarcoError) as error:
        raise InputError(f"{results / PREDICTION}: names no labels ({error}); predict again") from None


def find_source(prediction: Mapping[str, Any], results: Path, scan: Path | None) -> Series:
    """The scan that was predicted, each file just as it was then.

    Args:
        prediction: the content of ``prediction.json``.
        results: its folder, for messages.
        scan: where slices are looked for by SOPInstanceUID; None for where they were.

    Raises:
        InputError: a slice is gone or was changed; names it.
    """
    moved: dict[str, Path] = {} if scan is None else _slices_below(scan)
    headers: list[SliceHeader] = []
    for entry in prediction["slices"]:
        path = Path(entry["file"]) if scan is None else moved.get(entry["sop_uid"])
        if path is None or not path.is_file():
            raise InputError(
                f"{results}: the slice {entry['file']} (SOPInstanceUID {entry['sop_uid']}) is not there; say where "
                "the scan lies with --scan=FOLDER"
            )
        if hash_file(path, hashlib.blake2b) != entry["blake2b"]:
            raise InputError(f"{results}: the slice {path} was changed since it was predicted; predict again")
        headers.append(read_header(path))
    return make_series(headers)


def _slices_below(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the one with the scan as --scan")
    found: dict[str, Path] = {}
    for file in files_below(folder):
        try:
            if is_dicom(file):
                found.setdefault(read_header(file).sop_uid, file)
        except (InputError, OSError):
            continue
    return found


def main(argv: Sequence[str]) -> None:
    """Applies corrections, or writes the list of reviews."""
    typed = _parser().parse_args(list(argv))
    if typed.command == "index":
        count, page = write_index(typed.folder)
        say(f"{count} results: {page}")
        return
    applied = apply_corrections(
        typed.results, typed.corrections, add_to=typed.add_to, all_slices=typed.all_slices == "yes", scan=typed.scan
    )
    say(f"{len(applied.slices)} slices corrected: {applied.review}")
    if applied.case:
        say(f"training case: {applied.case}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Takes corrections back, lists reviews.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="apply | index")
    apply = commands.add_parser("apply", help="make corrections the label map and measure again", allow_abbrev=False)
    apply.add_argument("results", metavar="RESULTS", type=Path, help="results folder of one series")
    apply.add_argument("corrections", metavar="CORRECTIONS", type=Path, help="the file that the review page saved")
    apply.add_argument("--add_to", metavar="DATA_DIR", type=Path, help="make a training case of it in this data folder")
    apply.add_argument(
        "--all_slices",
        choices=("yes", "no"),
        default="no",
        help="yes: learn from every slice, not only from those corrected or marked as checked",
    )
    apply.add_argument("--scan", metavar="FOLDER", type=Path, help="where the scan lies now, if it was moved")
    index = commands.add_parser("index", help="list the results below a folder", allow_abbrev=False)
    index.add_argument("folder", metavar="FOLDER", type=Path, help="folder with results folders; gets index.html")
    for command in (apply, index):
        command.add_argument("--debug", action="store_true", help="show tracebacks of errors too")
    return parser


if __name__ == "__main__":
    run_command(main, PROGRAM)
