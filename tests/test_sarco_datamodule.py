"""Batches of labelled slices: what the flags ask for, whatever the number of processes, and nothing of what nobody
looked at."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_batches import batches, same

import sarco_datamodule
from model import SarcoModel
from sarco.batches.samples import IGNORED, SliceDataset
from sarco.core.errors import DataWarning
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    RunOptions,
)
from sarco.io.nifti import read_label_map, write_label_map
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.runs.store import RunDescription
from sarco.scan.labels import IGNORE_ID
from sarco_datamodule import SarcoDataModule
from sarco_datamodule_3d import SarcoDataModule_3D

SLICES = 4
OFTEN = AugmentOptions(augment="no", do_flips=True, do_elastic_transforms=True, aug_prob=0.7)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small patients with left and right muscles."""
    folder = tmp_path_factory.mktemp("datamodule") / "data"
    write_dataset(folder, 3, 1, PhantomOptions(n_slices=SLICES, rows=64, columns=72, labels="groups"))
    return folder


def module(data: Path, augment: AugmentOptions | None = None, **more: Any) -> SarcoDataModule:
    """The data module, set up."""
    options = DataOptions(**{"data_dir": data, "image_size": 64, "batch_size": 4, "val_fraction": 0.3, **more})
    kind = SarcoDataModule_3D if options.channel_3d else SarcoDataModule
    datamodule = kind(options, data.parent / "cache", augment)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("channel_3d", [False, True])
def test_batch_is_what_its_docstring_says(data: Path, channel_3d: bool) -> None:
    """Catches other shapes and types, labels beyond the table, and images out of [0, 1]."""
    datamodule = module(data, OFTEN, channel_3d=channel_3d)
    for batch in batches(datamodule):
        assert batch["image"].shape == (4, 3 if channel_3d else 1, 64, 64) and batch["image"].dtype == torch.float32
        assert batch["label"].shape == (4, 64, 64) and batch["label"].dtype == torch.int64
        assert float(batch["image"].min()) >= 0 and float(batch["image"].max()) <= 1
        assert int(batch["label"].max()) < datamodule.labels.n_channels
        assert batch["weight"].tolist() == [1.0] * 4
        assert set(batch["index"].tolist()) <= set(datamodule.split.train)


def test_seed_decides_split_order_and_augmentation(data: Path) -> None:
    """Catches chance beside the seed, and a seed without effect."""
    one = module(data, OFTEN, seed=3)
    assert same(batches(one), batches(module(data, OFTEN, seed=3)))
    assert not same(batches(one), batches(one, epoch=1))
    others = [module(data, OFTEN, seed=seed) for seed in range(4, 10)]
    assert any(other.split.val != one.split.val for other in others)
    alike = next(other for other in others if other.split.val == one.split.val)
    assert not same(batches(one), batches(alike))


@pytest.mark.parametrize("size", [2, 4, 6])
def test_batches_are_as_large_as_asked(data: Path, size: int) -> None:
    """Catches --batch_size without effect, and slices that get lost between batches."""
    sizes = [len(batch["image"]) for batch in batches(module(data, batch_size=size))]
    assert sum(sizes) == 2 * SLICES and sizes[0] == size


@pytest.mark.parametrize("size", [2, 4])
def test_validation_batches_are_larger(data: Path, size: int) -> None:
    """Catches validation that leaves half of its memory unused, or loses slices at the larger batch."""
    datamodule = module(data, batch_size=size, val_fraction=0.6)
    sizes = [len(batch["image"]) for batch in datamodule.val_dataloader()]
    assert sizes[0] == sarco_datamodule.VALIDATION_FACTOR * size and sum(sizes) == len(datamodule.split.val)


