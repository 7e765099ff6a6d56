"""Pixels of a DICOM slice in Hounsfield units: decoding, rescale, look-up table, padding."""

import struct
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from sarco.core.errors import InputError
from sarco.core.messages import reason_of
from sarco.io.dicom_header import flatten_frames, orientation_of
from sarco.io.dicom_jpeg import PLUGIN_OF, missing_packages_of
from sarco.io.dicom_tags import number_of, numbers_of, open_dataset, quiet_pydicom, text_of, value_of
from sarco.scan.hu import AIR_HU, describe_no_hu
from sarco.scan.series import SliceHeader

_LARGEST_SLOPE, _LARGEST_INTERCEPT = 1e3, 1e5  # HU reach from -1024 to about 30000, even in metal
_SMALLEST_SLOPE = 1e-7  # even 32 bits reach over no more than 430 HU then
_CLEARLY_HU = (-3100, -900)  # where the smallest value of a CT slice lies if it is in HU: air, or padding below it
_LARGE_PRIVATE = 4096  # bytes; pixels take more, the notes of vendors less
_SPARE_BYTES = 8  # some programs fill up pixels to a round length; more means that Rows or Columns are wrong
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, and JPEG-LS's SOF55
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@quiet_pydicom()
def read_dicom_hu(header: SliceHeader) -> NDArray[np.float32]:
    """The pixels of one CT slice: (row, column) Hounsfield units.

    Padding (PixelPaddingValue) that lies around the image counts as air.

    Raises:
        InputError: pixels are missing, cannot be decoded, or cannot be turned into HU.
    """
    path = header.path
    dataset, frames = _open_frames(path) if header.frame else _open_alone(path)
    if header.frame >= len(frames):
        raise InputError(f"{path}: holds {len(frames)} frames now; it was changed while it was read")
    flat = frames[header.frame]
    _check_place(path, flat, header)
    if "PixelData" not in dataset:
        raise InputError(f"{path}: {_why_no_pixels(dataset)}")
    stored = _stored_values(path, dataset, header, len(frames))
    if stored.shape != header.shape:
        raise InputError(
            f"{path}: pixels have shape {stored.shape}, the header says {header.shape}; export the slice again"
        )
    hu = _rescale(path, flat, stored)
    if fault := describe_no_hu(hu):
        raise InputError(f"{path}: {fault}; export the series with its own rescale")
    return _air_for_padding(path, flat, stored, hu)


def _why_no_pixels(dataset: pydicom.Dataset) -> str:
    """Some scanners keep pixels in a compression of their own, in private elements."""
    private = [dataset.get_item(tag).value for tag in dataset.keys() if tag.is_private]  # noqa: SIM118 - keys are raw
    if any(isinstance(value, bytes) and len(value) > _LARGE_PRIVATE for value in private):
        return (
            "its pixels are not in PixelData but in a private compression of the vendor, which cannot be decoded; "
            "export the series again without it"
        )
    return "holds no pixel data; export the slice with its pixels"


def _check_place(path: Path, flat: pydicom.Dataset, header: SliceHeader) -> None:
    """Headers are read up to the pixels alone: what follows them may be a second slice that takes the place of both."""
    for tag, found, expected in (
        ("ImagePositionPatient", numbers_of(path, flat, "ImagePositionPatient", 3), header.position),
        ("ImageOrientationPatient", orientation_of(path, flat), header.orientation),
        ("PixelSpacing", numbers_of(path, flat, "PixelSpacing", 2), header.spacing_mm),
    ):
        if found != expected:
            raise InputError(
                f"{path}: {tag} of the pixels is another than that of the header; the file holds two slices, or was "
                "changed while it was read: export it again"
            )


def _open_alone(path: Path) -> tuple[pydicom.FileDataset, list[pydicom.Dataset]]:
    dataset = open_dataset(path)
    if (number_of(path, dataset, "NumberOfFrames") or 1) > 1:
        return _open_frames(path)
    return dataset, flatten_frames(path, dataset)


def _open_frames(path: Path) -> tuple[pydicom.FileDataset, list[pydicom.Dataset]]:
    status = path.stat()
    return _open_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)  # the frames of a file are read one after the other
def _open_version(path: Path, mtime_ns: int, size: int) -> tuple[pydicom.FileDataset, list[pydicom.Dataset]]:
    dataset = open_dataset(path)
    return dataset, flatten_frames(path, dataset)


