"""The series of a folder predicted one after the other, with lines for people; one that fails costs no other."""

import shutil
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from sarco.commands.progress import slices_bar
from sarco.core.attempts import Attempts, Failure, write_tracebacks
from sarco.core.command import print_line
from sarco.core.errors import SarcoError
from sarco.core.files import short_name
from sarco.core.messages import count_of

if TYPE_CHECKING:  # tenths of a second to import
    from sarco.api.predicting import PredictedSeries, Predictor
    from sarco.scan.series import Series


class SeriesBySeries:
    """The series of a folder at work, one after the other; one that fails costs no other.

    Attributes:
        failed: why series could not be predicted.
        interrupted: whether the user ended it before the last one.
    """

    def __init__(self, predictor: "Predictor", debug: bool) -> None:
        """Nothing is predicted yet.

        Args:
            predictor: has the series, and knows where their results go.
            debug: whether tracebacks are printed, too.
        """
        from sarco.results.folder import name_series

        self.predictor = predictor
        self.debug = debug
        self.failed: list[SarcoError] = list(predictor.failed)
        self.interrupted = False
        self._names = name_series(predictor.series, predictor.options.infer_path)
        self._alone = len(predictor.series) == 1 and not self.failed
        self._lacking: list[str] = []  # names of series of which a part could not be written
        self._attempts = Attempts()

    @property
    def faults(self) -> list[str]:
        """What is missing in the end, in words."""
        found = []
        if self.failed:
            count = count_of(len(self.failed), "series or folder", "series or folders")
            found.append(f"{count} could not be predicted, the reasons stand above; the others are done")
        if self._lacking:
            found.append(f"a part of the results of {', '.join(self._lacking)} is missing, the reasons stand above")
        return found

    def predict(self, folder: Path) -> None:
        """Predicts each into a subfolder, or the only one into the folder itself."""
        count = len(self._names)
        for number, (series, name) in enumerate(zip(self.predictor.series, self._names, strict=True), start=1):
            print_line(f"series {number} of {count} ({name}): {_size_of(series)}")
            target = folder if self._alone else folder / name
            try:
                target.mkdir(exist_ok=True)
                self._predict_one(series, name, target)
            except Exception as error:
                remove_content(target, but_itself=self._alone)
                self._note_failed(series, name, error)
            except KeyboardInterrupt:
                remove_content(target, but_itself=self._alone)
                if not any(folder.iterdir()) or self.predictor.options.overwrite:
                    raise
                self.interrupted = True
                print_line(
                    f"interrupted: {number - 1} of {count} series are done, their results are kept", is_fault=True
                )
                return

    def _predict_one(self, series: "Series", name: str, target: Path) -> None:
        """Predicts one series with a bar, and prints what was found and what could not be written."""
        with slices_bar(len(series.slices)) as progress:
            predicted = self.predictor.predict(series, target, progress)
        self._attempts.run(f"{name}: its lines", self._print_summary, predicted)
        results = self.predictor.results.name
        self.predictor.log(predicted, results if self._alone else f"{results}/{name}")
        failures = [*predicted.failures, *self._attempts.failures]
        if not failures:
            return
        self._lacking.append(name)
        for one in failures:
            print_line(f"{name}: {one.part} could not be written: {self._explain(one, name)}", is_fault=True)
        self._attempts.failures.clear()

    def _print_summary(self, predicted: "PredictedSeries") -> None:
        from sarco.measurement.report import describe_summary

        for line in describe_summary(predicted.summary) if predicted.summary else ():
            print(f"  {line}")

    def _note_failed(self, series: "Series", name: str, error: Exception) -> None:
        if not isinstance(error, SarcoError):
            line = f"{series.slices[0].path.parent}: {self._explain(Failure('prediction', error), name)}"
            told = SarcoError(line)
            told.__cause__ = error
            error = told
        self.failed.append(error)
        if not self._alone:
            print_line(f"left out: {error}", is_fault=True)

    def _explain(self, failure: "Failure", name: str) -> str:
        """The reason; where it is a bug, with the file that keeps its traceback."""
        if self.debug:
            traceback.print_exception(failure.error)
        if failure.is_foreseen:
            return failure.reason
        results = self.predictor.results
        path = results.with_name(short_name(f"{results.name}.errors.txt"))
        kept = write_tracebacks(path, [Failure(f"{name}: {failure.part}", failure.error)])
        return f"{failure.reason}; {f'report it with {path}' if kept else '--debug shows where'}"


def remove_content(folder: Path, but_itself: bool) -> None:
    """Removes all that a folder holds, where it is there, and it too, unless not that."""
    shutil.rmtree(folder, ignore_errors=True)
    if but_itself:
        folder.mkdir(exist_ok=True)


def _size_of(series: "Series") -> str:
    """How large it is, and what it lacks."""
    rows, columns, planes = series.shape
    missing = planes - len(series.slices)
    verb = "is" if missing == 1 else "are"
    lacks = f", {missing} {verb} missing in between, where the label map is background" if missing else ""
    return f"{count_of(len(series.slices), 'slice')} of {rows} x {columns}{lacks}"
