"""``sarco`` itself: which commands there are, what it says to a slip, and that it is the scripts by another name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sarco
from sarco.__main__ import main
from sarco.commands import SUMMARIES, module_of
from sarco.commands.table import every_command
from sarco.core.parser import Command

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "cv2", "torch", "monai", "pytorch_lightning", "wandb", "pydicom", "nibabel", "tqdm", "argcomplete")


def run(*words: str, program: tuple[str, ...] = ("-m", "sarco")) -> "subprocess.CompletedProcess[str]":
    """Runs the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *program, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT.parent)


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``sarco`` in this process."""
    monkeypatch.setattr(sys, "argv", ["sarco", *words])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), *capsys.readouterr()
    return 0, *capsys.readouterr()


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("help",)])
def test_the_overview_has_a_line_for_each_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Catches a command that nobody finds."""
    status, out, err = said(capsys, monkeypatch, *words)
    assert (status, err) == (0, "")
    assert re.findall(r"^  (\w+)", out, re.MULTILINE) == list(SUMMARIES)
    assert out.startswith("usage: sarco COMMAND")


def test_a_slip_in_the_command_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback for a typo, an exit status of 0, and a hint that leads nowhere."""
    status, out, err = said(capsys, monkeypatch, "pridict", "scan")
    assert (status, out) == (2, "")
    assert err == "sarco: error: 'pridict' is no command; did you mean predict? sarco -h lists them\n"
    status, _, err = said(capsys, monkeypatch, "zzz")
    assert status == 2 and "did you mean" not in err and err.count("\n") == 1


def test_the_version_is_that_of_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a report of a fault with the wrong version in it."""
    assert said(capsys, monkeypatch, "--version") == (0, f"sarco {sarco.__version__}\n", "")


@pytest.mark.parametrize(("script", "name"), [("training.py", "train"), ("inference.py", "predict")])
def test_a_script_and_its_command_have_the_same_options(script: str, name: str) -> None:
    """Catches an option that only one of the two has; python -m sarco, from another folder, stands for ``sarco``."""
    by_script = run("-h", program=(str(ROOT / script),))
    by_command = run(name, "-h")
    assert by_script.returncode == by_command.returncode == 0
    assert by_script.stderr == by_command.stderr == ""
    bodies = [done.stdout.split("\n", 1) for done in (by_script, by_command)]
    assert bodies[0][1] == bodies[1][1]
    assert bodies[0][0].startswith(f"usage: {script} ") and bodies[1][0].startswith(f"usage: sarco {name} ")


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name)
def test_help_shows_two_examples_and_imports_nothing_heavy(command: Command) -> None:
    """Catches a ``-h`` that takes seconds, and one that leaves a newcomer without a line to copy."""
    code = (
        "import sys\nfrom sarco.__main__ import main\n"
        f"sys.argv = ['sarco', *{command.name.split()}, '-h']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = run("-c", code, program=())
    assert done.returncode == 0, done.stderr
    help_text, heavy = done.stdout.rsplit("heavy: ", 1)
    assert heavy == "[]\n"
    examples = help_text.split("\nexamples:\n")[1].splitlines()
    assert len(examples) == 2 and all(line.startswith(f"  sarco {command.name} ") for line in examples)
    assert help_text.startswith(f"usage: {command.usage}\n")


def test_help_of_review_names_both_of_its_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a command of two words that one only finds by guessing."""
    status, out, _ = said(capsys, monkeypatch, "review", "-h")
    assert status == 0
    for command in module_of("review").COMMANDS:
        assert command.usage in out
        assert all(example in out for example in command.examples)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("predict scan other --run_id=first", "'other' is one word too many; sarco predict takes INFER_PATH"),
        ("measure a b c", "'c' is one word too many; sarco measure takes IMAGE LABEL_MAP"),
        ("review apply a b c", "'c' is one word too many"),
        ("predict --run_id=first scan", "INFER_PATH without a name comes before the options"),
        ("compare --out=there one two", "TRUTH PREDICTION without a name comes before the options"),
        ("doctor padding", "'padding' belongs to no option"),
        ("review", "write sarco review apply or sarco review index"),
        ("review undo", "'undo' is neither apply nor index"),
        ("predict scan --run_id = first", "write --run_id=VALUE without spaces around the ="),
        ("predict scan --runid=first", "did you mean --run_id?"),
        ("predict", "--infer_path is missing; -h shows an example"),
        ("list", "--path is missing; -h shows an example"),
        ("measure scan", "--label_map is missing"),
    ],
)
def test_a_slip_in_the_words_is_one_line_with_the_next_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, hint: str
) -> None:
    """Catches a word that is swallowed, and a message that says what is wrong but not what is right."""
    status, out, err = said(capsys, monkeypatch, *line.split())
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith(f"sarco {line.split(maxsplit=1)[0]}: error: ")
    assert hint in err
