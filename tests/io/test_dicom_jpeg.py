"""JPEG lossless by GDCM: the very values back, damaged code refused before GDCM sees it, missing packages named."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless

from sarco.core.errors import InputError
from sarco.io import dicom_jpeg
from sarco.io.dicom import read_header
from sarco.io.dicom_jpeg import PLUGIN_OF, essence, missing_packages_of
from sarco.io.dicom_pixels import read_dicom_hu

gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed")


def encoded(path: Path, syntax: str) -> Path:
    """The slice in another encoding, by GDCM's own encoder."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    out = path.with_name(f"encoded_{path.name}")
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return out


def code_of(path: Path) -> bytes:
    """The JPEG code of a file with one frame."""
    dataset = pydicom.dcmread(path)
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


def signed(dataset: pydicom.Dataset) -> None:
    """HU as they are, in signed pixels."""
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    dataset.PixelData = np.rint(hu).astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 1, 1, 0


@pytest.mark.parametrize("change", [None, signed], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
def test_lossless_gives_the_very_values(
    slice_file: Callable[..., Path], syntax: str, change: Callable[[pydicom.Dataset], None] | None
) -> None:
    """Catches a bit that is lost, a sign, and rows that are columns."""
    plain = slice_file(change)
    packed = encoded(plain, syntax)
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_dicom_hu(read_header(packed)), read_dicom_hu(read_header(plain)))


def test_every_encoding_goes_to_a_plugin_that_pydicom_has() -> None:
    """Catches a table with a name that pydicom does not know, which would end in "cannot be decoded" for good files."""
    for syntax, plugin in PLUGIN_OF.items():
        assert plugin in get_decoder(syntax).available_plugins, syntax
        assert missing_packages_of(syntax) == ""


@pytest.mark.parametrize(
    ("syntax", "package"),
    [(JPEGLosslessSV1, "python-gdcm"), (JPEGExtended12Bit, "python-gdcm"), (JPEGLSLossless, "pyjpegls")],
)
def test_a_missing_package_is_named(
    slice_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, syntax: str, package: str
) -> None:
    """Catches "export the slice again" where one command helps."""
    packed = encoded(slice_file(), JPEGLosslessSV1)
    dataset = pydicom.dcmread(packed)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(packed)
    monkeypatch.setattr(dicom_jpeg, "get_decoder", lambda syntax: SimpleNamespace(available_plugins=()))
    with pytest.raises(InputError, match=f"needs a package; pip install {package}$"):
        read_dicom_hu(read_header(packed))


def test_code_in_order_comes_without_what_no_decoder_needs(slice_file: Callable[..., Path]) -> None:
    """Catches a part of an application, such as JFIF, that reaches GDCM: a damaged one ends the process."""
    code = code_of(encoded(slice_file(), JPEGLosslessSV1))
    shape = pydicom.dcmread(slice_file()).pixel_array.shape
    stripped, precision = essence(code, shape, 16)
    assert precision in (12, 16)
    jfif, comment = b"\xff\xe0\x00\x10JFIF\x00\xff\xff\x00\x00\x01\x00\x01\x00\x00", b"\xff\xfe\x00\x06text"
    assert essence(code[:2] + jfif + comment + code[2:], shape, 16) == (stripped, precision)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda code: b"\x00" + code, "no JPEG code"),
        (lambda code: code[:2], "header is damaged"),
        (lambda code: code[:2] + b"\xff\xc8\x00\x02" + code[2:], "header is damaged"),
        (lambda code: code[:20], "header is damaged"),
        (lambda code: code.replace(b"\xff\xda", b"\xff\x01", 1), "header is damaged"),
    ],
)
def test_damaged_code_is_refused_before_gdcm_sees_it(
    slice_file: Callable[..., Path], damage: Callable[[bytes], bytes], said: str
) -> None:
    """Catches code on which GDCM ends the whole process."""
    path = slice_file()
    code = code_of(encoded(path, JPEGLosslessSV1))
    with pytest.raises(ValueError, match=said):
        essence(damage(code), pydicom.dcmread(path).pixel_array.shape, 16)


def test_another_shape_or_depth_is_refused(slice_file: Callable[..., Path]) -> None:
    """Catches a buffer that GDCM reads or writes beyond, because code and header differ."""
    path = slice_file()
    code = code_of(encoded(path, JPEGLosslessSV1))
    rows, columns = pydicom.dcmread(path).pixel_array.shape
    with pytest.raises(ValueError, match=f"coded as {rows} x {columns} x 1"):
        essence(code, (rows + 1, columns), 16)
    with pytest.raises(ValueError, match="coded with"):
        essence(code, (rows, columns), 8)
