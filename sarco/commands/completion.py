"""What a shell may complete after ``sarco``: commands, options and their choices. Loaded only where a shell asks."""

import argparse

from sarco.commands import SUMMARIES, module_of


def parser_of_all() -> argparse.ArgumentParser:
    """One parser with every command; only for completion, because it imports them all."""
    parser = argparse.ArgumentParser(prog="sarco")
    of_first_word = parser.add_subparsers()
    for name in SUMMARIES:
        commands = module_of(name).COMMANDS
        if len(commands) == 1:
            of_first_word.add_parser(name, parents=[commands[0].parser(add_help=False)])
            continue
        of_second_word = of_first_word.add_parser(name).add_subparsers()
        for command in commands:
            word = command.name.split()[-1]
            of_second_word.add_parser(word, parents=[command.parser(add_help=False)])
    return parser


def complete() -> None:
    """Answers the shell and exits; does nothing where argcomplete is not installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser_of_all())
