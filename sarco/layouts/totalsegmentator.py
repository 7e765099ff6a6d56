"""TotalSegmentator's data set: ``CASE/ct.nii.gz`` beside ``CASE/segmentations/STRUCTURE.nii.gz``, and ``meta.csv``.

Source:
    https://doi.org/10.5281/zenodo.6802613 (117 masks a case; semicolons in meta.csv, whose columns are image_id; age;
    gender; institute; study_type; split; ...).
"""

from pathlib import Path

from sarco.io.nifti import IMAGE_NAMES, nifti_stem
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import MASK, LabelFile, LabelSource
from sarco.layouts.names import names_above, read_sides

TOTALSEGMENTATOR = "TotalSegmentator"
_MASKS = "segmentations"


def find_totalsegmentator(files: DataFiles) -> list[FoundCase]:
    """Every folder with one image and a folder of masks.

    Raises:
        InputError: an image or a mask is there packed and plain, or ``meta.csv`` cannot be read.
    """
    by_folder = files.nifti_by_folder()
    cases = []
    sides: dict[Path, dict[str, str]] = {}
    for masks in [folder for folder in by_folder if folder.name.lower() == _MASKS]:
        folder = masks.parent
        images = [found for name, found in by_folder.get(folder, {}).items() if name in IMAGE_NAMES]
        if len(images) != 1:
            continue
        table = folder.parent / "meta.csv"
        if folder.parent not in sides:
            sides[folder.parent] = read_sides(table) if table.is_file() else {}
        numbers, _ = names_above(masks, files.root)
        structures = tuple(
            LabelFile(only_file(found), MASK, ((1, nifti_stem(found[0])),), numbers, found[0])
            for _, found in sorted(by_folder[masks].items())
        )
        source = LabelSource(masks, structures)
        side = sides[folder.parent].get(folder.name, "")
        image = only_file(images[0])
        cases.append(FoundCase(folder.name, TOTALSEGMENTATOR, image, source, side))
        files.claim((image, table, *source.paths))
    return cases
