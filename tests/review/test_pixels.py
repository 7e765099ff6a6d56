"""Pictures and label maps of a review page, decoded by other programs."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from sarco.review.pixels import (
    LOSSLESS,
    PAGE_BYTES,
    PictureEncoder,
    encode_label_map,
    hu_of_levels,
    hu_to_levels,
    label_map_digest,
    slice_digest,
)


def noisy_slice(size: int = 256) -> np.ndarray:
    """A bright disc in air, with the noise of a scanner."""
    y, x = np.mgrid[:size, :size]
    disc = np.hypot(y - size / 2, x - size / 3) < size / 4
    noise = np.random.default_rng(5).normal(0, 12, (size, size))
    return np.where(disc, 60.0, -1000.0) + noise


def test_grey_levels_keep_hu_within_what_the_page_says() -> None:
    """Catches a table that the page would show other HU by: 2.7 HU a level around muscle, 31 HU elsewhere."""
    hu = np.arange(-1024, 1501, dtype=np.float32)
    shown = np.array(hu_of_levels())[hu_to_levels(hu)]
    near = np.abs(hu) <= 250
    assert np.abs(shown - hu)[near].max() <= 2.71 / 2 + 0.55  # HU are rounded to whole ones and levels to 0.1
    assert np.abs(shown - hu).max() <= 31.3 / 2 + 0.55
    assert (np.diff(hu_to_levels(hu).astype(int)) >= 0).all()


def test_hu_beyond_the_range_become_its_ends() -> None:
    """Catches metal that turns dark, or padding of -2000 that turns bright, by an overflow."""
    assert hu_to_levels(np.array([-2000.0, -1e6, 3071.0, 1e6, np.inf])).tolist() == [0, 0, 255, 255, 255]


def test_few_slices_are_kept_without_loss() -> None:
    """Catches artefacts where there is room for none."""
    encoder = PictureEncoder.for_slices(30)
    decoded = np.asarray(Image.open(io.BytesIO(encoder.encode(noisy_slice()))))
    assert encoder.quality == LOSSLESS and "without loss" in encoder.description
    assert np.array_equal(decoded, hu_to_levels(noisy_slice()))


def test_many_slices_share_the_room() -> None:
    """Catches a page beyond its weight, a quality that jumps up and down, and JPEG shown as something else."""
    count = 300
    encoder = PictureEncoder.for_slices(count)
    small, large = noisy_slice(128), noisy_slice(512)
    assert len(encoder.encode(large)) * count * 4 / 3 <= PAGE_BYTES
    quality = encoder.quality
    assert quality < LOSSLESS and f"quality {quality}" in encoder.description
    content = encoder.encode(small)  # would fit without loss
    assert encoder.quality == quality
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "JPEG" and picture.mode == "L"
    inside = hu_to_levels(small).astype(int)
    assert np.abs(np.asarray(picture).astype(int) - inside).mean() < 6


def test_more_slices_than_fit_still_show_something() -> None:
    """Catches an endless search for a quality that is low enough."""
    encoder = PictureEncoder(bytes_per_slice=1)
    assert Image.open(io.BytesIO(encoder.encode(noisy_slice()))).size == (256, 256)
    assert encoder.quality == 50


def test_label_maps_are_exact_whatever_their_memory_order() -> None:
    """Catches a transposed or lossy label map."""
    ids = np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8)
    for given in (ids, np.asfortranarray(ids)):
        assert zlib.decompress(encode_label_map(given)) == bytes(int(value) for row in ids for value in row)


def test_hash_does_not_depend_on_the_order_of_arrival() -> None:
    """Catches a page whose hash differs from that of the same label map read from its file."""
    digests = {plane: slice_digest(np.full((2, 3), plane, np.uint8)) for plane in (0, 1, 2)}
    turned = {plane: digests[plane] for plane in (2, 0, 1)}
    assert label_map_digest((2, 3, 3), digests) == label_map_digest((2, 3, 3), turned)


@pytest.mark.parametrize("change", ["pixel", "planes swapped", "shape", "gap"])
def test_hash_tells_label_maps_apart(change: str) -> None:
    """Catches corrections that could be laid over another label map."""
    digests = {plane: slice_digest(np.full((2, 3), plane, np.uint8)) for plane in (0, 1, 2)}
    shape, other_shape, other = (2, 3, 3), (2, 3, 3), dict(digests)
    if change == "pixel":
        other[1] = slice_digest(np.array([[1, 1, 1], [1, 1, 2]], np.uint8))
    elif change == "planes swapped":
        other[0], other[1] = other[1], other[0]
    elif change == "shape":
        other_shape = (3, 2, 3)
    else:
        other = {0: digests[0], 1: digests[1], 3: digests[2]}
    assert label_map_digest(shape, digests) != label_map_digest(other_shape, other)
