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
        placement = Placement.around([body], outputs.series.plane_affine_lps(plane), 64, 6.5)
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


ALL_FILES = {
    "label_map.nii.gz", "overlay.png", "prediction.json", "measurements.csv", "summary.json", "review.html",
    "thumbnail.jpg", "segmentation.dcm", "report.dcm", "overlay.dcm",
}  # fmt: skip
BROKEN = {  # what fails, where, and which files it costs
    "measuring": ("sarco.measurement.series.SeriesMeasurer.add", {"measurements.csv", "summary.json", "report.dcm"}),
    "summary": ("sarco.measurement.series.SeriesMeasurer.summary", {"measurements.csv", "summary.json", "report.dcm"}),
    "table": ("sarco.measurement.report.write_table", {"measurements.csv", "summary.json"}),
    "page": ("sarco.review.page.ReviewWriter.add", {"review.html", "thumbnail.jpg"}),
    "page in the end": ("sarco.review.page.fill_page", {"review.html", "thumbnail.jpg"}),
    "sheet": ("sarco.review.sheet.ContactSheet.add", {"overlay.png", "overlay.dcm"}),
    "picture": ("sarco.results.outputs.encode_png", {"overlay.png"}),
    "segmentation": ("sarco.pacs.seg._build", {"segmentation.dcm", "report.dcm"}),
    "check of the segmentation": ("sarco.pacs.seg._read_frame", {"segmentation.dcm", "report.dcm"}),
    "report": ("sarco.pacs.sr._build", {"report.dcm"}),
    "check of the report": ("sarco.pacs.sr._numbers_in", {"report.dcm"}),
    "capture": ("sarco.pacs.sc._build", {"overlay.dcm"}),
}


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), MemoryError(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("what", BROKEN)
def test_what_fails_costs_no_more_than_itself(
    what: str, error: Exception, phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Catches a label map lost to a failed DICOM object, half a file that stays, and a loss that nobody hears of."""
    pytest.importorskip("highdicom")
    where, lost = BROKEN[what]

    def fail(*_: object, **__: object) -> None:
        raise error

    phantom, folder = phantoms["oblique"], tmp_path / "results"
    series = find_series(series_folder(phantom)).series[0]
    evidence = Evidence(phantom.label_names, {}, {})
    measurer = Plans([series], MeasurementOptions(l3="2", muscle_labels="all"), evidence).measurer(series)
    provenance = Provenance("abc12345", "Trains", tmp_path / "best.ckpt", "ab" * 32)
    labels = LabelTable(phantom.label_names)
    outputs = SeriesOutputs(series, labels, measurer, provenance, Wanted(True, True, True), False)
    folder.mkdir()
    monkeypatch.setattr(where, fail)
    feed(outputs, phantom, [0, 1, 2, 3, 4])
    written = outputs.write(folder, phantom.label_map, dict.fromkeys(range(5), 0.95))
    assert {path.name for path in folder.iterdir()} == ALL_FILES - lost
    assert {one.part for one in written.failures} & lost
    assert any(one.error is error for one in written.failures)
