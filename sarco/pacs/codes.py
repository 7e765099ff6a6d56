"""Which coded concept a label's name stands for in DICOM results.

Names that nobody coded here are called what they are: tissue, under the label's own name. A code that says too little
is harmless, one that says something wrong is not.
"""

from dataclasses import dataclass

from pydicom.sr.coding import Code

from sarco.scan import labels

# SNOMED CT. Source: PS3.16 CID 7150 (categories), 7151, 7154 and 6116 (types), 244 (sides); muscles that PS3.16 lacks:
# https://github.com/wasserth/TotalSegmentator, resources/totalsegmentator_snomed_mapping.csv
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
SIDES = {labels.LEFT: Code("7771000", "SCT", "Left"), labels.RIGHT: Code("24028007", "SCT", "Right")}
SKELETAL_MUSCLE = Code("127954009", "SCT", "Skeletal muscle")
DEEP_MUSCLE_OF_BACK = Code("244849004", "SCT", "Deep muscle of back")
ERECTOR_SPINAE = Code("44947003", "SCT", "Erector spinae muscle")
ILIOPSOAS = Code("68455001", "SCT", "Iliopsoas muscle")
GLUTEUS_MAXIMUS = Code("181674001", "SCT", "Gluteus maximus muscle")
GLUTEUS_MEDIUS = Code("78333006", "SCT", "Gluteus medius muscle")
GLUTEUS_MINIMUS = Code("75297007", "SCT", "Gluteus minimus muscle")
ABDOMINAL_WALL_MUSCLE = Code("1142228004", "SCT", "Abdominal wall muscle")
FAT = Code("55603005", "SCT", "Fat")

_MUSCLES = {
    "skeletal": SKELETAL_MUSCLE,
    "": SKELETAL_MUSCLE,  # the label is called "muscle"
    "autochthon": DEEP_MUSCLE_OF_BACK,
    "paraspinal": DEEP_MUSCLE_OF_BACK,
    "erector_spinae": ERECTOR_SPINAE,
    "iliopsoas": ILIOPSOAS,
    "gluteus_maximus": GLUTEUS_MAXIMUS,
    "gluteus_medius": GLUTEUS_MEDIUS,
    "gluteus_minimus": GLUTEUS_MINIMUS,
    "abdominal_wall": ABDOMINAL_WALL_MUSCLE,
    # PS3.16 and the table above have no code of their own for these; they are skeletal muscle for certain.
    "psoas": SKELETAL_MUSCLE,
    "psoas_major": SKELETAL_MUSCLE,
    "quadratus": SKELETAL_MUSCLE,
    "quadratus_lumborum": SKELETAL_MUSCLE,
    "rectus_abdominis": SKELETAL_MUSCLE,
    "multifidus": SKELETAL_MUSCLE,
    "chest_wall": SKELETAL_MUSCLE,
    "pelvic": SKELETAL_MUSCLE,
    "iliacus": SKELETAL_MUSCLE,
}
_FAT = {"fat", "torso_fat", "subcutaneous_fat", "visceral_fat", "intermuscular_fat", "sat", "vat", "imat"}


@dataclass(frozen=True)
class LabelCode:
    """What a label is, coded.

    Attributes:
        category: CID 7150.
        type: the structure.
        side: left or right; None where the name names none.
    """

    category: Code
    type: Code
    side: Code | None


def code_label(name: str) -> LabelCode:
    """The codes of a label's name; capitals, spaces and hyphens do not matter.

    >>> [code_label("Iliopsoas left").type.meaning, code_label("Iliopsoas left").side.meaning]
    ['Iliopsoas muscle', 'Left']
    >>> code_label("liver").type.meaning
    'Tissue'
    """
    words, read = labels.read_side(name)
    side = SIDES[read] if read else None
    is_named_muscle = bool(words) and words[-1] in ("muscle", "muscles")
    stem = "_".join(words[:-1] if is_named_muscle else words)
    if stem in _FAT:
        return LabelCode(TISSUE, FAT, side)
    if stem in _MUSCLES and (stem or is_named_muscle):
        return LabelCode(ANATOMICAL_STRUCTURE, _MUSCLES[stem], side)
    return LabelCode(TISSUE, TISSUE, side)
