"""Measurements as a DICOM structured report (TID 1500) that refers to the segmentation.

Each label has a volumetric group (TID 1411: volume, mean HU) for its whole segment and a planar group (TID 1410:
area, mean and spread of HU) for each reported slice. The report never measures: it carries what it is given.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.sr.codedict import codes

import sarco
from sarco.core.errors import InputError
from sarco.core.files import whole_or_gone
from sarco.pacs.codes import LabelCode, code_label
from sarco.pacs.seg import Segmentation, segment_label, segment_number
from sarco.pacs.source import MAKER, Origin, Source, date_of_creation, identity, name_sop_classes, quiet, stable_uid
from sarco.scan.labels import LabelTable

_KIND = "measurement report"
_DECIMALS = 4
_LARGEST_DIFFERENCE = 1e-6


class MeasuredSlice(Protocol):
    """What the report needs of one slice and label, as `sarco.measurement.slices.SliceMeasurement` has it."""

    @property
    def slice_index(self) -> int:
        """The plane on the grid of the series."""

    @property
    def label_id(self) -> int:
        """The label."""

    @property
    def n_pixels(self) -> int:
        """Pixels of the label on the plane."""

    @property
    def area_cm2(self) -> float:
        """Their area."""

    @property
    def mean_hu(self) -> float | None:
        """Their mean; None or NaN where there are none."""

    @property
    def sd_hu(self) -> float | None:
        """Their standard deviation; None or NaN where there is none."""


def write_structured_report(
    path: Path,
    source: Source,
    segmentation: Segmentation,
    labels: LabelTable,
    per_slice: Sequence[MeasuredSlice],
    whole: Sequence[Mapping[str, Any]],
    origin: Origin,
    slices: Sequence[int] | None = None,
) -> pydicom.Dataset:
    """Writes the measurement report, and reads it again.

    Args:
        path: the file to write.
        source: the series that was measured.
        segmentation: as `sarco.pacs.seg.write_segmentation` gives it, of the label map that was measured.
        labels: what the ids mean.
        per_slice: a measurement for each slice and label; those without a pixel are left out of the report.
        whole: a measurement for each label over the whole series, with ``id``, ``volume_ml`` and ``mean_hu``, as
            ``summary.json`` has them.
        origin: who measured.
        slices: which planes to report; None for all.

    Returns:
        The report as the file holds it.

    Raises:
        InputError: there is nothing to report, a measurement is of another label map than the segmentation, or the
            file does not hold the numbers that it should.
    """
    chosen = [m for m in per_slice if m.n_pixels > 0 and (slices is None or m.slice_index in slices)]
    for measurement in chosen:
        if (measurement.label_id, measurement.slice_index) not in segmentation.frames:
            raise InputError(
                f"series {source.series.uid}: label {measurement.label_id} was measured on slice "
                f"{measurement.slice_index}, where the segmentation has none; measure the label map that was stored"
            )
    known = {int(one["id"]): one for one in whole}
    if missing := [label_id for label_id in labels.ids if label_id not in known]:
        raise InputError(f"series {source.series.uid}: label {missing[0]} was not measured; measure every label")
    with whole_or_gone(path):
        with quiet():
            dataset = _build(source, segmentation, labels, chosen, known, origin)
            dataset.save_as(path, enforce_file_format=True)
            stored = pydicom.dcmread(path)
        expected = [value for group in _groups(labels, chosen, known) for *_, value, _ in group[2]]
        if not _same(_numbers_in(stored), expected):
            raise InputError(f"{path}: does not hold the {len(expected)} numbers that were measured; please report it")
        return stored


def _groups(
    labels: LabelTable, chosen: Sequence[MeasuredSlice], whole: Mapping[int, Mapping[str, Any]]
) -> list[tuple[int, int | None, list[tuple[Any, Any, float, Any]]]]:
    """What is reported: (label id, plane or None for all, [(name, derivation, value, unit)])."""
    cm2, cm3, hu = codes.UCUM.SquareCentimeter, codes.UCUM.CubicCentimeter, codes.UCUM.HounsfieldUnit
    density = codes.DCM.AttenuationCoefficient
    groups: list[tuple[int, int | None, list[tuple[Any, Any, float, Any]]]] = []
    for label_id in labels.ids:
        one = whole[label_id]
        rows = [(codes.SCT.Volume, None, one["volume_ml"], cm3), (density, codes.SCT.Mean, one.get("mean_hu"), hu)]
        groups.append((label_id, None, _known_only(rows)))
    for m in chosen:
        rows = [
            (codes.SCT.Area, None, m.area_cm2, cm2),
            (density, codes.SCT.Mean, m.mean_hu, hu),
            (density, codes.SCT.StandardDeviation, m.sd_hu, hu),
        ]
        groups.append((m.label_id, m.slice_index, _known_only(rows)))
    return groups


def _known_only(rows: Sequence[tuple[Any, Any, Any, Any]]) -> list[tuple[Any, Any, float, Any]]:
    return [
        (name, derivation, round(float(value), _DECIMALS), unit)
        for name, derivation, value, unit in rows
        if value is not None and math.isfinite(value)
    ]


def _build(
    source: Source,
    segmentation: Segmentation,
    labels: LabelTable,
    chosen: Sequence[MeasuredSlice],
    whole: Mapping[int, Mapping[str, Any]],
    origin: Origin,
) -> Any:
    from highdicom import sr

    groups = _groups(labels, chosen, whole)
    content = [(label_id, plane, [row[2] for row in rows]) for label_id, plane, rows in groups]
    who = identity(source, origin, _KIND, 2, (segmentation.sop_uid, content))
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=stable_uid("observer", origin.checkpoint_sha256, sarco.__version__),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=f"{MAKER} {sarco.__version__}",
        serial_number=who["device_serial_number"],
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=observer
            )
        ),
        procedure_reported=codes.cid100.CTUnspecifiedBodyRegion,
        title=codes.cid7021.ImagingMeasurementReport,
        imaging_measurements=[
            _group(source, segmentation, labels, label_id, plane, rows, origin) for label_id, plane, rows in groups
        ],
    )
    dataset = sr.ComprehensiveSR(
        evidence=[*source.headers, segmentation.header],
        content=report,
        is_complete=True,
        is_final=False,
        is_verified=False,
        **who,
    )
    name_sop_classes(dataset, source)
    date_of_creation(dataset, origin)
    return dataset


def _group(
    source: Source,
    segmentation: Segmentation,
    labels: LabelTable,
    label_id: int,
    plane: int | None,
    rows: Sequence[tuple[Any, Any, float, Any]],
    origin: Origin,
) -> Any:
    """One measurement group: of a whole segment, or of one frame of it."""
    from highdicom import sr

    name, segment = segment_label(labels.names[label_id]), segment_number(labels, label_id)
    code = code_label(labels.names[label_id])
    of_segmentation = {
        "sop_class_uid": str(segmentation.header.SOPClassUID),
        "sop_instance_uid": segmentation.sop_uid,
        "segment_number": segment,
    }
    common = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=stable_uid("track", source.series.uid, origin.checkpoint_sha256, labels.names[label_id], plane),
            identifier=name if plane is None else f"{name}, slice {plane}",
        ),
        "finding_type": code.type,
        "finding_category": code.category,
        "finding_sites": _sites(code),
        "algorithm_id": sr.AlgorithmIdentification(name=MAKER, version=sarco.__version__, parameters=_said(origin)),
        "measurements": [
            sr.Measurement(name=what, derivation=derivation, value=value, unit=unit)
            for what, derivation, value, unit in rows
        ],
    }
    if plane is None:
        series_item = sr.SourceSeriesForSegmentation(str(source.first.SeriesInstanceUID))
        whole_segment = sr.ReferencedSegment(**of_segmentation, source_series=series_item)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=whole_segment, **common)
    header = source.headers[source.series.plane_index.index(plane)]
    frame = sr.ReferencedSegmentationFrame(
        **of_segmentation,
        frame_number=segmentation.frames[label_id, plane],
        source_image=sr.SourceImageForSegmentation(str(header.SOPClassUID), str(header.SOPInstanceUID)),
    )
    # A frame belongs to one segment, and the standard forbids to say both (PS3.3 table 10-3); highdicom writes both.
    del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **common)


def _sites(code: LabelCode) -> Any:
    """Where a sided structure is; the finding type alone cannot say left or right."""
    from highdicom import sr

    return [sr.FindingSite(anatomic_location=code.type, laterality=code.side)] if code.side else None


def _said(origin: Origin) -> list[str] | None:
    return [f"{key}={value}" for key, value in origin.parameters().items()] or None


def _numbers_in(dataset: pydicom.Dataset) -> list[float]:
    """Every numeric value of a report, in its order."""
    found: list[float] = []
    for item in dataset.get("ContentSequence", []):
        if item.get("ValueType") == "NUM":
            found += [float(value.NumericValue) for value in item.MeasuredValueSequence]
        found += _numbers_in(item)
    return found


def _same(stored: Sequence[float], expected: Sequence[float]) -> bool:
    return len(stored) == len(expected) and all(
        abs(one - other) <= _LARGEST_DIFFERENCE * max(1, abs(other))
        for one, other in zip(stored, expected, strict=True)
    )
