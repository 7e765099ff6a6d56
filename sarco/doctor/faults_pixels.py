"""Faults of pixels for `sarco.doctor.score`: how stored values become Hounsfield units, and images of many frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage, generate_uid

from sarco.doctor.cases import (
    COLUMNS,
    INTERCEPT,
    N_SLICES,
    ROWS,
    Fault,
    Truth,
    datasets_of,
    phantom,
    save,
    set_kind,
    store,
    truth_of,
)

_FRAME_ORDER = (3, 0, 4, 1, 2)  # which slice each frame holds
_PADDING = 3900  # stored; as HU it would be metal
_PADDING_LIMIT = 4000
# For each slice (slope, intercept), as PET and some cone-beam scanners do.
_SCALES = ((1.0, -1024.0), (0.5, -1024.0), (0.75, -1100.0), (1.25, -1000.0), (0.6, -1050.0))
_FRACTION = (0.37, -1024.0)


def _changed(change: Callable[[list[Dataset]], object], right: bool = True) -> Callable[[Path], tuple[Truth, ...]]:
    """A plain series after `change`; `right` says whether its HU are still the phantom's."""

    def build(folder: Path) -> tuple[Truth, ...]:
        datasets = datasets_of(phantom())
        change(datasets)
        save(datasets, folder)
        return (truth_of(phantom()),) if right else ()

    return build


def _each(change: Callable[[Dataset], object]) -> Callable[[list[Dataset]], None]:
    def change_all(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            change(dataset)

    return change_all


def _signed(datasets: list[Dataset]) -> None:
    for index, dataset in enumerate(datasets):
        store(dataset, phantom().hu[:, :, index], "<i2")
        dataset.RescaleIntercept = "0"


def _hu_already(datasets: list[Dataset]) -> None:
    _signed(datasets)
    _without_rescale(datasets)


def _without_rescale(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType


def _overlay_bits(datasets: list[Dataset]) -> None:
    for index, dataset in enumerate(datasets):
        stored = (phantom().hu[:, :, index] - INTERCEPT).astype(np.uint16)
        drawn = np.zeros((ROWS, COLUMNS), dtype=np.uint16)
        drawn[10:30, 8:50] = 1
        store(dataset, stored | (drawn << 12) | (drawn << 15))
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.add_new(0x60000010, "US", ROWS)
        dataset.add_new(0x60000011, "US", COLUMNS)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 12)


def _rescaled(scales: Sequence[tuple[float, float]]) -> Callable[[Path], tuple[Truth, ...]]:
    """Each slice stored with its own slope and intercept; the truth is what was stored, times these."""

    def build(folder: Path) -> tuple[Truth, ...]:
        datasets = datasets_of(phantom())
        hu = np.empty(phantom().hu.shape, dtype=np.float32)
        for index, (dataset, (slope, intercept)) in enumerate(zip(datasets, scales, strict=True)):
            stored = np.clip(np.rint((phantom().hu[:, :, index] - intercept) / slope), 0, None)
            store(dataset, stored)
            dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
            hu[:, :, index] = stored * slope + intercept
        save(datasets, folder)
        return (truth_of(phantom(), hu=hu),)

    return build


def _padded(limit: int | None) -> Callable[[Path], tuple[Truth, ...]]:
    """The corners outside a round field of view hold padding whose stored values are high."""

    def build(folder: Path) -> tuple[Truth, ...]:
        row, column = np.ogrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j]
        outside: NDArray[np.bool_] = row**2 + column**2 > 1.2
        datasets = datasets_of(phantom())
        for index, dataset in enumerate(datasets):
            stored = phantom().hu[:, :, index] - INTERCEPT
            stored[outside] = _PADDING
            if limit is not None:
                stored[outside] += np.arange(outside.sum()) % (limit - _PADDING + 1)
                dataset.add_new("PixelPaddingRangeLimit", "US", limit)
            store(dataset, stored)
            dataset.add_new("PixelPaddingValue", "US", _PADDING)
        save(datasets, folder)
        air = np.broadcast_to(outside[:, :, None], phantom().hu.shape)
        return (replace(truth_of(phantom()), air=air),)

    return build


