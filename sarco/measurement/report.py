"""What is written about a measured series: ``measurements.csv`` (a row a slice and label) and ``summary.json``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sarco.anatomy.labels import MUSCLE_NAMES
from sarco.core.errors import OptionError
from sarco.core.files import write_json
from sarco.core.messages import count_of
from sarco.core.tables import PLAIN, write_table
from sarco.io.results import MEASUREMENTS, SUMMARY
from sarco.measurement.acquisition import describe_contrast, describe_recorded_contrast
from sarco.measurement.cutoffs import NOT_APPLICABLE, CutoffSet, IntervalEnds, assess
from sarco.measurement.level import Level
from sarco.measurement.patients import Patient
from sarco.measurement.slices import HuRanges, PooledMeasurement, SliceMeasurement, pool

WHOLE_MUSCLE = ("skeletal_muscle", "muscle")  # names of labels that need no further word to be called the muscle
SMI_UNIT = "cm2/m2"
# Flags that speak against the mask itself, so that no figure of it is printed without them.
FIGURE_FLAGS = (
    "empty_mask",
    "body_size",
    "no_tissue",
    "doubtful_hu",
    "air_in_mask",
    "bone_in_mask",
    "scattered",
    "low_confidence",
    "wider_than_field",
    "unlike_training",
)
_BESIDE = ("contrast", "kvp", "kernel", "slice_thickness_mm")  # what stands beside every density


def choose_muscle(text: str, labels: Mapping[int, str]) -> tuple[tuple[int, ...], str]:
    """The labels that together are the muscle of a cross-section, and why there are none.

    An index of one muscle group looks like that of a thin patient, so nothing is guessed: without a word from the
    user only a label that is called "skeletal_muscle" or "muscle" counts, or all compartments of the table of invented
    patients, which together are the whole muscle.

    Args:
        text: names or ids with commas, "all", or "".
        labels: names by label id.

    Raises:
        OptionError: a name or an id is not among the labels.
    """
    if text == "all":
        return tuple(labels), ""
    if not text:
        whole = MUSCLE_NAMES if set(MUSCLE_NAMES) <= set(labels.values()) else WHOLE_MUSCLE
        found = tuple(label_id for label_id, name in labels.items() if name.lower() in whole)
        named = ", ".join(labels.values())
        return found, "" if found else (
            f"no label is called skeletal_muscle; say with --muscle_labels which of {named} are the whole muscle"
        )
    by_word = {**{str(label_id): label_id for label_id in labels}, **{name: i for i, name in labels.items()}}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in by_word]:
        raise OptionError(f"--muscle_labels={text}: there is no label {unknown[0]!r}; known: {', '.join(by_word)}")
    return tuple(dict.fromkeys(by_word[word] for word in words)), ""


@dataclass(frozen=True)
class LevelFigures:
    """What the muscle of a level measures.

    Attributes:
        muscle: of all muscle labels together on its slice; None where there is no slice.
        over_vertebra: means over all slices of the vertebra; empty where only one slice is known.
        smi: area in the muscle range over squared height, cm2/m2; None where a part is missing.
        why_no_muscle, why_no_smi: the reason where there is none.
    """

    muscle: PooledMeasurement | None
    over_vertebra: dict[str, float | None]
    smi: float | None
    why_no_muscle: str
    why_no_smi: str

    @property
    def values(self) -> dict[str, float | None]:
        """What cut-offs are compared with, by measure. Papers count pixels in the muscle range alone."""
        muscle = self.muscle
        return {
            "smi": self.smi,
            "area": muscle.area_in_range_cm2 if muscle else None,
            "density": muscle.mean_hu_in_range if muscle else None,
        }

    @property
    def why_missing(self) -> dict[str, str]:
        """Why a value is missing, by measure."""
        no_muscle = self.why_no_muscle or "the mask holds no muscle there"
        return {"smi": self.why_no_smi, "area": no_muscle, "density": no_muscle}


def figures_at_level(
    rows: Sequence[SliceMeasurement], level: Level, muscle_ids: Sequence[int], why_no_ids: str, patient: Patient
) -> LevelFigures:
    """The muscle of a level and its index; reasons where something is missing.

    Args:
        rows: all measurements of the series.
        level: where it lies.
        muscle_ids: as `choose_muscle` gives them.
        why_no_ids: as `choose_muscle` gives it.
        patient: whose height the index needs.
    """
    why, index, measured = level.why_not or why_no_ids, level.slice_index, {row.slice_index for row in rows}
    if not why and index not in measured:
        why = f"slice {index} has no label map"
    if why or index is None:
        return LevelFigures(None, {}, None, why, why)
    of_slice = {one: _pool_slice(rows, one, muscle_ids) for one in level.slices if one in measured}
    muscle = of_slice[index]
    why = "" if muscle.n_pixels else f"the mask holds no muscle on slice {index}"
    why_no_smi = why or ("" if patient.height_m else "the height is unknown; give --patients")
    squared_height = patient.height_m**2 if patient.height_m else None
    smi = muscle.area_in_range_cm2 / squared_height if squared_height and not why else None
    means: dict[str, float | None] = {}
    if len(level.slices) > 1:
        pooled = list(of_slice.values())
        for name in ("area_cm2", "area_in_range_cm2", "lama_cm2", "nama_cm2", "fat_cm2"):
            means[name] = sum(getattr(one, name) for one in pooled) / len(pooled)
        means["mean_hu_in_range"] = pool(
            [row for row in rows if row.slice_index in of_slice and row.label_id in muscle_ids]
        ).mean_hu_in_range
        means["smi"] = (means["area_in_range_cm2"] or 0.0) / squared_height if squared_height else None
    return LevelFigures(muscle, means, smi, why, why_no_smi)


def _pool_slice(rows: Sequence[SliceMeasurement], index: int, ids: Sequence[int]) -> PooledMeasurement:
    return pool(row for row in rows if row.slice_index == index and row.label_id in ids)


def summarise_series(
    series_uid: str,
    rows: Sequence[SliceMeasurement],
    labels: Mapping[int, str],
    ranges: HuRanges,
    level: Level,
    muscle_labels: str,
    patient: Patient,
    acquisition: Mapping[str, Any],
    cutoff_sets: Sequence[CutoffSet],
    *,
    intervals: Mapping[str, IntervalEnds] | None = None,
    interval_records: Sequence[Mapping[str, Any]] = (),
    flags: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All that ``summary.json`` holds, as plain values.

    Args:
        series_uid: SeriesInstanceUID.
        rows: all measurements of the series, slice by slice.
        labels: names by label id.
        ranges: the HU table that was used.
        level: where L3 lies, or why nobody knows.
        muscle_labels: which labels are the muscle; see `choose_muscle`.
        patient: who it is.
        acquisition: of `sarco.measurement.acquisition.acquisition_of`.
        cutoff_sets: what to compare with.
        intervals: (low, high) by "smi", "area" and "density", for undecided cut-offs.
        interval_records: what is said of these intervals (coverage, patients behind them).
        flags: quality flags.
    """
    muscle_ids, why_no_ids = choose_muscle(muscle_labels, labels)
    figures = figures_at_level(rows, level, muscle_ids, why_no_ids, patient)
    assessments = assess(
        figures.values, figures.why_missing, patient, acquisition.get("contrast"), cutoff_sets, intervals
    )
    content = {
        "series_uid": series_uid,
        "labels": [{"id": label_id, "name": name, **_of_label(rows, label_id)} for label_id, name in labels.items()],
        "muscle_labels": [labels[label_id] for label_id in muscle_ids],
        "level": level.to_builtins(),
        "at_level": asdict(figures.muscle) if figures.muscle else None,
        "over_vertebra": figures.over_vertebra or None,
        "smi": {
            "value": figures.smi,
            "unit": SMI_UNIT,
            "slices": [] if figures.smi is None or level.slice_index is None else [level.slice_index],
            "mean_over_vertebra": figures.over_vertebra.get("smi"),
            "area": "area_in_range_cm2",
            "why_not": "" if figures.smi is not None else f"not computed, because {figures.why_no_smi}",
        },
        "cutoffs": [one.to_builtins() for one in assessments],
        "flags": [dict(flag) for flag in flags],
        "intervals": [dict(record) for record in interval_records],
        "acquisition": dict(acquisition),
        "hu_ranges": ranges.to_builtins(),
        "patient": patient.to_builtins(),
        "area_profile": _profile(rows, labels),
    }
    rounded: dict[str, Any] = _rounded(content)
    return rounded


