"""What do more slices, larger images, larger backbones and larger batches cost? Time and memory, each alone.

python benchmarks/scaling.py QUESTION --work=FOLDER [--append]

network   a slice through the network on OpenVINO, for b0 to b7 and for several image sizes; FLOPs and weights
slices    the whole of inference.py for series of several lengths
batch     a training step for several batches and backbones

Each figure comes from a process of its own, so that its peak of memory is its own. Weights are random where only time
is asked for.
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from end_to_end import predict
from engines import last_line
from harness import measure, report, table, train_small
from reading import write_slices

BACKBONES = tuple(f"b{n}" for n in range(8))
SIDES = (128, 256, 384, 512, 768)
LENGTHS = (30, 100, 300, 600)
BATCHES = (("b0", 2), ("b0", 4), ("b0", 8), ("b0", 16), ("b2", 8), ("b4", 4), ("b7", 2))
TRAINING_SIDE = 256
TIMED = 8  # slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("network", "slices", "batch"))
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--image_size", type=int, default=512, help="of networks, where it does not vary")
    parser.add_argument("--epochs", type=int, default=30, help="slices: of the network that is trained first")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "BACKBONE", "NUMBER"), help=argparse.SUPPRESS)
    typed = parser.parse_args()
    typed.work = typed.work.resolve()
    if typed.child:
        kind, backbone, number = typed.child
        figures = time_training(backbone, int(number)) if kind == "batch" else time_network(backbone, int(number), kind)
        print(json.dumps(figures))
        return
    answers = {"network": scale_network, "slices": scale_slices, "batch": scale_batch}
    title, text = answers[typed.question](typed)
    command = f"python benchmarks/scaling.py {typed.question} --work=FOLDER"
    report(f"Scaling: {title}", command, text, typed.append, ("openvino",))


def child(typed: argparse.Namespace, *words: str) -> dict[str, float]:
    """Figures of one process, with its CPU seconds and memory."""
    print(*words, flush=True)
    done = measure("benchmarks/scaling.py", typed.question, f"--work={typed.work}", "--child", *words)
    return {**last_line(done), "peak": done.peak_mb}


def scale_network(typed: argparse.Namespace) -> tuple[str, str]:
    """Backbones at one size, then sizes with one backbone."""
    rows = []
    cells = [(name, typed.image_size) for name in BACKBONES] + [("b0", side) for side in SIDES]
    for backbone, side in cells:
        exact, fast = (child(typed, precision, backbone, str(side)) for precision in ("f32", "bf16"))
        rows.append([
            backbone, str(side), f"{exact['parameters'] / 1e6:.1f}", f"{exact['gflop']:.1f}", f"{exact['ms']:.0f}",
            f"{fast['ms']:.0f}", f"{exact['ms'] / exact['gflop']:.1f}", f"{exact['peak']:.0f}", f"{fast['peak']:.0f}",
        ])  # fmt: skip
    head = ["backbone", "image size", "M parameters", "GFLOP per slice", "ms, fp32", "ms, bf16", "ms per GFLOP, fp32",
            "peak MB, fp32", "peak MB, bf16"]  # fmt: skip
    text = table(head, rows) + (
        f"\n\nU-Net decoder, OpenVINO, network alone, {TIMED} slices after one; memory is that of the whole process, "
        "with torch and the export in it."
    )
    return "backbones and image sizes", text


def scale_slices(typed: argparse.Namespace) -> tuple[str, str]:
    """Whole commands for series of several lengths."""
    checkpoint = train_small(typed.work, typed.image_size, typed.epochs)
    rows = []
    for length in LENGTHS:
        series = typed.work / f"series{length}"
        if not series.is_dir():
            series.mkdir(parents=True)
            write_slices(series, length, compress=False)
        runs = [predict("auto", typed.work, checkpoint, series) for _ in range(2)]
        best = min(runs, key=lambda run: run.seconds)
        rows.append([
            str(length), f"{best.seconds:.1f}", f"{1000 * best.seconds / length:.0f}", f"{best.first_seconds:.1f}",
            f"{best.cpu_seconds:.1f}", f"{best.peak_mb:.0f}",
        ])  # fmt: skip
    head = ["slices", "seconds", "ms per slice", "seconds to the first slices", "CPU seconds", "peak MB"]
    text = table(head, rows) + (
        f"\n\n512 x 512, image size {typed.image_size}, b0 with U-Net, `--engine=auto`, the better of two whole "
        "commands."
    )
    return "length of a series", text


def scale_batch(typed: argparse.Namespace) -> tuple[str, str]:
    """Training steps."""
    rows = []
    for backbone, batch in BATCHES:
        found = child(typed, "batch", backbone, str(batch))
        cost = [f"{found['seconds']:.2f}", f"{1000 * found['seconds'] / batch:.0f}"]
        rows.append([backbone, str(batch), *cost, f"{found['peak']:.0f}"])
    text = table(["backbone", "batch", "seconds per step", "ms per slice", "peak MB"], rows) + (
        f"\n\nImage size {TRAINING_SIDE}, U-Net decoder, precision auto, medians of 3 steps after one, no loader."
    )
    return "batch of a training step", text


def time_network(backbone: str, side: int, precision: str) -> dict[str, float]:
    """Milliseconds a slice on OpenVINO, with what the network is made of."""
    from sarco.core.command import tune_allocator

    tune_allocator()
    import numpy as np
    import torch
    from roofline import count_work

    from sarco.prediction.convert import export_openvino
    from sarco.prediction.openvino_engine import OpenVinoEngine

    network = make_network(backbone)
    work = count_work(network, side)
    parameters = sum(value.numel() for value in network.parameters())
    image = torch.rand(1, 1, side, side).numpy()
    engine = OpenVinoEngine(export_openvino(network, image), precision)
    with ThreadPoolExecutor(engine.n_parallel) as threads:
        list(threads.map(engine, [image] * engine.n_parallel))
        start = time.perf_counter()
        list(threads.map(engine, [np.array(image) for _ in range(TIMED)]))
    ms = 1000 * (time.perf_counter() - start) / TIMED
    return {"ms": ms, "gflop": sum(one.flop for one in work) / 1e9, "parameters": parameters}


def make_network(backbone: str):  # type: ignore[no-untyped-def]
    """A network with random weights, one input channel, background and one label."""
    from sarco.core.training_options import NetworkOptions
    from sarco.network.segmentation import build_network

    return build_network(NetworkOptions(backbone=f"efficientnet-{backbone}", pretrained="no"), 1, 2)


def time_training(backbone: str, batch: int) -> dict[str, float]:
    """Seconds a step, and the peak of memory."""
    from training_step import measure as measure_steps

    found = measure_steps("sarco, auto", TRAINING_SIDE, batch, 3, backbone, curve_steps=0)
    return {"seconds": statistics.median(found["seconds"])}


if __name__ == "__main__":
    main()
