"""A series through the pipeline: the same as through MONAI, in any order, in bounded memory, errors that arrive."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.transforms import Invertd

from sarco.core.errors import GeometryError, InputError
from sarco.core.training_options import DataOptions
from sarco.crop.slices import PreparedSlice, RestoredSlice, SlicePreparer, SliceRestorer
from sarco.io.dicom import find_series
from sarco.io.images import read_hu
from sarco.phantom.patient import Phantom
from sarco.prediction.islands import without_islands
from sarco.prediction.pipeline import SAMPLE_SLICES, predict_series
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series
from sarco_infdatamodule import SarcoInfDataModule

SIZE = 96
LABELS = LabelTable({3: "psoas", 7: "rectus", 200: "other"})
OPTIONS = DataOptions(image_size=SIZE, pixel_mm=4.0)
GEOMETRIES = ("axial", "oblique", "feet first", "coronal", "sagittal")


class Eager:
    """A network that is its own engine; its logits are a fixed function of the image."""

    name = "fake"

    def __init__(self, n_parallel: int = 1, batch_size: int = 1, work: Callable[[Any], Any] | None = None) -> None:
        self.n_parallel, self.batch_size = n_parallel, batch_size
        self.work = work or (lambda images: None)

    def engine_for(self, images: Any) -> tuple[Any, Any]:
        return self, {}

    def __call__(self, images: Any) -> Any:
        self.work(images)
        return logits_of(images)


def logits_of(images: Any) -> Any:
    """(B, 4, S, S): smooth, different for each channel, with ties in the air."""
    middle = images[:, images.shape[1] // 2]
    rows = np.linspace(-1, 1, images.shape[2], dtype=np.float32)[:, None]
    return np.stack([0 * middle, 7 * middle - 2, 9 * middle * rows, 4 * middle - rows], axis=1).astype(np.float32)


def loaded(folder: Path) -> Series:
    (series,) = find_series(folder).series
    return series


@pytest.fixture
def series(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> Series:
    """Five oblique slices."""
    return loaded(series_folder(phantoms["oblique"]))


@pytest.mark.parametrize(("crop", "pixel_mm"), [("box", None), ("field", 4.0), ("field", 2.5), ("field", 3.1)])
@pytest.mark.parametrize("channel_3d", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_it_is_monai_pixel_for_pixel(
    turned_phantoms: dict[str, Phantom],
    series_folder: Callable[..., Path],
    geometry: str,
    channel_3d: bool,
    crop: str,
    pixel_mm: float | None,
) -> None:
    """Catches a fast way there or back that differs from Cropd, from Invertd with argmax, or in a turned series."""
    series = loaded(series_folder(turned_phantoms[geometry]))
    options = DataOptions(image_size=SIZE, channel_3d=channel_3d, crop=crop, pixel_mm=pixel_mm)
    module = SarcoInfDataModule(series, options, LABELS, batch_size=2)
    invert = Invertd(keys="pred", transform=module.crop, orig_keys="image", nearest_interp=False)
    prepare, restore = SlicePreparer(series, options), SliceRestorer(LABELS)
    compared = 0
    for batch in module.predict_dataloader():
        logits = logits_of(batch["image"].as_tensor().numpy())
        fast = module.restore(batch, torch.from_numpy(logits))
        images = decollate_batch({"image": batch["image"]})
        for number, plane in enumerate(batch["slice_index"].tolist()):
            prepared = prepare(series.plane_index.index(plane))
            np.testing.assert_array_equal(prepared.image, batch["image"][number].numpy())
            np.testing.assert_array_equal(prepared.hu, read_hu(series.slices[series.plane_index.index(plane)]))
            probability = torch.softmax(torch.from_numpy(logits[number]), dim=0)
            sample = {"image": images[number]["image"], "pred": MetaTensor(probability)}
            expected = np.array([0, *LABELS.ids])[invert(sample)["pred"].as_tensor().argmax(dim=0).numpy()]
            np.testing.assert_array_equal(fast[number].label_map, expected)
            restored = restore(prepared, logits[number])
            assert (restored.label_map != expected).mean() < 1e-3  # softmax of numpy and torch differ in the last bit
            assert restored.confidence == pytest.approx(fast[number].confidence, abs=1e-5)
            assert len(np.unique(expected)) == 4
            compared += 1
    assert compared == len(series.slices)


@pytest.mark.parametrize(("n_parallel", "batch_size"), [(1, 1), (1, 3), (4, 1), (3, 2)])
def test_order_of_arrival_does_not_matter(series: Series, n_parallel: int, batch_size: int) -> None:
    """Catches planes count_of in order of arrival, a last batch that is dropped, and slices that are shown twice."""
    prepare, restore = SlicePreparer(series, OPTIONS), SliceRestorer(LABELS)
    expected = {}
    for place, plane in enumerate(series.plane_index):
        prepared = prepare(place)
        expected[plane] = restore(prepared, logits_of(prepared.image[None])[0])
    pauses = iter([0.05, 0.0, 0.03, 0.0, 0.02] * 3)
    network = Eager(n_parallel, batch_size, lambda images: time.sleep(next(pauses)))
    predicted = predict_series(network, series, OPTIONS, LABELS)
    for plane, one in expected.items():
        np.testing.assert_array_equal(predicted.label_map[:, :, plane], one.label_map)
        assert predicted.confidence[plane] == one.confidence
    assert predicted.confidence.keys() == expected.keys()
    assert predicted.engine == "fake"


@pytest.mark.parametrize("n_slices", [1, 3, 4, 5])
def test_a_series_of_any_length(series: Series, n_slices: int, phantoms: dict[str, Phantom]) -> None:
    """Catches a lone slice, and as many as are shown to the network first."""
    for header in series.slices[n_slices:]:
        header.path.unlink()
    short = loaded(series.slices[0].path.parent)
    predicted = predict_series(Eager(), short, OPTIONS, LABELS)
    assert predicted.label_map.shape == (96, 120, n_slices)
    assert all(predicted.label_map[..., plane].any() for plane in range(n_slices))


def test_pixels_and_label_map_are_at_hand_once_for_each_slice(series: Series) -> None:
    """Catches a slice that is left out, told twice, or with the pixels of its neighbour."""
    seen: list[int] = []

    def on_slice(prepared: PreparedSlice, restored: RestoredSlice) -> None:
        assert prepared.plane == restored.slice_index
        np.testing.assert_array_equal(prepared.hu, read_hu(series.slices[series.plane_index.index(prepared.plane)]))
        seen.append(prepared.plane)

    predict_series(Eager(2), series, replace(OPTIONS, channel_3d=True), LABELS, on_slice)
    assert sorted(seen) == sorted(series.plane_index)


def test_only_a_few_slices_are_in_the_making(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches memory that grows with the series: a reader that runs away from a slow network."""
    series = loaded(series_folder(phantoms["oblique"]))
    many = Series(series.uid, series.slices * 8, tuple(range(40)), series.affine_lps, 40, file_axes=series.file_axes)
    alive, most, lock = 0, 0, threading.Lock()
    read = SlicePreparer.__call__

    def count(change: int) -> None:
        nonlocal alive, most
        with lock:
            alive += change
            most = max(most, alive)

    def count_of(self: SlicePreparer, place: int) -> PreparedSlice:
        count(1)
        return read(self, place)

    monkeypatch.setattr(SlicePreparer, "__call__", count_of)
    network = Eager(n_parallel=2, batch_size=2, work=lambda images: time.sleep(0.005))
    predict_series(network, many, DataOptions(image_size=32, pixel_mm=12.0), LABELS, lambda *_: count(-1))
    assert alive == 0
    # Batches of two: two that are computed, one before and one behind them; and those that were shown to the network.
    assert most <= 8 + SAMPLE_SLICES


