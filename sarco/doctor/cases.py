"""What the faults of `sarco.doctor.score` are made from: small phantom series as data sets, their truth, saving.

The truth comes from the phantom's arrays and from where they were meant to lie, never from a reader.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.scan.geometry import Affine, plane_affine

ROWS, COLUMNS, N_SLICES = 48, 60, 5
SPACING_MM = (7.2, 7.2, 9.0)  # square pixels, so that the fault with other pixels stands alone
SLOPE, INTERCEPT = 1.0, -1024.0  # how the plain series stores HU, in unsigned 16 bits


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a right reader gives for one series. Index order (row, column, slice).

    Attributes:
        hu: (R, C, S) float32.
        affines_lps: for each slice its own 4x4, (row, column, 0, 1) to LPS mm, so that gaps and shear need no grid.
        air: (R, C, S) bool, voxels of padding, where any HU of -900 or less is right; None where there are none.
        voxel_mm3: volume of a voxel, where slices do not tell it by their distance; None where they do.
    """

    hu: NDArray[np.float32]
    affines_lps: tuple[Affine, ...]
    air: NDArray[np.bool_] | None = None
    voxel_mm3: float | None = None


@dataclasses.dataclass(frozen=True)
class Fault:
    """One case of the torture set.

    Attributes:
        name: a short word for tables, flags and folders.
        what: what it is, in one plain sentence.
        build: writes it into an empty folder and gives what a right reader finds there, one truth a series, each in
            a volume of its own. No truth means that the case has to be refused: nothing right can be said about it.
        mixture: whether a series holds what does not belong together, so that refusing is as right as telling apart.
    """

    name: str
    what: str
    build: Callable[[Path], tuple[Truth, ...]]
    mixture: bool = False


@cache
def phantom(seed: int = 11, oblique: bool = False) -> Phantom:
    """An invented patient on the small grid; the same object at every call."""
    options = PhantomOptions(
        n_slices=N_SLICES, rows=ROWS, columns=COLUMNS, spacing_mm=SPACING_MM, oblique=oblique, arms=False
    )
    return make_phantom(seed, options)


def placed(
    row_step: Sequence[float],
    column_step: Sequence[float],
    slice_step: Sequence[float] | None = None,
    spacing_mm: Sequence[float] = SPACING_MM,
) -> Phantom:
    """The phantom's arrays, said to lie along other axes.

    Args:
        row_step: unit vector (LPS) from a row to the next.
        column_step: unit vector from a column to the next.
        slice_step: unit vector from a slice to the next; None is along the slice normal.
        spacing_mm: distance of (rows, columns, slices).
    """
    rows, columns = (np.asarray(step, dtype=np.float64) for step in (row_step, column_step))
    slices = np.cross(columns, rows) if slice_step is None else np.asarray(slice_step, dtype=np.float64)
    affine = phantom().affine_lps.copy()
    affine[:3, :3] = np.stack([rows, columns, slices], axis=1) * np.asarray(spacing_mm)
    return dataclasses.replace(phantom(), affine_lps=affine)


def datasets_of(source: Phantom, patient_id: str = "doctor") -> list[Dataset]:
    """The phantom as DICOM data sets in slice order, numbered in this order; yours to change."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(source, Path(folder) / "series", patient_id=patient_id, seed=0)
        datasets: list[Dataset] = [pydicom.dcmread(path) for path in paths]
    for index, dataset in enumerate(datasets):
        dataset.InstanceNumber = index + 1
        store(dataset, source.hu[:, :, index] - INTERCEPT)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{SLOPE:g}", f"{INTERCEPT:g}"
    return datasets


def truth_of(source: Phantom, slices: Sequence[int] | None = None, hu: NDArray[np.float32] | None = None) -> Truth:
    """The truth of a phantom.

    Args:
        source: the phantom.
        slices: which of its slices are there; None is all.
        hu: (R, C, S) where the HU are not the phantom's own.
    """
    values = (source.hu if hu is None else hu).astype(np.float32)
    indices = list(range(values.shape[2]) if slices is None else slices)
    return Truth(values[:, :, indices], tuple(plane_affine(source.affine_lps, index) for index in indices))


def store(dataset: Dataset, stored: NDArray[np.generic], kind: str = "<u2") -> None:
    """Puts stored values (row, column) into a data set: 12 bits in 16 where they fit, as scanners have it, else 16."""
    bits = 12 if kind == "<u2" and int(stored.max()) < 2**12 else 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = np.ascontiguousarray(stored).astype(kind).tobytes()
    dataset.PixelRepresentation = int(kind[1] == "i")


def save(datasets: Sequence[Dataset], folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Saves data sets in Explicit VR Little Endian; a different encoding is set up by the caller beforehand.

    Args:
        datasets: what to save.
        folder: made where absent.
        names: file names; without them they are numbered in the order given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, dataset in enumerate(datasets):
        path = folder / (names[index] if names else f"IM{index + 1:04d}.dcm")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def set_kind(dataset: Dataset, sop_class: UID) -> None:
    """Makes a data set one of another SOP class, in its meta header too."""
    dataset.SOPClassUID = sop_class
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
