"""How fast are slices read? sarco's checked reading beside plain pydicom, uncompressed and JPEG 2000; NIfTI volumes.

python benchmarks/reading.py [--slices=300] [--append]
"""

import argparse
import os
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
from monai.transforms import LoadImage
from pydicom.uid import JPEG2000Lossless

from sarco.io.dicom import find_series
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.io.images import find_images, read_hu
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.scan.geometry import lps_to_ras, swap_rows_and_columns
from sarco.scan.series import Series

ROUNDS = 3


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


def volumes(n_slices: int) -> list[list[str]]:
    """Rows for NIfTI volumes, packed and plain."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        phantom = make_phantom(1, PhantomOptions(n_slices=4, rows=512, columns=512))
        hu = np.tile(phantom.hu, n_slices // 4 + 1)[:, :, :n_slices].transpose(1, 0, 2)
        image = nib.Nifti1Image(np.asfortranarray(hu), lps_to_ras(swap_rows_and_columns(phantom.affine_lps)))
        for name in ("volume.nii", "volume.nii.gz"):
            path = Path(scratch) / name
            nib.save(image, path)
            for reader in (nibabel_whole, nibabel_slices, sarco_planes):
                if reader is nibabel_slices and path.suffix == ".gz":
                    continue  # it unpacks the file anew for each slice
                seconds = []
                for _ in range(ROUNDS):
                    start = time.perf_counter()
                    reader(path)
                    seconds.append(time.perf_counter() - start)
                    os.utime(path)  # so that nothing is kept
                middle = statistics.median(seconds)
                peak = peak_mb(reader.__name__, path)
                spread = f"{(max(seconds) - min(seconds)) / middle:.0%}"
                rows.append([name, reader.__name__, f"{n_slices / middle:.0f}", f"{peak:.0f} MB", spread])
    return rows


def peak_mb(reader: str, path: Path) -> float:
    """Most memory of a process of its own that reads the volume, less that of one that only imports."""
    code = "import resource, sys; sys.path.insert(0, 'benchmarks'); import pathlib, reading\n{}\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    peaks = []
    for line in ("", f"reading.{reader}(pathlib.Path({str(path)!r}))"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(line)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(float(done.stdout.split()[-1]))
    return peaks[1] - peaks[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    rows = []
    for name, compress in (("uncompressed", False), ("JPEG 2000", True)):
        with tempfile.TemporaryDirectory() as scratch:
            series = write_slices(Path(scratch), typed.slices, compress)
            seconds: dict[str, list[float]] = {reader: [] for reader in READERS}
            for _ in range(ROUNDS):  # in turns, so that a noisy moment hits all
                for reader, read in READERS.items():
                    start = time.perf_counter()
                    read(series)
                    seconds[reader].append(time.perf_counter() - start)
        base = statistics.median(seconds["plain pydicom"])
        for reader, values in seconds.items():
            middle = statistics.median(values)
            spread = (max(values) - min(values)) / middle
            cells = [f"{typed.slices / middle:.0f}", f"{base / middle:.2f}", f"{spread:.0%}"]
            rows.append([name, reader, *cells])
    head = ["encoding", "reader", "slices per second", "speed beside plain pydicom", "spread"]
    text = (
        table(head, rows)
        + f"\n\n{typed.slices} slices of 512 x 512, medians of {ROUNDS} rounds taken in turns, one thread."
    )
    nifti = table(["file", "reader", "slices per second", "memory", "spread"], volumes(typed.slices))
    text += f"\n\n{nifti}\n\nNIfTI volumes of the same size, int16; the memory is that of reading alone."
    report("Reading DICOM and NIfTI", f"python benchmarks/reading.py --slices={typed.slices}", text, typed.append)


if __name__ == "__main__":
    main()
