"""Words of others in our messages: short, on one line, without control characters."""

import pytest

from sarco.core.messages import count_of, printable, reason_of, shown


def test_only_what_can_be_printed_stays() -> None:
    """Catches a tag that clears the screen or breaks the line."""
    assert printable("a\nb\x1b[2Jc\ud800d") == "ab[2Jcd"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("first\nsecond"), "first"), (ValueError(), "ValueError"), (ValueError("x" * 999), "x" * 200)],
)
def test_reason_of_an_exception(error: Exception, reason: str) -> None:
    """Catches messages of several lines, and empty brackets."""
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain", "plain"), ("größe", "größe"), ("a\nb", r"a\nb"), (None, "None"), ([1], "[1]")],
)
def test_a_value_is_shown(value: object, text: str) -> None:
    """Catches a name whose line break splits the message."""
    assert shown(value) == text


def test_a_long_value_is_cut() -> None:
    """Catches a message that fills the screen."""
    assert len(shown("x" * 10_000)) == 300


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("slice",), "1 slice"),
        (0, ("slice",), "0 slices"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("entry", "entries"), "1 entry"),
    ],
)
def test_one_of_a_thing_is_no_plural(number: int, words: tuple[str, ...], expected: str) -> None:
    """Catches "1 slices"."""
    assert count_of(number, *words) == expected
