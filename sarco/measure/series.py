"""From label maps to answers: measurements, level, patient, cut-offs, intervals and flags of each predicted series.

The parts know nothing of each other; here they meet. Slices come one by one while the network works, so that no pixel
is read twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.options import MeasurementOptions
from sarco.crop.body import Body
from sarco.measure.cutoffs import read_cutoffs
from sarco.measure.level import Level
from sarco.measure.mask import SeriesFacts, check_level_flags, find_level, find_patient, read_facts
from sarco.measure.patients import Patient, read_patients
from sarco.measure.report import LevelFigures, choose_muscle, figures_at_level, summarise_series
from sarco.measure.slices import HuRanges, SliceMeasurement, measure_slice
from sarco.quality.flags import SeriesQuality
from sarco.quality.intervals import ANY_LABEL, Interval, find_interval
from sarco.scan.geometry import spacing_mm
from sarco.scan.series import Series


@dataclass(frozen=True)
class Evidence:
    """What the run that predicts knows of itself.

    Attributes:
        labels: names by label id.
        area_errors: of validation patients, by label; see `sarco.quality.intervals`.
        training_statistics: of the slices it learnt from; see `sarco.quality.likeness`.
    """

    labels: Mapping[int, str]
    area_errors: Mapping[str, Sequence[Sequence[float]]]
    training_statistics: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What has to be known about a series before it is predicted.

    Attributes:
        facts: what its tags say.
        level: where L3 lies, or why nobody knows.
        patient: who it is.
    """

    facts: SeriesFacts
    level: Level
    patient: Patient


class Plans:
    """Everything besides pixels, read before hours of work, so that what is wrong with it is told at once."""

    def __init__(self, series: Sequence[Series], options: MeasurementOptions, evidence: Evidence) -> None:
        """Reads patients, tags and levels.

        Args:
            series: all that will be predicted.
            options: which slice is L3, who the patients are, what counts as muscle.
            evidence: of the run that predicts.

        Raises:
            OptionError: a flag cannot be meant, or a place is named for several series.
            InputError: a patient is missing in the table, or no slice answers to ``--l3``.
            GeometryError: the vertebrae do not lie on the series.
        """
        self.options = options
        self.evidence = evidence
        check_level_flags(options.l3, options.vertebrae, options.l3_label)
        HuRanges.parse(options.hu_ranges)
        choose_muscle(options.muscle_labels, evidence.labels)
        table = read_patients(options.patients) if options.patients else None
        facts = [read_facts(one) for one in series]
        if table:
            table.check(one.identity for one in facts)
        self._plans = {
            (one.uid, one.part): Plan(
                known,
                find_level(one, options.l3, options.vertebrae, options.l3_label, len(series)),
                find_patient(known, table),
            )
            for one, known in zip(series, facts, strict=True)
        }

    def evaluate(self, series: Series) -> "SeriesEvaluation":
        """The evaluation of one of the series, still empty."""
        return SeriesEvaluation(series, self._plans[series.uid, series.part], self.options, self.evidence)


class SeriesEvaluation:
    """Measures a series slice by slice, and says in the end what it comes to."""

    def __init__(self, series: Series, plan: Plan, options: MeasurementOptions, evidence: Evidence) -> None:
        """Starts empty.

        Args:
            series: the scan.
            plan: its own.
            options: HU ranges and muscle labels.
            evidence: of the run that predicts.
        """
        self.series = series
        self.plan = plan
        self.options = options
        self.evidence = evidence
        self.ranges = HuRanges.parse(options.hu_ranges)
        self.quality = SeriesQuality(evidence.training_statistics)
        self._rows: dict[int, tuple[SliceMeasurement, ...]] = {}

    def add(
        self,
        plane: int,
        hu: NDArray[np.float32],
        label_map: NDArray[np.uint8],
        confidence: float | None = None,
        body: Body | None = None,
    ) -> None:
        """Takes one slice, in any order.

        Args:
            plane: its index in the series.
            hu: (row, column) Hounsfield units.
            label_map: (row, column) label ids.
            confidence: mean probability of the winning label; None for masks of other origin.
            body: of the slice, where it is known already.
        """
        affine = self.series.affine_lps
        self._rows[plane] = measure_slice(hu, label_map, affine, plane, self.evidence.labels, self.ranges)
        self.quality.add(plane, hu, label_map, affine, confidence, body)

    @property
    def rows(self) -> list[SliceMeasurement]:
        """The measurements, slice by slice in order of position."""
        return [row for plane in sorted(self._rows) for row in self._rows[plane]]

    def summary(self) -> dict[str, Any]:
        """All that ``summary.json`` holds."""
        labels, level = self.evidence.labels, self.plan.level
        muscle_ids, why_none = choose_muscle(self.options.muscle_labels, labels)
        figures = figures_at_level(self.rows, level, muscle_ids, why_none, self.plan.patient)
        intervals = self._intervals(figures, muscle_ids)
        acquisition = self.plan.facts.acquisition
        flags = self.quality.flags(
            n_planes=self.series.n_planes,
            step_mm=spacing_mm(self.series.affine_lps)[2],
            thickness_mm=acquisition["slice_thickness_mm"],
            l3_missing=level.why_not,
        )
        summary = summarise_series(
            self.series.uid,
            self.rows,
            labels,
            self.ranges,
            level,
            self.options.muscle_labels,
            self.plan.patient,
            acquisition,
            read_cutoffs(),
            intervals={
                what: (one.low, one.high)
                for what, one in intervals.items()
                if one.low is not None and one.high is not None
            },
            interval_records=[one.to_builtins() for one in intervals.values()],
            flags=[flag.to_builtins() for flag in flags],
        )
        return {**summary, "not_checked": list(self.quality.unchecked())}

    def _intervals(self, figures: LevelFigures, muscle_ids: Sequence[int]) -> dict[str, Interval]:
        """Intervals of the figures at the level that areas are behind; a density has none."""
        names = self.evidence.labels
        if set(muscle_ids) == set(names):
            label = ANY_LABEL
        else:  # errors are known of single labels, and of all together
            label = names[muscle_ids[0]] if len(muscle_ids) == 1 else ", ".join(names[i] for i in muscle_ids)
        return {
            what: find_interval(what, value, self.evidence.area_errors, label)
            for what, value in figures.values.items()
            if what in ("area", "smi") and value is not None
        }
