"""The review page of a series: one HTML file that opens without a network, shows slices and lets one correct them.

Fed slice by slice while a series is predicted, so that pixels are not read twice. It shows what it is given and never
measures. Its script and styles lie in ``assets/``; `sarco.review.corrections` takes back what was corrected there.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.tag import Tag

import sarco
from sarco.core.errors import GeometryError
from sarco.core.files import write_whole
from sarco.core.messages import count_of
from sarco.io.dicom_tags import open_dataset, text_of
from sarco.io.nifti import is_nifti
from sarco.measurement.slices import pixel_area_cm2
from sarco.pacs.text import charsets_of, doubtful_texts
from sarco.review.pixels import (
    PictureEncoder,
    encode_label_map,
    hu_of_levels,
    label_map_digest,
    slice_digest,
    to_base64,
)
from sarco.review.sheet import draw_tile
from sarco.scan.geometry import spacing_mm, voxel_volume_mm3
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series
from sarco.scan.view import View

REVIEW, THUMBNAIL = "review.html", "thumbnail.jpg"
ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("data.js", "view.js", "paint.js", "panels.js", "main.js")
# What a page may show of summary.json. All else stays out of it: a page is passed on more easily than a folder.
_SUMMARY_KEYS = (
    "labels",
    "muscle_labels",
    "at_level",
    "not_checked",
    "smi",
    "cutoffs",
    "flags",
    "intervals",
    "acquisition",
    "hu_ranges",
)
_LEVEL_KEYS = ("name", "slice_index", "slices", "note", "why_not")
_PATIENT_KEYS = ("sex", "height_m", "weight_kg", "age_years", "bmi", "source", "notes")
_MEASURES = ("mean_hu", "mean_hu_in_range", "area_in_range_cm2", "lama_cm2", "nama_cm2", "fat_cm2")


class ReviewWriter:
    """A review page in the making. Slices arrive in any order; only what the page needs of them is kept."""

    def __init__(
        self,
        series: Series,
        labels: LabelTable,
        identity: Mapping[str, str] | None = None,
    ) -> None:
        """Starts empty.

        Args:
            series: what is shown.
            labels: names and colours of the ids.
            identity: who the patient is, as text by heading (see `read_identity`); None (the default) shows nothing.
        """
        self.series = series
        self.labels = labels
        self.pixel_area_cm2 = pixel_area_cm2(series.affine_lps)
        self.identity = identity
        self._encoder = PictureEncoder.for_slices(len(series.slices))
        self._pixels: dict[int, str] = {}
        self._counts: dict[int, dict[int, int]] = {}
        self._digests: dict[int, bytes] = {}
        self._most_labelled: tuple[int, int, Any, Any] = (-1, 0, None, None)  # pixels, plane, hu, label map

    def add(self, slice_index: int, hu: NDArray[np.floating], label_map: NDArray[np.uint8]) -> None:
        """Takes one slice.

        Args:
            slice_index: its plane in the series.
            hu: (row, column) Hounsfield units, on the original grid.
            label_map: (row, column) label ids on the same grid.

        Raises:
            GeometryError: the slice is none of the series, came before, or has another shape.
        """
        if slice_index not in self.series.plane_index or slice_index in self._pixels:
            raise GeometryError(f"slice {slice_index} is none of series {self.series.uid}, or was added before")
        if hu.shape != self.series.shape[:2] or label_map.shape != hu.shape:
            raise GeometryError(
                f"slice {slice_index}: the image is {hu.shape} and the label map {label_map.shape}, but the series is "
                f"{self.series.shape[:2]}"
            )
        self._pixels[slice_index] = f"{to_base64(self._encoder.encode(hu))} {to_base64(encode_label_map(label_map))}"
        counts = np.bincount(label_map[label_map != 0], minlength=256)
        self._counts[slice_index] = {label_id: int(counts[label_id]) for label_id in self.labels.ids}
        self._digests[slice_index] = slice_digest(label_map)
        labelled = sum(self._counts[slice_index].values())
        if labelled > self._most_labelled[0]:
            self._most_labelled = (labelled, slice_index, hu.copy(), label_map.copy())

    @property
    def label_map_sha256(self) -> str:
        """The hash by which corrections are tied to the label map that they were drawn on."""
        return label_map_digest(self.series.shape, self._digests)

    def finish(
        self,
        folder: Path,
        summary: Mapping[str, Any],
        provenance: Mapping[str, str],
        measurements: Iterable[Mapping[str, Any]] = (),
    ) -> Path:
        """Writes ``review.html`` and ``thumbnail.jpg``; what was there before is replaced at once.

        Args:
            folder: the results folder; exists.
            summary: the content of ``summary.json``; only known parts are shown.
            provenance: heading to text: which run, checkpoint, version, when.
            measurements: the rows of ``measurements.csv``.

        Returns:
            The page's path.

        Raises:
            GeometryError: a slice of the series was never added.
        """
        if missing := sorted(set(self.series.plane_index) - self._pixels.keys()):
            raise GeometryError(
                f"{count_of(len(missing), 'slice')} never reached the review page, the first is {missing[0]}"
            )
        start = self._start(summary)
        data = self._data(summary, provenance, measurements) | {"start": start}
        pixels = {plane: _pixel_block(plane, text) for plane, text in sorted(self._pixels.items())}
        title = self.series.slices[0].description or self.series.uid
        page = fill_page(
            "page",
            _SCRIPTS,
            {
                "title": html.escape(f"sarco review: {title}"),
                "data": json_for_html(data),
                "first_slice": pixels.pop(start),
                "other_slices": "\n".join(pixels.values()),
            },
        )
        for name, content in ((THUMBNAIL, self._thumbnail()), (REVIEW, page.encode(errors="backslashreplace"))):
            write_whole(folder / name, content)
        return folder / REVIEW

    def _start(self, summary: Mapping[str, Any]) -> int:
        """The slice shown first: that of the level, else the one with most labelled pixels."""
        level, smi = (part if isinstance(part, Mapping) else {} for part in map(summary.get, ("level", "smi")))
        chosen = [level.get("slice_index"), *(smi.get("slices") or [])]
        return next((int(plane) for plane in chosen if plane in self._pixels), self._most_labelled[1])

    def _data(
        self, summary: Mapping[str, Any], provenance: Mapping[str, str], measurements: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        series = self.series
        view = View.of(series.affine_lps)
        return {
            "series_uid": series.uid,
            "description": series.slices[0].description,
            "shape": list(series.shape),
            "turn": list(astuple(view)),
            "spacing_mm": list(spacing_mm(series.affine_lps)[:2]),
            "edges": view.edges(series.affine_lps),
            "hu_of_level": hu_of_levels(),
            "pictures": self._encoder.description,
            "pixel_area_cm2": self.pixel_area_cm2,
            "pixel_volume_ml": voxel_volume_mm3(series.affine_lps) / 1000,
            "label_map_sha256": self.label_map_sha256,
            "labels": [
                {"id": label_id, "name": name, "rgb": list(self.labels.colour_rgb(label_id))}
                for label_id, name in self.labels.names.items()
            ],
            "slices": [
                {
                    "index": plane,
                    "z_mm": round(float(series.plane_affine_lps(plane)[2, 3]), 2),
                    "counts": list(self._counts[plane].values()),
                }
                for plane in sorted(self._counts)
            ],
            "measures": list(_MEASURES),
            "measured": _compact(measurements),
            "summary": shown_summary(summary),
            "provenance": dict(provenance),
            "identity": None if self.identity is None else dict(self.identity),
            "sarco_version": sarco.__version__,
        }

    def _thumbnail(self) -> bytes:
        _, plane, hu, label_map = self._most_labelled
        tile = draw_tile(hu, label_map, self.series.plane_affine_lps(plane), self.labels, "")
        small = cv2.resize(cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), (160, 160), interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def read_identity(series: Series) -> dict[str, str]:
    """Who the patient is by the first slice's tags: for pages that were asked to show it, and for nothing else.

    A text that its character set does not allow is not shown: with a wrong letter it names somebody else.
    """
    first = series.slices[0]
    if is_nifti(first.path):
        return {}
    dataset = open_dataset(first.path, stop_before_pixels=True)
    tags = {"Patient": "PatientName", "Patient ID": "PatientID", "Born": "PatientBirthDate"}
    doubtful = doubtful_texts(dataset, charsets_of(dataset))
    found = {
        heading: "not readable in its character set" if Tag(tag) in doubtful else text_of(first.path, dataset, tag)
        for heading, tag in tags.items()
    }
    return {heading: text for heading, text in found.items() if text}


def shown_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a summary that a page shows; nothing that could name the patient is among them."""
    shown = {key: summary[key] for key in _SUMMARY_KEYS if key in summary}
    for part, keys in (("patient", _PATIENT_KEYS), ("level", _LEVEL_KEYS)):
        content = summary.get(part)
        if isinstance(content, Mapping):
            shown[part] = {key: content[key] for key in keys if content.get(key) not in (None, "", [], {})}
    return shown


