"""The contact sheet: contours lie on their label, left and right are where radiologists expect them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.review.sheet import GAP_PIXELS, TILE_PIXELS, contact_sheet, draw_tile, encode_png
from sarco.scan.labels import LabelTable

LABELS = LabelTable({1: "one", 2: "two"})
SIDE = 40
PLAIN = np.array([[0, 2.0, 0, -50], [2.0, 0, 0, -60], [0, 0, 5, 0], [0, 0, 0, 1]])  # rows to posterior, columns to left
Tile = NDArray[np.uint8]


def flipped(affine: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The affine of the same slice stored the other way round along an axis."""
    result = affine.copy()
    result[:3, 3] += result[:3, axis] * (SIDE - 1)
    result[:3, axis] *= -1
    return result


# The same slice of the same patient, stored in every way: what happens to the array, and the affine that says so.
STORED = {
    "as radiologists view it": (lambda a: a, PLAIN),
    "columns to the right": (lambda a: a[:, ::-1], flipped(PLAIN, 1)),
    "rows to anterior": (lambda a: a[::-1], flipped(PLAIN, 0)),
    "both": (lambda a: a[::-1, ::-1], flipped(flipped(PLAIN, 0), 1)),
    "transposed": (lambda a: a.T, PLAIN[:, [1, 0, 2, 3]]),
    "transposed and flipped": (lambda a: a.T[::-1], flipped(PLAIN[:, [1, 0, 2, 3]], 0)),
}


def coloured(tile: Tile, label_id: int) -> NDArray[np.bool_]:
    """Pixels of a label's colour."""
    distance = np.abs(tile.astype(int) - LABELS.colour_rgb(label_id)).sum(axis=2)
    return distance < 60


def place(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean row and column of a mask, 0..1."""
    row, column = (float(where.mean()) / TILE_PIXELS for where in np.nonzero(mask))
    return row, column


def label_map() -> NDArray[np.uint8]:
    """In the plain slice: label 1 in front on the patient's left, label 2 at the back on the right."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[6:14, 26:34] = 1
    ids[28:34, 4:10] = 2
    return ids


def draw(ids: NDArray[np.uint8], affine: NDArray[np.float64], hu: float = 0.0) -> Tile:
    """A tile of a slice of one grey."""
    return draw_tile(np.full(ids.shape, hu, np.float32), ids, affine, LABELS, "")


@pytest.mark.parametrize("name", STORED)
def test_contour_lies_where_the_label_is_for_the_patient(name: str) -> None:
    """Catches left and right, or front and back, swapped in the picture however the slice is stored."""
    turn, affine = STORED[name]
    tile = draw(np.ascontiguousarray(turn(label_map())), affine)
    assert place(coloured(tile, 1)) == pytest.approx((10 / SIDE, 30 / SIDE), abs=0.02)
    assert place(coloured(tile, 2)) == pytest.approx((31 / SIDE, 7 / SIDE), abs=0.02)


@pytest.mark.parametrize("name", STORED)
def test_picture_is_turned_with_its_contours(name: str) -> None:
    """Catches contours on an image that was turned another way."""
    turn, affine = STORED[name]
    hu = np.full((SIDE, SIDE), -100, np.float32)
    hu[label_map() == 1] = 200
    tile = draw_tile(np.ascontiguousarray(turn(hu)), np.zeros((SIDE, SIDE), np.uint8), affine, LABELS, "")
    bright = tile.astype(int).sum(axis=2) > 500
    bright[:, :30] = bright[:, -30:] = False  # the letters
    assert place(bright) == pytest.approx((10 / SIDE, 30 / SIDE), abs=0.02)


@pytest.mark.parametrize("name", STORED)
def test_letters_stay_with_the_patient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a picture that says R where the patient's left is."""
    written: list[tuple[str, int]] = []
    monkeypatch.setattr("sarco.review.sheet._write", lambda tile, text, place, size: written.append((text, place[0])))
    draw(label_map(), STORED[name][1])
    assert [text for text, x in written if x < 20 and text] == ["R"]
    assert [text for text, x in written if x > TILE_PIXELS - 30] == ["L"]


def test_letters_of_a_coronal_and_a_sagittal_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches R and L on a sagittal slice."""
    written: list[str] = []
    monkeypatch.setattr("sarco.review.sheet._write", lambda tile, text, place, size: written.append(text))
    coronal = np.array([[0, 2.0, 0, 0], [0, 0, 5, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    sagittal = np.array([[0, 0, 5, 0], [0, 2.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    draw(label_map(), coronal)
    draw(label_map(), sagittal)
    assert [text for text in written if text] == ["R", "L", "A", "P"]


def test_contour_surrounds_its_label() -> None:
    """Catches a filled area, and a contour beside its label."""
    tile = draw(label_map(), PLAIN)
    per_pixel = TILE_PIXELS / SIDE
    drawn = np.nonzero(coloured(tile, 1))
    for lines, (first, last) in zip(drawn, ((6, 14), (26, 34)), strict=True):
        assert lines.min() / per_pixel == pytest.approx(first, abs=0.3)
        assert lines.max() / per_pixel == pytest.approx(last, abs=0.3)
    middle = tile[int(8 * per_pixel) : int(12 * per_pixel), int(28 * per_pixel) : int(32 * per_pixel)]
    assert not coloured(middle, 1).any()


def test_hole_has_a_contour_of_its_own() -> None:
    """Catches outer contours only: fat inside a muscle would look like muscle."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[10:30, 10:30] = 1
    full = int(coloured(draw(ids, PLAIN), 1).sum())
    ids[16:24, 16:24] = 0
    tile = draw(ids, PLAIN)
    per_pixel = TILE_PIXELS / SIDE
    inside = coloured(tile, 1)[int(14 * per_pixel) : int(26 * per_pixel), int(14 * per_pixel) : int(26 * per_pixel)]
    assert inside.sum() > 3 * 8 * per_pixel
    assert int(coloured(tile, 1).sum()) > full + 3 * 8 * per_pixel


def test_single_pixel_is_drawn() -> None:
    """Catches small labels that vanish where the picture is smaller than the slice."""
    ids = np.zeros((1024, 1024), np.uint8)
    ids[300:304, 700:704] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[:, [1, 0, 2, 3]]
    assert place(coloured(draw(ids, affine), 1)) == pytest.approx((302 / 1024, 702 / 1024), abs=0.01)


def test_pixels_keep_their_aspect_ratio() -> None:
    """Catches a patient drawn too tall where rows and columns are not equally far apart."""
    affine = PLAIN.copy()
    affine[1, 0] = 1.0  # rows 1 mm apart, columns 2 mm
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[10:30, 10:20] = 1  # 20 mm x 20 mm
    tile = draw(ids, affine, hu=200)
    rows, columns = np.nonzero(coloured(tile, 1))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)
    lit = np.nonzero((tile.sum(axis=2) > 300).any(axis=1))[0]
    assert np.ptp(lit) == pytest.approx(TILE_PIXELS / 2, abs=3), "the slice is twice as wide as high"


