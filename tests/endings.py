"""How a command ends that a test runs in its own process, which has the libraries loaded already."""

import runpy
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def err_lines(self) -> list[str]:
        """Lines on stderr, without progress bars."""
        lines = self.err.replace("\r", "\n").split("\n")
        return [line for line in lines if line.strip() and not line.startswith("reading slices")]


def run_as_main(
    capfd: pytest.CaptureFixture[str], action: Literal["default", "ignore"], program: str, *words: object
) -> Ending:
    """Runs a script of the root, or a module by its name, as the main module; output of threads is caught too.

    Args:
        capfd: catches the output.
        action: what happens to warnings.
        program: ``training.py``, say, or ``sarco``.
        words: the command line.
    """
    capfd.readouterr()
    status: Any = 0
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter(action)
        patch.setattr(sys, "argv", [program, *map(str, words)])
        patch.syspath_prepend(str(ROOT))
        try:
            if program.endswith(".py"):
                runpy.run_path(str(ROOT / program), run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__")
        except SystemExit as end:
            status = end.code
    out, err = capfd.readouterr()
    return Ending(int(status or 0), out, err)