def _of_label(rows: Sequence[SliceMeasurement], label_id: int) -> dict[str, Any]:
    """A label over the whole series; areas become volumes."""
    mine = [row for row in rows if row.label_id == label_id]
    whole = pool(mine)
    slice_ml = {row.slice_index: row.volume_ml / row.area_cm2 for row in mine if row.area_cm2}  # the step, in cm
    step_cm = next(iter(slice_ml.values()), 0.0)
    areas = [row.area_cm2 for row in mine]
    return {
        "volume_ml": whole.volume_ml,
        "volume_in_range_ml": whole.area_in_range_cm2 * step_cm,
        "lama_ml": whole.lama_cm2 * step_cm,
        "nama_ml": whole.nama_cm2 * step_cm,
        "fat_ml": whole.fat_cm2 * step_cm,
        "share_in_range": whole.share_in_range,
        "mean_hu": whole.mean_hu,
        "sd_hu": whole.sd_hu,
        "mean_hu_in_range": whole.mean_hu_in_range,
        "largest_area_cm2": max(areas, default=0.0),
        "n_slices": sum(area > 0 for area in areas),
    }


def _profile(rows: Sequence[SliceMeasurement], labels: Mapping[int, str]) -> dict[str, Any]:
    """Areas along the body, in order of the slices."""
    places = sorted({(row.slice_index, row.z_mm) for row in rows})
    area = {(row.slice_index, row.label_id): row.area_cm2 for row in rows}
    return {
        "slice_index": [index for index, _ in places],
        "z_mm": [z_mm for _, z_mm in places],
        "area_cm2": {name: [area[index, label_id] for index, _ in places] for label_id, name in labels.items()},
    }


