"""Results folders for the tests of review pages, made as inference makes them but without a network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.phantom.patient import Phantom, write_series
from sarco.results.folder import write_results
from sarco.review.page import ReviewWriter, provenance_of
from sarco.review.pixels import label_map_digest, slice_digest
from sarco.runs.store import Provenance
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

LABELS = LabelTable({1: "psoas_left", 2: "psoas_right", 7: 'back "muscles" </script><b>'})
HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">\''


def three_labels(phantom: Phantom) -> NDArray[np.uint8]:
    """A phantom's label map with the ids of `LABELS`: those that are no 1 or 2 become 7."""
    ids = phantom.label_map
    return np.where((ids == 0) | (ids == 1) | (ids == 2), ids, 7).astype(np.uint8)


def write_page(
    folder: Path, series: Series, label_map: NDArray[np.uint8], summary: dict[str, Any] | None = None, **options: Any
) -> Path:
    """The review page of a label map."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = ReviewWriter(series, LABELS, **options)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        writer.add(plane, read_hu(header), label_map[:, :, plane])
    return writer.finish(folder, summary or {}, {"Run": "abc12345"})


def write_review_results(folder: Path, phantom: Phantom, name: str = "scan") -> tuple[Path, Series]:
    """``folder/<name>`` with the series and ``folder/results_<name>`` with everything inference writes."""
    write_series(phantom, folder / name, patient_id="P001", seed=1)
    series = find_series(folder / name).series[0]
    results = folder / f"results_{name}"
    results.mkdir()
    label_map = three_labels(phantom)
    provenance = Provenance("abc12345", "Trains", folder / "best.ckpt", "ab" * 32)
    write_results(results, series, label_map, dict.fromkeys(series.plane_index, 0.9), LABELS, provenance)
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    writer = ReviewWriter(series, LABELS)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        writer.add(plane, read_hu(header), label_map[:, :, plane])
    writer.finish(results, {}, provenance_of(prediction))
    return results, series


def write_corrections(path: Path, series: Series, label_map: NDArray[np.uint8], **other: Any) -> Path:
    """Corrections that turn pixels (0, 0) to (0, 3) of plane 1 into label 2, as a page would write them."""
    corrected = label_map[:, :, 1].copy()
    corrected[0, :4] = 2
    counts = {str(i): int((corrected == i).sum()) for i in LABELS.ids}
    digests = {plane: slice_digest(label_map[:, :, plane]) for plane in series.plane_index}
    content = {
        "format": "sarco corrections",
        "version": 1,
        "series_uid": series.uid,
        "label_map_sha256": label_map_digest(series.shape, digests),
        "shape": list(series.shape),
        "corrected_by": "AB",
        "corrected_at": "2026-01-02T03:04:05.000Z",
        "checked_slices": [3],
        "slices": [{"slice_index": 1, "runs": [[0, 4, 2]], "n_pixels": counts}],
    }
    path.write_text(json.dumps(content | other), encoding="utf-8")
    return path
