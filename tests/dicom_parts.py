"""Pieces that tests of DICOM results and tags share."""

import warnings
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset


def data_set(**tags: Any) -> Dataset:
    """A data set with these tags, sound or not."""
    made = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in tags.items():
            setattr(made, name, value)
    return made


@dataclass(frozen=True)
class Measured:
    """What a report takes of one label on one slice."""

    slice_index: int
    label_id: int
    n_pixels: int
    area_cm2: float
    mean_hu: float | None
    sd_hu: float | None
