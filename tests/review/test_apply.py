"""Corrections on their way back: painted in a browser, applied, measured again, learnt from; and refused unharmed."""

import csv
import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from browser import Browser
from numpy.typing import NDArray
from review_results import LABELS, three_labels, write_corrections, write_review_results
from stored_results import NESTED, deep

from sarco.commands.review import main
from sarco.core.errors import InputError, OptionError, SarcoError
from sarco.io.images import find_images, read_hu
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import Phantom, write_series
from sarco.results.folder import write_results
from sarco.review import apply as apply_module
from sarco.review.apply import apply_corrections
from sarco.runs.store import Provenance
from sarco.scan.series import Series
from sarco.training.cases import find_cases

ROOT = Path(__file__).parents[2]


@pytest.fixture
def oblique(phantoms: dict[str, Phantom]) -> Phantom:
    """A tilted patient, whose axes are those of no file format."""
    return phantoms["oblique"]


@pytest.fixture
def made(oblique: Phantom, tmp_path: Path) -> tuple[Path, Series]:
    """A results folder and its series."""
    return write_review_results(tmp_path, oblique)


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stored_ids(path: Path) -> NDArray[np.uint8]:
    """A label map as nibabel reads it, in (row, column, slice) order."""
    return np.asarray(nib.load(path).dataobj).transpose(1, 0, 2)


