"""Checkpoints made to run a stranger's code, opened with every command that takes one: nothing of theirs ever runs."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from endings import ROOT, Ending, run_as_main

from model import SarcoModel
from sarco.phantom.patient import PhantomOptions, write_dataset

QUICK = ("--image_size=64", "--batch_size=4", "--gpu=-1", "--wandb=no", "--cache=no")
TRAIN, PREDICT, EXPORT = "training.py", "inference.py", "sarco"  # files are run as scripts, modules with -m

# Every command that takes a checkpoint; {run} is its folder, {out} one that may be written, {data} holds two patients.
COMMANDS: dict[str, tuple[str, ...]] = {
    "going on with a run": (
        TRAIN, "--resume_training=yes", "--ckpt_path_to_resume_from={run}", "--data_dir={data}", "--max_epochs=2",
    ),
    "going on from a file": (
        TRAIN, "--resume_training=yes", "--ckpt_path_to_resume_from={run}/best.ckpt", "--data_dir={data}",
        "--max_epochs=2",
    ),
    "first weights": (
        TRAIN, "--pretrained={run}/best.ckpt", "--data_dir={data}", "--dirpath={out}", "--max_epochs=1", *QUICK,
    ),
    "prediction": (
        PREDICT, "--infer_path={data}/P001", "--run_id=first", "--dirpath={run}/..", "--dest_dir={out}", "--gpu=-1",
        "--wandb=no", "--engine=torch",
    ),
    "prediction from an export": (
        PREDICT, "--infer_path={data}/P001", "--run_id=first", "--dirpath={run}/..", "--dest_dir={out}", "--gpu=-1",
        "--wandb=no", "--engine=auto",
    ),
    "export": (EXPORT, "export", "first", "--dirpath={run}/..", "--onnx={out}/network.onnx"),
}  # fmt: skip

STRANGER = "module_of_a_stranger"
# What Lightning looks for in the hyperparameters. Before 2.6.6 `load_from_checkpoint` imported and called whatever the
# first names (GHSA-qqmf-gpg7-g8gw); with the second, what jsonargparse then imports is named one step later.
INSTANTIATORS: dict[str, dict[str, str]] = {
    "names a function": {"_instantiator": f"{STRANGER}.build"},
    "names a class": {
        "_instantiator": "pytorch_lightning.cli.instantiate_module",
        "_class_path": f"{STRANGER}.Model",
    },
}


@dataclass(frozen=True)
class Stranger:
    """Code that must not run.

    Attributes:
        folder: holds a module that Python finds.
        trace: the file that the code leaves when it runs, whichever way.
    """

    folder: Path
    trace: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)

    def assert_absent(self) -> None:
        """Nothing of it was run or imported."""
        assert not self.trace.exists()
        assert STRANGER not in sys.modules


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    """A module that leaves a trace as soon as it is imported."""
    made = Stranger(tmp_path / "lib", tmp_path / "was here")
    made.folder.mkdir()
    content = f"from pathlib import Path\n\nPath({str(made.trace)!r}).touch()\n\n\ndef build(*args):\n    return None\n"
    (made.folder / f"{STRANGER}.py").write_text(content)
    monkeypatch.syspath_prepend(str(made.folder))
    yield made
    sys.modules.pop(STRANGER, None)


def run_here(capfd: pytest.CaptureFixture[str], program: str, *words: str) -> Ending:
    """Runs a command as the main module, and leaves nothing of it to the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SARCO_MALLOC", "default")  # the setting would stay
        patch.delenv("SARCO_RUN_ID", raising=False)
        try:
            return run_as_main(capfd, "ignore", program, *words)
        finally:
            os.environ.pop("SARCO_RUN_ID", None)  # training sets it for the processes that it starts


def assert_refused(ending: Ending, run: Path) -> None:
    """One line that names the checkpoint, an exit status, no traceback."""
    assert ending.status in (1, 2), ending.out + ending.err
    assert "Traceback" not in ending.err + ending.out
    assert len(ending.err_lines) == 1, ending.err
    assert f"{run.name}{os.sep}" in ending.err and ".ckpt: " in ending.err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small patients."""
    folder = tmp_path_factory.mktemp("hostile") / "data"
    write_dataset(folder, 2, 1, PhantomOptions(n_slices=2, rows=64, columns=72))
    return folder


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """The folder of a run of one epoch, made by the program itself, so that Lightning goes on with it."""
    folder = data.parent / "ckpt"
    command = [sys.executable, str(ROOT / TRAIN), f"--data_dir={data}", f"--dirpath={folder}", "--run_id=first"]
    command += ["--pretrained=no", "--max_epochs=1", *QUICK]
    env = {**os.environ, "GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return folder / "first_Trains"


@pytest.fixture
def call(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str, Path], Ending]:
    """Runs one of the commands on a run."""

    def run(name: str, folder: Path) -> Ending:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        return run_here(capfd, *(word.format(run=folder, data=data, out=out) for word in COMMANDS[name]))

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a checkpoint as the best and the last one of a run, and gives the run's folder."""

    def make(content: Any) -> Path:
        run = tmp_path / "ckpt" / "first_Trains"
        run.mkdir(parents=True)
        for choice in ("best", "last"):
            torch.save(content, run / f"{choice}.ckpt")
        return run

    return make


