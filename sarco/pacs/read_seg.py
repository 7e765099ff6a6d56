"""Reads a DICOM segmentation as label maps on its own grid."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sarco.core.errors import InputError
from sarco.core.messages import reason_of
from sarco.pacs.source import quiet
from sarco.scan.label_map import LabelMap


def read_segments(path: Path) -> Iterator[LabelMap]:
    """The segments of a DICOM segmentation, each with its number as the only id.

    Raises:
        InputError: highdicom is not installed, the file is none of BINARY or LABELMAP, or it cannot be read.
    """
    try:
        from highdicom.seg import segread
    except ImportError:
        raise InputError(f'{path}: DICOM segmentations need highdicom; pip install "sarco[dicom]"') from None
    try:
        with quiet():
            segmentation = segread(path)
            kind = str(segmentation.SegmentationType)
            if kind not in ("BINARY", "LABELMAP"):
                raise InputError(f"{path}: is a segmentation of the type {kind}; export masks, not probabilities")
            numbers = list(segmentation.segment_numbers)
            for number in numbers:
                yield _label_map(path, segmentation, int(number))
    except InputError:
        raise
    except Exception as error:  # highdicom raises nearly anything on damaged objects
        raise InputError(f"{path}: cannot be read as DICOM SEG ({reason_of(error)}); export it again") from None


def _label_map(path: Path, segmentation: Any, number: int) -> LabelMap:
    volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, relabel=False)
    # highdicom has (slice, row, column), and an affine from those to LPS mm
    ids = np.asarray(volume.array, dtype=np.uint8).transpose(1, 2, 0)
    affine = np.asarray(volume.affine, dtype=np.float64)[:, [1, 2, 0, 3]]
    return LabelMap(ids, affine, path)
