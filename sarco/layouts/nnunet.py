"""``imagesTr/`` beside ``labelsTr/``: nnU-Net v2 raw (``CASE_0000.nii.gz``) and the Medical Segmentation Decathlon.

Source:
    https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md; dataset.json of the tasks on
    http://medicaldecathlon.com.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sarco.core.errors import InputError
from sarco.core.messages import shown
from sarco.io.nifti import SUFFIXES, is_nifti, nifti_stem, without_channel
from sarco.layouts.case import FoundCase
from sarco.layouts.files import DataFiles, only_file
from sarco.layouts.labels import LabelFile, LabelSource
from sarco.layouts.names import names_above, read_dataset_json, read_numbered_names, read_splits

NNUNET, DECATHLON = "nnU-Net", "Medical Segmentation Decathlon"
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_TESTS = ("imagesTs", "labelsTs")


def find_nnunet(files: DataFiles) -> list[FoundCase]:
    """The cases of every folder with ``imagesTr/`` and ``labelsTr/``.

    Raises:
        InputError: ``dataset.json`` or ``splits_final.json`` contradicts the files, or a case has several channels.
    """
    folders: dict[Path, set[str]] = defaultdict(set)
    for file in files.left:
        folders[file.parent.parent].add(file.parent.name)
    roots = [folder for folder, names in folders.items() if {_IMAGES, _LABELS} <= names]
    return [case for root in roots for case in _cases_of(root, files)]


def _cases_of(root: Path, files: DataFiles) -> list[FoundCase]:
    images: dict[str, list[Path]] = defaultdict(list)
    labels: dict[str, list[Path]] = defaultdict(list)
    for file in files.below(root):
        if is_nifti(file) and file.parent == root / _IMAGES:
            images[nifti_stem(file)].append(file)
        elif is_nifti(file) and file.parent == root / _LABELS:
            labels[nifti_stem(file)].append(file)
    described = root / "dataset.json"
    content = read_dataset_json(described) if described.is_file() else {}
    _check_content(described, content, root, sorted(labels), [only_file(found) for found in images.values()])
    table = read_numbered_names(described) if content else None
    splits = root / "splits_final.json"
    sides = read_splits(splits, labels) if splits.is_file() else {}
    layout = DECATHLON if "modality" in content or (not content and images.keys() & labels.keys()) else NNUNET
    cases = []
    for name, found in labels.items():
        image = _image_of(name, images, root)
        if image is None:
            continue
        label = only_file(found)
        if table is None:
            names, named_in = names_above(label.parent, files.root)
            label_file = LabelFile(label, names=names, named_in=named_in)
        else:
            label_file = LabelFile(
                label, names=tuple(table[0].items()), named_in=described, is_complete=True, ignored=table[1]
            )
        in_folds = sides.get(name, ())
        side = in_folds[0] if in_folds else ""
        cases.append(FoundCase(name, layout, image, LabelSource(label, (label_file,)), side, folds=in_folds))
        files.claim((image, label))
    files.claim((described, splits))
    files.claim(file for file in files.below(root) if file.parent.name in _TESTS)
    return cases


def _image_of(name: str, images: dict[str, list[Path]], root: Path) -> Path | None:
    """The one image of a case, under nnU-Net's name or under its own; None where there is none."""
    channels = [stem for stem in images if without_channel(stem) == name and stem != name]
    own = [name] if name in images else []
    if len(channels) + len(own) > 1:
        both = " and ".join(str(images[stem][0]) for stem in (*own, *sorted(channels))[:2])
        raise InputError(f"{both} are both images of {root / _LABELS / name}; sarco reads CT alone, so keep one")
    return only_file(images[(*own, *channels)[0]]) if own or channels else None


def _check_content(
    path: Path, content: dict[str, Any], root: Path, labels: Sequence[str], images: Sequence[Path]
) -> None:
    """Raises an `InputError` where ``dataset.json`` says otherwise than the files."""
    ending = content.get("file_ending", ".nii.gz")
    if ending not in SUFFIXES:
        raise InputError(f"{path}: file_ending is {shown(ending)}, but sarco reads .nii.gz and .nii; convert them")
    wrong = [image for image in images if "file_ending" in content and not image.name.endswith(ending)]
    if wrong:
        raise InputError(f"{path}: file_ending is {ending}, but {wrong[0]} has another; correct one of the two")
    expected = content.get("numTraining", len(labels))
    if expected != len(labels):
        raise InputError(
            f"{path}: numTraining is {shown(expected)}, but {root / _LABELS} holds {len(labels)} label maps; "
            "correct it, or bring the missing files back"
        )
    listed = content.get("training", [])
    for entry in listed if isinstance(listed, list) else []:
        for named in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(named, str) and not (root / PurePosixPath(named)).is_file():
                raise InputError(
                    f"{path}: names {shown(named)}, but {root / PurePosixPath(named)} is not there; correct it"
                )
