"""What training slices look like in figures, kept in the checkpoint, and how far a slice lies from them.

Every figure is free of scale (HU, shares, ratios), because training slices that were stretched from the body's box no
longer know their size in mm.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.crop.body import average_onto, find_body
from sarco.scan.labels import IGNORE_ID

# Each figure and the smallest spread that counts: training slices that are all alike must not make 1 HU an alarm.
FEATURES: Mapping[str, float] = {
    "body_mean_hu": 3.0,
    "body_sd_hu": 3.0,
    "muscle_mean_hu": 3.0,
    "muscle_sd_hu": 3.0,
    "muscle_share": 0.01,
    "width_to_height": 0.05,
    "body_fill": 0.02,
}
CLIP_HU = (-250.0, 250.0)  # the default window of the network: what lies beyond looks alike to it
CROP_SIDE_MM = 380.0  # about what a crop to the body's box spans; only the pixel size of the coarse mask depends on it
SMALLEST_MASK_CM2 = 2.0  # of less muscle mean and SD say nothing
FEWEST_SLICES = 20  # fewer give no spread to measure with
MOST_SLICES = 500  # more change no median, and cost milliseconds each
MAD_TO_SD = 1.4826  # of a normal distribution


def slice_features(
    coarse_hu: NDArray[np.float32], muscle_share: NDArray[np.float32], trunk: NDArray[np.bool_], pixel_cm2: float
) -> dict[str, float]:
    """The figures of one slice; those that it has not (no body, no muscle) are left out.

    Args:
        coarse_hu: (row, column) HU, averaged onto coarse pixels.
        muscle_share: (row, column) share of each coarse pixel that any label covers.
        trunk: (row, column) mask of the body without arms on coarse pixels.
        pixel_cm2: area of a coarse pixel.
    """
    rows, columns = np.flatnonzero(trunk.any(axis=1)), np.flatnonzero(trunk.any(axis=0))
    if not rows.size:
        return {}
    clipped = np.clip(coarse_hu, *CLIP_HU)
    inside = clipped[trunk]
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    found = {
        "body_mean_hu": float(inside.mean()),
        "body_sd_hu": float(inside.std()),
        "width_to_height": width / height,
        "body_fill": inside.size / (width * height),
    }
    muscle = clipped[muscle_share > 0.5]
    if muscle.size * pixel_cm2 >= SMALLEST_MASK_CM2:
        found["muscle_mean_hu"] = float(muscle.mean())
        found["muscle_sd_hu"] = float(muscle.std())
        found["muscle_share"] = float(muscle_share.sum()) / inside.size
    return found


def measure_training(
    images: NDArray[np.int16],
    label_maps: NDArray[np.uint8],
    indices: Iterable[int] | None = None,
    pixel_mm: float | None = None,
    judged: NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """The statistics that a checkpoint keeps, as plain builtins; empty where there are too few slices.

    Args:
        images: (N, C, S, S) HU of slices cropped to the body, may be memory-mapped; the middle channel counts.
        label_maps: (N, S, S) label ids, may be memory-mapped; slices that are labelled in part only
            (`sarco.scan.labels.IGNORE_ID`) give no figures of muscle.
        indices: which of them trained; all by default. At most `MOST_SLICES`, evenly spread, are looked at.
        pixel_mm: size of a pixel of the images; None where each slice has its own.
        judged: (256,) the id that stands for each id, 0 for what is no muscle; all are muscle by default.

    Returns:
        ``{"n_slices": n, "features": {name: {"median": m, "spread": s, "n": n}}}``. Spread is the median absolute
        deviation, scaled to a standard deviation: a few odd training slices do not widen it.
    """
    chosen = np.arange(len(images)) if indices is None else np.fromiter(indices, dtype=np.int64)
    if len(chosen) > MOST_SLICES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_SLICES).round().astype(int)]
    values: dict[str, list[float]] = {name: [] for name in FEATURES}
    pixel_mm = pixel_mm or CROP_SIDE_MM / images.shape[-1]
    for index in chosen:
        hu = np.asarray(images[index, images.shape[1] // 2], dtype=np.float32)
        ids = np.asarray(label_maps[index]) if judged is None else judged[label_maps[index]]
        body = find_body(hu, (pixel_mm, pixel_mm))
        features = slice_features(body.coarse_hu, coarsen_labels(ids, body.trunk.shape), body.trunk, body.pixel_cm2)
        in_part = bool((ids == IGNORE_ID).any())
        for name, value in features.items():
            if not (in_part and name.startswith("muscle")):
                values[name].append(value)
    kept = {name: _median_and_spread(found, FEATURES[name]) for name, found in values.items()}
    kept = {name: entry for name, entry in kept.items() if entry["n"] >= FEWEST_SLICES}
    return {"n_slices": len(chosen), "features": kept} if kept else {}


def _median_and_spread(values: list[float], floor: float) -> dict[str, Any]:
    if not values:
        return {"median": 0.0, "spread": floor, "n": 0}
    median = float(np.median(values))
    spread = MAD_TO_SD * float(np.median(np.abs(np.asarray(values) - median)))
    return {"median": median, "spread": max(spread, floor), "n": len(values)}


def pool_statistics(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the training slices of several checkpoints look like together; empty where none knows.

    The median is the mean of their medians, by numbers of slices; the spread holds how far these lie apart, too.

    Args:
        several: of each checkpoint what `measure_training` gave.
    """
    features = {}
    for name in FEATURES:
        parts = [one["features"][name] for one in several if name in one.get("features", {})]
        if parts:
            n = np.array([part["n"] for part in parts], dtype=float)
            medians, spreads = (np.array([part[key] for part in parts]) for key in ("median", "spread"))
            median = float(np.average(medians, weights=n))
            spread = math.sqrt(np.average(spreads**2 + (medians - median) ** 2, weights=n))
            features[name] = {"median": median, "spread": spread, "n": int(n.sum())}
    return {"n_slices": sum(one.get("n_slices", 0) for one in several), "features": features} if features else {}


def z_scores(features: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
    """How many spreads each figure of a slice lies above (or, negative, below) the median of the training slices.

    Args:
        features: of `slice_features`.
        statistics: of `measure_training`; figures that it lacks are left out.
    """
    known = statistics.get("features", {})
    return {
        name: (value - known[name]["median"]) / known[name]["spread"]
        for name, value in features.items()
        if name in known
    }


def coarsen_labels(label_map: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The share of each pixel of a coarse grid that labels cover; pixels that nobody looked at count as background."""
    covered = (((label_map > 0) & (label_map < IGNORE_ID)) * np.uint8(255)).astype(np.uint8)
    return average_onto(shape, covered).astype(np.float32) / np.float32(255)
