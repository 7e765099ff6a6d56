"""Invented slices on a run's crop: the very crop that a person's slices get, with the run's ids."""

import numpy as np
import pytest

from sarco.anatomy.labels import INVENTED_IDS
from sarco.batches.invented import InventedCrops
from sarco.core.training_options import DataOptions
from sarco.phantom.stream import VALIDATION, InventedStream
from sarco.scan.labels import LabelTable
from transforms import as_meta_tensor, make_crop

TABLE = LabelTable({4: "liver", 9: "muscle", 12: "paraspinal_left"})


@pytest.mark.parametrize("channel_3d", [False, True])
@pytest.mark.parametrize("crop", ["field", "box"])
def test_the_crop_is_that_of_training(crop: str, channel_3d: bool) -> None:
    """Catches invented slices that a network sees larger, shifted or mirrored beside a person's."""
    size = {"crop": "box"} if crop == "box" else {"pixel_mm": 6.0}
    options = DataOptions(image_size=64, channel_3d=channel_3d, **size)
    crops = InventedCrops(options, TABLE, 5)
    for number in (0, 3):
        image, label_map = crops.take(number)
        drawn = InventedStream(5, pixel_mm=6.0 if crop == "field" else 480 / 64, channels=len(image)).draw(number)
        affine = drawn.affine_lps
        sample = {
            "image": as_meta_tensor(drawn.hu.astype(np.float32), affine),
            "label": as_meta_tensor(drawn.label_map[None], affine),
        }
        expected = make_crop(options, ("image", "label"))(sample)
        assert image.shape == (3 if channel_3d else 1, 64, 64) and image.dtype == np.int16
        assert np.array_equal(image, expected["image"].numpy().round().astype(np.int16))
        whole = expected["label"].numpy()[0]
        assert np.array_equal(label_map == 12, whole == INVENTED_IDS["paraspinal_left"])
        assert (label_map[whole == INVENTED_IDS["paraspinal_right"]] == 9).all()
        assert {0, 9} <= set(np.unique(label_map).tolist()) <= {0, 9, 12}


def test_what_invented_slices_know() -> None:
    """Catches a person's label that nobody paints and that is taught to be nowhere."""
    crops = InventedCrops(DataOptions(image_size=64, crop="box"), TABLE, 5)
    assert crops.known.tolist() == [True, False, True, True]


def test_parts_differ() -> None:
    """Catches validation on the patients that train."""
    options = DataOptions(image_size=64, pixel_mm=6.0)
    one, two = (InventedCrops(options, TABLE, 5, part).take(0)[0] for part in (0, VALIDATION))
    assert not np.array_equal(one, two)
