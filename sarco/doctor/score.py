"""Scores DICOM readers on a torture set of small CT series, each with one fault and with its known truth.

A reader is any command that writes NIfTI files in HU into a folder, or writes none and says why. What it writes is
compared with the truth in world space: right, refused with a reason, wrong, or crashed.

`sarco doctor` scores sarco itself; `docs/doctor.md` holds the rules and a result.
"""

from __future__ import annotations

import datetime
import json
import platform
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import __version__ as pydicom_version

from sarco import __version__
from sarco.core.errors import InputError, OptionError
from sarco.core.files import atomic_file, make_empty
from sarco.core.options import DoctorOptions
from sarco.doctor.cases import Fault, Truth
from sarco.doctor.faults_files import FILE_FAULTS
from sarco.doctor.faults_geometry import GEOMETRY_FAULTS
from sarco.doctor.faults_pixels import PIXEL_FAULTS
from sarco.doctor.judge import ReaderVerdict, judge_reader, run_reader, usual_lines
from sarco.io.dicom import find_series, read_series
from sarco.io.nifti import write_volume

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*GEOMETRY_FAULTS, *FILE_FAULTS, *PIXEL_FAULTS)}
_READ_ITSELF = ("-m", "sarco", "doctor", "--read={input}", "--read={output}")
BEGIN, END = "<!-- doctor: begin -->\n", "<!-- doctor: end -->\n"
COUNTED = (
    "right",
    "refused, as is right",
    "refused, though it can be read",
    "wrong in silence",
    "wrong, with a warning",
    "crashed",
)


@dataclass(frozen=True)
class Reader:
    """A command that is scored.

    Attributes:
        name: as it stands in the table.
        words: what is run; `{input}` and `{output}` stand for the two folders.
        shown: the command as it is shown to people.
    """

    name: str
    words: tuple[str, ...]
    shown: str

    @classmethod
    def from_option(cls, text: str) -> Reader:
        """The reader that ``NAME=COMMAND`` describes.

        Raises:
            OptionError: it does not have this form.
        """
        name, sign, command = text.partition("=")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise OptionError(f"--reader {text!r}: {error}; check its quotation marks") from None
        if not (
            sign and name.strip() and all(any(place in word for word in words) for place in ("{input}", "{output}"))
        ):
            raise OptionError(f"--reader {text!r} is not NAME=COMMAND with the words {{input}} and {{output}}")
        return cls(name.strip(), words, command.strip())


def itself() -> Reader:
    """The reader that scores itself: sarco."""
    return Reader(f"sarco {__version__}", (sys.executable, *_READ_ITSELF), f"python {' '.join(_READ_ITSELF)}")


def read_as_reader(folder: Path, output: Path, warn: Callable[[str], object]) -> None:
    """Reads every series below a folder and writes it as NIfTI in HU; ``warn`` takes what is left out, and why.

    Raises:
        SarcoError: no series can be read, or one cannot.
    """
    found = find_series(folder)
    if not found.series:
        raise found.refused[0]
    for reason in found.refused:
        warn(f"left out: {reason}")
    for number, series in enumerate(found.series, start=1):
        write_volume(output / f"series_{number}.nii", read_series(series), series.affine_lps)


def build_faults(faults: Sequence[Fault], folder: Path) -> Iterator[tuple[Fault, Path, tuple[Truth, ...]]]:
    """Writes each fault to ``folder/<name>/input`` when its turn comes, its truths beside it as ``truth_<n>.npz``."""
    for fault in faults:
        place = folder / fault.name / "input"
        place.mkdir(parents=True)
        truths = fault.build(place)
        for number, truth in enumerate(truths, start=1):
            air = np.zeros(truth.hu.shape, dtype=bool) if truth.air is None else truth.air
            file = place.parent / f"truth_{number}.npz"
            np.savez_compressed(file, hu=truth.hu, affines_lps=np.stack(truth.affines_lps), air=air)
        yield fault, place, truths


def expected(fault: Fault, truths: Sequence[Truth]) -> str:
    """What a right reader does with a fault, in words."""
    if fault.mixture:
        return "tell apart or refuse"
    return "read" if truths else "refuse"


def counted_as(verdict: ReaderVerdict, expects: str) -> str:
    """Under which of `COUNTED` a verdict counts."""
    if verdict.kind == "refused":
        return COUNTED[2] if expects == "read" else COUNTED[1]
    if verdict.kind == "wrong":
        return COUNTED[4] if verdict.warned else COUNTED[3]
    return verdict.kind


@dataclass(frozen=True)
class Row:
    """The verdicts on one fault, by the readers' names."""

    fault: Fault
    expects: str
    verdicts: Mapping[str, ReaderVerdict]


