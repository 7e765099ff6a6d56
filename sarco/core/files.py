"""Files and folders that are whole or not there, whatever happens while they are written; and JSON."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sarco.core.errors import InputError
from sarco.core.messages import reason_of, shown

if sys.platform != "win32":
    import fcntl

_PARTIAL, _REPLACED = ".sarco-partial", ".sarco-replaced"  # how names end that are nobody's yet, or nobody's any more
_LEFTOVER = re.compile(
    rf"\.(?P<target>.+)\.(?P<host>[0-9a-f]{{4}})[0-9a-f]{{8}}(?:{re.escape(_PARTIAL)}|{re.escape(_REPLACED)})"
)
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=2).hexdigest()
_LONGEST_NAME = 255  # bytes that a name can have on the file systems in use
_SOONEST_S = 2.0  # a writer that has only just begun may not have locked what it writes
_DEAD_AFTER_S = 86400.0  # where nobody can ask whether a writer lives: it changed nothing for a day


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to that takes its place only when the block ends well: a reader sees the old one or the new one.

    It is written beside its place under a name of its own, forced to disk, and renamed: a kill or a power cut at any
    moment leaves a whole file, and so do several writers at once: the last one's stays. What a kill leaves beside it,
    the next write into the same folder removes, a day later where another machine was killed.

    Args:
        path: the file.
        replace: False keeps a file that is there in the end, and refuses.

    Raises:
        FileExistsError: there is one in the end, and it may not be replaced.
        OSError: the file cannot be written.
    """
    partial = _beside(path, _PARTIAL)
    _remove_leftovers(path.parent)
    try:
        partial.touch(exist_ok=False)
        with locked(partial):
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(partial, path)
            else:
                _put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool, beside: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """A folder to fill that becomes ``path`` where the block ends well and vanishes where it does not.

    Whoever looks sees nothing or the old folder before, and the whole new one after. What a kill leaves beside it
    goes as with `atomic_file`.

    Args:
        path: where the folder goes; folders above it are made.
        replace: what to do where something is there in the end that is no empty folder: True puts the new one in the
            stead of a folder, False keeps it, because another process was faster.
        beside: called where that one is kept, with the free name beside it that the new folder got; None drops it.

    Raises:
        OSError: the folder cannot be made or put into its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    building = _beside(path, _PARTIAL)
    building.mkdir()
    try:
        with locked(building):
            yield building
            if replace and path.is_dir():
                _exchange(building, path)
            elif not _put_folder(building, path):
                if replace or not (beside or path.is_dir()):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                if beside:
                    beside(_put_under_free_name(building, path))
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def chosen_folder(
    path: Path, option: str, *, replace: bool, beside: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """`atomic_folder`, for a place that the user chose by an option: where none can be made there, names both.

    Raises:
        InputError: the folder cannot be made.
        OSError: it cannot be put into its place.
    """
    with contextlib.ExitStack() as stack:
        try:
            building = stack.enter_context(atomic_folder(path, replace=replace, beside=beside))
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot be written ({error.strerror}); choose another --{option}"
            ) from None
        yield building


def _put(partial: Path, path: Path) -> None:
    """Gives a whole file its name where nothing has it, in one step."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without links, where the step becomes two
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(partial, path)


def _put_folder(building: Path, path: Path) -> bool:
    """Gives a whole folder its name; False where something has it that is no empty folder."""
    try:
        os.rename(building, path)
    except OSError:
        with contextlib.suppress(OSError):
            path.rmdir()  # empty; some systems rename onto nothing at all
        if os.path.lexists(path):
            return False
        os.rename(building, path)
    return True


def _put_under_free_name(building: Path, path: Path) -> Path:
    """``NAME_2``, or the first after it that is free."""
    for number in itertools.count(2):
        place = path.with_name(short_name(f"{path.name}_{number}"))
        if _put_folder(building, place):
            return place
    raise AssertionError("there are numbers without end")


