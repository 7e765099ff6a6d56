"""An image beside its label map, by their names: the layouts that need no table.

``NAME.dcm`` + ``NAME.nii.gz``; ``CASE/`` + ``CASE.nii.gz``, where the folder holds a DICOM series or a NIfTI volume;
``CASE/ct.nii.gz`` + ``CASE/label.nii.gz`` (KiTS: ``imaging`` and ``segmentation``); ``CASE_image`` + ``CASE_label``,
or ``CASE`` + ``CASE_label``.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from sarco.core.errors import InputError
from sarco.io.nifti import IMAGE_NAMES, LABEL_NAMES, is_nifti, label_case, nifti_stem, scan_name
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import LabelFile, LabelSource
from sarco.layouts.names import names_above

SLICES, SERIES = "NAME.dcm + NAME.nii.gz", "CASE/ + CASE.nii.gz"
FOLDERS, ENDINGS = "CASE/ct.nii.gz + CASE/label.nii.gz", "CASE_image + CASE_label"


def find_folders(files: DataFiles) -> list[FoundCase]:
    """Every folder with one image and one label map that are called so."""
    cases = []
    for folder, by_name in files.nifti_by_folder().items():
        images = [found for name, found in by_name.items() if name in IMAGE_NAMES]
        labels = [found for name, found in by_name.items() if name in LABEL_NAMES]
        if len(images) == len(labels) == 1:
            cases.append(_case(folder.name, FOLDERS, only_file(images[0]), only_file(labels[0]), files))
    return cases


def find_endings(files: DataFiles) -> list[FoundCase]:
    """Every image and label map of a folder whose names differ in their endings alone."""
    cases = []
    for by_name in files.nifti_by_folder().values():
        images: dict[str, list[Path]] = defaultdict(list)
        for found in by_name.values():
            if not label_case(nifti_stem(found[0])):
                images[scan_name(found[0]).lower()].append(only_file(found))
        for found in by_name.values():
            name = label_case(nifti_stem(found[0]))
            of_name = images.get(name.lower(), []) if name else []
            if len(of_name) > 1:
                raise InputError(
                    f"{of_name[0]} and {of_name[1]} could both be the image of {found[0]}; move one of them away"
                )
            if of_name:
                cases.append(_case(name, ENDINGS, of_name[0], only_file(found), files))
    return cases


def find_stems(files: DataFiles) -> list[FoundCase]:
    """Every label map beside a DICOM file or a folder of the same name.

    Raises:
        InputError: two files claim the same place.
    """
    left = files.left
    images = by_stem(file for file in left if file.suffix.lower() == ".dcm")
    inhabited = {folder for file in left for folder in file.parents}
    cases = []
    for stem, labels in by_stem(file for file in left if is_nifti(file)).items():
        is_folder = stem.is_dir()
        if stem in images and is_folder and stem in inhabited:
            raise InputError(
                f"{only_file(labels)}: both {images[stem][0]} and {stem}/ could be its image; move one away"
            )
        if stem in images:
            cases.append(_case(stem.name, SLICES, only_file(images[stem]), only_file(labels), files))
        elif is_folder:
            inside = files.below(stem)
            volumes = [file for file in inside if is_nifti(file)]
            is_volume = len(volumes) == 1 and not any(file.suffix.lower() == ".dcm" for file in inside)
            image = volumes[0] if is_volume else stem
            cases.append(_case(stem.name, SERIES, image, only_file(labels), files))
            files.claim(inside)
    return cases


def by_stem(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Files by their path without suffix."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        found[file.with_name(nifti_stem(file)) if is_nifti(file) else file.with_suffix("")].append(file)
    return found


def _case(name: str, layout: str, image: Path, label: Path, files: DataFiles) -> FoundCase:
    names, named_in = names_above(label.parent, files.root)
    files.claim((image, label))
    return FoundCase(name, layout, image, LabelSource(label, (LabelFile(label, names=names, named_in=named_in),)))
