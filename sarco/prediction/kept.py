"""Exported networks, kept beside the checkpoint that they were made from, and found again by a hash.

That of the built-in network lies in the user's cache, because the folder of a package is often not theirs to write.
"""

import contextlib
import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco.core.files import atomic_file
from sarco.runs.built_in import is_built_in

ENGINES_FOLDER = ".engines"  # in the folder of the run
RECORD = "record.json"


@dataclass(frozen=True)
class KeptNetwork:
    """An exported network.

    Attributes:
        files: name to content.
        record: what is said about it, as JSON can hold it.
    """

    files: Mapping[str, bytes]
    record: Mapping[str, Any]


def user_cache() -> Path:
    """The folder for what a program may lose: ``$XDG_CACHE_HOME/sarco``, ``~/.cache/sarco``, or what the system has."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "sarco"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "sarco"
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sarco"


class Shelf:
    """The place of one exported network beside its checkpoint, or in the user's cache.

    Whatever the export depends on is part of the key: a network of another checkpoint or version is never found. The
    file is a zip archive, whose checksums tell whether it is whole.
    """

    def __init__(self, checkpoint: Path, engine: str, depends_on: Mapping[str, str]) -> None:
        """Looks at nothing yet.

        Args:
            checkpoint: the file that the network is made from.
            engine: which kind of export.
            depends_on: the checkpoint's hash, versions of sarco and of the packages that export.
        """
        self.key = hashlib.sha256(json.dumps([engine, *sorted(depends_on.items())]).encode()).hexdigest()
        self._checkpoint = checkpoint
        self._prefix = f"{checkpoint.stem}-{engine}-"
        folder = user_cache() / "engines" if is_built_in(checkpoint) else checkpoint.parent / ENGINES_FOLDER
        self.path = folder / f"{self._prefix}{self.key[:16]}.zip"

    def find(self) -> tuple[KeptNetwork | None, str]:
        """The network, or None and why not; no reason where simply none was kept."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
            record = json.loads(files.pop(RECORD))
            if record["key"] != self.key:
                return None, f"{self.path} belongs to another checkpoint or version"
        except (FileNotFoundError, NotADirectoryError):
            return None, ""
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, NotImplementedError) as error:
            return None, f"{self.path} cannot be read ({type(error).__name__})"
        return KeptNetwork(files, record), ""

    def keep(self, network: KeptNetwork) -> str:
        """Puts a network into its place at once, and removes what other versions left there for the same checkpoint.

        Returns:
            Why it could not be kept, empty where it was: a folder that cannot be written is no reason to stop.
        """
        try:
            self.path.parent.mkdir(parents=is_built_in(self._checkpoint), exist_ok=True)
            with atomic_file(self.path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in network.files.items():
                    archive.writestr(name, content)
                archive.writestr(RECORD, json.dumps({**network.record, "key": self.key}))
        except OSError as error:
            return f"{self.path.parent} cannot be written ({error.strerror})"
        for old in self.path.parent.glob(f"{self._prefix}*.zip"):
            if old != self.path:
                with contextlib.suppress(OSError):
                    old.unlink()
        return ""
