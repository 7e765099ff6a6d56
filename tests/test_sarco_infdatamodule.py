"""Inference and back: with a perfect network, the patient's own label map comes out, on the patient's own grid."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_prediction import SliceCollector
from monai.data import list_data_collate
from torch.utils.data import DataLoader

from sarco.core.errors import GeometryError
from sarco.core.training_options import DataOptions
from sarco.io.dicom import Series, find_series
from sarco.io.nifti import read_label_map, write_label_map
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable
from sarco_infdatamodule import SarcoInfDataModule, SeriesDataset
from transforms import as_meta_tensor, make_crop

SIZE = 256
FIELD = DataOptions(image_size=SIZE, pixel_mm=1.5)
GEOMETRIES = ("axial", "oblique", "feet first", "coronal", "sagittal")


def make_datamodule(
    series: Series, phantom: Phantom, channel_3d: bool = False, batch_size: int = 2, options: DataOptions = FIELD
) -> SarcoInfDataModule:
    """The module that predicts this series."""
    options = dataclasses.replace(options, channel_3d=channel_3d)
    return SarcoInfDataModule(series, options, LabelTable(phantom.label_names), batch_size)


def perfect_logits(batch: dict[str, Any], module: SarcoInfDataModule, phantom: Phantom) -> torch.Tensor:
    """What a network that makes no mistakes says: (B, K, S, S), from the phantom's own labels on the same crop."""
    ids = [0, *phantom.label_names]
    crop = make_crop(module.options, ("image", "label"))
    logits = []
    for plane in batch["slice_index"].tolist():
        last = phantom.hu.shape[2] - 1
        planes = [plane]
        if module.options.channel_3d:
            planes = [max(plane - 1, 0), plane, min(plane + 1, last)]
        affine = module.series.plane_affine_lps(plane)
        hu = np.stack([phantom.hu[..., p] for p in planes]).astype(np.float32)
        label = np.ascontiguousarray(phantom.label_map[..., plane])[None]
        cropped = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label, affine)})["label"]
        logits.append(torch.stack([torch.from_numpy(cropped.numpy()[0] == i) for i in ids]) * 20.0)
    return torch.stack(logits)


def loaded(folder: Path) -> Series:
    """The one series of a folder."""
    (series,) = find_series(folder).series
    return series


@pytest.mark.parametrize("options", [FIELD, DataOptions(image_size=SIZE, crop="box")], ids=lambda one: one.crop)
@pytest.mark.parametrize("channel_3d", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_perfect_network_gives_the_label_map_in_its_own_place(
    turned_phantoms: dict[str, Phantom],
    series_folder: Callable[..., Path],
    dice: Callable[..., float],
    geometry: str,
    channel_3d: bool,
    options: DataOptions,
    tmp_path: Path,
) -> None:
    """Catches a turn, a flip or a shift anywhere between the files that go in and the file that comes out."""
    phantom = turned_phantoms[geometry]
    module = make_datamodule(loaded(series_folder(phantom)), phantom, channel_3d, options=options)
    collector = SliceCollector(module)
    for batch in module.predict_dataloader():
        assert batch["image"].shape[1:] == (3 if channel_3d else 1, SIZE, SIZE)
        assert 0 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1
        logits = perfect_logits(batch, module, phantom)
        collector.write_on_batch_end(None, None, logits, None, batch, 0, 0)  # type: ignore[arg-type]
    label_map = collector.volume.finish()
    assert dice(label_map, phantom.label_map) > 0.99
    # ... and in world space, through the file that is handed over.
    write_label_map(tmp_path / "label.nii.gz", label_map, module.series.affine_lps)
    written = read_label_map(tmp_path / "label.nii.gz")
    np.testing.assert_allclose(written.affine_lps, phantom.affine_lps, atol=1e-4)  # type: ignore[arg-type]
    assert dice(written.ids, phantom.label_map) > 0.99
    assert set(collector.confidence) == set(range(5))
    assert min(collector.confidence.values()) > 0.99


def test_slices_find_their_planes_in_any_order(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], dice: Callable[..., float]
) -> None:
    """Catches planes count_of in order of arrival."""
    phantom = phantoms["oblique"]
    module = make_datamodule(loaded(series_folder(phantom)), phantom)
    loader = DataLoader(
        SeriesDataset(module.series, module.options, module.crop),
        batch_size=3,
        shuffle=True,
        collate_fn=list_data_collate,
        generator=torch.Generator().manual_seed(3),
    )
    order = []
    collector = SliceCollector(module)
    for batch in loader:
        order += batch["slice_index"].tolist()
        logits = perfect_logits(batch, module, phantom)
        collector.write_on_batch_end(None, None, logits, None, batch, 0, 0)  # type: ignore[arg-type]
    assert order != sorted(order)
    label_map = collector.volume.finish()
    for plane in range(5):
        assert dice(label_map[..., plane], phantom.label_map[..., plane]) > 0.99


