"""Which slice is L3: what was asked for, and never another one."""

import pytest

from sarco.core.errors import InputError, OptionError
from sarco.measurement.level import NOT_GIVEN, PlacedSlice, check_request, choose_slice, find_vertebra, unknown_level

# Slices 5 mm apart, slice 3 missing.
SLICES = [PlacedSlice(index, -420.0 + 5 * index, f"1.2.840.{index}") for index in (0, 1, 2, 4, 5, 6)]


@pytest.mark.parametrize(
    ("request_text", "index"),
    [("0", 0), ("4", 4), ("z=-410", 2), ("z=-411.9", 2), ("z=-408.1mm", 2), ("z=-390.0", 6), ("1.2.840.5", 5)],
)
def test_a_slice_is_found_by_index_place_or_uid(request_text: str, index: int) -> None:
    """Catches an index into the list of files, where a gap shifts what lies above it, and a z misread."""
    level = choose_slice(request_text, SLICES)
    assert (level.slice_index, level.slices, level.why_not) == (index, (index,), "")
    assert request_text in level.how


@pytest.mark.parametrize("request_text", ["3", "7", "99", "1.2.840.3", "z=-405", "z=-423", "z=-380", "z=412.5"])
def test_a_slice_that_is_not_there_is_an_error(request_text: str) -> None:
    """Catches the nearest, the last or the first slice measured instead of the one that was meant."""
    with pytest.raises(InputError, match="--l3="):
        choose_slice(request_text, SLICES)


def test_a_gap_is_called_a_gap() -> None:
    """Catches a message that says an index inside the series is outside of it."""
    with pytest.raises(InputError, match="a slice is missing there"):
        choose_slice("3", SLICES)


def test_midway_is_not_guessed() -> None:
    """Catches a z between two slices that falls to one of them by rounding."""
    with pytest.raises(InputError, match=r"midway between z=-41[05] and z=-41[05];"):
        choose_slice("z=-412.5", SLICES)


def test_coronal_slices_have_no_z() -> None:
    """Catches the first of many slices that share a z."""
    slices = [PlacedSlice(index, -100.0, f"1.2.{index}") for index in range(3)]
    with pytest.raises(InputError, match="share a z"):
        choose_slice("z=-100", slices)
    assert choose_slice("2", slices).slice_index == 2


def test_a_single_slice_is_chosen_where_it_is_named() -> None:
    """Catches a lone slice that is L3 unasked, or cannot be L3 at all."""
    alone = [PlacedSlice(0, 55.0, "1.2.3")]
    assert choose_slice("z=55.2", alone).slice_index == 0
    assert choose_slice("0", alone).slice_index == 0
    with pytest.raises(InputError):
        choose_slice("z=58", alone)


def test_two_slices_with_one_uid_are_not_told_apart_by_luck() -> None:
    """Catches emptied or copied UIDs that name the first of several slices."""
    slices = [PlacedSlice(index, float(index), "1.2.3") for index in range(2)]
    with pytest.raises(InputError, match="2 slices answer"):
        choose_slice("1.2.3", slices)


@pytest.mark.parametrize("text", ["", "L3", "-412.5", "z=", "z=abc", "-1", "z=1e9999x", "slice 4", "4,5"])
def test_other_forms_are_refused_before_anything_is_read(text: str) -> None:
    """Catches a bare -412.5 that is taken for an index from the end."""
    with pytest.raises(OptionError, match=r"z=-412\.5"):
        check_request(text)


def test_the_middle_of_a_vertebra() -> None:
    """Catches the first, the largest or the mean slice: half of the voxels lie on either side of the middle."""
    level = find_vertebra({4: 10, 5: 80, 6: 100, 7: 90, 8: 5}, range(20), "label 29 of v.nii.gz")
    assert level.slice_index == 6
    assert level.slices == (4, 5, 6, 7, 8)
    assert "label 29 of v.nii.gz" in level.how
    assert not level.note


def test_a_long_process_and_a_stray_voxel_move_the_middle_little() -> None:
    """Catches the middle between first and last slice, which one wrong voxel moves by many slices."""
    level = find_vertebra({0: 0, 3: 1, 10: 100, 11: 100, 12: 100, 13: 3, 14: 3, 15: 3}, range(20), "it")
    assert level.slice_index == 11
    assert "6 slices between its first and its last without any of it" in level.note


def test_a_missing_slice_inside_a_vertebra_is_no_fault_of_the_mask() -> None:
    """Catches a gap of the series count_of as a hole of the vertebra."""
    assert not find_vertebra({4: 9, 5: 9, 7: 9}, (3, 4, 5, 7, 8), "it").note


@pytest.mark.parametrize("counts", [{}, {0: 0, 1: 0, 5: 0}])
def test_without_a_vertebra_there_is_no_slice(counts: dict[int, int]) -> None:
    """Catches the argmax of an empty mask, which is 0: slice 0 measured in silence."""
    level = find_vertebra(counts, range(6), "label 29 of v.nii.gz")
    assert level.slice_index is None
    assert level.slices == ()
    assert "label 29 of v.nii.gz" in level.why_not


@pytest.mark.parametrize("counts", [{0: 50, 1: 50, 2: 50}, {4: 50, 5: 50}])
def test_a_vertebra_at_the_end_of_the_series_is_noted(counts: dict[int, int]) -> None:
    """Catches the middle of half a vertebra given as that of a whole one."""
    assert "where the series ends" in find_vertebra(counts, range(6), "it").note


def test_nothing_given_is_nothing_chosen() -> None:
    """Catches a default slice."""
    level = unknown_level()
    assert (level.slice_index, level.slices, level.why_not) == (None, (), NOT_GIVEN)
    assert level.to_builtins()["slices"] == []