def _monochrome1(dataset: Dataset) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"


def _lut(folder: Path) -> tuple[Truth, ...]:
    """Stored values are mere numbers of entries. A table holds no value below 0 (PS3.3 C.11.1.1.1), so air is 0."""
    hu = np.maximum(phantom().hu, 0)
    table, codes = np.unique(hu, return_inverse=True)
    codes = codes.reshape(hu.shape)
    datasets = datasets_of(phantom())
    _without_rescale(datasets)
    for index, dataset in enumerate(datasets):
        store(dataset, codes[:, :, index])
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(table), 0, 16])
        item.ModalityLUTType = "HU"
        item.add_new("LUTData", "US", table.tolist())
        dataset.ModalityLUTSequence = DicomSequence([item])
    save(datasets, folder)
    return (truth_of(phantom(), hu=hu.astype(np.float32)),)


def _no_hu(rescale_type: str, slope: float) -> Callable[[Dataset], None]:
    """Values on another scale than HU, as spectral scanners export them."""

    def change(dataset: Dataset) -> None:
        dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL", rescale_type]
        dataset.RescaleType, dataset.RescaleSlope, dataset.RescaleIntercept = rescale_type, f"{slope:g}", "0"

    return change


def _other_kind(*image_type: str, **tags: object) -> Callable[[Dataset], None]:
    """What its header says is something else than a slice in HU."""

    def change(dataset: Dataset) -> None:
        dataset.ImageType = list(image_type)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return change


def _lost_intercept(dataset: Dataset) -> None:
    dataset.RescaleIntercept = "0"


def _lost_signed(datasets: list[Dataset]) -> None:
    for index, dataset in enumerate(datasets):
        store(dataset, phantom().hu[:, :, index] - INTERCEPT, "<i2")
        dataset.RescaleIntercept = "0"


def _eight_bits(datasets: list[Dataset]) -> None:
    """A window of HU, as pictures for people have it."""
    for index, dataset in enumerate(datasets):
        grey = np.clip((phantom().hu[:, :, index] + 160) / 400, 0, 1) * 255
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = grey.astype(np.uint8).tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"


def _more_rows(dataset: Dataset) -> None:
    dataset.Rows = ROWS + 4


def _fewer_columns(dataset: Dataset) -> None:
    dataset.Columns = COLUMNS - 2


def _huge(dataset: Dataset) -> None:
    dataset.Rows = dataset.Columns = 65535


