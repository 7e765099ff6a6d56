"""``sarco list PATH``: the series of a folder, and why each can or cannot be predicted."""

from collections.abc import Sequence

from sarco.core.command import print_line
from sarco.core.options import ListOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "list",
        "Lists the CT series of a folder, and why each can or cannot be predicted.",
        (ListOptions,),
        words=("path",),
        examples=("sarco list phantoms", "sarco list phantoms/P001"),
    ),
)


def main(argv: Sequence[str], program: str = "sarco list") -> None:
    """Prints one block for each series of a path, then what was not readable."""
    options = build(ListOptions, COMMANDS[0].parse(argv, program))
    from sarco.io.dicom import LISTED_COLUMNS, describe_series
    from sarco.io.images import find_images

    found = find_images(options.path)
    width = max(map(len, LISTED_COLUMNS))
    described = [describe_series(one) for one in found.listed]
    for texts in described:
        for title, text in zip(LISTED_COLUMNS, texts, strict=True):
            if text:
                print_line(f"{title:<{width}}  {text}")
        print()
    for error in found.unreadable:
        print_line(f"not readable: {error}")
    n_usable = sum(1 for texts in described if texts[-1].startswith("yes"))
    print(f"{len(described)} series, {n_usable} can be predicted")
