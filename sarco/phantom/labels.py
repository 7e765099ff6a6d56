"""The labels of invented patients: one table, and what a person's own label names mean in it.

Muscles are *compartments*: the outline runs along the fascia, with its rim, and fat between the fibres, between the
bundles and between the spinous processes belongs to the muscle, as it does in reference masks drawn by hand.
"""

from collections.abc import Iterable

SIDED = (
    "abdominal_wall",  # transversus and both obliques
    "rectus_abdominis",
    "psoas",
    "iliacus",
    "paraspinal",  # erector spinae and multifidus
    "quadratus_lumborum",
    "gluteus_maximus",
    "gluteus_medius",
    "gluteus_minimus",
    "hip",  # piriformis, obturators, the flexors and adductors of the thigh
    "chest_wall",  # intercostals, serratus, latissimus, pectorals
)
MUSCLE_NAMES = tuple(f"{muscle}_{side}" for muscle in SIDED for side in ("left", "right"))
VERTEBRAE = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
OTHER_NAMES = (
    "subcutaneous_fat",
    "visceral_fat",
    "bone",  # all that has no name of its own
    *(f"vertebra_{level}" for level in VERTEBRAE),  # bodies
    "vertebra_other",  # bodies above T10, and a sixth lumbar one
    "sacrum",
    "rib_12",
    "iliac_crest",
    "body",  # everything else inside the skin
)
INVENTED_LABELS = dict(enumerate((*MUSCLE_NAMES, *OTHER_NAMES), start=1))
INVENTED_IDS = {name: label for label, name in INVENTED_LABELS.items()}


def ids_of(names: Iterable[str]) -> tuple[int, ...]:
    """The ids of these names of the table.

    Raises:
        KeyError: the table has no such name.
    """
    return tuple(INVENTED_IDS[name] for name in names)
