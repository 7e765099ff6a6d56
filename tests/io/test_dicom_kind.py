"""What counts as HU: kinds of image that carry Modality CT and are none, and those that are doubtful."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_parts import real_world, unit

from sarco.core.errors import InputError, OtherKindError
from sarco.io.dicom_header import inspect_file, read_dicom_headers
from sarco.io.images import find_images

SliceFile = Callable[..., Path]


OTHERS: list[tuple[dict[str, Any], str]] = [
    *(({"ImageType": kind.split("/")}, says) for kind, says in (
        ("DERIVED/PRIMARY/PERFUSION/RCBF", "perfusion map"),
        ("DERIVED/SECONDARY/AXIAL/RCBV", "perfusion map"),
        ("DERIVED/SECONDARY/AXIAL/CT_SOM5 TTP", "perfusion map"),
        ("DERIVED/PRIMARY/AXIAL/TMAX", "perfusion map"),
        ("DERIVED/SECONDARY/AXIAL/MIP", "projection"),
        ("DERIVED/SECONDARY/REFORMATTED/MAX IP", "projection"),
        ("DERIVED/SECONDARY/REFORMATTED/MIN_IP", "projection"),
        ("DERIVED/PRIMARY/VOLUME/MAXIMUM", "projection"),
        ("DERIVED/SECONDARY/VOLUME RENDERED", "projection"),
        ("DERIVED/SECONDARY/CURVED_MPR", "projection"),
        ("DERIVED/PRIMARY/VOLUME/SUBTRACTION", "combination"),
        ("DERIVED/PRIMARY/VOLUME/STD_DEVIATION", "combination"),
        ("DERIVED/PRIMARY/AXIAL/CT_SOM7 SPP/DE/IODINE", "map of a material"),
        ("DERIVED/PRIMARY/AXIAL/WATER(IODINE)", "map of a material"),
        ("DERIVED/PRIMARY/VOLUME/MAT_SPECIFIC", "map of a material"),
        ("DERIVED/PRIMARY/AXIAL/EFFECTIVE Z", "atomic numbers"),
        ("DERIVED/PRIMARY/VOLUME/EFF_ATOMIC_NUM", "atomic numbers"),
        ("DERIVED/PRIMARY/AXIAL/Z-EFF", "atomic numbers"),
        ("DERIVED/PRIMARY/VOLUME/ELECTRON_DENSITY", "atomic numbers"),
        ("ORIGINAL/PRIMARY/LOCALIZER", "localizer"),
        ("DERIVED/SECONDARY/LOCALIZER/CT_SOM5 TOP", "localizer"),
        ("ORIGINAL/PRIMARY/SCOUT", "localizer"),
        ("DERIVED/SECONDARY/OTHER/DOSE_INFO", "a dose or its report"),
        *((f"DERIVED/PRIMARY/AXIAL/{word}", "perfusion map") for word in (
            "PBV", "BF", "BV", "PS", "KTRANS", "TTD", "TIME_TO_PEAK", "MEAN_TRANSIT_TIME", "PARAMETRIC", "VENTILATION",
            "XENON", "CT_SOM7 VPCT/BF",
        )),
        *((f"DERIVED/PRIMARY/AXIAL/{word}", "map of a material") for word in (
            "IODINEMAP", "JOD", "FAT_MAP", "BASIS_MATERIAL", "MATERIAL_DENSITY", "MUMAP", "GSI MD",
        )),
        *((f"DERIVED/PRIMARY/AXIAL/{word}", "atomic numbers") for word in (
            "Z_EFFECTIVE", "EFF ATOMIC NUM", "ED", "RED", "SPR", "RHO",
        )),
        *((f"DERIVED/SECONDARY/AXIAL/{word}", "combination") for word in ("SUB", "DSA", "DIFF", "SUBTRACTED")),
        *((f"DERIVED/SECONDARY/AXIAL/{word}", "projection") for word in (
            "CSAMIP", "MIPTHICK", "VOLREN", "RENDERED", "CSA MIP", "CT_SOM5 MIP", "PROJECTION IMAGE",
        )),
        *((f"DERIVED/PRIMARY/AXIAL/{word}", "map of labels") for word in ("SEGMENTATION", "MASK", "LABEL")),
        *((f"DERIVED/SECONDARY/OTHER/{word}", "dose") for word in ("RTDOSE", "DOSE REPORT", "CT_SOM5 PROT")),
        ("ORIGINAL/PRIMARY/AXIAL/CT_SOM5 TOP", "localizer"),
        ("ORIGINAL/PRIMARY/PILOT", "localizer"),
    )),
    ({"PixelPresentation": "COLOR"}, "colours"),
    ({"PixelPresentation": "TRUE_COLOR"}, "colours"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "colours"),
    ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colours"),
    ({"RescaleType": "MGML"}, "RescaleType is MGML"),
    ({"RescaleType": "US", "Units": "ml/100ml/s"}, "its unit is ml/100ml/s"),
    ({"MeasurementUnitsCodeSequence": unit("ml/100ml/min")}, "its unit is ml/100ml/min"),
    ({"RealWorldValueMappingSequence": real_world("s")}, "its unit is s"),
    ({"VolumeBasedCalculationTechnique": "MAX_IP"}, "computed by MAX_IP"),
    ({"VolumeBasedCalculationTechnique": "VOLUME_RENDER"}, "computed by VOLUME_RENDER"),
    ({"Modality": "PT"}, "Modality is PT"),
]  # fmt: skip


@pytest.mark.parametrize(("tags", "says"), OTHERS)
def test_what_is_no_ct_in_hu_is_refused_with_its_reason(slice_file: SliceFile, tags: dict[str, Any], says: str) -> None:
    """Catches a map, a projection or a picture whose numbers are measured as muscle."""
    path = slice_file(lambda ds: [setattr(ds, tag, value) for tag, value in tags.items()])
    with pytest.raises(OtherKindError, match=says) as caught:
        read_dicom_headers(path)
    assert str(path) in str(caught.value)
    assert not inspect_file(path).is_damaged


def grey_levels(**tags: Any) -> Callable[[pydicom.Dataset], None]:
    """Sets tags of the scale."""

    def change(dataset: pydicom.Dataset) -> None:
        for tag, value in tags.items():
            setattr(dataset, tag, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        grey_levels(RescaleIntercept="0"),
        grey_levels(RescaleIntercept="0", RescaleType="US"),
        grey_levels(RescaleIntercept="-160", RescaleSlope="1.57", BitsStored=8, HighBit=7),  # a window of 8 bits
        grey_levels(RescaleIntercept="-1024", RescaleSlope="1", BitsStored=8, HighBit=7),
        grey_levels(RescaleIntercept="3000", RescaleSlope="1"),
        grey_levels(RescaleIntercept="-1024", RescaleSlope="0.01", BitsStored=12, HighBit=11),
    ],
    ids=["lost intercept", "unspecified", "windowed", "8 bits", "far above", "far below"],
)
def test_a_scale_on_which_no_body_can_stand_is_refused(slice_file: SliceFile, change: Callable[..., None]) -> None:
    """Catches tags that lost their intercept, and 8 bits that hold a window and no HU."""
    path = slice_file(lambda ds: (setattr(ds, "PixelRepresentation", 0), change(ds)))
    with pytest.raises(InputError, match="no CT in HU") as caught:
        read_dicom_headers(path)
    assert str(path) in str(caught.value)
    assert inspect_file(path).is_damaged


PLAIN = (
    "ORIGINAL/PRIMARY/AXIAL",
    "ORIGINAL/PRIMARY/AXIAL/CT_SOM5 SPI",
    "ORIGINAL/PRIMARY/AXIAL/HELIX",
    "ORIGINAL/PRIMARY/AXIAL/LOW_DOSE",
    "ORIGINAL/PRIMARY/AXIAL/FULL DOSE",
    "ORIGINAL/PRIMARY/AXIAL/CT_SOM7 SPI DUAL/STD/SNRG/DET_AB",
    "ORIGINAL/PRIMARY/AXIAL/CT_SOM10 DET3D/T1/COUNT_2SRC/CONVCT",
    "ORIGINAL/PRIMARY/VOLUME/NONE",
    "ORIGINAL/PRIMARY",
)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_ct_is_not_doubted(slice_file: SliceFile, kind: str) -> None:
    """Catches a doubt about what every scanner writes."""
    path = slice_file(lambda ds: (setattr(ds, "ImageType", kind.split("/")), setattr(ds, "RescaleType", "US")))
    assert read_dicom_headers(path)[0].doubts == ()


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR", "CT_SOM5 MPR"]}, "reformatted"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, "reformatted"),
        ({"VolumeBasedCalculationTechnique": "MPR"}, "reformatted"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MONO_70KEV"]}, "monoenergetic"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VNC"]}, "virtual non-contrast"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "a derived image"),
        ({"SeriesDescription": "Monoenergetic Plus 55 keV"}, "its description says"),
        ({"SeriesDescription": "Iodine map"}, "its description says"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI", "ME60KEV", "DEMEP"]}, "monoenergetic"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CSAMPRTHICK"]}, "reformatted"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "WHATEVER"]}, "a derived image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"RescaleSlope": "1.96", "RescaleIntercept": "-200", "BitsStored": 8, "HighBit": 7}, "off the scale of HU"),
        ({"RescaleIntercept": "-500"}, "can only run from -500"),
        (
            {"RescaleSlope": "32.12", "RescaleIntercept": "-4047", "BitsStored": 8, "HighBit": 7},
            "one grey level is 32.1 HU",
        ),
    ],
)
def test_doubtful_hu_are_told(slice_file: SliceFile, tags: dict[str, Any], says: str) -> None:
    """Catches a density of a computed image that looks like any other."""
    path = slice_file(
        lambda ds: (setattr(ds, "PixelRepresentation", 0), [setattr(ds, tag, value) for tag, value in tags.items()])
    )
    (doubt,) = read_dicom_headers(path)[0].doubts
    assert says in doubt


@pytest.mark.parametrize(
    "text",
    [
        "Z Effective", "Z-Eff 3.0", "Effective Z", "Uric Acid", "VUE", "Virtual Unenhanced", "Virtual Non-Contrast 3.0",
        "DE_VNC", "rho/z", "electron density", "lung PBV", "Subtracted", "AvgIP", "Avg IP 10", "MinIP", "MIP 10mm",
        "VRT", "TMax", "Blood Flow", "rBF", "CBV", "CT Perf 5.0", "Perfusion 5.0", "Material density", "Mono 70 keV",
        "70 keV", "Mono+ 40 keV", "MonoE_50keV", "120 keV Mono", "DE Iodine 3.0", "Iodine(Water)",
        "Iodine no Water [mg/ml]",
        "Iodine overlay",
    ],
)  # fmt: skip
def test_descriptions_of_computed_images_are_doubted(slice_file: SliceFile, text: str) -> None:
    """Catches a map whose ImageType an archive has made ORIGINAL, so that its description alone tells."""
    (doubt,) = read_dicom_headers(slice_file(lambda ds: setattr(ds, "SeriesDescription", text)))[0].doubts
    assert "its description says" in doubt


@pytest.mark.parametrize(
    "text",
    [
        "with IV iodine contrast", "iodine allergy", "w iodine", "120 KEV", "120KEV 5mm", "Mono phase", "monophasic",
        "pre perfusion", "post perfusion", "for VRT/MPR", "THIN FOR MIP", "thin for MIP and VRT", "no MIP", "LOW DOSE",
        "perforation", "Abdomen 5.0 B30f",
    ],
)  # fmt: skip
def test_descriptions_of_plain_ct_are_not_doubted(slice_file: SliceFile, text: str) -> None:
    """Catches a contrast medium, a slip for kV, and what a series is made for, that are taken for what it is."""
    assert read_dicom_headers(slice_file(lambda ds: setattr(ds, "SeriesDescription", text)))[0].doubts == ()


def test_a_mapping_to_hu_among_others_is_fine(slice_file: SliceFile) -> None:
    """Catches a refusal of files that say twice, once in HU, what their values are."""
    path = slice_file(lambda ds: setattr(ds, "RealWorldValueMappingSequence", real_world("s", "[hnsf'U]")))
    assert read_dicom_headers(path)[0].doubts == ()


def test_a_slice_that_lost_its_modality_is_damaged(slice_file: SliceFile) -> None:
    """Catches a series that ends early because one slice does not say that it is CT."""
    path = slice_file(lambda ds: delattr(ds, "Modality"))
    found = inspect_file(path)
    assert found.is_damaged
    assert "Modality is missing" in str(found.reason)


def test_signed_values_with_a_lost_intercept_are_seen_in_the_pixels(slice_file: SliceFile) -> None:
    """Catches air at 0 HU where the tags would allow any value."""

    def change(dataset: pydicom.Dataset) -> None:
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        dataset.PixelData = (hu + 1024).astype("<i2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"

    path = slice_file(change)
    with pytest.raises(InputError, match="no CT in HU"):
        raise find_images(path).refused[0]