def _stored_values(path: Path, dataset: pydicom.FileDataset, header: SliceHeader, n_frames: int) -> NDArray[Any]:
    """One frame as it is stored, bits that hold no pixel cleared."""
    stored_bits, high_bit = (number_of(path, dataset, tag) for tag in ("BitsStored", "HighBit"))
    if stored_bits is not None and high_bit is not None and high_bit != stored_bits - 1:
        raise InputError(
            f"{path}: pixels end at bit {high_bit:g} of {stored_bits:g}, a form that DICOM has retired; convert the "
            "file to one whose HighBit is BitsStored - 1"
        )
    plain = _plain_values(path, dataset, header, n_frames)
    if plain is not None:
        return plain
    _check_coded_shape(path, dataset, header, n_frames)
    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    if packages := missing_packages_of(syntax):
        raise InputError(f"{path}: pixels are encoded as {syntax.name}, which needs a package; pip install {packages}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*RLE segment contains non-conformant")  # more than the image has
            index = header.frame if n_frames > 1 else None
            return pixel_array(dataset, index=index, decoding_plugin=PLUGIN_OF.get(syntax, ""))
    except NotImplementedError:
        syntax = pydicom.uid.UID(text_of(path, dataset.file_meta, "TransferSyntaxUID"), pydicom.config.IGNORE)
        raise InputError(
            f"{path}: pixels are encoded as {syntax.name} ({syntax}), which cannot be decoded; "
            "convert the file to an uncompressed or JPEG 2000 one"
        ) from None
    except Exception as error:  # the decoders raise nearly anything on damaged data
        raise InputError(f"{path}: pixels cannot be decoded ({reason_of(error)}); export the slice again") from None


def _plain_values(path: Path, dataset: pydicom.FileDataset, header: SliceHeader, n_frames: int) -> NDArray[Any] | None:
    """The same for the plainest and commonest form, 16 bits little endian, four times as fast; else None."""
    allocated, stored, signed = (
        number_of(path, dataset, tag) for tag in ("BitsAllocated", "BitsStored", "PixelRepresentation")
    )
    data = value_of(path, dataset, "PixelData")
    if not isinstance(data, bytes) or dataset["PixelData"].is_undefined_length or allocated not in (8, 16, 32):
        return None  # compressed, or so odd that pydicom says what is wrong
    n = header.shape[0] * header.shape[1]
    expected = n * n_frames * int(allocated) // 8
    if not expected <= len(data) <= expected + _SPARE_BYTES:
        raise InputError(
            f"{path}: holds {len(data)} bytes of pixels, but Rows x Columns {header.shape[0]} x {header.shape[1]} "
            f"makes {expected}; export the slice again"
        )
    if value_of(path, dataset.file_meta, "TransferSyntaxUID") not in _PLAIN or allocated != 16 or signed not in (0, 1):
        return None
    if stored is None or not 8 <= stored <= 16:
        return None
    values = np.frombuffer(data, "<i2" if signed else "<u2", count=n, offset=2 * n * header.frame)
    if stored < 16:  # what lies above BitsStored may be an overlay, and has to become copies of the sign
        values = values << (16 - int(stored)) >> (16 - int(stored))
    return values.reshape(header.shape)


def _check_coded_shape(path: Path, dataset: pydicom.FileDataset, header: SliceHeader, n_frames: int) -> None:
    """Refuses compressed pixels that claim another size than the header, before a decoder takes memory for them."""
    try:
        code = get_frame(dataset.PixelData, header.frame, number_of_frames=n_frames)
        shape = coded_shape(code)
    except Exception:  # not compressed, or so damaged that the decoder says what is wrong
        return
    if shape not in (None, header.shape):
        raise InputError(
            f"{path}: pixels are coded as {shape[0]} x {shape[1]}, but Rows x Columns is {header.shape[0]} x "
            f"{header.shape[1]}; export the slice again"
        )


def coded_shape(code: bytes) -> tuple[int, int] | None:
    """Rows and columns that a compressed frame of one component says it holds; None where it does not say.

    Source: the SIZ marker of JPEG 2000 (ISO/IEC 15444-1, A.5.1), the frame header of JPEG (ISO/IEC 10918-1, B.2.2) and
    JPEG-LS (ISO/IEC 14495-1, C.2.2).
    """
    start = code.find(b"\xff\x4f\xff\x51", 0, 4096)  # in a JP2 file it stands after some boxes
    if start >= 0:
        right, lower, left, upper = struct.unpack_from(">4I", code, start + 8)
        (components,) = struct.unpack_from(">H", code, start + 40)
        return (lower - upper) * components, right - left
    at = 2 if code[:2] == b"\xff\xd8" else len(code)
    while at + 9 < len(code) and code[at] == 0xFF:
        marker, length, rows, columns = struct.unpack_from(">xBHxHH", code, at)
        if marker in _FRAME_MARKERS:
            return rows, columns
        at += 1 if marker == 0xFF else 2 + length  # 0xFF may be repeated
    return None


