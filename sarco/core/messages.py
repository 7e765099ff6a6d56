"""Words for the user: who hears them, and what a damaged file or a library says made fit for one line."""

from collections.abc import Callable

Tell = Callable[[str, str], object]  # a line, and the reason behind it for whoever wants to know
OnEpoch = Callable[[int, int, dict[str, float]], object]  # the epoch from 1, how many there are (-1: no end), figures


def printable(text: str) -> str:
    """The text without line breaks and other control characters: it ends up in messages of one line."""
    return text if text.isprintable() else "".join(character for character in text if character.isprintable())


def one_line(text: str) -> str:
    r"""The text with all that no line can hold written out: names of files may have line breaks, bytes and codes.

    >>> print(one_line("a\nb\x1b[31m.dcm"))
    a\nb\x1b[31m.dcm
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says, short and printable; its name where it says nothing."""
    text = str(error).strip().splitlines()
    return printable(text[0])[:200] if text else type(error).__name__


def shown(value: object) -> str:
    """What a file holds, for a message: short, on one line, without control characters."""
    text = one_line(value) if isinstance(value, str) else ascii(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


def count_of(number: int, thing: str, things: str = "") -> str:
    """How many of a thing.

    >>> count_of(1, "slice"), count_of(2, "slice"), count_of(0, "entry", "entries")
    ('1 slice', '2 slices', '0 entries')
    """
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"
