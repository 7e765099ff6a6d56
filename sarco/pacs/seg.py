"""A label map as DICOM segmentation (BINARY), with coded labels, in the place of its source slices.

Index order (row, column, plane) is that of the label map; a frame of the segmentation is one plane of one label and
carries the position of its source slice. So gaps and tilted gantries need nothing special.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

import sarco
from sarco.core.errors import GeometryError, InputError
from sarco.core.files import whole_or_gone
from sarco.pacs.codes import code_label
from sarco.pacs.source import (
    MAKER,
    Origin,
    Source,
    date_of_creation,
    fingerprint,
    identity,
    name_sop_classes,
    quiet,
    stable_uid,
    step_mm,
)
from sarco.scan.labels import LabelTable

_KIND = "segmentation"
POSITION_TOLERANCE_MM = 0.01
_LONGEST_LABEL = 64  # characters of an LO


@dataclass(frozen=True)
class Segmentation:
    """A written segmentation, as a report refers to it.

    Attributes:
        header: its data set without pixels.
        frames: frame number (from 1) by (label id, plane); has every plane on which the label has a pixel.
    """

    header: pydicom.Dataset
    frames: dict[tuple[int, int], int]

    @property
    def sop_uid(self) -> str:
        """Its SOPInstanceUID."""
        return str(self.header.SOPInstanceUID)


def segment_number(labels: LabelTable, label_id: int) -> int:
    """The number of a label's segment: they count from 1 without gaps, which label ids need not."""
    return labels.ids.index(label_id) + 1


def write_segmentation(
    path: Path, source: Source, label_map: NDArray[np.uint8], labels: LabelTable, origin: Origin
) -> Segmentation:
    """Writes a label map as DICOM segmentation, then reads the file again and compares.

    Args:
        path: the file to write.
        source: the series that was segmented.
        label_map: (row, column, plane) label ids on the grid of the series.
        labels: what the ids mean; each becomes a segment, also where it has no pixel.
        origin: who drew it.

    Raises:
        GeometryError: the label map is not on the grid of the series, marks a plane that has no slice, or the written
            file does not hold what it should, where it should.
        InputError: the label map holds an id without a name.
    """
    _check_label_map(source, label_map, labels)
    numbers = np.zeros(256, dtype=np.uint8)
    for label_id in labels.ids:
        numbers[label_id] = segment_number(labels, label_id)
    planes = list(source.series.plane_index)
    frames = np.ascontiguousarray(np.moveaxis(numbers[label_map[:, :, planes]], 2, 0))  # (plane, row, column)
    with whole_or_gone(path):
        with quiet():
            dataset = _build(source, frames, labels, origin, fingerprint(label_map))
            dataset.save_as(path, enforce_file_format=True)
        return check_segmentation(path, source, label_map, labels)


def _check_label_map(source: Source, label_map: NDArray[np.uint8], labels: LabelTable) -> None:
    series = source.series
    if label_map.shape != series.shape:
        raise GeometryError(
            f"series {series.uid}: the label map has shape {label_map.shape}, the series {series.shape}; give it on "
            "the grid of the series"
        )
    present = np.flatnonzero(np.bincount(label_map.ravel(), minlength=256))
    if unknown := sorted(set(present.tolist()) - {0, *labels.ids}):
        raise InputError(
            f"series {series.uid}: the label map holds id {unknown[0]}, which has no name; name it in labels.json"
        )
    gaps = sorted(set(range(series.n_planes)) - set(series.plane_index))
    if gaps and (marked := [plane for plane in gaps if label_map[:, :, plane].any()]):
        raise GeometryError(
            f"series {series.uid}: the label map marks plane {marked[0]}, where the series has no slice to refer to; "
            "clear that plane"
        )


def _build(source: Source, frames: NDArray[np.uint8], labels: LabelTable, origin: Origin, content: str) -> Any:
    from highdicom.seg import Segmentation as HighdicomSegmentation

    names = tuple(labels.names.items())
    who = identity(source, origin, _KIND, 1, (content, names))
    dataset = HighdicomSegmentation(
        source_images=list(source.headers),
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=[_describe(source, labels, label_id, origin) for label_id in labels.ids],
        pixel_measures=_pixel_measures(source),
        content_label="SARCO",
        content_description=origin.describe()[:_LONGEST_LABEL],
        **who,
    )
    organisation = stable_uid("dimensions", who["sop_instance_uid"])  # highdicom draws a new one each time
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organisation
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = organisation
    name_sop_classes(dataset, source)
    date_of_creation(dataset, origin)
    return dataset


