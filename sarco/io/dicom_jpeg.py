"""Which package decodes which encoding; JPEG lossless and JPEG with 12 bits by GDCM, as a plugin of pydicom's decoders.

pydicom's own plugin for GDCM is not used: it refuses 12 bits, which GDCM can decode, and GDCM ends the process on
some damaged headers, so nothing but what a decoder needs is given to it, after it was found to be in order.
"""

import struct
from typing import TYPE_CHECKING

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "sarco"
SYNTAXES = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
# The plugin of each encoding, so that what is installed besides does not decide: pydicom would take its own plugin for
# GDCM first, and for RLE one that ends the process on damaged pixels.
PLUGIN_OF = {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys(SYNTAXES, PLUGIN),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls"),
    **dict.fromkeys((JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), "pylibjpeg"),
}
_PACKAGES_OF = {
    "pillow": "pillow",
    PLUGIN: "python-gdcm",
    "pyjpegls": "pyjpegls",
    "pylibjpeg": "pylibjpeg pylibjpeg-openjpeg",
}
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("python-gdcm",))  # pydicom asks plugins for it
_BASELINE, _EXTENDED, _LOSSLESS, _SCAN = 0xC0, 0xC1, 0xC3, 0xDA
_NEEDED = {0xC4, 0xDB, 0xDD}  # Huffman and quantisation tables, restart interval
_LEFT_OUT = {0xFE, *range(0xE0, 0xF0)}  # comments, and what applications say: JFIF


def missing_packages_of(syntax: UID) -> str:
    """What to install before pixels of this encoding can be decoded; empty where nothing would help."""
    plugin = PLUGIN_OF.get(syntax, "")
    if not plugin or plugin in get_decoder(syntax).available_plugins:
        return ""
    return _PACKAGES_OF.get(plugin, "")


def is_available(uid: str) -> bool:
    """Whether GDCM is installed; pydicom asks plugins for it."""
    try:
        import gdcm  # noqa: F401
    except ImportError:
        return False
    return uid in SYNTAXES


def decode_frame(code: bytes, runner: "DecodeRunner") -> bytes:
    """The pixels of one frame, as pydicom wants them of a plugin.

    Raises:
        ValueError: the header is damaged, or says something else than the data set.
    """
    import gdcm

    if runner.samples_per_pixel != 1:
        raise ValueError("several samples per pixel, where CT has one")
    code, precision = essence(code, (runner.rows, runner.columns), runner.bits_allocated)
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(code)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str.__str__(runner.transfer_syntax))))
    # GDCM chooses the decoder by BitsAllocated; with 16 it tries a wrong one first, which complains on stderr.
    extended = runner.transfer_syntax == JPEGExtended12Bit and precision == 12
    allocated, stored = 12 if extended else runner.bits_allocated, min(precision, runner.bits_stored)
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, runner.pixel_representation))
    pixels: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")  # it comes as str
    return pixels


def essence(code: bytes, shape: tuple[int, int], bits_allocated: int) -> tuple[bytes, int]:
    """The code without what no decoder needs, and how many bits it gives to each pixel.

    Source of the markers: ISO/IEC 10918-1, B.2.

    Raises:
        ValueError: it is not one scan of one component, of this shape and depth, whose header is in order.
    """
    if code[:2] != b"\xff\xd8":
        raise ValueError("no JPEG code")
    at, precision, parts = 2, 0, [code[:2]]
    while at + 4 <= len(code) and code[at] == 0xFF:
        marker, length = code[at + 1], int.from_bytes(code[at + 2 : at + 4], "big")
        if marker == 0xFF:  # may be repeated
            at += 1
            continue
        end = at + 2 + length
        if length < 2 or end > len(code):
            break
        if marker in (_BASELINE, _EXTENDED, _LOSSLESS):
            if precision or length != 11:
                break
            precision, rows, columns, components = struct.unpack_from(">BHHB", code, at + 4)
            if (rows, columns, components) != (*shape, 1):
                raise ValueError(f"coded as {rows} x {columns} x {components}")
            known = 2 <= precision <= 16 if marker == _LOSSLESS else precision in (8, 12)
            if not known or (precision > 8) != (bits_allocated > 8):
                raise ValueError(f"coded with {precision} bits")
        elif marker == _SCAN:
            if not precision or length != 8:
                break
            return b"".join([*parts, code[at:]]), precision
        elif marker not in _NEEDED | _LEFT_OUT:
            break
        if marker not in _LEFT_OUT:
            parts.append(code[at:end])
        at = end
    raise ValueError("the JPEG header is damaged")


for _syntax in SYNTAXES:
    get_decoder(_syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))
