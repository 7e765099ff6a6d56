"""What does the loader add to a training step? And how fast are crop and augmentation, beside OpenCV and MONAI?

python benchmarks/loader.py [--sides 256 512] [--batch=8] [--steps=4] [--append]

The loop is Lightning's, with all that training.py computes in a step. Figures are CPU seconds of all threads, which
hardly notice other work on the machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait spinning would count as CPU seconds

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from harness import make_phantoms, report, table
from monai.transforms import CenterSpatialCrop, CropForeground, Rand2DElastic, Resize

from model import SarcoModel
from sarco.augmentation.draws import draw_augmentation
from sarco.augmentation.warp import coordinate_map, warp_sample
from sarco.batches.samples import SliceDataset
from sarco.core.command import quieten_libraries, tune_allocator
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.precision import bf16_pays_in_training
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.runs.store import RunDescription
from sarco.scan.labels import LabelTable
from sarco.training.cache import SliceCache
from sarco.training.sampling import Draw
from sarco_datamodule import SarcoDataModule
from transforms import as_meta_tensor, make_crop

AUGMENTATIONS = {
    "no": AugmentOptions(augment="no"),
    "light": AugmentOptions(augment="light"),
    "strong": AugmentOptions(augment="strong"),
    "flips and elastic, each 1": AugmentOptions("no", do_flips=True, do_elastic_transforms=True, aug_prob=1.0),
}
ROUNDS = 15
AUGMENTED_SIDES, AUGMENTED_EPOCHS = (192, 256, 512), 100


class CpuClock(pl.Callback):
    """Notes the CPU time at which each batch is done."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.process_time())


class OneBatch(SarcoDataModule):
    """Always the same batch, made beforehand, so that there is nothing to load."""

    def train_dataloader(self) -> Any:
        batch = next(iter(super().train_dataloader()))
        return torch.utils.data.DataLoader([batch] * len(super().train_dataloader()), batch_size=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of an epoch, after one that is not")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    tune_allocator()
    quieten_libraries()
    rows = []
    for side in typed.sides:
        with tempfile.TemporaryDirectory() as scratch:
            rows += loop_rows(Path(scratch), side, typed.batch, typed.steps)
    head = [
        "image size",
        "augmentation",
        "loader, s per step",
        "loop, s per step",
        "loop without loading",
        "loader's share",
    ]
    text = table(head, rows) + f"\n\nBatch {typed.batch}, medians of {typed.steps} steps, CPU seconds per step.\n\n"
    columns = ["image size", "augmentation", "mean, ms per slice", "median", "95 of 100 below"]
    text += table(columns, time_augmentation())
    text += f"\n\n{4 * AUGMENTED_EPOCHS} draws each in turns, one core, beyond what a plain slice takes.\n\n"
    text += table(["what, 512 x 512", "ms per slice", "spread"], time_transforms())
    text += f"\n\nMedians of {ROUNDS} rounds in turns, CPU milliseconds."
    words = f"--sides {' '.join(map(str, typed.sides))} --batch={typed.batch} --steps={typed.steps}"
    report("Loader, crop and augmentation", f"python benchmarks/loader.py {words}", text, typed.append)


def loop_rows(scratch: Path, side: int, batch: int, steps: int) -> list[list[str]]:
    """The rows of an image size."""
    data = make_phantoms(scratch / "data", patients=2, slices=batch * (steps + 1), size=side, seed=1)
    options = DataOptions(data_dir=data, image_size=side, batch_size=batch, val_fraction=0.5)
    still = statistics.median(train(OneBatch(options, scratch / "cache"), side))
    rows = []
    for name, augment in AUGMENTATIONS.items():
        datamodule = SarcoDataModule(options, scratch / "cache", augment)
        loop = statistics.median(train(datamodule, side))
        seconds = []
        loader = iter(datamodule.train_dataloader())
        for _ in range(steps):
            start = time.process_time()
            next(loader)
            seconds.append(time.process_time() - start)
        loading = statistics.median(seconds)
        cells = [f"{loading:.4f}", f"{loop:.2f}", f"{still:.2f}", f"{loading / loop:.1%}"]
        rows.append([str(side), name, *cells])
        print(rows[-1], flush=True)
    return rows


def train(datamodule: SarcoDataModule, side: int) -> list[float]:
    """CPU seconds of each step of an epoch but the first."""
    datamodule.setup()
    description = RunDescription(
        run=RunOptions(run_id="x"), labels=datamodule.labels, data=datamodule.options, fit=FitOptions(),
        network=NetworkOptions(pretrained="no"), augment=datamodule.augment, mixup=MixupOptions(),
        predicted=PredictedOptions(), weights="random", split={},
    )  # fmt: skip
    clock = CpuClock()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
        precision="bf16-mixed" if bf16_pays_in_training(side) else "32-true",
    )  # fmt: skip
    trainer.fit(SarcoModel(replace(description)), datamodule=datamodule)
    return np.diff(clock.ends).tolist()


