"""The labels of invented patients: one table, and what a person's own label names mean in it.

Muscles are *compartments*: the outline runs along the fascia, and fat between the fibres, between the bundles and, in
a strip of 8 mm, between the spinous processes belongs to the muscle. Reference masks differ by about that much: those
drawn by hand at L3 take in the fascia and all that lies between the processes, those of networks leave both out.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sarco.scan.labels import LabelTable, read_side

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
    "hip_muscle",  # piriformis, obturators, the flexors and adductors of the thigh
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


_GLUTEAL = ("gluteus_maximus", "gluteus_medius", "gluteus_minimus")
_BONES = ("bone", *(f"vertebra_{level}" for level in VERTEBRAE), "vertebra_other", "sacrum", "rib_12", "iliac_crest")
# What others call structures of the table, TotalSegmentator among them; names as `_plain` writes them. A part of a
# compartment (multifidus), or a vertebra with its arch (vertebrae_L3), has no name here: nobody paints it.
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("paraspinals", "paraspinal_muscle", "paraspinal_muscles"), ("paraspinal",)),
    **dict.fromkeys(("autochthon", "autochthonous_back", "erector_spinae"), ("paraspinal",)),
    **dict.fromkeys(("psoas_major", "psoas_muscle"), ("psoas",)),
    **dict.fromkeys(("iliopsoas", "iliopsoas_muscle"), ("psoas", "iliacus")),
    **dict.fromkeys(("rectus", "rectus_abdominus"), ("rectus_abdominis",)),
    "quadratus": ("quadratus_lumborum",),
    **dict.fromkeys(("gluteal", "gluteals", "gluteus", "gluteal_muscles"), _GLUTEAL),
    **dict.fromkeys(("muscle", "muscles", "skeletal_muscle", "skeletal_muscles", "sm", "skm"), SIDED),
    **dict.fromkeys(("sat", "subcutaneous_adipose_tissue"), ("subcutaneous_fat",)),
    **dict.fromkeys(("vat", "visceral_adipose_tissue", "torso_fat"), ("visceral_fat",)),
    **dict.fromkeys(("bone", "bones", "skeleton"), _BONES),
    "vertebrae_sacrum": ("sacrum",),
    "whole_abdominal_wall": ("abdominal_wall", "rectus_abdominis"),
    "pelvic_muscle": ("iliacus", *_GLUTEAL, "hip_muscle"),
    "body": (*SIDED, *OTHER_NAMES),
}


def _plain(name: str) -> tuple[str, str | None]:
    """A name without its side, words in small letters with one sign between them, and the side."""
    words, side = read_side(name)
    return "_".join(words), side


_IDS_OF_PLAIN: dict[str, dict[str | None, int]] = {}
for _label, _name in INVENTED_LABELS.items():
    _stem, _side = _plain(_name)
    _IDS_OF_PLAIN.setdefault(_stem, {})[_side] = _label


def meaning_of(name: str) -> tuple[int, ...]:
    """The ids of the table that together are what somebody calls by this name; none where the table has no such thing.

    A name without a side means both sides. "bone" and "body" mean all of it.

    >>> [INVENTED_LABELS[label] for label in meaning_of("iliopsoas_left")]
    ['psoas_left', 'iliacus_left']
    """
    stem, side = _plain(name)
    found: list[int] = []
    if stem == "abdominal_wall" and side is None:  # without a side, most who say so mean the rectus too
        stem = "whole_abdominal_wall"
    for one in _SYNONYMS.get(stem, (stem,)):
        of_side = _IDS_OF_PLAIN.get(_plain(one)[0], {})
        found += [label for its, label in of_side.items() if side in (None, its)]
    return tuple(sorted(found))


def invented_names(name: str) -> tuple[str, ...]:
    """The names in the table of what somebody calls by this name, see `meaning_of`."""
    return tuple(INVENTED_LABELS[label] for label in meaning_of(name))


def without_others(names: Mapping[int, str]) -> NDArray[np.uint8]:
    """(256,) each label id, or 0 where its name is of fat, bone or the rest of the body: what is judged as muscle.

    Where nothing else is labelled, all ids stay.

    Args:
        names: by label id.
    """
    other = set(ids_of(OTHER_NAMES))
    judged = np.arange(256, dtype=np.uint8)
    left_out = [label for label, name in names.items() if meaning_of(name) and set(meaning_of(name)) <= other]
    left_out += [label for label, name in names.items() if name == "body"]
    if set(left_out) < set(names):
        judged[left_out] = 0
    return judged


def with_invented(table: LabelTable, names: Iterable[str]) -> LabelTable:
    """A person's labels, and besides them those of these names that none of the person's labels stands for.

    The person's ids stay; the others get free ones.

    Args:
        table: the person's.
        names: of the invented table; others are left out.
    """
    taken = {label for name in table.names.values() for label in _drawn_as(name, table)}
    wanted, own = set(names), set(table.names.values())
    others = [name for name, label in INVENTED_IDS.items() if name in wanted - own and label not in taken]
    top = max(table.ids)
    free = (label for label in (*range(top + 1, 255), *range(1, top)) if label not in table.names)
    return LabelTable({**table.names, **dict(zip(free, others, strict=False))})


def _drawn_as(name: str, table: LabelTable) -> tuple[int, ...]:
    """What a person drew under a name: all that it means, or, where parts of it have labels too, what is left of it."""
    meant = set(meaning_of(name))
    parts = any(set(meaning_of(other)) and set(meaning_of(other)) < meant for other in table.names.values())
    return (INVENTED_IDS[name],) if parts and name in INVENTED_IDS else tuple(meant)


def view_of(table: LabelTable) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """How invented slices look to a run with these labels.

    Where two labels overlap the narrower one counts: with "bone" and "vertebra_L3" that vertebra is no bone.

    Returns:
        (256,) the run's label id of each id of the invented table, 0 where the run has no such label; and (K,) which
        channels of the run, background first, invented slices can tell anything about.
    """
    meant = {label: meaning_of(name) for label, name in table.names.items()}
    id_of = np.zeros(256, dtype=np.uint8)
    for label in sorted(meant, key=lambda label: len(meant[label]), reverse=True):
        id_of[list(meant[label])] = label
    return id_of, np.array([True, *(bool(ids) for ids in meant.values())])
