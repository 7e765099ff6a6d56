"""``sarco phantom OUT``: invented patients as DICOM CT series with exact label maps, ready to train on."""

from collections.abc import Sequence

from sarco.core.messages import count_of
from sarco.core.options import InventOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "phantom",
        "Invents patients as DICOM CT series with exact muscle label maps, ready to train on.",
        (InventOptions,),
        words=("out",),
        examples=("sarco phantom phantoms --patients=8", "sarco phantom unseen --patients=1 --seed=1001"),
    ),
)


def main(argv: Sequence[str], program: str = "sarco phantom") -> None:
    """Writes the patients and says where they are."""
    options = build(InventOptions, COMMANDS[0].parse(argv, program))
    from sarco.phantom.patient import PhantomOptions, write_dataset

    phantom = PhantomOptions(
        n_slices=options.slices,
        rows=options.size,
        columns=options.size,
        oblique=options.oblique,
        labels="groups" if options.groups else "muscle",
    )
    folders = write_dataset(options.out, options.patients, options.seed, phantom)
    print(f"{count_of(len(folders), 'patient')} with {count_of(options.slices, 'slice')} each in {options.out}")
