"""How fast are slices read? sarco's checked reading beside plain pydicom, uncompressed and JPEG 2000.

python benchmarks/reading.py [--slices=300] [--append]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from harness import report, table
from monai.transforms import LoadImage
from pydicom.uid import JPEG2000Lossless

from sarco.io.dicom import find_series
from sarco.io.dicom_pixels import read_dicom_hu
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
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
        dataset.ImagePositionPatient = (phantom.affine_lps[:3, 3] + number * normal).round(4).tolist()
        if compress and number < 4:
            dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(folder / f"slice{number:04d}.dcm")
    for path in paths:
        path.unlink()
    return find_series(folder).series[0]


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
    report("Reading DICOM", f"python benchmarks/reading.py --slices={typed.slices}", text, typed.append)


if __name__ == "__main__":
    main()
