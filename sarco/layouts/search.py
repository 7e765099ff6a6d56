"""What labelled data a folder holds, whatever its layout."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sarco.core.errors import DataWarning, InputError
from sarco.core.messages import count_of, shown
from sarco.core.tree import files_below
from sarco.io.nifti import is_nifti, open_volume
from sarco.layouts.case import TEST, FoundCase
from sarco.layouts.dicom_seg import find_segmentations
from sarco.layouts.files import DataFiles
from sarco.layouts.names import TABLE, read_patients_of_cases
from sarco.layouts.nnunet import find_nnunet
from sarco.layouts.pairs import SERIES, SLICES, find_endings, find_folders, find_stems
from sarco.layouts.saros import SAROS, find_saros
from sarco.layouts.totalsegmentator import find_totalsegmentator

# The most telling first: what a layout claims no other sees.
_FINDERS = (find_totalsegmentator, find_saros, find_nnunet, find_folders, find_stems, find_endings)

_MOST_SHOWN = 20  # patients with several scans


@dataclass(frozen=True)
class FoundData:
    """The labelled images of a folder tree.

    Attributes:
        cases: those to learn from.
        tests: those that their data set keeps for testing.
        lonely: files without a partner.
        loose: DICOM files without a label map; slices among them can be neighbours of lone slices.
        n_files: how many files were seen.
    """

    cases: tuple[FoundCase, ...]
    tests: tuple[FoundCase, ...]
    lonely: tuple[Path, ...]
    loose: tuple[Path, ...]
    n_files: int


def find_layouts(data_dir: Path) -> FoundData:
    """Finds every labelled image in a folder tree; mixed and nested as one likes.

    Raises:
        InputError: there is no such folder, a table in it cannot be used, or two files claim the same place.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: there is no such folder; give the folder with the labelled slices as --data_dir")
    files = DataFiles(data_dir, files_below(data_dir))
    found = [case for find in _FINDERS for case in find(files)]
    segmented, without_series = find_segmentations(files)
    patients = _patients_of(files)
    cases = _named(sorted([*found, *segmented], key=lambda case: case.labels.path), patients)
    loose = tuple(file for file in files.left if file.suffix.lower() == ".dcm")
    lonely = (*(file for file in files.left if is_nifti(file)), *without_series, *loose)
    return FoundData(
        tuple(case for case in cases if case.side != TEST),
        tuple(case for case in cases if case.side == TEST),
        lonely,
        loose,
        files.count,
    )


def _patients_of(files: DataFiles) -> dict[Path, dict[str, str]]:
    """Whose each case is, by the folder of the table that says so."""
    return {file.parent: read_patients_of_cases(file) for file in files.left if file.name == TABLE}


def _named(cases: Sequence[FoundCase], patients: dict[Path, dict[str, str]]) -> list[FoundCase]:
    """The cases with whose they are, where a table above them says so."""
    named = []
    for case in cases:
        said = (patients[folder].get(case.name, "") for folder in case.labels.path.parents if folder in patients)
        named.append(replace(case, patient=next(filter(None, said), case.patient)))
    return named


def describe_cases(cases: Sequence[FoundCase]) -> tuple[str, ...]:
    """How cases lie, who is who, and who says which side they are on: a line each; none for plain DICOM pairs."""
    volumes = [case for case in cases if is_nifti(case.image)]
    layouts = Counter(case.layout for case in cases)
    if not volumes and layouts.keys() <= {SLICES, SERIES}:
        return ()
    lines = ["layouts: " + ", ".join(f"{layout} ({count_of(n, 'case')})" for layout, n in layouts.items())]
    if volumes:
        told = sum(bool(case.patient) for case in volumes)
        by_table = f", {told} by a table ({TABLE}, or that of the data set)" if told else ""
        lines.append(f"patients of {count_of(len(volumes), 'NIfTI image')} go by the names of their cases{by_table}")
    lines += _describe_several(volumes)
    if turned := [case.image for case in volumes if open_volume(case.image).is_turned]:
        lines.append(
            f"{count_of(len(turned), 'volume is', 'volumes are')} stored in coronal or sagittal planes and turned to "
            f"axial ones, the first: {turned[0]}"
        )
    if given := sum(bool(case.side) for case in cases):
        lines.append(f"the side of {count_of(given, 'case')} is the data set's own (splits_final.json, meta.csv)")
    return tuple(lines)


def _describe_several(cases: Sequence[FoundCase]) -> list[str]:
    """Which patients have several scans, by what tables say."""
    scans: dict[str, dict[Path, str]] = defaultdict(dict)
    for case in cases:
        if case.patient:
            scans[case.patient][case.image] = case.name
    several = [list(found.values()) for found in scans.values() if len(found) > 1]
    if not several:
        return []
    shown_cases = "; ".join(", ".join(names) for names in several[:_MOST_SHOWN])
    more = f" and {len(several) - _MOST_SHOWN} more" if len(several) > _MOST_SHOWN else ""
    return [f"{count_of(len(several), 'patient has', 'patients have')} several scans: {shown_cases}{more}"]


def warn_of_shared_names(cases: Sequence[FoundCase]) -> None:
    """A `DataWarning` where nobody knows whose NIfTI images are: one name in several places, or SAROS without table."""
    nameless = [case for case in cases if case.layout == SAROS and not case.patient]
    if len(nameless) > 1:
        told = (
            f"some of SAROS's patients have two scans, and nobody says who {nameless[0].image} and "
            f"{count_of(len(nameless) - 1, 'other')} are of; put its table Segmentation Info.csv into the data folder"
        )
        warnings.warn(told, DataWarning, 3)
    images: dict[str, dict[Path, FoundCase]] = defaultdict(dict)
    for case in cases:
        if is_nifti(case.image) and not case.patient:
            images[case.name][case.image.resolve()] = case
    shared = [list(found.values()) for found in images.values() if len(found) > 1]
    if shared:
        one, other = shared[0][:2]
        warnings.warn(
            f"{count_of(len(shared), 'name')} of several NIfTI images, which count as one patient's, the first: "
            f"{shown(one.name)} of {one.image} and {other.image}; if they are different people, say so in {TABLE} "
            "(columns case, patient), or rename one",
            DataWarning,
            3,
        )
