"""How long from DICOM files to a label map? inference.py with its fastest engine beside torch as it comes.

python benchmarks/end_to_end.py --work=FOLDER [--slices=300] [--image_size=512] [--epochs=10] [--rounds=3] [--append]

Whole commands, in turns: A is `--engine=auto`, B is `--engine=torch --precision=32` on the default allocator. The first
run of A exports the network and is told apart. The bare network is what the engine alone needs for as many slices.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

from engines import VARIANTS, last_line
from harness import Measured, measure, report, table, train_small
from reading import write_slices

COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "auto": (["--engine=auto"], {}),
    "torch": (["--engine=torch", "--precision=32"], {"SARCO_MALLOC": "default"}),
}
BARE_SLICES = 24
TOLD = {  # in this order, because one begins like the next
    "OpenVINO, bf16": "OpenVINO bf16",
    "OpenVINO, fp32 and bf16": "OpenVINO fp32 and bf16",
    "OpenVINO, fp32": "OpenVINO fp32",
    "torch": "torch fp32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--image_size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    work = typed.work.resolve()
    checkpoint = train_small(work, typed.image_size, typed.epochs)
    series = work / f"series{typed.slices}"
    if not series.is_dir():
        series.mkdir(parents=True)
        write_slices(series, typed.slices, compress=False)
    cold = predict("auto", work, checkpoint, series)
    found: dict[str, list[Measured]] = {name: [] for name in COMMANDS}
    bare: list[float] = []
    chosen = name_of_engine(cold)
    for _ in range(typed.rounds):
        for name in COMMANDS:
            found[name].append(predict(name, work, checkpoint, series))
            print(name, found[name][-1], file=sys.stderr, flush=True)
        own = [f"--work={work}", f"--image_size={typed.image_size}", f"--slices={BARE_SLICES}"]
        alone = measure("benchmarks/engines.py", f"--worker={chosen}", *own, **VARIANTS[chosen][2])
        bare.append(last_line(alone)["ms"] * typed.slices / 1000)
    agreement = run_metrics(work, series)
    rows = [row(name, runs, typed.slices) for name, runs in [("auto, first run", [cold]), *found.items()]]
    fast, slow = (statistics.median(m.seconds for m in found[name]) for name in COMMANDS)
    alone_s = statistics.median(bare)
    head = ["command", "seconds", "spread", "ms per slice", "CPU seconds", "seconds to the first slices", "peak MB"]
    text = table(head, rows) + (
        f"\n\nauto took {chosen}. It is **{slow / fast:.2f} times** as fast as torch at 32 bits on the default "
        f"allocator. The bare network needs {alone_s:.1f} s, so the whole takes {fast / alone_s:.2f} times that. "
        f"{agreement} {typed.slices} slices of 512 x 512, image size {typed.image_size}, b0 with U-Net; medians of "
        f"{typed.rounds} rounds taken in turns; whole commands with start-up."
    )
    command = f"python benchmarks/end_to_end.py --work=FOLDER --slices={typed.slices} --image_size={typed.image_size}"
    report("From DICOM to a label map", command, text, typed.append, ("openvino",))


def predict(name: str, work: Path, checkpoint: Path, series: Path) -> Measured:
    """One whole command; "engine" or "device" is said once the first slices are through or about to be."""
    flags, environment = COMMANDS[name]
    run_id = checkpoint.parent.name.removesuffix("_Trains")
    words = [f"--infer_path={series}", f"--run_id={run_id}", f"--dirpath={checkpoint.parents[1]}", "--wandb=no"]
    own = [f"--dest_dir={work / name}", "--overwrite=yes", "--gpu=-1"]
    return measure("inference.py", *words, *own, *flags, wait_for="engine: ", **environment)


def name_of_engine(done: Measured) -> str:
    """The line of `engines.VARIANTS` that a command says it took."""
    line = next(line for line in done.output.splitlines() if line.startswith("engine: "))
    return next(name for told, name in TOLD.items() if line.startswith(f"engine: {told}"))


def run_metrics(work: Path, series: Path) -> str:
    """How far the label maps of both commands agree."""
    from sarco.comparison.maps import compare_label_maps

    name = next((work / "auto").glob(f"preds_from_*_of_{series.name}")).name
    compared = compare_label_maps(*(work / one / name / "label_map.nii.gz" for one in ("torch", "auto")))
    return f"Dice of the two label maps: {min(one.dice for one in compared):.5f}."


def row(name: str, runs: list[Measured], slices: int) -> list[str]:
    """One line of the table."""
    middle = statistics.median(m.seconds for m in runs)
    spread = (max(m.seconds for m in runs) - min(m.seconds for m in runs)) / middle
    first = statistics.median(m.first_seconds for m in runs)
    return [
        name, f"{middle:.1f}", f"{spread:.0%}", f"{1000 * middle / slices:.0f}",
        f"{statistics.median(m.cpu_seconds for m in runs):.1f}", "" if math.isnan(first) else f"{first:.1f}",
        f"{max(m.peak_mb for m in runs):.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
