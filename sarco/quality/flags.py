"""Quality flags: whether to believe a measurement, each flag with its reason and its figures.

A flag is a hint to look, no verdict. Feed `SeriesQuality` slice by slice while predicting, then ask for `flags`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.messages import count_of
from sarco.crop.body import MARGIN_MM, Body
from sarco.crop.grid import widen_field
from sarco.quality.checks import AIR_BELOW_HU, BONE_HU, METAL_HU, SMALL_PIECE_CM2, SliceFindings, check_slice
from sarco.quality.likeness import z_scores
from sarco.quality.limits import LIMITS
from sarco.scan.hu import OFF_SCALE
from sarco.scan.person import describe_misfit


@dataclass(frozen=True)
class Flag:
    """Something that speaks against trusting a measurement.

    Attributes:
        name: a stable word, such as ``metal``.
        reason: one sentence for people, with figures.
        numbers: the figures by name, units in the names.
        slices: plane indices that it concerns; empty where it concerns the series.
    """

    name: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    slices: tuple[int, ...] = ()

    def to_builtins(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return {
            "name": self.name,
            "reason": self.reason,
            "numbers": {name: round(float(value), 4) for name, value in self.numbers.items()},
            "slices": list(self.slices),
        }


class SeriesQuality:
    """What was found on the slices of a series, and what follows."""

    def __init__(
        self,
        training_statistics: Mapping[str, Any] | None = None,
        plane_name: str = "axial",
        field_mm: float | None = None,
    ) -> None:
        """Starts empty.

        Args:
            training_statistics: of `sarco.quality.likeness.measure_training`, from the checkpoint; None where no
                network drew the mask. Without them nothing is compared, and `unchecked` says so.
            plane_name: of the slices; the field of view and arms are looked at in axial ones alone.
            field_mm: side of the field of view of the network that drew the mask; None where it has none of its own.
        """
        self._statistics = training_statistics or {}
        self._comes_from_network = training_statistics is not None
        self._plane_name = plane_name
        self._field_mm = field_mm
        self._findings: dict[int, SliceFindings] = {}
        self._confidence: dict[int, float] = {}

    def add(
        self,
        slice_index: int,
        hu: NDArray[np.float32],
        label_map: NDArray[np.uint8],
        affine_lps: ArrayLike,
        confidence: float | None = None,
        body: Body | None = None,
    ) -> SliceFindings:
        """Takes one slice, in any order; keeps no pixels.

        Args:
            slice_index: its plane in the series.
            hu: (row, column) Hounsfield units.
            label_map: (row, column) label ids.
            affine_lps: of the series or the slice; its spacing counts.
            confidence: mean probability of the winning label, 0..1; None for masks of other origin.
            body: of the slice, where it is known already.
        """
        findings = check_slice(hu, label_map, affine_lps, body)
        self._findings[slice_index] = findings
        if confidence is not None:
            self._confidence[slice_index] = confidence
        return findings

    def flags(
        self,
        *,
        n_planes: int,
        step_mm: float,
        gaps: Sequence[int] = (),
        thickness_mm: float | None = None,
        l3_missing: str = "",
        doubts: Sequence[str] = (),
        step_doubts: Sequence[str] = (),
    ) -> tuple[Flag, ...]:
        """All flags of the series, the most serious for an area first.

        Args:
            n_planes: planes of the grid.
            step_mm: distance of neighbouring planes.
            gaps: planes between those that were added which the scan lacks; what a mask only leaves out is none.
            thickness_mm: SliceThickness, where it is known.
            l3_missing: why no slice of L3 is known; empty where one is.
            doubts: why HU may not be those of a plain CT (see `sarco.scan.series.SliceHeader.doubts`).
            step_doubts: why the step may not be that of the scan (see `sarco.scan.series.Series.step_doubts`).
        """
        found = [
            *self._empty(),
            *self._no_person(),
            *self._no_tissue(),
            *(Flag("doubtful_hu", f"the series is {doubt}") for doubt in doubts),
            *self._off_scale(doubts),
            *(self._field_of_view() if self._plane_name == "axial" else []),
            *self._metal(),
            *self._implausible_mask(),
            *self._wider_than_field(),
            *self._unsure(),
            *self._unlike_training(),
            *_gaps(n_planes, gaps, step_mm),
            *(Flag("doubtful_step", doubt, {"step_mm": step_mm}) for doubt in step_doubts),
            *_thick(step_mm, thickness_mm),
            *_unknown_thickness(n_planes, step_mm, thickness_mm),
        ]
        if l3_missing:
            found.append(Flag("no_l3", f"no slice of the third lumbar vertebra is known: {l3_missing}"))
        return tuple(found)

    def unchecked(self) -> tuple[str, ...]:
        """What could not be checked and why, a line each, so that no flag is not taken for no fault."""
        lines = []
        if not self._comes_from_network:
            lines.append("unlike_training: the mask comes without training data to compare with")
        elif not self._statistics.get("features"):
            lines.append("unlike_training: the checkpoint holds no statistics of its training data")
        if not self._confidence:
            lines.append("low_confidence: the mask comes without confidence")
        if self._plane_name != "axial":
            why = f"the slices are {self._plane_name}, and it looks at cross-sections of the body"
            lines += [f"{name}: {why}" for name in ("body_cut", "mask_at_edge", "arms")]
        return tuple(lines)

    def _beyond(self, name: str) -> dict[int, float]:
        """The figure of each slice that reaches its limit, by slice."""
        least = LIMITS[name].value
        values = {index: float(getattr(found, name)) for index, found in sorted(self._findings.items())}
        return {index: value for index, value in values.items() if value >= least}

    def _empty(self) -> list[Flag]:
        if not self._findings or any(item.mask_cm2 for item in self._findings.values()):
            return []
        return [Flag("empty_mask", f"no label in any of {_slices(self._findings)}: nothing was measured")]

    def misfit(self) -> str:
        """Why the body in the slices is no person's, so that no figure of it means anything; empty where it may be."""
        if self._plane_name != "axial":
            return ""
        bodies = [one for one in self._findings.values() if one.body_cm2]
        if not bodies and any(one.mask_cm2 for one in self._findings.values()):
            return "no body of a person's size was found"
        told = [describe_misfit(one.body_width_mm, one.body_depth_mm, one.body_cm2) for one in bodies]
        unfit = [text for text in told if text]
        return unfit[len(unfit) // 2] if len(unfit) > LIMITS["misfit_share"].value * len(told) else ""

    def _no_person(self) -> list[Flag]:
        misfit = self.misfit()
        if not misfit:
            return []
        widths = [one.body_width_mm for one in self._findings.values() if one.body_cm2] or [0.0]
        reason = f"{misfit}: spacing is in another unit than mm, or this is no scan of a person"
        return [Flag("body_size", reason, {"median_width_mm": float(np.median(widths))})]

    def _no_tissue(self) -> list[Flag]:
        if not self._findings or any(one.holds_tissue for one in self._findings.values()):
            return []
        reason = (
            "hardly a pixel of any slice has the HU of soft tissue (-200 to 300): these are no HU, or this is no body"
        )
        return [Flag("no_tissue", reason)]

    def _off_scale(self, doubts: Sequence[str]) -> list[Flag]:
        scales = {index: item.scale for index, item in sorted(self._findings.items())}
        off = {index: scale for index, scale in scales.items() if scale.doubt or scale.fault}
        is_told = any(doubt.startswith(OFF_SCALE) for doubt in doubts) and len(off) > len(scales) / 2
        found = []
        if off and not is_told:
            first = next(iter(off.values()))
            reason = f"in {_slices(off)} values are {first.doubt or f'{OFF_SCALE}: {first.fault}'}"
            found.append(Flag("doubtful_hu", reason, {"n_slices": len(off)}, tuple(off)))
        air = {index: scale.air_hu for index, scale in scales.items() if scale.air_hu is not None and index not in off}
        usual = float(np.median([*air.values()])) if air else 0.0
        odd = {index: value - usual for index, value in air.items() if abs(value - usual) > LIMITS["air_hu"].value}
        if odd:
            most = max(map(abs, odd.values()))
            reason = (
                f"in {_slices(odd)} air lies up to {most:.0f} HU from that of the others, so their scale is another"
            )
            found.append(Flag("doubtful_hu", reason, {"largest_hu": most, "n_slices": len(odd)}, tuple(odd)))
        return found

    def _field_of_view(self) -> list[Flag]:
        found = []
        if cut := self._beyond("cut_mm"):
            found.append(
                Flag(
                    "body_cut",
                    f"the field of view cuts the body in {_slices(cut)}, over up to {max(cut.values()):.0f} mm",
                    {"largest_cut_mm": max(cut.values()), "n_slices": len(cut)},
                    tuple(cut),
                )
            )
        if edge := self._beyond("mask_at_edge_mm"):
            found.append(
                Flag(
                    "mask_at_edge",
                    f"the mask reaches the edge of the picture in {_slices(edge)}, over up to "
                    f"{max(edge.values()):.0f} mm: muscle beyond it is missing from the area",
                    {"largest_contact_mm": max(edge.values()), "n_slices": len(edge)},
                    tuple(edge),
                )
            )
        arms = {index: item for index, item in sorted(self._findings.items()) if item.arms}
        if arms:
            largest = max(item.arms_cm2 for item in arms.values())
            found.append(
                Flag(
                    "arms",
                    f"arms lie in the picture in {_slices(arms)} (up to {largest:.0f} cm2): their muscle must not "
                    "count, and they cast streaks",
                    {"largest_arms_cm2": largest, "n_slices": len(arms)},
                    tuple(arms),
                )
            )
        return found

    def _metal(self) -> list[Flag]:
        metal = self._beyond("metal_cm2")
        if not metal:
            return []
        reason = (
            f"{_slices(metal)} hold up to {max(metal.values()):.1f} cm2 of {METAL_HU:.0f} HU and more: metal "
            "falsifies density around it"
        )
        numbers = {"largest_metal_cm2": max(metal.values()), "n_slices": len(metal)}
        return [Flag("metal", reason, numbers, tuple(metal))]

    def _share_of_all(self, figure: str) -> float:
        """The share of all labels of the series that a share of each slice comes to."""
        items = self._findings.values()
        area = sum(item.mask_cm2 for item in items)
        return sum(item.mask_cm2 * float(getattr(item, figure)) for item in items) / area if area else 0.0

    def _implausible_mask(self) -> list[Flag]:
        judged = {i for i, item in self._findings.items() if item.mask_cm2 >= LIMITS["smallest_mask_cm2"].value}
        found = []
        for name, figure, what in (
            ("bone_in_mask", "bone_share", f"above {BONE_HU:.0f} HU (bone, contrast medium or metal)"),
            ("air_in_mask", "air_share", f"below {AIR_BELOW_HU:.0f} HU (gas or air)"),
        ):
            is_most = self._share_of_all(figure) >= LIMITS["share_of_all"].value
            values = {index: value for index, value in self._beyond(figure).items() if is_most or index in judged}
            if values:
                largest = max(values.values())
                reason = f"up to {largest:.1%} of the mask in {_slices(values)} lies {what}"
                found.append(Flag(name, reason, {"largest_share": largest, "n_slices": len(values)}, tuple(values)))
        scattered = {
            index: value
            for index, value in self._beyond("small_share").items()
            if index in judged and self._findings[index].small_pieces >= LIMITS["small_pieces"].value
        }
        if scattered:
            largest = max(scattered.values())
            pieces = max(self._findings[index].small_pieces for index in scattered)
            found.append(
                Flag(
                    "scattered",
                    f"up to {largest:.0%} of the mask in {_slices(scattered)} are pieces smaller than "
                    f"{SMALL_PIECE_CM2:g} cm2 (up to {pieces})",
                    {"largest_share": largest, "most_pieces": pieces, "n_slices": len(scattered)},
                    tuple(scattered),
                )
            )
        return found

    def _unsure(self) -> list[Flag]:
        limit = LIMITS["confidence"].value
        low = {
            index: value
            for index, value in sorted(self._confidence.items())
            if value < limit and self._findings[index].body_cm2 > 0
        }
        if not low:
            return []
        numbers = {"lowest_confidence": min(low.values()), "n_slices": float(len(low))}
        reason = f"mean confidence falls to {min(low.values()):.2f} in {_slices(low)} (limit {limit:g})"
        return [Flag("low_confidence", reason, numbers, tuple(low))]

    def _wider_than_field(self) -> list[Flag]:
        if self._field_mm is None:
            return []
        wide = {}
        for index, item in sorted(self._findings.items()):
            side_mm = max(item.body_width_mm, item.body_depth_mm) + 2 * MARGIN_MM
            factor = widen_field(self._field_mm, side_mm)
            if item.body_cm2 and factor > LIMITS["field_factor"].value:
                wide[index] = factor
        if not wide:
            return []
        largest = max(wide.values())
        reason = (
            f"the body in {_slices(wide)} is wider than the {self._field_mm:.0f} mm that the network looks at: it saw "
            f"it up to {largest:g} times smaller than in training"
        )
        numbers = {"largest_factor": largest, "field_mm": self._field_mm, "n_slices": len(wide)}
        return [Flag("wider_than_field", reason, numbers, tuple(wide))]

    def _unlike_training(self) -> list[Flag]:
        scores = {index: z_scores(item.features, self._statistics) for index, item in sorted(self._findings.items())}
        scores = {index: found for index, found in scores.items() if found}
        limit = LIMITS["z"].value
        odd = {index: found for index, found in scores.items() if max(map(abs, found.values())) > limit}
        if not odd or len(odd) < LIMITS["unlike_share"].value * len(scores):
            return []
        worst: dict[str, float] = {}
        for found in odd.values():
            for name, z in found.items():
                if abs(z) > max(limit, abs(worst.get(name, 0.0))):
                    worst[name] = z
        told = ", ".join(f"{name} {z:+.1f}" for name, z in sorted(worst.items(), key=lambda item: -abs(item[1])))
        reason = f"{_slices(odd)} of {len(scores)} look unlike the training data (spreads from its median: {told})"
        numbers = {f"z_{name}": z for name, z in worst.items()} | {"n_slices": float(len(odd))}
        return [Flag("unlike_training", reason, numbers, tuple(odd))]


def _gaps(n_planes: int, missing: Sequence[int], step_mm: float) -> list[Flag]:
    if not missing:
        return []
    numbers = {"n_missing": len(missing), "missing_mm": len(missing) * step_mm}
    told = f"{count_of(len(missing), 'slice')} of {n_planes} missing in between ({numbers['missing_mm']:.0f} mm)"
    return [Flag("gaps", f"{told}: volumes leave them out", numbers, tuple(missing))]


def _thick(step_mm: float, thickness_mm: float | None) -> list[Flag]:
    thickest = max(step_mm, thickness_mm or 0.0)
    if thickest < LIMITS["thick_mm"].value:
        return []
    numbers = {"step_mm": step_mm} | ({} if thickness_mm is None else {"thickness_mm": thickness_mm})
    told = ", ".join(f"{name.removesuffix('_mm')} {value:.4g} mm" for name, value in numbers.items())
    return [Flag("thick_slices", f"slices are thick ({told}): edges and density are averaged over them", numbers)]


def _unknown_thickness(n_planes: int, step_mm: float, thickness_mm: float | None) -> list[Flag]:
    if n_planes > 1 or thickness_mm is not None:
        return []
    reason = f"the only slice does not say how thick it is: its volume counts {step_mm:g} mm"
    return [Flag("no_thickness", reason, {"step_mm": step_mm})]


def _slices(found: Mapping[int, object]) -> str:
    return count_of(len(found), "slice")
