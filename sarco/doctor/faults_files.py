"""Faults of files for `sarco.doctor.score`: what lies in a folder, who it belongs to, and how it is encoded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
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


def _two_people(**identity: str) -> Callable[[Path], tuple[Truth, ...]]:
    """Two people in folders of one name, whose headers were given these values."""

    def build(folder: Path) -> tuple[Truth, ...]:
        truths = []
        for number, seed in enumerate((11, 12)):
            source = phantom(seed)
            affine = source.affine_lps.copy()
            affine[:3, 3] = phantom().affine_lps[:3, 3] + number * 7 * affine[:3, 2]  # above the other, on its grid
            moved = dataclasses.replace(source, affine_lps=affine)
            datasets = datasets_of(moved)
            for dataset in datasets:
                for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
                    setattr(dataset, keyword, "")
                for keyword, value in identity.items():
                    setattr(dataset, keyword, value)
                dataset.PatientSex = dataset.PatientSize = dataset.PatientWeight = None
            save(datasets, folder / f"person{number + 1}" / "CT")
            truths.append(truth_of(moved))
        return tuple(truths)

    return build


def _lost(change: Callable[[Path], object]) -> Callable[[Path], tuple[Truth, ...]]:
    """The topmost slice cannot be read any more, and nothing else says that it was there."""

    def build(folder: Path) -> tuple[Truth, ...]:
        change(save(datasets_of(phantom()), folder)[-1])
        return ()

    return build


def _to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(Path("annex") / path.name)


def _foreign_letters(folder: Path) -> tuple[Truth, ...]:
    """Names and descriptions in Latin 1, in files that say UTF-8."""
    for path in save(datasets_of(phantom()), folder):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"Phantom", b"Ph\xe4nt\xf6m"))
    return (truth_of(phantom()),)


def _long_numbers(folder: Path) -> tuple[Truth, ...]:
    """Decimal strings of more than the 16 characters that DICOM allows."""
    datasets = datasets_of(phantom())
    for dataset in datasets:
        for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
            text = "\\".join(f"{float(number):.17f}" for number in dataset[keyword].value).encode()
            value = text + b" " * (len(text) % 2)
            tag = Tag(keyword)
            dataset._dict[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    save(datasets, folder)
    return (truth_of(phantom()),)


FILE_FAULTS = (
    Fault("no_uids", "two people in folders of one name, all UIDs and IDs emptied", _two_people(SeriesInstanceUID="")),
    Fault(
        "shared_uids",
        "two people in folders of one name, with the same UIDs and ID",
        _two_people(SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2", PatientID="anonymous"),
    ),
    Fault("empty_file", "the topmost slice is an empty file", _lost(lambda path: path.write_bytes(b""))),
    Fault("zero_filled", "the topmost slice is full of zeros", _lost(lambda path: path.write_bytes(bytes(9000)))),
    Fault("link_to_nowhere", "the topmost slice is a link to a file that is not there", _lost(_to_nowhere)),
    Fault("foreign_letters", "text in Latin 1, in files that say it is UTF-8", _foreign_letters),
    Fault("long_numbers", "numbers of more than 16 characters", _long_numbers),
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
