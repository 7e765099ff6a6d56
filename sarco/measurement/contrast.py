"""Whether intravenous contrast was given, by the tags of a slice: they hold words of many languages.

What moves the density of muscle is contrast in its vessels. Contrast in the gut, in a joint or in the bladder is none
of it, and a tag that says "none" in whatever words says that there was none.
"""

import re
import unicodedata
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

_LONGEST = 200  # characters that are looked at
_MEDIUM = (
    r"(?:contrast\w*|kontrast\w*|contraste|contrasto|civ|km|kms|m ?d ?c|pdc|pci|agent|dye|bolus|"
    r"enhanc\w*|medium|media|c|ce)"
)
_INTO_VEINS = (
    r"(?:i ?v|intra ?v\w*|intra ?arteri\w*|i ?a|e ?v|endoven\w*|venous|venos\w*|vein\w*|veine\w*|vena\w*|vascular|"
    r"parenter\w*)"
)
_NOT = (
    r"(?:no|non|none|not|nil|without|w ?/ ?o|wo|w o|ohne|kein\w*|nein|nee|nej|nei|nem|nie|nao|hayir|sans|sin|senza|sem|"
    r"zonder|geen|utan|uden|ingen|bez|brak|uten|ikke|fara|nincs|nelkul|yok|withheld|refused|declined|ei|ilman|aucun\w*|nessun\w*|ningun\w*|nenhum\w*)"
)
_GUT = r"(?:oral\w*|per ?os|p ?o|rect\w*|rekt\w*|enteral\w*|peroral\w*)"
_GIVEN = r"(?:given|administered|used|injected|applied|performed|gegeben|verabreicht|appliziert|injecte\w*|enhanced)"
_PLAIN = r"(?:plain|nat[ei]v\w*|native ?phase|un ?enhanced|pre ?contrast|ncct|nect|nc|non ?con(?:trast)?)"
_BESIDE_NOT = (
    rf"(?:ml|cc|cm3|{_MEDIUM}|{_INTO_VEINS}|{_NOT}|{_GIVEN}|any|was|required|needed|applicable|done|injection\w*|scan|ct|"
    r"study|phase)"
)
_NONE = re.compile(
    rf"(?:0+(?:[.,]0+)?(?: ?(?:ml|cc))?|n ?/? ?a|n|o|nihil|null|{_NOT}|{_PLAIN})(?: {_BESIDE_NOT})*"
    rf"|{_INTO_VEINS} {_NOT}"
    rf"|(?:{_INTO_VEINS} )?{_MEDIUM}(?: {_MEDIUM})* (?:was )?{_NOT}(?: {_GIVEN})?"
    rf"|(?:\w+ )*(?:nat[ei]v|un ?enhanced|non ?enhanced)"
)
_NOT_INTO_VEINS = re.compile(rf"\b{_NOT} (?:(?:any|oral|rectal|or|nor|{_MEDIUM}) ){{0,4}}{_INTO_VEINS}\b")
_NONE_INTO_VEINS = re.compile(
    rf"{_NOT_INTO_VEINS.pattern}"
    rf"|\b{_NOT} (?:{_MEDIUM}\b(?! ?reaction)(?!.*\b{_GUT}\b)|injection\b)|\bnat[ei]v\b"
)
_NATIVE = re.compile(r"\bnat[ei]v\w*")
_JOINED = re.compile(r"/|\b(?:and|und|et|e|y|then|dann|puis)\b")
# Contrast is spoken of, but whether it got into the veins nobody can tell.
_SPOKEN_OF = re.compile(
    r"allerg|kontraindi|contraindi|extravas|paravas|\bfail|fehlgeschl|abgebroch|\babort|\bcancel|(?:\wfrei|free)\b|"
    r"(?<![\d.,])0+(?:[.,]0+)? ?(?:ml|cc|cm3)\b"
)
_BOTH = re.compile(
    r"\b(?:yes/no|y/n|with ?/ ?without|with without|before and after|with and without|without and with|w ?/ ?wo|"
    r"w and wo|wwo|pre ?/ ?post|pre post|mit und ohne|ohne und mit|avec et sans|pre and post)\b"
)
_ELSEWHERE = re.compile(
    rf"\b(?:{_GUT}|per bocca|mouth|bucal|bucc\w*|doustn\w*|ng|nasogastr\w*|stoma\w*|peg|myelo\w*|"
    r"arthro\w*|cysto\w*|retrograd\w*|intra ?peritone\w*|sub ?cutan\w*|intra ?cavit\w*|intra ?disc\w*|nephrost\w*|"
    r"bili\w*|topical|percutan\w*|lumbar|by mouth|drink\w*|anal|enema|einlauf|"
    r"colon\w*|vagin\w*|"
    r"intra ?thec\w*|intra ?artic\w*|intra ?vesic\w*|bladder|blase|fistul\w*|cathe?ter|drain\w*|"
    r"gastro ?(?:gr|v)\w*|gastromiro|telebrix gastro|peritrast\w*|bari\w*|mannit\w*|micropaque|volumen|readi ?cat|"
    r"e z cat|breeza)\b"
)
_VEINS = re.compile(rf"\b{_INTO_VEINS}\b")
_UNKNOWN = re.compile(
    r"(?:\?+|x+|unk\w*|unbekannt|inconnu|not (?:known|recorded|specified|entered|stated|available)|other|tbd)"
)
_DILUENT = re.compile(r"(?:nacl|saline|kochsalz\w*|water|wasser|h2o|ringer\w*|glucose)(?: [\d., %]*(?:ml|cc|%)?)?")
# What was given: agents by their names, doses, and words for yes. What is none of it says nothing that one may rely on.
_AGENT = re.compile(
    r"\b(?:io(?:hex|pro|mep|dix|pam|bit|ver|xil|xag|tha|tro|pent|glic|dam)\w*|jo(?:hex|pro|mep|dix|pam|bit|ver)\w*|"
    r"omnip\w*|omnigraf|accupaque|ultravist\w*|clarograf|iomeron\w*|imeron\w*|visipaque\w*|isovue\w*|niopam\w*|"
    r"solutrast\w*|scanlux\w*|unilux\w*|xenetix\w*|optiray\w*|oxilan\w*|hexabrix\w*|conray\w*|telebrix\w*|"
    r"isovist\w*|imagopaque\w*|iodin\w*|iodat\w*|jod\w*|gado\w*|magnevist\w*|dotarem\w*|opti ?ject|"
    r"applied|yes|y|ja|oui|si|da|avec injection|arteri(?:al|ell)\w*|portal\w*|portoven\w*|post ?contrast|"
    rf"(?:non ?)?ionic|true|post|{_GIVEN}|{_MEDIUM})\b|^1$|\b[1-9]\d*(?:[.,]\d+)? ?(?:ml|cc|cm3|mg)\b"
)
_DENIED = re.compile(rf"\b{_NOT}\b(?! ?(?:ionic|\w* ?reaction))")
_ONLY = re.compile(r"\bonly\b|\bnur\b|\bseul\w*\b|\bsolo\b")