def _item(**values: object) -> DicomSequence:
    """A sequence of one item with these elements."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return DicomSequence([item])


def _one_file(sop_class: UID, shared: Sequence[str]) -> Dataset:
    """All slices as frames of one enhanced CT, in scrambled order.

    Args:
        sop_class: Enhanced CT or Legacy Converted Enhanced CT.
        shared: the functional groups that all frames share; the others stand with each frame.
    """
    slices = datasets_of(phantom())
    whole = slices[0]
    groups = {}
    for index, one in enumerate(slices):
        groups[index] = {
            "PixelMeasuresSequence": _item(PixelSpacing=one.PixelSpacing, SliceThickness=one.SliceThickness),
            "PlaneOrientationSequence": _item(ImageOrientationPatient=one.ImageOrientationPatient),
            "PlanePositionSequence": _item(ImagePositionPatient=one.ImagePositionPatient),
            "PixelValueTransformationSequence": _item(
                RescaleSlope=one.RescaleSlope, RescaleIntercept=one.RescaleIntercept, RescaleType="HU"
            ),
            "FrameContentSequence": _item(
                StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1]
            ),
        }
    frames = []
    for index in _FRAME_ORDER:
        frame = Dataset()
        for name, value in groups[index].items():
            if name not in shared:
                setattr(frame, name, value)
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    whole.SharedFunctionalGroupsSequence = _item(**{name: groups[0][name] for name in shared})
    organization = generate_uid(entropy_srcs=["sarco doctor", "dimensions"])
    whole.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    whole.DimensionIndexSequence = DicomSequence(
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
        )[0]
        for keyword in ("StackID", "InStackPositionNumber")
    )
    whole.NumberOfFrames = N_SLICES
    whole.PixelData = b"".join(slices[index].PixelData for index in _FRAME_ORDER)
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, keyword)
    _without_rescale([whole])
    set_kind(whole, sop_class)
    return whole


def _enhanced(folder: Path) -> tuple[Truth, ...]:
    shared = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence")
    save([_one_file(EnhancedCTImageStorage, shared)], folder)
    return (truth_of(phantom()),)


def _legacy_converted(folder: Path) -> tuple[Truth, ...]:
    whole = _one_file(LegacyConvertedEnhancedCTImageStorage, ("PlaneOrientationSequence",))
    whole.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = _item(KVP=whole.KVP)
    save([whole], folder)
    return (truth_of(phantom()),)


def _no_pixel_measures(folder: Path) -> tuple[Truth, ...]:
    shared = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence")
    whole = _one_file(EnhancedCTImageStorage, shared)
    del whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    save([whole], folder)
    return ()


PIXEL_FAULTS = (
    Fault("signed", "stored values are signed HU", _changed(_signed)),
    Fault("overlay_bits", "12 bits in 16, with an overlay in the bits above", _changed(_overlay_bits)),
    Fault("scale_by_slice", "slope and intercept differ from slice to slice", _rescaled(_SCALES)),
    Fault("fractional_slope", "RescaleSlope is 0.37", _rescaled((_FRACTION,) * N_SLICES)),
    Fault("padding", "PixelPaddingValue that would look like metal", _padded(None)),
    Fault("padding_range", "the same as a range, to PixelPaddingRangeLimit", _padded(_PADDING_LIMIT)),
    Fault("monochrome1", "MONOCHROME1, which concerns display only", _changed(_each(_monochrome1))),
    Fault("modality_lut", "a Modality LUT to HU instead of slope and intercept", _lut),
    Fault("no_rescale", "unsigned values without RescaleSlope and RescaleIntercept", _changed(_without_rescale, False)),
    Fault("hu_already", "signed values that are HU, without a rescale", _changed(_hu_already)),
    Fault("effective_z", "RescaleType Z_EFF: atomic numbers", _changed(_each(_no_hu("Z_EFF", 0.01)), False)),
    Fault("iodine", "RescaleType MGML: mg of iodine a ml", _changed(_each(_no_hu("MGML", 0.1)), False)),
    Fault(
        "perfusion",
        "a perfusion map in colours whose 0 looks like air",
        _changed(
            _each(
                _other_kind(
                    "DERIVED",
                    "PRIMARY",
                    "PERFUSION",
                    "RCBF",
                    PixelPresentation="COLOR",
                    RescaleType="US",
                )
            ),
            False,
        ),
    ),
    Fault(
        "projection",
        "a maximum intensity projection",
        _changed(_each(_other_kind("DERIVED", "SECONDARY", "MIP")), False),
    ),
    Fault(
        "subtraction",
        "a difference of two scans",
        _changed(_each(_other_kind("DERIVED", "PRIMARY", "SUBTRACTION")), False),
    ),
    Fault(
        "palette",
        "grey levels that stand for colours of a palette",
        _changed(_each(_other_kind("DERIVED", "SECONDARY", PhotometricInterpretation="PALETTE COLOR")), False),
    ),
    Fault("lost_intercept", "unsigned values whose RescaleIntercept became 0", _changed(_each(_lost_intercept), False)),
    Fault("lost_intercept_signed", "the same in signed values", _changed(_lost_signed, False)),
    Fault("eight_bits", "a window of HU in 8 bits", _changed(_eight_bits, False)),
    Fault("enhanced", "an enhanced CT: one file, its frames in scrambled order", _enhanced),
    Fault("legacy_converted", "a legacy converted enhanced CT, frames scrambled", _legacy_converted),
    Fault("no_pixel_measures", "an enhanced CT without Pixel Measures", _no_pixel_measures),
    Fault("more_rows", "Rows says more than the pixels hold", _changed(_each(_more_rows), False)),
    Fault("fewer_columns", "Columns says less than the pixels hold", _changed(_each(_fewer_columns), False)),
    Fault("huge", "Rows and Columns say 65535", _changed(_each(_huge), False)),
)
