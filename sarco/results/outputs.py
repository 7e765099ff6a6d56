"""Every file of a results folder: fed slice by slice while a series is predicted, written at once in the end."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.crop.slices import PreparedSlice, RestoredSlice
from sarco.io.results import OVERLAY
from sarco.measurement.report import write_measurements
from sarco.measurement.series import SeriesMeasurer
from sarco.pacs.objects import Wanted, check_source, write_dicom_results
from sarco.pacs.source import Origin
from sarco.results.folder import write_results
from sarco.review.page import ReviewWriter, provenance_of, read_identity
from sarco.review.sheet import ContactSheet, encode_png
from sarco.runs.store import Provenance
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series
from sarco.scan.view import ShownSlice


@dataclass(frozen=True)
class Written:
    """What was written, for whoever tells of it.

    Attributes:
        summary: what ``summary.json`` holds.
        shown: the slices on the contact sheet.
    """

    summary: Mapping[str, Any]
    shown: Sequence[ShownSlice]


class SeriesOutputs:
    """The results of one series in the making."""

    def __init__(
        self,
        series: Series,
        labels: LabelTable,
        measurer: SeriesMeasurer,
        provenance: Provenance,
        wanted: Wanted,
        show_identity: bool,
    ) -> None:
        """Starts empty.

        Args:
            series: the scan.
            labels: what the ids mean.
            measurer: measures it; still empty.
            provenance: which checkpoint predicts.
            wanted: which DICOM results.
            show_identity: whether the review page may say who the patient is.

        Raises:
            SarcoError: the DICOM results that are wanted cannot be written for this series.
        """
        self.series = series
        self.labels = labels
        self.measurer = measurer
        self.provenance = provenance
        self.wanted = wanted
        self._source = check_source(series, wanted)
        self._page = ReviewWriter(series, labels, read_identity(series) if show_identity else None)
        self._sheet = ContactSheet(series, labels)

    def take(self, prepared: PreparedSlice, restored: RestoredSlice) -> None:
        """Takes one slice, in any order, while its pixels are at hand."""
        plane, hu, label_map = prepared.plane, prepared.hu, restored.label_map
        self.measurer.add(plane, hu, label_map, restored.confidence, prepared.body)
        self._page.add(plane, hu, label_map)
        self._sheet.add(plane, hu, label_map)

    def write(self, folder: Path, label_map: NDArray[np.uint8], confidence: dict[int, float]) -> Written:
        """Writes everything, the label map first: nothing is written about one that is not proven.

        Args:
            folder: exists.
            label_map: (row, column, plane) of all slices.
            confidence: by plane.

        Raises:
            SarcoError: the label map does not lie on the scan, or a DICOM result cannot be written.
        """
        title = f"run {self.provenance.run_id}, {len(self.series.slices)} slices, series {self.series.uid}"
        sheet = self._sheet.draw(title)
        with ThreadPoolExecutor(1) as beside:  # both take their time outside Python
            encoding = beside.submit(encode_png, sheet)
            prediction = write_results(folder, self.series, label_map, confidence, self.labels, self.provenance)
        summary, rows = self.measurer.summary(), self.measurer.rows
        write_measurements(folder, rows, summary)
        self._page.finish(folder, summary, provenance_of(prediction), [asdict(row) for row in rows])
        (folder / OVERLAY).write_bytes(encoding.result())
        if self._source:
            origin = Origin(self.provenance.run_id, self.provenance.sha256)
            write_dicom_results(
                folder, self._source, self.wanted, label_map, self.labels, origin, per_slice=rows,
                whole=summary["labels"], picture=sheet, report_slices=summary["level"]["slices"] or None,
            )  # fmt: skip
        return Written(summary, self._sheet.shown)
