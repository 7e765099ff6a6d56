"""What comparisons say over patients: means with bootstrap intervals, limits of agreement, tables and the plot."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.comparison.maps import NO_LABEL, LabelComparison
from sarco.core.errors import InputError
from sarco.core.tables import PLAIN, write_table
from sarco.scan.labels import BACKGROUND_ID

BOOTSTRAP_COVERAGE = 0.95
RESAMPLES = 2000
FEWEST_FOR_BOOTSTRAP = 5  # of fewer, resamples are so few and so alike that an interval would pretend to know
LIMITS_SD = 1.96  # of a normal distribution: 95 % of differences
SUMMARISED = ("dice", "iou", "hd95_mm", "asd_mm", "area_error", "volume_error")
FILES = ("comparison.csv", "summary.csv", "bland_altman.csv", "bland_altman.png")


@dataclass(frozen=True)
class Summary:
    """One figure of one label over patients.

    Attributes:
        label_id, measure: what it is of.
        n: patients of whom the figure is defined.
        undefined: patients of whom it is not (an empty mask); they are in no mean.
        mean, median: over the n patients; NaN where n is 0.
        low, high: bootstrap interval of the mean; NaN for fewer than `FEWEST_FOR_BOOTSTRAP` patients.
    """

    label_id: int
    measure: str
    n: int
    undefined: int
    mean: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of predicted and true area of one label, a point a patient (the mean area of its slices).

    Source: Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8.

    Attributes:
        label_id: what it is of.
        n, undefined: patients with the label, and those in whom neither side holds it.
        bias_cm2, sd_cm2: mean and standard deviation (n - 1) of predicted minus true area.
        lower_cm2, upper_cm2: limits of agreement, bias -+ 1.96 SD; NaN for a single patient.
        bias_low_cm2 .. upper_high_cm2: bootstrap intervals of the three; NaN for few patients.
    """

    label_id: int
    n: int
    undefined: int
    bias_cm2: float
    sd_cm2: float
    lower_cm2: float
    upper_cm2: float
    bias_low_cm2: float
    bias_high_cm2: float
    lower_low_cm2: float
    lower_high_cm2: float
    upper_low_cm2: float
    upper_high_cm2: float


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean over patients; NaN for fewer than `FEWEST_FOR_BOOTSTRAP`.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    if len(values) < FEWEST_FOR_BOOTSTRAP:
        return np.nan, np.nan
    return _interval(_resample(np.asarray(values, dtype=np.float64)).mean(axis=1))


