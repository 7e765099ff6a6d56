"""The files of a folder tree, whatever links and rights it has."""

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

from sarco.core.errors import DataWarning, InputError


def files_below(folder: Path, lost: Callable[[Path, InputError], object] | None = None) -> list[Path]:
    """Every file below a folder, sorted, without hidden files and folders.

    Links are followed, yet each real folder is looked at once, however many links lead to it or round in circles; its
    own place counts before that of a link. A link that leads nowhere is one of the files, because something should be
    there: opening it says what is wrong. Folders that cannot be read are told in a `DataWarning` each.

    Args:
        folder: where to look.
        lost: takes each folder that cannot be read, and why, in the stead of warnings.

    Raises:
        InputError: the folder itself cannot be read.
    """
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    own, linked = [folder], list[Path]()  # folders to look into; what links lead to comes last
    while own or linked:
        place = own.pop() if own else linked.pop(0)
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
            real = [place / entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if place == folder:
                raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
            told = f"{place}: cannot be read ({error.strerror}), so it is left out"
            lost(place, InputError(told)) if lost else warnings.warn(told, DataWarning, 2)
            continue
        own += reversed(real)
        links = {place / entry.name: _kind_behind(place / entry.name) for entry in found if entry.is_symlink()}
        linked += [link for link, kind in links.items() if kind == stat.S_IFDIR]
        files += [link for link, kind in links.items() if kind in (stat.S_IFREG, None)]
        files += [place / entry.name for entry in found if entry.is_file(follow_symlinks=False)]  # no sockets, no pipes
    return sorted(files)


def _kind_behind(link: Path) -> int | None:
    """The kind of what a link leads to, as `stat.S_IFMT` has it; None where it leads nowhere."""
    try:
        return stat.S_IFMT(link.stat().st_mode)
    except OSError:
        return None
