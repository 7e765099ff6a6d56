"""A labelled image: as a layout found it, and with its slices."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.core.messages import count_of
from sarco.io.dicom import find_series, read_header
from sarco.io.images import check_hu, describe_volume
from sarco.io.nifti import is_nifti
from sarco.layouts.labels import LabelSource, plain_source
from sarco.scan.label_map import LabelMap, compare_steps
from sarco.scan.series import Series, SliceHeader, check_axial, make_series

TRAIN, VAL, TEST = "train", "val", "test"


@dataclass(frozen=True)
class FoundCase:
    """An image with its labels, before anything of it was read.

    Attributes:
        name: of the case; the patient of a NIfTI image goes by it.
        layout: how the data lies, in words.
        image: a NIfTI volume, a DICOM file with one slice, or the folder of a DICOM series.
        labels: what labels it.
        side: `TRAIN`, `VAL` or `TEST`, where the data set says so; else empty.
        series_uid: which series of the folder it is; empty where that holds one.
        patient: whose it is, where a table says so; else empty.
        folds: its side in each fold of the data set's own cross-validation; empty where it has none.
    """

    name: str
    layout: str
    image: Path
    labels: LabelSource
    side: str = ""
    series_uid: str = ""
    patient: str = ""
    folds: tuple[str, ...] = ()

    @property
    def is_slice(self) -> bool:
        """Whether the image is a DICOM file with one slice."""
        return not self.image.is_dir() and not is_nifti(self.image)

    def open_image(self) -> tuple[SliceHeader, ...]:
        """The headers of its slices, in order of position; pixels are not read.

        Raises:
            InputError: the image cannot be read.
            GeometryError: its slices form no series, or are not axial.
        """
        if self.is_slice:
            headers: tuple[SliceHeader, ...] = (read_header(self.image),)
        elif is_nifti(self.image):
            person = self.patient or self.name
            headers = tuple(replace(one, patient_id=person) for one in describe_volume(self.image).slices)
        else:
            headers = self._series_of_folder().slices
        check_axial(headers[0])
        return headers

    def check_pixels(self) -> None:
        """Raises an `InputError` where a NIfTI image is no CT in HU."""
        if is_nifti(self.image):
            check_hu(self.image)

    def _series_of_folder(self) -> Series:
        found = find_series(self.image)
        if self.series_uid:
            return next(one for one in found.series if one.uid == self.series_uid)
        if len(found.series) != 1 or found.failed:
            reason = str(found.failed[0]) if found.failed else f"it holds {len(found.series)} series"
            raise InputError(
                f"{self.image}: cannot be paired with {self.labels.path}, because {reason}; keep one series in the "
                "folder"
            )
        if found.refused:  # a dose report, a DICOMDIR, a damaged slice
            left = count_of(len(found.refused), "file or series", "files or series")
            told = f"{left} beside {self.image.name} left out, the first: {found.refused[0]}"
            warnings.warn(told, DataWarning, 4)
        return found.series[0]


@dataclass(frozen=True)
class Case:
    """An image with its labels: one slice or one series.

    Attributes:
        label_path: what stands for the labels: their file, or the folder of their files.
        slices: the image's slices, in order of position.
        predicted: whether a network drew it, not a person.
        labels: where they come from; None for the file alone.
        side, folds: as of `FoundCase`.
    """

    label_path: Path
    slices: tuple[SliceHeader, ...]
    predicted: bool = False
    labels: LabelSource | None = None
    side: str = ""
    folds: tuple[str, ...] = ()

    @property
    def source(self) -> LabelSource:
        """Where the labels come from."""
        return self.labels or plain_source(self.label_path)

    def read_labels(self) -> LabelMap:
        """The label map as a whole, wherever it lies.

        Raises:
            InputError: it cannot be read.
            GeometryError: files that make it up lie on different grids, or it labels planes that the image lacks.
        """
        label_map, series = self.source.read(), make_series(self.slices)
        if label_map is None:
            ids = np.full(series.shape, self.source.beyond, dtype=np.uint8)
            return LabelMap(ids, series.affine_lps, self.label_path)
        if label_map.affine_lps is None:
            return label_map.assume_ras(series.affine_lps, series.shape)
        if is_nifti(self.slices[0].path):  # of a DICOM series, some slices may have been left out
            self._check_planes(label_map)
        return label_map

    def _check_planes(self, label_map: LabelMap) -> None:
        """Raises a `GeometryError` where a label map labels planes that the image does not have."""
        try:
            beyond = label_map.labelled_planes_beyond([(one.affine_lps, one.shape) for one in self.slices])
        except GeometryError:
            return  # it lies elsewhere, which `lay` says in full
        if beyond:
            raise GeometryError(
                f"{label_map.path} labels {count_of(beyond, 'plane')} that {self.slices[0].path} does not have "
                f"({count_of(len(self.slices), 'slice')}); take the image that was labelled, or cut the label map"
            )

    def lay(self, label_map: LabelMap, place: int) -> NDArray[np.uint8]:
        """The label map on the grid of one slice, (row, column).

        Args:
            label_map: of `read_labels`.
            place: the slice's index in ``slices``.

        Raises:
            GeometryError: it does not lie on the image; names both files.
        """
        header = self.slices[place]
        try:
            return label_map.on_slice(header.affine_lps, header.shape, header.path)
        except GeometryError as error:
            raise GeometryError(f"{error}{compare_steps(label_map, make_series(self.slices))}") from None

    def read_label_maps(self) -> list[NDArray[np.uint8]]:
        """The label map of each slice on that slice's grid, (row, column) each.

        Raises:
            InputError, GeometryError: as `read_labels` and `lay`.
        """
        label_map = self.read_labels()
        return [self.lay(label_map, place) for place in range(len(self.slices))]
