"""The measurement report: the numbers that were measured, on the segment and frame that they were measured on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_parts import Measured

from sarco.core.errors import InputError
from sarco.io.dicom import find_series
from sarco.pacs.seg import Segmentation, write_segmentation
from sarco.pacs.source import Origin, Source, read_source
from sarco.pacs.sr import write_structured_report
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable

hd = pytest.importorskip("highdicom", reason="highdicom is not installed")

ORIGIN = Origin("run1", "a" * 64, datetime(2024, 5, 6, 7, 8, 9))


@dataclass(frozen=True)
class Made:
    """A written segmentation with measurements by brute force."""

    source: Source
    segmentation: Segmentation
    labels: LabelTable
    per_slice: list[Measured]
    whole: list[dict[str, Any]]
    path: Path

    def write(self, **changes: Any) -> pydicom.Dataset:
        given = {"per_slice": self.per_slice, "whole": self.whole, "origin": ORIGIN, **changes}
        return write_structured_report(self.path, self.source, self.segmentation, self.labels, **given)


@pytest.fixture
def made(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> Made:
    """The phantom with its groups, its areas and densities count_of."""
    phantom = phantoms["anisotropic"]
    source, labels = read_source(find_series(series_folder(phantom)).series[0]), LabelTable(phantom.label_names)
    segmentation = write_segmentation(tmp_path / "segmentation.dcm", source, phantom.label_map, labels, ORIGIN)
    per_slice, whole = [], []
    for label_id in labels.ids:
        mask = phantom.label_map == label_id
        whole.append(
            {"id": label_id, "volume_ml": mask.sum() * 3.1 * 3.4 * 6 / 1000, "mean_hu": float(phantom.hu[mask].mean())}
        )
        for plane in range(5):
            hu = phantom.hu[:, :, plane][mask[:, :, plane]]
            mean, sd = (float(hu.mean()), float(hu.std())) if hu.size else (math.nan, None)
            per_slice.append(Measured(plane, label_id, hu.size, hu.size * 3.1 * 3.4 / 100, mean, sd))
    return Made(source, segmentation, labels, per_slice, whole, tmp_path / "report.dcm")


def read_groups(path: Path, kind: str) -> list[Any]:
    """Measurement groups as highdicom reads them."""
    return getattr(hd.sr.srread(path).content, f"get_{kind}_roi_measurement_groups")()


def values(group: Any) -> dict[tuple[str, str, str], float]:
    """(name, derivation, unit) to value."""
    return {
        (item.name.meaning, item.derivation.meaning if item.derivation else "", item.unit.value): item.value
        for item in group.get_measurements()
    }


def test_every_label_has_its_volume_and_density(made: Made) -> None:
    """Catches numbers of one label under another, and a unit that is not the number's."""
    made.write()
    groups = read_groups(made.path, "volumetric")
    assert [group.tracking_identifier for group in groups] == list(made.labels.names.values())
    for group, one in zip(groups, made.whole, strict=True):
        assert values(group) == {
            ("Volume", "", "cm3"): pytest.approx(one["volume_ml"], abs=1e-4),
            ("Attenuation Coefficient", "Mean", "[hnsf'U]"): pytest.approx(one["mean_hu"], abs=1e-4),
        }
        (reference,) = (
            item.ReferencedSOPSequence[0]
            for item in group[0].ContentSequence
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Referenced Segment"
        )
        assert reference.ReferencedSOPInstanceUID == made.segmentation.sop_uid
        assert reference.ReferencedSegmentNumber == made.labels.ids.index(one["id"]) + 1


def test_every_slice_has_its_area_on_its_frame(made: Made) -> None:
    """Catches an area that is tied to the frame of another slice or label."""
    made.write()
    stored = pydicom.dcmread(made.path.with_name("segmentation.dcm"))
    frames = stored.pixel_array
    by_name = {name: label_id for label_id, name in made.labels.names.items()}
    groups = planar_groups(made.path)
    assert len(groups) == sum(m.n_pixels > 0 for m in made.per_slice)
    for group in groups:
        name, plane = group["name"].split(", slice ")
        (m,) = (m for m in made.per_slice if (m.label_id, m.slice_index) == (by_name[name], int(plane)))
        assert group["numbers"] == pytest.approx([m.area_cm2, m.mean_hu, m.sd_hu], abs=1e-4)
        frame = group["frame"] - 1
        assert frames[frame].sum() == m.n_pixels
        functional = stored.PerFrameFunctionalGroupsSequence[frame]
        assert functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber == m.label_id
        assert group["source"] == made.source.series.slices[int(plane)].sop_uid


