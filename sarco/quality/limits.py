"""From where on a finding is a quality flag, each limit with its unit and its reason."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """From where on something is flagged.

    Attributes:
        value: the limit.
        unit: of the value; "1" for shares.
        reason: why there.
    """

    value: float
    unit: str
    reason: str


LIMITS: Mapping[str, Limit] = {
    "cut_mm": Limit(
        60, "mm", "a trunk of 170 mm radius that touches the edge lies within a coarse pixel (2.5 mm) of it over 58 mm"
    ),
    "mask_at_edge_mm": Limit(5, "mm", "two coarse pixels: muscle ends where the picture ends, so area is missing"),
    "metal_cm2": Limit(0.2, "cm2", "a public subject's hip nail has up to 3.9; a clip of 3 x 5 mm stays below"),
    "bone_share": Limit(0.02, "1", "exact masks of phantoms and the public subjects have at most 0.003"),
    "air_share": Limit(0.01, "1", "exact masks of phantoms and the public subjects have none"),
    "small_share": Limit(
        0.05,
        "1",
        "exact masks of phantoms have up to 0.021 (a muscle's tip is its own piece), of subjects 0.011",
    ),
    "small_pieces": Limit(
        5, "pieces", "together with their share: a single small piece is half a muscle where the mask is small"
    ),
    "smallest_mask_cm2": Limit(2, "cm2", "shares of a smaller mask jump by one pixel; it is left unjudged"),
    "share_of_all": Limit(0.5, "1", "half of all slices' masks is no jump of a pixel, however small each of them is"),
    "confidence": Limit(
        0.9,
        "1",
        "as --min_confidence in training; benchmarks/RESULTS.md has 0.948 to 0.965 for a young phantom network",
    ),
    "field_factor": Limit(1.4, "1", "training shows bodies up to 1.4 times smaller than they are, or 0.7 times larger"),
    "z": Limit(5, "spreads", "of 640 phantom slices that did not train, none lies farther out than 3.9"),
    "unlike_share": Limit(0.1, "1", "of the slices: single odd slices occur in every series"),
    "misfit_share": Limit(
        0.5, "1", "of the slices with a body: a slice at an end may hold little of it, most of a scan's cannot"
    ),
    "air_hu": Limit(40, "HU", "in public series air lies within 15 HU in all slices"),
    "thick_mm": Limit(5.1, "mm", "5 mm is what routine abdominal CT has; edges and density blur in thicker ones"),
}
