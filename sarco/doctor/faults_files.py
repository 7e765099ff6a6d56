"""Faults of files for `sarco.doctor.score`: what lies in a folder, who it belongs to, and how it is encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from sarco.doctor.cases import COLUMNS, N_SLICES, ROWS, Fault, Truth, datasets_of, phantom, save, set_kind, truth_of

_SHARE_OF_FILE = 0.6  # that is left of a truncated one
_FIRST_PART = 3  # slices of the first patient where two share a series


def _uid(word: str) -> UID:
    return generate_uid(entropy_srcs=["sarco doctor", word])


def _bare(like: Dataset, sop_class: UID, modality: str) -> Dataset:
    """A data set of the same patient and study that holds no image."""
    dataset = Dataset()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "StudyTime"):
        setattr(dataset, keyword, like[keyword].value)
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = _uid(f"series {modality}"), _uid(f"instance {modality}")
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 9, 1
    set_kind(dataset, sop_class)
    return dataset


def _no_suffix(folder: Path) -> tuple[Truth, ...]:
    save(datasets_of(phantom()), folder, [f"I{number:07d}" for number in range(N_SLICES)])
    return (truth_of(phantom()),)


def _tree(folder: Path) -> tuple[Truth, ...]:
    other = phantom(12, oblique=True)
    first = datasets_of(phantom())
    save(first, folder / "CT" / "venous")
    second = datasets_of(other, "second")
    for dataset in second:
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientSex", "PatientSize", "PatientWeight"):
            setattr(dataset, keyword, first[0][keyword].value)
        dataset.SeriesNumber, dataset.SeriesDescription = 2, "Phantom late"
    save(second, folder / "CT" / "late")
    report = _bare(first[0], BasicTextSRStorage, "SR")
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    save([report], folder / "SR", ["dose.dcm"])
    (folder / "readme.txt").write_text("Exported for the second opinion.\n", encoding="utf-8")
    index = _bare(first[0], MediaStorageDirectoryStorage, "OT")
    index.FileSetID, index.DirectoryRecordSequence = "EXPORT", []
    save([index], folder, ["DICOMDIR"])
    return truth_of(phantom()), truth_of(other)


def _mr_beside(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    others = datasets_of(phantom(12))
    for number, other in enumerate(others):
        other.Modality, other.SeriesInstanceUID = "MR", _uid("MR series")
        other.SOPInstanceUID, other.SeriesNumber = _uid(f"MR {number}"), 2
        set_kind(other, MRImageStorage)
        del other.RescaleSlope, other.RescaleIntercept, other.RescaleType
    save(datasets, folder)
    save(others, folder, [f"MR{number:04d}.dcm" for number in range(N_SLICES)])
    return (truth_of(phantom()),)


def _colour_capture(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    capture = _bare(datasets[0], SecondaryCaptureImageStorage, "CT")
    capture.SeriesInstanceUID, capture.SeriesNumber = datasets[0].SeriesInstanceUID, 1
    capture.InstanceNumber, capture.ConversionType = N_SLICES + 1, "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.Rows, capture.Columns = ROWS, COLUMNS
    capture.BitsAllocated, capture.BitsStored, capture.HighBit, capture.PixelRepresentation = 8, 8, 7, 0
    colours = np.arange(ROWS * COLUMNS * 3, dtype=np.uint32) % 251
    capture.PixelData = colours.astype(np.uint8).tobytes()
    save([*datasets, capture], folder)
    return (truth_of(phantom()),)


def _file_twice(folder: Path) -> tuple[Truth, ...]:
    paths = save(datasets_of(phantom()), folder)
    shutil.copyfile(paths[1], folder / "IM0002 (copy).dcm")
    return (truth_of(phantom()),)


def _no_meta_header(folder: Path) -> tuple[Truth, ...]:
    for number, dataset in enumerate(datasets_of(phantom()), start=1):
        bare = Dataset()
        bare.update(dataset)
        bare.save_as(folder / f"IM{number:04d}.dcm", implicit_vr=True, little_endian=True)
    return (truth_of(phantom()),)


def _in_two_parts(**second: object) -> Callable[[Path], tuple[Truth, ...]]:
    """One SeriesInstanceUID whose upper slices differ in these tags."""

    def build(folder: Path) -> tuple[Truth, ...]:
        datasets = datasets_of(phantom())
        for dataset in datasets[_FIRST_PART:]:
            for keyword, value in second.items():
                setattr(dataset, keyword, value)
        save(datasets, folder)
        return truth_of(phantom(), range(_FIRST_PART)), truth_of(phantom(), range(_FIRST_PART, N_SLICES))

    return build


def _same_instance(folder: Path) -> tuple[Truth, ...]:
    datasets = datasets_of(phantom())
    for dataset in datasets:
        dataset.SOPInstanceUID = datasets[0].SOPInstanceUID
    save(datasets, folder)
    return (truth_of(phantom()),)


def _encoded(syntax: UID) -> Callable[[Path], tuple[Truth, ...]]:
    """A plain series in another transfer syntax, without loss."""

    def build(folder: Path) -> tuple[Truth, ...]:
        save(compressed(datasets_of(phantom()), syntax), folder)
        return (truth_of(phantom()),)

    return build


def compressed(datasets: Sequence[Dataset], syntax: UID) -> list[Dataset]:
    """The data sets in another transfer syntax with the same instance UIDs."""
    for dataset in datasets:
        if syntax in (RLELossless, JPEG2000Lossless):
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
    return list(datasets)


def _implicit(folder: Path) -> tuple[Truth, ...]:
    for number, dataset in enumerate(datasets_of(phantom()), start=1):
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        _reencoded(dataset).save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
    return (truth_of(phantom()),)


def _big_endian(folder: Path) -> tuple[Truth, ...]:
    for number, dataset in enumerate(datasets_of(phantom()), start=1):
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        _reencoded(dataset).save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
    return (truth_of(phantom()),)


def _reencoded(dataset: Dataset) -> Dataset:
    """The same elements in a data set that does not remember how it was encoded."""
    fresh = Dataset()
    for element in dataset:
        fresh.add(element)
    fresh.file_meta = FileMetaDataset(dataset.file_meta)
    return fresh


def _truncated(folder: Path) -> tuple[Truth, ...]:
    path = save(datasets_of(phantom()), folder)[2]
    content = path.read_bytes()
    path.write_bytes(content[: int(_SHARE_OF_FILE * len(content))])
    return ()


def _false_syntax(folder: Path) -> tuple[Truth, ...]:
    said, true = (str(uid).encode() for uid in (ExplicitVRLittleEndian, JPEG2000Lossless))
    for path in save(compressed(datasets_of(phantom()), JPEG2000Lossless), folder):
        content = path.read_bytes()
        path.write_bytes(content.replace(true, said.ljust(len(true), b"\0"), 1))
    return ()


FILE_FAULTS = (
    Fault("no_suffix", "file names without a suffix", _no_suffix),
    Fault("tree", "a tree of two series, a report without pixels, a text and a DICOMDIR", _tree),
    Fault("mr_beside", "an MR series in the same folder", _mr_beside),
    Fault("colour_capture", "a colour screenshot with the same SeriesInstanceUID", _colour_capture),
    Fault("file_twice", "the same file twice", _file_twice),
    Fault("no_meta_header", "files without preamble and meta header (Implicit VR)", _no_meta_header),
    Fault(
        "two_patients",
        "two patients under one SeriesInstanceUID",
        _in_two_parts(PatientID="somebody else", PatientName="Somebody^Else"),
        mixture=True,
    ),
    Fault(
        "two_frames_of_reference",
        "two frames of reference under one SeriesInstanceUID",
        _in_two_parts(FrameOfReferenceUID=_uid("another frame of reference")),
        mixture=True,
    ),
    Fault("same_instance", "all slices have the same SOPInstanceUID", _same_instance),
    Fault("implicit_vr", "Implicit VR Little Endian", _implicit),
    Fault("big_endian", "Explicit VR Big Endian (retired)", _big_endian),
    Fault("deflated", "Deflated Explicit VR Little Endian", _encoded(DeflatedExplicitVRLittleEndian)),
    Fault("rle", "RLE Lossless", _encoded(RLELossless)),
    Fault("jpeg_2000", "JPEG 2000 Lossless", _encoded(JPEG2000Lossless)),
    Fault("truncated", "one file breaks off in its pixels", _truncated),
    Fault("false_syntax", "JPEG 2000 pixels in files that say they are uncompressed", _false_syntax),
)
