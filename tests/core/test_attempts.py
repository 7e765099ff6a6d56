"""Work of several parts: one that fails costs no other, and what is told of it names no patient."""

from pathlib import Path

import pytest

from sarco.core.attempts import Attempts, Failure, reason_without_values, write_tracebacks
from sarco.core.errors import InputError

SECRET = "Geheim^Person"


def fails(error: BaseException) -> object:
    """Raises it."""
    raise error


def test_a_part_that_fails_costs_no_other() -> None:
    """Catches an error that goes through, a part that is tried again after it failed, and a result that gets lost."""
    attempts = Attempts()
    assert attempts.run("page", fails, ValueError("x")) is None
    assert attempts.run("table", lambda: 7) == 7
    assert attempts.run("page", fails, KeyboardInterrupt()) is None, "a failed part is not tried again"
    assert [one.part for one in attempts.failures] == ["page"]
    assert attempts.run("memory", fails, MemoryError()) is None
    with pytest.raises(KeyboardInterrupt):
        attempts.run("other", fails, KeyboardInterrupt())


@pytest.mark.parametrize(
    ("error", "said", "foreseen"),
    [
        (InputError("a.dcm: is\nno CT; leave it out"), r"a.dcm: is\nno CT; leave it out", True),
        (OSError(28, "No space left on device", "out/a.csv"), "No space left on device: out/a.csv", True),
        (
            OSError(28, "No space left on device", "out\x1b[2J\n.csv"),
            r"No space left on device: out\x1b[2J\n.csv",
            True,
        ),
        (MemoryError("Unable to allocate 3 GiB"), "there is not enough memory", True),
        (ValueError(f"could not convert string to float: {SECRET!r}"), "an unforeseen ValueError", False),
        (KeyError(SECRET), "an unforeseen KeyError", False),
    ],
)
def test_reasons_hold_no_values_of_the_data(error: Exception, said: str, foreseen: bool) -> None:
    """Catches a library's words in a log: pydicom repeats names and birth dates in its errors."""
    assert reason_without_values(error) == said
    assert Failure("part", error).is_foreseen == foreseen


def test_tracebacks_are_kept_without_values(tmp_path: Path) -> None:
    """Catches a bug that nobody can find afterwards, one that hides the other, and a patient's name in the file."""
    failures = []
    for number in (1, 2):
        try:
            try:
                fails(ValueError(SECRET))
            except ValueError as error:
                raise KeyError(f"{SECRET} {number}") from error
        except KeyError as error:
            failures.append(Failure(f"P00{number}: \udcfc page", error))
    path = tmp_path / "new" / "errors.txt"
    assert write_tracebacks(path, failures[:1]) and write_tracebacks(path, failures[1:])
    text = path.read_text(encoding="utf-8")
    assert SECRET not in text
    assert text.count("builtins.ValueError") == text.count("builtins.KeyError") == 2
    assert "P001" in text and "P002" in text and "in fails" in text and Path(__file__).name in text
    (tmp_path / "file").touch()
    assert not write_tracebacks(tmp_path / "file" / "errors.txt", failures)
