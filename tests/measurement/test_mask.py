"""A series and anybody's mask: paired by place, measured on the original grid, and told in files and lines."""

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from sarco.commands.measure import main
from sarco.core.errors import GeometryError, InputError, OptionError, SarcoError
from sarco.core.options import MeasurementOptions
from sarco.io.dicom import find_series, read_series
from sarco.io.images import read_hu
from sarco.io.nifti import write_label_map
from sarco.measurement.facts import find_level, read_facts
from sarco.measurement.level import NOT_GIVEN
from sarco.measurement.mask import measure_mask
from sarco.measurement.series import Evidence, Plans
from sarco.measurement.slices import SliceMeasurement, pool
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.scan.series import Series

ROOT = Path(__file__).parents[2]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(tmp_path: Path) -> Run:
    """Runs the command line on a phantom written to disk, and gives its summary with the table under "rows"."""

    def run(image: Path, label_map: Path, *flags: str) -> dict[str, Any]:
        out = tmp_path / "out"
        main([str(image), str(label_map), f"--out={out}", "--overwrite=yes", *flags])
        summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        with open(out / "measurements.csv", encoding="utf-8", newline="") as file:
            summary["rows"] = list(csv.DictReader(file))
        return summary

    return run


@pytest.fixture
def on_disk(tmp_path: Path, series_folder: Callable[..., Path]) -> Callable[[Phantom], tuple[Path, Path]]:
    """Writes a phantom as DICOM beside its label map."""

    def write(phantom: Phantom) -> tuple[Path, Path]:
        write_label_map(tmp_path / "mask.nii.gz", phantom.label_map, phantom.affine_lps)
        return series_folder(phantom), tmp_path / "mask.nii.gz"

    return write


def rows_of(
    series: Series, planes: Mapping[int, NDArray[np.uint8]], labels: Mapping[int, str]
) -> list[SliceMeasurement]:
    """The measurements of a label map in memory."""
    measurer = Plans([series], MeasurementOptions(), Evidence(labels)).measurer(series)
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        measurer.add(plane, read_hu(header), planes[plane])
    return measurer.rows


def tilted(phantom: Phantom, tilt_deg: float) -> Phantom:
    """The same arrays, said to come from a tilted gantry: rows lean into z, the table moves along z."""
    spacing_mm = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    tilt = math.radians(tilt_deg)
    affine = phantom.affine_lps.copy()
    affine[:3, :3] = np.stack(
        [
            (0, spacing_mm[0] * math.cos(tilt), spacing_mm[0] * math.sin(tilt)),
            (spacing_mm[1], 0, 0),
            (0, 0, spacing_mm[2]),
        ],
        axis=1,
    )
    return dataclasses.replace(phantom, affine_lps=affine)


# --- figures on the original grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["axial", "oblique", "feet first", "prone", "coronal", "sagittal from below"])
def test_any_orientation_gives_the_same_figures(
    turned_phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, kind: str
) -> None:
    """Catches orientations that are refused or measured on another grid: count_of here straight from the arrays."""
    phantom = turned_phantoms[kind]
    summary = measure(*on_disk(phantom))
    step = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    assert len(summary["rows"]) == phantom.hu.shape[2] * len(phantom.label_names)
    for row in summary["rows"]:
        chosen = phantom.label_map[:, :, int(row["slice_index"])] == int(row["label_id"])
        hu = phantom.hu[:, :, int(row["slice_index"])][chosen].astype(np.float64)
        assert int(row["n_pixels"]) == hu.size
        assert float(row["area_cm2"]) == pytest.approx(hu.size * step[0] * step[1] / 100, abs=1e-3)
        if hu.size:
            assert float(row["mean_hu"]) == pytest.approx(hu.mean(), abs=1e-3)
            assert float(row["sd_hu"]) == pytest.approx(hu.std(), abs=1e-3)