def what_it_always_prints(reader: Reader, timeout_s: float) -> frozenset[str]:
    """The lines that a reader prints on a series without a fault."""
    with tempfile.TemporaryDirectory(prefix="sarco_doctor_") as scratch:
        folder, output = Path(scratch) / "input", Path(scratch) / "output"
        folder.mkdir()
        output.mkdir()
        FAULTS["plain_axial"].build(folder)
        return usual_lines(run_reader(reader.words, folder, output, timeout_s))


def score(
    readers: Sequence[Reader], faults: Sequence[Fault], folder: Path, timeout_s: float, tell: Callable[[str], object]
) -> list[Row]:
    """Runs every reader on every fault and tells each verdict as it comes.

    Args:
        readers: who is scored.
        faults: on what.
        folder: where the faults are written to.
        timeout_s: seconds that a reader has for a fault.
        tell: takes the lines.
    """
    usual = {reader.name: what_it_always_prints(reader, timeout_s) for reader in readers}
    rows = []
    for fault, place, truths in build_faults(faults, folder):
        verdicts = {}
        for reader in readers:
            with tempfile.TemporaryDirectory(prefix="sarco_doctor_") as output:
                outcome = run_reader(reader.words, place, Path(output), timeout_s)
                verdicts[reader.name] = verdict = judge_reader(truths, Path(output), outcome, usual[reader.name])
            tell(f"{fault.name:24} {reader.name:20} {verdict.kind:8} {verdict.reason[:200]}".rstrip())
        rows.append(Row(fault, expected(fault, truths), verdicts))
    return rows


def counts(rows: Sequence[Row], name: str) -> Counter[str]:
    """How often a reader's verdicts count as what."""
    return Counter(counted_as(row.verdicts[name], row.expects) for row in rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _cell(verdict: ReaderVerdict) -> str:
    if verdict.kind == "wrong":
        return "**wrong**, warned" if verdict.warned else "**wrong**"
    return "**crashed**" if verdict.kind == "crashed" else verdict.kind


def as_markdown(rows: Sequence[Row], readers: Sequence[Reader]) -> str:
    """The verdicts as a table of faults and readers, the counts, and the commands that were run."""
    names = [reader.name for reader in readers]
    verdicts = [
        [f"`{row.fault.name}`", row.fault.what, row.expects, *(_cell(row.verdicts[name]) for name in names)]
        for row in rows
    ]
    sums = [[kind, *(str(counts(rows, name)[kind]) for name in names)] for kind in COUNTED]
    commands = "\n".join(f"- {reader.name}: `{reader.shown}`" for reader in readers)
    return (
        f"{datetime.date.today()}, {len(rows)} faults; Python {platform.python_version()}, pydicom {pydicom_version}, "
        f"{platform.system()} {platform.machine()}.\n\n"
        f"{_table(['Fault', 'What it is', 'A right reader would', *names], verdicts)}\n\n"
        f"{_table([f'Of {len(rows)} faults', *names], sums)}\n\n"
        f"What was run:\n\n{commands}\n"
    )


def read_scores(path: Path) -> str:
    """What stands in a file for reports; an empty report where there is none.

    Raises:
        InputError: it is no report of this command, or no file at all.
    """
    if not path.exists():
        return f"# How readers score\n\n{BEGIN}{END}"
    try:
        old = path.read_bytes().decode() if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        old = ""
    if BEGIN not in old or END not in old:
        raise InputError(f"{path}: is there and no report of this command; choose another file")
    return old


def write_scores(path: Path, text: str) -> None:
    """Writes a report; in a file with the two marks of a report only what lies between them is replaced.

    Raises:
        InputError: the file is there without the marks, or cannot be written.
    """
    old = read_scores(path)
    try:
        before, after = old.split(BEGIN)[0], old.split(END)[1]
        with atomic_file(path) as file:
            file.write(f"{before}{BEGIN}\n{text}\n{END}{after}".encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def score_all(options: DoctorOptions, tell: Callable[[str], object]) -> tuple[tuple[Reader, ...], list[Row]]:
    """Scores sarco and other readers.

    Args:
        options: readers, faults, where to keep the torture set, and seconds per fault.
        tell: takes each verdict as a line.

    Raises:
        OptionError: a reader or a fault is not what it should be.
        InputError: the folder to keep the torture set in cannot be used.
    """
    readers = (itself(), *map(Reader.from_option, options.reader))
    if len({reader.name for reader in readers}) < len(readers):
        raise OptionError("--reader: two readers have the same name; give each its own")
    unknown = [name for name in options.fault if name not in FAULTS]
    if unknown:
        raise OptionError(f"--fault={unknown[0]}: there is no such fault; the names are {', '.join(FAULTS)}")
    faults = [FAULTS[name] for name in options.fault or FAULTS]
    with ExitStack() as stack:
        if options.keep:
            folder = make_empty(options.keep)
            index = {fault.name: fault.what for fault in faults}
            (folder / "faults.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sarco_doctor_")))
        return readers, score(readers, faults, folder, options.timeout, tell)
