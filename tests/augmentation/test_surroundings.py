"""Arms, table, metal and cuts: where they may lie, and what becomes of the labels there."""

from dataclasses import replace

import numpy as np
import pytest
from augmented import geometry
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.augmentation.draws import Augmentation
from sarco.augmentation.surroundings import add_surroundings, cut_view, find_outline
from sarco.scan.hu import AIR_HU

SIDE = 160
PIXEL_MM = 3.0
BODY = (30, 118, 40, 122)  # first and last row and column
SEEDS = st.integers(0, 2**31)


def scene(seed: int, *parts: str) -> Augmentation:
    """These parts and nothing else."""
    return replace(geometry(np.eye(2)), noise_seed=seed, scene=frozenset(parts))


def trunk(channels: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """An ellipse of fat with two lungs and a spine, and a muscle of label 2 behind; much air around."""
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def ellipse(row: float, column: float, high: float, wide: float) -> NDArray[np.bool_]:
        return ((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 <= 1

    hu = np.full((SIDE, SIDE), -1000.0, np.float32)
    hu[ellipse(74, 81, 44, 41)] = -100
    hu[ellipse(66, 60, 14, 12) | ellipse(66, 102, 14, 12)] = -850
    hu[ellipse(92, 81, 9, 9)] = 400
    label = np.zeros((SIDE, SIDE), np.int16)
    label[ellipse(106, 70, 7, 8)] = 2
    hu[label == 2] = 50
    return np.repeat(hu[None], channels, axis=0), label


def body() -> NDArray[np.bool_]:
    """The trunk with its lungs."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return ((rows - 74) / 44) ** 2 + ((columns - 81) / 41) ** 2 <= 1


def test_outline_is_the_body_without_its_air() -> None:
    """Catches lungs taken for air around the body, and a box that is off."""
    hu, _ = trunk()
    hu[0, 140:142, 10:150] = 100  # a table
    outline = find_outline(hu[0])
    assert outline is not None
    assert np.abs(np.array([outline.top, outline.bottom - 1, outline.left, outline.right - 1]) - BODY).max() <= 1
    inside = outline.inside(hu[0])
    assert inside[body()].mean() > 0.999 and not inside[:25].any()
    assert find_outline(np.full((SIDE, SIDE), -1000, np.float32)) is None


@given(SEEDS, st.sampled_from([("arms",), ("table",), ("arms", "table")]))
def test_arms_and_table_lie_in_the_air_around_the_body(seed: int, parts: tuple[str, ...]) -> None:
    """Catches an arm painted over the trunk or into a lung, and labels that move with it."""
    hu, label = trunk(channels=3)
    found, labels = add_surroundings(hu, label, scene(seed, *parts), PIXEL_MM)
    assert np.array_equal(labels, label)
    assert np.array_equal(found[:, body()], hu[:, body()])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    changed = np.argwhere((found != hu)[0] & (found[0] > -250))
    if parts == ("table",) and len(changed):
        assert changed[:, 0].max() > BODY[1] - 5


def test_arms_have_skin_muscle_and_bone_of_their_size() -> None:
    """Catches arms of pixels instead of millimetres, and arms that never come."""
    hu, label = trunk()
    areas = []
    for seed in range(40):
        added = add_surroundings(hu, label, scene(seed, "arms"), PIXEL_MM)[0][0]
        new = (added > -300) & ~body()
        areas.append(new.sum() * PIXEL_MM**2 / 100)
        assert added[new].max() > 300 and (new & (added > 0) & (added < 90)).sum() > 10
        assert (new & (added > -130) & (added < -70)).any()
    assert 15 < np.median(areas) < 160  # cm2, one arm or two
    half = [
        np.count_nonzero((add_surroundings(hu, label, scene(seed, "arms"), 2 * PIXEL_MM)[0][0] > -300) & ~body())
        for seed in range(40)
    ]
    assert np.median(half) * PIXEL_MM**2 / 100 < 0.5 * np.median(areas)


def test_a_table_lies_below_the_body_and_is_seen() -> None:
    """Catches a table above the patient, and shells of air."""
    hu, label = trunk()
    below = 0
    for seed in range(20):
        added = add_surroundings(hu, label, scene(seed, "table"), 1.0)[0][0]
        rows = np.flatnonzero(((added > -250) & ~body()).any(axis=1))
        below += len(rows) > 0
        assert len(rows) == 0 or rows.max() >= BODY[1] - 2
    assert below > 15


@given(SEEDS)
def test_streaks_go_through_the_metal_both_ways(seed: int) -> None:
    """Catches streaks that start elsewhere, that are one-sided, or that shift the mean."""
    hu, label = trunk(channels=3)
    found, labels = add_surroundings(hu, label, scene(seed, "metal"), PIXEL_MM)
    metal = found[0] >= 1900
    assert metal.any() and (metal <= body()).all()
    assert (hu[0][metal] == 400).mean() > 0.2  # it lies in the spine
    centre = np.argwhere(metal).mean(axis=0)
    streaks = np.where(body() & ~metal & (hu[0] < 300), found[0] - hu[0], 0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - centre[0], columns - centre[1])
    near, far = ((distance > low) & (distance < low + 8) & body() for low in (8, 28))
    assert streaks[near].std() > streaks[far].std() > 1
    assert abs(streaks[near].mean()) < streaks[near].std()
    assert (labels[metal] == 0).all() and np.array_equal(labels[~metal], label[~metal])


@given(SEEDS)
def test_streaks_are_alike_on_both_sides_of_the_metal(seed: int) -> None:
    """Catches rays that end at the metal: a beam passes it and is wrong before it and behind it."""
    hu = np.full((1, SIDE, SIDE), 40.0, np.float32)
    found = add_surroundings(hu, np.zeros((SIDE, SIDE), np.int16), scene(seed, "metal"), PIXEL_MM)[0][0]
    row, column = np.rint(np.argwhere(found >= 1900).mean(axis=0)).astype(int)
    for down, right in ((9, 4), (-5, 8), (3, 11)):
        places = [(row + down, column + right), (row - down, column - right)]
        if np.min(places) >= 0 and np.max(places) < SIDE:
            assert found[places[0]] == pytest.approx(found[places[1]], abs=0.1)


def test_metal_takes_no_label() -> None:
    """Catches clips inside a muscle that count as muscle."""
    hu, label = trunk()
    label[body()] = 2
    found, labels = add_surroundings(hu, label, scene(1, "metal"), PIXEL_MM)
    assert np.array_equal(found, hu) and np.array_equal(labels, label)


@given(SEEDS)
def test_a_cut_leaves_air_and_background(seed: int) -> None:
    """Catches labels where there is nothing to see, and changes of what is still seen."""
    hu, label = trunk(channels=3)
    found, labels = cut_view(hu, label, scene(seed, "cut"))
    cut = (found[0] == AIR_HU) & (hu[0] != AIR_HU)
    assert (found[:, cut] == AIR_HU).all() and (labels[cut] == 0).all()
    assert np.array_equal(found[:, ~cut], hu[:, ~cut]) and np.array_equal(labels[~cut], label[~cut])
    assert (cut & body()).sum() < 0.6 * body().sum()


def test_cuts_do_cut() -> None:
    """Catches fields of view that always hold the whole body, or never."""
    hu, label = trunk()
    lost = []
    for seed in range(60):
        found, _ = cut_view(hu, label, scene(seed, "cut"))
        lost.append(float(((found[0] == AIR_HU) & body()).sum() / body().sum()))
    assert np.mean(np.array(lost) > 0.01) > 0.6 and np.median(lost) < 0.25


def test_unlabelled_pixels_become_background_only_where_they_are_cut_away() -> None:
    """Catches pixels that nobody looked at and that a cut makes background in sight."""
    hu, label = trunk()
    label[:] = -1
    found, labels = cut_view(hu, label, scene(3, "cut"))
    assert set(np.unique(labels)) == {-1, 0} and np.array_equal(labels == 0, found[0] == AIR_HU)


@pytest.mark.parametrize("parts", [("arms", "table", "metal"), ("cut",)])
def test_a_slice_of_air_stays_air(parts: tuple[str, ...]) -> None:
    """Catches slices beyond the patient that end a training."""
    hu, label = np.full((1, SIDE, SIDE), -1000, np.float32), np.zeros((SIDE, SIDE), np.int16)
    found, labels = (cut_view if "cut" in parts else add_surroundings)(
        hu, label, scene(0, *parts), *([] if "cut" in parts else [PIXEL_MM])
    )
    assert np.array_equal(found, hu) and np.array_equal(labels, label)
