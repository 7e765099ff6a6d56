"""Predicts CT scans with a trained run: run id -> checkpoint -> predict -> measure -> results. ``sarco predict``."""

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sarco.core.command import run_command, share_the_cpu
from sarco.core.options import InferenceOptions, MeasurementOptions
from sarco.core.parser import Command, build

if TYPE_CHECKING:  # imported only once the options are known to be right
    from sarco.api.predicting import PredictedSeries, Predictor
    from sarco.scan.series import Series

PROGRAM = "inference.py"
CONSUMERS = (InferenceOptions, MeasurementOptions)
COMMANDS = (
    Command(
        "predict",
        "Predicts CT scans with a trained run, and measures what it found.",
        CONSUMERS,
        words=("infer_path",),
        examples=(
            "sarco predict unseen/P001 --run_id=first",
            "sarco predict unseen/P001 --run_id=first --l3=4 --overwrite=yes",
        ),
    ),
)


def main(argv: Sequence[str], program: str = PROGRAM) -> None:
    """Reads the options, then predicts; heavy imports wait until the options are known to be right."""
    typed = COMMANDS[0].parse(argv, program)
    options, measuring = build(InferenceOptions, typed), build(MeasurementOptions, typed)
    share_the_cpu()
    from sarco.api.predicting import Predictor

    predict_all(Predictor(options, measuring, partial(tell, "debug" in typed)))


def tell(debug: bool, line: str, reason: str) -> None:
    """Prints a line, with the reason behind it where one wants to know."""
    print(f"{line}, {reason}" if debug and reason else line, flush=True)


def predict_all(predictor: "Predictor") -> None:
    """Predicts every series and writes the results, which appear all at once.

    Raises:
        SarcoError: a series could not be predicted; the results of the others are written all the same.
    """
    from sarco.core.errors import GeometryError, SarcoError
    from sarco.io.results import all_at_once
    from sarco.results.folder import name_series

    for error in predictor.left_out:
        print(f"left out: {error}", file=sys.stderr)
    failed: list[SarcoError] = [error for error in predictor.left_out if isinstance(error, GeometryError)]
    results = predictor.results
    alone = len(predictor.series) == 1 and not failed
    names = name_series(predictor.series, predictor.options.infer_path)
    with all_at_once(results) as folder:
        for number, (series, name) in enumerate(zip(predictor.series, names, strict=True), start=1):
            print(f"series {number} of {len(names)} ({name}): {describe_series(series)}", flush=True)
            target = folder if alone else folder / name
            target.mkdir(exist_ok=True)
            try:
                predicted = predict_one(predictor, series, target)
            except SarcoError as error:
                if alone:
                    raise
                shutil.rmtree(target)
                print(f"left out: {error}", file=sys.stderr)
                failed.append(error)
            else:
                predictor.log(predicted, results.name if alone else f"{results.name}/{name}")
        predictor.finish()
        if not any(folder.iterdir()):
            raise failed[0]
    print(f"results: {results}")
    if failed:
        raise SarcoError(f"{len(failed)} series could not be predicted, the reasons stand above; the others are done")


def predict_one(predictor: "Predictor", series: "Series", folder: Path) -> "PredictedSeries":
    """Predicts one series with a bar, and prints what was found."""
    from sarco.commands.progress import slices_bar
    from sarco.measurement.report import describe_summary

    with slices_bar(len(series.slices)) as progress:
        predicted = predictor.predict(series, folder, progress)
    for line in describe_summary(predicted.summary):
        print(f"  {line}")
    return predicted


def describe_series(series: "Series") -> str:
    """How large it is, and what it lacks."""
    rows, columns, planes = series.shape
    missing = planes - len(series.slices)
    lacks = f", {missing} are missing in between, where the label map is background" if missing else ""
    return f"{len(series.slices)} slices of {rows} x {columns}{lacks}"


if __name__ == "__main__":
    run_command(main, PROGRAM)