def _rescale(path: Path, dataset: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored values x RescaleSlope + RescaleIntercept (PS3.3 C.11.1.1.2), or through the Modality LUT."""
    slope, intercept = (number_of(path, dataset, tag) for tag in ("RescaleSlope", "RescaleIntercept"))
    table = value_of(path, dataset, "ModalityLUTSequence")
    if slope is None and intercept is None and table:
        return _look_up(path, dataset, table[0], stored)
    if slope is None or intercept is None:
        if not _CLEARLY_HU[0] <= int(stored.min()) <= _CLEARLY_HU[1]:  # signed values that reach down to air
            raise InputError(f"{path}: RescaleSlope or RescaleIntercept is missing, so values are not HU; correct it")
        slope, intercept = 1.0, 0.0
    if abs(slope) < _SMALLEST_SLOPE:
        raise InputError(f"{path}: RescaleSlope is {slope:g}, which makes every pixel the same; correct the tag")
    if abs(slope) > _LARGEST_SLOPE or abs(intercept) > _LARGEST_INTERCEPT:
        raise InputError(
            f"{path}: RescaleSlope {slope:g} or RescaleIntercept {intercept:g} is no HU scale; correct the tag"
        )
    hu = stored.astype(np.float32)
    if slope != 1:
        hu *= np.float32(slope)
    hu += np.float32(intercept)
    return hu


def _look_up(path: Path, dataset: pydicom.Dataset, table: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored values through a Modality LUT (PS3.3 C.11.1.1.1); entries are HU, negative ones in two's complement."""
    kind = text_of(path, table, "ModalityLUTType")
    descriptor, data = value_of(path, table, "LUTDescriptor"), value_of(path, table, "LUTData")
    try:
        count, first, bits = (int(number) for number in descriptor)
        order = "<" if value_of(path, dataset.file_meta, "TransferSyntaxUID").is_little_endian else ">"
        raw = np.frombuffer(data, f"{order}u2") if isinstance(data, bytes) else np.asarray(list(data), dtype=np.int64)
        entries = (raw.astype(np.int64) & 0xFFFF).astype(np.uint16).view(np.int16)
        usable = kind == "HU" and bits == 16 and len(entries) >= (count or 65536) and entries.min() < 0
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: ModalityLUTSequence cannot be read ({reason_of(error)}); correct it") from None
    if not usable:
        raise InputError(
            f"{path}: the Modality LUT does not lead to HU (type {kind[:16] or 'missing'}); choose the series in HU"
        )
    signed_first = np.array(first & 0xFFFF, dtype=np.uint16).view(np.int16) if stored.dtype.kind == "i" else first
    places = (stored.astype(np.int64) - int(signed_first)).clip(0, (count or 65536) - 1)
    return entries[places].astype(np.float32)


def _air_for_padding(
    path: Path, dataset: pydicom.Dataset, stored: NDArray[Any], hu: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Makes padding air (PS3.3 C.7.5.1.1.2), where its value would look like tissue.

    Padding surrounds an image, so only what is connected to its edge counts: the value may be that of a tissue too.
    """
    limits = [value_of(path, dataset, tag) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [_as_stored(path, limit, dataset, stored.dtype) for limit in limits if limit is not None and limit != ""]
    if not values:
        return hu
    is_padding = (stored >= min(values)) & (stored <= max(values))
    if not is_padding.any() or hu[is_padding].max() <= AIR_HU:
        return hu
    _, parts = cv2.connectedComponents(is_padding.astype(np.uint8), connectivity=4)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    hu[np.isin(parts, edge[edge > 0])] = AIR_HU
    return hu


def _as_stored(path: Path, value: Any, dataset: pydicom.Dataset, kind: np.dtype[Any]) -> int:
    """A padding value as the pixels hold it; its own VR may be unsigned where they are signed, or wider than they."""
    try:
        number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
        if dataset.BitsAllocated != 16:
            return number
        unused = max(0, 16 - int(dataset.BitsStored))
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise InputError(f"{path}: PixelPaddingValue is no number; correct the tag") from None
    bits = np.array(number & 0xFFFF, dtype=np.uint16) << np.uint16(unused)
    return int(bits.view(np.int16) >> unused) if kind.kind == "i" else int(bits >> unused)
