"""What the leaky activation of the decoder costs, beside the ReLU of earlier versions: a training step, a slice.

python benchmarks/activation.py [--sides 256 512] [--rounds=8] [--append]

Both in one process, in turns; the slice on OpenVINO, as predictions on a CPU compute.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import report, table
from training_step import make_step

from sarco.core.command import tune_allocator
from sarco.core.training_options import ACTIVATIONS, NetworkOptions
from sarco.network.segmentation import build_network
from sarco.prediction.convert import export_openvino
from sarco.prediction.openvino_engine import OpenVinoEngine, openvino_computes_bf16

BATCH = 8  # slices of a training step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    tune_allocator()
    rows = []
    for side in typed.sides:
        steps = {name: make_step("sarco, auto", side, BATCH, activation=name) for name in ACTIVATIONS}
        rows.append([str(side), f"training step of {BATCH}", *compare(steps, typed.rounds)])
        slices = {name: make_prediction(side, name) for name in ACTIVATIONS}
        rows.append([str(side), "slice on OpenVINO", *compare(slices, 4 * typed.rounds)])
    text = table(["image size", "what", *(f"{name}, CPU ms" for name in ACTIVATIONS), "ratio", "from, to"], rows)
    text += "\n\nb0, U-Net. CPU time of all threads, medians; the ratio is the median over pairs, with its quartiles."
    report("Leaky decoder", "python benchmarks/activation.py", text, typed.append)


def make_prediction(side: int, activation: str) -> Callable[[], object]:
    """A function that computes one slice."""
    torch.manual_seed(0)
    network = build_network(NetworkOptions(pretrained="no"), 1, 2, activation).eval()
    image = np.random.default_rng(0).random((1, 1, side, side), dtype=np.float32)
    engine = OpenVinoEngine(export_openvino(network, image), "bf16" if openvino_computes_bf16() else "f32")
    return lambda: engine(image)


def compare(ways: dict[str, Callable[[], object]], rounds: int) -> list[str]:
    """The cells of a row: CPU milliseconds of each way, and how they relate pair by pair."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if number:  # the first of each warms up
                taken[name].append(1000 * (time.process_time() - start))
    ratios = [one / other for one, other in zip(*taken.values(), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return [*(f"{statistics.median(each):.0f}" for each in taken.values()), f"{middle:.2f}", f"{low:.2f}, {high:.2f}"]


if __name__ == "__main__":
    main()
