"""The contact sheet as a DICOM secondary capture, for archives and viewers that show nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from sarco.core.errors import InputError
from sarco.core.files import whole_or_gone
from sarco.pacs.source import Origin, Source, date_of_creation, fingerprint, identity, name_sop_classes, quiet
from sarco.scan.geometry import Affine
from sarco.scan.view import View

_KIND = "overlay"
_SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")  # PS3.16 CID 7202


def write_picture(path: Path, source: Source, picture: NDArray[np.uint8], origin: Origin) -> pydicom.Dataset:
    """Writes a picture of a series as secondary capture.

    Args:
        path: the file to write.
        source: the series that it shows; it is referred to, slice by slice.
        picture: (row, column, 3) RGB, such as `sarco.review.sheet.contact_sheet` draws, in radiological view.
        origin: who drew it.

    Returns:
        The object as the file holds it.

    Raises:
        InputError: the file does not hold the picture.
    """
    with whole_or_gone(path):
        with quiet():
            dataset = _build(source, picture, origin)
            dataset.save_as(path, enforce_file_format=True)
            stored = pydicom.dcmread(path)
        values = np.frombuffer(stored.PixelData, dtype=np.uint8)[: picture.size]
        if not np.array_equal(values.reshape(stored.Rows, stored.Columns, 3), picture):
            raise InputError(f"{path}: does not hold the picture that was drawn; please report it")
        return stored


def _build(source: Source, picture: NDArray[np.uint8], origin: Origin) -> Any:
    from highdicom.sc import SCImage
    from highdicom.sr import CodedConcept

    first = source.first
    dataset = SCImage(
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=patient_orientation(source.series.affine_lps),
        study_instance_uid=first.StudyInstanceUID,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        **identity(source, origin, _KIND, 3, fingerprint(picture)),
    )
    dataset.copy_patient_and_study_information(first)
    if first.get("BodyPartExamined"):
        dataset.BodyPartExamined = first.BodyPartExamined
    else:
        dataset.Laterality = ""  # has to be there, empty, where nobody says what is shown (PS3.3 C.7.3.1)
    dataset.ConversionType = "WSD"
    dataset.DateOfSecondaryCapture = origin.created.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = origin.created.strftime("%H%M%S.%f")
    dataset.DerivationDescription = f"slices with outlines of labels, {origin.describe()}"
    dataset.BurnedInAnnotation = "YES"  # the title holds the UID of the series, which de-identification has to know
    purpose = CodedConcept(value=_SOURCE_IMAGE[0], scheme_designator=_SOURCE_IMAGE[1], meaning=_SOURCE_IMAGE[2])
    references = []
    for header in source.headers:
        reference = pydicom.Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [purpose]
        references.append(reference)
    dataset.SourceImageSequence = references
    name_sop_classes(dataset, source)
    date_of_creation(dataset, origin)
    return dataset


def patient_orientation(affine_lps: Affine) -> tuple[str, str]:
    """Where rows and columns of a picture run to that is turned by `sarco.scan.view.View`: ("L", "P").

    Source: PS3.3 C.7.6.1.1.1: the direction of growing column index, then that of growing row index, with F and H for
    feet and head.
    """
    edges = View.of(affine_lps).edges(affine_lps)
    right, bottom = (edges[side].translate(str.maketrans("IS", "FH")) for side in ("right", "bottom"))
    return right, bottom
