"""``sarco measure IMAGE LABEL_MAP``: anybody's mask on its CT, with everything that a prediction is measured by."""

from collections.abc import Sequence
from pathlib import Path

from sarco.core.errors import InputError
from sarco.core.options import MaskOptions, MeasurementOptions
from sarco.core.parser import Command, build

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
    from sarco.io.results import MEASUREMENTS, SUMMARY
    from sarco.measurement.mask import measure_mask
    from sarco.measurement.report import describe_summary, write_measurements

    folder = options.out or Path(f"measurements_of_{nifti_stem(options.label_map)}")
    if not options.overwrite and any((folder / name).exists() for name in (MEASUREMENTS, SUMMARY)):
        raise InputError(f"{folder}: holds measurements already; choose another --out, or --overwrite=yes")
    found = measure_mask(options.image, options.label_map, measuring, options.labels, print)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_measurements(folder, found.rows, found.summary)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    for line in describe_summary(found.summary):
        print(line)
    for note in found.notes:
        print(f"note: {note}")
    print(f"results: {folder / MEASUREMENTS}, {folder / SUMMARY}")
