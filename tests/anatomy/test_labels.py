"""Names: what a person's label means in the table of invented patients, and which labels a run gets."""

import numpy as np
import pytest

from sarco.anatomy.labels import (
    INVENTED_IDS,
    INVENTED_LABELS,
    MUSCLE_NAMES,
    ids_of,
    meaning_of,
    view_of,
    with_invented,
    without_others,
)
from sarco.scan.labels import LabelTable

ALL = LabelTable(INVENTED_LABELS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paraspinal", ["paraspinal_left", "paraspinal_right"]),
        ("Paraspinal-Right", ["paraspinal_right"]),
        ("autochthon_left", ["paraspinal_left"]),
        ("erector spinae", ["paraspinal_left", "paraspinal_right"]),
        ("iliopsoas_right", ["psoas_right", "iliacus_right"]),
        ("gluteus_maximus_left", ["gluteus_maximus_left"]),
        ("L_psoas", ["psoas_left"]),
        ("skeletal_muscle", MUSCLE_NAMES),
        ("muscle", MUSCLE_NAMES),
        ("quadratus_left", ["quadratus_lumborum_left"]),
        ("SAT", ["subcutaneous_fat"]),
        ("torso_fat", ["visceral_fat"]),
        ("vertebra_L3", ["vertebra_L3"]),
        ("sacrum", ["sacrum"]),
        ("abdominal_wall_left", ["abdominal_wall_left"]),
        (
            "abdominal wall",
            ["abdominal_wall_left", "abdominal_wall_right", "rectus_abdominis_left", "rectus_abdominis_right"],
        ),
        ("body", list(INVENTED_IDS)),
    ],
)
def test_names_of_others(name: str, expected: list[str]) -> None:
    """Catches a synonym that is not known, one side taken for both, and a vertebra's L for a side."""
    assert meaning_of(name) == tuple(sorted(ids_of(expected)))


@pytest.mark.parametrize("name", ["multifidus", "liver", "vertebrae_L3", "rib_left_12", "vertebra", "label_3"])
def test_what_nobody_paints_means_nothing(name: str) -> None:
    """Catches a part of a compartment that is taught as the whole of it."""
    assert meaning_of(name) == ()


def test_every_name_means_at_least_itself() -> None:
    """Catches a name of the table that is read as another one."""
    assert all(label in meaning_of(name) for label, name in INVENTED_LABELS.items())


def test_the_whole_table_is_seen_as_it_is() -> None:
    """Catches a wide label (bone, body) that swallows those inside it."""
    id_of, known = view_of(ALL)
    assert id_of[: len(INVENTED_LABELS) + 1].tolist() == list(range(len(INVENTED_LABELS) + 1))
    assert not id_of[len(INVENTED_LABELS) + 1 :].any() and known.all()


def test_sides_of_the_table_can_be_mirrored() -> None:
    """Catches a name whose mirror image nobody knows, which would end mirroring in training."""
    assert ALL.mirror_doubt() == ""


def test_a_person_s_labels_in_invented_slices() -> None:
    """Catches ids of the table in place of the person's, and a label that is known though nobody paints it."""
    table = LabelTable({3: "liver", 7: "muscle", 9: "psoas"})
    id_of, known = view_of(table)
    assert known.tolist() == [True, False, True, True]
    assert id_of[list(ids_of(["psoas_left", "psoas_right"]))].tolist() == [9, 9]
    assert id_of[INVENTED_IDS["iliacus_left"]] == 7 and id_of[INVENTED_IDS["body"]] == 0
    assert not np.isin(id_of, [3]).any()


def test_union_keeps_the_person_s_ids_and_what_they_did_not_draw() -> None:
    """Catches two labels for one thing, a person's id that moves, and labels of the built-in network that get lost."""
    table = LabelTable({2: "paraspinal", 38: "liver"})
    union = with_invented(table, INVENTED_IDS)
    assert union.names[2] == "paraspinal" and union.names[38] == "liver"
    assert set(union.names.values()) == {"paraspinal", "liver", *INVENTED_IDS} - {
        "paraspinal_left",
        "paraspinal_right",
    }
    assert len(set(union.names)) == 38 and max(union.ids) < 255


def test_a_corrected_result_of_the_built_in_network_keeps_all_labels() -> None:
    """Catches labels that are lost because the corrected slices do not hold them, though "body" and "bone" do."""
    there = ["body", "bone", "vertebra_L3", "psoas_left", "psoas_right"]
    union = with_invented(LabelTable({INVENTED_IDS[name]: name for name in there}), INVENTED_IDS)
    assert set(union.names.values()) == set(INVENTED_IDS)
    bone = with_invented(LabelTable({1: "bone"}), INVENTED_IDS)
    assert "vertebra_L3" not in bone.names.values() and "body" in bone.names.values()


def test_union_fits_into_ids_that_a_label_map_can_hold() -> None:
    """Catches ids beyond 254 where a person's are high."""
    union = with_invented(LabelTable({1: "liver", 250: "spleen"}), INVENTED_IDS)
    assert len(union.ids) == 2 + len(INVENTED_IDS) and max(union.ids) <= 254


def test_fat_and_bone_are_not_judged_as_muscle() -> None:
    """Catches flags that say of a bone label that it holds bone, and a mask of bone alone that is empty."""
    judged = without_others({1: "psoas", 2: "bone", 3: "body", 4: "subcutaneous_fat", 5: "liver", 6: "vertebra_L3"})
    assert judged[:8].tolist() == [0, 1, 0, 0, 0, 5, 0, 7] and judged[255] == 255
    assert without_others({2: "bone"})[2] == 2
