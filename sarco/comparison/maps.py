"""Label maps in files, compared label by label: overlap, surface distances, volume and area. Pairs files by name."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.comparison.surface import SurfaceDistances, compare_surfaces
from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.tree import files_below
from sarco.io.nifti import is_nifti, nifti_stem, read_label_map
from sarco.io.results import LABEL_MAP, PREDICTED, PREDICTION
from sarco.scan.geometry import Affine, plane_affine, spacing_mm, voxel_volume_mm3
from sarco.scan.label_map import LabelMap
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, refuse_structure_255

SHEAR_TOLERANCE = 1e-3  # cosine between two axes of a grid; distances along the axes take right angles
NO_LABEL = "no label"  # what rows are of where every label map is empty
_RESULTS_NAME = re.compile(r"preds_from_.+?_of_")


@dataclass(frozen=True)
class LabelComparison:
    """One label of one patient. NaN means that a figure is not defined, and `state` says why.

    Attributes:
        patient, label_id: what was compared; label 0 where no label map at all holds a label.
        state: ``both``; or ``truth only``, ``prediction only``, ``neither``, which hold the label.
        dice, iou: NaN where neither holds the label, 0 where one does.
        hd95_mm, asd_mm: see `sarco.comparison.surface`; NaN unless both hold it, and on sheared grids (gantry tilt).
        truth_ml, prediction_ml: volumes.
        truth_cm2, prediction_cm2: mean area over the slices in which either holds the label; NaN where none does.
        area_error: mean over the slices whose truth holds the label of |predicted - true| / true area; NaN without.
    """

    patient: str
    label_id: int
    state: str
    dice: float
    iou: float
    hd95_mm: float
    asd_mm: float
    truth_ml: float
    prediction_ml: float
    truth_cm2: float
    prediction_cm2: float
    area_error: float

    @property
    def volume_error(self) -> float:
        """(predicted - true) / true volume; NaN where the truth does not hold the label."""
        return (self.prediction_ml - self.truth_ml) / self.truth_ml if self.truth_ml else np.nan


def absent(patient: str, label_id: int) -> LabelComparison:
    """The comparison of a label that neither holds; other patients do."""
    nan = float("nan")
    return LabelComparison(patient, label_id, "neither", nan, nan, nan, nan, 0.0, 0.0, nan, nan, nan)


@dataclass(frozen=True)
class Pairs:
    """Files that belong together.

    Attributes:
        pairs: name, truth and prediction, by name.
        alone: files whose name has no partner on the other side.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    alone: tuple[Path, ...]


