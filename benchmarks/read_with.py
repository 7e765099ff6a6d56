"""Reads a folder of DICOM with another program and writes NIfTI in HU, as `sarco doctor` asks.

Each program is called as its own documentation tells users to, with its defaults:

- monai: ``LoadImage(reader="PydicomReader", ensure_channel_first=True)`` on each folder that holds files, then
  ``SaveImage(output_ext=".nii.gz", resample=False)``.
- simpleitk: ``ImageSeriesReader.GetGDCMSeriesIDs`` on each folder that holds files; for each series
  ``GetGDCMSeriesFileNames``, ``SetFileNames``, ``Execute``, then ``WriteImage``.
- dcm2niix: ``dcm2niix -o OUTPUT INPUT``, which searches subfolders itself.
- dicom2nifti: ``convert_directory(INPUT, OUTPUT)``, which searches subfolders itself and goes on after errors.

MONAI and SimpleITK do not search subfolders, so they are called once for each folder; what fails in one folder does not
keep the others from being written. Where nothing was written, an error that the library raised on purpose becomes one
line and exit status 1. An error that Python raises where a program did not foresee its input (`SLIPS` in
`sarco.doctor.judge`: AttributeError, IndexError, KeyError, TypeError and the like) keeps its traceback, as it would for
a user. Memory is limited to 8 GiB, so that a header that asks for more hurts nobody else.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import ROOT  # noqa: F401 - importing it lets Python find sarco

from sarco.doctor.judge import SLIPS

MEMORY_BYTES = 8 * 2**30


def limit_memory() -> None:
    """Makes an allocation beyond the limit fail in this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))


def folders_with_files(folder: Path) -> list[Path]:
    """The folder and those below it that hold files themselves."""
    everything = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    return [path for path in everything if any(entry.is_file() for entry in path.iterdir())]


def monai_jobs(folder: Path, output: Path) -> Iterator[Callable[[], object]]:
    """One job for each folder with files."""
    from monai.transforms import LoadImage, SaveImage

    load = LoadImage(reader="PydicomReader", ensure_channel_first=True)
    save = SaveImage(output_dir=output, output_ext=".nii.gz", resample=False, print_log=False)
    for number, place in enumerate(folders_with_files(folder)):
        yield lambda place=place, number=number: save(load(place), filename=output / f"image_{number}")


def simpleitk_jobs(folder: Path, output: Path) -> Iterator[Callable[[], object]]:
    """One job for each series of each folder with files."""
    import SimpleITK as sitk  # noqa: N813 - as its users call it

    def convert(names: tuple[str, ...], number: int) -> None:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        sitk.WriteImage(reader.Execute(), str(output / f"image_{number}.nii.gz"))

    number = 0
    for place in folders_with_files(folder):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), uid)
            yield lambda names=names, number=number: convert(names, number)
            number += 1


def dicom2nifti_jobs(folder: Path, output: Path) -> Iterator[Callable[[], object]]:
    """One job for all."""
    import dicom2nifti

    yield lambda: dicom2nifti.convert_directory(folder, output)


def run_dcm2niix(folder: Path, output: Path) -> int:
    """Its exit status; what it prints passes through."""
    import dcm2niix

    return subprocess.run([dcm2niix.bin, "-o", str(output), str(folder)], check=False).returncode


def one_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def run_jobs(jobs: Iterator[Callable[[], object]], output: Path) -> int:
    """Runs every job; gives the exit status.

    A slip is raised again at the end where nothing was written. Nothing written counts as a refusal, said or not.
    """
    slips = []
    for job in jobs:
        try:
            job()
        except SLIPS as error:
            slips.append(error)
            print(f"warning: {one_line(error)}", file=sys.stderr)
        except Exception as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
    if any(output.iterdir()):
        return 0
    if slips:
        raise slips[0]
    return 1


JOBS = {"monai": monai_jobs, "simpleitk": simpleitk_jobs, "dicom2nifti": dicom2nifti_jobs}


def main() -> int:
    """The command line: PROGRAM INPUT OUTPUT."""
    words = sys.argv[1:]
    if len(words) != 3 or words[0] not in (*JOBS, "dcm2niix"):
        print(
            "usage: python benchmarks/read_with.py {monai|simpleitk|dcm2niix|dicom2nifti} INPUT OUTPUT", file=sys.stderr
        )
        return 2
    limit_memory()
    folder, output = Path(words[1]), Path(words[2])
    if words[0] == "dcm2niix":
        return run_dcm2niix(folder, output)
    return run_jobs(JOBS[words[0]](folder, output), output)


if __name__ == "__main__":
    sys.exit(main())
