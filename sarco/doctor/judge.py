"""How `sarco.doctor.score` runs a reader on one fault and judges what came out: right, refused, wrong or crashed."""

from __future__ import annotations

import builtins
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import InputError
from sarco.doctor.cases import Truth
from sarco.io.nifti import is_nifti, read_volumes
from sarco.scan.geometry import Affine

PLACE_TOLERANCE_MM = 0.05  # positions are often rounded to 0.01 mm
VOLUME_TOLERANCE = 0.01  # of a voxel
HU_TOLERANCE = 1.0  # many readers round to whole HU
AIR_UP_TO_HU = -900.0  # padding counts as air from here down
# Python raises these where a program did not foresee its input. Whatever else it raises counts as said on purpose.
SLIPS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, RecursionError,
    StopIteration, TypeError, UnicodeError, struct.error,
)  # fmt: skip
_SLIP_NAMES = {"struct.error"} | {
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, SLIPS)
}

Kind = Literal["right", "refused", "wrong", "crashed"]


@dataclass(frozen=True)
class ReaderVerdict:
    """What a reader made of a fault.

    Attributes:
        kind: "right"; "refused", with a reason; "wrong"; "crashed".
        warned: whether a reader that is wrong printed a warning or ended with an error.
        reason: one line, for people: what is wrong, or what the reader said.
    """

    kind: Kind
    warned: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a reader's process ended.

    Attributes:
        status: its exit status, negative where a signal ended it; None where it ran out of time.
        text: all that it printed.
    """

    status: int | None
    text: str


def run_reader(words: Sequence[str], folder: Path, output: Path, timeout_s: float) -> Outcome:
    """Runs a reader's command, without a shell.

    Args:
        words: the command; `{input}` and `{output}` within a word stand for the two folders.
        folder: the fault.
        output: an empty folder for what the reader writes.
        timeout_s: seconds after which it is stopped.

    Raises:
        InputError: the command cannot be started.
    """
    command = [word.replace("{input}", str(folder)).replace("{output}", str(output)) for word in words]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=timeout_s)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired as expired:
        return Outcome(None, _decoded(expired.stdout, expired.stderr))
    except OSError as error:
        raise InputError(f"{command[0]}: cannot be started ({error.strerror}); check the reader's command") from None
    return Outcome(done.returncode, _decoded(done.stdout, done.stderr))


def _decoded(*streams: bytes | None) -> str:
    return "\n".join(stream.decode("utf-8", "replace") for stream in streams if stream)


def usual_lines(outcome: Outcome) -> frozenset[str]:
    """What a reader prints where nothing is wrong: no warning of the fault, therefore."""
    return frozenset(map(_without_details, outcome.text.splitlines()))


def _without_details(line: str) -> str:
    """A line without the words that hold paths or numbers, which differ from run to run."""
    return " ".join(word for word in line.split() if not re.search(r"[/\\\d]", word))


def judge_reader(
    truths: Sequence[Truth], output: Path, outcome: Outcome, usual: frozenset[str] = frozenset()
) -> ReaderVerdict:
    """Judges a reader by the files in its output folder, its exit status and what it printed.

    Args:
        truths: what is there to be read; none where it has to be refused.
        output: what the reader wrote.
        outcome: how it ended.
        usual: lines that it always prints, from `usual_lines`; they are no warning.
    """
    lines = [line.strip() for line in outcome.text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    files = sorted(path for path in output.rglob("*") if is_nifti(path))
    if crash := _crash(outcome, bool(files)):
        return ReaderVerdict("crashed", reason=crash)
    if not files:
        if outcome.status == 0 and not lines:
            return ReaderVerdict("wrong", reason="wrote nothing and said nothing")
        return ReaderVerdict("refused", reason=last or f"exit status {outcome.status}")
    unusual = [line for line in lines if _without_details(line) not in usual]
    warned = outcome.status != 0 or any(re.search("warn|error", line, re.IGNORECASE) for line in unusual)
    if not truths:
        return ReaderVerdict("wrong", warned, "wrote an image of what cannot be read rightly")
    mistake = compare_with_truth(truths, files)
    return ReaderVerdict("wrong", warned, mistake) if mistake else ReaderVerdict("right")


def _crash(outcome: Outcome, has_files: bool) -> str:
    """How a reader broke down; nothing where it did not."""
    if outcome.status is None:
        return "ran out of time"
    if outcome.status < 0:
        return f"ended by signal {-outcome.status}"
    # A reader may survive its own slips: then its files are judged.
    return "" if has_files and outcome.status == 0 else _slip(outcome.text)


def _slip(text: str) -> str:
    """The error at the end of a Python traceback, where it is one that nobody raises on purpose."""
    if "Traceback (most recent call last):" not in text:
        return ""
    after = text.rsplit("Traceback (most recent call last):", 1)[1]
    found = re.search(r"^([A-Za-z_][\w.]*)(?::.*|)$", after, re.MULTILINE)
    return found[0] if found and (found[1] in _SLIP_NAMES or found[1].endswith("MemoryError")) else ""


def compare_with_truth(truths: Sequence[Truth], files: Sequence[Path]) -> str:
    """What is wrong about a reader's files; nothing where each truth is shown by a volume, and none shows two.

    Two series in one volume are mixed up, even where every voxel lies in its place.
    """
    volumes = []
    for path in files:
        try:
            arrays, affine_lps = read_volumes(path)
        except InputError as error:
            return str(error)
        volumes += [(array, affine_lps) for array in arrays]
    shows = [0] * len(volumes)  # how many truths each volume shows
    for number, truth in enumerate(truths, start=1):
        mistakes = [difference(truth, array, affine_lps) for array, affine_lps in volumes]
        if all(mistakes):
            which = f"series {number} of {len(truths)}: " if len(truths) > 1 else ""
            return which + (mistakes[0] if len(mistakes) == 1 else f"none of {len(mistakes)} volumes shows it")
        shows = [count + (not mistake) for count, mistake in zip(shows, mistakes, strict=True)]
    return "two series are mixed in one volume" if max(shows) > 1 else ""


def difference(truth: Truth, array: NDArray[np.float32], affine_lps: Affine) -> str:
    """How a volume differs from a truth in world space; nothing where it agrees.

    Args:
        truth: what should be there.
        array: (a, b, c) HU in any index order.
        affine_lps: (a, b, c, 1) to LPS mm.
    """
    if not np.isfinite(affine_lps).all() or abs(np.linalg.det(affine_lps[:3, :3])) < 1e-9:
        return "the affine is no affine"
    volume_mm3 = abs(float(np.linalg.det(affine_lps[:3, :3])))
    if truth.voxel_mm3 is not None and abs(volume_mm3 / truth.voxel_mm3 - 1) > VOLUME_TOLERANCE:
        return f"a voxel has {volume_mm3:.4g} mm3 instead of {truth.voxel_mm3:.4g}"
    rows, columns, n_slices = truth.hu.shape
    grid = np.indices((rows, columns)).reshape(2, -1)  # (2, R x C)
    index = np.stack([*grid, np.zeros_like(grid[0]), np.ones_like(grid[0])])
    from_world = np.linalg.inv(affine_lps)
    for number in range(n_slices):
        points = truth.affines_lps[number] @ index
        place = np.rint(from_world @ points)
        off_mm = float(np.linalg.norm((affine_lps @ place - points)[:3], axis=0).max())
        if off_mm > PLACE_TOLERANCE_MM:
            return f"slice {number} lies {off_mm:.3g} mm off the voxels"
        voxel = place[:3].astype(int)
        if (voxel < 0).any() or (voxel >= np.array(array.shape)[:, None]).any():
            return f"slice {number} lies outside"
        hu = array[tuple(voxel)].reshape(rows, columns)
        agrees = np.abs(hu - truth.hu[:, :, number]) <= HU_TOLERANCE  # NaN agrees with nothing
        if truth.air is not None:
            agrees |= truth.air[:, :, number] & (hu <= AIR_UP_TO_HU)
        if not agrees.all():
            largest = float(np.abs(hu - truth.hu[:, :, number])[~agrees].max())
            return f"slice {number} is off by up to {largest:.4g} HU in {(~agrees).mean():.0%} of its voxels"
    return ""
