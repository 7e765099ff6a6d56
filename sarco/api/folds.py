"""A cross-validation: `cross_validate` from Python, and what ``--fold=all`` is made of."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from sarco.api.caller import left_as_found
from sarco.api.options import options_of
from sarco.api.training import CONSUMERS, Listener, Trained, check, run_training, torch_left_as_found
from sarco.core.errors import CheckpointError, InputError
from sarco.core.files import read_json
from sarco.core.messages import OnEpoch, count_of, one_line
from sarco.core.parser import build, require
from sarco.core.resources import writing
from sarco.core.tables import write_table
from sarco.core.training_options import ALL_FOLDS, DataOptions, RunOptions

if TYPE_CHECKING:  # numpy takes a moment, and -h needs none
    from sarco.quality.folds import LabelScore
    from sarco.runs.store import Run

FOLDS = 5  # of a cross-validation from Python where nobody says


@dataclass(frozen=True)
class CrossValidated:
    """What came of a cross-validation.

    Attributes:
        run_id: its folds are ``<run_id>_fold1`` and so on; `sarco.predict` takes ``<run_id>_fold*``.
        folders: of the runs that are finished.
        scores: of every patient, by the network of the fold that never saw them, a row for each label; empty where a
            fold is not finished.
        table: the file with these scores; None likewise.
        interrupted: whether Ctrl-C ended it; the same call goes on.
    """

    run_id: str
    folders: Sequence[Path]
    scores: "Sequence[LabelScore]" = ()
    table: Path | None = None
    interrupted: bool = False


def cross_validate(
    data_dir: str | Path | None = None,
    *,
    folds: int = FOLDS,
    progress: OnEpoch | None = None,
    tell: Callable[[str], object] | None = None,
    **options: Any,
) -> CrossValidated:
    """Trains a network for each fold of the patients, and scores each patient by the one that never saw them.

    The folds train one after the other; where there are several GPUs, one on each, unless ``gpu`` says which. A call
    that was broken off is repeated with the same options: finished folds stay, others go on.

    Args:
        data_dir: images with label maps, as of `sarco.train`; None takes the folder that ``sarco train`` would.
        folds: how many.
        progress: as of `sarco.train`, for one fold after the other; not called where several train at once.
        tell: called with each line for the user.
        **options: as of `sarco.train`.

    Raises:
        SarcoError: as of `sarco.train`; there are fewer patients than folds; or runs of this name are no such folds.
    """
    own = {"data_dir": data_dir, "folds": folds, "fold": ALL_FOLDS}
    typed = options_of(CONSUMERS, {"wandb": "no", **options}, **own)
    check(typed)
    with left_as_found(), torch_left_as_found():
        return run_folds(typed, Listener(tell or (lambda line: None), progress))


def run_folds(typed: Mapping[str, Any], listener: Listener) -> CrossValidated:
    """A cross-validation by its options: every fold that is not finished yet, then the scores of all.

    Raises:
        SarcoError: as of `cross_validate`.
    """
    from sarco.network.device import count_gpus
    from sarco.runs.store import id_of_fold, new_run_id

    options, folds = build(RunOptions, typed), build(DataOptions, typed).folds
    for name in ("devices", "num_nodes"):
        n = getattr(options, name)
        require(n == 1, name, n, f"a fold of --fold={ALL_FOLDS} trains on one device; drop it, or give one --fold")
    run_id = options.run_id or new_run_id()
    names = [id_of_fold(run_id, str(number)) for number in range(1, folds + 1)]
    listener.tell(f"cross-validation of {folds} folds: runs {names[0]} to {names[-1]}")
    left: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names, 1):
        wanted = _wanted_of(name, {**typed, "run_id": name, "fold": str(number)}, options.dirpath)
        if wanted is None:
            listener.tell(f"{name} is finished already")
        else:
            left[name] = wanted
    n_gpus = 1 if "gpu" in typed else count_gpus()
    train_left = _train_at_once if min(n_gpus, len(left)) > 1 else _train_in_turn
    finished = train_left(left, n_gpus, listener)
    done = [run.folder for name in names if (run := _run_of(name, options.dirpath)) and (name not in left or finished)]
    if not finished:
        return CrossValidated(run_id, done, interrupted=True)
    scores, table = _score(run_id, names, options)
    return CrossValidated(run_id, done, scores, table)


def _run_of(name: str, dirpath: Path) -> "Run | None":
    from sarco.runs.store import RunStore

    return next((run for run in RunStore(dirpath).runs() if run.run_id == name), None)


def _wanted_of(name: str, typed: Mapping[str, Any], dirpath: Path) -> dict[str, Any] | None:
    """What one would type to train this fold, or to go on with it; None where it is finished.

    Raises:
        SarcoError: the run that is there cannot go on, or was begun with other options.
    """
    from sarco.runs.resume import open_run

    run = _run_of(name, dirpath)
    if run is None or not run.checkpoint_path("last").is_file():
        return dict(typed)
    own = {key: value for key, value in typed.items() if key != "pretrained"}  # its checkpoint holds the weights
    if open_run(run.folder, own, done_too=True).why_done:
        return None
    return {**own, "resume_training": True, "ckpt_path_to_resume_from": run.folder}


def _train_in_turn(left: Mapping[str, Mapping[str, Any]], n_gpus: int, listener: Listener) -> bool:
    """One fold after the other; False where Ctrl-C ended it."""
    for name, typed in left.items():
        listener.tell(f"{name}:")
        trained = run_training(check(typed), typed, listener)
        if trained.interrupted:
            return False
        if trained.why_stopped:
            listener.tell(trained.why_stopped)
    return True


_here: dict[str, Any] = {}  # of a process that trains folds beside others: its GPU, and where its lines go


def _train_at_once(left: Mapping[str, Mapping[str, Any]], n_gpus: int, listener: Listener) -> bool:
    """A fold on each GPU, each in a process of its own; False where Ctrl-C ended it."""
    context = get_context("spawn")  # CUDA cannot be used in a fork
    gpus, lines = context.Queue(), context.Queue()
    for gpu in range(n_gpus):
        gpus.put(gpu)
    hearing = Thread(target=_hear, args=(lines, listener.tell), daemon=True)
    hearing.start()
    try:
        n = min(n_gpus, len(left))
        with ProcessPoolExecutor(n, context, initializer=_begin_process, initargs=(gpus, lines)) as pool:
            futures = [pool.submit(_train_beside, name, dict(typed)) for name, typed in left.items()]
            try:
                return not any(future.result().interrupted for future in futures)
            except KeyboardInterrupt:  # which the processes got as well
                pool.shutdown(cancel_futures=True)
                return False
    finally:
        lines.put(None)
        hearing.join()


def _hear(lines: Any, tell: Callable[[str], object]) -> None:
    for line in iter(lines.get, None):
        tell(line)


def _begin_process(gpus: Any, lines: Any) -> None:
    _here.update(gpu=gpus.get(), lines=lines)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        lines.put(f"warning: {one_line(str(message))}")

    warnings.showwarning = show


def _train_beside(name: str, typed: Mapping[str, Any]) -> Trained:
    def tell(line: str) -> None:
        _here["lines"].put(f"{name}: {line}")

    typed = {**typed, "gpu": _here["gpu"]}
    return run_training(check(typed), typed, Listener(tell))


def _score(run_id: str, names: Sequence[str], options: RunOptions) -> "tuple[list[LabelScore], Path]":
    """The scores of all folds, written beside the runs: a row for each label, and one for each patient and label.

    Raises:
        CheckpointError: a patient validated in two of them.
    """
    from sarco.quality.folds import summarise_folds
    from sarco.runs.store import RunStore, load_checkpoint
    from sarco.training.split import pseudonym

    store = RunStore(options.dirpath)
    patients: dict[str, Mapping[str, Any]] = {}
    fold_of: dict[str, str] = {}
    names_of: dict[str, str] = {}  # pseudonym to PatientID, as split.json of the run has them
    for name in names:
        run = store.find(name, options.wandb_project)
        description, _ = load_checkpoint(run.checkpoint_path("best"))
        with suppress(InputError, KeyError, TypeError):  # a run that was copied without it has its scores all the same
            names_of |= {pseudonym(patient): patient for patient in read_json(run.split_path)["val"]["patients"]}
        for patient, scores in description.validation.items():
            if patient in patients:
                raise CheckpointError(
                    f"runs {fold_of[patient]} and {name} in {store.dirpath} have a patient validate in both, so they "
                    "are no folds of the same data; give another --run_id"
                )
            patients[patient], fold_of[patient] = scores, name
    rows = summarise_folds(patients)
    table = store.dirpath / f"{run_id}_cross_validation.csv"
    with writing("the scores of all folds", table, "or choose another --dirpath"):
        write_table(table, ("label", "patients", "dice", "dice_sd", "area_error"), map(astuple, rows))
        write_table(
            table.with_name(f"{run_id}_cross_validation_patients.csv"),
            ("run_id", "patient", "label", "dice", "area_error"),
            [
                (fold_of[patient], names_of.get(patient, patient), label, *pair)
                for patient, scores in patients.items()
                for label, pair in scores.items()
            ],
        )
    return rows, table


def score_lines(found: CrossValidated) -> list[str]:
    """The scores of all patients, a line for each label."""
    return [
        f"{one.label}: Dice {one.dice:.3f} (SD {one.dice_sd:.3f}), area error {one.area_error:.1%}, "
        f"{count_of(one.n_patients, 'patient')}"
        for one in found.scores
    ]
