"""Brings a series, its label map and the user's words together: which slice is L3, who it is, what it measures.

Run `python -m sarco.measure.slices IMAGE LABEL_MAP` to measure anybody's mask.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from sarco.core.command import run_command, say
from sarco.core.errors import GeometryError, InputError, OptionError
from sarco.core.parser import yes_no
from sarco.io.dicom import find_series
from sarco.io.dicom_header import flatten_frames, open_dataset
from sarco.io.images import find_images, read_hu
from sarco.io.nifti import is_nifti, nifti_stem, read_label_map
from sarco.io.results import MEASUREMENTS, SUMMARY
from sarco.measure.acquisition import acquisition_of
from sarco.measure.cutoffs import read_cutoffs
from sarco.measure.level import Level, PlacedSlice, check_request, choose_slice, find_vertebra, is_uid, unknown_level
from sarco.measure.patients import (
    Identity,
    Patient,
    PatientTable,
    identity_of,
    merge_patients,
    patient_from_dicom,
    read_patients,
)
from sarco.measure.report import choose_muscle, describe, summarise, write_report
from sarco.measure.slices import STANDARD_RANGES, HuRanges, SliceMeasurement, measure_slice
from sarco.scan.label_map import LabelMap, lay_over
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable, read_label_names
from sarco.scan.series import Series

PROGRAM = "python -m sarco.measure.slices"

Planes = Mapping[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class SeriesFacts:
    """What a series says of itself besides its pixels.

    Attributes:
        identity: by what its patient is found in a table.
        patient: what its tags say of the patient.
        acquisition: as `sarco.measure.acquisition.acquisition_of` gives it.
    """

    identity: Identity
    patient: Patient
    acquisition: dict[str, Any]


def read_facts(series: Series) -> SeriesFacts:
    """Reads the tags of the first slice. A NIfTI image has none; its patient goes by the name of the file."""
    first = series.slices[0]
    if is_nifti(first.path):
        return SeriesFacts(Identity(nifti_stem(first.path), ""), Patient(), acquisition_of(pydicom.Dataset()))
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
        return SeriesFacts(identity_of(dataset), patient_from_dicom(dataset), acquisition)


def find_patient(facts: SeriesFacts, table: PatientTable | None) -> Patient:
    """The patient of a series: from the table where there is one, with what only DICOM knows.

    Raises:
        InputError: the table has no row for the series.
    """
    return merge_patients(table.find(facts.identity), facts.patient) if table else facts.patient


def check_level_flags(l3: str, vertebrae: Path | None, l3_label: int) -> None:
    """Raises an `OptionError` where the flags for L3 cannot be meant together."""
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
        n_series: how many series the flags are for; an index or a z means one slice of one series.

    Raises:
        OptionError: the flags contradict each other or the number of series.
        InputError: no slice answers to ``l3``, or the file cannot be read.
        GeometryError: the vertebrae do not lie on the series.
    """
    check_level_flags(l3, vertebrae, l3_label)
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


def measure_series(
    series: Series, planes: Planes, labels: Mapping[int, str], ranges: HuRanges = STANDARD_RANGES
) -> list[SliceMeasurement]:
    """Measures a series slice by slice; one image at a time is in memory.

    Args:
        series: read from disk here.
        planes: (row, column) label ids by plane; planes that are not in it are not measured.
        labels: names by label id.
        ranges: the HU table.
    """
    rows: list[SliceMeasurement] = []
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        if plane in planes:
            rows += measure_slice(read_hu(header), planes[plane], series.affine_lps, plane, labels, ranges)
    return rows


def open_image(path: Path) -> tuple[Series, ...]:
    """Every series of an image: the one place that decides which formats can be measured.

    Raises:
        InputError: there is nothing to measure.
    """
    # Volumes are right in any plane, so series that cannot be predicted because they are coronal can be measured.
    found = find_images(path) if is_nifti(path) else find_series(path)
    for error in found.refused:
        say(f"left out: {error}")
    if not found.series:
        raise found.refused[-1]
    return found.series


