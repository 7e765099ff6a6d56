"""What the names of NIfTI files say: which is a scan, which a label map, and whose scan it is.

Names as data sets in common use have them: ``ct`` (TotalSegmentator), ``image`` (SAROS), ``imaging`` beside
``segmentation`` (KiTS), ``CASE_0000`` in ``imagesTr`` beside ``CASE`` in ``labelsTr`` (nnU-Net v2).
"""

import re
from pathlib import Path

from sarco.io.nifti import is_nifti, nifti_stem

IMAGE_NAMES = ("ct", "image", "img", "imaging", "scan", "volume")
LABEL_NAMES = ("label", "labels", "seg", "segmentation", "mask", "label_map", "labelmap")
MASK_FOLDERS = ("segmentations", "labelstr", "labelsts")  # in small letters
_OTHER_LABELS = ("body-regions", "body-parts", "label_map_predicted")
_CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's number of a channel
_IMAGE_ENDING = re.compile(rf"[_-](?:{'|'.join(IMAGE_NAMES)})$", re.IGNORECASE)
_LABEL_ENDING = re.compile(rf"[_-](?:{'|'.join(LABEL_NAMES)})$", re.IGNORECASE)


def scan_name(path: Path) -> str:
    """The name of the case that a NIfTI volume is the scan of: what its patient goes by.

    It is the file's name without what only says that it is an image; where nothing is left, that of its folder.

    >>> scan_name(Path("set/s0011/ct.nii.gz")), scan_name(Path("imagesTr/P7_0000.nii.gz")), scan_name(Path("P7.nii"))
    ('s0011', 'P7', 'P7')
    """
    stem = nifti_stem(path)
    if stem.lower() in IMAGE_NAMES:
        return path.absolute().parent.name or stem
    return _IMAGE_ENDING.sub("", without_channel(stem))


def without_channel(stem: str) -> str:
    """A name without nnU-Net's number of a channel."""
    return _CHANNEL.sub("", stem)


def label_case(stem: str) -> str:
    """The name of a case by that of a label map which lies beside its image; empty where the name says no such thing.

    >>> label_case("P7_label"), label_case("P7")
    ('P7', '')
    """
    return _LABEL_ENDING.sub("", stem) if _LABEL_ENDING.search(stem) else ""


def is_label_by_name(path: Path) -> bool:
    """Whether a NIfTI file is a label map by its name, its folder, or by a scan of the same name beside it."""
    stem = nifti_stem(path)
    if stem.lower() in (*LABEL_NAMES, *_OTHER_LABELS) or label_case(stem):
        return True
    beside = path.with_name(stem)
    return path.parent.name.lower() in MASK_FOLDERS or beside.is_dir() or beside.with_name(f"{stem}.dcm").is_file()


def results_name(path: Path) -> str:
    """The name of a scan for the folder of its results: with that of its folder where many scans are called so."""
    resolved = path.resolve()
    if is_nifti(resolved):
        stem = nifti_stem(resolved)
        return f"{resolved.parent.name}_{stem}" if stem.lower() in IMAGE_NAMES and resolved.parent.name else stem
    return resolved.stem if resolved.is_file() else resolved.name or "scan"
