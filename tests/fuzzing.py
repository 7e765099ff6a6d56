"""The mutation fuzzer: damages small files of every kind that sarco reads, and counts how that ends.

A mutation ends well in a result that is right, or in a `SarcoError` of one line that names the path. Everything else is
a failure: any other exception, a result that other readers do not see, a warning or a word on stderr, more than a few
seconds, more than 1 GB of memory, the end of the process. ``python tests/fuzzing.py --first 0 --count 300`` prints a
line for each failure and counts; ``--only 17`` shows what mutation 17 does, with its traceback.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing_mutators import Files, flip_bits

MEMORY_BYTES = 2**30
LONGEST_S = 5.0  # of the processor's time, so that a busy machine is no failure
LONGEST_SILENCE_S = 120  # of the process: stuck where Python cannot be interrupted


@dataclass
class Score:
    """How mutations ended.

    Attributes:
        mutations, right, refused: counts.
        failures: (number of the mutation, what it did, kind, detail).
    """

    mutations: int = 0
    right: int = 0
    refused: int = 0
    failures: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Counts one mutation."""
        self.mutations += 1
        self.right += line["verdict"] == "right"
        self.refused += line["verdict"] == "refused"
        if line["verdict"] == "failed":
            self.failures.append((line["index"], line["what"], line["kind"], line["detail"]))

    def __str__(self) -> str:
        """Counts, then failures by kind with the first example of each."""
        lines = [
            f"{self.mutations} mutations: {self.right} right, {self.refused} refused, {len(self.failures)} failures"
        ]
        for kind, count in Counter(kind for _, _, kind, _ in self.failures).most_common():
            index, what, _, detail = next(one for one in self.failures if one[2] == kind)
            lines.append(f"{count:5d} x {kind}; first: mutation {index}, {what}: {detail}")
        return "\n".join(lines)


class TooLongError(BaseException):
    """A mutation takes longer than `LONGEST_S`; no `Exception`, so that nobody takes it for damage."""


def mutate(seeds: list[Any], seed: int, index: int) -> tuple[Any, Files, str]:
    """The mutation with this number: its seed, the damaged files, and what was done; always the same."""
    rng = random.Random(f"{seed} {index}")
    chosen = rng.choice(seeds)
    files = dict(chosen.files)
    said: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        for _ in range(8):
            if what := rng.choice(chosen.mutators)(rng, files):
                said.append(what)
                break
    if not said:
        said.append(flip_bits(rng, files) or "nothing")
    return chosen, files, f"{chosen.name}: {'; '.join(said)}"


def write_files(files: Files, folder: Path, root_mark: str) -> None:
    """Lays damaged files into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            content = content.replace(root_mark.encode(), str(folder).encode())  # noqa: PLW2901
        path.write_bytes(content)


def kind_of(error: BaseException) -> str:
    """Exceptions that have one cause, by name: what was raised and where in sarco."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/sarco/" in frame.filename]
    where = f" in {Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else ""
    words = (
        re.sub(r"[\d.]+", "N", str(error).split(":")[0].split(" [")[0])[:50]
        if type(error).__name__ == "WrongError"
        else ""
    )
    return f"{type(error).__name__}{where} {words}".strip()


