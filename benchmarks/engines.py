"""How fast is the network alone on each engine, and are its masks the same? A trained network, a phantom series.

python benchmarks/engines.py --work=FOLDER [--image_size=512] [--epochs=10] [--slices=24] [--rounds=3] [--append]

Each engine runs in a process of its own, in turns, because the allocator is set once for a process. Masks are compared
with those of torch at 32 bits.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import Measured, compare_ids, make_phantoms, measure, report, table, train_small

VARIANTS = {  # engine, precision, environment
    "torch fp32, default allocator": ("torch", "32-true", {"SARCO_MALLOC": "default"}),
    "torch fp32": ("torch", "32-true", {}),
    "torch bf16": ("torch", "bf16-mixed", {}),
    "ONNX Runtime fp32": ("onnx", "f32", {}),
    "OpenVINO fp32": ("openvino", "f32", {}),
    "OpenVINO fp32 and bf16": ("openvino", "mixed", {}),
    "OpenVINO bf16": ("openvino", "bf16", {}),
}
REFERENCE = "torch fp32"
WARM_UP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--image_size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    checkpoint = train_small(typed.work, typed.image_size, typed.epochs)
    series = make_phantoms(typed.work / f"unseen{typed.slices}", patients=1, slices=typed.slices, size=512, seed=1001)
    if typed.worker:
        print(json.dumps(work(typed.worker, checkpoint, series / "P001", typed.work)))
        return
    own = [f"--work={typed.work.resolve()}", f"--image_size={typed.image_size}", f"--slices={typed.slices}"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(typed.rounds):
        for name, (_, _, environment) in VARIANTS.items():
            done = measure("benchmarks/engines.py", f"--worker={name}", *own, **environment)
            found[name].append({**last_line(done), "peak": done.peak_mb})
            print(name, found[name][-1], file=sys.stderr, flush=True)
    slowest = statistics.median(run["ms"] for run in next(iter(found.values())))
    rows = [row(name, runs, slowest, typed.work) for name, runs in found.items()]
    head = ["engine", "ms per slice", "spread", "CPU ms per slice", "speed", "peak MB", "Dice", "area apart"]
    text = table(head, rows) + (
        f"\n\n{typed.slices} phantom slices, image size {typed.image_size}, b0 with U-Net, network alone, medians of "
        f"{typed.rounds} rounds taken in turns. Speed is beside the first line."
    )
    command = f"python benchmarks/engines.py --work=FOLDER --image_size={typed.image_size} --rounds={typed.rounds}"
    report("Engines, network alone", command, text, typed.append, ("openvino", "onnxruntime"))


def last_line(done: Measured) -> dict[str, float]:
    """What a worker says at its end."""
    return dict(json.loads(done.output.strip().splitlines()[-1]))


def work(name: str, checkpoint: Path, series: Path, folder: Path) -> dict[str, float]:
    """Times one engine in this process and leaves its masks in the folder."""
    from sarco.core.command import tune_allocator

    tune_allocator()
    engine, images = open_engine(name, checkpoint, series)
    steps = [images[start : start + engine.batch_size] for start in range(0, len(images), engine.batch_size)]
    with ThreadPoolExecutor(engine.n_parallel) as threads:
        list(threads.map(engine, steps[:WARM_UP]))
        wall, cpu = time.perf_counter(), time.process_time()
        logits = list(threads.map(engine, steps))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(folder / f"masks {name}.npy", np.concatenate(logits).argmax(axis=1).astype(np.uint8))
    return {"ms": 1e3 * wall / len(images), "cpu_ms": 1e3 * cpu / len(images)}


def open_engine(name: str, checkpoint: Path, series: Path) -> tuple[Any, Any]:
    """The engine, and what it sees of the series."""
    from sarco.crop.slices import SlicePreparer
    from sarco.io.images import find_images
    from sarco.network.device import Device
    from sarco.network.segmentation import load_network
    from sarco.prediction.convert import EXPORTS
    from sarco.prediction.onnx_engine import OnnxEngine
    from sarco.prediction.openvino_engine import OpenVinoEngine
    from sarco.prediction.torch_engine import TorchEngine

    kind, precision, _ = VARIANTS[name]
    description, network = load_network(checkpoint)
    (found,) = find_images(series).series
    prepare = SlicePreparer(found, description.data)
    images = np.stack([prepare(place).image for place in range(len(found.slices))])
    if kind == "torch":
        return TorchEngine(network, Device("cpu", 1, precision, "")), images
    files = EXPORTS[kind](network, images[:1])
    return OpenVinoEngine(files, precision) if kind == "openvino" else OnnxEngine(files["model.onnx"]), images


def row(name: str, runs: list[dict[str, float]], slowest: float, folder: Path) -> list[str]:
    """One line of the table."""
    middle = statistics.median(run["ms"] for run in runs)
    spread = (max(run["ms"] for run in runs) - min(run["ms"] for run in runs)) / middle
    found = compare_ids(*(np.load(folder / f"masks {one}.npy") for one in (REFERENCE, name)))
    cpu = statistics.median(run["cpu_ms"] for run in runs)
    peak = statistics.median(run["peak"] for run in runs)
    return [
        name, f"{middle:.0f}", f"{spread:.0%}", f"{cpu:.0f}", f"{slowest / middle:.2f}", f"{peak:.0f}",
        f"{found.dice:.5f}", f"{100 * found.area_difference:.3f} %",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
