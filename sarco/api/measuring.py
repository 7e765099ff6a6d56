"""Anybody's mask on its CT: `measure` from Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sarco.api.options import options_of
from sarco.core.options import MeasurementOptions
from sarco.core.parser import build, path_of
from sarco.measurement.mask import MeasuredMask, measure_mask

__all__ = ["MeasuredMask", "measure"]


def measure(
    image: str | Path,
    label_map: str | Path,
    *,
    labels: str | Path | None = None,
    tell: Callable[[str], object] | None = None,
    **options: Any,
) -> MeasuredMask:
    """Areas, volumes, densities, SMI, cut-offs and quality flags of a mask, whoever drew it.

    Args:
        image: a DICOM series (a folder or a file), or a NIfTI volume in HU.
        label_map: a NIfTI label map on the grid of the image; it may cover only some slices.
        labels: a JSON file with the names of the labels; None takes ``labels.json`` beside the label map.
        tell: called with a line for each series of the image that is left out.
        **options: as of ``sarco measure``, by their names: ``l3``, ``patients``, ``muscle_labels`` ...

    Raises:
        SarcoError: image, label map or options cannot be used, or do not fit together; see `sarco.core.errors`.
    """
    measuring = build(MeasurementOptions, options_of((MeasurementOptions,), options))
    names = path_of(labels) if labels else None
    return measure_mask(path_of(image), path_of(label_map), measuring, names, tell)
