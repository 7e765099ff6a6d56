"""``sarco review apply`` and ``sarco review index``: corrections back in, and a page over several results."""

from collections.abc import Sequence

from sarco.core.command import print_line
from sarco.core.errors import OptionError
from sarco.core.messages import count_of
from sarco.core.options import ApplyOptions, IndexOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "review apply",
        "Makes corrections of a review page the label map of its results folder, and measures again.",
        (ApplyOptions,),
        words=("results", "corrections"),
        examples=(
            "sarco review apply data/preds_from_first_of_P001 corrections.json",
            "sarco review apply data/preds_from_first_of_P001 corrections.json --add_to=phantoms",
        ),
    ),
    Command(
        "review index",
        "Lists the results below a folder on one page, flagged ones first.",
        (IndexOptions,),
        words=("folder",),
        examples=("sarco review index data", "sarco review index data/preds_from_first_of_P001"),
    ),
)


def main(argv: Sequence[str], program: str = "sarco review") -> None:
    """Applies corrections, or writes the list of reviews."""
    by_word = {command.name.split()[-1]: command for command in COMMANDS}
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print("\n\n".join(_explain(command) for command in COMMANDS))
        return
    if word not in by_word:
        wrong = f"{word!r} is neither apply nor index" if word else "neither apply nor index is given"
        raise OptionError(f"{wrong}; write sarco review apply or sarco review index")
    typed = by_word[word].parse(argv[1:], f"{program} {word}")
    if word == "index":
        _index(build(IndexOptions, typed))
    else:
        _apply(build(ApplyOptions, typed))


def _explain(command: Command) -> str:
    """A command in a few lines; its own ``-h`` tells the options."""
    examples = "\n".join(f"    {example}" for example in command.examples)
    return f"usage: {command.usage}\n  {command.description}\n  examples:\n{examples}"


def _index(options: IndexOptions) -> None:
    from sarco.review.index import write_index

    count, page = write_index(options.folder)
    print_line(f"{count_of(count, 'result')}: {page}")


def _apply(options: ApplyOptions) -> None:
    from sarco.review.apply import apply_corrections

    applied = apply_corrections(
        options.results,
        options.corrections,
        add_to=options.add_to,
        all_slices=options.all_slices,
        scan=options.scan,
    )
    print_line(f"{count_of(len(applied.slices), 'slice')} corrected: {applied.review}")
    if applied.case:
        print_line(f"training case: {applied.case}")
