"""Keyword arguments of the Python interface become the same options that the command line has."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from sarco.core.errors import OptionError
from sarco.core.parser import readers_of


def options_of(consumers: Sequence[type], values: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """Keyword arguments, checked for their names and read as the same words on the command line are.

    So a path may be text, ``l3=4`` means ``l3="4"``, and ``"no"`` is no yes.

    Args:
        consumers: dataclasses whose fields are the options.
        values: by the options' names; None means "not given".
        **own: options that the function itself fills, so that nobody else may.

    Raises:
        OptionError: there is no such option, or its value cannot be read.
    """
    defaults = {item.name: item.default for consumer in consumers for item in dataclasses.fields(consumer)}
    readers = {name: reader for consumer in consumers for name, reader in readers_of(consumer).items()}
    known = readers.keys() - own.keys()
    if unknown := sorted(set(values) - known):
        close = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise OptionError(f"there is no option {unknown[0]!r} here; {meant}known: {', '.join(sorted(known))}")
    given = {name: value for name, value in {**values, **own}.items() if value is not None}
    return {name: _read(name, value, readers[name], defaults[name]) for name, value in given.items()}


def _read(name: str, value: Any, read: Callable[[str], Any], default: Any) -> Any:
    if type(value) is type(default) and value == default:
        return value  # "", which one cannot type, is the default of many
    if isinstance(default, tuple):  # of several values; one may stand alone
        several = value if isinstance(value, (list, tuple)) else [value]
        return tuple(read(_word_of(name, one)) for one in several)
    return read(_word_of(name, value))


def _word_of(name: str, value: Any) -> str:
    """What one would type for it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, Path, Real)):  # numpy's numbers are Real
        return str(value)
    raise OptionError(f"{name}={value!r}: cannot be read; give text, a number, a path, True or False")
