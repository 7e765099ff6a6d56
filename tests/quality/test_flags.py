"""Each flag on a phantom that has exactly this fault, none on clean ones, and the faults of real series."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crops import crops
from numpy.typing import NDArray

from sarco.crop.body import find_body
from sarco.crop.grid import box_side_mm
from sarco.io.dicom import find_series, read_series
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom
from sarco.quality.flags import Flag, SeriesQuality
from sarco.quality.likeness import measure_training
from sarco.quality.limits import LIMITS

GRID = {"n_slices": 3, "rows": 160, "columns": 160, "arms": False}
Slices = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def statistics() -> dict[str, Any]:
    """Of 40 slices of phantoms that no test looks at."""
    parts = [crops(make_phantom(1000 + seed, PhantomOptions(**GRID)), 96) for seed in range(14)]
    return measure_training(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def judge(
    phantom: Phantom,
    statistics: dict[str, Any] | None = None,
    change: Callable[[NDArray[np.float32], NDArray[np.uint8]], Slices] | None = None,
    planes: tuple[int, ...] = (0, 1, 2),
    confidence: float = 0.96,
    **series: Any,
) -> tuple[Flag, ...]:
    """Flags of a phantom whose slices were changed."""
    quality = SeriesQuality(statistics)
    for place in (2, 0, 1):  # the order of arrival is not the order in space
        hu, ids = phantom.hu[..., place].astype(np.float32), phantom.label_map[..., place].copy()
        hu, ids = change(hu, ids) if change and place != 1 else (hu, ids)
        quality.add(planes[place], hu, ids, phantom.affine_lps, confidence if place != 1 else 0.97)
    return quality.flags(**{"n_planes": 3, "step_mm": 4.0, "thickness_mm": 4.0, **series})


def centre_of(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The middle of a mask."""
    rows, columns = np.nonzero(mask)
    return int(rows.mean()), int(columns.mean())


def names(flags: tuple[Flag, ...]) -> list[str]:
    """The flags' names."""
    return [flag.name for flag in flags]


@pytest.mark.parametrize("seed", range(12))
def test_clean_phantoms_have_no_flag(seed: int, statistics: dict[str, Any]) -> None:
    """Catches flags that cry at everything, after which nobody looks any more."""
    assert judge(make_phantom(seed, PhantomOptions(**GRID)), statistics) == ()


