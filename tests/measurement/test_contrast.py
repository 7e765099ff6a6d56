"""Intravenous contrast by what people really write into its tags, in several languages."""

from typing import Any

import pytest
from dicom_parts import data_set
from pydicom import Dataset
from pydicom.sequence import Sequence

from sarco.measurement.acquisition import acquisition_of, describe_recorded_contrast
from sarco.measurement.contrast import contrast_of, plain_words

NONE = (
    "No IV contrast", "nativ", "ohne KM", "w/o", "-", "unenhanced", "plain", "non contrast", "NONE ", "N/A",
    "kein KM", "sans", "without contrast", "0 ml", "no contrast given", "W/O CONTRAST", "w/o IV contrast",
    "Non-contrast", "NATIV", "nativ CT", "CT nativ", "keine", "kein Kontrastmittel", "ohne Kontrastmittel",
    "ohne i.v. KM", "no", "none", "nil", "--", "Contrast: none", "IV contrast: no", "contrast not given",
    "Not given", "not administered", "sans injection", "sans contraste", "sin contraste", "senza mdc",
    "non-enhanced", "non enhanced", "No i.v. contrast, oral contrast given", "0", "0.0 ml", "oral only",
    "without IV", "non contrast CT", "KM-", "C-", "no contrast agent", "No contrast administered",
    "NO CONTRAST MEDIA", "nessuno", "aucun", "ingen", "zonder contrast", "geen", "bez kontrastu", "sem contraste",
    "Without", "native", "no IV", "nein", "no agent", "None given", "kein i.v. KM", "w/o contrast media",
    "Unenhanced CT", "no dye", "NC", "NCCT", "non injecté", "plain CT", "non-ce", "No Contrast/None",
    "Kontrastmittel: keines",
    "senza m.d.c.", "senza mdc e.v.", "0ml", "0 cc", "nee", "i.v. contrast: nee", "n.a.", "not applicable", "not done",
    "noncontrast", "non-con", "TDM sans injection", "sin CIV", "KM: nej", "oral contrast, no IV", "oral + nativ",
    "contrast withheld", "IV: no", "i.v.: nein", "IV-", "uten kontrast", "No oral or IV contrast",
)  # fmt: skip
GIVEN = (
    "Omnipaque 350", "Imeron 350", "Ultravist 370 100ml", "IV", "IV contrast", "Non-ionic contrast", "nonionic",
    "Isovue", "C+", "with contrast", "mit KM", "Omnipaque oral + IV", "Iohexol i.v.", "Xenetix",
    "Optiray 320, no adverse reaction", "yes", "1", "CONTRAST", "Omnipaque 350, no reaction",
    "Visipaque iv and oral", "100 ml", "Iomeron non-ionic", "Ioversol 68% (Optiray 320)",
    "portal venous", "Applied", "KM", "i.v.", "contrast", "Accupaque-300",
    "100 ml Ultravist 370 i.v.", "IV + oral", "post", "post-contrast", "postcontrast", "arterial phase", "fase portal",
    "phase portale", "portalvenös", "EV", "mdc e.v.", "con CIV", "avec injection", "IV only", "nur i.v.", "10.0 ml",
    "water oral, IV Omnipaque", "Omnipaque 350 100ml IV", "Novel agent",
)  # fmt: skip
NOT_SAID = (
    "with and without contrast", "unknown", "?", "Gastrografin", "oral", "oral contrast", "Telebrix oral", "Barium",
    "per os", "NaCl", "saline", "rectal", "Telebrix Gastro", "Wasser", "", "p.o.", "PO", "not recorded",
    "W/WO contrast", "Nonanol", "Nioxol", "see report", "not documented", "keine Angabe", "no information",
    "with/without",
    "sans contraste oral", "without contrast per os", "Omnipaque 0 ml", "Ultravist 0ml", "contrast allergy",
    "Kontrastmittelallergie", "KM-Allergie", "failed IV", "IV extravasated", "contrast free", "contraindicated",
    "nativ + pv", "nativ/PV", "nativ, dann Spätphase", "pre/post", "wwo", "with IV, no oral", "oral ja, iv nein",
    "kontrastmittelfrei", "100", "delayed", "intrathecal", "no oral", "with",
    "yes/no", "before and after", "rektal", "NG tube", "per bocca", "myelo", "sans produit de contraste", "nativ + KM",
    "nativ und venous", "none - renal failure", "平扫", "без контраста", "no iodinated contrast",
)  # fmt: skip


@pytest.mark.parametrize("agent", NONE)
def test_absence_in_words_is_no_contrast(agent: str) -> None:
    """Catches "contrast given" where somebody wrote, in whatever words, that there was none."""
    assert contrast_of(data_set(ContrastBolusAgent=agent)) is False


