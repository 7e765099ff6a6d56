"""Styles that real slices lend to invented ones, held against series whose HU and noise are known.

What stands for real CT are phantoms that were painted over: each tissue has one HU, and noise of known deviation lies
on it. Their pixels lie on those of the crop, so that nothing in between changes the noise.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.anatomy.labels import INVENTED_LABELS, MUSCLE_NAMES, ids_of
from sarco.batches.invented import InventedCrops
from sarco.batches.style import LENT_SHARE, MOST_LENDERS, Style, find_styles, lend_style, measure_style
from sarco.core.errors import InputError
from sarco.core.training_options import DataOptions
from sarco.io.nifti import write_volume
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.scan.labels import LabelTable

PIXEL_MM, SIDE = 1.5, 320
OPTIONS = DataOptions(image_size=SIDE, pixel_mm=PIXEL_MM)
TABLE = LabelTable(INVENTED_LABELS)
MUSCLE, FAT = ids_of(MUSCLE_NAMES), ids_of(("subcutaneous_fat", "visceral_fat"))
NAME = "Doe^Jane"


def noise_of(shape: tuple[int, ...], deviation: float, blur_px: float, seed: int) -> NDArray[np.float32]:
    """Gaussian noise of this deviation in each slice, blurred so that neighbours are alike."""
    found = np.empty(shape, np.float32)
    for index, white in enumerate(np.random.default_rng(seed).standard_normal(shape[::-1], dtype=np.float32)):
        grain = cv2.GaussianBlur(white.T, (0, 0), blur_px) if blur_px else white.T
        found[..., index] = grain * (deviation / grain.std())
    return found


def painted_over(
    seed: int = 3, fat_hu: float = -110, muscle_hu: float = 60, deviation: float = 0, blur_px: float = 0.6, n: int = 4
) -> Phantom:
    """A phantom around L3 whose muscles and fat have one HU each; the rest of the body has 45, bone 300."""
    options = PhantomOptions(n, 256, 280, spacing_mm=(PIXEL_MM, PIXEL_MM, 8.0), labels="all", arms=False)
    phantom = make_phantom(seed, options)
    hu = np.where(phantom.label_map > 0, np.float32(300), np.float32(-1000))
    for ids, value in ((FAT, fat_hu), (MUSCLE, muscle_hu), (ids_of(["body"]), 45)):
        hu[np.isin(phantom.label_map, ids)] = value
    hu += noise_of(hu.shape, deviation, blur_px, seed)
    return replace(phantom, hu=np.rint(hu).astype(np.int16))


def on_crop(phantom: Phantom) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """A slice of it in the middle of an (S, S) image, and where muscle and fat lie with no other tissue near."""
    image, ids = np.full((SIDE, SIDE), -1000, np.float32), np.zeros((SIDE, SIDE), np.uint8)
    place = slice(20, 20 + phantom.hu.shape[0]), slice(20, 20 + phantom.hu.shape[1])
    image[place], ids[place] = phantom.hu[..., 1], phantom.label_map[..., 1]
    muscle, fat = (cv2.erode(np.isin(ids, kind).astype(np.uint8), np.ones((5, 5))) > 0 for kind in (MUSCLE, FAT))
    return image, muscle, fat


def neighbours(noise: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """The correlation of pixels with those to their right."""
    both = where[:, 1:] & where[:, :-1]
    return float(np.corrcoef(noise[:, 1:][both], noise[:, :-1][both])[0, 1])


def lent(image: NDArray[np.float32], styles: tuple[Style, ...]) -> NDArray[np.float32]:
    """The image with a style, whatever the draw of those that stay as they are says."""
    for seed in range(50):
        found = lend_style(image[None], styles, np.random.default_rng(seed), PIXEL_MM)[0]
        if not np.array_equal(found, image):
            return found
    raise AssertionError("nothing was lent")


def peak_of(hu: NDArray[np.int16]) -> int:
    """Where most of the values lie, within 12 HU."""
    counts = np.bincount(hu[(hu > -200) & (hu < 200)].astype(np.int64) + 200, minlength=400)
    return int(np.convolve(counts, np.ones(12), "same").argmax()) - 200


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real person: fat at -110 HU, muscle at 60, noise of 15 HU."""
    folder = tmp_path_factory.mktemp("style") / "scans"
    write_series(painted_over(deviation=15), folder / "a", patient_id=NAME, seed=1)
    return folder


