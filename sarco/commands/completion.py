"""What a shell may complete after ``sarco``: commands, options and their values. Loaded only where a shell asks."""

import argparse
from pathlib import Path

from sarco.commands import SUMMARIES, module_of
from sarco.core.parser import Command


def parser_of_all() -> argparse.ArgumentParser:
    """One parser with every command; only for completion, because it imports them all."""
    parser = argparse.ArgumentParser(prog="sarco")
    of_first_word = parser.add_subparsers()
    for name in SUMMARIES:
        commands = module_of(name).COMMANDS
        if len(commands) == 1:
            of_first_word.add_parser(name, parents=[_parser_of(commands[0])], add_help=False)
            continue
        of_second_word = of_first_word.add_parser(name).add_subparsers()
        for command in commands:
            of_second_word.add_parser(command.name.split()[-1], parents=[_parser_of(command)], add_help=False)
    return parser


def _parser_of(command: Command) -> argparse.ArgumentParser:
    """Its options with what they take; paths are left to argcomplete, which offers files."""
    from argcomplete.completers import ChoicesCompleter

    parser = command.parser()
    fields, kinds = command.fields(), command.kinds()
    for action in parser._actions:
        if action.dest in fields and kinds[action.dest] is not Path:
            known = fields[action.dest].metadata["choices"] or (("yes", "no") if kinds[action.dest] is bool else ())
            action.completer = ChoicesCompleter(dict.fromkeys(known, ""))  # type: ignore[attr-defined]
    for word in command.words:
        if kinds[word] is Path:
            parser.add_argument(f"{word}_without_name", nargs="?")
    return parser


def complete() -> None:
    """Answers the shell and exits; does nothing where argcomplete is not installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser_of_all())
