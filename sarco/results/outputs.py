"""Every file of a results folder: fed slice by slice while a series is predicted, written at once in the end."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.attempts import Attempts, Failure
from sarco.core.errors import GeometryError
from sarco.core.files import write_whole
from sarco.core.messages import count_of
from sarco.core.tables import PLAIN
from sarco.crop.slices import PreparedSlice, RestoredSlice
from sarco.io.results import MEASUREMENTS, OVERLAY
from sarco.measurement.report import write_measurements
from sarco.measurement.series import SeriesMeasurer
from sarco.pacs.objects import Wanted, check_source, write_dicom_results
from sarco.pacs.source import Origin
from sarco.results.folder import write_results
from sarco.review.page import REVIEW, ReviewWriter, provenance_of, read_identity
from sarco.review.sheet import ContactSheet, encode_png
from sarco.runs.store import Provenance
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series
from sarco.scan.view import ShownSlice


@dataclass(frozen=True)
class Written:
    """What was written, for whoever tells of it.

    Attributes:
        rows: what ``measurements.csv`` holds.
        summary: what ``summary.json`` holds; empty where nothing could be measured.
        shown: the slices on the contact sheet.
        failures: what could not be written, and why.
    """

    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    shown: Sequence[ShownSlice]
    failures: Sequence[Failure]


class SeriesOutputs:
    """The results of one series in the making. What fails beside the label map costs that part alone."""

    def __init__(
        self,
        series: Series,
        labels: LabelTable,
        measurer: SeriesMeasurer,
        provenance: Provenance,
        wanted: Wanted,
        show_identity: bool,
        csv_style: str = PLAIN,
    ) -> None:
        """Starts empty.

        Args:
            series: the scan.
            labels: what the ids mean.
            measurer: measures it; still empty.
            provenance: which checkpoint predicts.
            wanted: which DICOM results.
            show_identity: whether the review page may say who the patient is.
            csv_style: of the table; see `sarco.core.tables`.

        Raises:
            SarcoError: the DICOM results that are wanted cannot be written for this series.
        """
        self.series = series
        self.labels = labels
        self.measurer = measurer
        self.provenance = provenance
        self.wanted = wanted
        self._csv = csv_style
        self._attempts = Attempts()
        self._taken: set[int] = set()
        self._source = check_source(series, wanted)
        self._page = ReviewWriter(series, labels, read_identity(series) if show_identity else None)
        self._sheet = ContactSheet(series, labels)

    def take(self, prepared: PreparedSlice, restored: RestoredSlice) -> None:
        """Takes one slice, in any order, while its pixels are at hand."""
        plane, hu, label_map = prepared.plane, prepared.hu, restored.label_map
        self._taken.add(plane)
        run = self._attempts.run
        run(MEASUREMENTS, self.measurer.add, plane, hu, label_map, restored.confidence, prepared.body)
        run(REVIEW, self._page.add, plane, hu, label_map)
        run(OVERLAY, self._sheet.add, plane, hu, label_map)

    def write(self, folder: Path, label_map: NDArray[np.uint8], confidence: dict[int, float]) -> Written:
        """Writes everything, the label map first: nothing is written about one that is not proven.

        Args:
            folder: exists.
            label_map: (row, column, plane) of all slices.
            confidence: by plane.

        Raises:
            GeometryError: the label map does not lie on the scan, or a slice never came.
            OSError: it cannot be written.
        """
        if missing := sorted(set(self.series.plane_index) - self._taken):
            raise GeometryError(
                f"{count_of(len(missing), 'slice')} never reached the results, the first is {missing[0]}"
            )
        run = self._attempts.run
        of = self.provenance.notice or f"run {self.provenance.run_id}"
        title = f"{of}, {count_of(len(self.series.slices), 'slice')}, series {self.series.uid}"
        sheet = run(OVERLAY, self._sheet.draw, title)
        with ThreadPoolExecutor(1) as beside:  # both take their time outside Python
            encoding = None if sheet is None else beside.submit(encode_png, sheet)
            prediction = write_results(folder, self.series, label_map, confidence, self.labels, self.provenance)
        summary = run(MEASUREMENTS, self.measurer.summary) or {}
        rows = self.measurer.rows if summary else ()
        run(MEASUREMENTS, write_measurements, folder, rows, summary, self._csv)
        records = [asdict(row) for row in rows]
        run(REVIEW, self._page.finish, folder, summary, provenance_of(prediction), records)
        if encoding:
            run(OVERLAY, lambda: write_whole(folder / OVERLAY, encoding.result()))
        if self._source:
            origin = Origin(self.provenance.run_id, self.provenance.sha256)
            write_dicom_results(
                folder, self._source, self.wanted, label_map, self.labels, origin, self._attempts, per_slice=rows,
                whole=summary.get("labels", ()), picture=sheet,
                report_slices=summary["level"]["slices"] or None if summary else None,
            )  # fmt: skip
        return Written(records, summary, self._sheet.shown, tuple(self._attempts.failures))