def _resample(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(RESAMPLES, n) patients drawn with replacement; the same ones every time."""
    places = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    return values[places]


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - BOOTSTRAP_COVERAGE) / 2, (1 + BOOTSTRAP_COVERAGE) / 2])
    return float(low), float(high)


def summarise_patients(rows: Sequence[LabelComparison]) -> tuple[Summary, ...]:
    """Each figure of each label over patients."""
    found = []
    for label_id in sorted({row.label_id for row in rows}):
        of_label = [row for row in rows if row.label_id == label_id]
        for measure in SUMMARISED:
            values = [float(getattr(row, measure)) for row in of_label]
            defined = [value for value in values if not np.isnan(value)]
            mean, median = (float(np.mean(defined)), float(np.median(defined))) if defined else (np.nan, np.nan)
            undefined = len(values) - len(defined)
            found.append(Summary(label_id, measure, len(defined), undefined, mean, median, *bootstrap(defined)))
    return tuple(found)


def bland_altman(rows: Sequence[LabelComparison]) -> tuple[BlandAltman, ...]:
    """Agreement of the areas of each label; labels that no patient holds are left out."""
    found = []
    for label_id in sorted({row.label_id for row in rows}):
        _, differences = _points(rows, label_id)
        undefined = sum(row.label_id == label_id for row in rows) - len(differences)
        if not len(differences):
            continue
        n = len(differences)
        bias = float(differences.mean())
        sd = float(differences.std(ddof=1)) if n > 1 else np.nan
        intervals = [(np.nan, np.nan)] * 3
        if n >= FEWEST_FOR_BOOTSTRAP:
            drawn = _resample(differences)
            means, spreads = drawn.mean(axis=1), LIMITS_SD * drawn.std(axis=1, ddof=1)
            intervals = [_interval(means), _interval(means - spreads), _interval(means + spreads)]
        limits = bias - LIMITS_SD * sd, bias + LIMITS_SD * sd
        flat = [end for interval in intervals for end in interval]
        found.append(BlandAltman(label_id, n, undefined, bias, sd, *limits, *flat))
    return tuple(found)


def _points(rows: Sequence[LabelComparison], label_id: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and difference (predicted - true) of the two areas, a patient each."""
    pairs = [(row.truth_cm2, row.prediction_cm2) for row in rows if row.label_id == label_id]
    truth, prediction = np.array([pair for pair in pairs if not np.isnan(pair[0])]).reshape(-1, 2).T
    return (truth + prediction) / 2, prediction - truth


def draw_bland_altman(rows: Sequence[LabelComparison], names: Mapping[int, str], path: Path) -> None:
    """Draws difference against mean of the two areas, a panel a label."""
    from matplotlib.figure import Figure  # half a second to import

    found = bland_altman(rows)
    columns = min(3, max(1, len(found)))
    lines = max(1, -(-len(found) // columns))
    figure = Figure(figsize=(5.2 * columns, 4.2 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, one in zip(panels, found, strict=False):
        means, differences = _points(rows, one.label_id)
        axes.scatter(means, differences, s=18, color="#0072b2", zorder=3)
        axes.axhline(one.bias_cm2, color="black", label=f"bias {one.bias_cm2:+.2f} cm²")
        if one.n > 1:
            text = f"limits of agreement {one.lower_cm2:+.2f} to {one.upper_cm2:+.2f} cm²"
            axes.axhline(one.lower_cm2, color="#d55e00", linestyle="--", label=text)
            axes.axhline(one.upper_cm2, color="#d55e00", linestyle="--")
        title = f"{names.get(one.label_id, f'label {one.label_id}')}, {one.n} patients"
        axes.set(title=title, xlabel="mean of the two areas (cm²)", ylabel="predicted - true area (cm²)")
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
        axes.grid(alpha=0.3)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def check_out(folder: Path) -> None:
    """Makes the folder for `FILES`, before hours of work are done for it.

    Raises:
        InputError: the folder cannot be made or written, or holds one of the files already.
    """
    taken = next((folder / name for name in FILES if (folder / name).exists()), None)
    if taken:
        raise InputError(f"{taken}: is there already and nothing is overwritten; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be made or written ({error.strerror}); choose another --out") from None


def write_tables(rows: Sequence[LabelComparison], names: Mapping[int, str], folder: Path, style: str = PLAIN) -> None:
    """Writes `FILES` into a folder.

    Args:
        rows: a label of a patient each.
        names: of the labels, by id.
        folder: where they go; made where it is not there.
        style: of the tables, see `sarco.core.tables`.

    Raises:
        InputError: the folder cannot be made or written, or holds one of the files already.
    """
    check_out(folder)
    try:
        _write_files(rows, names, folder, style)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def _write_files(rows: Sequence[LabelComparison], names: Mapping[int, str], folder: Path, style: str) -> None:
    figures = [{**_named(row, names), "volume_error": row.volume_error} for row in rows]
    _write_csv(folder / FILES[0], [*(item.name for item in fields(LabelComparison)), "volume_error"], figures, style)
    _write_csv(
        folder / FILES[1],
        [item.name for item in fields(Summary)],
        [_named(s, names) for s in summarise_patients(rows)],
        style,
    )
    limits = [_named(one, names) for one in bland_altman(rows)]
    _write_csv(folder / FILES[2], [item.name for item in fields(BlandAltman)], limits, style)
    draw_bland_altman(rows, names, folder / FILES[3])


def _named(row: Any, names: Mapping[int, str]) -> dict[str, Any]:
    name = names.get(row.label_id, f"label_{row.label_id}")
    return {**asdict(row), "label": NO_LABEL if row.label_id == BACKGROUND_ID else name}


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], style: str) -> None:
    """Figures with six digits; cells of figures that are not defined stay empty."""
    ordered = [name for column in columns for name in ((column, "label") if column == "label_id" else (column,))]
    write_table(path, ordered, ([_cell(row[name]) for name in ordered] for row in rows), style)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return None if np.isnan(value) else float(f"{value:.6g}")
    return value


def describe_agreement(
    summaries: Sequence[Summary], limits: Sequence[BlandAltman], names: Mapping[int, str]
) -> list[str]:
    """Lines for people."""
    lines = []
    for one in summaries:
        undefined = f", undefined in {one.undefined}" if one.undefined else ""
        interval = "" if np.isnan(one.low) else f" [{one.low:.4g} to {one.high:.4g}]"
        mean = f"mean {one.mean:.4g}{interval}, median {one.median:.4g}" if one.n else "undefined"
        lines.append(f"{_label(one.label_id, names)} {one.measure}: {mean} ({one.n} patients{undefined})")
    for limit in limits:
        text = f"{_label(limit.label_id, names)} area_cm2: bias {limit.bias_cm2:+.3g}"
        if limit.n > 1:
            text += f", limits of agreement {limit.lower_cm2:+.3g} to {limit.upper_cm2:+.3g}"
        lines.append(f"{text} ({limit.n} patients)")
    return lines


def _label(label_id: int, names: Mapping[int, str]) -> str:
    return names.get(label_id, f"label {label_id}") if label_id != BACKGROUND_ID else NO_LABEL
