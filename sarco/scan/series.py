"""A slice's header and a series: slices of one SeriesInstanceUID on one regular grid. No files are opened here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sarco.core.errors import GeometryError, InputError, OtherKindError
from sarco.scan.geometry import Affine, plane_affine, slice_affine_lps, slice_normal
from sarco.scan.mixture import alternating, stretches
from sarco.scan.stack import SliceStack, split_runs, stack_slices
from sarco.scan.step import check_step, doubts_of_step

SeriesKey = tuple[str, int, Path, int]
SAME_POSITION_MM = 1e-3
ROUNDED_POSITION_MM = 0.06  # a copy may be written with one decimal
SPACING_TOLERANCE_MM = 1e-4
ORIENTATION_TOLERANCE = 1e-3  # of a direction cosine; one degree changes it by 0.017
# Tags that are one and the same for all slices of a series, besides the identifiers.
PERSON_TAGS = ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate")
# Tags that tell phases and reconstructions apart; they may change from slice to slice in one scan, but not to and fro.
SCAN_TAGS = (
    "AcquisitionNumber", "AcquisitionTime", "AcquisitionDateTime", "SeriesDescription", "SeriesNumber", "SeriesDate",
    "SeriesTime", "ConvolutionKernel", "SliceThickness", "KVP", "ImageType", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "NominalPercentageOfCardiacPhase", "ContrastBolusAgent",
)  # fmt: skip
FILE_AXES = (1, 0, 2)  # DICOM series are written as (column, row, slice), as NIfTI has them


@dataclass(frozen=True)
class SliceHeader:
    """What a slice says of itself, without its pixels.

    Attributes:
        path: its file.
        sop_uid, series_uid, study_uid: DICOM identity; ``series_uid`` is never empty.
        patient_id: PatientID, else StudyInstanceUID, FrameOfReferenceUID or what stands for the folder: what a split
            keeps whole.
        shape: (rows, columns).
        spacing_mm: distance between rows, then between columns.
        orientation: ImageOrientationPatient, as unit vectors at right angles (see `sarco.scan.geometry.unit_cosines`).
        position: ImagePositionPatient (LPS).
        thickness_mm: the step that a lone slice is given: SliceThickness, else SpacingBetweenSlices, else 1.
        description, number: SeriesDescription and SeriesNumber, for people.
        frame: its place among the frames of the file, from 0; files of one slice have frame 0.
        frame_of_reference: FrameOfReferenceUID; positions of different ones cannot be compared.
        has_patient_id: whether ``patient_id`` is a PatientID.
        instance: InstanceNumber as it stands there, which only copies of a slice share; empty where it is missing.
        doubts: why its HU may not be those of a plain CT, a line each.
        scale: RescaleSlope and RescaleIntercept; None where they do not say how stored values become HU.
        marks: of those of `PERSON_TAGS` and `SCAN_TAGS` that say something, the tag and a digest of what it says.
        said_thickness_mm, said_step_mm: SliceThickness and SpacingBetweenSlices, where they are positive.
    """

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness_mm: float
    description: str
    number: int | None
    frame: int = 0
    frame_of_reference: str = ""
    has_patient_id: bool = True
    instance: str = ""
    doubts: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None
    marks: tuple[tuple[str, str], ...] = ()
    said_thickness_mm: float | None = None
    said_step_mm: float | None = None

    def mark(self, tag: str) -> str:
        """A digest of what a tag says; empty where it says nothing."""
        return next((digest for name, digest in self.marks if name == tag), "")

    @property
    def instance_number(self) -> int | None:
        """InstanceNumber; None where it is missing, or no whole number."""
        return int(self.instance) if self.instance.removeprefix("-").isdecimal() else None

    @property
    def affine_lps(self) -> Affine:
        """The slice's own affine; its third column is the normal, as long as ``thickness_mm``."""
        step = slice_normal(self.orientation) * self.thickness_mm
        return slice_affine_lps(self.position, self.orientation, self.spacing_mm, step)

    @property
    def plane_name(self) -> str:
        """``axial``, ``coronal`` or ``sagittal``: the plane of the patient that lies closest to the slice."""
        normal = np.abs(slice_normal(self.orientation))
        return ("sagittal", "coronal", "axial")[int(normal.argmax())]

    @property
    def name(self) -> str:
        """File and, where it holds several, frame: for messages."""
        return f"{self.path} frame {self.frame + 1}" if self.frame else str(self.path)