def test_a_gap_stays_background_and_moves_nothing(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], dice: Callable[..., float]
) -> None:
    """Catches slices above a missing one that slide down."""
    phantom = phantoms["anisotropic"]
    folder = series_folder(phantom)
    loaded(folder).slices[1].path.unlink()
    module = make_datamodule(loaded(folder), phantom)
    collector = SliceCollector(module)
    for batch in module.predict_dataloader():
        logits = perfect_logits(batch, module, phantom)
        collector.write_on_batch_end(None, None, logits, None, batch, 0, 0)  # type: ignore[arg-type]
    label_map = collector.volume.finish()
    assert not label_map[..., 1].any()
    expected = phantom.label_map.copy()
    expected[..., 1] = 0
    assert dice(label_map, expected) > 0.99


def test_label_ids_are_those_of_the_table(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> None:
    """Catches channel numbers that are written as ids."""
    phantom = phantoms["oblique"]
    module = SarcoInfDataModule(loaded(series_folder(phantom)), FIELD, LabelTable({7: "psoas", 200: "rectus"}), 5)
    (batch,) = module.predict_dataloader()
    logits = torch.zeros(5, 3, SIZE, SIZE)
    logits[:, 0] = 1
    logits[:, 1, 60:120, 60:120] = 9
    logits[:, 2, 130:180, 60:120] = 9
    for restored in module.restore(batch, logits):
        assert set(np.unique(restored.label_map)) == {0, 7, 200}


def whole_batch(module: SarcoInfDataModule) -> dict[str, Any]:
    """The first batch."""
    return next(iter(module.predict_dataloader()))


@pytest.fixture
def module(phantoms: dict[str, Phantom], series_folder: Callable[..., Path]) -> SarcoInfDataModule:
    """A module to try faults on."""
    return make_datamodule(loaded(series_folder(phantoms["oblique"])), phantoms["oblique"])


def test_rule_6_a_lost_trace_is_an_error_and_no_silent_shift(module: SarcoInfDataModule) -> None:
    """Catches a map that MONAI hands back un-inverted with a mere warning."""
    batch = whole_batch(module)
    batch["image"].applied_operations = [[] for _ in range(2)]
    with pytest.raises(GeometryError, match="did not come back onto its grid"):
        module.restore(batch, torch.zeros(2, 8, SIZE, SIZE))


def test_rule_6_a_plain_tensor_is_an_error(module: SarcoInfDataModule) -> None:
    """Catches a batch whose images lost their trace on the way through the loader or to a device."""
    batch = whole_batch(module)
    batch["image"] = batch["image"].as_tensor()
    with pytest.raises(GeometryError, match="did not come back onto its grid"):
        module.restore(batch, torch.zeros(2, 8, SIZE, SIZE))


def test_rule_6_another_pipelines_trace_is_an_error(module: SarcoInfDataModule) -> None:
    """Catches a crop that ran forward in another object than the one that inverts."""
    other = make_crop(module.options, ("image",))
    dataset = SeriesDataset(module.series, module.options, other)
    batch = list_data_collate([dataset[0], dataset[1]])
    with pytest.raises(GeometryError, match="did not come back onto its grid"):
        module.restore(batch, torch.zeros(2, 8, SIZE, SIZE))


def test_rule_6_another_slices_trace_is_an_error(module: SarcoInfDataModule) -> None:
    """Catches slices whose names were swapped: the right size in the wrong place."""
    batch = whole_batch(module)
    batch["slice_index"] = batch["slice_index"].flip(0)
    with pytest.raises(GeometryError, match="did not come back onto its grid"):
        module.restore(batch, torch.zeros(2, 8, SIZE, SIZE))


def test_restore_leaves_the_batch_as_it_was(module: SarcoInfDataModule) -> None:
    """Catches a trace that is used up: a second restore of the same batch has to give the same."""
    batch = whole_batch(module)
    logits = torch.rand(2, 8, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    first, second = module.restore(batch, logits), module.restore(batch, logits)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.label_map, two.label_map)
        assert one.label_map.any()


def test_a_slice_of_air_comes_back_whole_with_confidence_0(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path]
) -> None:
    """Catches a division by no body, and a slice without body that breaks the series."""
    hu = phantoms["anisotropic"].hu.copy()
    hu[..., 2] = -1000
    phantom = dataclasses.replace(phantoms["anisotropic"], hu=hu)
    module = make_datamodule(loaded(series_folder(phantom)), phantom, batch_size=5)
    (batch,) = module.predict_dataloader()
    logits = torch.zeros(5, 8, SIZE, SIZE)
    logits[:, 0] = 9
    restored = module.restore(batch, logits)
    assert [r.label_map.shape for r in restored] == [(96, 120)] * 5
    assert restored[2].confidence == 0
    assert restored[1].confidence > 0.99


def test_real_slices_come_back_onto_their_grid(shared_data: Path) -> None:
    """Catches what only real series have: a bed, padding, arms at the edge."""
    series = loaded(shared_data / "odd_series" / "feet_first_3_slices")
    module = SarcoInfDataModule(series, FIELD, LabelTable({1: "muscle"}), 3)
    (batch,) = module.predict_dataloader()
    restored = module.restore(batch, torch.zeros(3, 2, SIZE, SIZE))
    assert [r.slice_index for r in restored] == [0, 1, 2]
    assert {r.label_map.shape for r in restored} == {(512, 512)}
