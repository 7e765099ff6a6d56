"""How does sarco compare with nnU-Net v2 2D on the same slices and the same machine?

python benchmarks/peers.py QUESTION --work=FOLDER --nnunet=PYTHON [--append]

PYTHON is the interpreter of an environment of its own with `pip install nnunetv2`. Questions:

predict  seconds a predicted slice: inference.py from DICOM to results, beside nnU-Net's network and way back alone;
         a network is trained first, once, so that sarco may take bf16
step     seconds a training step at the same batch, both without their loaders
target   time until validation Dice 0.90 on phantoms

How well either does on people it never saw is asked by strangers.py.

What is not measured alike is measured in nnU-Net's favour: its planning, start-up, reading and validation never count,
sarco's always do. `benchmarks/nnunet_worker.py` is what runs over there.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end import predict
from harness import ROOT, make_phantoms, read_metrics, report, table, train_small
from nnunet_worker import DATASET, MARK
from reading import write_slices
from training_step import start_child

from sarco.core.training_options import DataOptions
from sarco.io.images import read_hu
from sarco.io.nifti import write_label_map, write_volume
from sarco.layouts.case import Case
from sarco.scan.series import make_series
from sarco.training.cases import find_cases
from sarco.training.split import split_by_patient

PREDICTED = 6  # slices that nnU-Net predicts at a time
TARGET_DICE = 0.90
NNUNET_MARKS = (90, 180, 270)  # seconds of training
LEARN = ("--learning_rate=2e-3", "--pretrained=no", "--wandb=no", "--gpu=-1", "--batch_size=8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("predict", "step", "target"))
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    parser.add_argument(
        "--image_size", type=int, default=512, help="for predict and step; a phantom has as many pixels"
    )
    parser.add_argument("--slices", type=int, default=300, help="that inference.py predicts")
    parser.add_argument("--batch", type=int, default=2, help="slices a training step")
    parser.add_argument("--epochs", type=int, default=30, help="predict: of the network that is trained first")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    typed.work, typed.nnunet = typed.work.resolve(), typed.nnunet.absolute()
    compare = {"predict": compare_prediction, "step": compare_steps, "target": compare_target}[typed.question]
    title, text = compare(typed)
    command = f"python benchmarks/peers.py {typed.question} --work=FOLDER --nnunet=PYTHON"
    report(f"Beside nnU-Net: {title}", command, f"{text}\n\n{versions(typed.nnunet)}", typed.append)


def compare_prediction(typed: argparse.Namespace) -> tuple[str, str]:
    """Seconds a slice."""
    side = typed.image_size
    checkpoint = train_small(typed.work, side, typed.epochs)
    series = typed.work / f"series{typed.slices}"
    if not series.is_dir():
        series.mkdir(parents=True)
        write_slices(series, typed.slices, compress=False)
    few = make_phantoms(typed.work / f"few{side}", patients=2, slices=PREDICTED, size=side, seed=5)
    place = prepare_nnunet(typed.nnunet, typed.work / "nnunet" / f"few{side}", [few])
    predict("auto", typed.work, checkpoint, series)  # exports the network, once
    names = ("nnU-Net", "nnU-Net, no mirroring", "sarco")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(typed.rounds):
        for name, mirroring in zip(names[:2], (1, 0), strict=True):
            (figures,) = nnunet(typed.nnunet, place, "predict", f"--mirroring={mirroring}")
            seconds[name].append(float(figures["seconds"]))
        seconds["sarco"].append(predict("auto", typed.work, checkpoint, series).seconds / typed.slices)
    text = ratios(seconds, "a slice") + (
        f"\n\n{side} x {side}. sarco: whole command, {typed.slices} slices from DICOM to label map, measurements and "
        f"review page. nnU-Net: array to label map of {figures['slices']} slices, patch {figures['patch']}, "
        f"{figures['parameters'] / 1e6:.0f} M parameters, warm. Medians of {typed.rounds} rounds taken in turns."
    )
    return "a predicted slice", text


def compare_steps(typed: argparse.Namespace) -> tuple[str, str]:
    """Seconds a training step."""
    side = typed.image_size
    few = make_phantoms(typed.work / f"few{side}", patients=2, slices=PREDICTED, size=side, seed=5)
    place = prepare_nnunet(typed.nnunet, typed.work / "nnunet" / f"few{side}", [few])
    seconds: dict[str, list[float]] = {"nnU-Net": [], "sarco": []}
    for _ in range(typed.rounds):
        (figures,) = nnunet(typed.nnunet, place, "step", f"--batch={typed.batch}")
        seconds["nnU-Net"].append(float(figures["seconds"]))
        seconds["sarco"].append(statistics.median(start_child("sarco, auto", side, typed.batch, 3)["seconds"]))
    text = ratios(seconds, "a step") + (
        f"\n\n{typed.batch} slices of {side} x {side} a step; nnU-Net has {figures['parameters'] / 1e6:.0f} M "
        f"parameters. Loaders do not count. Medians of {typed.rounds} rounds taken in turns."
    )
    return "a training step", text


def compare_target(typed: argparse.Namespace) -> tuple[str, str]:
    """Time until a Dice on validation patients is reached."""
    data = make_phantoms(typed.work / "target256", patients=12, slices=8, size=256, seed=3)
    seconds, epoch = time_until(typed.work, data, TARGET_DICE)
    place = prepare_nnunet(typed.nnunet, typed.work / "nnunet" / "target256", [data])
    rows = [["sarco", f"{seconds:.0f}", f"epoch {epoch}", f">= {TARGET_DICE}", "1.0"]]
    words = (f"--batch={typed.batch}", f"--target={TARGET_DICE}", "--marks", *map(str, NNUNET_MARKS))
    for figures in nnunet(typed.nnunet, place, "train", *words):
        cells = [f"{figures['seconds']:.0f}", f"step {figures['steps']}", f"{figures['dice']['validation']:.3f}"]
        rows.append([f"nnU-Net, batch {figures['batch']}", *cells, f"{figures['seconds'] / seconds:.1f}"])
    text = table(["", "seconds", "after", "Dice, validation patients", "times sarco's"], rows) + (
        "\n\n12 phantom patients of 8 slices of 256 x 256, the same split. sarco: from the command to the end of the "
        "epoch, with start-up, reading and validation. nnU-Net: its training steps alone."
    )
    return "time to Dice 0.90", text


def time_until(work: Path, data: Path, dice: float) -> tuple[float, int]:
    """Seconds from the command on, and the epoch, in which a training reaches this Dice."""
    runs = work / "target_runs"
    shutil.rmtree(runs, ignore_errors=True)
    words = [f"--data_dir={data}", f"--dirpath={runs}", "--run_id=target", "--image_size=256", "--seed=0", *LEARN]
    start = time.perf_counter()
    log = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "training.py", *words], cwd=ROOT, stdout=log, stderr=log) as process:
        while process.poll() is None:
            time.sleep(0.2)
            if (runs / "target_Trains" / "metrics.csv").is_file():
                for row in read_metrics(runs / "target_Trains"):
                    if float(row["val_dice"] or 0) >= dice:
                        seconds = time.perf_counter() - start
                        process.terminate()
                        return seconds, int(row["epoch"])
    sys.exit(f"training.py ended before it reached Dice {dice}")


def volumes(
    folder: Path, wanted: Sequence[int] | None = None, every: int = 1
) -> Iterator[tuple[tuple, np.ndarray, np.ndarray]]:
    """Each series of a data folder: its slices, HU and label ids (row, column, slice), in order of position.

    Args:
        folder: as for training.
        wanted: indices into the slices of its data set; all without.
        every: only each so-many-th of them.
    """
    slices = find_cases(folder).slices
    taken = [slices[i] for i in (range(len(slices)) if wanted is None else wanted)]
    for uid in sorted({one.header.series_uid for one in taken}):
        own = [one for one in taken if one.header.series_uid == uid]
        own = sorted(own, key=lambda one: one.slice_index)[::every]
        series = make_series([one.header for one in own])
        read_maps = lru_cache(maxsize=1)(Case.read_label_maps)  # a case of many slices is one file
        maps = {one.header.path: read_maps(one.case)[one.place] for one in own}
        hu = np.stack([read_hu(header) for header in series.slices], axis=-1)
        yield series.slices, hu, np.stack([maps[header.path] for header in series.slices], axis=-1)


def prepare_nnunet(
    python: Path, place: Path, train: Sequence[Path], test: Mapping[str, Path] | None = None, every: int = 1
) -> Path:
    """Writes a data set as nnU-Net wants it, plans and preprocesses it; once.

    Args:
        python: of its environment.
        place: where to; given back.
        train: folders of labelled slices; without ``test`` one, which is split by patient.
        test: further folders, by the name of a person.
        every: only each so-many-th slice of these.
    """
    if (place / "preprocessed" / DATASET / "splits_final.json").is_file():
        return place
    raw = place / "raw" / DATASET
    for folder in (raw / "imagesTr", raw / "labelsTr", place / "test", place / "preprocessed", place / "results"):
        folder.mkdir(parents=True, exist_ok=True)
    if test is not None:
        learnt = [volume for folder in train for volume in volumes(folder)]
        tested = [(who, volume) for who, folder in test.items() for volume in volumes(folder, every=every)]
    else:
        (folder,) = train
        split = split_by_patient(find_cases(folder).slices, DataOptions(data_dir=folder).val_fraction, seed=0)
        learnt = list(volumes(folder, split.train))
        tested = [("validation", volume) for volume in volumes(folder, split.val)]
    names = [f"case_{number:03d}" for number in range(len(learnt))]
    for name, (slices, hu, labels) in zip(names, learnt, strict=True):
        affine = make_series(slices).affine_lps
        write_volume(raw / "imagesTr" / f"{name}_0000.nii.gz", hu, affine)
        write_label_map(raw / "labelsTr" / f"{name}.nii.gz", (labels > 0).astype(np.uint8), affine)
    for number, (who, (slices, hu, labels)) in enumerate(tested):
        affine = make_series(slices).affine_lps
        write_volume(place / "test" / f"{number:03d}_{who}_image.nii.gz", hu, affine)
        write_label_map(place / "test" / f"{number:03d}_{who}_label.nii.gz", (labels > 0).astype(np.uint8), affine)
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "muscle": 1}, "numTraining": len(names),
               "file_ending": ".nii.gz"}  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(dataset))
    nnunet(python, place, "plan")
    # sarco's validation patients are not among the cases, so all of them train
    splits = [{"train": names, "val": names[:1]}]
    (place / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    return place


def nnunet(python: Path, place: Path, *words: str) -> list[dict[str, Any]]:
    """Runs nnunet_worker.py over there; gives the figures that it says."""
    command = [str(python), str(ROOT / "benchmarks" / "nnunet_worker.py"), *words, f"--work={place}"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    figures = [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
    print(words, figures, file=sys.stderr, flush=True)
    return figures


def versions(python: Path) -> str:
    """Of nnU-Net and its torch."""
    code = 'from importlib.metadata import version as v; print(f\'nnunetv2 {v("nnunetv2")} with torch {v("torch")}.\')'
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def ratios(seconds: dict[str, list[float]], unit: str) -> str:
    """A table of medians, and how often sarco's goes into each."""
    base = statistics.median(seconds["sarco"])
    rows = []
    for name, values in seconds.items():
        middle = statistics.median(values)
        rows.append([name, f"{middle:.3f}", f"{(max(values) - min(values)) / middle:.0%}", f"{middle / base:.1f}"])
    return table(["", f"seconds {unit}", "spread", "times sarco's"], rows)


if __name__ == "__main__":
    main()