@dataclass(frozen=True)
class Series:
    """Slices of one SeriesInstanceUID on one regular grid, in order of position along their normal.

    Attributes:
        uid: SeriesInstanceUID (or what stands for it).
        slices: headers in order.
        plane_index: for each slice its plane on the grid; planes without a slice are gaps.
        affine_lps: (row, column, plane, 1) to LPS mm.
        n_planes: planes of the grid, gaps included.
        part: 0 for a whole series; 1, 2, ... where uneven gaps cut it into runs of equal steps.
        file_axes: for each axis of a NIfTI file on this grid, which of (row, column, plane) it is.
    """

    uid: str
    slices: tuple[SliceHeader, ...]
    plane_index: tuple[int, ...]
    affine_lps: Affine = field(repr=False)
    n_planes: int
    part: int = 0
    file_axes: tuple[int, int, int] = FILE_AXES

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, planes)."""
        return (*self.slices[0].shape, self.n_planes)

    @property
    def key(self) -> SeriesKey:
        """What no other series has: anonymisers give several of them one UID."""
        return self.uid, self.part, self.slices[0].path, self.slices[0].frame

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the HU of its slices may not be those of a plain CT, each once."""
        return tuple(dict.fromkeys(doubt for header in self.slices for doubt in header.doubts))

    @property
    def step_doubts(self) -> tuple[str, ...]:
        """Why the distance of its planes may not be that of the scan, a line each."""
        step_mm = float(np.linalg.norm(self.affine_lps[:3, 2]))
        thickness_mm, between_mm = _said_by_all(self.slices)
        return doubts_of_step(step_mm, thickness_mm, between_mm, [s.instance_number for s in self.slices])

    @property
    def missing_planes(self) -> list[int]:
        """Planes of the grid that no slice lies on."""
        return sorted(set(range(self.n_planes)) - set(self.plane_index))

    def plane_affine_lps(self, plane: int) -> Affine:
        """The affine of one plane as a volume of one slice."""
        return plane_affine(self.affine_lps, plane)


def make_series(headers: Iterable[SliceHeader]) -> Series:
    """Puts slices of one series in order and checks that they form one regular grid.

    Raises:
        GeometryError: slices differ in patient, frame of reference, size, spacing or orientation, share a position or
            a number, are spaced unevenly or as no scan is, or are of two scans that alternate.
    """
    slices = list(headers)
    _check_alike(slices)
    first = slices[0]
    try:
        stack = stack_slices([s.position for s in slices], slice_normal(first.orientation), first.thickness_mm)
        step_mm = float(np.linalg.norm(stack.step_lps))
        check_step(step_mm, len(slices), stack.n_planes, _said_by_all(slices)[0])
    except GeometryError as error:
        raise type(error)(f"series {first.series_uid} in {first.path.parent}: {error}") from None
    ordered = tuple(slices[i] for i in stack.order)
    _check_alternation(ordered, stack)
    return Series(
        uid=first.series_uid,
        slices=ordered,
        plane_index=stack.plane_index,
        affine_lps=slice_affine_lps(stack.first_position, first.orientation, first.spacing_mm, stack.step_lps),
        n_planes=stack.n_planes,
    )


def make_runs(headers: Iterable[SliceHeader]) -> list[Series]:
    """Cuts a series at its uneven gaps: each part is a series with equal steps, numbered from 1.

    A slice that is left alone reaches no further than to the next one, however thick it is.

    Raises:
        GeometryError: as `make_series`, but for the uneven gaps.
    """
    slices = list(headers)
    _check_alike(slices)
    normal = slice_normal(slices[0].orientation)
    along = np.array([np.dot(s.position, normal) for s in slices])
    series = []
    for number, run in enumerate(split_runs([s.position for s in slices], normal), start=1):
        members = [slices[i] for i in run]
        if len(members) == 1 < len(slices):
            nearest_mm = float(np.delete(np.abs(along - along[run[0]]), run[0]).min())
            members = [replace(members[0], thickness_mm=min(members[0].thickness_mm, nearest_mm))]
        series.append(replace(make_series(members), part=number))
    return series


