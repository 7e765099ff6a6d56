"""Which training option helps? The same phantom set, seed and epochs for each; validation Dice side by side.

python benchmarks/training_options.py --work=FOLDER [--append]
"""

import argparse
from pathlib import Path

from harness import make_phantoms, read_metrics, report, run, table

VARIANTS = {
    "plain": [],
    "flips": ["--do_flips=yes"],
    "elastic": ["--do_elastic_transforms=yes"],
    "input mixup": ["--mixup=input"],
    "manifold mixup": ["--mixup=manifold"],
    "3-slice": ["--channel_3d=yes"],
    "segresnet": ["--model_choice=segresnet"],
    "b3": ["--backbone=efficientnet-b3"],
}
SIDE = 128
COMMON = [
    "--wandb=no", "--pretrained=no", f"--image_size={SIDE}", "--batch_size=8", "--learning_rate=2e-3", "--seed=0",
    "--scheduler=step", "--early_stopping=no", "--gpu=-1",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    data = make_phantoms(typed.work / "options_data", patients=16, slices=8, size=160, seed=1)
    rows = []
    for name, flags in VARIANTS.items():
        run_id = name.replace(" ", "-")
        folder = typed.work / "runs" / f"{run_id}_Trains{'_3d' if name == '3-slice' else ''}"
        words = ["training.py", f"--data_dir={data}", f"--dirpath={typed.work / 'runs'}", f"--run_id={run_id}"]
        run(*words, f"--max_epochs={typed.epochs}", *COMMON, *flags)
        metrics = read_metrics(folder)
        best = max(metrics, key=lambda row: float(row["val_ap"]))
        figures = [float(best["val_dice"]), float(best["val_ap"]), float(metrics[-1]["val_dice"])]
        rows.append([name, *(f"{figure:.3f}" for figure in figures), best["epoch"]])
        print(rows[-1], flush=True)
    head = ["variant", "Dice at best AP", "best AP", "Dice at the end", "best epoch"]
    text = table(head, rows) + (
        f"\n\n16 phantom patients of 8 slices, split by patient, {typed.epochs} epochs, image size {SIDE}, batch 8. "
        "One seed: differences below about 0.01 are chance."
    )
    report("Training options on the phantom", "python benchmarks/training_options.py", text, typed.append)


if __name__ == "__main__":
    main()
