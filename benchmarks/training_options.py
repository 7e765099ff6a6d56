"""Which training option helps? The same phantom set, seed and epochs for each; validation Dice side by side.

python benchmarks/training_options.py --work=FOLDER [--append]
"""

import argparse
import statistics
from pathlib import Path

from harness import make_phantoms, read_metrics, report, run, table

VARIANTS = {
    "plain": [],
    "no augmentation": ["--augment=no"],
    "light": ["--augment=light"],
    "strong and flips": ["--do_flips=yes"],
    "input mixup": ["--mixup=input"],
    "manifold mixup": ["--mixup=manifold"],
    "3-slice": ["--channel_3d=yes"],
    "segresnet": ["--model_choice=segresnet"],
    "b3": ["--backbone=efficientnet-b3"],
}
SIDE = 128
COMMON = [
    "--wandb=no", "--pretrained=no", f"--image_size={SIDE}", "--batch_size=8", "--gpu=-1",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--seeds", type=int, default=2, help="runs of each variant, with other weights and another split"
    )
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    data = make_phantoms(typed.work / "options_data", patients=16, slices=8, size=160, seed=1)
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in VARIANTS}
    for seed in range(typed.seeds):  # all variants of a seed side by side: what they share is the split
        for name, flags in VARIANTS.items():
            figures[name].append(train(typed.work / "runs", data, name, flags, typed.epochs, seed))
            print(seed, name, figures[name][-1], flush=True)
    rows = [[name, *summarise(figures[name])] for name in VARIANTS]
    head = ["variant", "Dice at best AP", "seed by seed", "best AP", "Dice at the end"]
    text = table(head, rows) + (
        f"\n\n16 phantom patients of 8 slices, split by patient, {typed.epochs} epochs, image size {SIDE}, batch 8; "
        f"means of {typed.seeds} seeds, each with its own split, the same for all variants."
    )
    command = f"python benchmarks/training_options.py --work=FOLDER --epochs={typed.epochs} --seeds={typed.seeds}"
    report("Training options on the phantom", command, text, typed.append)


def train(runs: Path, data: Path, name: str, flags: list[str], epochs: int, seed: int) -> tuple[float, float, float]:
    """Dice at the best average precision, that precision, and Dice at the end."""
    run_id = f"{name.replace(' ', '-')}-{seed}"
    folder = runs / f"{run_id}_Trains{'_3d' if name == '3-slice' else ''}"
    if not (folder / "curves.png").is_file():  # drawn at the end: a run that is there is not made again
        words = ["training.py", f"--data_dir={data}", f"--dirpath={runs}", f"--run_id={run_id}", f"--seed={seed}"]
        run(*words, f"--max_epochs={epochs}", *COMMON, *flags)
    metrics = read_metrics(folder)
    best = max(metrics, key=lambda row: float(row["val_ap"]))
    return float(best["val_dice"]), float(best["val_ap"]), float(metrics[-1]["val_dice"])


def summarise(figures: list[tuple[float, float, float]]) -> list[str]:
    """The cells of a row."""
    at_best, ap, at_end = (statistics.mean(column) for column in zip(*figures, strict=True))
    each = ", ".join(f"{dice:.3f}" for dice, _, _ in figures)
    return [f"{at_best:.3f}", each, f"{ap:.3f}", f"{at_end:.3f}"]


if __name__ == "__main__":
    main()
