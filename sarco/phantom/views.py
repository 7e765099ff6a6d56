"""Coarser looks at the label table of invented patients: one label for all muscle, or groups of muscles."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.labels import INVENTED_LABELS, invented_names, view_of
from sarco.scan.labels import LabelTable

_GROUPS = (
    "abdominal_wall",
    "psoas_left",
    "psoas_right",
    "paraspinal_left",
    "paraspinal_right",
    "quadratus_left",
    "quadratus_right",
    "chest_wall",
    "pelvic_muscle",
)
# Name of a group: the names of the table that it holds. Together they are all muscle.
MUSCLE_GROUPS: Mapping[str, tuple[str, ...]] = {name: invented_names(name) for name in _GROUPS}
GROUP_NAMES = dict(enumerate(_GROUPS, start=1))
_NAMES: Mapping[str, dict[int, str]] = {"muscle": {1: "skeletal_muscle"}, "groups": GROUP_NAMES, "all": INVENTED_LABELS}
LABEL_VIEWS = tuple(_NAMES)


@cache  # every slice of a stream asks
def label_view(view: str) -> tuple[dict[int, str], NDArray[np.uint8]]:
    """How the table looks through one of `LABEL_VIEWS`.

    Returns:
        Name by label id of the view; and (256,) the view's id of each id of the table, 0 where it has none.
    """
    names = _NAMES[view]
    return names, view_of(LabelTable(names))[0]