def _said_by_all(slices: Sequence[SliceHeader]) -> tuple[float | None, float | None]:
    """SliceThickness and SpacingBetweenSlices, where all slices say the same."""
    said = {(s.said_thickness_mm, s.said_step_mm) for s in slices}
    return said.pop() if len(said) == 1 else (None, None)


def identities(slices: Sequence[SliceHeader]) -> dict[str, dict[str, SliceHeader]]:
    """For each tag that says who and what was scanned: what it says, never empty, each with a slice that says so."""
    found = {
        "PatientID": {s.patient_id: s for s in slices if s.has_patient_id},
        "StudyInstanceUID": {s.study_uid: s for s in slices if s.study_uid},
        "FrameOfReferenceUID": {s.frame_of_reference: s for s in slices if s.frame_of_reference},
    }
    marked: dict[str, dict[str, SliceHeader]] = {tag: {} for tag in PERSON_TAGS}
    for header in slices:
        for tag, digest in header.marks:
            if tag in marked:
                marked[tag].setdefault(digest, header)
    return found | marked


def check_identity(slices: Sequence[SliceHeader]) -> None:
    """Raises a `GeometryError` where slices say that they are of different patients, studies or frames of reference.

    So they say, too, where two of them in different places have one InstanceNumber of one acquisition, unless all have
    the same, as some converters write it.
    """
    for what, found in identities(slices).items():
        if len(found) > 1:
            raise _two_scans(what, *list(found.values())[:2])
    if len({s.instance for s in slices}) > 1 and (pair := find_collision(slices)):
        raise _two_scans("place but not in InstanceNumber", *pair)


def find_collision(slices: Iterable[SliceHeader], folders: bool = False) -> tuple[SliceHeader, SliceHeader] | None:
    """Two files that share an InstanceNumber but lie in different places; None where there are none.

    Args:
        slices: of what may be one series.
        folders: look only at slices of different folders, of which no acquisition numbers its slices anew.
    """
    numbered: dict[tuple[str, str], SliceHeader] = {}
    for header in slices:
        if header.instance:
            acquisition = "" if folders else header.mark("AcquisitionNumber")
            first = numbered.setdefault((acquisition, header.instance), header)
            apart = first.path.parent != header.path.parent if folders else first.path != header.path
            if apart and not lie_together(first, header, ROUNDED_POSITION_MM):
                return first, header
    return None


