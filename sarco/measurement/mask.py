"""Measures anybody's mask on its CT: which series it lies on, what its labels are called, and what they come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError
from sarco.core.options import MeasurementOptions
from sarco.io.dicom import find_series
from sarco.io.images import find_images, read_hu
from sarco.io.nifti import is_nifti, read_label_map
from sarco.measurement.series import Evidence, Plans, check_options
from sarco.measurement.slices import SliceMeasurement
from sarco.scan.label_map import LabelMap, compare_steps, lay_over
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable, read_label_names
from sarco.scan.series import Series

Planes = dict[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class MeasuredMask:
    """What a mask comes to.

    Attributes:
        summary: what ``summary.json`` holds.
        rows: what ``measurements.csv`` holds, slice by slice.
        series: the scan that it lies on.
        planes: (row, column) label ids by plane of the series; planes that the mask does not cover are not in it.
        notes: what to know about the mask, a line each; often none.
    """

    summary: Mapping[str, Any]
    rows: Sequence[SliceMeasurement]
    series: Series
    planes: Mapping[int, NDArray[np.uint8]]
    notes: tuple[str, ...]

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """The rows as plain values by name, as a prediction has them."""
        return [asdict(row) for row in self.rows]


def measure_mask(
    image: Path,
    label_map: Path,
    options: MeasurementOptions | None = None,
    names: Path | None = None,
    tell: Callable[[str], object] | None = None,
) -> MeasuredMask:
    """Measures a mask slice by slice; one image at a time is in memory, and nothing is written.

    Args:
        image: a DICOM series (a folder or a file), or a NIfTI volume in HU.
        label_map: a NIfTI label map on the grid of the image; it may cover only some slices.
        options: where L3 is, who the patient is, what counts as muscle.
        names: a ``labels.json``; that beside the label map counts where none is given.
        tell: takes a line about each series of the image that is left out, before the work is done.

    Raises:
        SarcoError: a file cannot be read, the mask lies on no series or on several, or an option cannot be meant.
    """
    options = options or MeasurementOptions()
    drawn = read_label_map(label_map)
    labels = name_labels(drawn, names)
    check_options(options, labels)  # a mistyped name should not cost the time of measuring
    series, planes = pair(image, drawn, tell)
    measurer = Plans([series], options, Evidence(labels)).measurer(series)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        if plane in planes:
            measurer.add(plane, read_hu(header), planes[plane])
    notes = tuple(_notes(drawn, series, planes, labels))
    return MeasuredMask(measurer.summary(), measurer.rows, series, planes, notes)


def _notes(label_map: LabelMap, series: Series, planes: Planes, labels: Mapping[int, str]) -> list[str]:
    notes = []
    if label_map.affine_lps is None:
        notes.append(f"{label_map.path} has no usable affine; its axes count as right, anterior, superior")
    if len(planes) < len(series.slices):
        notes.append(f"the label map covers {len(planes)} of {len(series.slices)} slices; the others were not measured")
    if IGNORE_ID not in labels and (ignored := int(np.count_nonzero(label_map.ids == IGNORE_ID))):
        notes.append(f"{ignored} voxels are 255 (nobody looked) and count nowhere")
    return notes


def open_image(path: Path, tell: Callable[[str], object] | None = None) -> tuple[Series, ...]:
    """Every series of an image: the one place that decides which formats can be measured.

    Args:
        path: a folder or a file.
        tell: takes a line about each series that is left out.

    Raises:
        InputError: there is nothing to measure.
    """
    # Volumes are right in any plane, so series that cannot be predicted because they are coronal can be measured.
    found = find_images(path) if is_nifti(path) else find_series(path)
    if tell:
        for error in found.refused:
            tell(f"left out: {error}")
    if not found.series:
        raise found.refused[-1]
    return found.series


def pair(image: Path, label_map: LabelMap, tell: Callable[[str], object] | None = None) -> tuple[Series, Planes]:
    """The series of an image that a label map lies on, and its planes.

    Args:
        image: a folder or a file.
        label_map: what was drawn.
        tell: takes a line about each series that is left out.

    Raises:
        GeometryError: it lies on none, on several, or only in part.
    """
    fitting: list[tuple[Series, Planes, int]] = []
    faults: list[GeometryError] = []
    for series in open_image(image, tell):
        try:
            fitting.append((series, *lay_over(label_map, series)))
        except GeometryError as error:
            faults.append(error)
    if not fitting:
        raise faults[0]
    if len(fitting) > 1:
        uids = ", ".join(series.uid for series, _, _ in fitting)
        raise GeometryError(f"{label_map.path} lies on several series of {image} ({uids}); give the folder of one")
    series, planes, outside = fitting[0]
    if outside:
        raise GeometryError(
            f"{label_map.path}: {outside} labelled voxels lie on no slice of {image}, so they have no HU"
            f"{compare_steps(label_map, series)}; give the whole series, and the label map on its grid"
        )
    return series, planes


def name_labels(label_map: LabelMap, names_path: Path | None) -> dict[int, str]:
    """Names of the labels that a map holds or a file names; ``labels.json`` beside the map counts where none is given.

    Raises:
        InputError: the map holds no label, or a single one that means "nobody looked".
    """
    if names_path is not None and not names_path.is_file():
        raise InputError(f"{names_path}: there is no such file; check --labels")
    names = read_label_names(names_path or label_map.path.parent / "labels.json")
    found = {int(label_id) for label_id in np.unique(label_map.ids)} - {BACKGROUND_ID}
    if IGNORE_ID not in names:
        fault = label_map.fault_of_255(names)
        if not fault and found == {IGNORE_ID}:
            fault = 'is 255 ("nobody looked") wherever it is not 0; if 255 is a structure, save it with 1'
        if fault:
            raise InputError(
                f'{label_map.path}: {fault}, or name what 255 is with --labels FILE: {{"255": "skeletal_muscle"}}'
            )
        found -= {IGNORE_ID}
    if not found and not names:
        raise InputError(
            f"{label_map.path}: holds no label; is it the right file? If it is meant to be empty, name its "
            "labels with --labels"
        )
    # Names that the map does not hold count as measured and empty only where the user gave them for this map.
    return dict(LabelTable.from_ids(found | (names.keys() if names_path or not found else set()), names).names)
