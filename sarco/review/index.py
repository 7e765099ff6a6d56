"""One page over several results folders: a table to sort, flagged ones first, with links to the review pages."""

import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sarco.core.errors import InputError
from sarco.core.files import atomic_file
from sarco.core.messages import count_of
from sarco.io.results import OVERLAY, find_results, read_prediction, read_summary
from sarco.review.page import REVIEW, THUMBNAIL, fill_page, json_for_html
from sarco.review.pixels import to_base64

INDEX = "index.html"
Found = TypeVar("Found")


def write_index(folder: Path) -> tuple[int, Path]:
    """Writes ``index.html`` over every results folder below a folder.

    Returns:
        How many results it lists, and the page's path.

    Raises:
        InputError: there is no such folder, it holds no results, or the page cannot be written.
    """
    entries = [read_entry(one, folder) for one in find_results(folder)]
    entries.sort(key=lambda entry: (-len(entry["flags"]), entry["name"]))
    title = html.escape(f"sarco: {count_of(len(entries), 'result')}")
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
    prediction, fault = _or_fault(read_prediction, results)
    summary, other_fault = _or_fault(read_summary, results)
    summary = summary or {"flags": [], "smi": {}, "cutoffs": [], "labels": []}
    inside = results.relative_to(root).as_posix()
    thumbnail = results / THUMBNAIL
    volumes_ml = [label["volume_ml"] for label in summary["labels"] if label.get("volume_ml") is not None]
    if prediction and not summary["labels"]:
        volumes_ml = list(prediction.volumes_ml.values())
    corrections = prediction.corrections if prediction else ()
    return {
        "name": results.resolve().name if inside == "." else inside,
        "link": _link(results, inside),
        "thumbnail": to_base64(thumbnail.read_bytes()) if thumbnail.is_file() else "",
        "flags": [flag["name"] for flag in summary["flags"]],
        "smi": summary["smi"].get("value"),
        "smi_why_not": _text(summary["smi"], "why_not"),
        "verdicts": [verdict for verdict in map(_verdict, summary["cutoffs"]) if verdict],
        "volume_ml": round(sum(volumes_ml), 1) if volumes_ml else None,
        "slices": len(prediction.slices) if prediction else 0,
        "confidence": prediction.mean_confidence if prediction else None,
        "corrected_by": corrections[-1]["corrected_by"] or "yes" if corrections else "",
        "run": prediction.run_id if prediction else "",
        "version": prediction.sarco_version if prediction else "",
        "fault": fault or other_fault,
    }


def _or_fault(read: Callable[[Path], Found], results: Path) -> tuple[Found | None, str]:
    """What a file of a results folder holds, or why it cannot be used; the page names the folder already."""
    try:
        return read(results), ""
    except InputError as error:
        return None, str(error).replace(f"{results}{os.sep}", "")


def _link(results: Path, inside: str) -> str:
    """The page to open, as a relative address; quoting makes a path of a name such as ``javascript:x`` too."""
    target = next((name for name in (REVIEW, OVERLAY) if (results / name).is_file()), "")
    return quote(f"{inside}/{target}") if target else ""


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return "" if value is None else str(value)


def _verdict(cutoff: Mapping[str, Any]) -> str:
    """What a cut-off says; nothing where it does not apply or is not undercut."""
    return "" if _text(cutoff, "verdict") in ("not applicable", "not low") else _text(cutoff, "text")
