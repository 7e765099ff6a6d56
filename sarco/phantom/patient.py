"""An invented abdomen as a real DICOM CT series with an exact label map: for demonstrations and tests, not for science.

The patient differs on all three axes (liver and spleen, front and back, psoas muscles that grow downwards), so a
flip, a transpose or a shift anywhere on the way shows. Labels are membership of voxel centres, before blur and noise.
Ordinary slices show their plane alone; thick ones drawn from the whole range average over several.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from sarco.anatomy.build import draw_build
from sarco.anatomy.illness import HEALTHY, ILLNESS, draw_illness
from sarco.anatomy.outline import TABLE_Z_MM, skin_mm
from sarco.anatomy.paint import body_from_world
from sarco.core.errors import OptionError
from sarco.core.files import make_empty
from sarco.examination.scanner import ORDINARY_SCANNER, SCANNER, ScannerDraw, draw_scanner, expose
from sarco.examination.setting import ORDINARY_SETTING, SETTING, SettingDraw, draw_setting
from sarco.io.nifti import write_label_map
from sarco.phantom.body import Anatomy, draw_anatomy, paint_slice
from sarco.phantom.views import LABEL_VIEWS, label_view

_IMPLEMENTATION_UID = UID("1.2.826.0.1.3680043.8.498.1")  # under pydicom's root, as generate_uid's are
# How scanners store HU: (slope, intercept, signed pixels).
_STORAGES = ((1.0, -1024.0, False), (1.0, 0.0, True), (0.5, -1024.0, False), (1.0, -1024.0, True))


@dataclass(frozen=True)
class PhantomOptions:
    """What a caller fixes about a phantom; everything else varies by patient.

    Attributes:
        n_slices: slices of the series.
        rows: rows of a slice.
        columns: columns of a slice.
        spacing_mm: distance of (rows, columns, slices) in mm; None lets it vary by patient.
        oblique: whether the slices are tilted against the patient's axes.
        arms: whether arms lie in the picture; None leaves it to chance.
        ordinary: an ordinary examination of a healthy abdomen; False draws from all that occurs, and more.
        labels: "muscle" for one label, "groups" for those of `MUSCLE_GROUPS`, "all" for the table `INVENTED_LABELS`.
        z_mm: height of the grid's middle above mid-L3, in mm of a patient of average size; None lets it vary around L3.

    Raises:
        OptionError: a value is out of range.
    """

    n_slices: int = 12
    rows: int = 256
    columns: int = 256
    spacing_mm: tuple[float, float, float] | None = None
    oblique: bool = False
    arms: bool | None = None
    ordinary: bool = True
    labels: Literal["muscle", "groups", "all"] = "muscle"
    z_mm: float | None = None

    def __post_init__(self) -> None:
        if self.n_slices < 1:
            raise OptionError(f"n_slices is {self.n_slices}; a series has at least 1 slice")
        if min(self.rows, self.columns) < 16 or max(self.rows, self.columns) > 4096:
            raise OptionError(f"a slice of {self.rows} x {self.columns} pixels; choose 16 to 4096 rows and columns")
        if self.spacing_mm is not None and not all(0.05 <= step <= 50 for step in self.spacing_mm):
            raise OptionError(f"spacing_mm is {self.spacing_mm}; each distance lies between 0.05 and 50 mm")
        if self.labels not in LABEL_VIEWS:
            raise OptionError(f"labels is {self.labels!r}; choose 'muscle', 'groups' or 'all'")


@dataclass(frozen=True)
class Phantom:
    """One invented patient on one grid. Index order (row, column, slice), world LPS mm.

    Attributes:
        hu: (R, C, S) int16, attenuation in HU.
        label_map: (R, C, S) uint8, ids of `label_names`, 0 elsewhere.
        affine_lps: 4x4, (row, column, slice, 1) to LPS mm; slices follow the slice normal.
        label_names: name by label id, of labels that occur.
        body_mask: (R, C, S) bool, the trunk with its skin, without arms and table.
        phase: contrast phase: "native", "arterial" or "venous".
        sex: "F" or "M".
        height_m: body height.
        weight_kg: body weight.
        arms: whether arms lie in the picture.
        scanner: what made the image.
    """

    hu: NDArray[np.int16]
    label_map: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    label_names: dict[int, str]
    body_mask: NDArray[np.bool_] = field(repr=False)
    phase: str
    sex: str
    height_m: float
    weight_kg: float
    arms: bool
    scanner: ScannerDraw = ScannerDraw()


def make_phantom(seed: int, options: PhantomOptions = PhantomOptions()) -> Phantom:
    """One patient with image and exact label map.

    Args:
        seed: the same seed and options give the same patient, voxel by voxel.
        options: what is fixed about the patient and the grid.
    """
    patient_rng, organ_rng, grid_rng, noise_rng, illness_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
    )
    setting, scanner = _draw_examination(options, grid_rng)
    illness = draw_illness(illness_rng, HEALTHY if options.ordinary else ILLNESS)
    anatomy = draw_anatomy(draw_build(patient_rng), organ_rng, setting, illness)
    build = anatomy.build
    position = grid_rng.uniform((-15, -190, -700), (15, -120, 400)).round(1)
    affine_lps = _place_grid(anatomy, scanner, options, position, grid_rng)
    spacing_mm = np.linalg.norm(affine_lps[:3, :3], axis=0)
    # Slice after slice in memory, although the index order is (row, column, slice).
    shape = (options.n_slices, options.rows, options.columns)
    hu, labels, body = (np.empty(shape, kind).transpose(1, 2, 0) for kind in (np.int16, np.uint8, np.bool_))
    names, id_of = label_view(options.labels)
    body_from_lps = body_from_world(build, position)
    body_from_index = body_from_lps @ affine_lps
    normal = np.cross(affine_lps[:3, 1], affine_lps[:3, 0]) / (spacing_mm[0] * spacing_mm[1])
    offsets = scanner.plane_offsets_mm()[:, None] * (body_from_lps @ np.append(normal, 0.0))
    for index in range(options.n_slices):
        body_from_slice = body_from_index.copy()
        body_from_slice[:, 3] += index * body_from_index[:, 2]
        planes = []
        for offset in offsets:
            body_from_plane = body_from_slice.copy()
            body_from_plane[:, 3] += offset
            planes.append(paint_slice((options.rows, options.columns), body_from_plane, anatomy))
        painted = planes[len(planes) // 2]
        pixel_mm = (float(spacing_mm[0]), float(spacing_mm[1]))
        hu[..., index] = expose([plane.hu for plane in planes], pixel_mm, scanner, noise_rng)
        labels[..., index] = id_of[painted.labels]
        body[..., index] = painted.body
    height_m = round(1.70 * build.scale**0.7 + float(patient_rng.normal(0, 0.04)), 2)
    half_depth_mm = (build.front_mm + build.back_mm) / 2 + build.fat_mm
    area_cm2 = np.pi * (build.half_width_mm + build.fat_mm) * half_depth_mm * build.scale**2 / 100
    weight_kg = round(float(area_cm2 * height_m * 0.062), 1)
    person = (build.phase, build.sex, height_m, weight_kg)
    counts = np.bincount(labels.ravel(order="K"), minlength=256)
    seen = {label: name for label, name in names.items() if counts[label]}
    return Phantom(hu, labels, affine_lps, seen, body, *person, setting.arms > 0, scanner)


def _draw_examination(options: PhantomOptions, rng: np.random.Generator) -> tuple[SettingDraw, ScannerDraw]:
    """How the patient lies, and what makes the image."""
    setting = draw_setting(rng, ORDINARY_SETTING if options.ordinary else SETTING)
    scanner = draw_scanner(rng, ORDINARY_SCANNER if options.ordinary else SCANNER)
    if options.arms is not None:
        setting = replace(setting, arms=(setting.arms or 1) if options.arms else 0)
    return setting, scanner


def _place_grid(
    anatomy: Anatomy,
    scanner: ScannerDraw,
    options: PhantomOptions,
    position: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """`affine_lps` of a grid that covers the patient, off centre by a little."""
    build, setting = anatomy.build, anatomy.setting
    height_mm = 0.0 if options.z_mm is None else options.z_mm
    nearest = np.abs(TABLE_Z_MM - height_mm).argmin()
    roll = math.radians(build.roll_deg)
    x, y = (skin[nearest] for skin in skin_mm(build, anatomy.outline))
    x, y = math.cos(roll) * x - math.sin(roll) * y, math.sin(roll) * x + math.cos(roll) * y
    width, height = float(np.ptp(x)), float(np.ptp(y))
    slice_mm = float(rng.choice([2.5, 3.0, 4.0, 5.0]))
    margin = setting.shown + (0.12 if setting.arms else 0)
    pixel_mm = max(width / options.columns, height / options.rows) * margin
    pixel_mm = min(pixel_mm, 520 / max(options.rows, options.columns))  # no scanner sees further
    spacing_mm = np.array(options.spacing_mm or (round(pixel_mm, 4), round(pixel_mm, 4), slice_mm))
    axes = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float64)  # row, column, slice steps in LPS
    if scanner.tilt_deg:  # rows lean, while slices follow one another along the couch
        tilt = math.radians(scanner.tilt_deg)
        axes[0] = 0, math.cos(tilt), -math.sin(tilt)
    if options.oblique:
        axes = axes @ _rotation(rng.uniform(7, 13, 3) * rng.choice([-1, 1], 3)).T
    size = np.array([options.rows, options.columns, options.n_slices])
    middle = (x.max() + x.min()) / 2 + setting.view_shift * width, (y.max() + y.min()) / 2
    centre = position + np.array([middle[0] + rng.uniform(-9, 9), middle[1] + rng.uniform(-9, 9), rng.uniform(-14, 22)])
    if options.z_mm is not None:
        centre[2] = position[2] + options.z_mm * build.scale
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = (axes * spacing_mm[:, None]).T
    affine_lps[:3, 3] = (centre - affine_lps[:3, :3] @ ((size - 1) / 2)).round(3)
    return affine_lps


def _rotation(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """3x3 rotation about x, then y, then z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = step @ rotation
    return rotation