def test_batch_of_one_is_left_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches batch normalisation that has to learn from a single slice."""
    datamodule = module(data)
    monkeypatch.setattr(sarco_datamodule, "repeat_factors", lambda occurs: np.array([1.5, 1.5] + [1.0] * 6))
    assert [len(batch["image"]) for batch in batches(datamodule)] == [4, 4]


@pytest.mark.slow
def test_loader_processes_change_no_sample(data: Path) -> None:
    """Catches --num_workers that changes the run, because each process has its own chance or misses the epoch."""
    alone, helped = module(data, OFTEN), module(data, OFTEN, num_workers=2)
    loader = helped.train_dataloader()
    assert loader.num_workers == 2
    for epoch in (0, 3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        assert same(batches(alone, epoch), list(loader))


@pytest.mark.parametrize("side", [32, 96])
def test_image_size_is_the_side_of_the_crop(data: Path, side: int) -> None:
    """Catches --image_size that reaches the network and not the crop."""
    batch = next(iter(module(data, image_size=side).val_dataloader()))
    assert batch["image"].shape[-2:] == batch["label"].shape[-2:] == (side, side)


@pytest.mark.parametrize("channel_3d", [False, True])
def test_crop_is_the_one_asked_for(data: Path, channel_3d: bool) -> None:
    """Catches --crop, --pixel_mm and --field_mm without effect, and a resumed run whose crop is another one."""
    chosen = module(data, image_size=None, channel_3d=channel_3d)
    options = chosen.options
    (size, pixel_mm), field_mm = options.crop_size, options.field_mm
    assert pixel_mm == 3.0 and field_mm == 3.0 * size  # these patients have coarser pixels
    assert field_mm - 3.0 * 32 < max(chosen.bodies_mm) <= field_mm
    assert f"crop: {size} x {size} pixels of 3 mm, a field of {field_mm:.0f} mm" in "".join(chosen.describe())
    again = SarcoDataModule_3D(options, None) if channel_3d else SarcoDataModule(options, None)
    again.setup()
    assert again.options == options and not again.notes
    np.testing.assert_array_equal(again.cache.images, chosen.cache.images)
    small = module(data, image_size=None, pixel_mm=4.0, field_mm=250.0, channel_3d=channel_3d)
    assert small.options.crop_size == (64, 4.0) and small.options.field_mm == 256.0
    assert "12 of 12 bodies" in small.notes[0] and "nothing is cut" in small.notes[0]
    box = module(data, crop="box", image_size=None, channel_3d=channel_3d)
    assert box.options.crop_size == (512, None) and box.options.field_mm is None
    assert "crop: the body's box on 512 x 512 pixels" in box.describe()


def test_muscle_is_as_large_on_the_crop_as_in_the_patient(data: Path) -> None:
    """Catches a scale that the body sets, where a pixel should have one size in mm."""
    datamodule = module(data, image_size=None, pixel_mm=2.0)
    for item, label_map in zip(datamodule.slices, datamodule.cache.label_maps, strict=True):
        row_mm, column_mm = item.header.spacing_mm
        expected = (item.case.read_label_maps()[item.place] > 0).sum() * row_mm * column_mm
        assert (label_map > 0).sum() * 4.0 == pytest.approx(expected, rel=0.04)


def test_window_is_the_one_asked_for(data: Path) -> None:
    """Catches --hu_min and --hu_max without effect, or the other way round."""
    datamodule = module(data, hu_min=-100, hu_max=300)
    hu = torch.from_numpy(datamodule.cache.images[list(datamodule.split.val)].astype(np.float32))
    image = next(iter(datamodule.val_dataloader()))["image"]
    assert torch.allclose(image, ((hu + 100) / 400).clamp(0, 1), atol=1e-6)


def test_validation_is_plain_and_in_order(data: Path) -> None:
    """Catches augmentation or chance in what every epoch is judged by."""
    varied, plain = module(data, OFTEN), module(data)
    one, two = list(varied.val_dataloader()), list(plain.val_dataloader())
    assert same(one, two)
    assert torch.cat([batch["index"] for batch in one]).tolist() == list(varied.split.val)


@pytest.mark.parametrize("augment", [OFTEN, AugmentOptions()])
@pytest.mark.parametrize("channel_3d", [False, True])
def test_gpu_batch_equals_the_one_of_the_cpu(data: Path, channel_3d: bool, augment: AugmentOptions) -> None:
    """Catches a network that is taught other images on a GPU; the same augmentation, warped as a batch."""
    datamodule = module(data, augment, channel_3d=channel_3d)
    inputs = (datamodule.cache, datamodule.split.train, [1.0] * 8, datamodule.labels, datamodule.options, augment)
    cpu, gpu = SliceDataset(*inputs), SliceDataset(*inputs, on_device=True)
    draws = [sarco_datamodule.Draw(place, epoch) for place in range(8) for epoch in range(3)]
    expected = torch.utils.data.default_collate([cpu[draw] for draw in draws])
    batch = torch.utils.data.default_collate([gpu[draw] for draw in draws])
    assert "coordinates" in batch
    found = datamodule.on_after_batch_transfer(batch, 0)
    assert found.keys() == expected.keys()
    assert torch.allclose(found["image"], expected["image"], atol=1e-3)  # of the window
    assert (found["label"] == expected["label"]).float().mean() > 0.9999  # ties


def sparse(data: Path, tmp_path: Path) -> Path:
    """The same data with one slice of P001 unlabelled throughout and half of another."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    path = folder / "P001.nii.gz"
    label_map = read_label_map(path)
    ids = label_map.ids.copy()
    ids[:, :, 0] = IGNORE_ID
    ids[:, : ids.shape[1] // 2, 1] = IGNORE_ID
    write_label_map(path, ids, label_map.affine_lps)
    return folder


def test_unlabelled_slices_are_left_out_and_said(data: Path, tmp_path: Path) -> None:
    """Catches sparse labels taken for empty ones, and 255 taken for a muscle."""
    datamodule = module(sparse(data, tmp_path))
    assert datamodule.labels == module(data).labels
    split = datamodule.split
    assert len(split.train) + len(split.val) == 3 * SLICES - 1
    assert datamodule.notes == [
        "1 slice left out, unlabelled (255 throughout)",
        "1 slice holds 255 (nobody looked) beside other values; those pixels count nowhere",
    ]
    left_out = set(range(3 * SLICES)) - {*split.train, *split.val}
    assert [datamodule.slices[i].header.path.parent.name for i in left_out] == ["P001"]


def test_unlabelled_pixels_count_in_no_score(data: Path, tmp_path: Path) -> None:
    """Catches loss and metrics of pixels that nobody looked at: whatever is predicted there, they stay the same."""
    datamodule = module(sparse(data, tmp_path))
    place = next(i for i in (*datamodule.split.train, *datamodule.split.val) if (
        datamodule.cache.label_maps[i] == IGNORE_ID).any())  # fmt: skip
    weights = [1.0]
    sample = SliceDataset(datamodule.cache, [place], weights, datamodule.labels, datamodule.options)[0]
    ignored = sample["label"] == IGNORED
    assert 0.2 < float(ignored.float().mean()) < 0.8
    batch = torch.utils.data.default_collate([sample])
    description = RunDescription(
        run=RunOptions(run_id="x"),
        labels=datamodule.labels,
        data=datamodule.options,
        network=NetworkOptions(),
        fit=FitOptions(),
        augment=AugmentOptions(),
        mixup=MixupOptions(),
        predicted=datamodule.predicted,
        weights="random",
        split={},
    )
    scores = []
    for disturbance in (0.0, 30.0):
        model = SarcoModel(description)
        logits = torch.randn(1, model.n_channels, 64, 64, generator=torch.Generator().manual_seed(0))
        logits[:, 1] += disturbance * ignored
        target, weight = model.make_target(batch)
        model.val_scores.update(torch.softmax(logits, 1), batch["label"], batch["index"])
        found = model.val_scores.compute()
        scores.append([float(model.loss(logits, target, weight)), *(float(found[k]) for k in ("dice", "ap", "iou"))])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_side_without_partner_is_told_where_slices_are_mirrored(data: Path, tmp_path: Path) -> None:
    """Catches half of the mirrored slices that teach left as right without a word."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    names = json.loads((folder / "labels.json").read_text())
    one = next(key for key, name in names.items() if name.endswith("_left"))
    names[one] = f"my own {names[one]}"
    (folder / "labels.json").write_text(json.dumps(names))
    with pytest.warns(DataWarning, match=f"'{names[one]}', .* name a side, .* set --do_flips=no"):
        module(folder, OFTEN)
    module(folder, AugmentOptions(augment="no", do_elastic_transforms=True))
    module(data, OFTEN)
    unmirrored = f"slices are not mirrored: '{names[one]}', .* of one side"
    assert any(re.match(unmirrored, note) for note in module(folder, AugmentOptions()).notes)
    assert not any("mirrored" in note for note in module(data, AugmentOptions()).notes)


def test_slices_without_neighbours_are_noted(data: Path, tmp_path: Path) -> None:
    """Catches three-slice images that repeat one slice, because each lies in a folder of its own, without a word."""
    folder = tmp_path / "data"
    for image in sorted(data.rglob("*.dcm")):
        place = folder / image.parent.name / image.stem
        place.mkdir(parents=True)
        shutil.copy(image, place / "slice.dcm")
        shutil.copy(data / f"{image.parent.name}.nii.gz", place / "slice.nii.gz")
    found = module(folder, channel_3d=True)
    assert any(f"{3 * SLICES} of {3 * SLICES} slices have no neighbour" in note for note in found.notes)
    found.setup()
    assert len(found.notes) == len(set(found.notes))
    assert not any("no neighbour" in note for note in module(data, channel_3d=True).notes)