@pytest.mark.parametrize(("deviation", "blur_px"), [(8, 0.6), (15, 0.6), (30, 0.6), (15, 0.0), (15, 0.7)])
@pytest.mark.parametrize("own", [0.0, 5.0])
def test_tissues_and_noise_become_those_of_the_series(
    tmp_path: Path, deviation: float, blur_px: float, own: float
) -> None:
    """Catches tissues beside their place (3 HU), noise too strong or weak (10 %) or of another grain (0.12)."""
    real = painted_over(deviation=deviation, blur_px=blur_px)
    write_series(real, tmp_path / "scans", patient_id=NAME, seed=1)
    styles, line = find_styles(tmp_path / "scans", OPTIONS.crop_size)
    assert "from 4 slices of 1 series" in line and NAME not in line
    image, muscle, fat = on_crop(painted_over(5, -95, 35, own))
    found = lent(image, styles)
    expected = on_crop(real)
    for where, value, reference in ((muscle, 60, expected[1]), (fat, -110, expected[2])):
        assert np.median(found[where]) == pytest.approx(value, abs=3)
        assert found[muscle].std() == pytest.approx(deviation, rel=0.1)
        assert abs(neighbours(found, where) - neighbours(expected[0], reference)) < 0.12


def test_a_noisier_slice_stays_noisier() -> None:
    """Catches noise that is added where there is more than enough."""
    image, muscle, _ = on_crop(painted_over(5, deviation=30))
    calm = measure_style(on_crop(painted_over(deviation=8))[0], PIXEL_MM)
    assert calm is not None
    assert 24 < lent(image, (calm,))[muscle].std() <= 31


STYLES = {
    "fatty muscle": Style((-120, -110, -100), (1, 5, 40), 0, 0),
    "contrast in every organ": Style((-100, -95, -90), (100, 140, 158), 0, 0),
    "fat that is hardly fat": Style((-60, -52, -51), (50, 60, 70), 0, 0),
    "all alike": Style((-100, -100, -100), (50, 50, 50), 0, 0),
}


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("own", [(-95, 35, 4), (-60, 3, 0), (-150, 150, 12)])
def test_the_order_of_hu_never_changes(name: str, own: tuple[float, float, float]) -> None:
    """Catches muscle that becomes fat, and fat that becomes muscle, where other tissue prevails; metal that fades."""
    image, _, _ = on_crop(painted_over(5, *own))
    image[0] = np.linspace(-3024, 4000, SIDE)  # whatever may stand in a slice
    image[1] = np.linspace(-200, 200, SIDE)
    found = lent(image, (STYLES[name],))
    order = np.argsort(image, axis=None, kind="stable")
    before, after = image.ravel()[order], found.ravel()[order]
    steps, moved = np.diff(before), np.diff(after)
    assert (moved >= 0).all() and (moved[(steps >= 1) & (before[1:] < 4000)] > 0).all()
    assert np.array_equal(found > -30, image > -30)
    beyond = (image < -300) | (image > 400)
    assert found[beyond] == pytest.approx(image[beyond], abs=0.01)


def test_slices_are_the_same_in_any_order_and_half_stay_as_painted(scans: Path) -> None:
    """Catches a stream that depends on what was drawn before, labels that move, and a stream of one scanner alone."""
    coarse = DataOptions(image_size=160, pixel_mm=3.0)
    styles, _ = find_styles(scans, coarse.crop_size)
    plain, one, two = (InventedCrops(coarse, TABLE, 7, styles=given) for given in ((), styles, styles))
    numbers = range(24)
    first = [one.take(number) for number in numbers]
    again = [two.take(number) for number in reversed(numbers)][::-1]
    painted = [plain.take(number) for number in numbers]
    for mine, other, before in zip(first, again, painted, strict=True):
        assert np.array_equal(mine[0], other[0]) and np.array_equal(mine[1], other[1])
        assert np.array_equal(mine[1], before[1]) and mine[0].dtype == before[0].dtype
    same = sum(np.array_equal(mine[0], before[0]) for mine, before in zip(first, painted, strict=True))
    assert LENT_SHARE == 0.5 and 6 <= same <= 18


