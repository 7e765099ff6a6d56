"""``sarco cache FOLDER``: the prepared slices that trainings keep, with size and last use."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sarco.core.messages import count_of
from sarco.core.options import CacheOptions
from sarco.core.parser import Command, build

if TYPE_CHECKING:
    from sarco.training.cache import Entry

COMMANDS = (
    Command(
        "cache",
        "Lists the prepared slices that trainings keep, with size and last use, and what killed runs left behind.",
        (CacheOptions,),
        words=("folder",),
        examples=("sarco cache checkpoints/.cache", "sarco cache checkpoints/.cache --remove_unused=30"),
    ),
)


def main(argv: Sequence[str], program: str = "sarco cache") -> None:
    """Prints the entries of a cache folder, and those that were removed."""
    options = build(CacheOptions, COMMANDS[0].parse(argv, program))
    from sarco.training.cache import list_entries, remove_unused

    if options.remove_unused is not None:
        _tell("removed", remove_unused(options.folder, options.remove_unused))
    _tell("kept", list_entries(options.folder))


def _tell(title: str, entries: "Sequence[Entry]") -> None:
    for entry in entries:
        what = "" if entry.whole else ", left behind by a run that was killed"
        print(f"{title}: {entry.folder} {entry.size_mb:.1f} MB, last used {entry.unused_days:.1f} days ago{what}")
    print(f"{title}: {count_of(len(entries), 'entry', 'entries')}, {sum(entry.size_mb for entry in entries):.1f} MB")
