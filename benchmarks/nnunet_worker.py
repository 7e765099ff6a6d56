"""nnU-Net v2 2D as it comes, in its own Python: plans, trains, predicts, and says figures as lines of JSON.

peers.py and strangers.py start it with the interpreter that has nnunetv2 installed; nothing of sarco is imported here.
nnU-Net's compile, mixed precision and worker processes are left as they come.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

DATASET_ID = 1
DATASET = "Dataset001_peers"
PLANS = "nnUNetPlans"
CONFIGURATION = "2d"
MARK = "figures: "  # starts the lines that peers.py reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("plan", "step", "train", "predict"))
    parser.add_argument("--work", type=Path, required=True, help="folder that peers.py has filled")
    parser.add_argument("--batch", type=int, help="slices per step, instead of those planned")
    parser.add_argument("--steps", type=int, default=3, help="step: timed ones, after one that is not")
    parser.add_argument("--marks", type=float, nargs="+", help="train: seconds of training after which Dice is taken")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="train: what those seconds are")
    parser.add_argument("--target", type=float, default=1.0, help="train: Dice that ends it")
    parser.add_argument("--mirroring", type=int, default=1, help="predict: 1 as it comes, 0 without")
    typed = parser.parse_args()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(typed.work / name)
    if typed.task == "plan":
        say(plan())
    elif typed.task == "step":
        say(time_steps(typed.work, typed.batch, typed.steps))
    elif typed.task == "train":
        clock = {"wall": time.perf_counter, "cpu": time.process_time}[typed.clock]
        train(typed.work, typed.batch, typed.marks, typed.target, clock)
    else:
        say(time_prediction(typed.work, bool(typed.mirroring)))


def say(figures):
    print(MARK + json.dumps(figures), flush=True)


def plan():
    """Fingerprint, plans and preprocessing, by nnU-Net's own functions."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )

    extract_fingerprints([DATASET_ID], num_processes=1, show_progress_bar=False)
    plan_experiments([DATASET_ID])
    preprocess_dataset(DATASET_ID, PLANS, (CONFIGURATION,), num_processes=(1,), show_progress_bar=False)
    return {}


def make_trainer(work, batch):
    """A trainer on the CPU, ready to step."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = json.loads((work / "preprocessed" / DATASET / f"{PLANS}.json").read_text())
    plans["continue_training"] = False
    if batch:
        plans["configurations"][CONFIGURATION]["batch_size"] = batch
    dataset = json.loads((work / "raw" / DATASET / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, dataset, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def time_steps(work, batch, steps):
    """Seconds of a training step, without its loader."""
    trainer = make_trainer(work, batch)
    trainer.on_train_start()
    trainer.network.train()
    seconds = []
    for _ in range(steps + 1):
        data = next(trainer.dataloader_train)
        start = time.perf_counter()
        trainer.train_step(data)
        seconds.append(time.perf_counter() - start)
    trainer.on_train_end()
    return {"seconds": statistics.median(seconds[1:]), "batch": trainer.batch_size, **describe(trainer)}


def describe(trainer):
    parameters = sum(p.numel() for p in trainer.network.parameters())
    return {"parameters": parameters, "patch": [int(n) for n in trainer.configuration_manager.patch_size]}


def train(work, batch, marks, target, clock):
    """Trains, and says the Dice of each tested person at each mark; only training counts into the time."""
    trainer = make_trainer(work, batch)
    trainer.on_train_start()
    trainer.network.train()
    seconds, steps, losses = 0.0, 0, []
    for mark in marks:
        while seconds < mark:
            start = clock()
            losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
            seconds += clock() - start
            steps += 1
        dice = test(trainer, work)
        say({"seconds": seconds, "steps": steps, "dice": dice, "loss": losses[-1], "batch": trainer.batch_size})
        if min(dice.values()) >= target:
            break
    trainer.on_train_end()


def test(trainer, work):
    """Dice of each person, over all voxels of their test volumes, every label as one."""
    import numpy as np

    predictor, reader = make_predictor(trainer, mirroring=True)
    sums = {}
    for path in sorted((work / "test").glob("*_image.nii.gz")):
        image, properties = reader.read_images([str(path)])
        truth, _ = reader.read_seg(str(path).replace("_image", "_label"))
        predicted = predictor.predict_single_npy_array(image, properties)
        both, either = sums.setdefault(path.name.split("_")[1], [0, 0])
        both += int(np.count_nonzero((predicted > 0) & (truth[0] > 0)))
        either += int(np.count_nonzero(predicted > 0) + np.count_nonzero(truth[0] > 0))
        sums[path.name.split("_")[1]] = [both, either]
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    return {who: 2 * both / max(either, 1) for who, (both, either) in sums.items()}


def make_predictor(trainer, mirroring):
    """A predictor of the trainer's network as it stands, and the reader of its files."""
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    *_, mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    weights = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [weights], trainer.dataset_json,
        type(trainer).__name__, mirror_axes,
    )  # fmt: skip
    return predictor, SimpleITKIO()


def time_prediction(work, mirroring):
    """Seconds a slice of the first test volume, from its array to its label map; reading it does not count."""
    trainer = make_trainer(work, None)
    predictor, reader = make_predictor(trainer, mirroring)
    path = min((work / "test").glob("*_image.nii.gz"))
    image, properties = reader.read_images([str(path)])
    predictor.predict_single_npy_array(image[:, :1], properties)  # warm
    start = time.perf_counter()
    predictor.predict_single_npy_array(image, properties)
    return {"seconds": (time.perf_counter() - start) / image.shape[1], "slices": image.shape[1], **describe(trainer)}


if __name__ == "__main__":
    main()
