"""A NIfTI file as it lies on the disk: its header, checked, its values as they are stored, and how it lies.

Nothing is mapped: a mapped file that somebody cuts short ends the process without a word. A packed file is unpacked
into memory once and to its last byte, where its checksum stands; of a plain one single planes can be read.
"""

import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from sarco.core.errors import GeometryError, InputError
from sarco.core.messages import reason_of
from sarco.scan.geometry import GRID_TOLERANCE_VOXELS, Affine, ras_to_lps, swap_rows_and_columns

_MOST_VOXELS = 2**31  # 4 GB of 16 bits: what a damaged header claims is refused before memory is taken
_BEST_PACKING = 1100  # deflate makes at most 1032 bytes of one
_HEADER_BYTES, _SECOND_VERSION = 348, 540  # sizeof_hdr, which tells NIfTI-2 from NIfTI-1
_GZIP_MARK = b"\x1f\x8b"  # RFC 1952
_FORM_CODES = range(6)  # nifti1.h and nifti2.h: NIFTI_XFORM_*
_CHUNK = 2**20  # bytes that are unpacked at a time
# What nibabel raises on damaged files.
_READ_ERRORS = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
    WrapStructError,
)


@dataclass(frozen=True)
class StoredValues:
    """The header of a NIfTI file, and the way to its values.

    Attributes:
        path: the file.
        image: as nibabel reads it, without values.
        is_packed: whether gzip packed it, whatever its name says.
    """

    path: Path
    image: nib.Nifti1Image
    is_packed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """As the header says, without the axes of length one behind the third; at least three axes."""
        shape = tuple(int(length) for length in self.image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        return (*shape, 1) if len(shape) == 2 else shape

    @property
    def scaling(self) -> tuple[float, float]:
        """scl_slope and scl_inter: (1, 0) where stored values are what is meant."""
        return float(self.image.dataobj.slope), float(self.image.dataobj.inter)

    def scaled(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What stored values mean; they themselves where the file has no scaling."""
        slope, intercept = (np.float64(number) for number in self.scaling)
        values: NDArray[Any] = apply_read_scaling(stored, slope, intercept)
        return values

    def read(self, what: str) -> NDArray[Any]:
        """All stored values, in the order of the file's axes; one copy in memory.

        Raises:
            InputError: the file is damaged.
        """
        with _named(self.path, what), self._opened() as file:
            stored = self._take(file, self.image.dataobj.offset, self.shape)
            while file.read(_CHUNK):  # to the checksum
                pass
        return stored

    def read_plane(self, index: int, what: str) -> NDArray[Any]:
        """The stored values of one plane along the last axis of a plain file, without the others.

        Raises:
            InputError: the file is damaged.
        """
        shape = self.shape[:2]
        start = self.image.dataobj.offset + index * math.prod(shape) * self.image.get_data_dtype().itemsize
        with _named(self.path, what), self._opened() as file:
            return self._take(file, start, shape)

    def _opened(self) -> gzip.GzipFile | IO[bytes]:
        return gzip.open(self.path, "rb") if self.is_packed else open(self.path, "rb")

    def _take(self, file: gzip.GzipFile | IO[bytes], start: int, shape: tuple[int, ...]) -> NDArray[Any]:
        dtype = self.image.get_data_dtype()
        room = bytearray(math.prod(shape) * dtype.itemsize)
        view, done = memoryview(room), 0
        file.seek(start)
        while done < len(room):
            chunk = file.read(min(_CHUNK, len(room) - done))
            if not chunk:
                raise ValueError(f"expected {len(room)} bytes of values, got {done}")
            view[done : done + len(chunk)] = chunk
            done += len(chunk)
        return np.frombuffer(room, dtype).reshape(shape, order="F")


def open_stored(path: Path, what: str) -> StoredValues:
    """Reads the header of a file.

    Args:
        path: the file. Whether it is packed its first bytes tell: programs and people give the wrong suffix.
        what: it should be, for messages: an image, or a label map.

    Raises:
        InputError: there is no such file, it is no NIfTI, or its header claims what it cannot hold.
    """
    with _named(path, what):
        if not path.is_file():
            fault = "is a folder; give a NIfTI file in it" if path.is_dir() else "there is no such file; check the path"
            raise InputError(f"{path}: {fault}")
        with open(path, "rb") as file:
            is_packed = file.read(2) == _GZIP_MARK
        with gzip.open(path, "rb") if is_packed else open(path, "rb") as file:
            head = file.read(_SECOND_VERSION)  # long enough for either header
            file.seek(0)
            sizes = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4]))
            image = (nib.Nifti2Image if _SECOND_VERSION in sizes else nib.Nifti1Image).from_stream(file)
        n_voxels = math.prod(image.shape)
        most = path.stat().st_size * (_BEST_PACKING if is_packed else 1)
        if n_voxels > _MOST_VOXELS or n_voxels * image.get_data_dtype().itemsize > most:
            raise ValueError(f"it claims to hold {' x '.join(map(str, image.shape))} voxels, but does not")
        for code in _form_codes(head, _SECOND_VERSION in sizes):
            if code not in _FORM_CODES:  # nibabel would count it as 0, as if nobody had said how the file lies
                raise ValueError(f"its sform_code or qform_code is {code}, which NIfTI does not know")
    return StoredValues(path, image, is_packed)


def check_volume(stored: StoredValues, what: str) -> None:
    """Raises an `InputError` where a file is neither one slice nor one volume."""
    if len(stored.shape) != 3 or 0 in stored.shape:
        article = "an image" if what == "image" else f"a {what}"
        raise InputError(
            f"{stored.path}: has shape {stored.shape}, but {article} is one slice or one volume; split it into volumes"
        )


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """What goes wrong while a file is read, told with its path."""
    try:
        with _quiet_nibabel():
            yield
    except PermissionError:
        raise InputError(f"{path}: you have no permission to read it; ask for it, or copy the file") from None
    except _READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({reason_of(error)}); export the {what} again") from None


def _form_codes(head: bytes, second: bool) -> tuple[int, ...]:
    """qform_code and sform_code as they stand in the header (nifti1.h, nifti2.h)."""
    version = _SECOND_VERSION if second else _HEADER_BYTES
    order = "<" if int.from_bytes(head[:4], "little") == version else ">"
    start, form = (344, "2i") if second else (252, "2h")
    return struct.unpack_from(f"{order}{form}", head, start)


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Damage is told in one line or does no harm: without nibabel's remarks and numpy's warnings about it."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def unit_of(image: nib.Nifti1Image) -> str:
    """The unit of its affine, as nibabel calls it."""
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:  # a code that the standard does not know
        return "unknown"


def _check_forms_agree(path: Path, image: nib.Nifti1Image) -> None:
    """Programs differ in which of the two they believe, so a contradiction is a mask in the wrong place for some."""
    header = image.header
    if header["sform_code"] == 0 or header["qform_code"] == 0:
        return
    extents = np.array([*image.shape[:3], 0][:3])  # a file of two dimensions says nothing sure of a third
    try:
        with _quiet_nibabel():
            sform, qform = image.get_sform(), image.get_qform()
            difference = np.linalg.inv(sform) @ qform - np.eye(4)
    except (np.linalg.LinAlgError, HeaderDataError, ValueError):
        raise InputError(f"{path}: its sform or qform is damaged; export it again") from None
    with np.errstate(all="ignore"):  # infinities end as NaN, which is within no tolerance
        steps = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*extents, 1)
        drift = np.abs(difference[:3, :3] @ corners[:, :3].T).max()
        rounding = _rounding_of_qform(header) * np.max(extents * steps[0]) / steps[0].min()
        off = np.max([*np.abs(difference[:3, 3]), *(np.abs(steps[1] / steps[0] - 1) * extents), drift - rounding])
    if not off <= 2 * GRID_TOLERANCE_VOXELS:
        raise GeometryError(
            f"{path}: sform and qform place its voxels {off:.3g} voxels apart, so nobody can say where it lies; "
            "set both to the same affine"
        )


def _rounding_of_qform(header: nib.Nifti1Header) -> float:
    """By what angle, in rad, a qform may be turned because its quaternion is three float32 numbers.

    The fourth number is the root of what they leave to 1, so near half a turn, as scans in LPS have it, little is left
    of it; nibabel takes less than 3.6e-7 below the root for 0.
    """
    left = 1.0 - sum(float(header[f"quatern_{name}"]) ** 2 for name in "bcd")
    return 6e-7 / math.sqrt(max(left, 2e-7))


def usable_affine_lps(path: Path, image: nib.Nifti1Image) -> Affine | None:
    """The affine, in memory order and the file's own unit; None where the file says that it has none.

    Raises:
        InputError: it has one, but that is damaged: nobody can say how the file lies, and a guess may mirror it.
        GeometryError: it has two that contradict each other.
    """
    header = image.header
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        return None
    affine_ras = np.asarray(image.affine, dtype=np.float64)
    turned = [float(header[name]) for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y")]
    if not affine_ras[:3, :3].any() and not (header["qform_code"] > 0 and any(turned)):
        return None  # zeros: declared, but never written
    steps = np.linalg.norm(affine_ras[:3, :3], axis=0)
    with np.errstate(all="ignore"):
        share = abs(np.linalg.det(affine_ras[:3, :3] / steps))  # of the volume of a voxel with right angles
    if not (np.abs(affine_ras).max() < 1e9 and steps.min() > 1e-9 and share > 1e-6):  # NaN is neither
        raise InputError(f"{path}: its affine is damaged, so nobody can say how it lies; export it again")
    _check_forms_agree(path, image)
    return swap_rows_and_columns(ras_to_lps(affine_ras))