def contrast_of(dataset: Dataset) -> bool | None:
    """Whether intravenous contrast was given.

    Args:
        dataset: one slice of the series.

    Returns:
        True where a tag says so, False where it says that there was none, None where nobody wrote it down (absence of
        the tags proves nothing), where only other ways into the body are named, or where tags contradict each other.
    """
    agents = [*_texts(dataset, "ContrastBolusAgent"), *_agents_by_code(dataset)]
    routes = [*_texts(dataset, "ContrastBolusRoute"), *_routes_by_code(dataset)]
    verdicts = {_verdict_of(text) for text in agents} - {None}
    if agents and all(map(_DILUENT.fullmatch, agents)):
        return None  # volume and route are those of water
    volume = _number(dataset, "ContrastBolusVolume")
    administered = " ".join(_texts(dataset, "ContrastBolusAgentAdministered"))
    if administered == "no" or (volume == 0 and not verdicts):  # scanners write 0 beside an agent, too
        verdicts.add("none")
    route = _route_of(routes)
    if route == "none":
        verdicts.add("none")
    elif route == "elsewhere" and "given" in verdicts:
        verdicts = verdicts - {"given"} | {"elsewhere"}
    elif route == "another":  # in words that nobody knows
        verdicts.add("unknown")
    elif route == "veins" and "none" not in verdicts:
        verdicts = verdicts - {"elsewhere"} | {"given"}
    is_told = (volume or 0) > 0 or bool(_texts(dataset, "ContrastBolusStartTime"))
    if is_told and verdicts <= {"none"} and route != "elsewhere":
        verdicts.add("given")
    if {"none", "given"} <= verdicts or "unknown" in verdicts:
        return None
    return True if "given" in verdicts else False if "none" in verdicts else None


