"""Pixels: stored values become HU by the standard, whatever the file does with its bits; else one line says why not."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_parts import read_slice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, RLELossless

from sarco.core.errors import InputError
from sarco.io.dicom_pixels import coded_shape
from sarco.phantom.patient import Phantom, write_series

SliceFile = Callable[..., Path]


def plain(slice_file: SliceFile) -> np.ndarray:
    """The slice as it is, in HU."""
    return read_slice(slice_file(name="plain.dcm"))[0]


def stored_of(dataset: pydicom.Dataset) -> np.ndarray:
    """Its stored values, writable."""
    return dataset.pixel_array.copy()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.integers(8, 16), signed=st.booleans(), seed=st.integers(0, 1000))
def test_the_fast_way_reads_what_pydicom_reads(slice_file: SliceFile, bits: int, signed: bool, seed: int) -> None:
    """Catches a sign, or bits above BitsStored, that the short cut for plain files gets wrong."""

    def change(dataset: pydicom.Dataset) -> None:
        noise = np.random.default_rng(seed).integers(0, 2**16, (96, 120), dtype=np.uint16)
        dataset.PixelData = noise.tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope}", f"{intercept}"

    slope, intercept = 2048 / 2**bits, 24 if signed else -1000  # any bits run from -1000 to 1048
    path = slice_file(change)
    right = (pixel_array(pydicom.dcmread(path)) * slope + intercept).astype(np.float32)
    np.testing.assert_array_equal(read_slice(path)[0], right)


def put_padding(value: int, limit: int | None = None, filled: int | None = None) -> Callable[[pydicom.Dataset], None]:
    """Fills the corners of a slice with a stored value that PixelPaddingValue names."""

    def change(dataset: pydicom.Dataset) -> None:
        stored = stored_of(dataset)
        stored[:12, :12] = value if filled is None else filled
        stored[40, 50] = value  # in the body: no padding, by chance the same value
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        dataset.PixelPaddingValue = value
        dataset["PixelPaddingValue"].VR = "SS" if dataset.PixelRepresentation else "US"
        if limit is not None:
            dataset.PixelPaddingRangeLimit = limit
            dataset["PixelPaddingRangeLimit"].VR = dataset["PixelPaddingValue"].VR

    return change


@pytest.mark.parametrize(("limit", "filled"), [(None, None), (9500, 9200)])
def test_padding_around_the_image_is_air(slice_file: SliceFile, limit: int | None, filled: int | None) -> None:
    """Catches padding that reads as metal, and a tissue of the same value that reads as air."""
    hu, _ = read_slice(slice_file(put_padding(9000, limit, filled)))
    assert (hu[:12, :12] == -1024).all()
    assert hu[40, 50] > 3000
    untouched = np.ones(hu.shape, dtype=bool)
    untouched[:12, :12] = untouched[40, 50] = False
    np.testing.assert_array_equal(hu[untouched], plain(slice_file)[untouched])


def test_padding_below_air_stays(slice_file: SliceFile) -> None:
    """Catches values that are changed without need: other readers show them as they are."""

    def change(dataset: pydicom.Dataset) -> None:
        hu = plain(slice_file)
        hu[:5] = -2000
        dataset.PixelData = hu.astype("<i2").tobytes()
        dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 1, "1", "0"
        dataset.PixelPaddingValue = -2000
        dataset["PixelPaddingValue"].VR = "SS"

    assert (read_slice(slice_file(change))[0][:5] == -2000).all()


def test_an_inverted_display_does_not_invert_hu(slice_file: SliceFile) -> None:
    """Catches MONOCHROME1, which is about display alone, that turns bone into air."""
    path = slice_file(lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(read_slice(path)[0], plain(slice_file))


def put_table(kind: str, bits: int = 16, first: int = 0) -> Callable[[pydicom.Dataset], None]:
    """Moves the rescale of a slice into a Modality LUT."""

    def change(dataset: pydicom.Dataset) -> None:
        hu = plain_hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        lowest = int(np.floor(plain_hu.min()))
        stored = (hu - lowest).round().astype("<u2") + first
        dataset.PixelData, dataset.PixelRepresentation = stored.astype("<u2").tobytes(), 0
        table = Dataset()
        entries = np.arange(lowest, lowest + int(stored.max()) - first + 1).astype("<i2")
        table.LUTDescriptor = [len(entries), first, bits]
        table["LUTDescriptor"].VR = "US"
        table.ModalityLUTType = kind
        table.add_new("LUTData", "OW", entries.tobytes())
        dataset.ModalityLUTSequence = Sequence([table])
        del dataset.RescaleSlope, dataset.RescaleIntercept

    return change


@pytest.mark.parametrize("first", [0, 200])
def test_a_modality_lut_leads_to_hu(slice_file: SliceFile, first: int) -> None:
    """Catches a table that is left out, or that is entered at the wrong place."""
    np.testing.assert_allclose(read_slice(slice_file(put_table("HU", first=first)))[0], plain(slice_file), atol=0.5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put_table("OD"), "Modality LUT does not lead to HU"),
        (put_table("HU", bits=12), "Modality LUT does not lead to HU"),
        (lambda ds: setattr(ds, "RescaleType", "Z_EFF"), "RescaleType is Z_EFF"),
        (lambda ds: (setattr(ds, "RescaleType", "US"), setattr(ds, "RescaleIntercept", "0")), "no CT in HU"),
        (lambda ds: (setattr(ds, "BitsStored", 12), setattr(ds, "HighBit", 15)), "HighBit is BitsStored - 1"),
    ],
)
def test_what_is_not_in_hu_is_refused(
    slice_file: SliceFile, change: Callable[[pydicom.Dataset], object], says: str
) -> None:
    """Catches atomic numbers, optical densities or shifted bits that are taken for HU."""
    path = slice_file(change)
    with pytest.raises(InputError, match=says) as caught:
        read_slice(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_unspecified_rescale_that_reaches_air_is_hu(slice_file: SliceFile) -> None:
    """Catches a refusal of files whose RescaleType an anonymiser made unspecified."""
    path = slice_file(lambda ds: setattr(ds, "RescaleType", "US"))
    np.testing.assert_array_equal(read_slice(path)[0], plain(slice_file))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300])
def test_padding_that_is_no_number_is_refused(slice_file: SliceFile, value: float) -> None:
    """Catches an overflow where the padding's VR was changed to one with infinity."""
    path = slice_file(lambda ds: ds.add_new("PixelPaddingValue", "FD", value))
    try:
        hu, _ = read_slice(path)
    except InputError as error:
        assert "PixelPaddingValue is no number" in str(error)
    else:  # 1e300 is no stored value, so nothing is padding
        np.testing.assert_array_equal(hu, plain(slice_file))


