"""What counts as Hounsfield units in DICOM: what is no axial CT in HU is refused with its reason, or told as a doubt.

Modality CT says little: perfusion maps, projections, iodine images and screenshots carry it too. So a file has to say
nothing that speaks against HU, in any of the places where files say it.

Source: DICOM PS3.3 C.8.2.1 (CT Image; value 4 of multi-energy images: VMI, MAT_SPECIFIC, MAT_REMOVED, EFF_ATOMIC_NUM,
ELECTRON_DENSITY ...), C.8.15.2 and C.8.15.3 (Enhanced CT), C.8.16.2 (image type, derived contrast), C.11.1 (rescale),
C.7.6.16.2.11 (real world values). Words beyond these are those that scanners and workstations write: of Siemens CT_SOM5
SPI, SEQ, SPO, MPR, MIP, TOP and PROT, CT_SOM7 VPCT with AVG, MIP and BF, CT_SOM8 PERF, CT_SOM10 with VMI, ME60KEV and
DEMEP, CSA MPR, CSAMIP, CSAPARALLEL, PROJECTION IMAGE (conformance statement of syngo MMWP 2008B); of GE GSI MD; of
several REFORMATTED and AVERAGE (series of OSIC and TCIA). Words of no list make a derived image doubtful and leave an
original one alone.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pydicom

from sarco.core.errors import InputError, OtherKindError
from sarco.core.messages import shown
from sarco.io.dicom_tags import number_of, text_of, value_of
from sarco.scan.hu import FLOOR_HU, OFF_SCALE

KIND_TAGS = (
    "SOPClassUID", "Modality", "ImageType", "SamplesPerPixel", "PhotometricInterpretation", "PixelPresentation",
    "VolumeBasedCalculationTechnique", "Units", "MeasurementUnitsCodeSequence", "RealWorldValueMappingSequence",
    "RescaleType", "RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation",
    "SeriesDescription", "DerivationDescription",
)  # fmt: skip

_HU_UNITS = {"", "HU", "[HNSF'U]", "HNSF'U", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS"}
_RESCALE_TYPES = {*_HU_UNITS, "US"}  # unspecified, which some anonymisers make of everything; pixels have to show air
_GREY = ("", "MONOCHROME1", "MONOCHROME2")
_SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
_SCALE_TAGS = ("RescaleSlope", "RescaleIntercept")
_LEAST_AIR_HU, _LEAST_BONE_HU = -950.0, 700.0  # what a scale of CT reaches from and to
_LEAST_TOP_HU = 200.0  # a scale that ends below cannot hold muscle with contrast
COARSE_HU = 4.0  # a grey level; papers tell muscle from fat at -29 and -30

# Words of ImageType that say that values are something else, or no sum along a ray any more. Signs between them vary.
_OTHER: Mapping[str, str] = {
    "a perfusion map": (
        "R?CBF R?CBV R?BF R?BV PBV LUNGPBV PS KTRANS MTT TTP TTD TMAX T0 TIMETOPEAK TIMETODRAIN MEANTRANSITTIME "
        "TRANSITTIME PERFUSION PERMEABILITY FLOW BLOODFLOW BLOODVOLUME PERF PARAMETRIC VENTILATION XENON"
    ),
    "a map of a material": (
        "IODINE JOD GADOLINIUM GSIMD WATER CALCIUM HAP URICACID URIC MATSPECIFIC MATFRACTIONAL MATVALUEBASED "
        "FATFRACTION MATERIAL MATERIALDENSITY BASISMATERIAL [A-Z]+MAP MAP"
    ),
    "a map of atomic numbers, electron density or stopping power": (
        "ZEFF EFFZ EFFECTIVEZ ZEFFECTIVE (EFF|EFFECTIVE)?ATOMIC(NUM|NUMBER)? ELECTRONDENSITY ED RED EDW RHO RHOZ "
        "SPR STOPPINGPOWER"
    ),
    "a combination of images, not HU": (
        "SUBTRACTION SUBTRACTED SUBTRACT SUB DSA DIFFERENCE DIFF DIVISION MULTIPLICATION ADDITION MASKED STDDEVIATION "
        "TTEST ZSCORE VELOCITY FUSION FUSED"
    ),
    "a projection or rendering, not slices": (
        "[A-Z]*MIP(THICK|THIN)? MAXIP MAXIMUM MINIP MINIMUM AVGIP RAYSUM PROJECTION PROJECTIONIMAGE VRT VR SSD VOLREN "
        "VOLUMERENDER VOLUMERENDERED VOLUMERENDERING RENDERED RENDERING SURFACERENDER CURVED CURVEDMPR CPR SCREENSAVE "
        "SCREENCAPTURE SCREENSHOT"
    ),
    "a map of labels": "SEGMENTATION SEGMENTED SEG MASK LABEL LABELS",
    "a dose or its report": "RTDOSE DOSEINFO DOSEREPORT DOSERECORD DOSESUMMARY DOSEMAP CTSOM\\d+PROT",
    "a localizer (scout view), not a stack of slices": (
        "LOCALIZER LOCALISER SCOUT TOPOGRAM SURVIEW SCANOGRAM PILOT CTSOM\\d+TOP"
    ),
}
_REFORMATTED = "reformatted or averaged: edges and density are blurred"
# Words that leave HU what they are, more or less.
_DOUBTFUL: Mapping[str, str] = {
    "a virtual monoenergetic image: its HU depend on the energy": (
        "MONO MONOENERGETIC MONOE MONOPLUS VMI DEMEP (ME|MONO)?\\d*KEV"
    ),
    "a virtual non-contrast or material-free image: its HU are computed": (
        "VNC VUE VIRTUALUNENHANCED VIRTUALNONCONTRAST MATREMOVED MATMODIFIED"
    ),
    _REFORMATTED: "MPR CSAMPR(THICK)? REFORMATTED REFORMAT AVERAGE AVG MEAN MEDIAN RESAMPLED INTERPOLATED",
}
# What a description says in words with a space between them. The name of a contrast medium is no map of it, an energy
# in steps of tube voltages is a slip for kV, and what series are made for or before they are not themselves.
_ENERGY = r"(?!(?:80|90|100|110|120|130|135|140|150) ?KEV)\d+ ?KEV"
_SAID = (
    r"(?:(?:MIN|MAX|AVG?|AVERAGE) ?IP|THICK ?MIP|MIPS?|VRT|MONO ?[E+]|MONO ?PLUS|MONO ?ENERG\w*|MONO ?CHROM\w*|MONO \d+"
    rf"|MONO ?\d+ ?KEV|\d+ ?KEV MONO|{_ENERGY}|IODINE|JODKARTE|(?:FAT|CALCIUM|WATER) MAP|PERF|PERFUSION|PERMEABILITY"
    r"|R?C?B[FV]|MTT|TTP|TTD|T ?MAX|BLOOD (?:FLOW|VOLUME)|PBV|Z ?EFF\w*|EFF\w* Z|EFF\w* ATOMIC\w*|RHO Z"
    r"|ELECTRON DENSITY|URIC ACID|VNC|VUE|VIRTUAL\w* (?:TRUE )?(?:UNENHANCED|NATIVE|NON ?CONTRAST|NON ENHANCED)"
    r"|MATERIAL DENSITY|MAT DENSITY|SUBTRACT\w*)(?![\w+])"
)
_IN_DESCRIPTIONS = re.compile(rf"\b{_SAID}")
_PURPOSE = re.compile(rf"\b(?:FOR|PRE|POST|BEFORE|AFTER|NO|WITHOUT)(?:(?: AND| OR|) {_SAID})+")
_CONTRAST_MEDIUM = re.compile(
    r"\b(?:WITH|W|IV|I V|ORAL|INTRAVENOUS|NON) (?:IV |ORAL )?IODINE\b"
    r"|\bIODINE (?:BASED |IV )?(?:CONTRAST|ALLERG\w*|INTOLERAN\w*|INJECT\w*|CM|BOLUS|FREE|I?V)\b"
)


def check_kind(path: Path, dataset: pydicom.Dataset) -> None:
    """Refuses what says of itself that it is no CT in HU.

    Args:
        path: the file, for messages.
        dataset: its header, or that of one frame laid flat.

    Raises:
        OtherKindError: it is something else; says what.
        InputError: a tag that says it is damaged.
    """
    modality = text_of(path, dataset, "Modality")[:16]
    if modality != "CT":
        lost = not modality and "ImagePositionPatient" in dataset  # it was a slice of something
        kind = InputError if lost else OtherKindError
        raise kind(f"{path}: Modality is {modality or 'missing'}, but only CT can be used; leave this file out")
    photometric = text_of(path, dataset, "PhotometricInterpretation").upper()
    presentation = text_of(path, dataset, "PixelPresentation").upper()
    if (
        (number_of(path, dataset, "SamplesPerPixel") or 1) != 1
        or photometric not in _GREY
        or presentation not in ("", "MONOCHROME")
    ):
        raise OtherKindError(f"{path}: holds colours, not Hounsfield units; leave this file out")
    if other := _other_kind(text_of(path, dataset, "ImageType")):
        raise OtherKindError(f"{path}: is {other}; choose the series in HU")
    technique = text_of(path, dataset, "VolumeBasedCalculationTechnique").upper()
    if technique not in ("", "NONE", "MPR"):
        raise OtherKindError(
            f"{path}: is computed by {shown(technique)}, so it is no slice in HU; choose another series"
        )
    for unit in _other_units(path, dataset):
        raise OtherKindError(f"{path}: {shown(unit)}, but only HU can be used; choose the series in HU")


def check_scale(path: Path, dataset: pydicom.Dataset) -> None:
    """Refuses a scale on which no HU of a body can stand, such as one whose intercept was lost.

    Raises:
        InputError: the lowest or the highest value that the tags allow is no HU of air or of a body.
    """
    lowest, highest = _ends_of_scale(path, dataset)
    if lowest < highest and (lowest > FLOOR_HU or highest < _LEAST_TOP_HU):
        slope, intercept, bits = (number_of(path, dataset, tag) for tag in (*_SCALE_TAGS, "BitsStored"))
        raise InputError(
            f"{path}: by {bits:g} bits, RescaleSlope {slope:g} and RescaleIntercept {intercept:g} values run from "
            f"{lowest:g} to {highest:g}, which is no CT in HU (air is -1000); export the series with its own rescale"
        )


def scale_of(path: Path, dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """RescaleSlope and RescaleIntercept; None where one of them is missing."""
    slope, intercept = (number_of(path, dataset, tag) for tag in _SCALE_TAGS)
    return None if slope is None or intercept is None else (slope, intercept)


def _ends_of_scale(path: Path, dataset: pydicom.Dataset) -> tuple[float, float]:
    """The lowest and the highest HU that the tags allow; without limits where they do not say."""
    scale = scale_of(path, dataset)
    bits, signed = (number_of(path, dataset, tag) for tag in ("BitsStored", "PixelRepresentation"))
    if scale is None or bits is None or signed not in (0, 1) or not 1 <= bits <= 32:
        return -math.inf, math.inf  # whoever reads the pixels looks at them, or says what is missing
    ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    lowest, highest = sorted(scale[0] * end + scale[1] for end in ends)
    return lowest, highest


def find_doubts(path: Path, dataset: pydicom.Dataset) -> tuple[str, ...]:
    """Why the HU of a file that can be used may not be those of a plain CT, a line each."""
    tags = ("ImageType", "VolumeBasedCalculationTechnique", "SOPClassUID", "SeriesDescription", "DerivationDescription")
    slope, ends = number_of(path, dataset, "RescaleSlope"), _ends_of_scale(path, dataset)
    return _doubts(slope, ends, *(text_of(path, dataset, tag) for tag in tags))


@lru_cache(maxsize=1024)  # slices of a series say the same
def _doubts(
    slope: float | None,
    ends: tuple[float, float],
    image_type: str,
    technique: str,
    sop_class: str,
    *descriptions: str,
) -> tuple[str, ...]:
    words = _words(image_type)
    found = [what for what, several in _DOUBTFUL.items() if _first_match(words, several)]
    if not found and technique.upper() == "MPR":
        found = [_REFORMATTED]
    if not found and words[:1] == ["DERIVED"]:
        found = [f"a derived image (ImageType {shown(image_type)[:80]}): its HU are computed from others"]
    if not found and (said := next(filter(None, map(_doubtful_words, descriptions)), "")):
        found = [f"something else than plain CT, as its description says ({said.lower()})"]
    if sop_class.startswith(_SECONDARY_CAPTURES):
        found.append("a secondary capture: nobody says that its values are those of the scanner")
    if slope is not None and abs(slope) >= COARSE_HU:
        found.append(f"coarse: one grey level is {abs(slope):.3g} HU, so areas within a range of HU are off")
    if ends[0] < ends[1] and (ends[0] > _LEAST_AIR_HU or ends[1] < _LEAST_BONE_HU):
        found.append(f"{OFF_SCALE}: its values can only run from {ends[0]:g} to {ends[1]:g}, not from air to bone")
    return tuple(found)


def _doubtful_words(description: str) -> str:
    """What of a description says that an image is no plain CT; empty where nothing does."""
    words = " ".join(re.findall(r"\w+|\+", description.upper().replace("_", " ")))
    words = _PURPOSE.sub(" ", _CONTRAST_MEDIUM.sub(" ", words.replace(" +", "+")))
    said = _IN_DESCRIPTIONS.search(words)
    return said[0] if said else ""


@lru_cache(maxsize=1024)
def _other_kind(image_type: str) -> str:
    """What an image is by its ImageType, where that is no CT slice in HU; else empty."""
    words = _words(image_type)
    for what, several in _OTHER.items():
        if found := _first_match(words, several):
            return f"{what} (ImageType has {found})"
    return ""


def _words(text: str) -> list[str]:
    """Words in capitals: those between backslashes, quotes and spaces, and with the signs inside them left out."""
    parts = [part for part in re.split(r"[\\\s,;'\[\]()/]+", text.upper()) if part]
    joined = [re.sub(r"[^A-Z0-9]", "", part) for part in parts]
    inner = [word for part in parts for word in re.split(r"[^A-Z0-9]+", part)]
    pairs = [one + two for one, two in pairwise(joined)]
    return [*joined, *inner, *pairs]


def _first_match(words: list[str], several: str) -> str:
    """The first of the words that is one of several, or one of them and a number; empty where none is."""
    pattern = re.compile(rf"(?:{'|'.join(several.split())})\d*")
    return next((word for word in words if pattern.fullmatch(word)), "")


def _other_units(path: Path, dataset: pydicom.Dataset) -> list[str]:
    """What a file says of the unit of its values, where that is not HU."""
    kind, unit = (text_of(path, dataset, tag) for tag in ("RescaleType", "Units"))
    said = [] if kind.upper() in _RESCALE_TYPES else [f"RescaleType is {kind}"]
    said += [] if unit.upper() in _HU_UNITS else [f"its unit is {unit}"]
    codes = [*(value_of(path, dataset, "MeasurementUnitsCodeSequence") or [])]
    for mapping in value_of(path, dataset, "RealWorldValueMappingSequence") or []:
        codes += value_of(path, mapping, "MeasurementUnitsCodeSequence") or []
    named = [text_of(path, code, "CodeValue") or text_of(path, code, "CodeMeaning") for code in codes]
    if not any(name.upper() in _HU_UNITS - {""} for name in named):  # a mapping to HU among others is fine
        said += [f"its unit is {name or 'another'}" for name in named]
    return said
