"""The endless stream: a slice is a function of its number, and people who validate train nobody."""

import multiprocessing

import numpy as np
import pytest

from sarco.anatomy.labels import INVENTED_IDS
from sarco.phantom.stream import HIGHEST_MM, LOWEST_MM, VALIDATION, InventedStream

COARSE = InventedStream(3, pixel_mm=5.0)


def hashed(number: int) -> tuple[bytes, bytes, bytes]:
    """A slice of the coarse stream, as bytes."""
    one = COARSE.draw(number)
    return one.hu.tobytes(), one.label_map.tobytes(), one.affine_lps.tobytes()


def test_a_slice_is_the_same_wherever_it_is_drawn() -> None:
    """Catches chance that a process brings along, or that depends on what was drawn before."""
    numbers = [7, 0, 2**40 + 1]
    here = [hashed(number) for number in numbers]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(hashed, numbers[::-1])[::-1]
    assert here == there
    assert len(set(here)) == 3


def test_seeds_and_parts_share_no_patient() -> None:
    """Catches a validation of people who trained, and a seed without effect."""
    streams = (COARSE, InventedStream(3, VALIDATION, 5.0), InventedStream(4, pixel_mm=5.0))
    seen = {stream.draw(number).hu.tobytes() for stream in streams for number in range(4)}
    assert len(seen) == 12


@pytest.mark.parametrize("pixel_mm", [2.5, 5.0])
def test_pixels_are_about_as_large_as_asked(pixel_mm: float) -> None:
    """Catches paint that is finer than anybody looks at, and a geometry that does not belong to the pixels."""
    for number in range(6):
        one = InventedStream(1, pixel_mm=pixel_mm).draw(number)
        spacing = np.linalg.norm(one.affine_lps[:3, :2], axis=0)
        assert one.hu.shape[1:] == one.label_map.shape and one.hu.dtype == np.int16
        assert 0.4 * pixel_mm < spacing.min() and spacing.max() < 1.5 * pixel_mm


def test_neighbours_are_of_the_same_patient_and_lie_beside_the_slice() -> None:
    """Catches three channels of three people, and a label map that is a neighbour's."""
    for number in range(4):
        three = InventedStream(3, pixel_mm=5.0, channels=3).draw(number)
        alone = COARSE.draw(number)
        assert three.hu.shape[0] == 3 and alone.hu.shape[0] == 1
        # Noise differs, because it is drawn slice after slice; the anatomy does not.
        middle, other = (each.astype(float) for each in (three.hu[1], alone.hu[0]))
        assert np.abs(middle - other).mean() < np.abs(middle - other[:, ::-1]).mean() / 2
        assert np.array_equal(three.label_map, alone.label_map)
        np.testing.assert_allclose(three.affine_lps[:3, 3], alone.affine_lps[:3, 3], atol=1e-3)
        assert not np.array_equal(three.hu[0], three.hu[1])


def test_slices_come_from_the_whole_length() -> None:
    """Catches a stream that shows L3 alone."""
    heights = np.array([COARSE.draw(number).z_mm for number in range(60)])
    counts, _ = np.histogram(heights, 4, (LOWEST_MM, HIGHEST_MM))
    assert counts.min() >= 5


def test_left_is_left() -> None:
    """Catches sides that are swapped: in LPS a patient's left has the larger x."""
    seen = 0
    for number in range(8):
        one = COARSE.draw(number)
        for muscle in ("paraspinal", "abdominal_wall", "gluteus_maximus"):
            x = []
            for side in ("left", "right"):
                rows, columns = np.nonzero(one.label_map == INVENTED_IDS[f"{muscle}_{side}"])
                x.append(
                    float((one.affine_lps[0, 0] * rows + one.affine_lps[0, 1] * columns).mean()) if len(rows) else 0
                )
            if all(x):
                seen += 1
                assert x[0] > x[1]
    assert seen > 8
