"""Files that are whole or not there, whatever happens while they are written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
