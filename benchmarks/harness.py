"""What the benchmarks share: phantom data, runs of the two scripts, tables, and the head of a result."""

import csv
import datetime
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a worker sets up its process before it imports anything of sarco
    from sarco.prediction.judge import Agreement

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


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: from start to end.
        cpu_seconds: of all its threads; hardly changes where other work runs beside it.
        peak_mb: most memory at a time.
        first_seconds: until it said the line that was waited for; NaN where it did not.
        output: all that it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    first_seconds: float
    output: str


def measure(*words: str, wait_for: str = "\0", **environment: str) -> Measured:
    """Runs python with these words from the project's root and measures it.

    Args:
        words: of the command line.
        wait_for: how the line starts whose moment counts.
        environment: variables on top of this process's.
    """
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    start, first, lines = time.perf_counter(), math.nan, []
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if line.startswith(wait_for) and math.isnan(first):
                first = time.perf_counter() - start
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{''.join(lines)[-2000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, first, "".join(lines))


def train_small(work: Path, image_size: int, epochs: int) -> Path:
    """A network trained on phantoms with the project's own script, made once; gives its checkpoint."""
    runs, run_id = work / "checkpoints", f"small{image_size}"
    checkpoint = runs / f"{run_id}_Trains" / "best.ckpt"
    if not (checkpoint.parent / "curves.png").is_file():  # drawn at the end
        size = 512 if image_size > 256 else 256
        data = make_phantoms(work / f"phantoms{size}", patients=12, slices=8, size=size, seed=1)
        run("training.py", f"--data_dir={data}", f"--dirpath={runs}", f"--run_id={run_id}", "--wandb=no",
            "--pretrained=no", f"--image_size={image_size}", "--batch_size=4", f"--max_epochs={epochs}",
            "--learning_rate=2e-3", "--scheduler=step", "--gpu=-1")  # fmt: skip
    return checkpoint


def make_phantoms(folder: Path, patients: int, slices: int, size: int, seed: int) -> Path:
    """A phantom data set, made once."""
    if not folder.is_dir():
        run("-m", "sarco", "phantom", str(folder), f"--patients={patients}", f"--slices={slices}",
            f"--size={size}", f"--seed={seed}")  # fmt: skip
    return folder


def read_metrics(run_folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with open(run_folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compare_ids(reference: Any, other: Any) -> "Agreement":
    """How far two arrays of label ids agree, all labels together."""
    from sarco.prediction.judge import Agreement

    n_reference, n_other = int((reference > 0).sum()), int((other > 0).sum())
    both = int(((reference == other) & (reference > 0)).sum())
    dice = 2 * both / max(n_reference + n_other, 1)
    return Agreement(dice, abs(n_other - n_reference) / max(n_reference, 1), n_reference)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def report(title: str, command: str, text: str, append: bool, more: Sequence[str] = ()) -> None:
    """Prints a result under its head and, if asked for, appends it to RESULTS.md; ``more`` packages are named too."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "monai", "pytorch-lightning", *more))
    content = f"\n## {title}\n\n{datetime.date.today()}, {cpu_name()}, {versions}; `{command}`\n\n{text}\n"
    print(content)
    if append:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(content)


def cpu_name() -> str:
    """The processor, with its number of cores and whether it computes bf16."""
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        entries = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in entries.items()}
        name, flags = fields.get("model name", name), fields.get("flags", "")
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if kind in flags.split()]
    return f"{os.cpu_count()} cores of {name} ({', '.join(kinds) or 'no vector flags known'})"
