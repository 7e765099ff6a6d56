"""`python -m sarco.export RUN --onnx FILE` writes the network of a run as an ONNX file that describes itself.

The work is done by ``export.py`` on the top floor, which has the network. Imports run one way, so it is called by name.
"""

import runpy
import sys
from collections.abc import Sequence


def name_first(argv: Sequence[str]) -> list[str]:
    """The words of the command, with its flag before the run's id where that comes first without it.

    >>> name_first(["first", "--onnx=first.onnx"])
    ['--run_id=first', '--onnx=first.onnx']
    """
    first = [word if word.startswith("-") else f"--run_id={word}" for word in argv[:1]]
    return [*first, *argv[1:]]


if __name__ == "__main__":
    sys.argv[1:] = name_first(sys.argv[1:])
    runpy.run_module("export", run_name="__main__")
