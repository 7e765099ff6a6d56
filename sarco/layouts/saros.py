"""SAROS: ``CASE/image.nii.gz`` beside ``body-regions.nii.gz`` and ``body-parts.nii.gz``; 255 where nobody looked.

Every fifth slice is labelled. Regions and parts label every pixel twice, so regions are taken unless parts are asked
for by their names.

Source:
    https://github.com/UMEssen/saros-dataset, README.md (files) and training/util.py (ids); Koitka et al., Scientific
    Data 11:483 (2024), doi 10.1038/s41597-024-03337-6.
"""

from pathlib import Path

from sarco.io.nifti import IMAGE_NAMES
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import LabelFile, LabelSource

SAROS = "SAROS"
REGIONS, PARTS = "body-regions", "body-parts"
_NAMES = {
    REGIONS: (
        "subcutaneous_tissue",
        "muscle",
        "abdominal_cavity",
        "thoracic_cavity",
        "bone",
        "parotid_glands",
        "pericardium",
        "breast_implant",
        "mediastinum",
        "brain",
        "spinal_cord",
        "thyroid_glands",
        "submandibular_glands",
    ),
    PARTS: ("torso", "head", "right_leg", "left_leg", "right_arm", "left_arm"),
}


def find_saros(files: DataFiles) -> list[FoundCase]:
    """Every folder with one image beside body regions or body parts.

    Raises:
        InputError: a file is there packed and plain.
    """
    cases = []
    for folder, by_name in files.nifti_by_folder().items():
        images = [found for name, found in by_name.items() if name in IMAGE_NAMES]
        labels = [_label_file(only_file(by_name[kind]), kind) for kind in (REGIONS, PARTS) if kind in by_name]
        if len(images) == 1 and labels:
            image = only_file(images[0])
            source = LabelSource(labels[0].path, tuple(labels))
            cases.append(FoundCase(folder.name, SAROS, image, source))
            files.claim((image, *source.paths))
    return cases


def _label_file(path: Path, kind: str) -> LabelFile:
    return LabelFile(path, names=tuple(enumerate(_NAMES[kind], start=1)), named_in=path, is_complete=True)
