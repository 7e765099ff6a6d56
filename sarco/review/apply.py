"""Takes corrections of a review page back.

Corrections become the label map of the results folder, everything beside it is made anew, and all of that appears at
once: whatever goes wrong leaves the folder as it was.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sarco
from sarco.core.errors import InputError
from sarco.core.files import write_json, write_whole
from sarco.core.messages import count_of
from sarco.core.tables import style_of
from sarco.io.images import read_hu
from sarco.io.nifti import nifti_stem, read_label_map, write_label_map
from sarco.io.results import (
    LABEL_MAP,
    MEASUREMENTS,
    OVERLAY,
    PREDICTED,
    PREDICTION,
    StoredPrediction,
    all_at_once,
    read_prediction,
)
from sarco.io.sources import find_source
from sarco.measurement.first_report import measure_again
from sarco.measurement.report import write_measurements
from sarco.measurement.series import SeriesMeasurer
from sarco.review.case import add_case
from sarco.review.corrections import correct_label_map, describe_changes, hash_of_label_map, read_corrections
from sarco.review.page import REVIEW, ReviewWriter, provenance_of
from sarco.review.sheet import ContactSheet, encode_png
from sarco.scan.geometry import voxel_volume_mm3
from sarco.scan.series import Series


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


def apply_corrections(
    results: Path,
    path: Path,
    add_to: Path | None = None,
    all_slices: bool = False,
    scan: Path | None = None,
) -> Applied:
    """Makes corrections the label map of a results folder and everything beside it anew.

    The network's own label map stays as ``label_map_predicted.nii.gz``. ``prediction.json`` notes who corrected what.

    Args:
        results: the folder of one series.
        path: ``corrections.json``.
        add_to: data folder that gets a training case.
        all_slices: whether somebody looked at every slice, so that all are to be learnt from.
        scan: where the slices are looked for, if they are no longer where they were.

    Raises:
        InputError: the folder or the file cannot be used, or they do not belong together; nothing was changed.
    """
    results = results.resolve()
    corrections = read_corrections(path)
    prediction = read_prediction(results)
    record = (results / PREDICTION).read_bytes()
    labels = prediction.labels
    if corrections.series_uid != prediction.series_uid:
        raise InputError(f"{path}: belongs to series {corrections.series_uid}, not to the one in {results}")
    series = find_source(prediction, scan)
    before = _on_grid(results, series)
    after = correct_label_map(before, series.plane_index, labels, corrections, path)
    if not corrections.seen_slices:
        raise InputError(f"{path}: holds no change and no checked slice; correct something first")
    note = describe_changes(before, after, labels, corrections)
    seen = series.plane_index if all_slices else corrections.seen_slices
    measurer = measure_again(results, series, labels)
    case = None
    with all_at_once(results, replace=True) as folder:
        shutil.copytree(results, folder, dirs_exist_ok=True)
        _keep_predicted(folder)
        write_label_map(folder / LABEL_MAP, after, series.affine_lps, series.file_axes)
        content = _noted(prediction, note, after, series)
        write_json(folder / PREDICTION, content)
        _measure_and_show(folder, prediction, after, measurer, provenance_of(content))
        if (results / PREDICTION).read_bytes() != record:
            raise InputError(
                f"{results}: was changed by another process meanwhile, so nothing was replaced; apply again"
            )
        if add_to is not None:
            case = add_case(add_to, series, after, seen, labels)
    return Applied(results / REVIEW, tuple(one.slice_index for one in corrections.slices), case)


def _on_grid(results: Path, series: Series) -> NDArray[np.uint8]:
    """The label map of the results as (row, column, plane) of the series; 0 where it has gaps."""
    stored = read_label_map(results / LABEL_MAP)
    label_map = np.zeros(series.shape, dtype=np.uint8)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        label_map[:, :, plane] = stored.on_slice(series.plane_affine_lps(plane), header.shape, header.path)
    return label_map


def _measure_and_show(
    folder: Path,
    prediction: StoredPrediction,
    label_map: NDArray[np.uint8],
    measurer: SeriesMeasurer,
    provenance: Mapping[str, str],
) -> None:
    """One pass over the slices for figures and page, then the contact sheet."""
    series, labels = measurer.series, prediction.labels
    confidence = {one.slice_index: one.confidence for one in prediction.slices}
    writer = ReviewWriter(series, labels)
    sheet = ContactSheet(series, labels)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        hu, ids = read_hu(header), label_map[:, :, plane]
        measurer.add(plane, hu, ids, confidence.get(plane))
        writer.add(plane, hu, ids)
        sheet.add(plane, hu, ids)
    summary, rows = measurer.summary(), measurer.rows
    write_measurements(folder, rows, summary, style_of(folder / MEASUREMENTS))
    writer.finish(folder, summary, provenance, [asdict(row) for row in rows])
    title = f"corrected, {count_of(len(series.slices), 'slice')}, series {series.uid}"
    write_whole(folder / OVERLAY, encode_png(sheet.draw(title)))


def _keep_predicted(folder: Path) -> None:
    """Renames what holds the network's label map, so that nobody takes it for the corrected one."""
    for name in (LABEL_MAP, *(file.name for file in folder.glob("*.dcm") if not file.stem.endswith(PREDICTED))):
        stem = nifti_stem(Path(name)) if name == LABEL_MAP else Path(name).stem
        kept = folder / f"{stem}{PREDICTED}{name[len(stem) :]}"
        if not kept.exists():  # else an earlier correction kept it
            (folder / name).rename(kept)


def _noted(
    prediction: StoredPrediction, note: dict[str, Any], label_map: NDArray[np.uint8], series: Series
) -> dict[str, Any]:
    """``prediction.json`` with the volumes of the corrected label map and a note of this correction."""
    note = note | {
        "applied_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sarco_version": sarco.__version__,
        "label_map_sha256": hash_of_label_map(label_map, series.plane_index),
    }
    counts = np.bincount(label_map.ravel(), minlength=256)
    voxel_ml = voxel_volume_mm3(series.affine_lps) / 1000
    labels = [
        entry | {"volume_ml": round(int(counts[entry["id"]]) * voxel_ml, 4)} for entry in prediction.raw["labels"]
    ]
    return {**prediction.raw, "labels": labels, "corrections": [*prediction.corrections, note]}
