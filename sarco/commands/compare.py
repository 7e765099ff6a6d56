"""``sarco compare TRUTH PREDICTION``: overlap, distances and volumes of label maps, and agreement over patients."""

from collections.abc import Sequence

from sarco.core.command import print_line
from sarco.core.errors import PartlyDoneError, SarcoError
from sarco.core.options import CompareOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "compare",
        "Compares label maps: overlap, distances of surfaces, volumes, and over patients their agreement.",
        (CompareOptions,),
        words=("truth", "prediction"),
        examples=(
            "sarco compare unseen/P001.nii.gz data/preds_from_first_of_P001",
            "sarco compare unseen data --out=comparison",
        ),
    ),
)


def main(argv: Sequence[str], program: str = "sarco compare") -> None:
    """Prints each label of each patient, then what holds over patients."""
    options = build(CompareOptions, COMMANDS[0].parse(argv, program))
    from sarco.api.comparing import compare
    from sarco.comparison.agreement import check_out, describe_agreement, write_tables
    from sarco.comparison.maps import describe_row

    if options.out:
        check_out(options.out)
    found = compare(options.truth, options.prediction)
    for path in found.alone:
        print_line(f"left out: {path} has no partner of the same name", is_fault=True)
    for error in found.failed:
        print_line(f"left out: {error}", is_fault=True)
    several = found.n_pairs > 1
    for row in found.rows:
        print_line(f"{row.patient} " * several + describe_row(row, found.names))
    if several:
        print("\n".join(describe_agreement(found.summary, found.agreement, found.names)))
    if options.out and found.rows:
        write_tables(found.rows, found.names, options.out, options.csv)
        print_line(f"tables and plot: {options.out}")
    if found.failed:
        kind = PartlyDoneError if found.rows else SarcoError
        raise kind(f"{len(found.failed)} of {found.n_pairs} pairs could not be compared, the reasons stand above")