def test_image_is_shown_in_a_soft_tissue_window() -> None:
    """Catches a window in which muscle and fat look alike, and air that wraps around to white."""
    hu = np.full((SIDE, SIDE), -3000, np.float32)
    hu[:, 10:20], hu[:, 20:30], hu[:, 30:] = -100, 60, 3000
    tile = draw_tile(hu, np.zeros((SIDE, SIDE), np.uint8), PLAIN, LABELS, "").astype(int)
    air, fat, muscle, metal = (int(tile[260, int((x + 0.5) / SIDE * TILE_PIXELS), 0]) for x in (5, 14, 24, 33))
    assert air == 0 and metal == 255
    assert 0 < fat < 80 and muscle - fat > 80


def test_sheet_holds_every_tile_and_the_legend() -> None:
    """Catches tiles that are cut off or drawn over each other."""
    tiles = [np.full((TILE_PIXELS, TILE_PIXELS, 3), 40 + 8 * number, np.uint8) for number in range(7)]
    sheet = contact_sheet(tiles, LABELS, "title")
    for number in range(7):
        count = int((sheet == 40 + 8 * number).all(axis=2).sum())
        assert count >= TILE_PIXELS**2
    head = sheet[: sheet.shape[0] % (TILE_PIXELS + GAP_PIXELS)]
    for label_id in LABELS.ids:
        assert coloured(head, label_id).any()


def test_legend_of_many_long_names_fits() -> None:
    """Catches names that run off the picture: every one has to start and end inside."""
    many = LabelTable({i: f"a rather long name of label {i}" for i in range(1, 40)})
    sheet = contact_sheet([np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)], many, "title")
    few = contact_sheet([np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)], LABELS, "title")
    assert sheet.shape[0] > few.shape[0] + 10 * 20
    assert (sheet[:, -3:] == 24).all(), "nothing is written over the right edge"


def test_phantom_picture_is_written(tmp_path: Path) -> None:
    """Catches a PNG with red and blue swapped."""
    phantom = make_phantom(2, PhantomOptions(n_slices=1, rows=64, columns=64))
    labels = LabelTable({1: "Muskel größer"})
    tile = draw_tile(phantom.hu[..., 0].astype(np.float32), phantom.label_map[..., 0], phantom.affine_lps, labels, "ä")
    (tmp_path / "overlay.png").write_bytes(encode_png(contact_sheet([tile], labels, "títle")))
    read = np.asarray(Image.open(tmp_path / "overlay.png"))
    assert read.dtype == np.uint8 and read.shape[2] == 3
    assert coloured(read, 1).sum() > 100