class Worker:
    """Runs mutations in this process and watches memory, time and stderr."""

    def __init__(self, seed: int) -> None:
        import fuzzing_seeds

        self.seed = seed
        self.root_mark = fuzzing_seeds.ROOT_MARK
        base = Path("/dev/shm")
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz", dir=base if base.is_dir() else None))
        (self.scratch / "seeds").mkdir()
        self.seeds = fuzzing_seeds.make_seeds(self.scratch / "seeds")
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the worker
        signal.signal(signal.SIGPROF, self._too_long)

    @staticmethod
    def _too_long(*_: object) -> None:
        raise TooLongError

    def check_seeds(self) -> None:
        """What is not damaged has to be right; after this everything is imported."""
        for one in self.seeds:
            line = self.judge(one, one.files, "nothing", -1)
            if line["verdict"] != "right":
                raise SystemExit(f"seed {one.name} is {line['verdict']}: {line['kind']} {line['detail']}")

    def limit_memory(self) -> None:
        """From here on the process gets `MEMORY_BYTES` more than it has."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def judge(self, one: Any, files: Files, what: str, index: int, debug: bool = False) -> dict[str, Any]:
        """How one mutation ends."""
        folder = self.scratch / "case"
        folder.mkdir()
        line = {"index": index, "what": what[:300], "verdict": "failed", "kind": "", "detail": ""}
        kept = os.dup(2)
        self.stderr.seek(0)
        self.stderr.truncate()
        try:
            write_files(files, folder, self.root_mark)
            os.dup2(self.stderr.fileno(), 2)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
                line["verdict"] = one.judge(folder)
                signal.setitimer(signal.ITIMER_PROF, 0)
            self.stderr.seek(0)
            if noise := [str(warning.message) for warning in warned] or self.stderr.read().decode(errors="replace"):
                line |= {"verdict": "failed", "kind": "words on stderr", "detail": str(noise)[:200]}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # TooLongError, and Rust's panics, which are no Exception
            signal.setitimer(signal.ITIMER_PROF, 0)
            line |= {"kind": kind_of(error), "detail": str(error)[:300]}
            if debug:
                traceback.print_exc(file=sys.stdout)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.dup2(kept, 2)
            os.close(kept)
            shutil.rmtree(folder)
        return line

    def close(self) -> None:
        """Takes the scratch folder away."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def fuzz(first: int, count: int, seed: int = 0, memory: bool = True) -> Score:
    """Runs mutations in processes of their own; where one dies, the mutation that killed it is a failure."""
    score = Score()
    index = first
    while index < first + count:
        words = [sys.executable, __file__, "--first", str(index), "--count", str(first + count - index)]
        words += ["--seed", str(seed), "--worker", *([] if memory else ["--no_limit"])]
        last_words, index = run_worker(words, score, index)
        if index < first + count:  # it died
            if not score.mutations and index == first and "seed" in last_words:
                raise RuntimeError(last_words)
            kind = f"process died: {last_words[-60:]}"
            score.add({"index": index, "what": "?", "verdict": "failed", "kind": kind, "detail": last_words[-300:]})
            index += 1
    return score


def run_worker(words: list[str], score: Score, index: int) -> tuple[str, int]:
    """Counts what one process does; gives its last words, and the mutation that it did not finish."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryFile() as err:
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=err, env=environment, cwd=root, text=True
        ) as process:
            assert process.stdout
            previous = signal.signal(signal.SIGALRM, lambda *_: process.kill())
            try:
                signal.alarm(LONGEST_SILENCE_S)
                for text in process.stdout:
                    signal.alarm(LONGEST_SILENCE_S)
                    line = json.loads(text)
                    score.add(line)
                    index = line["index"] + 1
                status = process.wait()
            finally:
                signal.alarm(0)
                signal.signal(signal.SIGALRM, previous)
        err.seek(0)
        lines = err.read().decode(errors="replace").strip().splitlines()
        return f"status {status} {lines[-1] if lines else ''}", index


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Damages files and counts how sarco takes it.")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--count", type=int, default=300, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other mutations")
    parser.add_argument("--only", type=int, help="run this mutation alone and show its traceback")
    parser.add_argument("--keep", type=Path, help="with --only: leave its files in this folder")
    parser.add_argument("--no_limit", action="store_true", help="without the limit on memory")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if not typed.worker and typed.only is None:
        print(fuzz(typed.first, typed.count, typed.seed))
        return
    worker = Worker(typed.seed)
    with contextlib.closing(worker):
        worker.check_seeds()
        if not typed.no_limit and sys.platform == "linux":
            worker.limit_memory()
        if typed.only is not None:
            one, files, what = mutate(worker.seeds, typed.seed, typed.only)
            if typed.keep:
                typed.keep.mkdir()
                write_files(files, typed.keep, worker.root_mark)
            print(worker.judge(one, files, what, typed.only, debug=True))
            return
        for index in range(typed.first, typed.first + typed.count):
            one, files, what = mutate(worker.seeds, typed.seed, index)
            print(json.dumps(worker.judge(one, files, what, index)), flush=True)


if __name__ == "__main__":
    main()