@pytest.mark.parametrize("command", COMMANDS)
def test_pickled_code_is_refused_in_one_line(
    command: str, stranger: Stranger, write: Callable[[Any], Path], call: Callable[[str, Path], Ending]
) -> None:
    """Catches a command that opens a checkpoint with plain pickle, and a traceback of torch."""
    run = write({"state_dict": {"w": stranger}, "hyper_parameters": {}, "epoch": 0})
    assert_refused(call(command, run), run)
    stranger.assert_absent()


@pytest.mark.parametrize("named", INSTANTIATORS)
@pytest.mark.parametrize("command", COMMANDS)
def test_foreign_hyperparameters_are_refused_in_one_line(
    command: str, named: str, stranger: Stranger, write: Callable[[Any], Path], call: Callable[[str, Path], Ending]
) -> None:
    """Catches a command that lets Lightning build what a checkpoint's hyperparameters name, and a KeyError."""
    run = write({"state_dict": {}, "hyper_parameters": INSTANTIATORS[named], "epoch": 0})
    ending = call(command, run)
    if command == "first weights":  # hyperparameters are not looked at, weights that are missing are told
        assert ending.status in (1, 2) and len(ending.err_lines) == 1 and "Traceback" not in ending.err
    else:
        assert_refused(ending, run)
    stranger.assert_absent()


@pytest.mark.parametrize("command", COMMANDS)
def test_hyperparameters_hidden_in_a_run_of_sarco_build_nothing(
    command: str, trained: Path, tmp_path: Path, stranger: Stranger, call: Callable[[str, Path], Ending]
) -> None:
    """Catches Lightning's own way of opening a checkpoint, where a run that is good otherwise gets as far as Lightning.

    Whether such a run is refused or used is left open; its own words are never looked at, so today it is used.
    """
    run = tmp_path / "ckpt" / trained.name
    shutil.copytree(trained, run)
    for choice in ("best", "last"):
        content = torch.load(run / f"{choice}.ckpt", weights_only=True)
        content["hyper_parameters"] |= INSTANTIATORS["names a function"]
        content["datamodule_hyper_parameters"] = INSTANTIATORS["names a function"]
        content["hparams_name"] = "kwargs"
        torch.save(content, run / f"{choice}.ckpt")
    ending = call(command, run)
    assert "Traceback" not in ending.err + ending.out
    assert ending.status == 0 or (ending.status in (1, 2) and len(ending.err_lines) == 1), ending.err
    stranger.assert_absent()


def test_a_command_as_a_user_starts_it(
    stranger: Stranger, write: Callable[[Any], Path], data: Path, tmp_path: Path
) -> None:
    """Catches a difference between the commands run in the tests' own process and a process of their own."""
    run = write({"state_dict": {}, "hyper_parameters": INSTANTIATORS["names a function"], "epoch": 0})
    program, *words = (word.format(run=run, data=data, out=tmp_path / "out") for word in COMMANDS["prediction"])
    env = {**os.environ, "PYTHONPATH": str(stranger.folder), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / program), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=250)
    assert_refused(Ending(done.returncode, done.stdout, done.stderr), run)
    stranger.assert_absent()


@pytest.mark.parametrize("named", INSTANTIATORS)
def test_this_lightning_blocks_foreign_hyperparameters(
    named: str, stranger: Stranger, write: Callable[[Any], Path]
) -> None:
    """Catches a Lightning older than 2.6.6, which runs what these checkpoints name, whoever calls it."""
    run = write({"state_dict": {}, "hyper_parameters": INSTANTIATORS[named], "pytorch-lightning_version": "2.6.5"})
    with pytest.raises(ValueError, match="blocked to prevent arbitrary code execution"):
        SarcoModel.load_from_checkpoint(run / "best.ckpt", map_location="cpu", weights_only=True)
    stranger.assert_absent()


def test_the_stranger_leaves_a_trace(stranger: Stranger) -> None:
    """The counter-check: whoever does unpickle or import it, runs it."""
    pickle.loads(pickle.dumps(stranger))
    assert stranger.trace.exists()
    stranger.trace.unlink()
    assert __import__(STRANGER).build() is None
    assert stranger.trace.exists() and STRANGER in sys.modules
