"""The parser that is made from the fields of options dataclasses: an option *is* a field.

Its name, type, default, help and range stand in one place, see `sarco.core.options`. What was not typed is left out, so
that ``replace(stored_or_default, **typed)`` gives *default < checkpoint < typed now*.
"""

import argparse
import dataclasses
import difflib
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sarco.core.errors import OptionError

Options = TypeVar("Options")

# Headings of -h, in their order there.
HEADINGS = (
    COMMAND := "Options",
    INFERENCE := "Inference",
    MEASURING := "Measurements",
    DATA := "Data and logging",
    BASICS := "Basics",
    REGULARISATION := "Augmentation and regularisation",
    OPTIMISATION := "Optimisation",
    STACKING := "Stacking",
)

AUTO = "auto"
YES, NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def option(
    default: Any,
    group: str,
    text: str,
    *,
    name: str | None = None,
    choices: Sequence[str] = (),
    hidden: bool = False,
    auto: bool = False,
) -> Any:
    """A dataclass field that is an option.

    Args:
        default: the default; None where there is none to show.
        group: the heading that ``-h`` shows it under.
        text: its help.
        name: a second name of the option.
        choices: the words it takes.
        hidden: whether ``-h`` leaves it out.
        auto: whether the word ``auto`` stands for None: a value that is chosen by the data.
    """
    metadata = {"group": group, "help": text, "alias": name, "choices": tuple(choices), "hidden": hidden, "auto": auto}
    return field(default=default, metadata=metadata)


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raises an `OptionError` that names the option and its rule, unless the rule holds."""
    if not holds:
        raise OptionError(f"--{name}={value}: {rule}")


@dataclass(frozen=True)
class Command:
    """What a command is, for its parser, its help and its page in the documents.

    Attributes:
        name: after ``sarco``, such as ``measure`` or ``review apply``.
        description: what it does, for ``-h``.
        consumers: dataclasses whose fields are its options.
        words: fields whose values may come first as bare words, in this order.
        examples: command lines that run, for ``-h``.
    """

    name: str
    description: str
    consumers: tuple[type, ...]
    words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The command line in short."""
        return " ".join([f"sarco {self.name}", *(word.upper() for word in self.words), "[--option=value ...]"])

    def fields(self) -> dict[str, "dataclasses.Field[Any]"]:
        """Its options by name, in the order of ``-h``; a field that two consumers share stands once."""
        found = {item.name: item for consumer in self.consumers for item in dataclasses.fields(consumer)}
        return dict(sorted(found.items(), key=lambda pair: HEADINGS.index(pair[1].metadata["group"])))

    def kinds(self) -> dict[str, Any]:
        """What one value of each option is: Path, of ``tuple[Path, ...]`` too."""
        return {name: _kind_of_one(hint) for name, hint in self._hints().items()}

    def _hints(self) -> dict[str, Any]:
        hints = {name: hint for consumer in self.consumers for name, hint in get_type_hints(consumer).items()}
        return {name: hints[name] for name in self.fields()}

    def parser(self, program: str = "", add_help: bool = True) -> argparse.ArgumentParser:
        """The parser of its options.

        Args:
            program: the name that the user called it by; ``sarco NAME`` where not given.
            add_help: whether it knows ``-h``.
        """
        usage = self.usage.replace(f"sarco {self.name}", program or f"sarco {self.name}", 1)
        shown = "\n".join(f"  {line}" for line in self.examples)
        parser = _Parser(
            prog=program or f"sarco {self.name}",
            usage=usage,
            description=self.description,
            epilog=f"examples:\n{shown}" if shown else None,
            allow_abbrev=False,
            formatter_class=_Formatter,
            add_help=add_help,
        )
        # argparse's own pattern knows no exponents and would take -1e3 for an option.
        parser._negative_number_matcher = re.compile(r"^-\d*\.?\d+([eE][-+]?\d+)?$")
        hints = self._hints()
        groups: dict[str, Any] = {}
        for item in self.fields().values():
            heading = item.metadata["group"]
            if heading not in groups:
                groups[heading] = parser.add_argument_group(heading)
            _add_option(groups[heading], item, hints[item.name], item.name in self.words)
        parser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors, and reasons"
        )
        return parser

    def parse(self, argv: Sequence[str], program: str = "") -> dict[str, Any]:
        """What was typed, by field name; options that were not typed are absent.

        Args:
            argv: the words after the command's name.
            program: the name that the user called it by.

        Raises:
            OptionError: an option is unknown, given twice with different values, or its value cannot be read.
        """
        named = self._name_words(argv)
        known = {"debug"}
        for item in self.fields().values():
            known |= {item.name, *filter(None, [item.metadata["alias"]])}
        bare = " ".join(word.upper() for word in self.words)
        _explain_typos(named, known, f"; {bare} without a name comes before the options" if bare else "")
        return vars(self.parser(program).parse_args(named))

    def _name_words(self, argv: Sequence[str]) -> list[str]:
        """The words of the command line, the first bare ones with the names that they may leave out.

        >>> Command("export", "", (), words=("run_id",))._name_words(["first", "--onnx=first.onnx"])
        ['--run_id=first', '--onnx=first.onnx']
        """
        bare = list(itertools.takewhile(lambda word: word and not word.startswith("-"), argv))
        if self.words and len(bare) > len(self.words):
            takes = " ".join(word.upper() for word in self.words)
            raise OptionError(f"{bare[len(self.words)]!r} is one word too many; sarco {self.name} takes {takes}")
        bare = bare[: len(self.words)]
        return [*(f"--{name}={word}" for name, word in zip(self.words, bare, strict=False)), *argv[len(bare) :]]