def _verdict_of(text: str) -> str | None:
    """What the name of an agent comes to: given, none, elsewhere, unknown; None where it says nothing."""
    if not text or _DILUENT.fullmatch(text):
        return None
    is_none = _NONE.fullmatch(text)
    if _UNKNOWN.fullmatch(text) or _BOTH.search(text) or (_SPOKEN_OF.search(text) and not is_none):
        return "unknown"
    if is_none:
        return "none"
    if _NONE_INTO_VEINS.search(text):  # "nativ und venous" is both
        rest = _NATIVE.sub(" ", text)
        is_more = _JOINED.search(rest) and not _ELSEWHERE.search(rest)  # "nativ + pv"
        return "unknown" if rest != text and (_AGENT.search(rest) or _VEINS.search(rest) or is_more) else "none"
    if _ELSEWHERE.search(text) and not _VEINS.search(text):
        return "none" if _ONLY.search(text) else "elsewhere"
    is_given = _AGENT.search(text) or _VEINS.search(text)
    return "unknown" if _DENIED.search(text) else "given" if is_given else None  # denied in words nobody knows


def _route_of(texts: list[str]) -> str | None:
    """Where it went: veins, elsewhere, none, another way; None where nobody says so. Veins beside others count."""
    known = {_way_of(text) for text in texts if not _UNKNOWN.fullmatch(text)}
    return next((one for one in ("veins", "elsewhere", "another", "none") if one in known), None)


def _way_of(text: str) -> str:
    if _NONE.fullmatch(text):
        return "none"
    into_veins = _VEINS.search(text) and not _NOT_INTO_VEINS.search(text)
    if _ELSEWHERE.search(text) and not into_veins:
        return "elsewhere"
    return "veins" if into_veins and "?" not in text else "another"


def plain_words(text: str) -> str:
    """Text as it is compared: small letters without accents, single blanks, hardly any punctuation.

    >>> plain_words("W/O  I.V.-Contrast!"), plain_words("-"), plain_words("KM-")
    ('w/o i v contrast', 'none', 'km none')
    """
    bare = "".join(c for c in unicodedata.normalize("NFKD", text[:_LONGEST].lower()) if not unicodedata.combining(c))
    bare = re.sub(r"[+&]", " and ", bare)
    bare = re.sub(r"^\W*[-\u2013\u2014]+\W*$|(?<=\w)\s?[-\u2013\u2014]\s*$", " none", bare.strip())
    bare = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w\s/.,?%]|_", " ", bare)
    return " ".join(bare.split())


def _texts(dataset: Dataset, tag: str) -> list[str]:
    """The values of a tag as plain words; none where it is empty or damaged."""
    try:
        value = dataset.get(tag)
    except Exception:  # a damaged element makes pydicom raise nearly anything
        return []
    values: Any = value if isinstance(value, (MultiValue, list)) else [value]
    return [text for one in values if one is not None and (text := plain_words(str(one)))]


def _number(dataset: Dataset, tag: str) -> float | None:
    try:
        return float(dataset.get(tag))
    except Exception:
        return None


def _items(dataset: Dataset, tag: str) -> list[Dataset]:
    try:
        value = dataset.get(tag)
    except Exception:
        return []
    return list(value) if isinstance(value, Sequence) else []


def _agents_by_code(dataset: Dataset) -> list[str]:
    """The agents that the sequence names; an item without a name is an agent all the same."""
    found = []
    for item in _items(dataset, "ContrastBolusAgentSequence"):
        names = _texts(item, "CodeMeaning") or ["agent"]
        if _route_of(_routes_by_code(item)) == "elsewhere":
            names = [f"{name} oral" for name in names]
        found += names
    return found


def _routes_by_code(dataset: Dataset) -> list[str]:
    routes = _items(dataset, "ContrastBolusAdministrationRouteSequence")
    return [text for item in routes for text in _texts(item, "CodeMeaning")]