def provenance_of(prediction: Mapping[str, Any]) -> dict[str, str]:
    """What a page says of where its label map comes from, by the content of ``prediction.json``."""
    several = [f"{one['run_id']}: {one['checkpoint_sha256']}" for one in prediction.get("runs", ())]
    rows = {
        "Note": str(prediction.get("notice", "")),
        "Run": str(prediction.get("run_id", "unknown")),
        "Project": str(prediction.get("wandb_project", "")),
        "Checkpoint SHA-256": ", ".join(several) or str(prediction.get("checkpoint_sha256", "")),
        "sarco version": str(prediction.get("sarco_version", "")),
        "Predicted": str(prediction.get("predicted_at", "")),
        "Mirror images": "seen too" if prediction.get("tta") == "mirror" else "",
        "Islands": "left out where no neighbouring slice supports them" if prediction.get("drop_islands") else "",
    }
    for one in prediction.get("corrections", []):
        changed = ", ".join(map(str, one["slices"])) or "none"
        heading = f"Corrected {one['corrected_at']}"
        rows[heading] = f"by {one['corrected_by'] or 'somebody who gave no name'}; slices changed: {changed}"
    return {heading: text for heading, text in rows.items() if text}


def fill_page(name: str, scripts: Sequence[str], parts: Mapping[str, str]) -> str:
    """A self-contained page from ``assets/<name>.html``, its styles and scripts.

    Its Content-Security-Policy lets only this very script and these very styles run, and nothing be fetched.

    Args:
        name: of the HTML and CSS files.
        scripts: files that make up the script, in order.
        parts: what stands for ``{{key}}`` in the HTML, ready for its place.
    """
    style = (ASSETS / f"{name}.css").read_text(encoding="utf-8")
    script = '"use strict";\n' + "\n".join((ASSETS / file).read_text(encoding="utf-8") for file in scripts)
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {_csp_hash(style)}; script-src {_csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = (ASSETS / f"{name}.html").read_text(encoding="utf-8")
    filled = {"policy": policy, "style": style, "script": script, **parts}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], template)


def json_for_html(content: Any) -> str:
    """JSON that can stand inside a script element: no ``<``, ``>`` or ``&`` in it; NaN becomes null."""
    text = json.dumps(_without_nan(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, (float, np.floating)):
        return float(content) if math.isfinite(content) else None
    return int(content) if isinstance(content, np.integer) else content


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _pixel_block(plane: int, text: str) -> str:
    return f'<script type="text/plain" id="pixels-{plane}">{text}</script>'


def _compact(measurements: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """``[slice_index, label_id, measure, ...]`` for each row with pixels: thousands of rows have to stay small."""
    return [
        [int(row["slice_index"]), int(row["label_id"]), *(_rounded(row.get(name)) for name in _MEASURES)]
        for row in measurements
        if int(row["n_pixels"]) > 0
    ]


def _rounded(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 2)
