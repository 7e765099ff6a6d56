"""Five folds on phantoms, and their mean beside each of them: Dice, area error, CPU seconds for a series.

python benchmarks/cross_validation.py --work=FOLDER [--append]

All folds are trained by one command. What they say together is tested on patients whom none of them saw.
"""

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from harness import measure, report, run, table
from peers import volumes

from sarco.api.predicting import OpenedRun
from sarco.core.options import InferenceOptions
from sarco.prediction.pipeline import predict_series
from sarco.quality.folds import LabelScore, score_patients, summarise_folds
from sarco.scan.series import make_series

FOLDS, PATIENTS, STRANGERS, SLICES, SIZE = 5, 20, 10, 4, 160
OPTIONS = ("--image_size=96", "--batch_size=4", "--pretrained=no", "--augment=light", "--gpu=-1", "--wandb=no")
TOGETHER = f"cv_fold1 to cv_fold{FOLDS}, together"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for phantoms and runs")
    parser.add_argument("--epochs", type=int, default=10, help="of each fold")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    work = typed.work.resolve()
    data, strangers = work / "phantoms", work / "strangers"
    for folder, patients, seed in ((data, PATIENTS, 1), (strangers, STRANGERS, 2001)):
        if not folder.is_dir():
            run("-m", "sarco", "phantom", str(folder), f"--patients={patients}", f"--slices={SLICES}",
                f"--size={SIZE}", f"--seed={seed}", "--groups=yes")  # fmt: skip
    runs = work / "checkpoints"
    trained = measure(
        "-m", "sarco", "train", str(data), "--run_id=cv", f"--dirpath={runs}", f"--folds={FOLDS}", "--fold=all",
        f"--max_epochs={typed.epochs}", *OPTIONS,
    )  # fmt: skip
    with open(runs / "cv_cross_validation.csv", newline="", encoding="utf-8") as file:
        scores = [
            (row["label"], *(float(row[key]) for key in ("dice", "dice_sd", "area_error")))
            for row in csv.DictReader(file)
        ]
    out_of_fold = [[label, f"{dice:.3f}", f"{sd:.3f}", f"{error:.1%}"] for label, dice, sd, error in scores]
    rows = []
    for name, words in [*((f"cv_fold{n}",) * 2 for n in range(1, FOLDS + 1)), (TOGETHER, "cv_fold*")]:
        found = {engine: try_on(words, engine, runs, strangers) for engine in ("torch", "openvino")}
        by_label = {one.label: one for one in found["torch"][0]}
        worst = min((one for label, one in by_label.items() if label != "all"), key=lambda one: one.dice)
        whole = by_label["all"]
        rows.append(
            [name, f"{whole.dice:.3f}", f"{np.mean([one.dice for one in by_label.values() if one is not whole]):.3f}",
             f"{worst.dice:.3f} ({worst.label})", f"{whole.area_error:.1%}",
             *(f"{seconds:.2f} s" for _, seconds in found.values())]
        )  # fmt: skip
        print(rows[-1], flush=True)
    text = (
        f"Each of {PATIENTS} phantoms ({SLICES} slices each) by the network that never saw it, after {typed.epochs} "
        f"epochs per fold; all folds by one command, in {trained.cpu_seconds:.0f} CPU seconds:\n\n"
        + table(["label", "Dice", "SD over patients", "area error"], out_of_fold)
        + f"\n\n{STRANGERS} phantoms that no fold saw:\n\n"
        + table(["run", "Dice, any label", "Dice, mean of labels", "the worst label", "area error, any label",
                 f"CPU, {SLICES} slices, torch", "OpenVINO"], rows)
        + "\n\nCPU seconds of all threads per series, median; engines are ready, reading and the way back are in it."
    )  # fmt: skip
    report(
        "Cross-validation and all folds together",
        "python benchmarks/cross_validation.py --work=FOLDER",
        text,
        typed.append,
    )


def try_on(run_ids: str, engine: str, runs: Path, people: Path) -> tuple[list[LabelScore], float]:
    """The scores of a run or of several on people that they never saw, and the median CPU seconds of a series."""
    options = InferenceOptions(
        run_id=run_ids, dirpath=runs, infer_path=people, engine=engine, precision="32", gpu=-1, wandb="no"
    )
    opened = OpenedRun(options, lambda line, reason: None)
    labels = opened.description.labels
    channel_of = np.zeros(256, dtype=np.int64)
    channel_of[list(labels.ids)] = np.arange(1, labels.n_channels)
    confusions, seconds = defaultdict(list), []
    for number, (slices, _, truth) in enumerate(volumes(people)):
        if not number:
            predict_series(opened.network, make_series(slices), opened.description.data, labels)  # engines compile
        start = time.process_time()
        found = predict_series(opened.network, make_series(slices), opened.description.data, labels).label_map
        seconds.append(time.process_time() - start)
        for plane in range(truth.shape[2]):
            pair = channel_of[truth[..., plane]] * labels.n_channels + channel_of[found[..., plane]]
            counts = np.bincount(pair.ravel(), minlength=labels.n_channels**2)
            confusions[str(number)].append(counts.reshape(labels.n_channels, -1))
    return summarise_folds(score_patients(confusions, list(labels.names.values()))), float(np.median(seconds))


if __name__ == "__main__":
    main()
