"""Do intervals of areas cover as often as they promise? On phantom patients that nothing was chosen on.

    python benchmarks/interval_coverage.py --work=FOLDER [--append]

Trains a small network, then predicts new patients of a few slices each in this process, and counts how often the
true area of a slice lies inside the interval that the checkpoint gives. A patient counts once, by the mean over its
slices, because that is the promise: a random slice of a new patient.

The promise holds on average over validation sets. One set of n patients covers with a standard deviation of
sqrt(c (1 - c) / (n + 2)) around it: 4.6 points at 90 % with 40 patients, 1.5 with 400. Hence that many validate here,
or the result would be chance. Takes minutes on two cores.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import make_phantoms, report, run, table

from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.quality.intervals import ANY_LABEL, find_interval

COVERAGES = (0.8, 0.9, 0.95)
TOLERANCE = 0.05  # "within 5 points of nominal"
FIRST_SEED = 7_000_000  # far from those of the training patients


def train(work: Path, data: Path, size: int, epochs: int, val_fraction: float) -> Path:
    """The run's best checkpoint, made once."""
    checkpoint = work / "runs" / "coverage_Trains" / "best.ckpt"
    if not checkpoint.is_file():
        run("training.py", f"--data_dir={data}", f"--dirpath={work / 'runs'}", "--run_id=coverage", "--wandb=no",
            "--pretrained=no", "--gpu=-1", f"--image_size={size}", "--batch_size=8", "--learning_rate=2e-3",
            "--scheduler=step", "--early_stopping=no", f"--max_epochs={epochs}",
            f"--val_fraction={val_fraction}")  # fmt: skip
    return checkpoint


def predict_areas(opened: object, patients: int, slices: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """True and predicted area, cm2, of each slice of each new patient, on the way that inference.py takes."""
    from sarco.io.dicom import find_series
    from sarco.prediction.pipeline import predict_series

    description = opened.description
    options = PhantomOptions(n_slices=slices, rows=side, columns=side)
    for number in range(patients):
        phantom = make_phantom(FIRST_SEED + number, options)
        with tempfile.TemporaryDirectory() as folder:
            write_series(phantom, Path(folder) / "series", patient_id="held-out", seed=number)
            series = find_series(Path(folder) / "series").series[0]
            predicted = predict_series(opened.network, series, description.data, description.labels).label_map
        pixel_cm2 = float(np.prod(np.linalg.norm(phantom.affine_lps[:3, :2], axis=0))) / 100
        yield tuple((ids > 0).sum(axis=(0, 1)) * pixel_cm2 for ids in (phantom.label_map, predicted))


def coverage_table(
    areas: list[tuple[np.ndarray, np.ndarray]], errors: dict[str, list[list[float]]]
) -> tuple[str, bool]:
    """The table, and whether every interval keeps its promise."""
    rows, kept = [], True
    for coverage in COVERAGES:
        covered, widths, patients = [], [], 0
        for truth, predicted in areas:
            intervals = [find_interval("area_cm2", float(area), errors, coverage=coverage) for area in predicted]
            patients = intervals[0].n_patients
            pairs = [(one, area) for one, area in zip(intervals, truth, strict=True) if one.low is not None]
            if pairs:
                covered.append(np.mean([one.low <= area <= one.high for one, area in pairs]))
                widths += [(one.high - one.low) / 2 / one.value for one, _ in pairs]
        if not covered:
            rows.append([f"{coverage:.0%}", str(patients), "0", "no interval", "-", "-"])
            kept = False
            continue
        mean = float(np.mean(covered))
        error = 1.96 * float(np.std(covered, ddof=1)) / math.sqrt(len(covered)) if len(covered) > 1 else float("nan")
        kept &= abs(mean - coverage) <= TOLERANCE
        rows.append([f"{coverage:.0%}", str(patients), str(len(covered)), f"{mean:.1%}", f"± {error:.1%}",
                     f"± {np.mean(widths):.1%}"])  # fmt: skip
    head = ["nominal", "validation patients", "held-out patients", "coverage", "chance (95 %)", "half-width"]
    return table(head, rows), kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--train_patients", type=int, default=500, help="four fifths of them validate")
    parser.add_argument("--patients", type=int, default=600, help="held out")
    parser.add_argument("--slices", type=int, default=3, help="of each patient")
    parser.add_argument("--size", type=int, default=96, help="pixels per side, of slices and of the network's input")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    start = time.perf_counter()
    data = make_phantoms(typed.work / "coverage_data", typed.train_patients, typed.slices, typed.size, seed=5)
    checkpoint = train(typed.work, data, typed.size, typed.epochs, val_fraction=0.8)

    from sarco.core.command import quieten_libraries
    from sarco.prediction.choose import open_network

    quieten_libraries()
    opened = open_network(checkpoint, "", engine="torch", precision="32", gpu=-1)
    areas = list(predict_areas(opened, typed.patients, typed.slices, typed.size))
    errors = opened.description.area_errors
    text, kept = coverage_table(areas, errors)
    relative = [abs(p - t) / p for truth, predicted in areas for t, p in zip(truth, predicted, strict=True) if p > 0]
    in_validation = [error for slices in errors.get(ANY_LABEL, []) for error in slices]
    verdict = "Every interval covers" if kept else "NOT every coverage has an interval that covers"
    verdict += " within 5 points of nominal."
    text += (
        f"\n\n{typed.train_patients} labelled phantom patients of {typed.slices} slices, four fifths of them validate; "
        f"{typed.patients} held out; {typed.size} pixels, {typed.epochs} epochs; {time.perf_counter() - start:.0f} s. "
        f"Median relative error of a slice: {np.median(in_validation or [np.nan]):.1%} of validation patients, "
        f"{np.median(relative or [np.nan]):.1%} of held-out ones. "
        f"{verdict}"
    )
    report("Coverage of the intervals", "python benchmarks/interval_coverage.py", text, typed.append)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