def pair(image: Path, label_map: LabelMap) -> tuple[Series, dict[int, NDArray[np.uint8]]]:
    """The series of an image that a label map lies on, and its planes.

    Raises:
        GeometryError: it lies on none, on several, or only in part.
    """
    fitting: list[tuple[Series, dict[int, NDArray[np.uint8]], int]] = []
    faults: list[GeometryError] = []
    for series in open_image(image):
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
            f"{label_map.path}: {outside} labelled voxels lie on no slice of {image}, so they have no HU; give the "
            "whole series"
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
        if found == {IGNORE_ID}:
            raise InputError(
                f'{label_map.path}: holds 255 alone, which means "nobody looked"; if it is your mask, name it with '
                '--labels FILE: {"255": "skeletal_muscle"}'
            )
        found -= {IGNORE_ID}
    if not found and not names:
        raise InputError(f"{label_map.path}: holds no label; is it the right file?")
    # Names that the map does not hold count as measured and empty only where the user gave them for this map.
    return dict(LabelTable.from_ids(found | (names.keys() if names_path or not found else set()), names).names)


def main(argv: Sequence[str]) -> None:
    """Measures a mask and writes and prints the result."""
    typed = _parser().parse_args(argv)
    ranges = HuRanges.parse(typed.hu_ranges)
    check_level_flags(typed.l3, typed.vertebrae, typed.l3_label)
    table = read_patients(typed.patients) if typed.patients else None
    label_map = read_label_map(typed.label_map)
    labels = name_labels(label_map, typed.labels)
    choose_muscle(typed.muscle_labels, labels)  # a mistyped name should not cost the time of measuring
    folder = typed.out or Path(f"measurements_of_{nifti_stem(typed.label_map)}")
    if not typed.overwrite and any((folder / name).exists() for name in (MEASUREMENTS, SUMMARY)):
        raise InputError(f"{folder}: holds measurements already; choose another --out, or --overwrite=yes")
    series, planes = pair(typed.image, label_map)
    facts = read_facts(series)
    patient = find_patient(facts, table)
    level = find_level(series, typed.l3, typed.vertebrae, typed.l3_label)
    rows = measure_series(series, planes, labels, ranges)
    summary = summarise(
        series.uid, rows, labels, ranges, level, typed.muscle_labels, patient, facts.acquisition, read_cutoffs()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_report(folder, rows, summary)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    for line in describe(summary):
        say(line)
    if label_map.affine_lps is None:
        say(f"note: {label_map.path} has no usable affine; its axes count as right, anterior, superior")
    if len(planes) < len(series.slices):
        say(f"note: the label map covers {len(planes)} of {len(series.slices)} slices; the others were not measured")
    if IGNORE_ID not in labels and (ignored := int(np.count_nonzero(label_map.ids == IGNORE_ID))):
        say(f"note: {ignored} voxels are 255 (nobody looked) and count nowhere")
    say(f"results: {folder / MEASUREMENTS}, {folder / SUMMARY}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Areas, volumes and densities of a mask on its CT.", allow_abbrev=False
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="DICOM series (a folder or a file), or a NIfTI volume in HU")
    add("label_map", metavar="LABEL_MAP", type=Path, help="NIfTI label map on the grid of the image")
    add("--labels", metavar="FILE", type=Path, help="names of the labels (default: labels.json beside LABEL_MAP)")
    add("--muscle_labels", metavar="NAMES", default="", help="labels that together are the muscle of a cross-section: "
        "names or ids with commas, or all (default: the one called skeletal_muscle)")  # fmt: skip
    add("--l3", metavar="PLACE", default="", help="L3 slice: index, z=<mm>, or SOPInstanceUID")
    add("--vertebrae", metavar="FILE", type=Path, help="NIfTI label map of vertebrae, to find L3 in")
    add("--l3_label", metavar="N", type=int, default=0, help="label of L3 in it")
    add("--patients", metavar="FILE", type=Path, help="CSV with PatientID or StudyInstanceUID, sex, height, weight_kg")
    add(
        "--hu_ranges", metavar="RANGES", default="", help="such as muscle=-29:150,lama=-29:29,nama=30:150,imat=-190:-30"
    )
    add("--out", metavar="DIR", type=Path, help="folder of the results (default: measurements_of_<LABEL_MAP>)")
    add("--overwrite", metavar="yes|no", type=yes_no, default=False, help="replace measurements that are there")
    add("--debug", action="store_true", help="show tracebacks of errors too")
    return parser


if __name__ == "__main__":
    run_command(main, PROGRAM)
