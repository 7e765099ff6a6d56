"""How scripts end: faults of the user in one line and an exit status, bugs with their traceback."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sarco.core.command import (
    Main,
    name_the_user,
    other_work_runs,
    run_command,
    share_the_cpu,
    stoppable,
    tune_allocator,
)
from sarco.core.errors import (
    CheckpointError,
    DataWarning,
    GeometryError,
    InputError,
    OptionError,
    PartlyDoneError,
    SarcoError,
)

ROOT = Path(__file__).parents[2]


def ending(main: Main) -> int:
    """The exit status of a script with this main function."""
    with pytest.raises(SystemExit) as caught:
        run_command(main, "script.py")
    return int(caught.value.code or 0)


def raiser(error: BaseException) -> Main:
    """A main function that fails."""

    def main(argv: Sequence[str], program: str) -> None:
        raise error

    return main


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line, which tests may extend."""
    argv = ["script.py", "--one=1"]
    monkeypatch.setattr(sys, "argv", argv)
    return argv


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (SarcoError, 1),
        (InputError, 1),
        (GeometryError, 1),
        (CheckpointError, 1),
        (OptionError, 2),
        (PartlyDoneError, 3),
    ],
)
def test_fault_of_the_user_is_one_line(kind: type[SarcoError], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback for bad input, a wrong exit status, and a message that breaks over lines."""
    assert ending(raiser(kind("scan: is\nnothing"))) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("script.py: error: scan: is\\nnothing")


def test_wrong_flag_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a flag error that leaves one without the next step."""
    ending(raiser(OptionError("--x=1: no")))
    assert "-h lists the options" in capsys.readouterr().err


def test_good_end_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a wrapper that swallows the words of the command line, or exits where nothing is wrong."""
    seen: list[str] = []
    run_command(lambda argv, program: seen.extend([*argv, program]), "script.py")
    assert seen == ["--one=1", "script.py"]
    run_command(lambda argv, program: seen.extend(argv), "sarco list", ["scan"])
    assert seen[-1] == "scan"
    assert capsys.readouterr() == ("", "")


def test_bug_keeps_its_traceback() -> None:
    """Catches a wrapper so wide that nobody can find a bug any more."""
    with pytest.raises(ZeroDivisionError):
        run_command(raiser(ZeroDivisionError()), "script.py")


def test_debug_shows_the_traceback(words: list[str]) -> None:
    """Catches a --debug that is parsed and forgotten."""
    words.append("--debug")
    with pytest.raises(InputError):
        run_command(raiser(InputError("scan: is nothing")), "script.py")


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback after Ctrl-C."""
    assert ending(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "script.py: interrupted\n"


def test_a_job_that_is_ended_ends_as_by_ctrl_c() -> None:
    """Catches finished work that is lost where a scheduler, and not a person, ends the job."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) == before
    with ThreadPoolExecutor() as others, stoppable():
        others.submit(stoppable().__enter__).result()  # a thread that cannot take signals does no harm


def test_reader_that_hangs_up_ends_no_work(tmp_path: Path) -> None:
    """Catches `script | head -1` that ends a prediction in the middle, or in a BrokenPipeError."""
    done = tmp_path / "done"
    code = (
        "from pathlib import Path\n"
        "from sarco.core.command import run_command\n"
        "def main(argv, program):\n"
        "    for _ in range(100000):\n"
        "        print('x' * 80)\n"
        f"    Path({str(done)!r}).touch()\n"
        "run_command(main, 'script.py')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout and script.stderr
        script.stdout.readline()
        script.stdout.close()
        assert script.stderr.read() == ""
        assert script.wait(30) == 0
    assert done.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_onto_a_full_disk_ends_no_work_but_is_told(tmp_path: Path) -> None:
    """Catches results thrown away because a log file's disk is full, and lines that are lost without a word."""
    done = tmp_path / "done"
    code = (
        "from pathlib import Path\n"
        "from sarco.core.command import run_command\n"
        f"run_command(lambda argv, program: (print('verdict', flush=True), Path({str(done)!r}).touch()), 'script.py')\n"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.exists() and ended.returncode == 3
    assert ended.stderr.count("\n") == 1 and "No space left" in ended.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8"])
def test_no_letter_ends_work(encoding: str) -> None:
    """Catches a finished prediction lost to one letter that a terminal, a pipe or a scheduler's log cannot show."""
    text = "\u2265 42 in M\udcfcller, \u5c71\u7530"  # a verdict, a folder name that is no text, a label's name
    code = (
        "import sys\n"
        "from sarco.core.command import run_command\n"
        "def main(argv, program):\n"
        f"    print({text!r})\n"
        f"    print({text!r}, file=sys.stderr)\n"
        "run_command(main, 'script.py')\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ended.stderr == (text + os.linesep).encode(encoding, "backslashreplace")


def test_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a wrapper around stdout that outlives its command, so that commands in a row wrap it ever deeper."""
    before = sys.stdout, sys.stderr
    run_command(lambda argv, program: print("one"), "script.py", [])
    assert (sys.stdout, sys.stderr) == before
    assert ending(raiser(InputError("scan"))) == 1
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("choice", ["", "default"])
def test_tuned_allocator_does_no_harm(choice: str) -> None:
    """Catches a tuning of malloc that breaks big blocks or threads."""
    code = (
        "import threading\n"
        "from sarco.core.command import tune_allocator\n"
        "tune_allocator()\n"
        "import numpy as np\n"
        "sums = []\n"
        "def work(): sums.append(sum(float(np.ones(2_000_000).sum()) for _ in range(5)))\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert sums == [1e7] * 3, sums\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"SARCO_MALLOC": choice, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_tuning_needs_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a start that fails on macOS, Windows or musl."""
    monkeypatch.setattr("sarco.core.command.platform.system", lambda: "Darwin")
    tune_allocator()
    monkeypatch.setattr("sarco.core.command.platform.system", lambda: "Linux")

    def no_such_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("sarco.core.command.ctypes.CDLL", no_such_library)
    tune_allocator()


def test_a_warning_about_data_is_one_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a line of our code, and the path of a module, in what a user reads about the data."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    run_command(lambda argv, program: None, "script.py")
    shown = warnings.formatwarning(DataWarning("all slices are of one patient"), DataWarning, "cases.py", 7)
    assert shown == "warning: all slices are of one patient\n"
    assert "old.py:7: DeprecationWarning" in warnings.formatwarning("old", DeprecationWarning, "old.py", 7)


@pytest.mark.parametrize(
    ("given", "busy", "several", "spin"),
    [
        ({}, True, False, "0"),
        ({}, False, True, "0"),
        ({}, False, False, None),
        ({"GOMP_SPINCOUNT": "7"}, True, True, "7"),
        ({"OMP_WAIT_POLICY": "active"}, True, True, None),
        ({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "7"}, True, False, "7"),
    ],
)
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(
    given: dict[str, str], busy: bool, several: bool, spin: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches threads that spin beside other work, a quiet machine slowed down, and a user who is not heeded."""
    monkeypatch.setattr("sarco.core.command.other_work_runs", lambda: busy)
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it comes back as it was
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    share_the_cpu(several)
    assert os.environ.get("GOMP_SPINCOUNT") == spin
    assert os.environ.get("OMP_WAIT_POLICY") == given.get("OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("training", ["slices"]),
        ("inference", ["scan", "--run_id=first"]),
        ("sarco.commands.export", ["first", "--onnx=first.onnx"]),
    ],
)
def test_commands_that_compute_look_around_before_torch_is_there(module: str, argv: list[str], tmp_path: Path) -> None:
    """Catches a command that never looks, or looks when libgomp has read its settings already."""
    code = f"""
import sys
import {module} as command

def look(several=False):
    sys.exit("too late" if "torch" in sys.modules else "in time")

command.share_the_cpu = look
command.main({argv!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr.strip() == "in time"


@pytest.mark.skipif(not Path("/proc/loadavg").is_file(), reason="this system does not say what runs")
def test_a_busy_neighbour_is_seen() -> None:
    """Catches a look at the load of the last minutes, or at this process itself."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as neighbour:
        assert neighbour.stdout
        neighbour.stdout.readline()
        try:
            assert any(other_work_runs() for _ in range(5))
        finally:
            neighbour.kill()


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_process_without_a_user_name_gets_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Catches a traceback of MONAI in a container whose user stands in no list; a name that is there stays."""

    def nobody(_: int) -> None:
        raise error

    monkeypatch.setenv("LOGNAME", "somebody")
    name_the_user()
    assert os.environ["LOGNAME"] == "somebody"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    name_the_user()
    assert getpass.getuser() == f"user-{os.getuid()}"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            PermissionError(13, "Permission denied", "ck/best.ckpt"),
            "ck/best.ckpt: cannot be read or written (Perm",
        ),
        (OSError(28, "No space left on device", "ph/IM0001.dcm"), "ph/IM0001.dcm: cannot be read or written (No space"),
        (
            shutil.Error([("a", "b/page", "[Errno 28] No space left on device")]),
            "b/page: cannot be written ([Errno",
        ),
        (OSError(30, "Read-only file system", "x\ny"), "x\\ny: cannot be read or written (Read-only"),
        (OSError(36, "File name too long", "x" * 5000), f"{'x' * 297}...: cannot be read or written (File name too"),
        (OSError(40, "Too many levels of symbolic links", "x"), "x: cannot be read or written (Too many"),
    ],
)
def test_what_a_disk_or_rights_refuse_is_one_line(
    fault: OSError, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback for a full disk or a closed folder, in whichever command nobody thought of it."""

    def main(argv: Sequence[str], program: str) -> None:
        raise fault

    with pytest.raises(SystemExit) as ended:
        run_command(main, "sarco", [])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sarco: error: {says}")


def test_no_name_of_a_file_breaks_the_line_or_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a message of two lines, and escape codes of a file name that reach the terminal."""

    def main(argv: Sequence[str], program: str) -> None:
        raise InputError("p\nq/\x1b[31mred\r\udcff: is empty")

    with pytest.raises(SystemExit):
        run_command(main, "sarco", [])
    err = capsys.readouterr().err
    assert err == "sarco: error: p\\nq/\\x1b[31mred\\r\\udcff: is empty\n"
