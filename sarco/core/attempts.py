"""Work of several parts, where one that fails costs no other: what failed is kept, and told in one line."""

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from sarco.core.errors import SarcoError
from sarco.core.messages import one_line, shown

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A part that could not be done.

    Attributes:
        part: what it was, in words.
        error: why.
    """

    part: str
    error: Exception

    @property
    def is_foreseen(self) -> bool:
        """Whether what it says was written for the user."""
        return isinstance(self.error, (SarcoError, OSError, MemoryError))

    @property
    def reason(self) -> str:
        """Why, in one line. What a library says is not repeated: it may hold what a header says of the patient."""
        return reason_without_values(self.error)


class Attempts:
    """The parts of a piece of work, and which of them failed."""

    def __init__(self) -> None:
        """Nothing failed yet."""
        self.failures: list[Failure] = []

    def run(
        self, part: str, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result | None:
        """Works on a part, where it has not failed before.

        Returns:
            What the work gives; None where it failed, now or before. Only an interruption goes through.
        """
        if any(one.part == part for one in self.failures):
            return None
        try:
            return work(*args, **kwargs)
        except Exception as error:
            self.failures.append(Failure(part, error))
            return None


def reason_without_values(error: BaseException) -> str:
    """Why something failed, in one line, without what a library says of the data at hand."""
    if isinstance(error, SarcoError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {shown(str(error.filename))}" if error.filename else "")
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"an unforeseen {type(error).__name__}"


def write_tracebacks(path: Path, failures: Sequence[Failure]) -> bool:
    """Adds the tracebacks of failures to a file: places in the code and kinds of exceptions, but no values.

    Args:
        path: the file; made, with the folders above it, where it is not there.
        failures: at least one.

    Returns:
        Whether it could be written.
    """
    text = "\n".join(f"{one.part}\n{_traceback_of(one.error)}" for one in failures)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text + "\n")
        return True
    return False


def _traceback_of(error: BaseException) -> str:
    """Like Python's own, but without the exceptions' texts, which may hold what a header says of the patient."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lead = f"{_traceback_of(before)}\nwhich led to\n" if before else ""
    lines = "".join(traceback.format_tb(error.__traceback__))
    return f"{lead}{lines}{type(error).__module__}.{type(error).__qualname__}"