def short_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name of a file or folder, or its beginning and a hash of it all where it has too many bytes.

    >>> short_name("P001", 16), short_name("preds_from_first_of_P001", 16)
    ('P001', 'preds_f_4a66c2b8')
    """
    content = os.fsencode(name)
    if len(content) <= longest:
        return name
    mark = f"_{hashlib.blake2b(content, digest_size=4).hexdigest()}"
    start = content[: longest - len(mark)]
    while name[: len(os.fsdecode(start))] != os.fsdecode(start):  # a letter of several bytes was cut
        start = start[:-1]
    return os.fsdecode(start) + mark


def is_unfinished(path: Path) -> bool:
    """Whether something is a part of `atomic_file` or `atomic_folder` at work, or what a kill left of one."""
    return _LEFTOVER.fullmatch(path.name) is not None


def _beside(path: Path, ending: str) -> Path:
    """A hidden name that no other writer of the same path uses."""
    tail = f".{_HOST}{secrets.token_hex(4)}{ending}"
    return path.with_name(f".{short_name(path.name, _LONGEST_NAME - 1 - len(tail))}{tail}")


def _exchange(building: Path, path: Path) -> None:
    """Puts a folder in another's stead; that one comes back where this fails."""
    replaced = _beside(path, _REPLACED)
    os.rename(path, replaced)
    try:
        os.rename(building, path)
    except BaseException:
        with contextlib.suppress(OSError):  # another process has put its own there meanwhile
            os.rename(replaced, path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed writers left in a folder, whatever they wrote; what somebody may still work on stays.

    A folder that was to be replaced stays where nothing stands in its stead: it is the only one then.
    """
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.endswith((_PARTIAL, _REPLACED))]
    except OSError:
        return  # whoever writes there will say so
    for path in found:
        match = _LEFTOVER.fullmatch(path.name)
        if not match or (path.name.endswith(_REPLACED) and not (folder / match["target"]).exists()):
            continue
        with contextlib.suppress(OSError):  # another process was faster, or it is somebody else's
            if _is_dead(path, match["host"]):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _is_dead(path: Path, host: str) -> bool:
    """Whether the writer of something unfinished lives no more.

    The lock of a living writer counts on the machine that it runs on: network file systems may keep it to themselves.
    """
    idle_s = time.time() - _last_change(path)
    if idle_s < _SOONEST_S:
        return False
    with locked(path) as got:
        if got is False:
            return False
        return idle_s >= _DEAD_AFTER_S or (got is True and host == _HOST)


@contextmanager
def locked(path: Path) -> Iterator[bool | None]:
    """Locks a file or folder until the block or this process ends, to show that its writer lives.

    Yields:
        Whether it could be; False where another holds it, None where the system or the disk has no such locks.
    """
    if sys.platform == "win32":
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        got: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            got = False
        except OSError:
            got = None
        yield got
    finally:
        os.close(descriptor)


def _last_change(path: Path) -> float:
    """When a file, or a folder or anything directly in it, was changed last: seconds since 1970."""
    inside = path.iterdir() if path.is_dir() else ()
    return max(one.stat().st_mtime for one in (path, *inside))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def whole_or_gone(path: Path) -> Iterator[None]:
    """Removes a file that the block writes, where the block fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object, *, allow_nan: bool = True) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it.

    A path whose bytes are no text is written with them escaped, and is the same path when it is read again.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=allow_nan)
    write_whole(path, text.encode(errors="backslashreplace"))


_LARGEST_BYTES = 2**28  # a results file of 100,000 slices has a tenth of this


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without the mark that some editors put in front.

    Raises:
        InputError: the file cannot be read, is no JSON, is nested without end, or an object of it has a key twice, so
            that programs differ in what they see.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("larger than any that sarco writes")
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply to be read; correct it") from None
    except ValueError as error:  # no UTF-8 and no JSON are of this kind too
        raise InputError(f"{path}: cannot be read as JSON ({reason_of(error)}); correct it") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return content


class UnfitError(Exception):
    """What is wrong with the content of a file, without its path; its reader says where, and what to do."""


def demand(holds: bool, what: str) -> None:
    """Asks something of the content of a file.

    Raises:
        UnfitError: it does not hold; says what.
    """
    if not holds:
        raise UnfitError(what)


def make_empty(folder: Path) -> Path:
    """Makes a folder where there is none, and gives it.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be made or read ({error.strerror}); choose another folder") from None
    if occupied:
        raise InputError(f"{folder}: is not empty and nothing is overwritten; choose a new folder or empty this one")
    return folder


def hash_file(path: Path, algorithm: Callable[[], Any]) -> str:
    """The hash of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
