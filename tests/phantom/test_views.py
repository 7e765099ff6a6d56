"""Views of the label table hold the same muscle."""

import numpy as np

from sarco.anatomy.labels import INVENTED_IDS, INVENTED_LABELS, MUSCLE_NAMES, ids_of
from sarco.phantom.views import GROUP_NAMES, LABEL_VIEWS, MUSCLE_GROUPS, label_view


def test_groups_hold_every_muscle_once() -> None:
    """Catches a muscle that a group forgets, or that two groups share."""
    members = [name for names in MUSCLE_GROUPS.values() for name in names]
    assert sorted(members) == sorted(MUSCLE_NAMES)


def test_views_agree_on_what_muscle_is() -> None:
    """Catches views that drift apart, and ids that do not follow the table."""
    ids = {view: label_view(view)[1] for view in LABEL_VIEWS}
    np.testing.assert_array_equal(ids["muscle"] > 0, ids["groups"] > 0)
    assert set(np.flatnonzero(ids["muscle"])) == set(ids_of(MUSCLE_NAMES))
    np.testing.assert_array_equal(ids["all"][: len(INVENTED_LABELS) + 1], np.arange(len(INVENTED_LABELS) + 1))
    assert ids["groups"][INVENTED_IDS["psoas_right"]] == 3


def test_names_of_the_views() -> None:
    """Catches names that moved to another id."""
    assert label_view("muscle")[0] == {1: "skeletal_muscle"}
    assert label_view("groups")[0] == GROUP_NAMES
    assert label_view("all")[0] == INVENTED_LABELS