def _pixel_measures(source: Source) -> Any:
    """Spacing and thickness of the source, and the step between its planes, which highdicom cannot know past gaps."""
    from highdicom import PixelMeasuresSequence

    series = source.series
    return PixelMeasuresSequence(
        pixel_spacing=series.slices[0].spacing_mm,
        slice_thickness=float(source.first.SliceThickness),
        spacing_between_slices=step_mm(series) if series.n_planes > 1 else None,
    )


def _describe(source: Source, labels: LabelTable, label_id: int, origin: Origin) -> Any:
    """The segment of a label; the side is a modifier of the coded type."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    name = labels.names[label_id]
    code = code_label(name)
    description = SegmentDescription(
        segment_number=segment_number(labels, label_id),
        segment_label=segment_label(name),
        segmented_property_category=code.category,
        segmented_property_type=code.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=MAKER,
            family=codes.DCM.ArtificialIntelligence,
            version=sarco.__version__,
            parameters=origin.parameters() or None,
        ),
        tracking_id=segment_label(name),
        tracking_uid=stable_uid("track", source.series.uid, origin.checkpoint_sha256, name),
        display_color=CIELabColor.from_rgb(*labels.colour_rgb(label_id)),
    )
    description.SegmentDescription = f"label id {label_id} in label_map.nii.gz"
    if code.side:
        coded_type = description.SegmentedPropertyTypeCodeSequence[0]
        coded_type.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(code.side)]
    return description


def segment_label(name: str) -> str:
    r"""The name as DICOM can hold it: at most 64 characters, without control characters and ``\``.

    >>> segment_label("psoas\\left")
    'psoas/left'
    """
    readable = "".join(character for character in name.replace("\\", "/") if character.isprintable())
    return readable.strip()[:_LONGEST_LABEL].strip() or "label"


def check_segmentation(path: Path, source: Source, label_map: NDArray[np.uint8], labels: LabelTable) -> Segmentation:
    """Reads a written segmentation with pydicom alone and compares every pixel and every position.

    Raises:
        GeometryError: a frame lies elsewhere than its source slice, differs from the label map, or is missing.
    """
    series = source.series
    dataset = pydicom.dcmread(path)
    plane_of = {
        str(header.SOPInstanceUID): (plane, slice_header)
        for header, plane, slice_header in zip(source.headers, series.plane_index, series.slices, strict=True)
    }
    shared = dataset.SharedFunctionalGroupsSequence[0]
    _require_close(path, "orientation", _orientation(shared), series.slices[0].orientation, 1e-6)
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    _require_close(path, "pixel spacing", spacing, series.slices[0].spacing_mm, 1e-6)
    stored = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    found: dict[tuple[int, int], int] = {}
    for place, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        identified = group if "SegmentIdentificationSequence" in group else shared  # a lone segment is said once
        label_id = labels.ids[identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        plane, slice_header = plane_of[str(image.ReferencedSOPInstanceUID)]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        _require_close(path, f"position of plane {plane}", position, slice_header.position, POSITION_TOLERANCE_MM)
        mask = label_map[:, :, plane] == label_id
        if not np.array_equal(_read_frame(stored, place, mask.shape), mask):
            raise GeometryError(f"{path}: label {label_id} on plane {plane} was not stored as it is; please report it")
        found[label_id, plane] = place + 1
    for label_id in labels.ids:
        for plane in np.flatnonzero((label_map == label_id).any(axis=(0, 1))).tolist():
            if (label_id, plane) not in found:
                raise GeometryError(f"{path}: label {label_id} on plane {plane} was not stored; please report it")
    del dataset.PixelData
    return Segmentation(dataset, found)


def _orientation(group: pydicom.Dataset) -> Any:
    return group.PlaneOrientationSequence[0].ImageOrientationPatient


def _require_close(path: Path, what: str, stored: Any, expected: Any, tolerance: float) -> None:
    if not np.allclose(np.asarray(stored, dtype=float), expected, rtol=0, atol=tolerance):
        raise GeometryError(f"{path}: {what} is {list(stored)} instead of {list(expected)}; please report it")


def _read_frame(stored: NDArray[np.uint8], place: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """One frame out of packed bits; frames follow each other without padding (PS3.5 section 8.1.1)."""
    size = shape[0] * shape[1]
    first = place * size
    packed = stored[first // 8 : -(-(first + size) // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
    return bits.reshape(shape).astype(bool)
