"""Two invented patients, and how they become cases of a data folder: for tests of who is paired, and who trains."""

from collections.abc import Callable
from pathlib import Path

import pydicom

from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, write_series

GRID = PhantomOptions(n_slices=4, rows=40, columns=48, spacing_mm=(9.0, 8.0, 5.0), labels="groups")


def write_case(phantom: Phantom, root: Path, name: str, patient_id: str = "P1", seed: int = 1) -> list[Path]:
    """A series folder beside its volume label map; gives the slices in order."""
    paths = write_series(phantom, root / name, patient_id=patient_id, seed=seed)
    write_label_map(root / f"{name}.nii.gz", phantom.label_map, phantom.affine_lps)
    return paths


def edit(paths: list[Path], change: Callable[[pydicom.Dataset, int], None]) -> None:
    """Changes DICOM files in place."""
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        change(dataset, index)
        dataset.save_as(path)
