"""All files of a results folder agree with each other, whatever the order in which slices arrive."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sarco.core.errors import GeometryError
from sarco.core.options import MeasurementOptions
from sarco.crop.body import find_body
from sarco.crop.grid import Placement
from sarco.crop.slices import PreparedSlice, RestoredSlice
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.io.nifti import read_label_map
from sarco.measurement.series import Evidence, Plans
from sarco.pacs.objects import Wanted
from sarco.phantom.patient import Phantom
from sarco.results.outputs import SeriesOutputs
from sarco.runs.store import Provenance
from sarco.scan.labels import LabelTable


@pytest.fixture
def outputs(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> SeriesOutputs:
    """Of an oblique phantom, still empty."""
    phantom = phantoms["oblique"]
    series = find_series(series_folder(phantom)).series[0]
    evidence = Evidence(phantom.label_names, {}, {})
    measurer = Plans([series], MeasurementOptions(l3="2", muscle_labels="all"), evidence).measurer(series)
    provenance = Provenance("abc12345", "Trains", tmp_path / "best.ckpt", "ab" * 32)
    return SeriesOutputs(series, LabelTable(phantom.label_names), measurer, provenance, Wanted(), False)


def feed(outputs: SeriesOutputs, phantom: Phantom, planes: list[int]) -> None:
    """Gives some slices, backwards."""
    for plane in reversed(planes):
        header = outputs.series.slices[outputs.series.plane_index.index(plane)]
        hu = read_hu(header)
        body = find_body(hu, header.spacing_mm)
        placement = Placement.around([body], outputs.series.plane_affine_lps(plane), 64)
        prepared = PreparedSlice(plane, hu, placement.crop_image(hu[None]), placement, body)
        outputs.take(prepared, RestoredSlice(plane, phantom.label_map[..., plane], 0.95))


def test_all_files_tell_the_same(outputs: SeriesOutputs, phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches figures, page and label map that belong to different slices."""
    phantom, folder = phantoms["oblique"], tmp_path / "results"
    folder.mkdir()
    feed(outputs, phantom, [0, 1, 2, 3, 4])
    written = outputs.write(folder, phantom.label_map, dict.fromkeys(range(5), 0.95))
    assert {path.name for path in folder.iterdir()} == {
        "label_map.nii.gz", "overlay.png", "prediction.json", "measurements.csv", "summary.json", "review.html",
        "thumbnail.jpg",
    }  # fmt: skip
    np.testing.assert_array_equal(read_label_map(folder / "label_map.nii.gz").ids, phantom.label_map)
    with open(folder / "measurements.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            mask = phantom.label_map[..., int(row["slice_index"])] == int(row["label_id"])
            assert int(row["n_pixels"]) == np.count_nonzero(mask)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary == json.loads(json.dumps(written.summary))
    assert summary["level"]["slice_index"] == 2
    assert len(written.shown) == 5


def test_a_slice_that_never_came_leaves_no_half_results(
    outputs: SeriesOutputs, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches a page or a table with a hole that nobody sees."""
    (tmp_path / "results").mkdir()
    feed(outputs, phantoms["oblique"], [0, 1, 3, 4])
    with pytest.raises(GeometryError, match="never reached"):
        outputs.write(tmp_path / "results", phantoms["oblique"].label_map, dict.fromkeys(range(5), 0.95))
    assert not (tmp_path / "results" / "review.html").exists()
