"""``sarco doctor``: DICOM readers on small CT series, each with one fault and with its known truth."""

import sys
from collections.abc import Sequence
from functools import partial

from sarco.core.errors import OptionError
from sarco.core.options import DoctorOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "doctor",
        "Scores DICOM readers on CT series with one fault each: right, refused, wrong or crashed. Without options it "
        "scores sarco itself.",
        (DoctorOptions,),
        examples=(
            "sarco doctor --fault=gantry_tilt --fault=padding",
            'sarco doctor --out=scores.md --reader="my reader=dcm2niix -o {output} {input}"',
        ),
    ),
)


def main(argv: Sequence[str], program: str = "sarco doctor") -> None:
    """Scores the readers and prints a line for each."""
    options = build(DoctorOptions, COMMANDS[0].parse(argv, program))
    from sarco.doctor.score import COUNTED, as_markdown, counts, read_as_reader, read_scores, score_all, write_scores

    if options.read:
        if len(options.read) != 2:
            raise OptionError("--read: give it twice, for the folder to read and for the one to write to")
        read_as_reader(*options.read, lambda line: print(f"warning: {line}", file=sys.stderr))
        return
    if options.out:
        read_scores(options.out)
    readers, rows = score_all(options, partial(print, flush=True))
    for reader in readers:
        found = counts(rows, reader.name)
        print(f"{reader.name}: " + ", ".join(f"{found[kind]} {kind}" for kind in COUNTED if found[kind]))
    if options.out:
        write_scores(options.out, as_markdown(rows, readers))
