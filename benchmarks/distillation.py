"""Does a student beat its teacher when human labels are few? And which confidence should a predicted slice have?

    python benchmarks/distillation.py --work=FOLDER [--real=SHARED_DATA] [--append]

Phantom: a teacher learns from few labelled patients and predicts patients without labels; students learn from both.
All are tested on patients that none of them saw. A control trains as many steps as the student, without predictions.
Real: the teacher learns from subject B and predicts subject A; the student is tested on A's own labels.
"""

import argparse
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
from harness import make_phantoms, report, run, table

from sarco.comparison.maps import compare_label_maps
from sarco.io.nifti import read_label_map
from sarco.scan.geometry import plane_affine

COMMON = [
    "--wandb=no", "--pretrained=no", "--image_size=128", "--batch_size=8", "--learning_rate=2e-3", "--seed=0",
    "--scheduler=step", "--early_stopping=no", "--gpu=-1", "--val_fraction=0.25",
]  # fmt: skip
THRESHOLDS = (0.0, 0.9, 0.955)


def train(work: Path, data: Path, run_id: str, epochs: int, *flags: str) -> None:
    words = ["training.py", f"--data_dir={data}", f"--dirpath={work / 'runs'}", f"--run_id={run_id}"]
    run(*words, f"--max_epochs={epochs}", *COMMON, *flags)


def predict(work: Path, source: Path, run_id: str) -> Path:
    run("inference.py", f"--infer_path={source}", f"--run_id={run_id}", f"--dirpath={work / 'runs'}",
        f"--dest_dir={work / 'out'}", "--ckpt_choice=last", "--wandb=no", "--gpu=-1")  # fmt: skip
    return work / "out" / f"preds_from_{run_id}_of_{source.name}"


def test_dice(work: Path, test: Path, run_id: str) -> tuple[float, float]:
    """Mean and standard deviation over test patients."""
    results = predict(work, test, run_id)
    scores = [
        compare_label_maps(truth, results / truth.name.removesuffix(".nii.gz") / "label_map.nii.gz")[0].dice
        for truth in sorted(test.glob("*.nii.gz"))
    ]
    return float(np.mean(scores)), float(np.std(scores))


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(truth & prediction) / total if total else 1.0


def confidence_table(results: Path, truth_folder: Path) -> str:
    """Dice of predicted slices with muscle, by their confidence."""
    pairs = []
    for folder in sorted(p.parent for p in results.rglob("prediction.json")):
        content = json.loads((folder / "prediction.json").read_text())
        truth = read_label_map(truth_folder / f"{folder.name}.nii.gz").ids > 0
        predicted = read_label_map(folder / "label_map.nii.gz").ids > 0
        for entry in content["slices"]:
            k = entry["slice_index"]
            pairs.append((entry["confidence"], dice(truth[:, :, k], predicted[:, :, k])))
    confidence, score = np.array(pairs).T
    edges = np.quantile(confidence, [0, 0.25, 0.5, 0.75, 1])
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & (confidence <= high)
        rows.append([f"{low:.3f}-{high:.3f}", str(inside.sum()), f"{score[inside].mean():.3f}",
                     f"{np.quantile(score[inside], 0.1):.3f}"])  # fmt: skip
    correlation = np.corrcoef(confidence, score)[0, 1]
    return (
        table(["confidence (quartiles)", "slices", "mean Dice", "10th percentile"], rows)
        + f"\n\nCorrelation of a slice's confidence and its Dice: {correlation:.2f}."
    )


def phantom(work: Path, epochs: int) -> str:
    labelled = make_phantoms(work / "labelled", patients=4, slices=6, size=160, seed=11)
    truth = make_phantoms(work / "unlabelled_truth", patients=10, slices=8, size=160, seed=2000)
    test = make_phantoms(work / "test", patients=8, slices=8, size=160, seed=3000)
    unlabelled = work / "unlabelled"
    if not unlabelled.is_dir():
        for patient in sorted(p for p in truth.iterdir() if p.is_dir()):
            shutil.copytree(patient, unlabelled / patient.name)
    train(work, labelled, "teacher", epochs)
    results = predict(work, unlabelled, "teacher")
    rows = [["teacher", *_cells(test_dice(work, test, "teacher"))]]
    # The student sees 98 slices per epoch where the teacher sees 18: as many steps for the control.
    train(work, labelled, "control", epochs * 5)
    rows.append(["control: teacher's data, as many steps as the students", *_cells(test_dice(work, test, "control"))])
    for threshold in THRESHOLDS:
        run_id = f"student-{int(threshold * 100)}"
        train(work, labelled, run_id, epochs, "--add_predicted_data=yes", f"--path_to_prediction={results}",
              f"--min_confidence={threshold}")  # fmt: skip
        rows.append([f"student, min_confidence {threshold:g}", *_cells(test_dice(work, test, run_id))])
    return (
        table(["run", "mean Dice", "SD over patients"], rows)
        + f"\n\nPhantom: 4 labelled patients of 6 slices (one of them validates), 10 unlabelled of 8, 8 test "
        f"patients of 8; {epochs} epochs (the control {epochs * 5}).\n\n" + confidence_table(results, truth)
    )


def _cells(scores: tuple[float, float]) -> list[str]:
    return [f"{scores[0]:.3f}", f"{scores[1]:.3f}"]


def real(work: Path, shared: Path, epochs: int) -> str:
    train(work, shared / "paraspinal_pairs" / "B", "teacherB", epochs)
    source = shared / "muscle_groups" / "A"
    results = predict(work, source, "teacherB")
    train(work, shared / "paraspinal_pairs" / "B", "studentB", epochs, "--add_predicted_data=yes",
          f"--path_to_prediction={results}")  # fmt: skip
    rows = []
    truth = read_label_map(shared / "muscle_groups" / "A.nii.gz")
    for run_id in ("teacherB", "studentB"):
        folder = work / "out" / f"preds_from_{run_id}_of_A"
        if run_id == "studentB":
            predict(work, source, run_id)
        predicted = read_label_map(folder / "label_map.nii.gz")
        headers = json.loads((folder / "prediction.json").read_text())["geometry"]
        affine = np.array(headers["affine_lps"])
        planes = []
        for k in range(predicted.ids.shape[2]):
            planes.append(truth.on_slice(plane_affine(affine, k), predicted.ids.shape[:2], folder))
        muscle = np.isin(np.stack(planes, axis=2), (1, 2))
        rows.append([run_id, f"{dice(muscle, predicted.ids > 0):.3f}"])
    return table(["run", "Dice on subject A (paraspinal)"], rows) + (
        f"\n\nTrained on 20 slices of subject B, {epochs} epochs; A's labels are used for this table alone."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--real", type=Path, help="folder with real CT: paraspinal_pairs and muscle_groups")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    text = phantom(typed.work, typed.epochs)
    print(text, flush=True)
    if typed.real:
        text += "\n\n" + real(typed.work, typed.real, typed.epochs * 2)
    report("Self-distillation with few human labels", "python benchmarks/distillation.py", text, typed.append)


if __name__ == "__main__":
    main()