def find_pairs(truth: Path, prediction: Path) -> Pairs:
    """Pairs label maps: two files as they are, folders by name.

    A file's name is that without ``.nii.gz``. A results folder is its ``label_map.nii.gz``, whatever else lies in it,
    and is named after the folder, without ``preds_from_<run id>_of_``.

    Raises:
        InputError: a path is missing, two files of one side share a name, or nothing pairs up.
    """
    if truth.is_file() and (prediction / LABEL_MAP).is_file():
        prediction /= LABEL_MAP
    elif prediction.is_file() and (truth / LABEL_MAP).is_file():
        truth /= LABEL_MAP
    if not truth.is_dir() and not prediction.is_dir():
        return Pairs(((_name_of(truth), truth, prediction),), ())
    sides = [_named_files(path) for path in (truth, prediction)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        examples = [f"{path} ({', '.join(sorted(names)[:3]) or 'no NIfTI file'})" for path, names in
                    zip((truth, prediction), sides, strict=True)]  # fmt: skip
        raise InputError(f"no label maps of the same name in {examples[0]} and {examples[1]}; rename one side")
    alone = [names[name] for names in sides for name in sorted(names.keys() - set(shared))]
    return Pairs(tuple((name, sides[0][name], sides[1][name]) for name in shared), tuple(alone))


def _named_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {_name_of(path): path}
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; check the path")
    named: dict[str, Path] = {}
    files = files_below(path)  # what is still being written is hidden
    results = {file.parent for file in files if file.name == PREDICTION and (file.parent / LABEL_MAP).is_file()}
    kept = nifti_stem(Path(LABEL_MAP)) + PREDICTED
    for file in filter(is_nifti, files):
        if (file.parent in results and file.name != LABEL_MAP) or nifti_stem(file) == kept:
            continue
        name = _name_of(file)
        if name in named:
            raise InputError(f"{named[name]} and {file} share the name {name}; give a folder where names are unique")
        named[name] = file
    return named


def _name_of(file: Path) -> str:
    if file.name == LABEL_MAP:
        return _RESULTS_NAME.sub("", file.absolute().parent.name, count=1)
    return nifti_stem(file)


def compare_label_maps(
    truth_path: Path, prediction_path: Path, patient: str = "", names: Mapping[int, str] | None = None
) -> tuple[LabelComparison, ...]:
    """Compares each label that either of two label maps holds, in the world, not by index.

    Voxels that are 255 (nobody looked) in the truth count nowhere; a `DataWarning` tells of those within slices that
    were looked at, and of those in the prediction.

    Args:
        truth_path: a NIfTI file.
        prediction_path: likewise.
        patient: for the result.
        names: of labels, by id; none where nobody named them.

    Raises:
        InputError: a file cannot be read, has 255 for a structure, or is 255 throughout.
        GeometryError: the grids do not coincide; names both files.
    """
    truth, prediction = read_label_map(truth_path), read_label_map(prediction_path)
    names = names or {}
    for one in (truth, prediction):
        if (one.ids == IGNORE_ID).any():
            refuse_structure_255(names, one.path)
        if fault := one.fault_of_255(names):
            raise InputError(f"{one.path}: {fault}")
        if (one.ids == IGNORE_ID).all():
            raise InputError(f'{one.path}: is 255 ("nobody looked") throughout, so there is nothing to compare')
    if truth.affine_lps is None:
        raise GeometryError(f"{truth_path}: has no usable affine, so nothing can be laid over it; export it again")
    moved = _move_onto(prediction, truth, truth.affine_lps)
    ignored = truth.ids == IGNORE_ID
    if truth.is_unseen_in_part:
        told = f'{truth_path}: {np.count_nonzero(ignored)} voxels are 255 ("nobody looked") and count nowhere'
        warnings.warn(f"{told}, also within slices that were looked at", DataWarning, 2)
    _tell_of_unseen(prediction_path, int(np.count_nonzero((moved == IGNORE_ID) & ~ignored)))
    maps = [np.where(ignored, BACKGROUND_ID, ids) for ids in (truth.ids, moved)]
    ids = sorted({int(i) for one in maps for i in np.unique(one)} - {BACKGROUND_ID, IGNORE_ID})
    return tuple(compare_masks(maps[0] == i, maps[1] == i, truth.affine_lps, patient, i) for i in ids)


def _tell_of_unseen(path: Path, count: int) -> None:
    if count:
        told = f'{path}: {count} voxels are 255 ("nobody looked") where the truth was looked at; they count as no label'
        warnings.warn(told, DataWarning, 3)


def _move_onto(prediction: LabelMap, truth: LabelMap, affine_lps: Affine) -> NDArray[np.uint8]:
    """The prediction on the truth's grid, plane by plane."""
    if truth.ids.size != prediction.ids.size:  # planes of the prediction beyond the truth would count for nothing
        shapes = [" x ".join(map(str, one.ids.shape)) for one in (truth, prediction)]
        raise GeometryError(
            f"{truth.path} has {shapes[0]} voxels, {prediction.path} {shapes[1]}; compare like with like"
        )
    rows, columns, planes = truth.ids.shape
    moved = [
        prediction.on_slice(plane_affine(affine_lps, plane), (rows, columns), truth.path) for plane in range(planes)
    ]
    return np.stack(moved, axis=2)


def compare_masks(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], affine_lps: Affine, patient: str, label_id: int
) -> LabelComparison:
    """Compares one label.

    Args:
        truth: (row, column, slice).
        prediction: likewise.
        affine_lps: of both: (row, column, slice, 1) to LPS mm.
        patient: for the result.
        label_id: for the result.
    """
    in_truth, in_prediction = int(truth.sum()), int(prediction.sum())
    if not in_truth + in_prediction:
        return absent(patient, label_id)
    overlap = int((truth & prediction).sum())
    pixel_cm2 = float(np.linalg.norm(np.cross(affine_lps[:3, 0], affine_lps[:3, 1]))) / 100
    areas = np.stack([mask.sum(axis=(0, 1)) for mask in (truth, prediction)]) * pixel_cm2
    looked_at, labelled = areas.any(axis=0), areas[0] > 0
    relative = np.abs(areas[1] - areas[0])[labelled] / areas[0][labelled]
    voxel_ml = voxel_volume_mm3(affine_lps) / 1000
    states = {(True, True): "both", (True, False): "truth only", (False, True): "prediction only"}
    distances = SurfaceDistances(np.nan, np.nan)
    if not _is_sheared(affine_lps):
        distances = compare_surfaces(truth, prediction, spacing_mm(affine_lps))
    return LabelComparison(
        patient=patient,
        label_id=label_id,
        state=states[in_truth > 0, in_prediction > 0],
        dice=2 * overlap / (in_truth + in_prediction),
        iou=overlap / (in_truth + in_prediction - overlap),
        hd95_mm=distances.hd95_mm,
        asd_mm=distances.asd_mm,
        truth_ml=in_truth * voxel_ml,
        prediction_ml=in_prediction * voxel_ml,
        truth_cm2=float(areas[0][looked_at].mean()),
        prediction_cm2=float(areas[1][looked_at].mean()),
        area_error=float(relative.mean()) if relative.size else np.nan,
    )