def write_series(phantom: Phantom, folder: Path, *, patient_id: str, seed: int) -> list[Path]:
    """Writes a phantom as DICOM CT images, one file a slice; names and InstanceNumber do not follow the position.

    Args:
        phantom: the patient.
        folder: where the files go; made where absent.
        patient_id: patientID.
        seed: decides UIDs, how HU are stored and the order of names; the same seed writes the same bytes.

    Returns:
        The files in slice order.

    Raises:
        InputError: `folder` holds something already, or cannot be made.
    """
    make_empty(folder)
    rng = np.random.default_rng([seed, 1])
    storage = _STORAGES[int(rng.integers(len(_STORAGES)))]
    if phantom.hu.min() < storage[1] and not storage[2]:
        storage = _STORAGES[1]  # padding below -1024 needs a sign
    n_slices = phantom.hu.shape[2]
    number = np.arange(1, n_slices + 1)
    if rng.random() < 0.5:
        number = number[::-1]
    names = rng.permutation(n_slices)
    common = _series_header(phantom, patient_id, seed)
    paths = []
    for index in range(n_slices):
        path = folder / f"IM{names[index]:04d}.dcm"
        dataset = _slice_dataset(phantom, index, common, storage)
        dataset.InstanceNumber = int(number[index])
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _uid(*parts: object) -> UID:
    return generate_uid(entropy_srcs=["sarco phantom", *map(str, parts)])


