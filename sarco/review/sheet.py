"""Pictures to check a prediction with: slices in radiological view with the contours of the labels."""

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sarco.scan.geometry import Affine, spacing_mm
from sarco.scan.hu import WINDOW_HU
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, pick_evenly
from sarco.scan.view import ShownSlice, View

TILE_PIXELS = 320
GAP_PIXELS = 6
LEGEND_PIXELS = 26
SLICES_SHOWN = 20  # on a contact sheet
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (235, 235, 235)

Picture = NDArray[np.uint8]


class ContactSheet:
    """The slices of a series that are shown, evenly spread; each is drawn when it comes, in any order."""

    def __init__(self, series: Series, labels: LabelTable) -> None:
        """Starts empty.

        Args:
            series: where the slices lie.
            labels: names and colours.
        """
        self.series = series
        self.labels = labels
        self._planes = frozenset(pick_evenly(series.plane_index, SLICES_SHOWN))
        self._drawn: dict[int, tuple[ShownSlice, Picture]] = {}

    def add(self, plane: int, hu: NDArray[np.float32], label_map: NDArray[np.uint8]) -> None:
        """Takes one slice, where it is among those that are shown.

        Args:
            plane: its index in the series.
            hu: (row, column) Hounsfield units.
            label_map: (row, column) label ids.
        """
        if plane in self._planes:
            affine = self.series.plane_affine_lps(plane)
            shown = ShownSlice(hu, label_map, affine, f"slice {plane}  z {affine[2, 3]:.1f} mm")
            self._drawn[plane] = shown, draw_tile(hu, label_map, affine, self.labels, shown.caption)

    @property
    def shown(self) -> list[ShownSlice]:
        """The slices so far, in order of position."""
        return [self._drawn[plane][0] for plane in sorted(self._drawn)]

    def draw(self, title: str) -> Picture:
        """The sheet, (row, column, 3) RGB."""
        return contact_sheet([self._drawn[plane][1] for plane in sorted(self._drawn)], self.labels, title)


def draw_tile(
    hu: NDArray[np.float32], label_map: NDArray[np.uint8], affine_lps: Affine, labels: LabelTable, caption: str
) -> Picture:
    """One slice with the contours of its labels, holes included, turned as radiologists view it.

    Args:
        hu: (row, column) Hounsfield units.
        label_map: (row, column) label ids.
        affine_lps: of the slice; decides what is left, what is up, and the aspect ratio.
        labels: names and colours.
        caption: written at the top.

    Returns:
        (TILE_PIXELS, TILE_PIXELS, 3) RGB.
    """
    row_mm, column_mm, _ = spacing_mm(affine_lps)
    view = View.of(affine_lps)
    hu, label_map = view.turn(hu[None])[0], view.turn(label_map[None])[0]
    row_mm, column_mm = view.turn_pair(row_mm, column_mm)
    height_mm, width_mm = hu.shape[0] * row_mm, hu.shape[1] * column_mm
    per_mm = TILE_PIXELS / max(height_mm, width_mm)
    size = max(1, round(width_mm * per_mm)), max(1, round(height_mm * per_mm))
    low, high = WINDOW_HU
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    shrinks = size[0] < hu.shape[1]
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    for label_id in labels.ids:
        mask = (label_map == label_id).astype(np.uint8)
        if not mask.any():
            continue
        large = cv2.resize(mask * 255, size, interpolation=cv2.INTER_LINEAR) > 127
        contours, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, labels.colour_rgb(label_id), 1, cv2.LINE_AA)
        for (column, row), *others in (contour[:, 0] for contour in contours):
            if not others:  # OpenCV draws nothing where a contour is a single point
                picture[row, column] = labels.colour_rgb(label_id)
    tile = np.zeros((TILE_PIXELS, TILE_PIXELS, 3), dtype=np.uint8)
    top, left = (TILE_PIXELS - size[1]) // 2, (TILE_PIXELS - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = picture
    _write(tile, caption, (6, 14), 0.4)
    edges = view.edges(affine_lps)
    _write(tile, edges["left"], (5, TILE_PIXELS // 2), 0.5)
    _write(tile, edges["right"], (TILE_PIXELS - 16, TILE_PIXELS // 2), 0.5)
    return tile


def contact_sheet(tiles: Sequence[Picture], labels: LabelTable, title: str) -> Picture:
    """Tiles in a grid under a line with the title and the colours of the labels; RGB."""
    columns = max(1, min(5, int(np.ceil(np.sqrt(len(tiles) * 1.3)))))
    rows = -(-len(tiles) // columns)
    step = TILE_PIXELS + GAP_PIXELS
    legend_lines = _legend_lines(labels, columns * step)
    top = LEGEND_PIXELS * (1 + len(legend_lines))
    sheet = np.full((top + rows * step, columns * step, 3), 24, dtype=np.uint8)
    _write(sheet, title, (8, 18), 0.45)
    for line, entries in enumerate(legend_lines, start=1):
        for x, label_id in entries:
            _write(sheet, labels.names[label_id], (x, 18 + line * LEGEND_PIXELS), 0.45, labels.colour_rgb(label_id))
    for place, tile in enumerate(tiles):
        y, x = top + (place // columns) * step, (place % columns) * step
        sheet[y : y + TILE_PIXELS, x : x + TILE_PIXELS] = tile
    return sheet


def _legend_lines(labels: LabelTable, width: int) -> list[list[tuple[int, int]]]:
    """Label ids with their x, broken into lines that fit."""
    lines: list[list[tuple[int, int]]] = [[]]
    x = 8
    for label_id, name in labels.names.items():
        length = cv2.getTextSize(name, _FONT, 0.45, 1)[0][0] + 18
        if x + length > width and lines[-1]:
            lines.append([])
            x = 8
        lines[-1].append((x, label_id))
        x += length
    return lines


def _write(picture: Picture, text: str, place: tuple[int, int], size: float, colour: Any = _WHITE) -> None:
    readable = text.encode("ascii", "replace").decode()  # OpenCV's font knows ASCII only
    shadow = (place[0] + 1, place[1] + 1)
    cv2.putText(picture, readable, shadow, _FONT, size, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(picture, readable, place, _FONT, size, colour, 1, cv2.LINE_AA)


def encode_png(picture: Picture) -> bytes:
    """An RGB picture as a PNG file; compressed less than it could be, because that takes a tenth of the time."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=2)
    return file.getvalue()