def cut_fat(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """The field of view ends in the fat of one side: 12 mm of body are gone, and labels near the edge."""
    first = np.flatnonzero((hu > -300).any(axis=0) & (np.count_nonzero(hu > -300, axis=0) > 40))[0] + 4
    ids[:, : first + 6] = 0
    return hu[:, first:], ids[:, first:]


def cut_muscle(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """The field of view ends in the muscle of one side."""
    first = int(np.flatnonzero(ids.any(axis=0))[0]) + 4
    return hu[:, first:], ids[:, first:]


def cut_round(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """A round field of view that is too small."""
    rows, columns = np.indices(hu.shape)
    muscle_columns = np.flatnonzero(ids.any(axis=0))
    side = int(np.ptp(muscle_columns)) - 8  # picture and circle are this wide
    top = centre_of(ids > 0)[0] - side // 2
    left = int(muscle_columns.mean()) - side // 2
    hu, ids = hu[top : top + side, left : left + side].copy(), ids[top : top + side, left : left + side].copy()
    rows, columns = np.indices(hu.shape)
    outside = np.hypot(rows - (side - 1) / 2, columns - (side - 1) / 2) > side / 2
    hu[outside], ids[outside] = -3024, 0
    return hu, ids


def add_metal(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """A screw of 5 x 5 pixels in the vertebra, where no muscle is."""
    row, column = centre_of((hu > 350) & (ids == 0))
    ids[row - 3 : row + 4, column - 3 : column + 4] = 0
    hu[row - 2 : row + 3, column - 2 : column + 3] = 3000
    return hu, ids


def take_bone(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """The mask ran over into bone."""
    ids[hu > 350] = 1
    return hu, ids


def take_air(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """The mask ran over into the air before the body."""
    row = int(np.flatnonzero((hu > -300).any(axis=1))[0])
    ids[row - 8 : row - 2, 60:100] = 1
    return hu, ids


def scatter(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """Specks of 2 x 2 pixels all over the body's fat and organs."""
    free = (hu > -250) & (hu < 200)
    for row in range(10, 150, 7):
        for column in range(10, 150, 7):
            if (
                free[row : row + 2, column : column + 2].all()
                and not ids[row - 2 : row + 4, column - 2 : column + 4].any()
            ):
                ids[row : row + 2, column : column + 2] = 1
    return hu, ids


def brighten(hu: NDArray[np.float32], ids: NDArray[np.uint8]) -> Slices:
    """All tissue 150 HU too bright, as with a wrong calibration."""
    return np.where(hu > -300, hu + 150, hu).astype(np.float32), ids


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (cut_fat, ["body_cut"]),
        (cut_muscle, ["body_cut", "mask_at_edge"]),
        (cut_round, ["body_cut", "mask_at_edge"]),
        (add_metal, ["metal"]),
        (take_bone, ["bone_in_mask"]),
        (take_air, ["air_in_mask"]),
        (scatter, ["scattered"]),
        (brighten, ["unlike_training"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("seed", [2, 5, 9])
def test_a_fault_of_two_slices_has_its_flag(
    change: Callable[[NDArray[np.float32], NDArray[np.uint8]], Slices],
    expected: list[str],
    seed: int,
    statistics: dict[str, Any],
) -> None:
    """Catches a fault that is missed, that sets off other flags, or that is charged to the sound slice between."""
    phantom = make_phantom(seed, PhantomOptions(**GRID))
    used = statistics if change is brighten else None  # a cut body is unlike others too, and rightly so
    flags = judge(phantom, used, change)
    assert names(flags) == expected
    for flag in flags:
        assert flag.slices == (0, 2)
        assert flag.numbers["n_slices"] == 2 and "2 slices" in flag.reason
        assert flag.reason and "\n" not in flag.reason and all(np.isfinite(list(flag.numbers.values())))
        assert json.loads(json.dumps(flag.to_builtins())) == flag.to_builtins()


def test_figures_of_a_flag_are_those_of_the_fault() -> None:
    """Catches a flag that says something else than was found."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    pixel_cm2 = float(np.prod(np.linalg.norm(phantom.affine_lps[:3, :2], axis=0))) / 100
    metal = judge(phantom, change=add_metal)[0]
    assert metal.numbers["largest_metal_cm2"] == pytest.approx(25 * pixel_cm2)
    hu, ids = take_bone(phantom.hu[..., 0].astype(np.float32), phantom.label_map[..., 0].copy())
    bone = judge(phantom, change=lambda *_: (hu, ids))[0]
    assert bone.numbers["largest_share"] == pytest.approx(float((hu[ids > 0] > 300).mean()))
    unsure = judge(phantom, confidence=0.5)[0]
    assert (unsure.name, unsure.slices, unsure.numbers["lowest_confidence"]) == ("low_confidence", (0, 2), 0.5)
    assert judge(phantom, confidence=LIMITS["confidence"].value) == ()


def test_a_body_that_the_network_saw_much_smaller_is_told() -> None:
    """Catches a large patient, shown at a scale that training never had, whose mask is trusted like any other."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    row_mm, column_mm, _ = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    bodies = [find_body(phantom.hu[..., k].astype(np.float32), (row_mm, column_mm)) for k in range(3)]
    largest_mm = max(box_side_mm(body.box, (row_mm, column_mm)) for body in bodies)
    for field_mm, factor in ((None, 1.0), (largest_mm / 1.37, 1.375), (largest_mm / 1.45, 1.5), (largest_mm / 1.9, 2)):
        quality = SeriesQuality(field_mm=field_mm)
        for place in range(3):
            hu = phantom.hu[..., place].astype(np.float32)
            quality.add(place, hu, phantom.label_map[..., place], phantom.affine_lps)
        flags = quality.flags(n_planes=3, step_mm=4.0, thickness_mm=4.0)
        assert names(flags) == ["wider_than_field"] * (factor > LIMITS["field_factor"].value)
        for flag in flags:
            assert flag.numbers["largest_factor"] == factor and f"{field_mm:.0f} mm" in flag.reason
            assert f"{factor:g} times smaller" in flag.reason


@pytest.mark.parametrize("seed", [1, 7, 11, 15])
def test_arms_have_their_flag(seed: int) -> None:
    """Catches arms that go unseen, or that make the body count as cut where they leave the picture."""
    phantom = make_phantom(seed, PhantomOptions(**{**GRID, "arms": True}))
    flags = judge(phantom)
    assert names(flags) == ["arms"]
    assert flags[0].slices == (0, 1, 2)


def test_what_the_series_lacks() -> None:
    """Catches gaps, odd steps, thick slices and a missing L3 that nobody is told of, and gaps at wrong places."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    flags = judge(phantom, planes=(0, 1, 5), n_planes=6, gaps=[2, 3, 4])
    assert [(flag.name, flag.slices) for flag in flags] == [("gaps", (2, 3, 4))]
    assert flags[0].numbers == {"n_missing": 3, "missing_mm": 12.0}
    assert judge(phantom, step_mm=5.0, thickness_mm=5.0) == ()
    assert judge(phantom, thickness_mm=None) == ()
    for thick in ({"step_mm": 7.5}, {"thickness_mm": 8.0}):
        flags = judge(phantom, **thick)
        assert names(flags) == ["thick_slices"]
        assert thick.items() <= flags[0].numbers.items()
    flags = judge(phantom, n_planes=1, thickness_mm=None, step_mm=1.0)
    assert names(flags) == ["no_thickness"]
    flags = judge(phantom, step_doubts=["slices of 5 mm lie 0.5 mm apart"])
    assert names(flags) == ["doubtful_step"]
    assert "0.5 mm apart" in flags[0].reason
    flags = judge(phantom, l3_missing="give --l3 or --vertebrae")
    assert names(flags) == ["no_l3"]
    assert "give --l3 or --vertebrae" in flags[0].reason


@pytest.mark.parametrize(("by", "n_told"), [(100.0, 2), (-700.0, 2), (50.0, 1), (0.0, 0)])
def test_slices_on_another_scale_are_told(by: float, n_told: int) -> None:
    """Catches a slice whose values are moved, in a series whose headers say nothing of it."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    quality = SeriesQuality()
    for k in range(3):
        hu = phantom.hu[..., k].astype(np.float32) + (by if k < max(n_told, 1) else 0)
        quality.add(k, hu, phantom.label_map[..., k], phantom.affine_lps, 0.97)
    found = [flag for flag in quality.flags(n_planes=3, step_mm=4) if flag.name == "doubtful_hu"]
    assert [flag.slices for flag in found] == ([tuple(range(n_told))] if n_told else [])
    doubt = "off the scale of HU: air lies at -900 HU"
    told = quality.flags(n_planes=3, step_mm=4, doubts=[doubt])
    assert sum(flag.name == "doubtful_hu" for flag in told) == (2 if by == 50 else 1)


def test_an_intercept_that_counts_twice_is_told() -> None:
    """Catches a body at -1000 HU, where a network finds whatever it likes."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    flags = judge(phantom, change=lambda hu, ids: (np.clip(hu, -1024, 1000) - 1024, ids), planes=(0, 1, 2))
    assert "no_tissue" not in names(flags)  # the middle slice is sound
    quality = SeriesQuality()
    for k in range(3):
        hu = np.clip(phantom.hu[..., k].astype(np.float32), -1024, 1000) - 1024
        quality.add(k, hu, phantom.label_map[..., k], phantom.affine_lps, 0.97)
    assert {"no_tissue", "body_size"} <= set(names(quality.flags(n_planes=3, step_mm=4)))


def test_a_prediction_of_nothing_is_no_sound_one() -> None:
    """Catches an area of 0 that passes without a word; a single slice without muscle is nothing odd."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    hu, ids = phantom.hu.astype(np.float32), phantom.label_map
    for kept, expected in (((), ["empty_mask"]), ((1,), [])):
        quality = SeriesQuality()
        for k in range(3):
            quality.add(k, hu[..., k], ids[..., k] * np.uint8(k in kept), phantom.affine_lps, 0.96)
        assert names(quality.flags(n_planes=3, step_mm=3)) == expected


def test_what_was_not_checked_is_said(statistics: dict[str, Any]) -> None:
    """Catches silence taken for soundness, where a checkpoint or a mask brings nothing to compare with."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    for stored, confidence, unchecked in (
        (statistics, 0.9, []),
        (None, 0.9, ["unlike_training"]),
        (statistics, None, ["low_confidence"]),
    ):
        quality = SeriesQuality(stored)
        quality.add(0, phantom.hu[..., 0], phantom.label_map[..., 0], phantom.affine_lps, confidence)
        assert [line.partition(":")[0] for line in quality.unchecked()] == unchecked


def test_a_few_odd_slices_make_no_series_odd(statistics: dict[str, Any]) -> None:
    """Catches a long series that is always flagged because of its ends."""
    phantom = make_phantom(2, PhantomOptions(**GRID))
    hu, ids = phantom.hu[..., 0].astype(np.float32), phantom.label_map[..., 0]
    for odd, expected in ((1, []), (3, ["unlike_training"])):
        quality = SeriesQuality(statistics)
        for k in range(20):
            quality.add(k, brighten(hu, ids)[0] if k < odd else hu, ids, phantom.affine_lps)
        assert names(quality.flags(n_planes=20, step_mm=3)) == expected


def test_real_series_are_flagged_for_what_they_show(shared_data: Path) -> None:
    """Catches flags that know phantoms only: B has arms beside it, A a hip nail and a body wider than the picture."""
    found: dict[str, tuple[Flag, ...]] = {}
    volume = read_label_map(shared_data / "muscle_groups" / "A.nii.gz")
    for name, folder in (("A", "muscle_groups/A"), ("B", "paraspinal_pairs/B")):
        series = find_series(shared_data / folder).series[0]
        hu, quality = read_series(series), SeriesQuality()
        for header, plane in zip(series.slices, series.plane_index, strict=True):
            labels = volume if name == "A" else read_label_map(header.path.with_suffix(".nii.gz"))
            affine = series.plane_affine_lps(plane)
            quality.add(plane, hu[..., plane], labels.on_slice(affine, header.shape, header.path), affine)
        found[name] = quality.flags(n_planes=series.n_planes, gaps=series.missing_planes, step_mm=2.0)
    assert names(found["B"]) == ["arms"]
    assert found["B"][0].slices == tuple(range(20))
    assert names(found["A"]) == ["body_cut", "metal"]
    assert found["A"][1].slices == tuple(range(16)), "the nail reaches up to there"
