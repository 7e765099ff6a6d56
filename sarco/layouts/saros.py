"""SAROS: ``CASE/image.nii.gz`` beside ``body-regions.nii.gz`` and ``body-parts.nii.gz``; 255 where nobody looked.

Every fifth slice is labelled. Regions and parts label every pixel twice, so regions are taken unless parts are asked
for by their names. 882 people have 900 scans, and nothing but the data set's table says who has two.

Source:
    https://github.com/UMEssen/saros-dataset, README.md (files), training/util.py (ids) and training/move_data.py (the
    table "Segmentation Info.csv" with id, tcia_case_id, split: fold-1 to fold-5, test); Koitka et al., Scientific Data
    11:483 (2024), doi 10.1038/s41597-024-03337-6.
"""

from functools import cache
from pathlib import Path

from sarco.core.errors import InputError
from sarco.core.messages import shown
from sarco.io.nifti import IMAGE_NAMES
from sarco.layouts.case import TEST, TRAIN, VAL, FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import LabelFile, LabelSource
from sarco.layouts.names import read_rows

SAROS = "SAROS"
REGIONS, PARTS = "body-regions", "body-parts"
_FOLDS = tuple(f"fold-{number}" for number in range(1, 6))
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
        InputError: a file is there packed and plain, or the table gives a case two patients.
    """
    cases = []
    table_of = cache(_read_table)
    for folder, by_name in files.nifti_by_folder().items():
        images = [found for name, found in by_name.items() if name in IMAGE_NAMES]
        labels = [_label_file(only_file(by_name[kind]), kind) for kind in (REGIONS, PARTS) if kind in by_name]
        if len(images) == 1 and labels:
            image = only_file(images[0])
            source = LabelSource(labels[0].path, tuple(labels))
            above = [place for place in (folder, *folder.parents) if place == files.root or files.root in place.parents]
            told = (table[folder.name] for table in map(table_of, above) if folder.name in table)
            patient, side, folds = next(told, ("", "", ()))
            cases.append(FoundCase(folder.name, SAROS, image, source, side, patient=patient, folds=folds))
            files.claim((image, *source.paths))
    return cases


def _read_table(folder: Path) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Whose each case is, whether it is kept for testing, and its side in each fold, by the tables in a folder."""
    found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for path in sorted(folder.glob("*.csv")):
        with open(path, "rb") as file:
            is_table = b"tcia_case_id" in file.readline()
        for row in read_rows(path) if is_table else []:
            case, patient = row.get("id", ""), row.get("tcia_case_id", "")
            split = row.get("split", "").lower()
            folds = tuple(VAL if name == split else TRAIN for name in _FOLDS) if split in _FOLDS else ()
            entry = (patient, TEST if split == TEST else "", folds)
            if case and patient and found.setdefault(case, entry) != entry:
                raise InputError(f"{path}: gives the case {shown(case)} two patients or splits; correct it")
    return found


def _label_file(path: Path, kind: str) -> LabelFile:
    return LabelFile(path, names=tuple(enumerate(_NAMES[kind], start=1)), named_in=path, is_complete=True)
