"""The results folder of a prediction: its name, its label map and its record; nothing is overwritten unasked."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sarco
from sarco.core.errors import InputError, SarcoError
from sarco.core.files import hash_file, short_name, write_json
from sarco.io.nifti import IMAGE_NAMES, is_nifti, nifti_stem, results_name, write_label_map
from sarco.io.results import LABEL_MAP, PREDICTION, read_prediction
from sarco.results.proof import prove_export
from sarco.runs.store import Provenance
from sarco.scan.geometry import gantry_tilt_deg, spacing_mm, voxel_volume_mm3
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, SliceHeader

_LONGEST_NAME = 200  # bytes; leaves room for what is put before and after a name
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}  # of Windows


def results_path(dest_dir: Path, run_id: str, infer_path: Path, overwrite: bool) -> Path:
    """The folder for the results of a prediction, which may not exist yet.

    Raises:
        InputError: it exists, is not empty, and ``overwrite`` was not asked for.
    """
    name = f"preds_from_{run_id}_of_{_safe_name(results_name(infer_path))}"
    path = dest_dir / short_name(name, _LONGEST_NAME)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file where the results folder has to be; move it or choose another --dest_dir")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(
            f"{path}: holds results already{_of_another_scan(path, infer_path)}; choose another --dest_dir, or "
            "--overwrite=yes to replace them"
        )
    return path


def _of_another_scan(results: Path, infer_path: Path) -> str:
    """Says whose results a folder holds, where folders of the same name lie in several places."""
    try:
        stored = next(Path(one.file) for one in read_prediction(results).slices)
    except (SarcoError, OSError):
        return ""
    return "" if stored.is_relative_to(infer_path.resolve()) else f", of another scan ({stored.parent})"


def name_series(series: Sequence[Series], root: Path) -> list[str]:
    """A subfolder's name for each series of a tree: where it lies and, if that is not enough, what it is."""
    names = []
    in_folder = Counter(one.slices[0].path.parent for one in series)
    for one in series:
        folder = one.slices[0].path.parent
        if is_nifti(one.slices[0].path):  # of which a folder may hold many
            stem = nifti_stem(one.slices[0].path)
            folder = folder if in_folder[folder] == 1 and stem.lower() in IMAGE_NAMES else folder / stem
        inside = folder.relative_to(root) if folder.is_relative_to(root) else Path(folder.name)
        names.append(_safe_name("_".join(inside.parts) or root.resolve().name))
        if one.part:
            names[-1] += f"_part{one.part}"
    shared = Counter(name.casefold() for name in names)  # some file systems know no case
    for place, one in enumerate(series):
        if shared[names[place].casefold()] > 1:
            number = "" if one.slices[0].number is None else f"_series{one.slices[0].number}"
            names[place] += f"{number}_{_safe_name(one.uid[-12:])}"
    names = [short_name(name, _LONGEST_NAME) for name in names]
    taken: set[str] = set()
    for place, name in enumerate(names):
        if name.casefold() in taken:
            names[place] = short_name(f"{name}_{place}", _LONGEST_NAME)
        taken.add(names[place].casefold())
    return names


def write_results(
    folder: Path,
    series: Series,
    label_map: NDArray[np.uint8],
    confidence: dict[int, float],
    labels: LabelTable,
    provenance: Provenance,
) -> dict[str, Any]:
    """Writes ``label_map.nii.gz`` and ``prediction.json``, and proves that the label map lies on the scan.

    Returns:
        What ``prediction.json`` holds.

    Raises:
        GeometryError: what was written does not lie where the slices say; see `sarco.results.proof`.

    Args:
        folder: exists.
        series: what was predicted.
        label_map: (row, column, plane) on the grid of the series.
        confidence: mean probability of the winning label inside the body, by plane.
        labels: what the ids mean.
        provenance: which checkpoint predicted.
    """
    paths = {header.path for header in series.slices}
    with ThreadPoolExecutor(1) as beside:  # both take their time outside Python
        fingerprints = beside.submit(lambda: {path: hash_file(path, hashlib.blake2b) for path in paths})
        write_label_map(folder / LABEL_MAP, label_map, series.affine_lps, series.file_axes)
        proof = prove_export(folder / LABEL_MAP, series, label_map)
    blake2b = fingerprints.result()
    voxel_ml = voxel_volume_mm3(series.affine_lps) / 1000
    # Slice by slice: numpy counts on 8 bytes per pixel, which would be the most memory of all.
    counts = np.zeros(256, dtype=np.int64)
    for plane in series.plane_index:
        ids = label_map[:, :, plane]
        counts += np.bincount(ids[ids > 0], minlength=256)
    content: dict[str, Any] = {
        "sarco_version": sarco.__version__,
        "predicted_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "run_id": provenance.run_id,
        "wandb_project": provenance.wandb_project,
        **({"notice": provenance.notice} if provenance.notice else {}),
        **_checkpoints_of(provenance),
        "checkpoint_sha256": provenance.sha256,
        "tta": provenance.tta,
        "drop_islands": provenance.drop_islands,
        "series_uid": series.uid,
        "study_uid": series.slices[0].study_uid,
        "geometry": {**_geometry(series), "proof": proof},
        "labels": [
            {"id": label_id, "name": name, "volume_ml": round(int(counts[label_id]) * voxel_ml, 4)}
            for label_id, name in labels.names.items()
        ],
        "mean_confidence": float(np.mean(list(confidence.values()))),
        "slices": [
            {**_identity(header, plane), "blake2b": blake2b[header.path], "confidence": round(confidence[plane], 6)}
            for header, plane in zip(series.slices, series.plane_index, strict=True)
        ],
    }
    write_json(folder / PREDICTION, content)
    return content


def _checkpoints_of(provenance: Provenance) -> dict[str, Any]:
    """The file that predicted; of several runs each with its run and its hash."""
    if not provenance.members:
        return {"checkpoint": str(provenance.checkpoint.resolve())}
    runs = [
        {
            "run_id": one.run_id,
            "wandb_project": one.wandb_project,
            "checkpoint": str(one.checkpoint.resolve()),
            "checkpoint_sha256": one.sha256,
        }
        for one in provenance.members
    ]
    return {"runs": runs}


def _geometry(series: Series) -> dict[str, Any]:
    """The grid of the label map, as ``prediction.json`` has it."""
    return {
        "shape": list(series.shape),
        "index_order": "row, column, slice",
        "affine_lps": series.affine_lps.tolist(),
        "spacing_mm": list(spacing_mm(series.affine_lps)),
        "gantry_tilt_deg": round(gantry_tilt_deg(series.affine_lps), 3),
        "missing_planes": series.missing_planes,
        "part": series.part,
    }


def _identity(header: SliceHeader, plane: int) -> dict[str, Any]:
    """Which slice of which file, as ``prediction.json`` has it."""
    return {
        "slice_index": plane,
        "file": str(header.path.resolve()),
        "frame": header.frame,
        "sop_uid": header.sop_uid,
    }


def _safe_name(name: str) -> str:
    safe = re.sub(r"[^\w.+-]+", "_", name).strip("._") or "scan"
    return f"scan_{safe}" if safe.partition(".")[0].upper() in _DEVICES else safe
