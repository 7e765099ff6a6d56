"""Measures a series again after its label map was corrected, by what the first report says of level and patient."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import InputError, SarcoError
from sarco.io.results import SUMMARY, read_prediction, read_summary
from sarco.measure.cutoffs import read_cutoffs
from sarco.measure.level import Level, unknown_level
from sarco.measure.mask import read_facts
from sarco.measure.patients import Patient
from sarco.measure.report import summarise, write_report
from sarco.measure.slices import HuRanges, SliceMeasurement, measure_slice
from sarco.quality.flags import SeriesQuality
from sarco.scan.geometry import spacing_mm
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

KEPT_FLAGS = ("unlike_training",)  # compares with figures that only the checkpoint holds


class ReportMeasurer:
    """Measurements, cut-offs and flags of a corrected label map; a `sarco.review.apply.Measurer`.

    Who the patient is, where L3 lies, which labels are the muscle and which HU ranges count stay as they were.
    Intervals go: they tell how far the network errs, not the person who corrected it.
    """

    def __init__(self, results: Path, series: Series, labels: LabelTable) -> None:
        """Reads the first report; without one nobody knows the level or the patient.

        Args:
            results: the results folder as it was.
            series: what is measured.
            labels: names of the ids.

        Raises:
            InputError: the report cannot be read.
        """
        self._series, self._names = series, dict(labels.names)
        self._earlier = read_summary(results)
        self._confidence = {one.slice_index: one.confidence for one in read_prediction(results).slices}
        self._quality = SeriesQuality()
        self._rows: list[SliceMeasurement] = []
        try:
            self._level, self._patient = _level_of(self._earlier), _patient_of(self._earlier)
            ranges = {name: tuple(limits) for name, limits in self._earlier.get("hu_ranges", {}).items()}
            self._ranges = HuRanges(**ranges)
        except (TypeError, KeyError, AttributeError, SarcoError) as error:
            raise InputError(f"{results / SUMMARY}: cannot be used ({error}); predict again") from None

    def add(self, slice_index: int, hu: NDArray[np.float32], label_map: NDArray[np.uint8]) -> None:
        """Measures one slice."""
        affine = self._series.affine_lps
        self._rows += measure_slice(hu, label_map, affine, slice_index, self._names, self._ranges)
        self._quality.add(slice_index, hu, label_map, affine, self._confidence.get(slice_index))

    def finish(self, folder: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """Writes ``measurements.csv`` and ``summary.json``."""
        acquisition = self._earlier.get("acquisition") or read_facts(self._series).acquisition
        flags = self._quality.flags(
            n_planes=self._series.n_planes,
            step_mm=spacing_mm(self._series.affine_lps)[2],
            thickness_mm=acquisition.get("slice_thickness_mm"),
            l3_missing=self._level.why_not,
        )
        kept = [flag for flag in self._earlier.get("flags", []) if flag.get("name") in KEPT_FLAGS]
        summary = summarise(
            self._series.uid,
            self._rows,
            self._names,
            self._ranges,
            self._level,
            ",".join(self._earlier.get("muscle_labels", [])),
            self._patient,
            acquisition,
            read_cutoffs(),
            flags=[*(flag.to_builtins() for flag in flags), *kept],
        )
        summary["not_checked"] = list(self._quality.unchecked())
        write_report(folder, self._rows, summary)
        return summary, [asdict(row) for row in self._rows]


def _level_of(earlier: Mapping[str, Any]) -> Level:
    stored = earlier.get("level")
    return Level(**{**stored, "slices": tuple(stored["slices"])}) if stored else unknown_level()


def _patient_of(earlier: Mapping[str, Any]) -> Patient:
    stored, known = earlier.get("patient", {}), {item.name for item in fields(Patient)}
    kept = {name: value for name, value in stored.items() if name in known}
    return Patient(**kept | {"notes": tuple(kept.get("notes", ()))})
