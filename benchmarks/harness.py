"""What the benchmarks share: phantom data, runs of the two scripts, tables, and the head of a result."""

import csv
import datetime
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
sys.path.insert(0, str(ROOT))  # so that a benchmark finds sarco from wherever it is started


def run(*words: str) -> float:
    """Runs python with these words from the project's root; gives the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def make_phantoms(folder: Path, patients: int, slices: int, size: int, seed: int) -> Path:
    """A phantom data set, made once."""
    if not folder.is_dir():
        run("-m", "sarco.phantom", str(folder), f"--patients={patients}", f"--slices={slices}", f"--size={size}",
            f"--seed={seed}")  # fmt: skip
    return folder


def read_metrics(run_folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with open(run_folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def report(title: str, command: str, text: str, append: bool) -> None:
    """Prints a result under its head and, if asked for, appends it to RESULTS.md."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "monai", "pytorch-lightning"))
    content = f"\n## {title}\n\n{datetime.date.today()}, {cpu_name()}, {versions}; `{command}`\n\n{text}\n"
    print(content)
    if append:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(content)


def cpu_name() -> str:
    """The processor, with its number of cores and whether it computes bf16."""
    import os

    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        entries = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in entries.items()}
        name, flags = fields.get("model name", name), fields.get("flags", "")
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if kind in flags.split()]
    return f"{os.cpu_count()} cores of {name} ({', '.join(kinds) or 'no vector flags known'})"