def test_a_tilted_series_is_corrected(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run
) -> None:
    """Catches a tilt that is lost between the slices' positions and the area."""
    phantom = tilted(phantoms["anisotropic"], 18)
    summary = measure(*on_disk(phantom))
    step = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    for label in summary["labels"]:
        n = int((phantom.label_map == label["id"]).sum())
        cosine = math.cos(math.radians(18))
        assert label["volume_ml"] == pytest.approx(n * step.prod() * cosine / 1000, rel=1e-4)
        area = sum(float(row["area_cm2"]) for row in summary["rows"] if int(row["label_id"]) == label["id"])
        assert area == pytest.approx(n * step[0] * step[1] * cosine / 100, rel=1e-4)


def test_a_real_tilted_series(shared_data: Path) -> None:
    """Catches a correction that only the phantom needs: each area against the slices' own tags."""
    series = find_series(shared_data / "odd_series" / "gantry_tilt").series[0]
    first, last = series.slices[0], series.slices[-1]
    along = np.asarray(last.position) - np.asarray(first.position)
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    cosine = abs(normal @ along) / np.linalg.norm(along)
    assert cosine < 0.99
    body = read_series(series) > -200
    planes = {plane: body[:, :, plane].astype(np.uint8) for plane in series.plane_index}
    for row in rows_of(series, planes, {1: "body"}):
        in_plane = int(body[:, :, row.slice_index].sum()) * first.spacing_mm[0] * first.spacing_mm[1] / 100
        assert row.area_cm2 == pytest.approx(in_plane * cosine, rel=1e-6)


def test_a_lone_tilted_slice_is_noted(
    on_disk: Callable[[Phantom], tuple[Path, Path]], phantoms: dict[str, Phantom], measure: Run, capsys: Any
) -> None:
    """Catches areas that are too large in silence, because one slice alone has no step to see the tilt by."""
    folder, mask = on_disk(phantoms["anisotropic"])
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.GantryDetectorTilt = "15"
        dataset.save_as(path)
    whole = measure(folder, mask)  # its steps say that it was reformatted: nothing to correct, nothing to say
    assert "note" not in whole["acquisition"]
    for header in find_series(folder).series[0].slices[1:]:
        header.path.unlink()
    write_label_map(mask, phantoms["anisotropic"].label_map[:, :, :1], phantoms["anisotropic"].affine_lps)
    assert "15 deg" in measure(folder, mask)["acquisition"]["note"]
    assert "note: a lone slice" in capsys.readouterr().out


def test_a_gap_has_no_row_and_no_volume(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run
) -> None:
    """Catches air measured where a slice is missing."""
    phantom = phantoms["oblique"]
    folder, mask = on_disk(phantom)
    find_series(folder).series[0].slices[2].path.unlink()
    ids = phantom.label_map.copy()
    ids[:, :, 2] = 0
    write_label_map(mask, ids, phantom.affine_lps)
    summary = measure(folder, mask)
    assert {row["slice_index"] for row in summary["rows"]} == {"0", "1", "3", "4"}
    write_label_map(mask, phantom.label_map, phantom.affine_lps)
    with pytest.raises(GeometryError, match="labelled voxels lie on no slice"):
        measure(folder, mask)


