"""One page over several results folders: a table to sort, flagged ones first, with links to the review pages."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sarco.core.errors import InputError
from sarco.core.files import atomic_file, files_below
from sarco.results.folder import OVERLAY, PREDICTION
from sarco.review.page import REVIEW, THUMBNAIL, fill_page, json_for_html
from sarco.review.pixels import to_base64

INDEX = "index.html"
_SUMMARY = "summary.json"


def write_index(folder: Path) -> tuple[int, Path]:
    """Writes ``index.html`` over every results folder below a folder.

    Returns:
        How many results it lists, and the page's path.

    Raises:
        InputError: there is no such folder, it holds no results, or the page cannot be written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the one that holds the results folders")
    found = [file.parent for file in files_below(folder) if file.name == PREDICTION]
    if not found:
        raise InputError(f"{folder}: holds no results ({PREDICTION} is nowhere below it); give a folder that does")
    entries = [read_entry(one, folder) for one in found]
    entries.sort(key=lambda entry: (-len(entry["flags"]), entry["name"]))
    title = html.escape(f"sarco: {len(entries)} results")
    page = fill_page("index", ("index.js",), {"title": title, "data": json_for_html(entries)})
    try:
        with atomic_file(folder / INDEX) as file:
            file.write(page.encode())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    return len(entries), folder / INDEX


def read_entry(results: Path, root: Path) -> dict[str, Any]:
    """A line of the table; what a folder lacks stays empty, and what cannot be read is said there.

    Args:
        results: a results folder.
        root: the folder that the index page lies in; links are relative to it.
    """
    prediction, fault = _read_json(results / PREDICTION)
    summary, other_fault = _read_json(results / _SUMMARY)
    inside = results.relative_to(root).as_posix()
    thumbnail = results / THUMBNAIL
    smi = _part(summary, "smi", dict)
    value = smi.get("value")
    corrections = _part(prediction, "corrections", list)
    return {
        "name": results.resolve().name if inside == "." else inside,
        "link": _link(results, inside),
        "thumbnail": to_base64(thumbnail.read_bytes()) if thumbnail.is_file() else "",
        "flags": [_text(flag, "name") for flag in _part(summary, "flags", list)],
        "smi": value if isinstance(value, (int, float)) else None,
        "smi_why_not": _text(smi, "why_not"),
        "verdicts": [verdict for verdict in map(_verdict, _part(summary, "cutoffs", list)) if verdict],
        "volume_ml": _volume_ml(summary) if summary.get("labels") else _volume_ml(prediction),
        "slices": len(_part(prediction, "slices", list)),
        "confidence": prediction.get("mean_confidence"),
        "corrected_by": _text(corrections[-1], "corrected_by") or "yes" if corrections else "",
        "run": _text(prediction, "run_id"),
        "version": _text(prediction, "sarco_version"),
        "fault": fault or other_fault,
    }


def _link(results: Path, inside: str) -> str:
    """The page to open, as a relative address; quoting makes a path of a name such as ``javascript:x`` too."""
    target = next((name for name in (REVIEW, OVERLAY) if (results / name).is_file()), "")
    return quote(f"{inside}/{target}") if target else ""


def _read_json(path: Path) -> tuple[Mapping[str, Any], str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError):
        return {}, f"{path.name} cannot be read"
    return (content, "") if isinstance(content, dict) else ({}, f"{path.name} holds no object")


def _part(content: Mapping[str, Any], key: str, kind: type) -> Any:
    part = content.get(key)
    return part if isinstance(part, kind) else kind()


def _text(content: Any, key: str) -> str:
    value = content.get(key) if isinstance(content, Mapping) else None
    return "" if value is None else str(value)


def _verdict(cutoff: Any) -> str:
    """What a cut-off says; nothing where it does not apply or is not undercut."""
    return "" if _text(cutoff, "verdict") in ("not applicable", "not low") else _text(cutoff, "text")


def _volume_ml(content: Mapping[str, Any]) -> float | None:
    volumes = [entry.get("volume_ml") for entry in _part(content, "labels", list) if isinstance(entry, Mapping)]
    numbers = [volume for volume in volumes if isinstance(volume, (int, float))]
    return round(sum(numbers), 1) if numbers else None