def are_alike(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same size, pixels and direction."""
    return (
        one.shape == other.shape
        and np.allclose(one.spacing_mm, other.spacing_mm, rtol=0, atol=SPACING_TOLERANCE_MM)
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=ORIENTATION_TOLERANCE)
    )


def lie_together(one: SliceHeader, other: SliceHeader, within_mm: float) -> bool:
    """Whether two slices have one position."""
    return bool(np.allclose(one.position, other.position, rtol=0, atol=within_mm))


def _two_scans(what: str, one: SliceHeader, two: SliceHeader) -> GeometryError:
    return GeometryError(
        f"series {one.series_uid}: {one.name} and {two.name} differ in {what}, so two scans share one "
        "SeriesInstanceUID; keep one of them in the folder"
    )


def _check_alternation(slices: Sequence[SliceHeader], stack: SliceStack) -> None:
    """Refuses two phases or reconstructions that lie between each other."""
    found = {tag: alternating(stack.plane_index, [s.mark(tag) for s in slices]) for tag in SCAN_TAGS}
    by_number = alternating(stack.plane_index, stretches(stack.plane_index, [s.instance_number for s in slices]))
    found["InstanceNumber"] = by_number if min(by_number, default=0) > 2 else ()  # a few may be out of order
    for tag, counts in found.items():
        if counts:
            sizes = " and ".join(map(str, counts))
            raise GeometryError(
                f"series {slices[0].series_uid} in {slices[0].path.parent}: groups of {sizes} slices by "
                f"{tag} alternate along the axis, so two phases or reconstructions share the series; keep one of them "
                "in the folder"
            )


def _check_alike(slices: Sequence[SliceHeader]) -> None:
    first = slices[0]
    for what, values, tolerance in (
        ("size", [s.shape for s in slices], 0.0),
        ("pixel spacing", [s.spacing_mm for s in slices], SPACING_TOLERANCE_MM),
        ("orientation", [s.orientation for s in slices], ORIENTATION_TOLERANCE),
    ):
        different = (np.abs(np.array(values) - values[0]) > tolerance).any(axis=1)
        if different.any():
            other = slices[int(different.argmax())]
            raise GeometryError(
                f"series {first.series_uid}: {first.name} and {other.name} differ in {what} ({list(values[0])} and "
                f"{list(values[int(different.argmax())])}); keep one kind of slice in the folder"
            )
    check_identity(slices)


def set_strays_aside(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[InputError]]:
    """Takes out what cannot belong to a stack: single slices that are turned another way.

    Args:
        slices: of one series, at least one.

    Returns:
        The slices that stay, and a line for each that does not.
    """
    kept, aside = list(slices), []
    groups = Counter(_rounded_orientation(s) for s in kept)
    usual, count = groups.most_common(1)[0]
    turned = [s for s in kept if not np.allclose(s.orientation, usual, rtol=0, atol=2 * ORIENTATION_TOLERANCE)]
    if turned and count > len(kept) / 2:  # otherwise nobody can say which of them are strays
        out = {id(s) for s in turned}
        kept = [s for s in kept if id(s) not in out]
        aside += [InputError(f"{s.name}: lies in another direction than its series; it was set aside") for s in turned]
    return kept, aside


def _rounded_orientation(header: SliceHeader) -> tuple[float, ...]:
    return tuple(round(cosine / ORIENTATION_TOLERANCE) * ORIENTATION_TOLERANCE + 0.0 for cosine in header.orientation)


def find_doubles(
    slices: Sequence[SliceHeader], within_mm: float = SAME_POSITION_MM
) -> list[tuple[SliceHeader, SliceHeader]]:
    """Pairs of slices at the same position: the one that comes first by file name, and each further one."""
    normal = slice_normal(slices[0].orientation)
    along = np.array([np.dot(s.position, normal) for s in slices])
    order = np.argsort(along, kind="stable")
    doubles = []
    for level in np.split(order, np.flatnonzero(np.diff(along[order]) > within_mm) + 1):
        firsts: list[SliceHeader] = []
        for header in sorted((slices[i] for i in level), key=lambda s: s.name):
            first = next((one for one in firsts if lie_together(one, header, within_mm)), None)
            if first is None:
                firsts.append(header)
            else:
                doubles.append((first, header))
    return doubles


def check_axial(header: SliceHeader) -> None:
    """Raises an `OtherKindError` where a slice does not run across the body, which is all that sarco looks at."""
    if header.plane_name != "axial":
        raise OtherKindError(
            f"{header.name}: the slice is {header.plane_name}, but muscle is segmented on axial slices; choose the "
            "axial series, or reformat this one"
        )


def pick_evenly(indices: Sequence[int], count: int) -> list[int]:
    """Up to ``count`` of the indices, evenly spread, the ends left out where there are many.

    >>> pick_evenly(range(100), 4)
    [12, 37, 62, 87]
    """
    n = len(indices)
    if n <= count:
        return list(indices)
    return [indices[int((k + 0.5) * n / count)] for k in range(count)]


NO_NEIGHBOUR_BEYOND = 1.5  # steps: further away lies a gap, not the neighbour


def find_neighbours(slices: Sequence[SliceHeader]) -> list[tuple[SliceHeader, tuple[SliceHeader, SliceHeader]]]:
    """For each slice of a series, in order of position, the slices below (inferior) and above (superior) it.

    A slice stands in for a neighbour that is missing: at the ends, and beside a gap.
    """
    normal = slice_normal(slices[0].orientation)
    normal = normal * np.sign(normal[np.abs(normal).argmax()])  # whichever way rows and columns of the slices run
    along = np.array([np.dot(s.position, normal) for s in slices])
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    reach = NO_NEIGHBOUR_BEYOND * gaps[gaps > 1e-3].min(initial=np.inf)
    ordered = [slices[i] for i in order]

    def fits(lower: int) -> bool:
        return bool(1e-3 < gaps[lower] < reach) and ordered[lower].shape == ordered[lower + 1].shape

    result = []
    for place, header in enumerate(ordered):
        below = ordered[place - 1] if place > 0 and fits(place - 1) else header
        above = ordered[place + 1] if place + 1 < len(ordered) and fits(place) else header
        result.append((header, (below, above)))
    return result
