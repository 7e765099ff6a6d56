"""Islands of a label that no neighbouring slice supports are dropped, in any order of slices, and nothing else."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.crop.slices import RestoredSlice
from sarco.prediction.islands import IslandFilter, without_islands

Ids = NDArray[np.uint8]


def with_parts(*parts: tuple[slice, slice, int]) -> Ids:
    """A slice of 12 x 12 with these rectangles."""
    ids = np.zeros((12, 12), dtype=np.uint8)
    for rows, columns, label_id in parts:
        ids[rows, columns] = label_id
    return ids


MUSCLE = slice(1, 5), slice(1, 6), 1
ISLAND = slice(8, 10), slice(8, 11), 1
OTHER = slice(8, 10), slice(1, 3), 2


def test_an_island_alone_is_dropped_and_a_supported_one_stays() -> None:
    """Catches a clean-up that drops real muscle, or leaves what one slice alone has."""
    here, plain = with_parts(MUSCLE, ISLAND, OTHER), with_parts(MUSCLE)
    np.testing.assert_array_equal(without_islands(here, plain, plain), with_parts(MUSCLE, OTHER))
    for below, above in ((here, plain), (plain, here)):
        np.testing.assert_array_equal(without_islands(here, below, above), here)


def test_support_is_of_the_same_label() -> None:
    """Catches an island of one muscle that counts as supported by another."""
    here, beside = with_parts(MUSCLE, ISLAND), with_parts(MUSCLE, (*ISLAND[:2], 2))
    np.testing.assert_array_equal(without_islands(here, beside, beside), with_parts(MUSCLE))


def test_the_largest_part_stays_where_a_muscle_begins() -> None:
    """Catches the first slice of a muscle that disappears because the one above has none yet."""
    here, nothing = with_parts(MUSCLE, ISLAND), with_parts()
    np.testing.assert_array_equal(without_islands(here, nothing, nothing), with_parts(MUSCLE))


def test_a_slice_alone_stays_as_it_is() -> None:
    """Catches a single slice that is judged by neighbours that it does not have."""
    here = with_parts(MUSCLE, ISLAND)
    np.testing.assert_array_equal(without_islands(here, None, None), here)
    np.testing.assert_array_equal(without_islands(here, None, with_parts(MUSCLE)), with_parts(MUSCLE))


@pytest.mark.parametrize("order", [[0, 1, 2, 5, 6], [6, 5, 2, 1, 0], [2, 6, 0, 5, 1]])
def test_the_order_of_arrival_is_of_no_matter(order: list[int]) -> None:
    """Catches islands that are judged by cleaned neighbours, across a gap, or that never arrive; and kept memory."""
    rng = np.random.default_rng(3)
    maps = {plane: (rng.random((20, 20)) > 0.7).astype(np.uint8) for plane in order}
    taken: dict[int, Ids] = {}

    def take(prepared: Any, restored: RestoredSlice) -> None:
        assert prepared.plane == restored.slice_index
        taken[restored.slice_index] = restored.label_map

    islands = IslandFilter(tuple(sorted(order)), take)
    given = []
    for plane in order:
        prepared: Any = SimpleNamespace(plane=plane)
        given += islands.put(prepared, RestoredSlice(plane, maps[plane], 0.9))
    assert sorted(taken) == sorted(one.slice_index for one in given) == sorted(order)
    for plane, ids in taken.items():
        np.testing.assert_array_equal(ids, without_islands(maps[plane], maps.get(plane - 1), maps.get(plane + 1)))
    assert not islands._maps and not islands._waiting, "what nobody needs any more is let go"
