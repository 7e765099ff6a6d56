"""What a machine runs out of, said in one line: room on a disk, and memory."""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sarco.core.errors import InputError, SarcoError
from sarco.core.messages import reason_of

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What torch, its allocators and loader processes say where there is no memory left.
NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|alloc_failed|unable to allocate"
    r"|killed by signal: (Killed|Bus error)",
    re.IGNORECASE,
)


@contextlib.contextmanager
def writing(what: str, path: Path, otherwise: str, needed_bytes: int = 0) -> Iterator[None]:
    """Says in one line what could not be written in the block, where, and how much room there is.

    Args:
        what: is written.
        path: the file or folder.
        otherwise: what else to do than to make room there, or to see to one's rights.
        needed_bytes: about how much room it takes, where that is known.

    Raises:
        InputError: an OSError in the block.
    """
    try:
        yield
    except OSError as error:
        first = "make room there" if error.errno in NO_ROOM else "see to the disk and your rights there"
        why = _why(error, path, needed_bytes)
        raise InputError(f"{path}: {what} cannot be written ({why}); {first}, {otherwise}") from None


def _why(error: OSError, path: Path, needed_bytes: int) -> str:
    why = error.strerror or reason_of(error)
    if error.errno not in NO_ROOM:
        return why
    there = next((place for place in (path, *path.parents) if place.is_dir()), Path())
    with contextlib.suppress(OSError):
        why += f", {shutil.disk_usage(there).free / 1e6:.1f} MB are free there"
    return f"{why}, it needs about {needed_bytes / 1e6:.1f} MB" if needed_bytes else why


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory left, of the machine or of a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error)))


@contextlib.contextmanager
def within_memory(doing: Callable[[], str], advice: str) -> Iterator[None]:
    """Says in one line where memory ran out in the block.

    Args:
        doing: tells what the block was doing by then, such as "training, epoch 2, step 7".
        advice: what to lower.

    Raises:
        SarcoError: there is not enough memory.
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise SarcoError(f"{doing()}: out of memory ({reason_of(error)}); {advice}") from None