def test_streaming_gives_what_the_whole_volume_gives(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches slices that are measured with the labels of a neighbour."""
    phantom = phantoms["oblique"]
    series = find_series(series_folder(phantom)).series[0]
    planes = {plane: phantom.label_map[:, :, plane] for plane in series.plane_index}
    rows = rows_of(series, planes, phantom.label_names)
    for label_id in phantom.label_names:
        mine = pool(row for row in rows if row.label_id == label_id)
        values = phantom.hu[phantom.label_map == label_id].astype(np.float64)
        assert mine.mean_hu == pytest.approx(values.mean(), abs=1e-3)
        assert mine.volume_ml == pytest.approx(values.size * abs(np.linalg.det(phantom.affine_lps[:3, :3])) / 1000)


# --- masks as other programs write them ------------------------------------------------------------------------------


def test_a_mask_of_one_slice_is_measured_there(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, capsys: Any
) -> None:
    """Catches a mask drawn on L3 alone that is refused, or count_of on the first slice."""
    phantom = phantoms["oblique"]
    folder, mask = on_disk(phantom)
    affine = phantom.affine_lps.copy()
    affine[:3, 3] += 3 * affine[:3, 2]
    write_label_map(mask, phantom.label_map[:, :, 3:4], affine)
    summary = measure(folder, mask)
    assert {row["slice_index"] for row in summary["rows"]} == {"3"}
    assert "covers 1 of 5 slices" in capsys.readouterr().out


def test_the_series_that_the_mask_lies_on_is_found(phantoms: dict[str, Phantom], tmp_path: Path, measure: Run) -> None:
    """Catches the first series of an export taken for the one that was drawn on."""
    for seed, kind in enumerate(("anisotropic", "oblique")):
        write_series(phantoms[kind], tmp_path / "export" / kind, patient_id=kind, seed=seed)
    write_label_map(tmp_path / "mask.nii.gz", phantoms["oblique"].label_map, phantoms["oblique"].affine_lps)
    summary = measure(tmp_path / "export", tmp_path / "mask.nii.gz")
    assert summary["series_uid"] == find_series(tmp_path / "export" / "oblique").series[0].uid
    write_series(phantoms["oblique"], tmp_path / "export" / "again", patient_id="x", seed=9)
    with pytest.raises(GeometryError, match="lies on several series"):
        measure(tmp_path / "export", tmp_path / "mask.nii.gz")


def test_a_mask_of_another_scan_is_refused(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches a mask measured on the HU of another patient because the arrays have one shape."""
    folder, _ = on_disk(phantoms["anisotropic"])
    write_label_map(tmp_path / "other.nii.gz", phantoms["oblique"].label_map, phantoms["oblique"].affine_lps)
    with pytest.raises(GeometryError, match="does not lie on"):
        measure(folder, tmp_path / "other.nii.gz")


@pytest.mark.parametrize("with_names", [False, True])
def test_a_mask_of_0_and_255(
    phantoms: dict[str, Phantom],
    on_disk: Callable[[Phantom], tuple[Path, Path]],
    measure: Run,
    tmp_path: Path,
    with_names: bool,
) -> None:
    """Catches a mask as image programs write it that counts as "nobody looked", so that all areas are 0."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    write_label_map(mask, np.where(phantom.label_map > 0, 255, 0).astype(np.uint8), phantom.affine_lps)
    if not with_names:
        with pytest.raises(InputError, match="--labels"):
            measure(folder, mask)
        return
    (tmp_path / "names.json").write_text('{"255": "skeletal_muscle"}')
    summary = measure(folder, mask, f"--labels={tmp_path / 'names.json'}", "--l3=2")
    assert sum(int(row["n_pixels"]) for row in summary["rows"]) == int((phantom.label_map > 0).sum())
    assert summary["smi"]["value"] > 0


def test_greys_of_a_picture(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches a structure of 255 beside one of 128 that is not measured; with names both are, and "ignore" is none."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    drawn = np.where(phantom.label_map == 1, 255, np.where(phantom.label_map > 0, 128, 0)).astype(np.uint8)
    write_label_map(mask, drawn, phantom.affine_lps)
    with pytest.raises(InputError, match=r"holds 128 beside 255.*greys of a picture.*--labels"):
        measure(folder, mask)
    names = tmp_path / "names.json"
    for text, ids in (
        ('"255": "psoas"', {"128", "255"}),
        ('"255": "ignore"', {"128"}),
        ('"255": "Not labelled"', {"128"}),
    ):
        names.write_text(f'{{"128": "other muscle", {text}}}')
        found = measure(folder, mask, f"--labels={names}", "--l3=2")
        assert {row["label_id"] for row in found["rows"]} == ids


def test_pixels_nobody_looked_at_count_nowhere(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, capsys: Any
) -> None:
    """Catches 255 measured as a label of its own."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    ids = phantom.label_map.copy()
    ids[:, :, 0] = 255
    write_label_map(mask, ids, phantom.affine_lps)
    summary = measure(folder, mask)
    assert {row["label_id"] for row in summary["rows"]} == {str(i) for i in np.unique(ids[:, :, 1:]) if i}
    assert f"{96 * 120} voxels are 255" in capsys.readouterr().out


def test_an_empty_mask_needs_names(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches a wrong file that gives a table without rows; with names it is a true 0."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    write_label_map(mask, np.zeros_like(phantom.label_map), phantom.affine_lps)
    with pytest.raises(InputError, match="holds no label"):
        measure(folder, mask)
    (tmp_path / "labels.json").write_text('{"1": "muscle"}')  # beside the mask
    summary = measure(folder, mask, "--l3=1")
    assert [row["area_cm2"] for row in summary["rows"]] == ["0.0"] * 5
    assert "holds no muscle on slice 1" in summary["smi"]["why_not"]


# --- L3 and the patient ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["index", "z", "uid"])
def test_l3_by_each_name(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, how: str
) -> None:
    """Catches names of one slice that lead to different ones; the index counts as in the arrays."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    header = find_series(folder).series[0].slices[3]
    word = {"index": "3", "z": f"z={header.position[2]:.1f}", "uid": header.sop_uid}[how]
    summary = measure(folder, mask, f"--l3={word}", "--muscle_labels=all")
    step = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    values = phantom.hu[:, :, 3][phantom.label_map[:, :, 3] > 0]
    in_range = np.count_nonzero((values >= -29) & (values <= 150))
    assert summary["smi"]["slices"] == [3]
    assert summary["smi"]["value"] == pytest.approx(in_range * step[0] * step[1] / 100 / phantom.height_m**2, abs=1e-3)
    assert summary["patient"]["source"]["height_m"] == "DICOM PatientSize"


def test_l3_by_vertebrae(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches a vertebra read by array index: its file runs the other way round in two axes."""
    phantom = phantoms["oblique"]
    folder, mask = on_disk(phantom)
    vertebrae = np.zeros_like(phantom.label_map)
    vertebrae[40:60, 50:70, 2:5] = 29
    vertebrae[40:60, 50:70, :2] = 28
    image = nib.Nifti1Image(vertebrae.transpose(1, 0, 2), np.diag([-1, -1, 1, 1]) @ phantom.affine_lps[:, [1, 0, 2, 3]])
    nib.save(nib.as_closest_canonical(image), tmp_path / "v.nii.gz")
    summary = measure(folder, mask, f"--vertebrae={tmp_path / 'v.nii.gz'}", "--l3_label=29", "--muscle_labels=all")
    assert summary["level"]["slice_index"] == 3
    assert summary["level"]["slices"] == [2, 3, 4]
    assert "series ends" in summary["level"]["note"]
    assert summary["smi"]["mean_over_vertebra"] is not None


def test_flags_for_l3_that_contradict_each_other(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches a flag that is ignored, and one slice index for several series."""
    series = find_series(series_folder(phantoms["oblique"])).series[0]
    v = Path("v.nii.gz")
    for l3, vertebrae, label in (("3", v, 29), ("", v, 0), ("", None, 29), ("", v, 256), ("", v, -1), ("L3", None, 0)):
        with pytest.raises(OptionError):
            find_level(series, l3, vertebrae, label)
    for l3, vertebrae, label in (("3", None, 0), ("z=1", None, 0), ("", v, 29)):
        with pytest.raises(OptionError, match="there are 2"):
            find_level(series, l3, vertebrae, label, n_series=2)
    assert find_level(series, "", None, 0, n_series=2).why_not == NOT_GIVEN
    assert find_level(series, series.slices[1].sop_uid, None, 0, n_series=2).slice_index == 1
    assert "another series" in find_level(series, "1.2.3", None, 0, n_series=2).why_not


def test_a_table_of_patients(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches tags of DICOM used where a table was given, and a miss that falls back to them in silence."""
    folder, mask = on_disk(phantoms["oblique"])
    (tmp_path / "p.csv").write_text("PatientID,sex,height\nP0011,M,190\nP001,F,160\n")
    summary = measure(folder, mask, "--l3=2", "--muscle_labels=all", f"--patients={tmp_path / 'p.csv'}")
    assert (summary["patient"]["sex"], summary["patient"]["height_m"]) == ("F", 1.6)
    assert summary["patient"]["source"]["height_m"] == "p.csv line 3"
    assert summary["patient"]["source"]["weight_kg"] == "DICOM PatientWeight"
    (tmp_path / "p.csv").write_text("PatientID,sex,height\nP0011,M,190\n")
    with pytest.raises(InputError, match="no row for 1 of the series"):
        measure(folder, mask, f"--patients={tmp_path / 'p.csv'}")


def test_names_and_birth_dates_stay_where_they_are(
    phantoms: dict[str, Phantom],
    on_disk: Callable[[Phantom], tuple[Path, Path]],
    measure: Run,
    tmp_path: Path,
    capsys: Any,
) -> None:
    """Catches a patient's name in a file, a line or a message."""
    folder, mask = on_disk(phantoms["oblique"])
    measure(folder, mask, "--l3=2", "--muscle_labels=all")
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()] + [capsys.readouterr().out]
    assert read_facts(find_series(folder).series[0]).identity.patient_id == "P001"
    assert "Phantom^" not in "".join(texts)


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_as_a_program(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]]
) -> None:
    """Catches a module that measures only when it is imported, and one that takes seconds to start for torch."""
    folder, mask = on_disk(phantoms["anisotropic"])
    command = [sys.executable, "-m", "sarco", "measure", str(folder), str(mask)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "smi: not computed, because the L3 slice is unknown" in done.stdout
    assert (folder.parent / "measurements_of_mask" / "measurements.csv").is_file()
    again = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
    assert "--overwrite=yes" in again.stderr
    loaded = [sys.executable, "-c", "import sarco.measurement.mask, sys; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(loaded, env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--l3=9"], InputError),
        (["--l3=L3"], OptionError),
        (["--l3=-1"], OptionError),
        (["--hu_ranges=muscle"], OptionError),
        (["--muscle_labels=liver"], OptionError),
        (["--patients=absent.csv"], InputError),
        (["--labels=absent.json"], InputError),
        (["--vertebrae=absent.nii.gz", "--l3_label=3"], InputError),
    ],
)
def test_wrong_flags_are_told_in_one_line(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path,
    flags: list[str], error: type[SarcoError],
) -> None:  # fmt: skip
    """Catches tracebacks, and results written by a run that failed."""
    with pytest.raises(error) as caught:
        measure(*on_disk(phantoms["oblique"]), *flags)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_images_that_are_none(
    tmp_path: Path, phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run
) -> None:
    """Catches a label map measured as an image, and a path that does not exist."""
    _, mask = on_disk(phantoms["oblique"])
    for image in (mask, tmp_path / "absent", tmp_path / "out"):
        with pytest.raises(InputError):
            measure(image, mask)