def planar_groups(path: Path) -> list[dict[str, Any]]:
    """Planar groups, item by item, without the writer's library."""
    root = pydicom.dcmread(path)
    (container,) = (i for i in root.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    found = []
    for group in container.ContentSequence:
        items = [(item.ConceptNameCodeSequence[0].CodeValue, item) for item in group.ContentSequence]
        by_code = dict(items)
        if "121214" not in by_code:  # Referenced Segmentation Frame
            continue
        reference = by_code["121214"].ReferencedSOPSequence[0]
        assert "ReferencedSegmentNumber" not in reference
        found.append(
            {
                "name": by_code["112039"].TextValue,
                "frame": reference.ReferencedFrameNumber,
                "source": by_code["121233"].ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
                "numbers": [
                    float(item.MeasuredValueSequence[0].NumericValue) for _, item in items if item.ValueType == "NUM"
                ],
            }
        )
    return found


def test_only_the_chosen_slices_are_reported(made: Made) -> None:
    """Catches a report that names areas of slices which nobody asked for."""
    made.write(slices=[2])
    assert {group["name"].split()[-1] for group in planar_groups(made.path)} == {"2"}
    assert len(read_groups(made.path, "volumetric")) == len(made.labels.ids)


def test_sides_are_said(made: Made) -> None:
    """Catches a left psoas that reads as any psoas."""
    made.write(slices=[])
    sides = []
    for group in read_groups(made.path, "volumetric"):
        sites = [item for item in group[0].ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "363698007"]
        sides.append([site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning for site in sites])
    names = made.labels.names.values()
    assert sides == [[name.split("_")[1].capitalize()] if name.endswith(("left", "right")) else [] for name in names]


def test_what_has_no_number_is_left_out(made: Made) -> None:
    """Catches NaN in a report, and a mean of nothing that reads as 0 HU."""
    whole = [dict(made.whole[0], volume_ml=0.0, mean_hu=None), *made.whole[1:]]
    per_slice = [replace(made.per_slice[0], n_pixels=3, mean_hu=math.nan, sd_hu=None)]
    made.write(whole=whole, per_slice=per_slice)
    assert values(read_groups(made.path, "volumetric")[0]) == {("Volume", "", "cm3"): 0}
    assert planar_groups(made.path)[0]["numbers"] == [pytest.approx(made.per_slice[0].area_cm2, abs=1e-4)]


def test_measurements_of_another_label_map_are_refused(made: Made) -> None:
    """Catches areas that refer to a mask which they were not measured on."""
    elsewhere = replace(made.per_slice[0], slice_index=9)
    with pytest.raises(InputError, match="measure the label map that was stored"):
        made.write(per_slice=[elsewhere])
    with pytest.raises(InputError, match=r"label \d was not measured"):
        made.write(whole=made.whole[:-1])


def test_the_same_measurements_are_the_same_file(made: Made) -> None:
    """Catches UIDs that change from run to run, or that two reports share."""
    uid = made.write(slices=[2]).SOPInstanceUID
    before = made.path.read_bytes()
    assert made.write(slices=[2]).SOPInstanceUID == uid
    assert made.path.read_bytes() == before
    assert made.write(slices=[1]).SOPInstanceUID != uid
    other = replace(ORIGIN, checkpoint_sha256="b" * 64)
    assert made.write(origin=other, slices=[2]).SOPInstanceUID != uid


def test_it_is_preliminary_and_belongs_to_the_patient(made: Made) -> None:
    """Catches a report that claims a physician's verification, or is filed under another patient."""
    made.write(slices=[])
    stored, original = pydicom.dcmread(made.path), pydicom.dcmread(made.source.series.slices[0].path)
    assert (stored.VerificationFlag, stored.PreliminaryFlag, stored.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "COMPLETE",
    )
    for tag in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert stored[tag].value == original[tag].value
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in stored.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert made.segmentation.sop_uid in evidence
    assert np.isin([header.sop_uid for header in made.source.series.slices], list(evidence)).all()