def build(consumer: type[Options], typed: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Options:
    """The options of one consumer: default < stored < typed.

    Raises:
        OptionError: a value is out of its range.
    """
    names = {item.name for item in dataclasses.fields(consumer)}  # type: ignore[arg-type]
    values = {**(stored or {}), **typed}
    return consumer(**{name: value for name, value in values.items() if name in names})


def readers_of(consumer: type) -> dict[str, Callable[[str], Any]]:
    """For each option of a consumer, by its name, what makes a value of the word that one types.

    They raise an `OptionError` where the word cannot be read.
    """
    hints = get_type_hints(consumer)
    fields = dataclasses.fields(consumer)
    return {item.name: _reader(item, _kind_of_one(hints[item.name])) for item in fields}


def to_builtins(options: Any) -> dict[str, Any]:
    """The options as a checkpoint holds them: str, int, float and bool only."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in dataclasses.asdict(options).items()}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Every fault of the command line as an `OptionError`; a misspelt option with the one that was meant."""
        wrong = re.search(r"unrecognized arguments: (--\w+)", message)
        close = difflib.get_close_matches(wrong[1], self._option_string_actions, n=1) if wrong else []
        meant = f"; did you mean {close[0]}?" if close else ""
        raise OptionError(f"{message.replace('argument ', '')}{meant}; -h lists the options")


class _StoreOnce(argparse.Action):
    """Stores a value; a second, different one is an error, also under the option's other name."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, values)
        if before != values:
            names = " and ".join(self.option_strings)
            raise OptionError(f"{names}: given as {before} and as {values}; give one value")
        setattr(namespace, self.dest, values)


class _StoreSeveral(argparse.Action):
    """Collects values, from several options or, for paths, from one with commas."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if isinstance(values, Path) and not values.exists():
            found = [path_of(part) for part in str(values).split(",") if part]
        else:
            found = [values]
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *found))


_METAVARS = {Path: "PATH", bool: "yes|no", int: "N", float: "X"}


def _add_option(group: Any, item: "dataclasses.Field[Any]", kind: Any, is_word: bool) -> None:
    names = [f"--{name}" for name in (item.name, item.metadata["alias"]) if name]
    choices = item.metadata["choices"]
    default: Any = item.default
    several = get_origin(kind) is tuple
    kind = _kind_of_one(kind)
    if default is None and item.metadata["auto"]:
        default = AUTO
    elif kind is bool:
        default = "yes" if default else "no"
    shown = "" if default in (None, "", ()) else f" (default: {default})"
    words = f" [{', '.join(choices)}]" if choices and len(choices) < 6 else ""
    lead = f"({item.name.upper()} without its name comes first) " if is_word else ""
    group.add_argument(
        *names,
        dest=item.name,
        action=_StoreSeveral if several else _StoreOnce,
        type=_reader(item, kind),
        metavar=_METAVARS.get(kind, "WORD"),
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS if item.metadata["hidden"] else lead + item.metadata["help"] + words + shown,
    )


def _kind_of_one(kind: Any) -> Any:
    """Path, of Path, of Path | None and of tuple[Path, ...]."""
    kinds = [one for one in get_args(kind) if one not in (type(None), Ellipsis)]
    return kinds[0] if kinds else kind


def _reader(item: "dataclasses.Field[Any]", kind: Any) -> Callable[[str], Any]:
    name, choices, auto = item.name, item.metadata["choices"], item.metadata["auto"]

    def read(text: str) -> Any:
        if text == "":
            raise OptionError(f"--{name} has no value; write --{name}=VALUE without spaces around the =")
        if auto and text.lower() == AUTO:
            return None
        if kind is bool:
            if text.lower() in YES:
                return True
            require(text.lower() in NO, name, text, "give yes or no")
            return False
        if choices:
            require(text in choices, name, text, f"choose from {', '.join(choices)}")
        try:
            return path_of(text) if kind is Path else kind(text)
        except ValueError:
            rule = {int: "has to be a whole number", float: "has to be a number"}.get(kind, "cannot be read")
            raise OptionError(f"--{name}={text}: {rule}{' or auto' if auto else ''}") from None

    return read


def path_of(text: str | Path) -> Path:
    """The path that a word means: ``~`` and ``~user`` are home folders, also where no shell has seen to that.

    Raises:
        OptionError: there is no such user.
    """
    typed = str(text)
    expanded = os.path.expanduser(typed)  # noqa: PTH111 - Path would take ./~ for ~
    user = typed.partition("/")[0]
    if expanded == typed and typed.startswith("~"):
        raise OptionError(f"{text}: nobody's home folder is {user}; write ./{user} for a name that begins so")
    return Path(expanded)


def _explain_typos(argv: Sequence[str], known: set[str], place_of_words: str) -> None:
    """Raises an `OptionError` with the right form for slips that argparse would explain badly."""
    previous = ""
    for word in argv:
        option, _, value = word.partition("=")
        if word in ("-h", "--help"):
            previous = ""
            continue
        glued = re.search(r"--(\w+)=", value)
        if option.startswith("--") and glued and glued[1] in known:
            raise OptionError(f"{word}: a space is missing before --{glued[1]}")
        expects_value = previous.startswith("--") and "=" not in previous and previous != "--debug"
        if word.startswith("=") and expects_value:
            raise OptionError(f"{previous} {word}: write {previous}=VALUE without spaces around the =")
        if not word.startswith("--") and not expects_value:
            if previous.endswith("=") and word.startswith("="):
                raise OptionError(f"{previous} {word}: write {previous}{word[1:]}")
            if "=" in previous:
                raise OptionError(
                    f"{word!r} belongs to no option; if it is part of {previous}, write / for the space or quote it"
                    f"{place_of_words}"
                )
            rule = f"every value needs its name, as in --option=value{place_of_words}"
            raise OptionError(f"{word!r} belongs to no option; {rule}")
        previous = word
