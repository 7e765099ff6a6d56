"""What a shell completes after ``sarco``, asked as argcomplete's shell function asks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sarco.commands import SUMMARIES

pytest.importorskip("argcomplete", reason="argcomplete is not installed")
ROOT = Path(__file__).parents[2]


def completed(line: str, folder: Path) -> list[str]:
    """What is offered behind a line: the answer comes on file descriptor 8."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    shell = ["sh", "-c", 'exec "$@" 8>&1 1>/dev/null', "sh"]
    command = [*shell, sys.executable, "-m", "sarco"]
    environment = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stderr == ""
    return [word.strip() for word in done.stdout.split("\n") if word]


def test_commands_are_offered(tmp_path: Path) -> None:
    """Catches a completion that knows other commands than there are."""
    assert [word for word in completed("sarco ", tmp_path) if not word.startswith("-")] == list(SUMMARIES)
    assert completed("sarco pre", tmp_path) == ["predict"]
    assert {"apply", "index"} <= set(completed("sarco review ", tmp_path))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sarco predict --ckpt_c", ["--ckpt_choice"]),
        ("sarco predict unseen/P001 --run_id=first --eng", ["--engine"]),
        ("sarco review apply --a", ["--add_to", "--all_slices"]),
        ("sarco predict --engine=o", ["--engine=openvino", "--engine=onnx"]),
        ("sarco predict --engine ", ["auto", "torch", "openvino", "onnx"]),
        ("sarco predict --overwrite=", ["--overwrite=yes", "--overwrite=no"]),
        ("sarco train --mixup=", ["--mixup=no", "--mixup=input", "--mixup=manifold"]),
        ("sarco predict --run_id=", []),
        ("sarco predict --read", []),
        ("sarco predict uns", ["unseen/"]),
        ("sarco measure unseen uns", ["unseen/"]),
        ("sarco predict --dest_dir=uns", ["--dest_dir=unseen/"]),
    ],
)
def test_options_values_and_paths_are_offered(line: str, offered: list[str], tmp_path: Path) -> None:
    """Catches options without their choices, files offered where a number or an id is wanted, and paths that are not
    offered where one may leave the name of the option out."""
    (tmp_path / "unseen").mkdir()
    (tmp_path / "other").mkdir()
    assert completed(line, tmp_path) == offered


def test_it_costs_nothing_where_no_shell_asks() -> None:
    """Catches argcomplete, and every command, imported at each start."""
    code = (
        "import sys\nfrom sarco.__main__ import main\nsys.argv = ['sarco', '--version']\nmain()\n"
        "print([m for m in sys.modules if m in ('argcomplete', 'argparse') or m.startswith('sarco.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
