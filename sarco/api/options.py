"""Keyword arguments of the Python interface become the same options that the command line has."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sarco.core.errors import OptionError
from sarco.core.parser import Options, build


def options_of(consumers: Sequence[type], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments, checked for their names, with text where a path is wanted made one.

    Args:
        consumers: dataclasses whose fields are the options.
        values: by the options' names; None means "not given".

    Raises:
        OptionError: there is no such option.
    """
    hints = {name: hint for consumer in consumers for name, hint in get_type_hints(consumer).items()}
    names = {item.name for consumer in consumers for item in dataclasses.fields(consumer)}
    if unknown := sorted(set(values) - names):
        raise OptionError(f"there is no option {unknown[0]!r}; known: {', '.join(sorted(names))}")
    return {name: _fit(value, hints[name]) for name, value in values.items() if value is not None}


def built(consumer: type[Options], values: Mapping[str, Any]) -> Options:
    """The options of one consumer; as `sarco.core.parser.build`, for values of `options_of`."""
    return build(consumer, values)


def _fit(value: Any, hint: Any) -> Any:
    kinds = (hint, *get_args(hint))
    if Path not in kinds:
        return value
    if Ellipsis in kinds:
        return tuple(Path(one) for one in ([value] if isinstance(value, (str, Path)) else value))
    return Path(value)
