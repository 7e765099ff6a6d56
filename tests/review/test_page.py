"""The review page as a browser shows it: from disk, without a network, turned right, and with a brush that counts."""

import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from browser import Browser
from numpy.typing import NDArray
from PIL import Image
from review_results import HOSTILE, LABELS, three_labels, write_page

from sarco.core.errors import GeometryError
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import Phantom
from sarco.review.page import ReviewWriter, json_for_html, provenance_of, read_identity
from sarco.review.pixels import hu_of_levels, hu_to_levels
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series

GEOMETRIES = ["axial", "oblique", "feet first", "prone", "coronal", "sagittal", "sagittal from below"]


@pytest.fixture
def series(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> Series:
    """Five slices with pixels that are not square."""
    return find_series(series_folder(phantoms["anisotropic"])).series[0]


def show(browser: Browser, page: Path) -> None:
    """Opens the page and waits for its picture."""
    browser.open(page)
    browser.wait("document.body.dataset.firstPictureMs")


def caption(browser: Browser) -> str:
    """What stands above the picture."""
    return str(browser.run("return document.getElementById('caption').textContent"))


def screen_of(browser: Browser, row: int, column: int) -> tuple[float, float]:
    """Where the window shows the middle of a pixel of the scan's own grid (axial slices as they are stored)."""
    x, y = browser.run(
        "const p = layout(), box = stage.getBoundingClientRect();"
        "return [box.left + p.left + (arguments[1] + 0.5) * p.x, box.top + p.top + (arguments[0] + 0.5) * p.y]",
        row,
        column,
    )
    return float(x), float(y)


def shot(browser: Browser, folder: Path) -> NDArray[np.int64]:
    """What the window shows, (row, column, RGB)."""
    browser.picture(folder / "shot.png")
    return np.asarray(Image.open(folder / "shot.png").convert("RGB")).astype(int)


def colour_at(browser: Browser, folder: Path, row: int, column: int) -> list[int]:
    """The colour that the window shows for a pixel of the slice."""
    x, y = screen_of(browser, row, column)
    return shot(browser, folder)[int(y), int(x)].tolist()


def row_of(browser: Browser, kind: str, label_id: int) -> list[str]:
    """The cells of a table's row."""
    cells = "return [...document.getElementById(arguments[0]).children].map((cell) => cell.textContent)"
    return list(browser.run(cells, f"{kind}-row-{label_id}"))


def test_page_opens_from_disk_without_network_or_complaint(browser: Browser, series: Series, tmp_path: Path) -> None:
    """Catches anything that is fetched, a script that fails or is refused by the page's own policy."""
    label_map = np.zeros(series.shape, np.uint8)
    page = write_page(tmp_path / "results", series, label_map)
    show(browser, page)
    browser.press("End")
    browser.wait("view.place === 4")
    assert browser.log("browser") == []
    assert {address.split(":")[0] for address in browser.addresses()} <= {"file", "data", "blob"}
    browser.run(
        "window.refused = [];"
        "document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));"
        "new Image().src = 'http://127.0.0.1:9/leak.png';"
        "fetch('http://127.0.0.1:9/leak').catch(() => {});"
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.hacked = 1' }));"
    )
    browser.wait("refused.length === 3")
    assert sorted(browser.run("return refused")) == ["connect-src", "img-src", "script-src-elem"]
    assert browser.run("return window.hacked") is None
    assert page.stat().st_size < 1_000_000


def test_text_from_outside_stays_text(
    browser: Browser, series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches a SeriesDescription, a label's name, a flag or a verdict that runs as a script or becomes markup."""
    first, *others = series.slices
    named = dataclasses.replace(
        series, slices=(dataclasses.replace(first, description=HOSTILE), *others), uid=f"1.2{HOSTILE}"
    )
    summary = {
        "flags": [{"name": HOSTILE, "reason": HOSTILE, "numbers": {HOSTILE: float("nan")}, "slices": [2, 99]}],
        "smi": {"value": None, "unit": HOSTILE, "slices": [2], "why_not": HOSTILE},
        "cutoffs": [
            {"set": "x", "doi": HOSTILE, "measure": "smi", "verdict": HOSTILE, "why": HOSTILE},
            {"text": HOSTILE, "verdict": "not applicable"},
        ],
        "acquisition": {"kernel": HOSTILE},
        "intervals": [
            {"what": HOSTILE, "why_not": HOSTILE},
            {"what": "area", "value": 150.04, "low": 140, "high": 160, "coverage": 0.9, "n_patients": 40},
        ],
        "not_checked": [HOSTILE],
        "hu_ranges": {HOSTILE: [-29, 150]},
    }
    writer = ReviewWriter(named, LABELS)
    for plane in named.plane_index:
        writer.add(plane, np.zeros(named.shape[:2]), three_labels(phantoms["anisotropic"])[:, :, plane])
    show(browser, writer.finish(tmp_path, summary, {HOSTILE: HOSTILE}))
    assert browser.run("return window.hacked") is None
    assert browser.log("browser") == []
    assert browser.run("return document.querySelectorAll('img, body b').length") == 1  # the flag's own heading
    text = browser.run("return document.body.innerText")
    assert text.count(HOSTILE) >= 10
    assert "area 150.0: 90 % interval 140.0 to 160.0, from 40 validation patients" in text
    assert row_of(browser, "slice", 7)[0] == LABELS.names[7]
    assert browser.run("return document.title") == f"sarco review: {HOSTILE}"
    assert browser.run("return view.place") == 2  # that of the SMI


def test_patients_are_never_named_unasked(series: Series, tmp_path: Path) -> None:
    """Catches identity that slips in with a summary, from DICOM or through a file path."""
    summary = {
        "patient": {"sex": "F", "height_m": 1.6, "patient_id": "P001", "name": "Doe^Jane"},
        "patient_name": "Doe^Jane",
        "path": "/data/Doe^Jane",
    }
    label_map = np.zeros(series.shape, np.uint8)
    text = write_page(tmp_path / "without", series, label_map, summary).read_text(encoding="utf-8")
    assert "Doe^Jane" not in text and '"P001' not in text and str(tmp_path) not in text
    assert '"height_m":1.6' in text
    named = write_page(tmp_path / "with", series, label_map, summary, identity={"Patient": "Doe^Jane"})
    assert "Doe^Jane" in named.read_text(encoding="utf-8")


def test_identity_is_read_when_it_is_asked_for(slice_file: Callable[..., Path]) -> None:
    """Catches tags mixed up, or empty ones shown."""

    def name(dataset: pydicom.Dataset) -> None:
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "P7", ""

    found = find_series(slice_file(name)).series[0]
    assert read_identity(found) == {"Patient": "Doe^Jane", "Patient ID": "P7"}


def test_wheel_slider_keys_and_profile_move_through_the_slices(
    browser: Browser, series: Series, tmp_path: Path
) -> None:
    """Catches slices that stay, run the wrong way or beyond the ends, or come in the wrong order."""
    show(browser, write_page(tmp_path, series, np.zeros(series.shape, np.uint8)))
    z = [float(series.plane_affine_lps(plane)[2, 3]) for plane in series.plane_index]
    for key, place in [("Home", 0), ("PageDown", 0), ("ArrowUp", 1), ("ArrowRight", 2), ("ArrowDown", 1)]:
        browser.press(key)
        browser.wait(f"view.place === {place}")
        shown = re.search(r"z (\S+) mm", caption(browser))
        assert shown and float(shown[1]) == pytest.approx(z[place], abs=0.06)
        assert f"{place + 1} of 5" in caption(browser)
    for key, place in [("ArrowLeft", 0), ("PageUp", 4), ("Home", 0), ("End", 4), ("ArrowUp", 4)]:
        browser.press(key)
        browser.wait(f"view.place === {place}")
    x, y = screen_of(browser, 40, 40)
    browser.wheel(x, y, -120)
    browser.wait("view.place === 3")
    browser.wheel(x, y, 120)
    browser.wait("view.place === 4")
    browser.run(
        "const slider = document.getElementById('slider'); slider.value = 1; slider.dispatchEvent(new Event('input'));"
    )
    browser.wait("view.place === 1")
    box = browser.run(
        "const b = document.getElementById('profile').getBoundingClientRect(); return [b.x, b.y, b.width]"
    )
    browser.drag([(box[0] + box[2] * 0.7, box[1] + 20)])
    browser.wait("view.place === 3")
    assert browser.log("browser") == []


def test_opacity_and_style_change_what_is_seen(
    browser: Browser, series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches a slider without effect, a colour that is not the label's, and an outline that fills."""
    label_map = np.zeros(series.shape, np.uint8)
    label_map[40:60, 50:80, 2] = 1
    show(browser, write_page(tmp_path, series, label_map))

    def opacity(percent: int) -> None:
        browser.run(
            "const slider = document.getElementById('opacity'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'));",
            percent,
        )

    opacity(0)
    grey = colour_at(browser, tmp_path, 50, 65)
    assert len(set(grey)) == 1
    opacity(100)
    assert colour_at(browser, tmp_path, 50, 65) == list(LABELS.colour_rgb(1))
    opacity(50)
    half = (np.array(grey) + LABELS.colour_rgb(1)) / 2
    assert np.abs(colour_at(browser, tmp_path, 50, 65) - half).max() <= 2
    browser.press("o")
    assert colour_at(browser, tmp_path, 50, 65) == grey
    assert colour_at(browser, tmp_path, 50, 50) != grey  # its outline
    browser.press(" ")
    assert len(set(colour_at(browser, tmp_path, 50, 50))) == 1


def test_window_presets_and_dragging_show_the_right_grey(
    browser: Browser, series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches HU shifted or scaled on the way to the screen; the grey is computed here from the phantom's HU."""
    show(browser, write_page(tmp_path, series, np.zeros(series.shape, np.uint8)))
    hu = phantoms["anisotropic"].hu[:, :, browser.run("return view.place")].astype(float)
    # A place where the neighbours look alike, so that interpolation on the screen does not matter.
    spread = [[np.ptp(hu[r - 1 : r + 2, c - 1 : c + 2]) for c in range(1, 119)] for r in range(1, 95)]
    inside = np.where((hu[1:95, 1:119] > -20) & (hu[1:95, 1:119] < 120), spread, np.inf)
    row, column = (int(i) + 1 for i in np.unravel_index(inside.argmin(), inside.shape))
    for preset, width, centre in [("soft tissue", 400, 40), ("muscle", 180, 60), ("bone", 1800, 400)]:
        browser.run(
            "const box = document.getElementById('preset'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('change'));",
            preset,
        )
        assert browser.run("return document.getElementById('window').textContent") == f"W {width} L {centre}"
        expected = np.clip((hu[row, column] - (centre - width / 2)) / width, 0, 1) * 255
        grey = colour_at(browser, tmp_path, row, column)
        tolerance = (np.ptp(hu[row - 1 : row + 2, column - 1 : column + 2]) + 1.5) / width * 255 + 2
        assert len(set(grey)) == 1 and abs(grey[0] - expected) <= tolerance
    x, y = screen_of(browser, row, column)
    browser.drag([(x, y), (x + 50, y - 20)], button=2)
    assert browser.run("return document.getElementById('window').textContent") == "W 2000 L 360"
    assert browser.run("return done.length") == 0  # the right button never paints


@pytest.mark.parametrize("name", GEOMETRIES)
def test_slices_are_turned_as_radiologists_view_them(
    name: str, browser: Browser, turned_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches a mirrored or upside-down slice, letters on the wrong edge, and squeezed pixels."""
    series = find_series(series_folder(turned_phantoms[name])).series[0]
    rows, columns, _ = series.shape
    label_map = np.zeros(series.shape, np.uint8)
    label_map[8:24, 10:30, :] = 2  # near one corner of the stored grid
    plane = 2
    show(browser, write_page(tmp_path, series, label_map))
    browser.press("Home")
    browser.press("ArrowUp")
    browser.press("ArrowUp")
    browser.wait(f"view.place === {plane}")
    browser.run("view.opacity = 1; redraw()")
    picture = shot(browser, tmp_path)
    box = browser.run("const b = stage.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
    coloured = np.argwhere((picture == LABELS.colour_rgb(2)).all(-1))
    coloured = coloured[(coloured[:, 1] < box[0] + box[2]) & (coloured[:, 0] > box[1])]  # not the table's swatch
    down, right = coloured.mean(0) - (box[1] + box[3] / 2, box[0] + box[2] / 2)
    affine = series.plane_affine_lps(plane)
    middle, blob = (affine @ (r, c, 0, 1) for r, c in (((rows - 1) / 2, (columns - 1) / 2), (15.5, 19.5)))
    to_left, to_back, to_head = (blob - middle)[:3]
    kind = "sagittal" if "sagittal" in name else "coronal" if name == "coronal" else "axial"
    expected_right = to_back if kind == "sagittal" else to_left  # the patient's left is at the right edge
    expected_down = to_back if kind == "axial" else -to_head
    assert np.sign(right) == np.sign(expected_right) and np.sign(down) == np.sign(expected_down)
    # Distances on the screen are those in the patient, whatever the pixel spacing.
    across_mm, along_mm = (
        np.linalg.norm(affine[:3, axis]) * step for axis, step in ((1, 59.5 - 19.5), (0, 47.5 - 15.5))
    )
    assert abs(right / down) == pytest.approx(across_mm / along_mm, rel=0.05)
    letters = [browser.run(f"return document.getElementById('edge-{edge}').textContent") for edge in ("left", "top")]
    assert letters == {"axial": ["R", "A"], "coronal": ["R", "S"], "sagittal": ["A", "S"]}[kind]


def disc(shape: tuple[int, int], row: int, column: int, size_mm: float, spacing: tuple[float, float]) -> NDArray[Any]:
    """Pixels whose centre lies within half of `size_mm` of a pixel's, each looked at."""
    found = np.zeros(shape, bool)
    for r, c in np.ndindex(shape):
        across = ((r - row) * spacing[0]) ** 2 + ((c - column) * spacing[1]) ** 2
        found[r, c] = across <= (size_mm / 2) ** 2
    return found


def test_a_stroke_changes_the_area_by_the_painted_pixels(
    browser: Browser, series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches areas that do not follow the brush, undo that forgets, and corrections that differ from the picture."""
    label_map = three_labels(phantoms["anisotropic"])
    show(browser, write_page(tmp_path, series, label_map))
    plane = browser.run("return view.place")
    truth = label_map[:, :, plane].copy()
    spacing = series.slices[0].spacing_mm
    pixel_cm2, slice_mm = spacing[0] * spacing[1] / 100, 6.0

    def check(expected: NDArray[Any]) -> None:
        for label_id in LABELS.ids:
            n_pixels = int((expected == label_id).sum())
            assert row_of(browser, "slice", label_id)[1] == f"{n_pixels * pixel_cm2:.2f}"
            others = int((np.delete(label_map, plane, axis=2) == label_id).sum())
            total = float(row_of(browser, "total", label_id)[1])
            assert total == pytest.approx((n_pixels + others) * pixel_cm2 * slice_mm / 10, abs=0.06)

    check(truth)
    browser.press("b")
    browser.press("2")
    browser.run("setSize(20)")
    browser.drag([screen_of(browser, 30, 70)])
    painted = np.where(disc(truth.shape, 30, 70, 20, spacing), 2, truth)
    check(painted)
    browser.press("e")
    browser.run("setSize(9)")
    browser.drag([screen_of(browser, 31, 71)])
    erased = np.where(disc(truth.shape, 31, 71, 9, spacing) & (painted == 2), 0, painted)
    check(erased)
    assert not np.array_equal(painted, erased) and not np.array_equal(painted, truth)
    browser.press("Control", "z")
    check(painted)
    browser.press("Control", "z")
    check(truth)
    browser.press("Control", "y")
    browser.press("Control", "y")
    check(erased)
    runs = browser.run("return corrections()")["slices"]
    assert [one["slice_index"] for one in runs] == [plane]
    replayed = truth.ravel().copy()
    for start, length, label_id in runs[0]["runs"]:
        replayed[start : start + length] = label_id
    assert np.array_equal(replayed.reshape(truth.shape), erased)
    assert browser.log("browser") == []


def test_a_fast_stroke_leaves_no_holes(browser: Browser, series: Series, tmp_path: Path) -> None:
    """Catches dots instead of a line where the mouse moves faster than its events come."""
    show(browser, write_page(tmp_path, series, np.zeros(series.shape, np.uint8)))
    browser.press("b")
    browser.press("1")
    browser.run("setSize(1)")  # one pixel
    browser.drag([screen_of(browser, 20, 20), screen_of(browser, 20, 60), screen_of(browser, 60, 60)])
    (changed,) = browser.run("return corrections()")["slices"]
    pixels = {(i // 120, i % 120) for start, length, _ in changed["runs"] for i in range(start, start + length)}
    assert pixels == {(20, c) for c in range(20, 61)} | {(r, 60) for r in range(20, 61)}
    browser.press("Control", "z")
    assert browser.run("return corrections()")["slices"] == []


def test_brush_can_spare_other_labels(browser: Browser, series: Series, tmp_path: Path) -> None:
    """Catches a brush or an eraser that takes pixels of a label that was not meant."""
    label_map = np.zeros(series.shape, np.uint8)
    label_map[:, 60:, :] = 2
    show(browser, write_page(tmp_path, series, label_map))
    browser.press("b")
    browser.press("1")
    browser.run("setSize(20); control('over').value = 'background'; control('over').dispatchEvent(new Event('change'))")
    browser.drag([screen_of(browser, 40, 60)])
    (changed,) = browser.run("return corrections()")["slices"]
    columns = {i % 120 for start, length, _ in changed["runs"] for i in range(start, start + length)}
    assert columns and max(columns) == 59
    browser.press("e")
    browser.drag([screen_of(browser, 40, 60)])
    assert browser.run("return corrections()")["slices"] == []  # label 1 is gone again, label 2 untouched


def test_saved_corrections_can_be_taken_up_again(
    browser: Browser, series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches work lost when the window is closed, and corrections of one label map drawn over another."""
    label_map = three_labels(phantoms["anisotropic"])
    page = write_page(tmp_path / "page", series, label_map)
    show(browser, page)
    browser.press("b")
    browser.drag([screen_of(browser, 30, 70)])
    browser.press("ArrowUp")
    browser.wait("view.place === view.wanted && done.length === 1")
    browser.drag([screen_of(browser, 20, 20)])
    browser.press("c")
    before = browser.run("return corrections()")
    assert len(before["slices"]) == 2 and len(before["checked_slices"]) == 1
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(before | {"corrected_by": "AB"}), encoding="utf-8")
    show(browser, page)
    browser.choose_file("#open", saved)
    browser.wait("document.getElementById('message').textContent.startsWith('Corrections of 2 slices')")
    after = browser.run("return corrections()")
    assert [after[key] for key in ("slices", "checked_slices")] == [before[key] for key in ("slices", "checked_slices")]
    assert after["corrected_by"] == "AB"
    for text, said in ((json.dumps(before | {"label_map_sha256": "0"}), "another label map"), ("{", "holds no")):
        saved.write_text(text, encoding="utf-8")
        browser.choose_file("#open", saved)
        browser.wait(f"document.getElementById('message').textContent.includes('{said}')")
        assert browser.run("return corrections()")["slices"] == before["slices"]
    assert browser.log("browser") == []


def test_writer_refuses_what_does_not_belong(series: Series, tmp_path: Path) -> None:
    """Catches a page with a slice missing, twice, from elsewhere or of another size."""
    writer = ReviewWriter(series, LABELS)
    hu, ids = np.zeros(series.shape[:2]), np.zeros(series.shape[:2], np.uint8)
    writer.add(1, hu, ids)
    for plane, image, labels in [(1, hu, ids), (9, hu, ids), (0, hu.T, ids.T), (0, hu, ids[1:])]:
        with pytest.raises(GeometryError):
            writer.add(plane, image, labels)
    (tmp_path / "page").mkdir()
    with pytest.raises(GeometryError, match="4 slices never"):
        writer.finish(tmp_path / "page", {}, {})
    assert list((tmp_path / "page").iterdir()) == []


def test_slices_may_come_in_any_order(series: Series, tmp_path: Path) -> None:
    """Catches a page that depends on which batch was ready first."""
    rng = np.random.default_rng(2)
    slices = {
        plane: (rng.normal(0, 90, series.shape[:2]), rng.choice([0, 1, 7], series.shape[:2]).astype(np.uint8))
        for plane in series.plane_index
    }
    pages = []
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1]):
        writer = ReviewWriter(series, LABELS)
        for plane in order:
            writer.add(plane, *slices[plane])
        pages.append(writer.finish(tmp_path, {}, {}).read_bytes())
    assert pages[0] == pages[1]


def test_pictures_in_the_page_are_those_of_the_slices(
    series: Series, phantoms: dict[str, Phantom], tmp_path: Path
) -> None:
    """Catches slices that stand under another one's index; read here with PIL, not with the page's script."""
    import base64

    text = write_page(tmp_path, series, np.zeros(series.shape, np.uint8)).read_text(encoding="utf-8")
    for plane in series.plane_index:
        found = re.search(rf'id="pixels-{plane}">(\S+) ', text)
        assert found
        levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
        hu = phantoms["anisotropic"].hu[:, :, plane].clip(-1024, 1500)
        assert np.array_equal(levels, hu_to_levels(hu.astype(np.float32)))
        near = np.abs(hu) < 250
        assert np.abs(np.array(hu_of_levels())[levels] - hu)[near].max() < 2


def test_three_hundred_real_slices_stay_light_and_open_at_once(
    browser: Browser, shared_data: Path, tmp_path: Path
) -> None:
    """Catches a page of more than 12 MB, with the noise and the 31 labels of real CT, or one that opens slowly."""
    series = find_series(shared_data / "series_b" / "B").series[0]
    organs = read_label_map(shared_data / "series_b" / "B_all_labels.nii.gz")
    read = [(read_hu(h), organs.on_slice(h.affine_lps, h.shape, h.path)) for h in series.slices]
    many = dataclasses.replace(series, slices=series.slices * 15, plane_index=tuple(range(300)), n_planes=300)
    labels = LabelTable.from_ids(np.unique(organs.ids))
    writer = ReviewWriter(many, labels)
    row = dict.fromkeys(("mean_hu", "mean_hu_in_range", "area_in_range_cm2", "lama_cm2", "nama_cm2", "fat_cm2"), 123.45)
    rows = [{"slice_index": k, "label_id": i, "n_pixels": 9} | row for k in range(300) for i in labels.ids]
    for plane in many.plane_index:
        writer.add(plane, *read[plane % 20])
    page = writer.finish(tmp_path, {}, {}, rows)
    assert len(labels.ids) == 31 and page.stat().st_size < 12_000_000
    show(browser, page)
    assert int(browser.run("return document.body.dataset.firstPictureMs")) < 3000
    browser.press("End")
    browser.wait("view.place === 299")
    assert browser.log("browser") == []


def test_json_cannot_leave_its_script_element() -> None:
    """Catches </script> or <!-- in a text, and NaN, which no JSON reader of a browser takes."""
    text = json_for_html({"a": "</script><!-- & \u2028", "b": [float("nan"), np.float64("inf"), np.int64(3)]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028", "b": [None, None, 3]}


def test_provenance_names_checkpoint_and_corrections() -> None:
    """Catches a page that hides that a person changed the label map."""
    note = {"corrected_at": "2026-01-02", "corrected_by": "", "slices": [3, 4]}
    rows = provenance_of(
        {"run_id": "r1", "checkpoint_sha256": "ab" * 32, "predicted_at": "2026-01-01", "corrections": [note]}
    )
    assert rows["Run"] == "r1" and rows["Checkpoint SHA-256"] == "ab" * 32 and rows["Predicted"] == "2026-01-01"
    assert rows["Corrected 2026-01-02"] == "by somebody who gave no name; slices changed: 3, 4"
    assert "Project" not in rows
    runs = [{"run_id": run, "checkpoint_sha256": run * 8} for run in "ab"]
    several = provenance_of({"run_id": "a+b", "checkpoint_sha256": "cc", "runs": runs})
    assert several["Run"] == "a+b" and several["Checkpoint SHA-256"] == "a: aaaaaaaa, b: bbbbbbbb"
