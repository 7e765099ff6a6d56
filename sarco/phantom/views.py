"""Coarser looks at the label table of invented patients: one label for all muscle, or groups of muscles."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.labels import INVENTED_LABELS, MUSCLE_NAMES, ids_of


def _both(*muscles: str) -> tuple[str, ...]:
    return tuple(f"{muscle}_{side}" for muscle in muscles for side in ("left", "right"))


# Name of a group: the names of the table that it holds. Together they are all muscle.
MUSCLE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "abdominal_wall": _both("abdominal_wall", "rectus_abdominis"),
    "psoas_left": ("psoas_left",),
    "psoas_right": ("psoas_right",),
    "paraspinal_left": ("paraspinal_left",),
    "paraspinal_right": ("paraspinal_right",),
    "quadratus_left": ("quadratus_lumborum_left",),
    "quadratus_right": ("quadratus_lumborum_right",),
    "chest_wall": _both("chest_wall"),
    "pelvic_muscle": _both("iliacus", "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "hip_muscle"),
}
GROUP_NAMES = dict(enumerate(MUSCLE_GROUPS, start=1))
_PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "muscle": {"skeletal_muscle": MUSCLE_NAMES},
    "groups": MUSCLE_GROUPS,
    "all": {name: (name,) for name in INVENTED_LABELS.values()},
}
LABEL_VIEWS = tuple(_PARTS)


def label_view(view: str) -> tuple[dict[int, str], NDArray[np.uint8]]:
    """How the table looks through one of `LABEL_VIEWS`.

    Returns:
        Name by label id of the view; and (256,) the view's id of each id of the table, 0 where it has none.
    """
    id_of = np.zeros(256, dtype=np.uint8)
    for label, names in enumerate(_PARTS[view].values(), start=1):
        id_of[list(ids_of(names))] = label
    return dict(enumerate(_PARTS[view], start=1)), id_of