def test_invented_slices_look_like_the_series(scans: Path) -> None:
    """Catches a style that holds for flat pictures alone: mostly within 8 HU, as median within 6 HU and 10 %."""
    styles, _ = find_styles(scans, OPTIONS.crop_size)
    plain, styled = InventedCrops(OPTIONS, TABLE, 7), InventedCrops(OPTIONS, TABLE, 7, styles=styles)
    places, noise = [], []
    for number in range(24):
        image, ids = styled.take(number)
        before = plain.take(number)[0]
        if np.array_equal(image, before):
            continue
        smooth = cv2.medianBlur(image[0], 5)
        places.append([peak_of(smooth[np.isin(ids, kind)]) for kind in (MUSCLE, FAT)])
        own, now = (measure_style(one[0].astype(np.float32), PIXEL_MM) for one in (before, image))
        assert own and now
        if own.noise_hu < styles[0].noise_hu:
            noise.append(now.noise_hu / styles[0].noise_hu)
    assert len(places) >= 6 and len(noise) >= 4
    assert np.median(places, axis=0) == pytest.approx([60, -110], abs=6)
    # Muscle of some patients is mostly fat, and at the back of some lies bone.
    assert np.mean((np.abs(np.array(places) - [60, -110]) < 8).all(axis=1)) > 0.6
    assert np.median(noise) == pytest.approx(1, abs=0.1) and min(noise) > 0.85 and max(noise) < 1.35


def test_three_slices_change_alike() -> None:
    """Catches neighbours whose tissues lie elsewhere, and noise that is the same in all three."""
    image, muscle, _ = on_crop(painted_over(5, -95, 35))
    style = measure_style(on_crop(painted_over(deviation=15))[0], PIXEL_MM)
    assert style is not None
    three = np.stack([image, image, image])
    found = next(
        found
        for seed in range(50)
        if not np.array_equal(found := lend_style(three, (style,), np.random.default_rng(seed), PIXEL_MM), three)
    )
    inside = found[:, muscle]
    assert np.median(inside, axis=1) == pytest.approx(60, abs=3)
    assert np.abs(np.corrcoef(inside) - np.eye(3)).max() < 0.1


def test_all_series_of_a_folder_lend(tmp_path: Path) -> None:
    """Catches the longest series that takes every place, and NIfTI that is passed over."""
    write_series(painted_over(n=80), tmp_path / "long", patient_id=NAME, seed=1)
    short = painted_over(4, muscle_hu=90, n=3)
    write_volume(tmp_path / "short.nii.gz", short.hu.astype(np.float32), short.affine_lps)
    styles, line = find_styles(tmp_path, (160, 3.0))
    assert len(styles) == MOST_LENDERS // 2 + 3 and "35 slices of 2 series" in line
    assert sum(style.soft_hu[1] > 75 for style in styles) == 3


def test_a_slice_without_a_body_lends_nothing(tmp_path: Path) -> None:
    """Catches a training that ends, or a style of air, where a series begins above the head."""
    phantom = painted_over()
    phantom.hu[..., 3] = -1000
    write_series(phantom, tmp_path / "scans", patient_id=NAME, seed=1)
    styles, line = find_styles(tmp_path / "scans", OPTIONS.crop_size)
    assert len(styles) == 3 and "from 3 of 4 slices" in line
    air = np.full((SIDE, SIDE), -1000, np.float32)
    assert measure_style(air, PIXEL_MM) is None
    assert np.array_equal(lend_style(air[None], styles, np.random.default_rng(0), PIXEL_MM)[0], air)


@pytest.mark.parametrize("kind", ["nothing there", "empty", "no CT", "no body"])
def test_what_lends_nothing_is_one_line(tmp_path: Path, kind: str) -> None:
    """Catches a traceback, a style of nothing, and a line that does not say which option is meant."""
    folder = tmp_path / "scans"
    if kind != "nothing there":
        folder.mkdir()
    if kind == "no CT":
        (folder / "notes.txt").write_text("no pixels")
    if kind == "no body":
        phantom = painted_over()
        phantom.hu[phantom.label_map > 0] = np.int16(500)  # a block of bone
        write_series(phantom, folder / "a", patient_id=NAME, seed=1)
    with pytest.raises(InputError) as caught:
        find_styles(folder, OPTIONS.crop_size)
    message = str(caught.value)
    assert message.startswith(f"--style_from={folder}: ") and message.count(str(folder) + ":") == 1
    assert "\n" not in message and NAME not in message
