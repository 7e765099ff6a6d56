"""Predicts CT scans with a trained run: run id -> checkpoint -> predict -> measure -> results. ``sarco predict``."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sarco.core.command import print_line, run_command, share_the_cpu, stoppable
from sarco.core.options import InferenceOptions, MeasurementOptions
from sarco.core.parser import Command, build

if TYPE_CHECKING:  # imported only once the options are known to be right
    from sarco.api.predicting import Predictor

PROGRAM = "inference.py"
CONSUMERS = (InferenceOptions, MeasurementOptions)
COMMANDS = (
    Command(
        "predict",
        "Predicts CT scans with a trained run, and measures what it found.",
        CONSUMERS,
        words=("infer_path",),
        examples=(
            "sarco predict unseen/P001 --dest_dir=first_look",
            "sarco predict unseen/P001 --run_id=first --l3=4",
        ),
    ),
)


def main(argv: Sequence[str], program: str = PROGRAM) -> None:
    """Reads the options, then predicts; heavy imports wait until the options are known to be right."""
    typed = COMMANDS[0].parse(argv, program)
    options, measuring = build(InferenceOptions, typed), build(MeasurementOptions, typed)
    share_the_cpu()
    from sarco.api.predicting import Predictor

    debug = "debug" in typed
    predict_all(Predictor(options, measuring, partial(tell, debug)), debug)


def tell(debug: bool, line: str, reason: str) -> None:
    """Prints a line, with the reason behind it where one wants to know."""
    print_line(f"{line}, {reason}" if debug and reason else line)


def predict_all(predictor: "Predictor", debug: bool = False) -> None:
    """Predicts every series and writes the results, which appear all at once.

    Raises:
        SarcoError: nothing could be predicted.
        PartlyDoneError: a series or a part of its results is missing, or another process took the place; what could be
            written is written all the same.
        KeyboardInterrupt: the user has had enough, or a scheduler ends the job; series that were finished by then are
            kept where they replace none.
    """
    from sarco.commands.one_by_one import SeriesBySeries
    from sarco.core.errors import PartlyDoneError
    from sarco.io.results import all_at_once

    for error in predictor.left_out:
        print_line(f"left out: {error}", is_fault=True)
    work = SeriesBySeries(predictor, debug)
    places = [predictor.results]
    with stoppable(), all_at_once(places[0], replace=predictor.options.overwrite, beside=places.append) as folder:
        work.predict(folder)
        if not any(folder.iterdir()):
            raise work.failed[0]
    print_line(f"results: {places[-1]}")
    predictor.finish()
    if work.interrupted:
        raise KeyboardInterrupt
    faults = work.faults
    if len(places) > 1:
        faults.insert(0, f"{places[0]} holds results of another process by now, so these are in {places[1]}")
    if faults:
        raise PartlyDoneError("; ".join(faults))


if __name__ == "__main__":
    run_command(main, PROGRAM)
