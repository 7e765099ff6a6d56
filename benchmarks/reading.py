"""How fast are slices read? sarco's checked reading beside plain pydicom, uncompressed and JPEG 2000; NIfTI volumes.

python benchmarks/reading.py [--slices=300] [--rounds=3] [--only=dicom|nifti] [--append]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from harness import ROOT, report, table
from pydicom.uid import JPEG2000Lossless

from sarco.io.dicom import find_series
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.images import find_images, read_hu
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.scan.geometry import lps_to_ras, swap_rows_and_columns
from sarco.scan.series import Series
from sarco.training.cases import find_cases


def plain_pydicom(series: Series) -> None:
    """What everybody writes: no check of anything."""
    for header in series.slices:
        dataset = pydicom.dcmread(header.path)
        dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def sarco_pixels(series: Series) -> None:
    """Pixels of slices whose headers are known, each file checked again."""
    for header in series.slices:
        read_dicom_hu(header)


def sarco_whole(series: Series) -> None:
    """Everything: search the folder, check every header and the grid, read the pixels."""
    sarco_pixels(find_series(series.slices[0].path.parent).series[0])


def monai(series: Series) -> None:
    """MONAI's reader, slice by slice."""
    from monai.transforms import LoadImage

    load = LoadImage(reader="PydicomReader", image_only=True)
    for header in series.slices:
        load(header.path)


READERS: dict[str, Callable[[Series], None]] = {
    "plain pydicom": plain_pydicom,
    "sarco, pixels": sarco_pixels,
    "sarco, search and pixels": sarco_whole,
    "MONAI LoadImage": monai,
}


def write_slices(folder: Path, n_slices: int, compress: bool) -> Series:
    """A series of 512 x 512 slices: the anatomy of a few, repeated, each with noise of its own."""
    phantom = make_phantom(1, PhantomOptions(n_slices=4, rows=512, columns=512))
    paths = write_series(phantom, folder, patient_id="P", seed=1)
    slices = [pydicom.dcmread(path) for path in paths]
    normal = phantom.affine_lps[:3, 2]
    for number in range(n_slices):
        dataset = slices[number % 4]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
        dataset.InstanceNumber = number + 1  # slices that share one are two scans
        dataset.ImagePositionPatient = (phantom.affine_lps[:3, 3] + number * normal).round(4).tolist()
        if compress and number < 4:
            dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(folder / f"slice{number:04d}.dcm")
    for path in paths:
        path.unlink()
    return find_series(folder).series[0]


def nibabel_whole(path: Path) -> None:
    """What everybody writes: the volume as floating-point numbers."""
    nib.load(path).get_fdata()


def nibabel_slices(path: Path) -> None:
    """Slice by slice through nibabel's proxy, which maps plain files."""
    proxy = nib.load(path).dataobj
    for plane in range(proxy.shape[2]):
        np.asarray(proxy[..., plane], dtype=np.float32)


def sarco_planes(path: Path) -> None:
    """Search, check of the values, and every slice."""
    for header in find_images(path).series[0].slices:
        read_hu(header)


def sarco_training(path: Path) -> None:
    """What preparing a training reads: every slice, with its labels from the label map beside the volume."""
    for case in {item.case for item in find_cases(path.parent).slices}:
        label_map = case.read_labels()
        for place, header in enumerate(case.slices):
            case.lay(label_map, place)
            read_hu(header)