def run_review(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command as a person types it."""
    command = [sys.executable, "-m", "sarco", "review", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_was_painted_is_what_is_measured(
    browser: Browser, made: tuple[Path, Series], oblique: Phantom, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches any difference between the area on the page, the corrections and the corrected label map."""
    results, series = made
    browser.open(results / "review.html")
    browser.wait("document.body.dataset.firstPictureMs")
    plane = browser.run("return view.place")
    browser.run("document.getElementById('who').value = 'Reader <1>'")
    browser.press("b")
    browser.press("1")
    browser.run("setSize(25)")
    points = browser.run(
        "const p = layout(), box = stage.getBoundingClientRect(), path = [[50, 30], [60, 60], [70, 40]];"
        "return path.map(([x, y]) => [box.left + p.left + x * p.x, box.top + p.top + y * p.y])"
    )
    browser.drag([(x, y) for x, y in points])
    shown = {i: browser.run(f"return document.getElementById('slice-row-{i}').children[1].textContent") for i in (1, 7)}
    browser.press("c")
    browser.click("#save")
    saved = browser.downloaded("corrections.json")
    assert browser.log("browser") == []

    main(["apply", str(results), str(saved)])
    assert capsys.readouterr().out == f"1 slice corrected: {results / 'review.html'}\n"
    before, after = three_labels(oblique), stored_ids(results / "label_map.nii.gz")
    assert np.array_equal(stored_ids(results / "label_map_predicted.nii.gz"), before)
    assert np.array_equal(np.delete(after, plane, 2), np.delete(before, plane, 2))
    changed = after[:, :, plane] != before[:, :, plane]
    assert changed.sum() > 100 and (after[:, :, plane][changed] == 1).all()

    row_mm, column_mm = series.slices[0].spacing_mm
    with open(results / "measurements.csv", encoding="utf-8") as file:
        measured = {(int(r["slice_index"]), int(r["label_id"])): float(r["area_cm2"]) for r in csv.DictReader(file)}
    for label_id, area in shown.items():
        expected = (after[:, :, plane] == label_id).sum() * row_mm * column_mm / 100
        assert measured[plane, label_id] == pytest.approx(expected, rel=1e-6)
        assert area == f"{expected:.2f}"

    (note,) = json.loads((results / "prediction.json").read_text(encoding="utf-8"))["corrections"]
    assert note["corrected_by"] == "Reader <1>" and note["slices"] == [plane] and note["checked_slices"] == [plane]
    assert note["labels"][0]["pixels_added"] == changed.sum()

    browser.open(results / "review.html")  # the page of the corrected label map
    browser.wait("document.body.dataset.firstPictureMs")
    browser.run(f"return showSlice({plane})")
    browser.wait(f"view.place === {plane}")
    assert browser.run("return document.getElementById('slice-row-1').children[1].textContent") == shown[1]
    assert "by Reader <1>" in browser.run("return document.getElementById('provenance').innerText")
    assert browser.log("browser") == []


def test_applying_makes_everything_anew(made: tuple[Path, Series], oblique: Phantom, tmp_path: Path) -> None:
    """Catches files beside the corrected label map that still speak of the predicted one."""
    results, series = made
    (results / "overlay.png").write_bytes(b"old")
    (results / "segmentation.dcm").write_bytes(b"of the prediction")
    (results / "notes.txt").write_text("mine")
    old_page = (results / "review.html").read_bytes()
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    applied = apply_corrections(results, path)
    assert applied.review == results / "review.html" and applied.slices == (1,) and applied.case is None
    expected = three_labels(oblique)
    expected[0, :4, 1] = 2
    assert np.array_equal(stored_ids(results / "label_map.nii.gz"), expected)
    affines = [nib.load(results / f"label_map{kind}.nii.gz").affine for kind in ("", "_predicted")]
    assert np.allclose(affines[0], affines[1], rtol=0, atol=1e-4)
    assert (results / "overlay.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "segmentation_predicted.dcm").is_file() and not (results / "segmentation.dcm").exists()
    assert (results / "notes.txt").read_text() == "mine"
    assert (results / "review.html").read_bytes() != old_page
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    voxel_ml = abs(np.linalg.det(series.affine_lps[:3, :3])) / 1000
    assert prediction["labels"][1]["volume_ml"] == pytest.approx((expected == 2).sum() * voxel_ml, abs=1e-3)
    assert prediction["corrections"][0]["applied_at"] > "2026" and prediction["run_id"] == "abc12345"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    with pytest.raises(InputError, match="hash differs"):  # not twice
        apply_corrections(results, path)
    second = write_corrections(tmp_path / "c2.json", series, expected)
    apply_corrections(results, second)
    assert len(json.loads((results / "prediction.json").read_text(encoding="utf-8"))["corrections"]) == 2
    assert np.array_equal(stored_ids(results / "label_map_predicted.nii.gz"), three_labels(oblique))


@pytest.mark.parametrize("kind", ["NIfTI image", "one file of many frames"])
def test_images_in_one_file_can_be_corrected(kind: str, oblique: Phantom, tmp_path: Path) -> None:
    """Catches corrections that need one DICOM file a slice, or that turn a grid whose axes run another way."""
    axial = dataclasses.replace(oblique, affine_lps=np.diag([3.1, 3.4, -6.0, 1.0])[[1, 0, 2, 3]])
    image = tmp_path / "image.nii.gz"
    if kind == "NIfTI image":
        affine_ras = np.diag([-1.0, -1, 1, 1]) @ axial.affine_lps[:, [2, 0, 1, 3]]
        nib.save(nib.Nifti1Image(axial.hu.transpose(2, 0, 1), affine_ras), image)
        series = find_images(image).series[0]
    else:
        write_series(axial, tmp_path / "slices", patient_id="P001", seed=1)
        image = tmp_path / "frames.dcm"
        datasets = [pydicom.dcmread(path) for path in sorted((tmp_path / "slices").iterdir())]
        converted = pytest.importorskip("highdicom").legacy.LegacyConvertedEnhancedCTImage(
            datasets, "1.2.3.4", 1, "1.2.3.5", 1, transfer_syntax_uid="1.2.840.10008.1.2.1"
        )
        converted.save_as(image)
        series = find_images(image).series[0]
    # The planes of the series in its own order, whatever it is.
    read = np.stack([read_hu(header) for header in series.slices], axis=2)
    label_map = np.where((read > 0) & (read < 60), 1, 0).astype(np.uint8)
    results = tmp_path / "results"
    results.mkdir()
    provenance = Provenance("abc12345", "Trains", tmp_path / "best.ckpt", "ab" * 32)
    write_results(results, series, label_map, dict.fromkeys(series.plane_index, 0.9), LABELS, provenance)
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    for entry, header in zip(prediction["slices"], series.slices, strict=True):
        entry["frame"] = header.frame
    (results / "prediction.json").write_text(json.dumps(prediction), encoding="utf-8")
    path = write_corrections(tmp_path / "c.json", series, label_map)
    apply_corrections(results, path)
    corrected = read_label_map(results / "label_map.nii.gz")
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        expected = label_map[:, :, plane].copy()
        if plane == 1:
            expected[0, :4] = 2
        found = corrected.on_slice(series.plane_affine_lps(plane), header.shape, header.path)
        assert np.array_equal(found, expected)
    if kind == "NIfTI image":
        again = write_corrections(tmp_path / "c2.json", series, _corrected(label_map))
        applied = apply_corrections(results, again, add_to=tmp_path / "data")
        assert applied.case and applied.case.parent.parent == tmp_path / "data"


def _corrected(label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    changed = label_map.copy()
    changed[0, :4, 1] = 2
    return changed


class TooLateError(Exception):
    """What happens in the middle."""


def fail(*_: object) -> None:
    """The last file of a results folder that cannot be made."""
    raise TooLateError


HOSTILE = {
    "another hash": {"label_map_sha256": "0" * 64},
    "another shape": {"shape": [96, 120, 6]},
    "another series": {"series_uid": "1.2.3"},
    "unknown id": {"slices": [{"slice_index": 1, "runs": [[0, 4, 9]], "n_pixels": {}}]},
    "nothing in it": {"slices": [], "checked_slices": []},
    "out of range": {"slices": [{"slice_index": 1, "runs": [[10**9, 4, 2]], "n_pixels": {}}]},
}


@pytest.mark.parametrize("case", [*HOSTILE, "fails late", "scan is gone", "scan was changed", "case refused"])
def test_a_failure_changes_nothing(
    case: str, made: tuple[Path, Series], oblique: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches results half corrected, lost, or left beside temporary folders."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique), **HOSTILE.get(case, {}))
    options: dict[str, Any] = {}
    if case == "fails late":
        monkeypatch.setattr("sarco.review.apply.encode_png", fail)
    elif case == "scan is gone":
        series.slices[2].path.unlink()
    elif case == "scan was changed":
        with open(series.slices[2].path, "ab") as file:
            file.write(b"\0")
    elif case == "case refused":
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "labels.json").write_text('{"1": "liver"}')
        options["add_to"] = tmp_path / "data"
    before = content_of(tmp_path)
    with pytest.raises((SarcoError, TooLateError)) as caught:
        apply_corrections(results, path, **options)
    assert content_of(tmp_path) == before
    assert "\n" not in str(caught.value)


def test_results_without_what_is_needed_are_refused(
    made: tuple[Path, Series], oblique: Phantom, tmp_path: Path
) -> None:
    """Catches tracebacks from a folder that is none, or that somebody edited."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    with pytest.raises(InputError, match=r"holds no prediction\.json"):
        apply_corrections(tmp_path, path)
    prediction = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
    for change in (
        {"slices": []},
        {"slices": "x"},
        {"labels": []},
        {"labels": [{"id": "x"}]},
        {"series_uid": "1.2.3"},
        {"slices": [{**prediction["slices"][0], "slice_index": 99}]},
        {"slices": prediction["slices"][:3]},
    ):
        (results / "prediction.json").write_text(json.dumps(prediction | change), encoding="utf-8")
        with pytest.raises(InputError):
            apply_corrections(results, path)
    (results / "prediction.json").write_text(json.dumps(prediction), encoding="utf-8")
    (results / "label_map.nii.gz").write_bytes(b"broken")
    with pytest.raises(InputError, match="label_map"):
        apply_corrections(results, path)


def _with(change: dict[str, Any], **slice_change: Any) -> Any:
    """A change of a record as a test case."""
    return pytest.param(change, slice_change, id=str(change or slice_change)[:40])


@pytest.mark.parametrize("name", ["prediction.json", "summary.json"])
@pytest.mark.parametrize("text", NESTED)
def test_nesting_without_end_is_one_line(
    made: tuple[Path, Series],
    oblique: Phantom,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
) -> None:
    """Catches a RecursionError in place of the file's name."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    (results / name).write_text(text)
    before = content_of(results)
    with pytest.raises(InputError, match=rf"{name}: .*nested too deeply") as caught:
        main(["apply", str(results), str(path)])
    assert str(caught.value).isprintable() and content_of(results) == before


@pytest.mark.parametrize(
    ("change", "slice_change"),
    [
        _with({"other": deep(500)}),
        _with({"labels": [{"id": 300, "name": "x"}]}),
        _with({"labels": [{"id": -1, "name": "x"}]}),
        _with({"labels": {"id": 1}}),
        _with({"corrections": 3}),
        _with({"corrections": [{}]}),
        _with({"run_id": "\ud800"}),
        _with({}, frame=-1),
        _with({}, frame="x"),
        _with({}, frame=10**400),
        _with({}, slice_index=math.nan),
        _with({}, slice_index=10**400),
        _with({}, file="a\0b"),
        _with({}, file="x" * 5000),
        _with({}, file={"a": deep(300)}),
        _with({}, confidence=[]),
    ],
)
def test_a_record_that_somebody_edited_is_one_line(
    made: tuple[Path, Series], oblique: Phantom, tmp_path: Path, change: dict[str, Any], slice_change: dict[str, Any]
) -> None:
    """Catches tracebacks, frame -1 taken for the last one, and half of the results written anew."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    record = json.loads((results / "prediction.json").read_text(encoding="utf-8")) | change
    record["slices"][1] |= slice_change
    (results / "prediction.json").write_text(json.dumps(record), encoding="utf-8")
    before = content_of(tmp_path)
    with pytest.raises(InputError) as caught:
        apply_corrections(results, path)
    assert str(results) in str(caught.value) and str(caught.value).isprintable()
    assert content_of(tmp_path) == before


def test_training_case_is_what_a_person_saw(made: tuple[Path, Series], oblique: Phantom, tmp_path: Path) -> None:
    """Catches a network's own labels passed off as human ones, a shifted case, and earlier work lost to later."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    main(["apply", str(results), str(path), f"--add_to={tmp_path / 'data'}"])
    truth = three_labels(oblique)
    truth[0, :4, 1] = 2

    def labels_by_position() -> dict[float, NDArray[np.uint8]]:
        (case,) = {item.case for item in find_cases(tmp_path / "data").slices}
        return {s.position[2]: ids for s, ids in zip(case.slices, case.read_label_maps(), strict=True)}

    found = [ids for _, ids in sorted(labels_by_position().items())]
    for plane, ids in enumerate(found):
        assert np.array_equal(ids, truth[:, :, plane]) if plane in (1, 3) else (ids == 255).all()
    dataset = find_cases(tmp_path / "data")
    assert dataset.label_names == dict(LABELS.names)
    assert {item.header.sop_uid for item in dataset.slices} == {s.sop_uid for s in series.slices}
    assert not any("P001" in p.name or "scan" in p.name for p in (tmp_path / "data").rglob("*"))

    second = write_corrections(tmp_path / "c2.json", series, truth, checked_slices=[0], slices=[])
    apply_corrections(results, second, add_to=tmp_path / "data")
    found = [ids for _, ids in sorted(labels_by_position().items())]
    assert [bool((ids == 255).all()) for ids in found] == [False, False, True, False, True]
    third = write_corrections(tmp_path / "c3.json", series, truth, checked_slices=[0], slices=[])
    apply_corrections(results, third, add_to=tmp_path / "data", all_slices=True)
    found = [ids for _, ids in sorted(labels_by_position().items())]
    assert np.array_equal(np.stack(found, 2), truth)


def test_scan_that_was_moved_is_found_again(made: tuple[Path, Series], oblique: Phantom, tmp_path: Path) -> None:
    """Catches corrections that cannot be applied on another machine."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    shutil.move(tmp_path / "scan", tmp_path / "archive")
    with pytest.raises(InputError, match="--scan=FOLDER"):
        apply_corrections(results, path)
    main(["apply", str(results), str(path), "--scan", str(tmp_path / "archive")])
    assert (results / "label_map_predicted.nii.gz").is_file()


def test_command_line_explains_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Catches a command without help, words that are missed in silence, and faults that are no single line."""
    with pytest.raises(SystemExit) as ended:
        main(["apply", "-h"])
    assert ended.value.code == 0 and "--add_to" in capsys.readouterr().out
    main(["-h"])
    assert "sarco review index FOLDER" in capsys.readouterr().out
    for words, said in ([], "neither apply nor index"), (["apply", "one"], "--corrections is missing"):
        with pytest.raises(OptionError, match=said):
            main(words)
    done = run_review("apply", tmp_path, tmp_path / "nothing.json")
    assert done.returncode == 1 and done.stderr.startswith("sarco review: error: ")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_correction_keeps_the_style_of_the_table(made: tuple[Path, Series], oblique: Phantom, tmp_path: Path) -> None:
    """Catches a table for Excel that a correction turns into one that Excel reads wrongly."""
    results, series = made
    (results / "measurements.csv").write_bytes(b"\xef\xbb\xbfslice_index;area_cm2\r\n")
    apply_corrections(results, write_corrections(tmp_path / "c.json", series, three_labels(oblique)))
    content = (results / "measurements.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfslice_index;z_mm;") and b",0;" not in content.splitlines()[0]


def test_another_s_correction_stays(
    made: tuple[Path, Series], oblique: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches two people who correct one scan at once, of whom the second replaces what the first has just applied."""
    results, series = made
    path = write_corrections(tmp_path / "c.json", series, three_labels(oblique))
    real = apply_module.write_measurements

    def another_is_faster(*args: Any) -> None:
        real(*args)
        content = json.loads((results / "prediction.json").read_text(encoding="utf-8"))
        (results / "prediction.json").write_text(json.dumps({**content, "by": "another"}), encoding="utf-8")

    monkeypatch.setattr(apply_module, "write_measurements", another_is_faster)
    with pytest.raises(InputError, match="changed by another process meanwhile"):
        apply_corrections(results, path, add_to=tmp_path / "data")
    assert json.loads((results / "prediction.json").read_text(encoding="utf-8"))["by"] == "another"
    assert not (results / "label_map_predicted.nii.gz").exists() and not (tmp_path / "data").exists()
