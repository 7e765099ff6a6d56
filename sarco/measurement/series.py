"""From label maps to answers: measurements, level, patient, cut-offs, intervals and flags of a series.

The parts know nothing of each other; here they meet. `SeriesMeasurer` is the only one who measures a series, whoever
drew the mask: a network, a person, or a person who corrected a network. Slices come one by one, so that no pixel is
read twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.labels import without_others
from sarco.core.options import MeasurementOptions
from sarco.crop.body import Body
from sarco.measurement.cutoffs import read_cutoffs
from sarco.measurement.facts import SeriesFacts, check_level_options, find_level, find_patient, read_facts
from sarco.measurement.level import Level
from sarco.measurement.patients import Patient, read_patients
from sarco.measurement.report import LevelFigures, choose_muscle, figures_at_level, summarise_series
from sarco.measurement.slices import STANDARD_RANGES, HuRanges, SliceMeasurement, measure_slice
from sarco.quality.flags import Flag, SeriesQuality
from sarco.quality.intervals import ANY_LABEL, Interval, find_interval
from sarco.scan.geometry import spacing_mm
from sarco.scan.labels import IGNORE_ID
from sarco.scan.series import Series, SeriesKey

BUILT_IN_FLAG = "built_in_network"


@dataclass(frozen=True)
class Evidence:
    """What is known of whoever drew the mask.

    Attributes:
        labels: names by label id.
        area_errors: of validation patients, by label (see `sarco.quality.intervals`); None where no run drew it, so
            that there are no intervals.
        training_statistics: of the slices that the run learnt from (see `sarco.quality.likeness`); None where no run
            drew it.
        field_mm: side of the network's field of view; None where it has none of its own.
        notice: what has to be said of the network wherever its figures stand; empty for a person's own.
    """

    labels: Mapping[int, str]
    area_errors: Mapping[str, Sequence[Sequence[float]]] | None = None
    training_statistics: Mapping[str, Any] | None = None
    field_mm: float | None = None
    notice: str = ""


@dataclass(frozen=True)
class Plan:
    """What is settled about a series before its pixels are looked at.

    Attributes:
        level: where L3 lies, or why nobody knows.
        patient: who it is.
        acquisition: as `sarco.measurement.acquisition.acquisition_of` gives it.
        muscle_labels: which labels are the muscle; see `sarco.measurement.report.choose_muscle`.
        ranges: the HU table.
    """

    level: Level
    patient: Patient
    acquisition: Mapping[str, Any]
    muscle_labels: str = ""
    ranges: HuRanges = STANDARD_RANGES


@dataclass(frozen=True)
class KeptChecks:
    """What an earlier report says of checks that cannot be made again.

    Attributes:
        names: of the flags in question.
        flags: those that were raised.
        unchecked: lines on those that could not be checked then either.
    """

    names: tuple[str, ...] = ()
    flags: tuple[Mapping[str, Any], ...] = ()
    unchecked: tuple[str, ...] = ()


def check_options(options: MeasurementOptions, labels: Mapping[int, str]) -> None:
    """Raises an `OptionError` where options cannot be meant, before anything is read or measured."""
    check_level_options(options.l3, options.vertebrae, options.l3_label)
    HuRanges.parse(options.hu_ranges)
    choose_muscle(options.muscle_labels, labels)


class Plans:
    """Everything besides pixels, read before hours of work, so that what is wrong with it is told at once."""

    def __init__(self, series: Sequence[Series], options: MeasurementOptions, evidence: Evidence) -> None:
        """Reads patients, tags and levels.

        Args:
            series: all that will be measured.
            options: which slice is L3, who the patients are, what counts as muscle.
            evidence: of whoever draws the masks.

        Raises:
            OptionError: an option cannot be meant, or a place is named for several series.
            InputError: a patient is missing in the table, or no slice answers to ``--l3``.
            GeometryError: the vertebrae do not lie on the series.
        """
        self.evidence = evidence
        check_options(options, evidence.labels)
        table = read_patients(options.patients) if options.patients else None
        facts: dict[SeriesKey, SeriesFacts] = {}
        self._faults: dict[SeriesKey, Exception] = {}
        for one in series:
            try:
                facts[one.key] = read_facts(one)
            except Exception as error:  # costs this series alone, when its turn comes
                self._faults[one.key] = error
        if table:
            table.check(one.identity for one in facts.values())
        self._plans = {
            one.key: Plan(
                find_level(one, options.l3, options.vertebrae, options.l3_label, len(series)),
                find_patient(facts[one.key], table),
                facts[one.key].acquisition,
                options.muscle_labels,
                HuRanges.parse(options.hu_ranges),
            )
            for one in series
            if one.key in facts
        }

    def measurer(self, series: Series) -> "SeriesMeasurer":
        """What measures one of the series, still empty.

        Raises:
            Exception: its tags could not be read; the one that they raised.
        """
        if fault := self._faults.get(series.key):
            raise fault
        return SeriesMeasurer(series, self._plans[series.key], self.evidence)


class SeriesMeasurer:
    """Measures a series slice by slice, and says in the end what it comes to."""

    def __init__(self, series: Series, plan: Plan, evidence: Evidence, kept: KeptChecks | None = None) -> None:
        """Starts empty.

        Args:
            series: the scan.
            plan: its own.
            evidence: of whoever drew the mask.
            kept: checks of an earlier report that stand for those made here.
        """
        self.series = series
        self.plan = plan
        self.evidence = evidence
        self._kept = kept or KeptChecks()
        plane_name = series.slices[0].plane_name
        self._quality = SeriesQuality(evidence.training_statistics, plane_name, evidence.field_mm)
        self._judged = without_others(evidence.labels)
        self._rows: dict[int, tuple[SliceMeasurement, ...]] = {}

    def add(
        self,
        plane: int,
        hu: NDArray[np.float32],
        label_map: NDArray[np.uint8],
        confidence: float | None = None,
        body: Body | None = None,
    ) -> None:
        """Takes one slice, in any order; slices that never come are neither measured nor judged.

        Args:
            plane: its index in the series.
            hu: (row, column) Hounsfield units.
            label_map: (row, column) label ids.
            confidence: mean probability of the winning label; None for masks of other origin.
            body: of the slice, where it is known already.
        """
        affine, labels = self.series.affine_lps, self.evidence.labels
        self._rows[plane] = measure_slice(hu, label_map, affine, plane, labels, self.plan.ranges)
        if IGNORE_ID in labels:  # image programs write masks as 0 and 255; here it is no "nobody looked"
            label_map = np.minimum(label_map, np.uint8(IGNORE_ID - 1))
        self._quality.add(plane, hu, self._judged[label_map], affine, confidence, body)

    @property
    def rows(self) -> list[SliceMeasurement]:
        """The measurements, slice by slice in order of position."""
        return [row for plane in sorted(self._rows) for row in self._rows[plane]]

    def summary(self) -> dict[str, Any]:
        """All that ``summary.json`` holds."""
        labels, plan = self.evidence.labels, self.plan
        muscle_ids, why_none = choose_muscle(plan.muscle_labels, labels)
        level = plan.level
        if misfit := self._quality.misfit():  # no verdict on what is no person's size
            level = replace(level, why_not=misfit)
        figures = figures_at_level(self.rows, level, muscle_ids, why_none, plan.patient)
        intervals = self._intervals(figures, muscle_ids)
        summary = summarise_series(
            self.series.uid,
            self.rows,
            labels,
            plan.ranges,
            level,
            plan.muscle_labels,
            plan.patient,
            plan.acquisition,
            read_cutoffs(),
            intervals={
                what: (one.low, one.high)
                for what, one in intervals.items()
                if one.low is not None and one.high is not None
            },
            interval_records=[one.to_builtins() for one in intervals.values()],
            flags=self._flags(),
        )
        return {**summary, "not_checked": self._unchecked()}

    def _flags(self) -> list[Mapping[str, Any]]:
        first, last = min(self._rows, default=0), max(self._rows, default=0)
        of_network = [Flag(BUILT_IN_FLAG, f"this is the {self.evidence.notice}")] if self.evidence.notice else []
        found = self._quality.flags(
            n_planes=self.series.n_planes,
            gaps=[plane for plane in self.series.missing_planes if first < plane < last],
            step_mm=spacing_mm(self.series.affine_lps)[2],
            thickness_mm=self.plan.acquisition["slice_thickness_mm"],
            doubts=self.series.doubts,
            step_doubts=self.series.step_doubts,
            l3_missing=self.plan.level.why_not,
        )
        found = (*of_network, *found)
        return [*(flag.to_builtins() for flag in found if flag.name not in self._kept.names), *self._kept.flags]

    def _unchecked(self) -> list[str]:
        lines = self._quality.unchecked()
        return [*(line for line in lines if line.partition(":")[0] not in self._kept.names), *self._kept.unchecked]

    def _intervals(self, figures: LevelFigures, muscle_ids: Sequence[int]) -> dict[str, Interval]:
        """Intervals of the figures at the level that areas are behind; a density has none."""
        names, errors = self.evidence.labels, self.evidence.area_errors
        if errors is None:
            return {}
        if set(muscle_ids) == set(names):
            label = ANY_LABEL
        else:  # errors are known of single labels, and of all together
            label = names[muscle_ids[0]] if len(muscle_ids) == 1 else ", ".join(names[i] for i in muscle_ids)
        return {
            what: find_interval(what, value, errors, label)
            for what, value in figures.values.items()
            if what in ("area", "smi") and value is not None
        }