def test_a_nifti_image_gives_what_its_dicom_gives(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches an image read along other axes than its mask; its patient goes by the name of the file."""
    phantom = phantoms["oblique"]
    folder, mask = on_disk(phantom)
    affine_ras = np.diag([-1, -1, 1, 1]) @ phantom.affine_lps[:, [1, 0, 2, 3]]
    image = nib.Nifti1Image(phantom.hu.transpose(1, 0, 2).astype(np.int16), affine_ras)
    image.header.set_xyzt_units("mm")
    nib.save(nib.as_closest_canonical(image), tmp_path / "Case 7.nii.gz")
    (tmp_path / "p.csv").write_text("PatientID,sex,height,weight\nCase 7,F,160,60\n")
    found = measure(tmp_path / "Case 7.nii.gz", mask, f"--patients={tmp_path / 'p.csv'}")
    expected = measure(folder, mask)
    for mine, theirs in zip(found["labels"], expected["labels"], strict=True):
        assert mine.pop("name") == theirs.pop("name")
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert found["patient"]["height_m"] == 1.6
    assert found["acquisition"]["contrast"] is None


def test_a_coronal_series_has_volumes_but_no_l3(
    turned_phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run
) -> None:
    """Catches a SMI from an area that is no cross-section of the body."""
    summary = measure(*on_disk(turned_phantoms["coronal"]), "--l3=2", "--muscle_labels=all")
    assert summary["labels"][0]["volume_ml"] > 0
    assert "the slices are coronal" in summary["smi"]["why_not"]


def test_frames_of_one_file_are_measured(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches enhanced files of which every slice is the first frame, and tags that stand in their groups."""
    highdicom = pytest.importorskip("highdicom")
    folder, mask = on_disk(phantoms["anisotropic"])
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(slices, highdicom.UID(), 1, highdicom.UID(), 1)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    found, expected = measure(tmp_path / "enhanced.dcm", mask), measure(folder, mask)
    assert found["rows"] == expected["rows"]
    assert found["acquisition"]["kernel"] == "SYNTHETIC"


def test_real_ct_with_labels_of_another_program(shared_data: Path, measure: Run) -> None:
    """Catches volumes that differ from what the NIfTI itself says, on a grid that runs the other way."""
    names = shared_data / "muscle_groups" / "labels.json"
    mask = shared_data / "muscle_groups" / "A.nii.gz"
    summary = measure(shared_data / "muscle_groups" / "A", mask, f"--labels={names}")
    image = nib.load(mask)
    ids, voxel_ml = np.asanyarray(image.dataobj), abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert len(summary["labels"]) == 10
    for label in summary["labels"]:
        assert label["volume_ml"] == pytest.approx(np.count_nonzero(ids == label["id"]) * voxel_ml, rel=1e-3)
    areas = summary["area_profile"]["area_cm2"]["iliopsoas_left"]
    per_plane = np.count_nonzero(ids == 3, axis=(0, 1)) * voxel_ml / (3.0 / 10)
    assert sorted(areas) == pytest.approx(sorted(per_plane), rel=1e-3, abs=1e-4)


# --- quality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "share"), [(40, 0.9), (40, 0.05), (3, 0.9), (3, 1.0)])
def test_a_mask_of_air_is_flagged(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, side: int, share: float
) -> None:
    """Catches a volume of air printed as muscle, of a mask that slipped off the body, also where it is small."""
    phantom = phantoms["anisotropic"]
    ids, hu = np.zeros_like(phantom.label_map), phantom.hu.copy()
    ids[30 : 30 + side, 40 : 40 + side, 1:4] = 1
    hu[30 : 30 + side, 40 : 40 + side] = 50
    hu[30 : 30 + max(1, round(side * share)), 40 : 40 + side] = -1000
    folder, mask = on_disk(dataclasses.replace(phantom, hu=hu, label_map=ids))
    summary = measure(folder, mask)
    (flag,) = [flag for flag in summary["flags"] if flag["name"] == "air_in_mask"]
    assert flag["slices"] == [1, 2, 3]
    assert flag["numbers"]["largest_share"] == pytest.approx(max(1, round(side * share)) / side, abs=1e-3)
    flagged = {row["slice_index"]: "air_in_mask" in row["flags"].split(";") for row in summary["rows"]}
    assert flagged == {"0": False, "1": True, "2": True, "3": True, "4": False}


def test_a_good_mask_has_no_flag(on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run) -> None:
    """Catches flags that cry at every mask, and the two checks that need a network which nobody says were left out."""
    phantom = make_phantom(5, PhantomOptions(n_slices=3, rows=160, columns=160, arms=False))
    summary = measure(*on_disk(phantom), "--l3=1")
    assert summary["flags"] == []
    assert [line.partition(":")[0] for line in summary["not_checked"]] == ["unlike_training", "low_confidence"]


def test_an_empty_mask_is_flagged(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run, tmp_path: Path
) -> None:
    """Catches a volume of 0 that looks like an answer."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    write_label_map(mask, np.zeros_like(phantom.label_map), phantom.affine_lps)
    (tmp_path / "labels.json").write_text('{"1": "muscle"}')
    summary = measure(folder, mask)
    assert summary["flags"][0]["name"] == "empty_mask"
    assert all("empty_mask" in row["flags"] for row in summary["rows"])


def test_a_mask_of_some_slices_is_judged_on_those(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], measure: Run
) -> None:
    """Catches slices that the mask does not cover count_of as missing, as empty, or for their metal."""
    phantom = phantoms["oblique"]
    hu = phantom.hu.copy()
    hu[40:50, 40:50, 0] = 3000
    folder, mask = on_disk(dataclasses.replace(phantom, hu=hu))
    affine = phantom.affine_lps.copy()
    affine[:3, 3] += 3 * affine[:3, 2]
    write_label_map(mask, phantom.label_map[:, :, 3:], affine)
    flags = measure(folder, mask)["flags"]
    assert not {"gaps", "metal", "empty_mask"} & {flag["name"] for flag in flags}
    assert {plane for flag in flags for plane in flag["slices"]} <= {3, 4}
    write_label_map(mask, phantom.label_map, phantom.affine_lps)
    assert [flag["slices"] for flag in measure(folder, mask)["flags"] if flag["name"] == "metal"] == [[0]]


def test_measuring_prints_and_writes_nothing(
    phantoms: dict[str, Phantom], on_disk: Callable[[Phantom], tuple[Path, Path]], tmp_path: Path, capsys: Any
) -> None:
    """Catches a library that talks, and a series that is left out without a word to whoever asks."""
    phantom = phantoms["anisotropic"]
    folder, mask = on_disk(phantom)
    write_series(phantoms["oblique"], folder / "broken", patient_id="P002", seed=9)
    for path in (folder / "broken").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    ids = phantom.label_map[:, :, 1:].copy()
    ids[0, 0] = 255
    affine = phantom.affine_lps.copy()
    affine[:3, 3] += affine[:3, 2]
    write_label_map(mask, ids, affine)
    before, told = sorted(tmp_path.rglob("*")), list[str]()
    found = measure_mask(folder, mask, MeasurementOptions(l3="2", muscle_labels="all"), tell=told.append)
    assert sorted(tmp_path.rglob("*")) == before and capsys.readouterr().out == ""
    assert [line.startswith("left out: ") for line in told] == [True] and "PixelSpacing" in told[0]
    assert [note.partition(" ")[0] for note in found.notes] == ["the", "4"]
    assert sorted(found.planes) == [1, 2, 3, 4] and found.summary["series_uid"] == found.series.uid
    for row in found.rows:
        assert row.n_pixels == np.count_nonzero(found.planes[row.slice_index] == row.label_id)
    assert found.summary["smi"]["value"] > 0
    assert measure_mask(folder, mask).summary["labels"] == found.summary["labels"]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("step_mm", [3.0, 7.5, 12.0])
def test_a_mask_with_another_step_is_refused_with_both_steps(
    phantoms: dict[str, Phantom],
    on_disk: Callable[[Phantom], tuple[Path, Path]],
    tmp_path: Path,
    step_mm: float,
    axes: tuple[int, int, int],
    measure: Run,
) -> None:
    """Catches "lies on no slice" where the user has to find out that the mask's step is not the scan's 6 mm."""
    folder, _ = on_disk(phantoms["anisotropic"])
    affine = phantoms["anisotropic"].affine_lps @ np.diag([1, 1, step_mm / 6, 1])
    write_label_map(tmp_path / "mask.nii.gz", phantoms["anisotropic"].label_map, affine, axes)
    told = rf"planes of the label map are {step_mm:g} mm apart, slices of the scan 6 mm"
    with pytest.raises(GeometryError, match=told):
        measure(folder, tmp_path / "mask.nii.gz")
    affine[:3, 3] += affine[:3, 2] * 0.4  # no plane coincides
    write_label_map(tmp_path / "mask.nii.gz", phantoms["anisotropic"].label_map, affine, axes)
    with pytest.raises(GeometryError, match=told):
        measure(folder, tmp_path / "mask.nii.gz")
