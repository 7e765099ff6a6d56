"""The ``sarco`` command: ``sarco COMMAND ...`` or ``python -m sarco COMMAND ...``."""

import difflib
import os
import sys

import sarco
from sarco.commands import SUMMARIES, module_of
from sarco.core.command import run_command


def main() -> None:
    """Runs the command that the first word names; without one it tells which there are."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        from sarco.commands.completion import complete

        complete()
    words = sys.argv[1:]
    if words[:1] == ["--version"]:
        run_command(lambda argv, program: print(f"sarco {sarco.__version__}"), "sarco", [])
    elif not words or words[0] in ("-h", "--help", "help"):
        run_command(lambda argv, program: print(overview()), "sarco", [])
    elif words[0] not in SUMMARIES:
        close = difflib.get_close_matches(words[0], SUMMARIES, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        print(f"sarco: error: {words[0]!r} is no command; {meant}sarco -h lists them", file=sys.stderr)
        sys.exit(2)
    else:
        run_command(module_of(words[0]).main, f"sarco {words[0]}", words[1:])


def overview() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<9}{text}" for name, text in SUMMARIES.items()]
    return "\n".join(
        ["usage: sarco COMMAND [...]", "", *lines, "", "sarco COMMAND -h shows its options, with examples that run."]
    )


if __name__ == "__main__":
    main()
