"""Runs a script's main function: faults of the user end in one line on stderr and an exit status."""

import ctypes
import errno
import getpass
import logging
import os
import platform
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sarco.core.errors import DataWarning, OptionError, PartlyDoneError, SarcoError
from sarco.core.messages import one_line, shown

Main = Callable[[Sequence[str], str], None]
LOOKS, SECONDS_BETWEEN_LOOKS = 5, 0.002
PATH_FAULTS = (errno.ENAMETOOLONG, errno.ELOOP)  # nothing can lie at such a path
SYSTEM_FAULTS = (  # of disks and rights, wherever they are met; all else that the system says is a bug
    *PATH_FAULTS,
    errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE,
)  # fmt: skip
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run_command(main: Main, program: str, argv: Sequence[str] | None = None) -> None:
    """Calls ``main`` with the words of the command line and the program's name, and exits where it fails.

    A `SarcoError` becomes one line on stderr and its exit status (``--debug`` shows the traceback too), and so does
    what a disk or missing rights refuse; any other exception is a bug and keeps its traceback.

    Args:
        main: the command.
        program: what the user called it by, for messages.
        argv: the words after that; those of the process where not given.
    """
    argv = sys.argv[1:] if argv is None else argv
    warnings.formatwarning = _format_warning
    name_the_user()
    with lasting_output() as output:
        try:
            main(argv, program)
        except SarcoError as error:
            if "--debug" in argv:
                raise
            print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
            sys.exit(error.exit_status)
        except OSError as error:
            if "--debug" in argv or (error.errno not in SYSTEM_FAULTS and not isinstance(error, shutil.Error)):
                raise
            print(f"{program}: error: {_line_of_system(error)}", file=sys.stderr)
            sys.exit(SarcoError.exit_status)
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        print(end="", flush=True)
        if output.fault:
            print(f"{program}: error: not all that was said could be printed ({output.fault})", file=sys.stderr)
            sys.exit(PartlyDoneError.exit_status)


@contextmanager
def lasting_output() -> Iterator["LastingStream"]:
    """Makes printing unable to end work: neither a letter that an encoding lacks, nor a closed pipe.

    Yields:
        What stands for stdout until the block ends.
    """
    before: Any = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    after: Any = tuple(LastingStream(stream) for stream in before)
    sys.stdout, sys.stderr = after
    try:
        yield after[0]
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets SIGTERM, by which schedulers and containers end a job, end the block as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class LastingStream:
    """A stream that falls silent once nobody takes what it says, instead of raising.

    Attributes:
        fault: why, where that is no closed pipe: whoever closed it has read enough.
    """

    def __init__(self, stream: Any) -> None:
        """Stands for a stream; None is one that says nothing."""
        self._stream = stream
        self.fault = ""

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether a person watches."""
        return bool(self._stream and self._stream.isatty())

    def write(self, text: str) -> int:
        """Writes as far as possible."""
        if self._stream:
            try:
                self._stream.write(text)
            except OSError as error:
                self._fall_silent(error)
        return len(text)

    def flush(self) -> None:
        """Writes what is held back, as far as possible."""
        if self._stream:
            try:
                self._stream.flush()
            except OSError as error:
                self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        """Sends what is still in the buffer nowhere too, else Python would complain of it when it ends."""
        if not isinstance(error, BrokenPipeError):
            self.fault = error.strerror or type(error).__name__
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning about the user's data is for the user, so it comes without a place in the code."""
    if issubclass(category, DataWarning):
        return f"warning: {one_line(str(message))}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _one_line(error: SarcoError) -> str:
    text = one_line(str(error))
    return f"{text} (-h lists the options)" if isinstance(error, OptionError) and "-h" not in text else text


def _line_of_system(error: OSError) -> str:
    """What the system refused, in one line: the file, the reason, and what to see to."""
    inner = error.args[0] if error.strerror is None and error.args else None  # shutil gathers several
    if isinstance(inner, list) and inner and isinstance(inner[0], tuple):
        return one_line(f"{inner[0][1]}: cannot be written ({inner[0][2]}); see to the disk and your rights there")
    where = error.filename2 or error.filename or "a file"
    why = error.strerror or type(error).__name__
    advice = "give another path" if error.errno in PATH_FAULTS else "see to the disk and your rights there"
    return f"{shown(str(where))}: cannot be read or written ({why}); {advice}"


def name_the_user() -> None:
    """Gives a process a user's name where it has none: libraries ask for it when they are imported, and fail.

    In a container the number of a user need not stand in the list of users.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # the system's way to say it depends on Python's version
        os.environ["LOGNAME"] = f"user-{os.getuid()}" if hasattr(os, "getuid") else "user"


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes, where several train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


def shared_run_id(make: Callable[[], str]) -> str:
    """A fresh run id, the same for the processes that this one starts."""
    return os.environ.setdefault("SARCO_RUN_ID", make())


def print_line(text: str, is_fault: bool = False) -> None:
    """Prints one line at once, whatever names of files are in it; what is a fault goes to stderr."""
    print(one_line(text), file=sys.stderr if is_fault else sys.stdout, flush=True)


def say(text: str) -> None:
    """Prints a line, in the first process only."""
    if is_first_process():
        print_line(text)


def share_the_cpu(several: bool = False) -> None:
    """Lets threads that wait sleep instead of spin where other work runs on the machine.

    Beside one busy neighbour the spinning of libgomp makes a step take ten times as long; on a quiet machine it saves a
    fifth of a training. libgomp reads it when torch is loaded, so this has to come before. Whoever sets
    ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` has it their way.

    Args:
        several: whether this program itself starts processes that compute.
    """
    if "OMP_WAIT_POLICY" not in os.environ and (several or other_work_runs()):
        os.environ.setdefault("GOMP_SPINCOUNT", "0")


def other_work_runs() -> bool:
    """Whether another process computes right now: one more than this is ready to run, in most of a few looks."""
    looks = []
    try:
        for _ in range(LOOKS):
            running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
            looks.append(int(running) > 1)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except (OSError, ValueError, IndexError):  # another system, which has no libgomp either
        return False
    return sum(looks) > LOOKS / 2


def tune_allocator() -> None:
    """Keeps glibc from giving big blocks back to the system at once, which halves the time of a step on a CPU.

    Without this each large tensor is mapped and faulted in anew. Costs about 1 GB of peak memory at batch 8.
    Does nothing on other systems, or where ``SARCO_MALLOC=default`` is set.
    """
    if platform.system() != "Linux" or os.environ.get("SARCO_MALLOC") == "default":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 2**28)


def quieten_libraries() -> None:
    """Hides what Lightning and MONAI say about themselves; what concerns the user, sarco says."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "torch", "monai", "torchmetrics"):
        warnings.filterwarnings("ignore", module=module)