def describe_summary(summary: Mapping[str, Any]) -> Iterator[str]:
    """The summary as lines for a terminal: reasons to doubt first, and again on the line of every figure they touch."""
    acquisition = summary["acquisition"]
    # Why there is no L3 stands on the line of the SMI.
    yield from (f"flag {flag['name']}: {flag['reason']}" for flag in summary["flags"] if flag["name"] != "no_l3")
    named = [flag["name"] for flag in summary["flags"] if flag["name"] in FIGURE_FLAGS]
    doubt = f" [flagged: {', '.join(named)}]" if named else ""
    for label in summary["labels"]:
        density = "" if label["mean_hu_in_range"] is None else f", {label['mean_hu_in_range']:.1f} HU in range"
        volume = f"{label['volume_ml']:.1f} ml on {count_of(label['n_slices'], 'slice')}{density}"
        yield f"{label['name']}: {volume if label['n_slices'] else 'not found on any slice'}{doubt}"
    yield (
        f"acquisition: {describe_recorded_contrast(acquisition)}, {acquisition['kvp'] or 'unknown'} kV, kernel "
        f"{acquisition['kernel'] or 'unknown'}, slices of {acquisition['slice_thickness_mm'] or 'unknown'} mm"
    )
    level, muscle, smi = summary["level"], summary["at_level"], summary["smi"]
    if muscle:
        note = f" ({level['note']})" if level["note"] else ""
        density = "no density" if muscle["mean_hu_in_range"] is None else f"{muscle['mean_hu_in_range']:.1f} HU"
        yield f"{level['name']} is slice {level['slice_index']} ({level['how']}){note}"
        yield f"muscle at {level['name']}: {muscle['area_in_range_cm2']:.1f} cm2 in range, {density}{doubt}"
    yield f"smi: {smi['why_not']}" if smi["value"] is None else f"smi: {smi['value']:.1f} {smi['unit']}{doubt}"
    notes = [*summary["patient"]["notes"], *filter(None, [acquisition.get("note")])]
    yield from (f"note: {note}" for note in notes)
    # Without a muscle at the level all sets share that one reason, which stands above.
    yield from (
        one["text"] + (doubt if one["verdict"] != NOT_APPLICABLE else "")
        for one in summary["cutoffs"]
        if muscle or one["verdict"] != NOT_APPLICABLE
    )


def write_measurements(
    folder: Path, rows: Sequence[SliceMeasurement], summary: Mapping[str, Any], csv_style: str = PLAIN
) -> None:
    """Writes ``measurements.csv`` and ``summary.json``.

    The table repeats on every row what moves densities, and the names of the quality flags of slice and series.

    Args:
        folder: exists.
        rows: the measurements, slice by slice.
        summary: of `summarise_series`.
        csv_style: of the table; see `sarco.core.tables`.

    Raises:
        OSError: they cannot be written.
    """
    acquisition = summary["acquisition"]
    beside = {name: acquisition.get(name) for name in _BESIDE}
    beside["contrast"] = describe_contrast(acquisition.get("contrast"))
    names = [item.name for item in fields(SliceMeasurement)]
    cells = []
    for row in rows:
        flags = ";".join(_flags_of_slice(summary["flags"], row.slice_index))
        cells.append([*(_rounded(getattr(row, name)) for name in names), *beside.values(), flags])
    write_table(folder / MEASUREMENTS, [*names, *beside, "flags"], cells, csv_style)
    write_json(folder / SUMMARY, summary, allow_nan=False)


def _flags_of_slice(flags: Sequence[Mapping[str, Any]], slice_index: int) -> list[str]:
    """Names of the flags that list a slice, and of those that list none, because they concern the whole series."""
    return [flag["name"] for flag in flags if not flag.get("slices") or slice_index in flag["slices"]]


def _rounded(value: Any) -> Any:
    """Plain values with four decimals: a tenth of a square millimetre of area, far below what anybody measures."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 4) + 0.0
    return value
