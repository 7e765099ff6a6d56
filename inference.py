"""Predicts CT scans with a trained run: run id -> checkpoint -> data module -> predict -> measure -> results."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sarco.core.command import quieten_libraries, run_command, tune_allocator
from sarco.core.options import InferenceOptions, MeasurementOptions
from sarco.core.parser import build, parse

PROGRAM = "inference.py"
CONSUMERS = (InferenceOptions, MeasurementOptions)


def main(argv: Sequence[str]) -> None:
    """Reads the flags, then predicts; heavy imports wait until the flags are known to be right."""
    typed = parse(argv, CONSUMERS, PROGRAM, "Predicts CT scans with a trained run, and measures what it found.")
    predict(build(InferenceOptions, typed), build(MeasurementOptions, typed))


def predict(options: InferenceOptions, measuring: MeasurementOptions) -> None:
    """Predicts and measures every series of ``--infer_path`` and writes the results.

    Raises:
        SarcoError: a series could not be predicted; the results of the others are written all the same.
    """
    tune_allocator()
    run = OpenedRun(options)  # first: engines compile in the background, while Python looks for images

    from sarco.core.errors import GeometryError, SarcoError
    from sarco.io.images import find_images
    from sarco.io.results import all_at_once
    from sarco.results.folder import name_series, results_path

    found = find_images(options.infer_path, options.allow_gaps)
    if not found.series:
        raise found.refused[-1]
    for error in found.refused:
        print(f"left out: {error}", file=sys.stderr)
    results = results_path(options.dest_dir, options.run_id, options.infer_path, options.overwrite)
    predictor = Predictor(options, measuring, run, found.series)
    failed: list[SarcoError] = [error for error in found.refused if isinstance(error, GeometryError)]
    alone = len(found.series) == 1 and not failed
    with all_at_once(results) as folder:
        for series, name in zip(found.series, name_series(found.series, options.infer_path), strict=True):
            target = folder if alone else folder / name
            target.mkdir(exist_ok=True)
            try:
                predictor.predict_series(series, target, results.name if alone else f"{results.name}/{name}")
            except SarcoError as error:
                if alone:
                    raise
                shutil.rmtree(target)
                print(f"left out: {error}", file=sys.stderr)
                failed.append(error)
        predictor.finish()
        if not any(folder.iterdir()):
            raise failed[0]
    print(f"results: {results}")
    if failed:
        raise SarcoError(f"{len(failed)} series could not be predicted, the reasons stand above; the others are done")


class OpenedRun:
    """The checkpoint of a run: its network, what it says of itself, and where it comes from."""

    def __init__(self, options: InferenceOptions) -> None:
        """Finds and loads it.

        Raises:
            SarcoError: there is none, it cannot be used, or not with the engine that is asked for.
        """
        from sarco.prediction.choose import open_network
        from sarco.runs.store import Provenance, RunStore

        store = RunStore(options.dirpath)
        checkpoint = store.checkpoint(options.run_id, options.ckpt_wandb_project or None, options.ckpt_choice)
        provenance = Provenance.of(options.run_id, options.ckpt_wandb_project, checkpoint)
        print(f"run {options.run_id} ({options.ckpt_choice} checkpoint): {checkpoint}")
        quieten_libraries()
        opened = open_network(
            checkpoint, provenance.sha256, options.engine, options.precision, options.gpu, options.batch_size
        )
        self.network, self.description = opened.network, opened.description
        run = self.description.run
        self.provenance = replace(provenance, run_id=run.run_id, wandb_project=run.wandb_project)


class Predictor:
    """A run at work, with its W&B run and all that has to be known before hours of work."""

    def __init__(
        self, options: InferenceOptions, measuring: MeasurementOptions, run: OpenedRun, series: Sequence[Any]
    ) -> None:
        """Finds out what would go wrong later.

        Args:
            options: what is predicted, and what is written.
            measuring: what is measured.
            run: predicts.
            series: all that will be predicted.

        Raises:
            SarcoError: flags, patients or series do not fit together, or a package is missing.
        """
        from sarco.measurement.series import Evidence, Plans
        from sarco.pacs.objects import Wanted

        self.options, self.run = options, run
        self.wanted = Wanted(options.dicom_seg, options.dicom_sr, options.dicom_sc)
        self.wanted.require_packages()
        known = run.description
        evidence = Evidence(known.labels.names, known.area_errors, known.training_statistics)
        self.plans = Plans(series, measuring, evidence)
        if options.wandb == "online":
            self.logger  # noqa: B018 - a key that is missing is told before anything is predicted

    @cached_property
    def logger(self) -> Any:
        """The W&B run, started when the first series is done; None where none was asked for."""
        if self.options.wandb == "no":
            return None
        from sarco.runs import tracking  # takes seconds

        mode = tracking.choose_mode(self.options.wandb)
        name = f"predictions of {self.options.run_id}"
        return tracking.start_logger(mode, self.options.wandb_project, name, self.options.dest_dir)

    def predict_series(self, series: Any, folder: Any, name: str) -> None:
        """Predicts one series and writes its results.

        Args:
            series: a `sarco.scan.series.Series`.
            folder: exists and is empty.
            name: of the results, for W&B.
        """
        from sarco.measurement.report import describe_summary
        from sarco.prediction.pipeline import predict_series
        from sarco.results.outputs import SeriesOutputs

        rows, columns, planes = series.shape
        print(f"series {series.uid}: {len(series.slices)} slices of {rows} x {columns}")
        if planes > len(series.slices):
            print(f"  {planes - len(series.slices)} slices are missing in between; the label map is background there")
        labels = self.run.description.labels
        outputs = SeriesOutputs(
            series, labels, self.plans.measurer(series), self.run.provenance, self.wanted, self.options.show_identity
        )
        predicted = predict_series(self.run.network, series, self.run.description.data, labels, outputs.take)
        written = outputs.write(folder, predicted.label_map, predicted.confidence)
        for line in describe_summary(written.summary):
            print(f"  {line}")
        if self.logger:
            from sarco.runs import tracking

            tracking.log_predictions(self.logger, name, written.shown, labels)

    def finish(self) -> None:
        """Ends the W&B run, if one was started."""
        if self.__dict__.get("logger"):
            from sarco.runs import tracking

            tracking.finish()


if __name__ == "__main__":
    run_command(main, PROGRAM)