@pytest.mark.parametrize("agent", GIVEN)
def test_an_agent_is_contrast(agent: str) -> None:
    """Catches an agent that is overlooked because its name or a remark holds a word such as "non" or "no"."""
    assert contrast_of(data_set(ContrastBolusAgent=agent)) is True


@pytest.mark.parametrize("agent", NOT_SAID)
def test_what_says_neither_is_unknown(agent: str) -> None:
    """Catches contrast in the gut, a saline flush or a question mark that counts as contrast in the veins."""
    assert contrast_of(data_set(ContrastBolusAgent=agent)) is None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ContrastBolusAgent": "Omnipaque", "ContrastBolusRoute": "ORAL"}, None),
        ({"ContrastBolusAgent": "Omnipaque", "ContrastBolusRoute": "Per os", "ContrastBolusVolume": 500}, None),
        ({"ContrastBolusRoute": "RECTAL"}, None),
        ({"ContrastBolusAgent": "Omnipaque", "ContrastBolusRoute": "IV and oral"}, True),
        ({"ContrastBolusAgent": ["Omnipaque", "Gastrografin"]}, True),
        ({"ContrastBolusVolume": 0}, False),
        ({"ContrastBolusVolume": 90}, True),
        ({"ContrastBolusStartTime": "101500"}, True),
        ({"ContrastBolusAgent": "none", "ContrastBolusVolume": 0}, False),
        ({"ContrastBolusAgent": "none", "ContrastBolusRoute": "IV"}, False),
        ({"ContrastBolusAgent": "none", "ContrastBolusVolume": 100}, None),
        ({"ContrastBolusAgent": "nativ", "ContrastBolusStartTime": "101500"}, None),
        ({"ContrastBolusAgent": "APPLIED", "ContrastBolusVolume": 0, "ContrastBolusStartTime": "1402"}, True),
        ({"ContrastBolusVolume": 0, "ContrastBolusStartTime": "1402"}, None),
        ({"ContrastBolusRoute": "none"}, False),
        ({"ContrastBolusRoute": "IV no"}, False),
        ({"ContrastBolusRoute": "endovenosa"}, True),
        ({"ContrastBolusAgent": "Omnipaque", "ContrastBolusRoute": "oral, no IV"}, None),
        ({"ContrastBolusAgent": "Omnipaque", "ContrastBolusRoute": "IV?"}, None),
        ({"ContrastBolusAgent": "water", "ContrastBolusVolume": 500}, None),
        ({"ContrastBolusAgent": "NaCl", "ContrastBolusVolume": 50, "ContrastBolusRoute": "IV"}, None),
        ({"ContrastBolusAgent": ["Omnipaque", "NaCl"], "ContrastBolusVolume": 150}, True),
        ({"ContrastBolusAgentAdministered": "NO"}, False),
    ],
)
def test_tags_are_read_together(tags: dict[str, Any], expected: bool | None) -> None:
    """Catches a route or volume that nobody looks at, and one of two contradicting tags that wins in silence."""
    assert contrast_of(data_set(**tags)) is expected


def coded(meaning: str) -> Dataset:
    """An item of a sequence of codes."""
    return data_set(CodeMeaning=meaning)


@pytest.mark.parametrize(
    ("agent", "route", "expected"),
    [("Iohexol", "Intravenous route", True), ("Iohexol", "Oral route", None), ("Diatrizoate", "Rectal route", None)],
)
@pytest.mark.parametrize("inside", [True, False])
def test_codes_count_as_words_do(agent: str, route: str, expected: bool | None, inside: bool) -> None:
    """Catches the sequences of enhanced CT, with the route in the agent's item, and of plain CT, with it beside."""
    item, dataset = coded(agent), Dataset()
    (item if inside else dataset).ContrastBolusAdministrationRouteSequence = Sequence([coded(route)])
    dataset.ContrastBolusAgentSequence = Sequence([item])
    assert contrast_of(dataset) is expected


def test_a_contradiction_is_shown() -> None:
    """Catches "contrast not recorded" where tags do say something, and nobody can see what."""
    found = acquisition_of(data_set(ContrastBolusAgent="none", ContrastBolusVolume=100, ContrastBolusRoute="IV"))
    assert found["contrast"] is None
    assert describe_recorded_contrast(found) == "contrast not recorded (tags say 'none', 'IV')"
    assert describe_recorded_contrast({"contrast": True, "contrast_agent": "Imeron"}) == "contrast given"


def test_long_text_takes_no_time() -> None:
    """Catches a pattern that tries every way to cut a long damaged text."""
    assert contrast_of(data_set(ContrastBolusAgent="non contrast " * 5000)) is False
    assert len(plain_words("x " * 5000)) < 500
