"""What one sees while sarco works: in a log a line per epoch, on a terminal a bar, of an engine one short line."""

import csv
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

import inference
import sarco.prediction.choose

ROOT = Path(__file__).parents[2]
WORDS = [
    "--run_id=seen", "--max_epochs=2", "--image_size=64", "--batch_size=4", "--learning_rate=1e-3", "--pretrained=no",
    "--gpu=-1", "--wandb=no", "--num_workers=1",  # with which waiting threads sleep: then sums come out the same
]  # fmt: skip
EPOCH = re.compile(r"epoch (\d) of 2: loss \d\.\d{3}, validation loss .*, \d+ s(, \d+ s left)?")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """As a user has it who set nothing for OpenMP."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") and not name.startswith(("PL_", "SARCO_", "WANDB_"))
    }
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "HOME": str(folder), "PYTHONPATH": str(ROOT), **more}


def on_a_terminal(command: list[str], folder: Path) -> str:
    """What a command writes to a pseudo-terminal, which it takes for a person."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))  # rows and columns
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], 120)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            seen += part
        assert process.wait(60) == 0, seen.decode()
    os.close(ours)
    return seen.decode()


@pytest.fixture(scope="module")
def logged(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> "tuple[subprocess.CompletedProcess[str], Path]":
    """Plain ``python training.py`` with a loader process and redirected output; libgomp tells how it was set up."""
    folder = tmp_path_factory.mktemp("logged")
    command = [sys.executable, str(ROOT / "training.py"), f"--data_dir={tiny_run.data}", *WORDS]
    told = environment(folder, OMP_DISPLAY_ENV="verbose")
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done, folder / "checkpoints" / "seen_Trains"


def without_openmp(text: str) -> str:
    """Without what libgomp was asked to tell of itself."""
    return re.sub(r"\n?OPENMP DISPLAY ENVIRONMENT BEGIN.*?OPENMP DISPLAY ENVIRONMENT END\n", "", text, flags=re.DOTALL)


def test_a_log_has_one_line_per_epoch_and_no_bars(logged: Any) -> None:
    """Catches bars and carriage returns in a log, and epochs that are count_of from 0 or told twice."""
    done, _ = logged
    assert without_openmp(done.stderr).strip() == ""
    assert "\r" not in done.stdout and "%|" not in done.stdout and "it/s" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if "epoch" in line.lower()]
    assert [EPOCH.fullmatch(line)[1] for line in lines] == ["1", "2"], lines  # type: ignore[index]
    assert " left" in lines[0] and " left" not in lines[1]


def test_waiting_threads_sleep_in_a_plain_training(logged: Any) -> None:
    """Catches a setting that comes after libgomp was loaded: it spins, and takes the machine from other work."""
    done, _ = logged
    assert "OPENMP DISPLAY ENVIRONMENT BEGIN" in done.stderr or sys.platform != "linux"
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) <= {"0"}


def test_a_terminal_has_a_bar_and_the_same_training(logged: Any, tiny_run: Any, tmp_path: Path) -> None:
    """Catches a bar that is missing or shows v_num, and a ``sarco train`` that is not training.py."""
    seen = on_a_terminal([sys.executable, "-m", "sarco", "train", str(tiny_run.data), *WORDS], tmp_path)
    assert re.search(r"\repoch 1 of 2:.*\d+%\|", seen) and re.search(r"\repoch 2 of 2:.*\d+%\|", seen)
    assert "v_num" not in seen and "Epoch 0" not in seen
    lines = [line.split("\r")[-1] for line in seen.replace("\r\n", "\n").split("\n")]
    assert len([line for line in lines if EPOCH.fullmatch(line)]) == 2
    assert "next: sarco predict SERIES --run_id=seen" in seen
    by_script, by_command = logged[1] / "metrics.csv", tmp_path / "checkpoints" / "seen_Trains" / "metrics.csv"
    rows = []
    for path in (by_script, by_command):
        with open(path, newline="", encoding="utf-8") as file:
            rows.append(list(csv.DictReader(file)))
    assert rows[0] == rows[1]


def test_the_script_and_the_command_predict_the_same(tiny_run: Any, tmp_path: Path) -> None:
    """Catches a ``sarco predict`` that is not inference.py; on a terminal both show a bar over slices."""
    words = ["--run_id=tiny", f"--dirpath={tiny_run.dirpath}", "--gpu=-1", "--wandb=no", "--engine=torch"]
    by_script = [sys.executable, str(ROOT / "inference.py"), f"--infer_path={tiny_run.unseen}", *words]
    seen = on_a_terminal([*by_script, f"--dest_dir={tmp_path / 'script'}"], tmp_path)
    assert re.search(r"\r.*\d+%\|.*/4 \[.*slices", seen)
    by_command = [sys.executable, "-m", "sarco", "predict", str(tiny_run.unseen), *words]
    command = [*by_command, f"--dest_dir={tmp_path / 'command'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    one, two = (tmp_path / name / "preds_from_tiny_of_P001" for name in ("script", "command"))
    for name in ("measurements.csv", "summary.json", "label_map.nii.gz"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def predict(tiny_run: Any, scan: Path, folder: Path, *words: str) -> None:
    """``sarco predict`` in this process."""
    known = [f"--dirpath={tiny_run.dirpath}", "--run_id=tiny", "--gpu=-1", "--wandb=no", f"--dest_dir={folder}"]
    inference.main([str(scan), *known, *words], "sarco predict")


def test_each_series_of_a_tree_says_where_it_is(
    tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a long prediction of which one does not know how far it is, and an engine told anew for each series."""
    predict(tiny_run, tiny_run.data, tmp_path, "--engine=torch")
    out, err = capfd.readouterr()
    assert re.findall(r"^series .*$", out, re.MULTILINE) == [
        f"series {number} of 3 (P00{number}): 3 slices of 64 x 72" for number in (1, 2, 3)
    ]
    assert err == "" and "\r" not in out


@pytest.mark.parametrize("debug", [False, True])
def test_an_engine_is_one_short_line_and_its_reason_for_who_asks(
    tiny_run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    """Catches a paragraph about engines in everybody's way, and a choice that nobody can ask the reason of."""
    monkeypatch.setattr(sarco.prediction.choose, "missing_packages", lambda engine: ["openvino"])
    predict(tiny_run, tiny_run.unseen, tmp_path, *["--debug"] * debug)
    (line,) = re.findall(r"^engine: .*$", capfd.readouterr().out, re.MULTILINE)
    short = "engine: torch; pip install openvino makes it several times faster"
    assert line == (f"{short}, because openvino is not installed" if debug else short)
    assert len(short) < 80


def test_a_line_without_a_reason_has_no_comma(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches "device: CPU, " with nothing behind it."""
    for debug in (False, True):
        inference.tell(debug, "device: CPU", "")
    assert capsys.readouterr().out == "device: CPU\ndevice: CPU\n"
