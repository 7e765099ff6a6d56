"""Files that are whole or not there, whatever happens while they are written."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sarco.core.errors import InputError
from sarco.core.messages import reason_of, shown


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its place only when the block ends well: a reader sees the old one or the new one.

    It is written beside its place, forced to disk, and renamed, so that a kill or a power cut at any moment leaves a
    whole file; what a kill leaves beside it, the next write replaces.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    with atomic_file(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


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


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted, without hidden files and folders."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from files_below(entry)
        elif entry.is_file():
            yield entry


def hash_file(path: Path, algorithm: Callable[[], Any]) -> str:
    """The hash of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
