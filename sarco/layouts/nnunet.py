"""``imagesTr/`` beside ``labelsTr/``: nnU-Net v2 raw (``CASE_0000.nii.gz``) and the Medical Segmentation Decathlon.

Source:
    https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md; dataset.json of the tasks on
    http://medicaldecathlon.com.
"""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from sarco.core.errors import InputError
from sarco.core.messages import shown
from sarco.io.nifti import SUFFIXES, is_nifti, nifti_stem, without_channel
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import MAP, UNION, LabelFile, LabelSource
from sarco.layouts.names import names_above, read_dataset_json, read_numbered_names, read_splits

NNUNET, DECATHLON = "nnU-Net", "Medical Segmentation Decathlon"
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_TESTS = ("imagesTs", "labelsTs")
_DESCRIPTION, _LISTED = "dataset.json", "dataset"
CaseFiles = dict[str, tuple[Path | None, Path]]  # by case: its image, where there is one, and its label map


def find_nnunet(files: DataFiles) -> list[FoundCase]:
    """The cases of every folder with ``imagesTr/`` and ``labelsTr/``, or whose ``dataset.json`` lists its files.

    Raises:
        InputError: ``dataset.json`` or ``splits_final.json`` contradicts the files, or a case has several channels.
    """
    folders: dict[Path, set[str]] = defaultdict(set)
    for file in files.left:
        folders[file.parent.parent].add(file.parent.name)
        if file.name == _DESCRIPTION and _LISTED in read_dataset_json(file):
            folders[file.parent] |= {_IMAGES, _LABELS}
    roots = [folder for folder, names in folders.items() if {_IMAGES, _LABELS} <= names]
    return [case for root in roots for case in _cases_of(root, files)]


def _cases_of(root: Path, files: DataFiles) -> list[FoundCase]:
    described = root / _DESCRIPTION
    content = read_dataset_json(described) if described.is_file() else {}
    pairs = _listed_pairs(described, content[_LISTED]) if _LISTED in content else _pairs_in_folders(root, files)
    _check_content(described, content, pairs)
    table = read_numbered_names(described) if content else None
    splits = root / "splits_final.json"
    sides = read_splits(splits, pairs) if splits.is_file() else {}
    is_decathlon = "modality" in content or (
        not content and any(image and nifti_stem(image) == name for name, (image, _) in pairs.items())
    )
    layout = DECATHLON if is_decathlon else NNUNET
    cases = []
    for name, (image, label) in pairs.items():
        if image is None:
            continue
        if table is None:
            names, named_in = names_above(label.parent, files.root)
            label_file = LabelFile(label, names=names, named_in=named_in)
        else:
            kind = UNION if table.has_regions else MAP
            label_file = LabelFile(label, kind, table.names, table.numbers, described, True, table.ignored)
        in_folds = sides.get(name, ())
        side = in_folds[0] if in_folds else ""
        cases.append(FoundCase(name, layout, image, LabelSource(label, (label_file,)), side, folds=in_folds))
        files.claim((image, label))
    files.claim((described, splits))
    files.claim(file for file in files.below(root) if file.parent.name in _TESTS)
    return cases


def _pairs_in_folders(root: Path, files: DataFiles) -> CaseFiles:
    """Each label map of ``labelsTr/`` and its image, by the name of the case."""
    images: dict[str, list[Path]] = defaultdict(list)
    labels: dict[str, list[Path]] = defaultdict(list)
    for file in files.below(root):
        if is_nifti(file) and file.parent == root / _IMAGES:
            images[nifti_stem(file)].append(file)
        elif is_nifti(file) and file.parent == root / _LABELS:
            labels[nifti_stem(file)].append(file)
    return {name: (_image_of(name, images, root), only_file(found)) for name, found in labels.items()}


def _listed_pairs(path: Path, listed: Any) -> CaseFiles:
    """What ``dataset`` in a ``dataset.json`` lists; nnU-Net then looks into no folder.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md ("How to use nnU-Net v2 with
        datasets in other places"), nnunetv2/utilities/utils.py.
    """
    pairs: CaseFiles = {}
    for name, entry in listed.items() if isinstance(listed, dict) else [("", None)]:
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        texts = [*images, label] if isinstance(images, list) and len(images) == 1 else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(
                f'{path}: dataset lists {shown(name)}, but not as {{"images": ["IMAGE"], "label": "LABEL"}} with one '
                "image, and sarco reads CT alone; correct it"
            )
        image, label_map = (Path(os.path.normpath(path.parent / os.path.expandvars(text))) for text in texts)
        for place, text in ((image, texts[0]), (label_map, texts[1])):
            if not place.is_file() or not is_nifti(place):
                fault = "is no NIfTI file" if place.is_file() else "is not there"
                raise InputError(f"{path}: names {shown(text)}, but {place} {fault}; correct it")
        pairs[name] = (image, label_map)
    return pairs


def _image_of(name: str, images: dict[str, list[Path]], root: Path) -> Path | None:
    """The one image of a case, under nnU-Net's name or under its own; None where there is none."""
    channels = [stem for stem in images if without_channel(stem) == name and stem != name]
    own = [name] if name in images else []
    if len(channels) + len(own) > 1:
        both = " and ".join(str(images[stem][0]) for stem in (*own, *sorted(channels))[:2])
        raise InputError(f"{both} are both images of {root / _LABELS / name}; sarco reads CT alone, so keep one")
    return only_file(images[(*own, *channels)[0]]) if own or channels else None


def _check_content(path: Path, content: dict[str, Any], pairs: CaseFiles) -> None:
    """Raises an `InputError` where ``dataset.json`` says otherwise than the files."""
    root = path.parent
    ending = content.get("file_ending", ".nii.gz")
    if ending not in SUFFIXES:
        raise InputError(f"{path}: file_ending is {shown(ending)}, but sarco reads .nii.gz and .nii; convert them")
    files = [file for pair in pairs.values() for file in pair if file]
    wrong = [file for file in files if "file_ending" in content and not file.name.endswith(ending)]
    if wrong:
        raise InputError(f"{path}: file_ending is {ending}, but {wrong[0]} has another; correct one of the two")
    expected = content.get("numTraining", len(pairs))
    if expected != len(pairs):
        where = "dataset in it lists" if _LISTED in content else f"{root / _LABELS} holds"
        raise InputError(
            f"{path}: numTraining is {shown(expected)}, but {where} {len(pairs)} label maps; correct it, or bring the "
            "missing files back"
        )
    listed = content.get("training", [])
    for entry in listed if isinstance(listed, list) else []:
        for named in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(named, str) and not (root / PurePosixPath(named)).is_file():
                raise InputError(
                    f"{path}: names {shown(named)}, but {root / PurePosixPath(named)} is not there; correct it"
                )
