"""How long does a training step take? The plain loop beside sarco's, on this CPU, with the curves of their losses.

python benchmarks/training_step.py [--sides 256 512] [--batch=8] [--steps=5] [--rounds=2] [--append]

The plain loop: float32, NCHW, the system's allocator, torch's own AdamW, as one writes it first. sarco's: what
training.py does. Each runs in a process of its own, because the allocator is chosen when a process starts; in turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from harness import ROOT, report, table

VARIANTS = ("plain", "sarco, fp32", "sarco, auto")
CURVE_STEPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process, after one that is not")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "SIDE"), help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.child:
        print(json.dumps(measure(typed.child[0], int(typed.child[1]), typed.batch, typed.steps)))
        return
    rows = []
    for side in typed.sides:
        runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in VARIANTS}
        for _ in range(typed.rounds):
            for name in VARIANTS:
                runs[name].append(start_child(name, side, typed.batch, typed.steps))
                print(side, name, f"{statistics.median(runs[name][-1]['seconds']):.2f} s", flush=True)
        rows += summarise(side, runs)
    head = [
        "image size",
        "loop",
        "seconds per step",
        "spread",
        "CPU seconds per step",
        "times faster",
        "loss, first to last",
    ]
    text = (
        table(head, rows)
        + f"\n\nBatch {typed.batch}, b0 with the U-Net decoder, medians of {typed.rounds} processes of {typed.steps} "
        "steps each, in turns. CPU seconds are those of all threads: they hardly notice other work on the machine. "
        f"The loss over {CURVE_STEPS} steps of the same data from the same first weights."
    )
    words = f"--sides {' '.join(map(str, typed.sides))} --batch={typed.batch} --steps={typed.steps}"
    report("A training step", f"python benchmarks/training_step.py {words}", text, typed.append)


def start_child(name: str, side: int, batch: int, steps: int) -> dict[str, list[float]]:
    """The figures of one process."""
    words = [f"--batch={batch}", f"--steps={steps}", "--child", name, str(side)]
    command = [sys.executable, __file__, *words]
    # Threads that wait spinning would count as CPU seconds, and hold each other up on a busy machine.
    environment = {"GOMP_SPINCOUNT": "0", **os.environ}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def summarise(side: int, runs: dict[str, list[dict[str, list[float]]]]) -> list[list[str]]:
    """The rows of an image size."""
    seconds = {name: [value for run in found for value in run["seconds"]] for name, found in runs.items()}
    cpu = {name: [value for run in found for value in run["cpu_seconds"]] for name, found in runs.items()}
    base = statistics.median(seconds["plain"])
    rows = []
    for name in VARIANTS:
        middle, curve = statistics.median(seconds[name]), runs[name][0]["losses"]
        spread = (max(seconds[name]) - min(seconds[name])) / middle
        cells = [f"{middle:.2f}", f"{spread:.0%}", f"{statistics.median(cpu[name]):.2f}", f"{base / middle:.2f}"]
        rows.append([str(side), name, *cells, " ".join(f"{loss:.3f}" for loss in curve)])
    return rows


def measure(
    name: str, side: int, batch: int, steps: int, backbone: str = "b0", curve_steps: int = CURVE_STEPS
) -> dict[str, list[float]]:
    """Times steps on invented slices that stay the same, in this process; the curve may take more steps."""
    if name != "plain":
        from sarco.core.command import tune_allocator

        tune_allocator()
    import torch

    step = make_step(name, side, batch, backbone)
    losses, seconds, cpu_seconds = [], [], []
    for number in range(max(curve_steps, steps + 1)):
        torch.manual_seed(number)  # of drop-connect
        start, cpu_start = time.perf_counter(), time.process_time()
        losses.append(step())
        if 1 <= number <= steps:
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "losses": losses[:curve_steps]}


def make_step(
    name: str, side: int, batch: int, backbone: str = "b0", activation: str = "leakyrelu"
) -> Callable[[], float]:
    """A function that does one step and gives its loss."""
    import torch

    from sarco.core.training_options import NetworkOptions
    from sarco.network.precision import bf16_pays_in_training
    from sarco.network.segmentation import build_network
    from sarco.training.loss import SegmentationLoss

    torch.manual_seed(0)
    network = build_network(NetworkOptions(backbone=f"efficientnet-{backbone}", pretrained="no"), 1, 2, activation)
    image, label = make_batch(side, batch)
    target, weight = torch.nn.functional.one_hot(label, 2).movedim(-1, 1).float(), torch.ones(batch, 1, 1, 1)
    if name != "plain":
        network = network.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=name != "plain")
    bf16 = name == "sarco, auto" and bf16_pays_in_training(side)
    criterion = SegmentationLoss()

    def step() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = criterion(network(image), target, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def make_batch(side: int, batch: int):  # type: ignore[no-untyped-def]
    """Slices of phantoms in [0, 1] (B, 1, S, S), and their label maps (B, S, S)."""
    import numpy as np
    import torch

    from sarco.phantom.patient import PhantomOptions, make_phantom

    phantom = make_phantom(1, PhantomOptions(n_slices=batch, rows=side, columns=side))
    hu = torch.from_numpy(np.moveaxis(phantom.hu, -1, 0).astype(np.float32))
    label = torch.from_numpy(np.moveaxis(phantom.label_map, -1, 0).astype(np.int64))
    return ((hu + 250) / 500).clamp(0, 1)[:, None].contiguous(), (label > 0).long()


if __name__ == "__main__":
    main()
