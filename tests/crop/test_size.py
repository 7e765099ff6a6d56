"""The size of the crop that data chooses, against the arithmetic of its rules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.core.errors import OptionError
from sarco.core.training_options import DataOptions
from sarco.crop.body import MARGIN_MM
from sarco.crop.size import MOST_LOOKED_AT, describe_crop, measure_bodies, settle_crop
from sarco.scan.series import SliceHeader


def header(spacing_mm: tuple[float, float] = (3.0, 3.0), shape: tuple[int, int] = (160, 160)) -> SliceHeader:
    """A slice of this grid."""
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return SliceHeader(Path("x"), "1", "1", "1", "P", shape, spacing_mm, axial, (0.0, 0.0, 0.0), 1.0, "", 1)


def settled(
    bodies_mm: list[float], spacings: list[tuple[float, float]] | None = None, **typed: Any
) -> tuple[int | None, float | None, float | None]:
    """Image size, size of a pixel and field that come out."""
    images = [[header(spacing)] for spacing in spacings or [(3.0, 3.0)]]
    options = settle_crop(DataOptions(**typed), images, bodies_mm)
    assert settle_crop(options, images[:1], []) == options, "a resumed run chooses again"
    return options.image_size, options.pixel_mm, options.field_mm


def test_all_is_chosen_by_the_data() -> None:
    """Catches a pixel that is not the median's, and a field that cuts a body or is larger than need be."""
    assert settled([310, 397, 350]) == (160, 3.0, 480.0)
    assert settled([384]) == (128, 3.0, 384.0)
    assert settled([350], [(1, 1), (0.8, 0.8), (0.8, 1.25), (2, 2), (1, 1)]) == (352, 1.0, 352.0)
    assert settled([350], [(0.5, 0.8), (0.5, 0.8)])[1] == 0.75, "0.63 mm is finer than it may be"
    assert settled([350], [(5.0, 5.0)]) == (128, 3.0, 384.0)


def test_odd_data_has_a_crop_too() -> None:
    """Catches a folder without a body that cannot be trained on, and a field as large as a house."""
    assert settled([]) == (160, 3.0, 480.0), "the slice is 480 mm wide"
    assert settled([20], [(0.2, 0.2)]) == (96, 0.75, 72.0)
    assert settled([40_000]) == (352, 3.0, 1056.0)


def test_what_is_typed_stays() -> None:
    """Catches a typed value that the data overrules, and an image size that changes the field of view."""
    assert settled([397], image_size=96) == (96, pytest.approx(397 / 96), pytest.approx(397))
    assert settled([397], pixel_mm=1.5) == (288, 1.5, 432.0)
    assert settled([397], field_mm=300.0) == (128, 3.0, 384.0)
    assert settled([397], field_mm=300.0, image_size=128) == (128, 300 / 128, 300.0)
    assert settled([397], pixel_mm=2.0, image_size=128) == (128, 2.0, 256.0)
    assert settled([397], pixel_mm=2.0, image_size=128, field_mm=256.0) == (128, 2.0, 256.0)


def test_box_knows_no_millimetres() -> None:
    """Catches --crop=box that is not what it was."""
    assert settled([397], crop="box") == (512, None, None)
    assert settled([397], crop="box", image_size=96) == (96, None, None)
    for typed in ({"pixel_mm": 3.0}, {"field_mm": 400.0}):
        with pytest.raises(OptionError, match="does nothing with --crop=box"):
            DataOptions(crop="box", **typed)  # type: ignore[arg-type]


def test_contradictions_and_giants_are_refused() -> None:
    """Catches a field that is silently another one than was typed, and an image that no machine can hold."""
    with pytest.raises(OptionError, match=r"--field_mm=300: is not --image_size=128 times --pixel_mm=3"):
        DataOptions(image_size=128, pixel_mm=3.0, field_mm=300.0)
    with pytest.raises(OptionError, match=r"--pixel_mm=0\.1: a field of 397 mm would take 4000 pixels"):
        settled([397], pixel_mm=0.1)


def test_an_open_crop_predicts_nothing() -> None:
    """Catches a field of view that ends up as the body's box because nobody chose it."""
    for open_options in (DataOptions(), DataOptions(image_size=64), DataOptions(crop="box")):
        with pytest.raises(ValueError, match="not chosen"):
            _ = open_options.crop_size


def test_it_is_told_in_one_line() -> None:
    """Catches a crop that nobody knows of."""
    options = DataOptions(image_size=160, pixel_mm=3.0, field_mm=480.0)
    told = "crop: 160 x 160 pixels of 3 mm, a field of 480 mm"
    assert describe_crop(options, [300.2, 396.7]) == f"{told} (the largest body is 397 mm)"
    assert describe_crop(options, []) == f"{told} (no body was found)"
    box = replace(options, crop="box", pixel_mm=None, field_mm=None)
    assert describe_crop(box, []) == "crop: the body's box on 160 x 160 pixels"


def block(top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
    """A slice with a body of so many pixels."""
    hu = np.full((160, 160), -1000, np.float32)
    hu[top : top + height, left : left + width] = 40
    return hu


def test_bodies_are_measured_with_their_neighbours() -> None:
    """Catches a box of the middle slice alone, in which a neighbour would not fit, and boxes of air."""
    one, two, air = header(), header(), header()
    pixels = {id(one): block(20, 20, 60, 100), id(two): block(20, 40, 60, 100), id(air): block(0, 0, 0, 0)}

    def read(slice_header: SliceHeader) -> NDArray[np.float32]:
        return pixels[id(slice_header)]

    margin = 2 * MARGIN_MM
    assert measure_bodies([[one], [two], [air]], read) == pytest.approx([300 + margin] * 2, abs=6)
    assert measure_bodies([[one, one, two]], read) == pytest.approx([360 + margin], abs=6)


def test_large_data_is_not_decoded_twice() -> None:
    """Catches minutes of reading before the training begins."""
    seen = []

    def read(slice_header: SliceHeader) -> NDArray[np.float32]:
        seen.append(slice_header)
        return block(20, 20, 60, 100)

    assert len(measure_bodies([[header()] for _ in range(1000)], read)) == len(seen) == MOST_LOOKED_AT
