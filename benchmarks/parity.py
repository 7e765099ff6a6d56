"""Do the engines draw the same masks? Every engine beside torch at 32 bits, on phantom and real series.

python benchmarks/parity.py --runs DIRPATH --run_ids ID [ID ...] [--phantoms=20] [--data FOLDERS] [--append]

Whole predictions, on the grid of each series. `auto` is what users get: the faster precision where its own check on a
few slices passes, else a slower one. Of the phantoms half are as in training, the other half lie oblique.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import compare_ids, report, table

from sarco.io.images import find_images
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.prediction.choose import Opened, open_network
from sarco.prediction.judge import FEWEST_PIXELS, LARGEST_AREA_DIFFERENCE, LOWEST_DICE, Agreement
from sarco.prediction.pipeline import predict_series
from sarco.runs.store import Provenance, RunStore
from sarco.scan.series import Series

ENGINES = {"auto": ("auto", "auto"), "OpenVINO fp32": ("openvino", "32"), "ONNX Runtime fp32": ("onnx", "32")}
FIRST_SEED = 5001  # of patients that no training sees
SLICES = 6


@dataclass(frozen=True)
class Compared:
    """One series by one engine."""

    group: str
    engine: str
    took: str
    agreement: Agreement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="DIRPATH of training.py")
    parser.add_argument("--run_ids", nargs="+", required=True)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders with real series")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    rows = []
    for run_id in typed.run_ids:
        checkpoint = RunStore(typed.runs).checkpoint(run_id, None, "best")
        with tempfile.TemporaryDirectory() as scratch:
            found = list(compare(run_id, checkpoint, list(every_series(typed.phantoms, typed.data, Path(scratch)))))
        for group in dict.fromkeys(one.group for one in found):
            for engine in ENGINES:
                rows.append(row(run_id, [one for one in found if (one.group, one.engine) == (group, engine)]))
    head = ["network", "series", "engine", "compared", "took bf16", "lowest Dice", "median Dice", "largest area apart",
            f"beyond {LOWEST_DICE} or {LARGEST_AREA_DIFFERENCE:.1%}"]  # fmt: skip
    text = table(head, rows) + "\n\nSeries in which torch draws fewer than 100 pixels are not compared."
    command = "python benchmarks/parity.py --runs DIRPATH --run_ids IDS --data FOLDERS"
    report("Masks of the engines", command, text, typed.append, ("openvino", "onnxruntime"))


def every_series(phantoms: int, data: list[Path], scratch: Path) -> Iterator[tuple[str, Series]]:
    """Phantoms, then the readable axial series of the folders."""
    for number in range(phantoms):
        options = PhantomOptions(n_slices=SLICES, rows=256, columns=256, oblique=number % 2 == 1)
        folder = scratch / str(number)
        write_series(make_phantom(FIRST_SEED + number, options), folder, patient_id="P", seed=number)
        yield ("phantoms, oblique" if options.oblique else "phantoms"), find_images(folder).series[0]
    for root in data:
        for series in find_images(root, allow_gaps=True).series:
            yield str(series.slices[0].path.parent.relative_to(root.parent)), series


def compare(run_id: str, checkpoint: Path, everything: list[tuple[str, Series]]) -> Iterator[Compared]:
    """Every series by every engine, beside torch."""
    sha256 = Provenance.of(run_id, "", checkpoint).sha256
    networks = {
        name: open_with(checkpoint, sha256, *how) for name, how in {"torch": ("torch", "32"), **ENGINES}.items()
    }
    for group, series in everything:
        maps, took = {}, {}
        for name, opened in networks.items():
            predicted = predict_series(opened.network, series, opened.description.data, opened.description.labels)
            maps[name], took[name] = predicted.label_map, predicted.engine
        reference = maps.pop("torch")
        for name, other in maps.items():
            yield Compared(group, name, took[name], compare_ids(reference, other))
        print(group, took["auto"], file=sys.stderr, flush=True)


def open_with(checkpoint: Path, sha256: str, engine: str, precision: str) -> Opened:
    return open_network(checkpoint, sha256, engine, precision, gpu=-1)


def row(run_id: str, found: list[Compared]) -> list[str]:
    """One line of the table."""
    judged = [one.agreement for one in found if one.agreement.n_pixels >= FEWEST_PIXELS]
    beyond = [one for one in judged if not one.holds]
    first = found[0]
    if not judged:
        return [run_id, first.group, first.engine, "0", "", "", "", "", ""]
    bf16 = sum("bf16" in one.took for one in found)
    return [
        run_id, first.group, first.engine, str(len(judged)), str(bf16), f"{min(one.dice for one in judged):.5f}",
        f"{statistics.median(one.dice for one in judged):.5f}", f"{max(one.area_difference for one in judged):.3%}",
        str(len(beyond)),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