def test_an_error_while_reading_arrives(series: Series) -> None:
    """Catches an error that stays in the reading thread: a wait for ever, or a label map with a hole."""
    series.slices[3].path.write_bytes(b"no DICOM any more")
    with pytest.raises(InputError, match=series.slices[3].path.name):
        predict_series(Eager(), series, OPTIONS, LABELS)


def test_an_error_while_bringing_back_arrives(series: Series) -> None:
    """Catches an error that stays in the thread behind the network."""

    def refuse(prepared: PreparedSlice, restored: RestoredSlice) -> None:
        if prepared.plane == series.plane_index[-2]:
            raise GeometryError("slice is nowhere")

    with pytest.raises(GeometryError, match="nowhere"):
        predict_series(Eager(2), series, OPTIONS, LABELS, refuse)


def test_a_bug_of_the_network_arrives(series: Series) -> None:
    """Catches an exception of the computing threads that is swallowed."""

    def fail(images: Any) -> None:
        raise RuntimeError("out of memory")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of memory"):
        predict_series(Eager(3, work=fail), series, OPTIONS, LABELS)
    assert threading.active_count() == before  # no thread is left behind


def test_islands_are_dropped_before_anybody_sees_the_slice(series: Series) -> None:
    """Catches measurements of a label map other than the one that is written, and a slice that never arrives."""
    seen: dict[int, Any] = {}
    options = OPTIONS
    found = predict_series(
        Eager(2, batch_size=2),
        series,
        options,
        LABELS,
        lambda prepared, restored: seen.update({restored.slice_index: restored.label_map}),
        drop_islands=True,
    )
    plain = predict_series(Eager(), series, options, LABELS).label_map
    assert sorted(seen) == list(series.plane_index) and sorted(found.confidence) == sorted(seen)
    for plane, label_map in seen.items():
        np.testing.assert_array_equal(label_map, found.label_map[:, :, plane])
        beside = [plain[:, :, k] if 0 <= k < plain.shape[2] else None for k in (plane - 1, plane + 1)]
        np.testing.assert_array_equal(label_map, without_islands(plain[:, :, plane], *beside))
