"""How wide should the decoder be? Dice on the phantom against the time of a training, for several widths.

python benchmarks/decoder_width.py --work=FOLDER [--epochs=12] [--seeds=2] [--append]

The width is no flag: each training runs in a process that sets it before the network is built.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from harness import ROOT, make_phantoms, read_metrics, report, run, table

WIDTHS = ((256, 128, 64, 32, 16), (128, 64, 32, 16, 16), (64, 32, 16, 16, 8))  # the second is sarco's
CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import training
from sarco.network import decoder
decoder.DECODER_CHANNELS = tuple(json.loads(sys.argv[2]))
training.main(sys.argv[3:])
"""
SIDE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2, help="runs of each width, with other weights and another split")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    data = make_phantoms(typed.work / "width_data", patients=10, slices=8, size=160, seed=1)
    figures: dict[tuple[int, ...], list[tuple[float, float]]] = {width: [] for width in WIDTHS}
    for seed in range(typed.seeds):
        for width in WIDTHS:
            figures[width].append(train(typed.work / f"width_runs_{time.time_ns()}", data, width, typed.epochs, seed))
            print(seed, width, figures[width][-1], flush=True)
    base = statistics.median(seconds for _, seconds in figures[WIDTHS[1]])
    rows = []
    for width, found in figures.items():
        dices = [dice for dice, _ in found]
        cost = statistics.median(seconds for _, seconds in found) / base
        each = ", ".join(f"{dice:.3f}" for dice in dices)
        rows.append([", ".join(map(str, width)), f"{statistics.mean(dices):.3f}", each, f"{cost:.2f}"])
    text = table(["channels, from the deepest level up", "best Dice", "seed by seed", "time of a training"], rows)
    text += f"\n\n10 phantom patients of 8 slices, {typed.epochs} epochs, image size {SIDE}, batch 8, b0, U-Net."
    words = f"--work=FOLDER --epochs={typed.epochs} --seeds={typed.seeds}"
    report("Width of the decoder", f"python benchmarks/decoder_width.py {words}", text, typed.append)


def train(runs: Path, data: Path, width: tuple[int, ...], epochs: int, seed: int) -> tuple[float, float]:
    """The best validation Dice, and the seconds of the whole training."""
    words = [
        f"--data_dir={data}", f"--dirpath={runs}", f"--cache_dir={data.parent / 'width_cache'}", "--run_id=run",
        f"--seed={seed}", f"--max_epochs={epochs}", "--wandb=no", "--pretrained=no", f"--image_size={SIDE}",
        "--batch_size=8", "--learning_rate=2e-3", "--scheduler=step", "--early_stopping=no", "--gpu=-1",
    ]  # fmt: skip
    seconds = run("-c", CHILD, str(ROOT), json.dumps(width), *words)
    return max(float(row["val_dice"]) for row in read_metrics(runs / "run_Trains")), seconds


if __name__ == "__main__":
    main()
