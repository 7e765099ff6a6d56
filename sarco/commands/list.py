"""``sarco list PATH``: the series of a folder, and why each can or cannot be predicted; what a training would find."""

from collections.abc import Sequence

from sarco.core.command import print_line
from sarco.core.options import ListOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "list",
        "Lists the CT series of a folder, why each can or cannot be predicted, and what a training would find.",
        (ListOptions,),
        words=("path",),
        examples=("sarco list phantoms", "sarco list phantoms/P001"),
    ),
)


def main(argv: Sequence[str], program: str = "sarco list") -> None:
    """Prints one block for each series of a path, what was not readable, then what lies there for a training."""
    options = build(ListOptions, COMMANDS[0].parse(argv, program))
    from sarco.core.errors import InputError
    from sarco.io.dicom import LISTED_COLUMNS, FoundSeries, describe_series
    from sarco.io.images import find_images
    from sarco.layouts.survey import survey

    lines, data = survey(options.path) if options.path.is_dir() else ([], None)
    try:
        found = find_images(options.path, without={case.image for case in (*data.cases, *data.tests)} if data else ())
    except InputError:
        if not lines:
            raise
        found = FoundSeries(())
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
    for line in lines:
        print_line(f"for training: {line}")