def _series_header(phantom: Phantom, patient_id: str, seed: int) -> Dataset:
    """What all slices of the series share."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, name, _uid(seed, patient_id, name))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.PatientBirthDate = ""
    ds.StudyID = "1"
    ds.PositionReferenceIndicator = ""
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "sarco", "phantom"
    ds.StudyDescription, ds.SeriesDescription = "Synthetic abdomen", f"Phantom {phantom.phase}"
    ds.PatientName, ds.PatientID, ds.PatientSex = f"Phantom^{patient_id}", patient_id, phantom.sex
    ds.PatientAge = "060Y"
    ds.PatientSize, ds.PatientWeight = f"{phantom.height_m:.2f}", f"{phantom.weight_kg:.1f}"
    ds.BodyPartExamined, ds.PatientPosition, ds.SeriesNumber, ds.AcquisitionNumber = "ABDOMEN", "HFS", 1, 1
    if phantom.phase != "native":
        ds.ContrastBolusAgent, ds.ContrastBolusRoute = "Iodine", "INTRAVENOUS"
    ds.KVP, ds.ConvolutionKernel, ds.RescaleType = f"{phantom.scanner.kv:g}", "SYNTHETIC", "HU"
    steps = phantom.affine_lps[:3, :3]
    spacing_mm = np.linalg.norm(steps, axis=0)
    ds.PixelSpacing = [_decimal(spacing_mm[0]), _decimal(spacing_mm[1])]
    ds.SliceThickness = _decimal(spacing_mm[2])
    cosines = np.concatenate([steps[:, 1] / spacing_mm[1], steps[:, 0] / spacing_mm[0]])
    ds.ImageOrientationPatient = [_decimal(value) for value in cosines]
    return ds


def _slice_dataset(phantom: Phantom, index: int, common: Dataset, storage: tuple[float, float, bool]) -> FileDataset:
    slope, intercept, signed = storage
    uid = _uid(common.SeriesInstanceUID, index)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, _IMPLEMENTATION_UID
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.update(common)
    ds.SOPInstanceUID = uid
    position = phantom.affine_lps @ (0, 0, index, 1)
    ds.ImagePositionPatient = [_decimal(value) for value in position[:3]]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = phantom.hu.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    stored = np.rint((phantom.hu[..., index] - intercept) / slope).astype("<i2" if signed else "<u2")
    ds.PixelData = stored.tobytes()
    return ds


def _decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    return f"{round(value, 8) + 0.0:.8f}".rstrip("0").rstrip(".")


def write_dataset(out: Path, patients: int, seed: int, options: PhantomOptions) -> list[Path]:
    """Writes patients as `OUT/P001/*.dcm` beside `OUT/P001.nii.gz`, and `OUT/labels.json`.

    Args:
        out: an empty or absent folder.
        patients: how many.
        seed: the same seed writes the same bytes.
        options: what is fixed about the patients.

    Returns:
        The series folders.

    Raises:
        InputError: `out` holds something already.
        OptionError: `patients` or `seed` is out of range.
    """
    if not 1 <= patients <= 999:
        raise OptionError(f"patients is {patients}; ask for 1 to 999")
    if seed < 0:
        raise OptionError(f"seed is {seed}; give a number from 0 up")
    make_empty(out)
    folders = []
    names: dict[int, str] = {}
    for number in range(1, patients + 1):
        patient_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        phantom = make_phantom(patient_seed, options)
        name = f"P{number:03d}"
        # The seed in the PatientID: patients of two data sets are two people, though both are the first of theirs.
        write_series(phantom, out / name, patient_id=f"phantom-{patient_seed}", seed=patient_seed)
        write_label_map(out / f"{name}.nii.gz", phantom.label_map, phantom.affine_lps)
        folders.append(out / name)
        names |= phantom.label_names
    table = {str(label): name for label, name in sorted({0: "background", **names}.items())}
    (out / "labels.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return folders
