"""Where do voxels lie? sarco against dcm2niix and SimpleITK in world space, on random grids and on real series.

python benchmarks/geometry.py [--cases=200] [--data=FOLDER ...] [--append]
"""

import argparse
import dataclasses
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dcm2niix
import numpy as np
import SimpleITK as sitk  # noqa: N813 - how everybody writes it
from harness import report, table
from numpy.typing import NDArray

from sarco.io.dicom import find_series, read_series
from sarco.io.nifti import read_volumes
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.scan.geometry import gantry_tilt_deg
from sarco.scan.series import Series, make_series

Seen = tuple[NDArray[np.float32], NDArray[np.float64]]  # HU in another index order, and that order to LPS mm


def random_phantom(seed: int) -> Phantom:
    """A phantom on a grid of any size, spacing and direction, mirrored row or column order included."""
    rng = np.random.default_rng(seed)
    options = PhantomOptions(
        n_slices=int(rng.integers(2, 9)),
        rows=int(rng.integers(24, 64)),
        columns=int(rng.integers(24, 64)),
        spacing_mm=tuple(rng.uniform(0.5, 8, 3).round(3).tolist()),
        arms=False,
    )
    phantom = make_phantom(seed, options)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if seed % 2:  # near the patient's axes, as most scans are: in any order and direction, turned by a little
        axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
        axes = np.linalg.qr(axes + rng.normal(0, 0.1, (3, 3)))[0] @ np.diag(np.sign(np.diag(axes.T @ axes)))
    axes[:, 2] = np.cross(axes[:, 1], axes[:, 0])  # slices follow the normal of (columns, rows)
    affine = np.eye(4)
    affine[:3, :3] = axes * options.spacing_mm
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return dataclasses.replace(phantom, affine_lps=affine)


def by_dcm2niix(series: Series, scratch: Path) -> Seen | None:
    """What dcm2niix makes of the files; None where it makes none or several images of them."""
    source, out = scratch / "in", scratch / "out"
    for folder in (source, out):
        folder.mkdir()
    for number, path in enumerate(sorted({header.path for header in series.slices})):
        (source / f"{number}.dcm").symlink_to(path.resolve())
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "image", "-o", str(out), str(source)]
    subprocess.run(command, capture_output=True, check=False, timeout=120)
    images = list(out.glob("*.nii"))
    if len(images) != 1:
        return None
    (volume,), affine = read_volumes(images[0])
    if volume.ndim == 3 and volume.shape[2] != len(series.slices):
        return None
    return volume, affine


def by_simpleitk(series: Series, scratch: Path) -> Seen | None:
    """What SimpleITK makes of the files in our order; it takes the step from the first two."""
    image = sitk.ReadImage([str(header.path) for header in series.slices])
    affine = np.eye(4)
    affine[:3, 3] = image.TransformIndexToPhysicalPoint((0, 0, 0))
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0).astype(np.float32), affine


def largest_error_mm(series: Series, volume: NDArray[np.float32], other: Seen) -> float:
    """Largest distance of a corner of the grid to the voxel of the other reader that holds the same HU.

    Infinite where the voxels differ in HU.
    """
    hu, affine = other
    to_other = np.linalg.inv(affine) @ series.affine_lps
    grid = np.indices(volume.shape).reshape(3, -1)
    places = np.rint(to_other[:3, :3] @ grid + to_other[:3, 3:]).astype(int)
    if hu.size != volume.size or (places < 0).any() or (places >= np.array(hu.shape)[:, None]).any():
        return float("inf")
    if not np.allclose(volume[tuple(grid)], hu[tuple(places)], atol=1e-3):
        return float("inf")
    corners = [(*corner, 1) for corner in np.ndindex(2, 2, 2)] * np.array([*(n - 1 for n in volume.shape), 1])
    there = np.rint(corners @ to_other.T)
    return float(np.linalg.norm((corners @ series.affine_lps.T - there @ affine.T)[:, :3], axis=1).max())


def every_series(cases: int, data: list[Path], scratch: Path) -> Iterator[tuple[str, Series]]:
    """Random phantoms, then the readable series of the folders."""
    for seed in range(cases):
        folder = scratch / str(seed)
        write_series(random_phantom(seed), folder, patient_id="P", seed=seed)
        yield "random grids", find_series(folder).series[0]
    for root in data:
        for series in find_series(root).series:
            yield f"{series.slices[0].path.parent.relative_to(root.parent)}", series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="how many random grids")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders with real series")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    readers = {"dcm2niix": by_dcm2niix, "SimpleITK": by_simpleitk}
    errors: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, series in every_series(typed.cases, typed.data, Path(scratch)):
            # Other readers close gaps and straighten a tilt, so there the slices are compared one by one.
            alone = bool(series.missing_planes) or gantry_tilt_deg(series.affine_lps) > 0.5
            for part in [make_series([header]) for header in series.slices] if alone else [series]:
                volume = read_series(part)
                for reader, read in readers.items():
                    with tempfile.TemporaryDirectory() as own:
                        seen = read(part, Path(own))
                    found = errors.setdefault(name + ", slice by slice" * alone, {r: [] for r in readers})[reader]
                    found.append(float("inf") if seen is None else largest_error_mm(part, volume, seen))
    rows = []
    for name, by_reader in errors.items():
        compared = len(next(iter(by_reader.values())))
        rows.append([name, str(compared), *(f"{max(found):.6f}" for found in by_reader.values())])
    text = table(["series", "compared", *(f"{reader}: largest error, mm" for reader in readers)], rows)
    report(
        "Where voxels lie, against other readers", "python benchmarks/geometry.py --data FOLDERS", text, typed.append
    )


if __name__ == "__main__":
    main()
