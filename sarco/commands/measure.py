"""``sarco measure IMAGE LABEL_MAP``: anybody's mask on its CT, with everything that a prediction is measured by."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from sarco.core.command import print_line
from sarco.core.errors import InputError, PartlyDoneError
from sarco.core.files import short_name
from sarco.core.options import MaskOptions, MeasurementOptions
from sarco.core.parser import Command, build
from sarco.io.results import MEASUREMENTS, SUMMARY

COMMANDS = (
    Command(
        "measure",
        "Measures a mask on its CT: areas, volumes, densities, SMI, cut-offs, and reasons to doubt them.",
        (MaskOptions, MeasurementOptions),
        words=("image", "label_map"),
        examples=(
            "sarco measure unseen/P001 unseen/P001.nii.gz --l3=4",
            "sarco measure unseen/P001 unseen/P001.nii.gz --muscle_labels=all --out=measured",
        ),
    ),
)


def main(argv: Sequence[str], program: str = "sarco measure") -> None:
    """Measures a mask, writes the result and prints it."""
    typed = COMMANDS[0].parse(argv, program)
    options, measuring = build(MaskOptions, typed), build(MeasurementOptions, typed)
    from sarco.io.nifti import nifti_stem
    from sarco.measurement.mask import measure_mask
    from sarco.measurement.report import describe_summary, write_measurements

    folder = options.out or Path(short_name(f"measurements_of_{nifti_stem(options.label_map)}"))
    if not options.overwrite and any((folder / name).exists() for name in (MEASUREMENTS, SUMMARY)):
        raise InputError(f"{folder}: holds measurements already; choose another --out, or --overwrite=yes")
    found = measure_mask(options.image, options.label_map, measuring, options.labels, print)
    try:
        place = folder if options.overwrite else free_place(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_measurements(place, found.rows, found.summary, options.csv)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    for line in describe_summary(found.summary):
        print_line(line)
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(f"results: {place / MEASUREMENTS}, {place / SUMMARY}")
    if place != folder:
        raise PartlyDoneError(f"{folder} holds measurements of another process by now, so these are in {place}")


def free_place(folder: Path) -> Path:
    """The folder, or the first one beside it whose measurements are nobody else's; from now on they are taken."""
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(short_name(f"{folder.name}_{number}"))
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (place / MEASUREMENTS).touch(exist_ok=False)
            return place
    raise AssertionError("there are numbers without end")
