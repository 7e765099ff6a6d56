"""The DICOM results of one series: segmentation, measurement report and secondary capture, as asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sarco.core.attempts import Attempts
from sarco.core.errors import InputError
from sarco.pacs.source import Origin, Source, read_source, require_highdicom
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

if TYPE_CHECKING:  # pydicom's table of codes takes longer to import than all the rest, and few want these results
    from sarco.pacs.sr import MeasuredSlice

SEGMENTATION, REPORT, PICTURE = "segmentation.dcm", "report.dcm", "overlay.dcm"


@dataclass(frozen=True)
class Wanted:
    """Which DICOM results are asked for.

    Attributes:
        seg: ``segmentation.dcm``.
        sr: ``report.dcm``; it refers to the segmentation, so that is written too.
        sc: ``overlay.dcm``.
    """

    seg: bool = False
    sr: bool = False
    sc: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is something to write."""
        return self.seg or self.sr or self.sc

    def require_packages(self) -> None:
        """Raises an `OptionError` where something is wanted and highdicom is missing."""
        if self.anything:
            require_highdicom()


def check_source(series: Series, wanted: Wanted) -> Source | None:
    """Looks whether the results can be written, before anybody waits for a prediction.

    Returns:
        The source, for `write_dicom_results`; None where nothing is wanted.

    Raises:
        OptionError: highdicom is missing.
        InputError: the series cannot be referred to; see `sarco.pacs.source.read_source`.
    """
    if not wanted.anything:
        return None
    wanted.require_packages()
    return read_source(series)


def write_dicom_results(
    folder: Path,
    source: Source,
    wanted: Wanted,
    label_map: NDArray[np.uint8],
    labels: LabelTable,
    origin: Origin,
    attempts: Attempts,
    *,
    per_slice: Sequence["MeasuredSlice"] = (),
    whole: Sequence[Mapping[str, Any]] = (),
    picture: NDArray[np.uint8] | None = None,
    report_slices: Sequence[int] | None = None,
) -> list[Path]:
    """Writes what is wanted; names of files say nothing about the patient.

    Args:
        folder: exists.
        source: as `check_source` gives it.
        wanted: which results.
        label_map: (row, column, plane) label ids on the grid of the series.
        labels: what the ids mean.
        origin: who predicted.
        attempts: takes those that could not be written, and why; one that fails costs only what refers to it.
        per_slice: measurements for each slice and label, for the report.
        whole: measurements for each label, for the report: dicts with ``id``, ``volume_ml`` and ``mean_hu``.
        picture: (row, column, 3) RGB contact sheet, for the secondary capture.
        report_slices: planes whose areas the report carries; None for all.

    Returns:
        The files that were written.
    """
    from sarco.pacs.sc import write_picture
    from sarco.pacs.seg import write_segmentation
    from sarco.pacs.sr import write_structured_report

    def write_report() -> None:
        if segmentation is None or not whole:
            raise InputError(
                f"it needs {'the measurements' if segmentation else SEGMENTATION}, which could not be made"
            )
        write_structured_report(
            folder / REPORT, source, segmentation, labels, per_slice, whole, origin, slices=report_slices
        )

    segmentation = None
    if wanted.seg or wanted.sr:
        path = folder / SEGMENTATION
        segmentation = attempts.run(SEGMENTATION, write_segmentation, path, source, label_map, labels, origin)
    if wanted.sr:
        attempts.run(REPORT, write_report)
    if wanted.sc and picture is not None:
        attempts.run(PICTURE, write_picture, folder / PICTURE, source, picture, origin)
    return [path for name in (SEGMENTATION, REPORT, PICTURE) if (path := folder / name).exists()]