def time_augmentation() -> list[list[str]]:
    """Milliseconds that augmentation adds to a slice of one core, by image size; some rare kinds take long."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rows = []
    for side in AUGMENTED_SIDES:
        phantom = make_phantom(1, PhantomOptions(n_slices=4, rows=side, columns=side))
        images = np.moveaxis(phantom.hu, -1, 0)[:, None]
        cache = SliceCache(images, np.moveaxis(phantom.label_map, -1, 0), np.ones((4, 256), bool), Path(), False)
        seconds: dict[str, list[float]] = {name: [] for name in AUGMENTATIONS}
        kinds = {
            name: SliceDataset(cache, range(4), [1.0] * 4, LabelTable(phantom.label_names), DataOptions(), augment)
            for name, augment in AUGMENTATIONS.items()
        }
        for epoch in range(AUGMENTED_EPOCHS):  # in turns, so that a noisy moment hits all
            for place in range(4):
                for name, kind in kinds.items():
                    start = time.process_time()
                    kind[Draw(place, epoch)]
                    seconds[name].append(1e3 * (time.process_time() - start))
        plain = statistics.median(seconds["no"])
        for name in list(AUGMENTATIONS)[1:]:
            each = [value - plain for value in seconds[name][4:]]  # the first ones make what is kept for the others
            figures = statistics.mean(each), statistics.median(each), statistics.quantiles(each, n=20)[-1]
            rows.append([str(side), name, *(f"{figure:.2f}" for figure in figures)])
    cv2.setNumThreads(threads)
    return rows


def time_transforms() -> list[list[str]]:
    """Crop and augmentation beside others."""
    phantom = make_phantom(1, PhantomOptions(n_slices=1, rows=512, columns=512))
    hu, ids = phantom.hu[..., 0].astype(np.float32), phantom.label_map[..., 0].astype(np.uint8)
    image, label = as_meta_tensor(hu[None], phantom.affine_lps), as_meta_tensor(ids[None], phantom.affine_lps)
    crop = make_crop(DataOptions(image_size=512, pixel_mm=0.8), keys=("image", "label"))
    matrix = np.array([[0.8, 0, 40], [0, 0.8, 40]])
    foreground, resize = CropForeground(select_fn=lambda x: x > -500), Resize((512, 512), mode="bilinear")
    centre = CenterSpatialCrop((448, 448))
    elastic = Rand2DElastic(
        (100, 100), (1, 2), prob=1, rotate_range=0.17, scale_range=0.1, mode="bilinear", padding_mode="zeros"
    )
    wanted = AUGMENTATIONS["flips and elastic, each 1"]
    rng = np.random.default_rng(0)

    def augment() -> None:
        drawn = draw_augmentation(rng, wanted)
        warp_sample(hu[None], ids.astype(np.int16), coordinate_map(drawn, 512))

    variants: dict[str, Callable[[], object]] = {
        "OpenCV warpAffine alone, image": lambda: cv2.warpAffine(hu, matrix, (512, 512)),
        "crop, sarco: body box, warp of image and label": lambda: crop({"image": image, "label": label}),
        "crop, MONAI: CropForeground, Resize of the image": lambda: resize(foreground(image)),
        "crop, MONAI: CenterSpatialCrop, Resize of the image": lambda: resize(centre(image)),
        "augmentation, sarco: image and label": augment,
        "augmentation, MONAI: Rand2DElastic of the image": lambda: elastic(image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):  # in turns, so that a noisy moment hits all
        for name, run in variants.items():
            start = time.process_time()
            run()
            seconds[name].append(1e3 * (time.process_time() - start))
    rows = []
    for name, values in seconds.items():
        quarters = statistics.quantiles(values)
        rows.append([name, f"{quarters[1]:.2f}", f"{(quarters[2] - quarters[0]) / quarters[1]:.0%}"])
    return rows


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
