"""The parser that is made from the fields of options dataclasses: a flag *is* a field.

Its name, type, default, help and range stand in one place, see `sarco.core.options`. What was not typed is left out, so
that ``replace(stored_or_default, **typed)`` gives *default < checkpoint < typed now*.
"""

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from sarco.core.errors import OptionError

Options = TypeVar("Options")

# Headings of -h, in their order there.
HEADINGS = (
    DATA := "Data and logging",
    BASICS := "Basics",
    REGULARISATION := "Augmentation and regularisation",
    OPTIMISATION := "Optimisation",
    STACKING := "Stacking",
    INFERENCE := "Inference",
    MEASURING := "Measurements",
)

YES, NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def flag(default: Any, group: str, text: str, *, name: str | None = None, choices: Sequence[str] = ()) -> Any:
    """A dataclass field that is a flag.

    Args:
        default: the default; None where there is none to show.
        group: the heading that ``-h`` shows it under.
        text: its help.
        name: a second name of the flag.
        choices: the words it takes.
    """
    return field(default=default, metadata={"group": group, "help": text, "alias": name, "choices": tuple(choices)})


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raises an `OptionError` that names the flag and its rule, unless the rule holds."""
    if not holds:
        raise OptionError(f"--{name}={value}: {rule}")


def parse(argv: Sequence[str], consumers: Sequence[type], program: str, description: str) -> dict[str, Any]:
    """What was typed, by field name; flags that were not typed are absent.

    Args:
        argv: the words after the program's name.
        consumers: dataclasses whose fields are the flags.
        program: the script's name.
        description: what it does, for ``-h``.

    Raises:
        OptionError: a flag is unknown, given twice with different values, or its value cannot be read.
    """
    parser = _Parser(prog=program, description=description, allow_abbrev=False, formatter_class=_Formatter)
    # argparse's own pattern knows no exponents and would take -1e3 for a flag.
    parser._negative_number_matcher = re.compile(r"^-\d*\.?\d+([eE][-+]?\d+)?$")
    known: set[str] = set()
    items = [(item, get_type_hints(consumer)) for consumer in consumers for item in dataclasses.fields(consumer)]
    # Headings in their own order, which is not that of the consumers: Basics, say, are fields of several.
    for heading in sorted({item.metadata["group"] for item, _ in items}, key=HEADINGS.index):
        group = parser.add_argument_group(heading)
        for item, hints in items:
            if item.metadata["group"] == heading:
                known |= {item.name, *filter(None, [item.metadata["alias"]])}
                _add_flag(group, item, hints[item.name])
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors too")
    _explain_typos(argv, known | {"debug"})
    return vars(parser.parse_args(list(argv)))


def build(consumer: type[Options], typed: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Options:
    """The options of one consumer: default < stored < typed.

    Raises:
        OptionError: a value is out of its range.
    """
    names = {item.name for item in dataclasses.fields(consumer)}  # type: ignore[arg-type]
    values = {**(stored or {}), **typed}
    return consumer(**{name: value for name, value in values.items() if name in names})


def to_builtins(options: Any) -> dict[str, Any]:
    """The options as a checkpoint holds them: str, int, float and bool only."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in dataclasses.asdict(options).items()}


def yes_no(text: str) -> bool:
    """The value of a yes/no word, for parsers that are not made of dataclass fields."""
    if text.lower() not in (*YES, *NO):
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return text.lower() in YES


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message.replace("argument ", "") + "; -h lists the flags")


class _StoreOnce(argparse.Action):
    """Stores a value; a second, different one is an error, also under the flag's other name."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, values)
        if before != values:
            names = " and ".join(self.option_strings)
            raise OptionError(f"{names}: given as {before} and as {values}; give one value")
        setattr(namespace, self.dest, values)


class _StoreSeveral(argparse.Action):
    """Collects paths, from several flags or from one with commas."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        paths = [values] if values.exists() else [Path(part) for part in str(values).split(",") if part]
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *paths))


def _add_flag(group: Any, item: "dataclasses.Field[Any]", kind: Any) -> None:
    names = [f"--{name}" for name in (item.name, item.metadata["alias"]) if name]
    choices = item.metadata["choices"]
    default: Any = item.default
    if kind is bool:
        default = "yes" if default else "no"
    shown = "" if default in (None, "", ()) else f" (default: {default})"
    words = f" [{', '.join(choices)}]" if choices and len(choices) < 6 else ""
    if kind == Path | None:
        kind = Path
    several = kind == tuple[Path, ...]
    group.add_argument(
        *names,
        dest=item.name,
        action=_StoreSeveral if several else _StoreOnce,
        type=_reader(item.name, Path if several else kind, choices),
        metavar={Path: "PATH", tuple[Path, ...]: "PATH", bool: "yes|no", int: "N", float: "X"}.get(kind, "WORD"),
        default=argparse.SUPPRESS,
        help=item.metadata["help"] + words + shown,
    )


def _reader(name: str, kind: Any, choices: Sequence[str]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text == "":
            raise OptionError(f"--{name} has no value; write --{name}=VALUE without spaces around the =")
        if kind is bool:
            if text.lower() in YES:
                return True
            require(text.lower() in NO, name, text, "give yes or no")
            return False
        if choices:
            require(text in choices, name, text, f"choose from {', '.join(choices)}")
        try:
            return kind(text)
        except ValueError:
            rule = {int: "has to be a whole number", float: "has to be a number"}.get(kind, "cannot be read")
            raise OptionError(f"--{name}={text}: {rule}") from None

    return read


def _explain_typos(argv: Sequence[str], known: set[str]) -> None:
    """Raises an `OptionError` with the right form for slips that argparse would explain badly."""
    previous = ""
    for word in argv:
        flag_name, _, value = word.partition("=")
        if word in ("-h", "--help"):
            previous = ""
            continue
        glued = re.search(r"--(\w+)=", value)
        if flag_name.startswith("--") and glued and glued[1] in known:
            raise OptionError(f"{word}: a space is missing before --{glued[1]}")
        expects_value = previous.startswith("--") and "=" not in previous and previous != "--debug"
        if not word.startswith("--") and not expects_value:
            if previous.endswith("=") and word.startswith("="):
                raise OptionError(f"{previous} {word}: write {previous}{word[1:]}")
            if "=" in previous:
                raise OptionError(
                    f"{word!r} belongs to no flag; if it is part of {previous}, write / for the space or quote it"
                )
            raise OptionError(f"{word!r} belongs to no flag; every value needs its flag, as in --flag=value")
        previous = word
