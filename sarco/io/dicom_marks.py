"""What tells people and scans apart, as digests: two slices can be compared, and no value can be shown or written."""

import hashlib
import re
import unicodedata
from functools import lru_cache

import pydicom

from sarco.io.dicom_tags import quiet_text, raw_text
from sarco.scan.series import PERSON_TAGS, SCAN_TAGS


def marks_of(dataset: pydicom.Dataset) -> tuple[tuple[str, str], ...]:
    """Each tag of `PERSON_TAGS` and `SCAN_TAGS` that says something, sound or not, with a digest of what it says."""
    said = (
        (tag, _digest(tag, quiet_text(dataset, tag) or raw_text(dataset, tag))) for tag in (*PERSON_TAGS, *SCAN_TAGS)
    )
    return tuple((tag, digest) for tag, digest in said if digest)


@lru_cache(maxsize=4096)  # slices of a series say the same
def _digest(tag: str, text: str) -> str:
    meant = _meant(tag, unicodedata.normalize("NFKC", text).casefold().strip())
    return hashlib.blake2b(meant.encode(errors="backslashreplace"), digest_size=8).hexdigest() if meant else ""


def _meant(tag: str, text: str) -> str:
    """What a text says, however it is spelled.

    Source: DICOM PS3.5 section 6.2: of a person name, groups (=) and components (^) at the end may be left out, and so
    may spaces around them; dates had points once.
    """
    if tag == "PatientName":
        latin = next((group for group in text.split("=") if group.strip(" ^")), "")
        return " ".join(word for word in re.split(r"[\s^,]+", latin) if word)
    if tag.endswith("Date"):
        return re.sub(r"\D", "", text)
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.1f}" if tag == "SliceThickness" else repr(number)