def volumes(n_slices: int, rounds_of_each: int) -> list[list[str]]:
    """Rows for NIfTI volumes, packed and plain."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        phantom = make_phantom(1, PhantomOptions(n_slices=4, rows=512, columns=512, spacing_mm=(0.9, 0.9, 1.0)))
        hu = np.tile(phantom.hu, n_slices // 4 + 1)[:, :, :n_slices].transpose(1, 0, 2)
        image = nib.Nifti1Image(np.asfortranarray(hu), lps_to_ras(swap_rows_and_columns(phantom.affine_lps)))
        ids = np.tile(phantom.label_map, n_slices // 4 + 1)[:, :, :n_slices]
        for name in ("ct.nii", "ct.nii.gz"):
            path = Path(scratch) / name.replace(".", "_") / name
            path.parent.mkdir()
            nib.save(image, path)
            write_label_map(path.with_name("label.nii.gz"), ids, phantom.affine_lps)
            for reader in (nibabel_whole, nibabel_slices, sarco_planes, sarco_training):
                if reader is nibabel_slices and path.suffix == ".gz":
                    continue  # it unpacks the file anew for each slice
                rounds = [measure_alone(reader.__name__, path) for _ in range(rounds_of_each)]
                seconds, peaks = zip(*rounds, strict=True)
                middle, peak = statistics.median(seconds), max(peaks)
                spread = f"{(max(seconds) - min(seconds)) / middle:.0%}"
                share = f"{peak / (hu.nbytes / 2**20):.2f}"
                rows.append([name, reader.__name__, f"{n_slices / middle:.0f}", f"{peak:.0f} MiB", share, spread])
    return rows


def measure_alone(reader: str, path: Path) -> tuple[float, float]:
    """Seconds of a process of its own that reads the volume, and by how many MiB it grew while it did."""
    code = f"""
import pathlib, sys, time
sys.path.insert(0, "benchmarks")
import reading
def told(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of importing
before = told("VmRSS")
start = time.perf_counter()
reading.{reader}(pathlib.Path({str(path)!r}))
print(time.perf_counter() - start, told("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, grown = done.stdout.split()[-2:]
    return float(seconds), float(grown)


def dicom(n_slices: int, rounds: int) -> str:
    """The table for DICOM series."""
    rows = []
    for name, compress in (("uncompressed", False), ("JPEG 2000", True)):
        with tempfile.TemporaryDirectory() as scratch:
            series = write_slices(Path(scratch), n_slices, compress)
            seconds: dict[str, list[float]] = {reader: [] for reader in READERS}
            for _ in range(rounds):  # in turns, so that a noisy moment hits all
                for reader, read in READERS.items():
                    start = time.perf_counter()
                    read(series)
                    seconds[reader].append(time.perf_counter() - start)
        base = statistics.median(seconds["plain pydicom"])
        for reader, values in seconds.items():
            middle = statistics.median(values)
            spread = (max(values) - min(values)) / middle
            cells = [f"{n_slices / middle:.0f}", f"{base / middle:.2f}", f"{spread:.0%}"]
            rows.append([name, reader, *cells])
    head = ["encoding", "reader", "slices per second", "speed beside plain pydicom", "spread"]
    told = f"{n_slices} slices of 512 x 512, medians of {rounds} rounds taken in turns, one thread."
    return f"{table(head, rows)}\n\n{told}"


def nifti(n_slices: int, rounds: int) -> str:
    """The table for NIfTI volumes."""
    head = ["file", "reader", "slices per second", "memory", "volumes in memory", "spread"]
    told = (
        f"512 x 512 x {n_slices} voxels of 16 bits, {n_slices / 2:.0f} MiB. Beside them lies a packed label map, "
        f"{n_slices / 4:.0f} MiB unpacked, which sarco_training reads as well. Memory is by how much a process of its "
        f"own grew while it read, at most; rounds: {rounds}."
    )
    return f"{table(head, volumes(n_slices, rounds))}\n\n{told}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("dicom", "nifti"), help="one of the two tables")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    made = [make(typed.slices, typed.rounds) for make in (dicom, nifti) if typed.only in (None, make.__name__)]
    only = f" --only={typed.only}" if typed.only else ""
    command = f"python benchmarks/reading.py --slices={typed.slices} --rounds={typed.rounds}{only}"
    report("Reading DICOM and NIfTI", command, "\n\n".join(made), typed.append)


if __name__ == "__main__":
    main()
