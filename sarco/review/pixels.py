"""Slices as a review page carries them: grey values in 8 bits that can be windowed, label maps without any loss.

300 slices of 512 x 512 have to fit into a page of 12 MB, which is 30 kB a slice once base64 took its third. Lossless
HU would take 150 kB. So HU become 256 grey levels, close together where muscle and fat lie and further apart in lung
and bone, and these a PNG where the page has room for it, else a JPEG.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Grey level by HU, straight lines in between: steps of 26 HU up to -250, of 2.7 HU up to 250, of 31 HU beyond.
HU_KNOTS = (-1024.0, -250.0, 250.0, 1500.0)
LEVEL_KNOTS = (0.0, 30.0, 215.0, 255.0)
PAGE_BYTES = 9_800_000  # for the pictures of all slices together, base64 included; the rest of a page is small
LOSSLESS = 101  # stands above all JPEG qualities
_QUALITIES = (LOSSLESS, 95, 90, 85, 80, 75, 70, 65, 60, 55, 50)
_LOWEST, _HIGHEST = round(HU_KNOTS[0]), round(HU_KNOTS[-1])
_LEVEL_OF_HU = np.rint(np.interp(np.arange(_LOWEST, _HIGHEST + 1), HU_KNOTS, LEVEL_KNOTS)).astype(np.uint8)


def hu_of_levels() -> list[float]:
    """The HU that each of the 256 grey levels stands for."""
    return [round(float(hu), 1) for hu in np.interp(np.arange(256), LEVEL_KNOTS, HU_KNOTS)]


def hu_to_levels(hu: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Grey levels 0..255 of a slice; HU outside -1024..1500 become the nearest of these."""
    within = np.clip(hu, _LOWEST, _HIGHEST).astype(np.float32, copy=False)
    rounded = cv2.add(within, -_LOWEST, dtype=cv2.CV_16S)  # rounds to whole HU, half to even
    return _LEVEL_OF_HU.take(rounded)


@dataclass
class PictureEncoder:
    """Encodes slice after slice, as finely as the room allows.

    The quality falls when a slice is too large, and stays there, so that neighbours look alike. It never falls below
    50: a page of many hundred slices rather grows.

    Attributes:
        bytes_per_slice: room for one encoded slice, before base64.
        quality: of the slices so far; `LOSSLESS` or that of JPEG.
    """

    bytes_per_slice: float
    quality: int = LOSSLESS

    @classmethod
    def for_slices(cls, count: int) -> "PictureEncoder":
        """For a page of so many slices."""
        return cls(PAGE_BYTES * 3 / 4 / max(count, 1))

    def encode(self, hu: NDArray[np.floating]) -> bytes:
        """One slice as PNG or JPEG; (row, column) HU on its original grid."""
        levels = hu_to_levels(hu)
        content = b""
        for quality in _QUALITIES[_QUALITIES.index(self.quality) :]:
            self.quality = quality
            content = _encode(levels, quality)
            if len(content) <= self.bytes_per_slice:
                break
        return content

    @property
    def description(self) -> str:
        """What a reader has to know of the pictures."""
        how = "stored without loss" if self.quality == LOSSLESS else f"compressed as JPEG of quality {self.quality}"
        return (
            f"Pictures: HU -1024 to 1500 in 256 grey levels (2.7 HU apart from -250 to 250, up to 31 HU elsewhere), "
            f"{how}. They are for looking; figures were measured on the original HU."
        )


def _encode(levels: NDArray[np.uint8], quality: int) -> bytes:
    if quality == LOSSLESS:
        # Of zlib's strategies run lengths give the smallest files of CT, noise and all, and the fastest.
        options = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
        encoded = cv2.imencode(".png", levels, options)[1]
    else:
        encoded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()


def encode_label_map(label_map: NDArray[np.uint8]) -> bytes:
    """The ids of one slice, row by row, as a zlib stream: exact, and what browsers unpack by themselves."""
    stream = zlib.compressobj(1, strategy=zlib.Z_RLE)  # run lengths: smaller than level 4, in a quarter of its time
    return stream.compress(np.ascontiguousarray(label_map, dtype=np.uint8).tobytes()) + stream.flush()


def to_base64(content: bytes) -> str:
    """Bytes as text that needs no escaping in HTML."""
    return base64.b64encode(content).decode("ascii")


def slice_digest(label_map: NDArray[np.uint8]) -> bytes:
    """The hash of the ids of one slice, row by row."""
    return hashlib.sha256(np.ascontiguousarray(label_map, dtype=np.uint8).tobytes()).digest()


def label_map_digest(shape: tuple[int, int, int], digests: Mapping[int, bytes]) -> str:
    """The hash of a label map, from those of its slices, so that slices may come one by one and in any order.

    Args:
        shape: (rows, columns, planes).
        digests: `slice_digest` by plane.
    """
    total = hashlib.sha256("x".join(map(str, shape)).encode())
    for plane in sorted(digests):
        total.update(plane.to_bytes(4, "big") + digests[plane])
    return total.hexdigest()
