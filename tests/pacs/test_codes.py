"""Codes of labels: the right structure, the right side, and nothing that the name does not say."""

import pytest
from pydicom.sr.codedict import codes

from sarco.pacs.codes import code_label
from sarco.phantom.views import GROUP_NAMES

# Codes as PS3.16 prints them, from pydicom's copy of its tables.
IN_PS3_16 = {
    "skeletal_muscle": codes.SCT.SkeletalMuscle,
    "erector_spinae_left": codes.SCT.ErectorSpinaeMuscle,
    "abdominal_wall": codes.SCT.AbdominalWallMuscle,
    "visceral_fat": codes.SCT.AdiposeTissue,
    "spleen": codes.SCT.Tissue,
}


@pytest.mark.parametrize("name", IN_PS3_16)
def test_codes_are_those_of_the_standard(name: str) -> None:
    """Catches a digit that slipped in a code."""
    assert (code_label(name).type.value, code_label(name).type.scheme_designator) == IN_PS3_16[name][:2]


def test_categories_and_sides_are_those_of_the_standard() -> None:
    """Catches left for right, and a category outside CID 7150."""
    muscle, fat = code_label("iliopsoas_left"), code_label("imat")
    assert muscle.category.value == codes.cid7150.AnatomicalStructure.value
    assert fat.category.value == codes.cid7150.Tissue.value
    assert muscle.side is not None
    assert muscle.side.value == codes.cid244.Left.value
    other_side = code_label("iliopsoas_right").side
    assert other_side is not None
    assert other_side.value == codes.cid244.Right.value
    assert fat.side is None


@pytest.mark.parametrize(
    "name",
    [
        "Gluteus maximus muscle left",
        "gluteus_maximus_left",
        "gluteus-maximus-L",
        "left_gluteus_maximus",
        "GluteusMaximusLeft",
        "Gluteus maximus (links)",
    ],
)
def test_spelling_does_not_change_the_code(name: str) -> None:
    """Catches a side or a muscle that is lost with a capital, a blank or the order of words."""
    code = code_label(name)
    assert (code.type.value, code.side and code.side.meaning) == ("181674001", "Left")


@pytest.mark.parametrize("name", ["liver", "label_1", "left", "left_ventricle", "", "heart_muscle", "psoas_and_spine"])
def test_what_nobody_coded_is_called_tissue(name: str) -> None:
    """Catches a liver that is stored as muscle."""
    code = code_label(name)
    assert code.type == code.category == codes.SCT.Tissue


def test_muscles_of_the_phantom_are_muscles() -> None:
    """Catches a table that misses the names which this project itself gives."""
    for name in GROUP_NAMES.values():
        code = code_label(name)
        assert "muscle" in code.type.meaning.lower(), name
        assert (code.side is not None) == name.endswith(("left", "right")), name
