"""Pieces that tests of DICOM files, results and tags share."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, Sequence

from sarco.io.dicom import read_header
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.scan.series import SliceHeader


def data_set(**tags: Any) -> Dataset:
    """A data set with these tags, sound or not."""
    made = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in tags.items():
            setattr(made, name, value)
    return made


def unit(code: str) -> Sequence:
    """A code for a unit."""
    return Sequence([data_set(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning=code)])


def real_world(*codes: str) -> Sequence:
    """Real world value mappings to these units."""
    return Sequence([data_set(MeasurementUnitsCodeSequence=unit(code)) for code in codes])


def read_slice(path: Path) -> tuple[NDArray[np.float32], SliceHeader]:
    """The HU (row, column) and the header of a file with one slice."""
    header = read_header(path)
    return read_dicom_hu(header), header


@dataclass(frozen=True)
class Measured:
    """What a report takes of one label on one slice."""

    slice_index: int
    label_id: int
    n_pixels: int
    area_cm2: float
    mean_hu: float | None
    sd_hu: float | None