@pytest.mark.parametrize(("rows", "columns"), [(60000, 60000), (97, 120), (96, 119)])
def test_a_code_stream_of_another_size_is_refused_before_it_is_decoded(
    slice_file: SliceFile, rows: int, columns: int
) -> None:
    """Catches 7 GB and half a minute that a decoder takes because 8 bytes of a small file say so."""
    path = slice_file(lambda ds: ds.compress(JPEG2000Lossless, generate_instance_uid=False))
    content = bytearray(path.read_bytes())
    start = content.find(b"\xff\x4f\xff\x51")
    struct.pack_into(">2I", content, start + 8, columns, rows)
    struct.pack_into(">2I", content, start + 24, columns, rows)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"coded as {rows} x {columns}"):
        read_slice(path)


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        (b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x10\x00\x60\x00\x78\x01\x11\x11\x00", (96, 120)),
        (b"\xff\xd8\xff\xff\xf7\x00\x0b\x10\x00\x60\x00\x78\x01\x11\x11\x00", (96, 120)),  # with a fill byte
        (b"\xff\xd8\xff\xc4\x00\x04ab\xff\xda\x00\x02", None),
        (b"\xff\xd8", None),
        (b"\x01\x00\x00\x00", None),
    ],
)
def test_the_size_in_a_jpeg_is_found(code: bytes, shape: tuple[int, int] | None) -> None:
    """Catches a table that is taken for the frame header, and a search that never ends."""
    assert coded_shape(code) == shape


def test_run_lengths_that_give_too_many_pixels_are_refused(slice_file: SliceFile) -> None:
    """Catches the end of the process in a decoder, and pixels that are shifted by a damaged run."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        code = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
        (second,) = struct.unpack_from("<I", code, 8)
        code[second : second + 2] = b"\x81\x05"  # 128 times the same byte, then what was a literal
        dataset.PixelData = encapsulate([bytes(code)])

    path = slice_file(change)
    with pytest.raises(InputError, match="pixels cannot be decoded"):
        read_slice(path)


def test_two_slices_joined_in_one_file_are_refused(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches the pixels of one slice in the place of another: files without a preamble run on into the next."""
    joined = tmp_path / "joined.dcm"
    for path in write_series(phantoms["anisotropic"], tmp_path / "series", patient_id="P", seed=1)[:2]:
        dataset = pydicom.dcmread(path)
        bare = Dataset()
        bare.update(dataset)
        bare.save_as(tmp_path / "one", implicit_vr=True, little_endian=True)
        with open(joined, "ab") as file:
            file.write((tmp_path / "one").read_bytes())
    with pytest.raises(InputError, match="holds two slices") as caught:
        read_slice(joined)
    assert str(joined) in str(caught.value)


def test_a_slope_that_flattens_everything_is_refused(slice_file: SliceFile) -> None:
    """Catches a damaged exponent that makes every pixel the same, as a slope of 0 would."""
    with pytest.raises(InputError, match="every pixel the same"):
        read_slice(slice_file(lambda ds: setattr(ds, "RescaleSlope", "1e-30")))
