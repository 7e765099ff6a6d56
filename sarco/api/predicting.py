"""A trained run predicts scans: `predict` for one series from Python, `Predictor` for many, as inference.py does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco.api.caller import left_as_found
from sarco.api.options import options_of
from sarco.core.attempts import Failure
from sarco.core.command import quieten_libraries, tune_allocator
from sarco.core.errors import InputError, PartlyDoneError, SarcoError
from sarco.core.messages import Tell
from sarco.core.options import BUILT_IN, TOGETHER, InferenceOptions, MeasurementOptions
from sarco.core.parser import build, require

if TYPE_CHECKING:  # tenths of a second to import; the run is opened first, and compiles beside them
    import numpy as np
    from numpy.typing import NDArray

    from sarco.crop.slices import PreparedSlice, RestoredSlice
    from sarco.prediction.choose import Opened
    from sarco.prediction.engine import Network
    from sarco.runs.store import RunDescription
    from sarco.scan.series import Series
    from sarco.scan.view import ShownSlice

Progress = Callable[[int, int], object]
FOR_FILES = ("overwrite", "show_identity", "csv", "dicom_seg", "dicom_sr", "dicom_sc")  # what only written results have


@dataclass(frozen=True)
class PredictedSeries:
    """What a network found in a series, on the patient's own grid.

    Attributes:
        series_uid: of the scan.
        label_map: (row, column, plane) uint8 label ids; 0 is background, and where slices are missing.
        affine_lps: 4x4, (row, column, plane, 1) to LPS mm.
        labels: names by label id.
        measurements: a row for each slice and label with the figures of ``measurements.csv``, units in the names.
        summary: totals, level, SMI, cut-offs, intervals and quality flags, as ``summary.json`` has it.
        confidence: mean probability of the winning label inside the body, 0..1, by plane.
        engine: what computed it.
        folder: where the results lie; None where none were written.
        shown: the slices on the contact sheet, where one was written.
        failures: parts of the results that could not be written, and why.
    """

    series_uid: str
    label_map: "NDArray[np.uint8]"
    affine_lps: "NDArray[np.float64]"
    labels: Mapping[int, str]
    measurements: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    confidence: Mapping[int, float]
    engine: str
    folder: Path | None = None
    shown: "Sequence[ShownSlice]" = ()
    failures: Sequence[Failure] = ()


def predict(
    scan: str | Path,
    run: str = BUILT_IN,
    *,
    dest_dir: str | Path | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
    **options: Any,
) -> PredictedSeries:
    """Predicts the one series of a folder or file with a trained run, and measures what was found.

    Args:
        scan: a folder with one DICOM series, one slice, or a NIfTI volume in HU.
        run: the id of the run whose checkpoint predicts, or several with commas or ``*`` (``a_fold*``), whose
            probabilities are averaged; without it the built-in network does, which learnt from invented patients alone
            and is not validated for clinical use.
        dest_dir: results are written to ``<dest_dir>/preds_from_<run>_of_<scan name>/``, or beside it where another
            process was faster and ``overwrite`` is not asked for; None writes nothing.
        progress: called after each slice with how many are done, and how many there are; from another thread, one
            call at a time.
        tell: called with each line for the user (device, engine), and with the reason behind it.
        **options: as of ``sarco predict``, by their names: ``dirpath``, ``engine``, ``l3``, ``patients`` ... W&B
            belongs to the command alone.

    Nothing is printed. The process is left as it was found, but for glibc's allocator: it keeps big blocks from then
    on, which saves time; ``SARCO_MALLOC=default`` in the environment prevents that. The first prediction with a run
    keeps its exported network beside the checkpoint, that with the built-in network in the user's cache.

    Raises:
        SarcoError: the run or the scan cannot be used, or the scan holds several series; see `sarco.core.errors`.
        PartlyDoneError: a part of the results could not be written; what could is in its folder.
    """
    consumers = (InferenceOptions, MeasurementOptions)
    own = {"infer_path": scan, "run_id": run, "dest_dir": dest_dir, "wandb": "no", "wandb_project": None}
    typed = options_of(consumers, options, **own)
    for name in FOR_FILES if dest_dir is None else ():
        value = typed.get(name)
        require(not value, name, "yes" if value is True else value, "does nothing without dest_dir; add it")
    inferring, measuring = build(InferenceOptions, typed), build(MeasurementOptions, typed)
    tell = tell or _say_nothing
    with left_as_found():
        predictor = Predictor(inferring, measuring, tell, writes=dest_dir is not None)
        for error in predictor.left_out:
            tell(f"left out: {error}", "")
        series = predictor.only_series()
        if dest_dir is None:
            return predictor.predict(series, progress=progress)
        from sarco.io.results import all_at_once

        places = [predictor.results]
        with all_at_once(predictor.results, replace=inferring.overwrite, beside=places.append) as folder:
            predicted = predictor.predict(series, folder, progress)
        if len(places) > 1:
            tell(f"{places[0]}: holds results of another process by now; these are in {places[1]}", "")
        if predicted.failures:
            raise PartlyDoneError(describe_lack(predicted.failures, places[-1])) from predicted.failures[0].error
        return replace(predicted, folder=places[-1])


def describe_lack(failures: Sequence[Failure], place: Path) -> str:
    """Which parts of the results of a series could not be written, and why; all else is in their place."""
    reasons = "; ".join(f"{one.part} could not be written ({one.reason})" for one in failures)
    return f"{reasons}; all else is in {place}"


def _say_nothing(line: str, reason: str) -> None:
    """For whoever does not want to hear."""


class OpenedRun:
    """The checkpoint of a run, or of several as one: its network, what it says of itself, and where it comes from."""

    def __init__(self, options: InferenceOptions, tell: Tell) -> None:
        """Finds and loads it.

        Raises:
            SarcoError: there is none, it cannot be used, or not with the engine or the mirror that is asked for; or
                several do not fit together.
        """
        from sarco.prediction.choose import open_network
        from sarco.prediction.mirror import MirroredNetwork
        from sarco.runs.members import find_members, join_provenance
        from sarco.runs.store import Provenance, RunStore

        store, project = RunStore(options.dirpath), options.ckpt_wandb_project
        found = find_members(store, options.run_id, project or None, options.ckpt_choice)
        self.run_ids = TOGETHER.join(found)
        tell = _once(tell) if len(found) > 1 else tell
        members, opened = [], {}
        for run_id, checkpoint in found.items():
            provenance = Provenance.of(run_id, project, checkpoint)
            tell(provenance.notice or f"run {run_id} ({options.ckpt_choice} checkpoint): {checkpoint}", "")
            quieten_libraries()
            opened[run_id] = open_network(
                checkpoint, provenance.sha256, options.engine, options.precision, options.gpu, options.batch_size, tell
            )
            run = opened[run_id].description.run
            members.append(replace(provenance, run_id=run.run_id, wandb_project=run.wandb_project))
        self.network, self.description = _as_one(opened, tell)
        if options.tta == "mirror":
            self.network = MirroredNetwork(self.network, self.description.labels)
        self.provenance = replace(join_provenance(members), tta=options.tta, drop_islands=options.drop_islands)


def _once(tell: Tell) -> Tell:
    """Says what several networks have to say alike only once."""
    told: set[str] = set()

    def tell_once(line: str, reason: str) -> None:
        if line not in told:
            told.add(line)
            tell(line, reason)

    return tell_once


def _as_one(opened: "Mapping[str, Opened]", tell: Tell) -> "tuple[Network, RunDescription]":
    """One network of one run or of several, and what their checkpoints say.

    Raises:
        CheckpointError: they do not fit together.
    """
    if len(opened) == 1:
        (only,) = opened.values()
        return only.network, only.description
    from sarco.prediction.ensemble import EnsembleNetwork, check_together, describe_together

    descriptions = {run_id: one.description for run_id, one in opened.items()}
    check_together(descriptions)
    description, left_out = describe_together(descriptions)
    tell(f"mean of {len(opened)} runs", "")
    if left_out:
        line = f"intervals: without the validation patients of {', '.join(left_out)}, who validated other runs here"
        tell(line, "because a patient counts once")
    return EnsembleNetwork([one.network for one in opened.values()]), description


class Predictor:
    """A run at work, with its W&B run and all that has to be known before hours of work."""

    def __init__(
        self, options: InferenceOptions, measuring: MeasurementOptions, tell: Tell, writes: bool = True
    ) -> None:
        """Opens the run, looks for series, and finds out what would go wrong later.

        Args:
            options: what is predicted, and what is written.
            measuring: what is measured.
            tell: takes lines for the user, each with the reason behind it.
            writes: whether a results folder will be asked for.

        Raises:
            SarcoError: nothing there can be predicted, options, patients or series do not fit together, or a package
                is missing.
        """
        tune_allocator()
        run = OpenedRun(options, tell)  # first: engines compile in the background, while Python looks for images

        from sarco.io.images import find_images
        from sarco.measurement.series import Evidence, Plans
        from sarco.pacs.objects import Wanted

        self.options, self.run, self.tell = options, run, tell
        found = find_images(options.infer_path, options.allow_gaps)
        if not found.series:
            raise found.refused[-1]
        self.series: tuple[Series, ...] = found.series
        self.left_out: tuple[SarcoError, ...] = found.refused
        self.failed: tuple[SarcoError, ...] = found.failed  # among those that were left out
        if writes:
            self.results  # noqa: B018 - a folder that is taken is told before hours of work
        self.wanted = Wanted(options.dicom_seg, options.dicom_sr, options.dicom_sc)
        self.wanted.require_packages()
        known = run.description
        field_mm = known.data.field_mm
        evidence = Evidence(
            known.labels.names, known.area_errors, known.training_statistics, field_mm, run.provenance.notice
        )
        self.plans = Plans(found.series, measuring, evidence)
        if options.wandb == "online":
            self.logger  # noqa: B018 - a key that is missing is told before anything is predicted

    @cached_property
    def results(self) -> Path:
        """Where the results go.

        Raises:
            InputError: there are some already, and ``overwrite`` was not asked for.
        """
        from sarco.results.folder import results_path

        options = self.options
        return results_path(options.dest_dir, self.run.run_ids, options.infer_path, options.overwrite)

    def only_series(self) -> "Series":
        """The one series that was found.

        Raises:
            InputError: there are several.
        """
        if len(self.series) > 1:
            few = ", ".join(sorted({str(series.slices[0].path.parent) for series in self.series})[:3])
            raise InputError(
                f"{self.options.infer_path}: holds {len(self.series)} series (in {few}); give the folder of one"
            )
        return self.series[0]

    @cached_property
    def logger(self) -> Any:
        """The W&B run, started when the first series is done; None where none was asked for."""
        if self.options.wandb == "no":
            return None
        from sarco.runs import tracking  # takes seconds

        options = self.options

        def tell(line: str) -> None:
            self.tell(line, "")

        mode = tracking.choose_mode(options.wandb, tell)
        name = f"predictions of {options.run_id}"
        return tracking.start_logger(mode, options.wandb_project, name, options.dest_dir, tell)

    def predict(
        self, series: "Series", folder: Path | None = None, progress: Progress | None = None
    ) -> PredictedSeries:
        """Predicts and measures one of `series`.

        Args:
            series: which one.
            folder: exists and is empty; takes the results. None writes nothing.
            progress: called after each slice with how many are done, and how many there are.

        Raises:
            SarcoError: a slice cannot be read or brought back, or the label map does not lie on the scan.
            OSError: the label map cannot be written.
        """
        from sarco.core.resources import within_memory
        from sarco.prediction.pipeline import predict_series
        from sarco.results.outputs import SeriesOutputs

        description = self.run.description
        measurer = self.plans.measurer(series)
        outputs = None
        if folder is not None:
            outputs = SeriesOutputs(
                series, description.labels, measurer, self.run.provenance, self.wanted, self.options.show_identity,
                self.options.csv,
            )  # fmt: skip
        n_done = 0

        def take(prepared: "PreparedSlice", restored: "RestoredSlice") -> None:  # one at a time
            nonlocal n_done
            if outputs:
                outputs.take(prepared, restored)
            else:
                measurer.add(prepared.plane, prepared.hu, restored.label_map, restored.confidence, prepared.body)
            n_done += 1
            if progress:
                progress(n_done, len(series.slices))

        place = series.slices[0].path.parent
        with within_memory(lambda: f"{place}: predicting, {n_done} slices done", "lower --batch_size"):
            found = predict_series(
                self.run.network, series, description.data, description.labels, take, self.options.drop_islands
            )
        written = outputs.write(folder, found.label_map, found.confidence) if outputs and folder else None
        return PredictedSeries(
            series_uid=series.uid,
            label_map=found.label_map,
            affine_lps=series.affine_lps,
            labels=description.labels.names,
            measurements=written.rows if written else [asdict(row) for row in measurer.rows],
            summary=written.summary if written else measurer.summary(),
            confidence=found.confidence,
            engine=found.engine,
            folder=folder,
            shown=written.shown if written else (),
            failures=written.failures if written else (),
        )

    def log(self, predicted: PredictedSeries, name: str) -> None:
        """Logs the slices of a predicted series to W&B, where that was asked for, under a name; never fails."""
        try:
            if self.logger:
                from sarco.runs import tracking

                tracking.log_predictions(self.logger, name, predicted.shown, self.run.description.labels)
        except Exception as error:
            self._without_wandb(error)

    def finish(self) -> None:
        """Ends the W&B run, if one was started."""
        try:
            if self.__dict__.get("logger"):
                from sarco.runs import tracking

                tracking.finish()
        except Exception as error:
            self._without_wandb(error)

    def _without_wandb(self, error: Exception) -> None:
        """Goes on where W&B fails: it is never a reason to lose results."""
        self.__dict__["logger"] = None
        self.tell(f"W&B: failed ({type(error).__name__}), so nothing more is logged; the results are not concerned", "")
