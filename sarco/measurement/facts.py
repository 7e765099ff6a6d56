"""What is known of a series besides its pixels: who the patient is, how it was acquired, and where L3 lies."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from sarco.core.errors import OptionError
from sarco.io.dicom_header import flatten_frames
from sarco.io.dicom_tags import open_dataset
from sarco.io.nifti import is_nifti, read_label_map, scan_name
from sarco.measurement.acquisition import acquisition_of
from sarco.measurement.level import (
    Level,
    PlacedSlice,
    check_request,
    choose_slice,
    find_vertebra,
    is_uid,
    unknown_level,
)
from sarco.measurement.patients import (
    Identity,
    Patient,
    PatientTable,
    identity_of,
    merge_patients,
    patient_from_dicom,
)
from sarco.scan.label_map import lay_over
from sarco.scan.labels import IGNORE_ID
from sarco.scan.series import Series


@dataclass(frozen=True)
class SeriesFacts:
    """What a series says of itself besides its pixels.

    Attributes:
        identity: by what its patient is found in a table.
        patient: what its tags say of the patient.
        acquisition: as `sarco.measurement.acquisition.acquisition_of` gives it.
    """

    identity: Identity
    patient: Patient
    acquisition: dict[str, Any]


def read_facts(series: Series) -> SeriesFacts:
    """Reads the tags of the first slice. A NIfTI image has none; its patient goes by the name of the case."""
    first = series.slices[0]
    if is_nifti(first.path):
        return SeriesFacts(
            Identity(scan_name(first.path), "", str(first.path)), Patient(), acquisition_of(pydicom.Dataset())
        )
    dataset = flatten_frames(first.path, open_dataset(first.path, stop_before_pixels=True))[first.frame]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on values that do no harm here
        acquisition = acquisition_of(dataset)
        tilt_deg = acquisition["gantry_tilt_deg"]
        if tilt_deg and series.n_planes == 1:
            acquisition["note"] = (
                "a lone slice does not show how the table moved: areas are not corrected for its tilt of "
                f"{tilt_deg:g} deg"
            )
        return SeriesFacts(identity_of(dataset, str(first.path.parent)), patient_from_dicom(dataset), acquisition)


def find_patient(facts: SeriesFacts, table: PatientTable | None) -> Patient:
    """The patient of a series: from the table where there is one, with what only DICOM knows.

    Raises:
        InputError: the table has no row for the series.
    """
    return merge_patients(table.find(facts.identity), facts.patient) if table else facts.patient


def check_level_options(l3: str, vertebrae: Path | None, l3_label: int) -> None:
    """Raises an `OptionError` where the options for L3 cannot be meant together."""
    if l3:
        check_request(l3)
    if l3 and vertebrae:
        raise OptionError("--l3 and --vertebrae both name L3; give one of them")
    if (vertebrae is None) != (l3_label == 0):
        raise OptionError("--vertebrae and --l3_label go together: the file, and the label that L3 has in it")
    if not 0 <= l3_label < IGNORE_ID + 1:
        raise OptionError(f"--l3_label={l3_label}: has to be a label id, 1 to 255")


def find_level(series: Series, l3: str, vertebrae: Path | None, l3_label: int, n_series: int = 1) -> Level:
    """Where L3 lies in a series, by what the user gave, or why nobody knows.

    Args:
        series: the slices.
        l3: slice index, ``z=<mm>`` or SOPInstanceUID; "" where not given.
        vertebrae: a label map of vertebrae on the grid of the series, or None.
        l3_label: the label of L3 in it.
        n_series: how many series the options are for; an index or a z means one slice of one series.

    Raises:
        OptionError: the options contradict each other or the number of series.
        InputError: no slice answers to ``l3``, or the file cannot be read.
        GeometryError: the vertebrae do not lie on the series.
    """
    check_level_options(l3, vertebrae, l3_label)
    if n_series > 1 and (vertebrae or (l3 and not is_uid(l3))):
        given = f"--l3={l3}" if l3 else f"--vertebrae={vertebrae}"
        raise OptionError(f"{given}: names a place in one series, but there are {n_series}; predict them one by one")
    plane_name = series.slices[0].plane_name
    if (l3 or vertebrae) and plane_name != "axial":
        return unknown_level(f"the slices are {plane_name}, and the area at L3 is that of a cross-section")
    if l3:
        placed = [
            PlacedSlice(plane, float(series.plane_affine_lps(plane)[2, 3]), header.sop_uid)
            for header, plane in zip(series.slices, series.plane_index, strict=True)
        ]
        if n_series > 1 and l3 not in {one.sop_uid for one in placed}:
            return unknown_level("the slice that --l3 names belongs to another series")
        return choose_slice(l3, placed)
    if vertebrae is None:
        return unknown_level()
    planes, _ = lay_over(read_label_map(vertebrae), series)
    counts = {plane: int(np.count_nonzero(ids == l3_label)) for plane, ids in planes.items()}
    return find_vertebra(counts, series.plane_index, f"label {l3_label} of {vertebrae.name}")
