"""The options of every command as tables for ``docs/commands.md``: ``python -m sarco.commands.table`` writes them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sarco.commands import SUMMARIES, module_of
from sarco.core.parser import AUTO, Command

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
OPTIONS_BEGIN, OPTIONS_END = "<!-- options: begin -->\n", "<!-- options: end -->\n"


def every_command() -> Iterator[Command]:
    """All commands, in the order in which they are listed."""
    for name in SUMMARIES:
        yield from module_of(name).COMMANDS


def options_of_command(command: Command) -> str:
    """One command: what it is for, how it is written, and a row for each option."""
    rows = ["| Option | Default | Meaning |", "|---|---|---|"]
    heading = ""
    for item in command.fields().values():
        if item.metadata["hidden"]:
            continue
        if item.metadata["group"] != heading:
            heading = item.metadata["group"]
            rows += [f"| **{heading}** | | |"] if heading != "Options" else []
        rows.append(_row(item))
    examples = "\n".join(command.examples)
    return (
        f"### sarco {command.name}\n\n{command.description}\n\n`{command.usage}`\n\n"
        f"```bash\n{examples}\n```\n\n" + "\n".join(rows) + "\n"
    )


def _row(item: "dataclasses.Field[Any]") -> str:
    names = ", ".join(f"`--{name}`" for name in (item.name, item.metadata["alias"]) if name)
    default: Any = item.default
    if isinstance(default, bool):
        default = "yes" if default else "no"
    if default is None and item.metadata["auto"]:
        default = AUTO
    shown = "none" if default in (None, "", ()) else f"`{default}`"
    choices = (
        f" One of {', '.join(f'`{word}`' for word in item.metadata['choices'])}." if item.metadata["choices"] else ""
    )
    text = item.metadata["help"].replace("%%", "%").replace("|", "\\|").replace("<", "\\<")
    return f"| {names} | {shown} | {text}.{choices} |"


def filled(page: str) -> str:
    """The page with the tables of now between its two marks."""
    before, after = page.split(OPTIONS_BEGIN, maxsplit=1)[0], page.split(OPTIONS_END)[1]
    tables = "\n".join(options_of_command(command) for command in every_command())
    return f"{before}{OPTIONS_BEGIN}\n{tables}\n{OPTIONS_END}{after}"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE}: options of {sum(1 for _ in every_command())} commands")


if __name__ == "__main__":
    main()