def _is_sheared(affine_lps: Affine) -> bool:
    axes = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)


def with_absent(rows: Sequence[LabelComparison], patients: Sequence[str]) -> tuple[LabelComparison, ...]:
    """The rows, and one for each label that other patients hold but this one does not: nobody drops out unseen.

    Args:
        rows: what was compared.
        patients: all whose label maps were compared, those whose maps are empty among them.
    """
    ids = sorted({row.label_id for row in rows}) or [BACKGROUND_ID]
    known = {(row.patient, row.label_id): row for row in rows}
    return tuple(known.get((patient, i), absent(patient, i)) for patient in patients for i in ids)


def describe_row(row: LabelComparison, names: Mapping[int, str]) -> str:
    """One line for people."""
    label = f"label {row.label_id}" + (f" ({names[row.label_id]})" if row.label_id in names else "")
    if row.label_id == BACKGROUND_ID:
        label = NO_LABEL
    figures = [
        ("Dice", row.dice, ".4f", ""),
        ("IoU", row.iou, ".4f", ""),
        ("HD95", row.hd95_mm, ".2f", " mm"),
        ("ASD", row.asd_mm, ".2f", " mm"),
        ("area error", row.area_error, ".1%", ""),
    ]
    told = ", ".join(f"{name} {_figure(value, form)}{unit}" for name, value, form, unit in figures)
    volume = f"volume {row.prediction_ml:.1f} of {row.truth_ml:.1f} ml ({_figure(row.volume_error, '+.1%')})"
    state = "" if row.state == "both" else f" [held by {row.state.removesuffix(' only')} alone]"
    return f"{label}: {told}, {volume}{' [held by neither]' if row.state == 'neither' else state}"


def _figure(value: Any, form: str) -> str:
    return "undefined" if np.isnan(value) else format(value, form)
