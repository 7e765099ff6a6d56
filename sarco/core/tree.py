"""Searches a tree of files, whatever links and rights it has."""

import os
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from sarco.core.errors import DataWarning, InputError
from sarco.core.messages import shown

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@dataclass
class Tree:
    """What lies below a folder.

    Attributes:
        files: every file that is not hidden, sorted; a link that leads nowhere is one of them.
        hidden: hidden files, sorted; what lies in hidden folders is not looked at.
        folders: every folder but the first, also those that cannot be read.
        closed: the folders that cannot be read, and why.
        odd: what is neither file nor folder, and why it is passed over.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    closed: dict[Path, InputError] = field(default_factory=dict)
    odd: dict[Path, InputError] = field(default_factory=dict)


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, as `look_below` finds them; what is passed over is told in a `DataWarning` each.

    Raises:
        InputError: the folder itself cannot be read.
    """
    tree = look_below(folder)
    for told in (*tree.closed.values(), *tree.odd.values()):
        warnings.warn(str(told), DataWarning, 2)
    return tree.files


def look_below(folder: Path) -> Tree:
    """What lies below a folder.

    Links are followed, yet each real folder is looked at once, however many links lead to it or round in circles; its
    own place counts before that of a link. A link that leads nowhere is one of the files, because something should be
    there: opening it says what is wrong.

    Raises:
        InputError: the folder itself cannot be read.
    """
    tree = Tree()
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
                found = sorted(entries, key=lambda entry: entry.name)
            kinds = {place / entry.name: _kind_of(entry) for entry in found}
            links = {place / entry.name for entry in found if entry.is_symlink()}
        except OSError as error:
            if place == folder:
                raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
            tree.folders.append(place)
            tree.closed[place] = InputError(
                f"{shown(str(place))}: cannot be read ({error.strerror}), so it is left out"
            )
            continue
        tree.folders += [place] if place != folder else []
        visible = {path: kind for path, kind in kinds.items() if not path.name.startswith(".")}
        folders = [path for path, kind in visible.items() if kind == stat.S_IFDIR]
        own += [path for path in reversed(folders) if path not in links]
        linked += [path for path in folders if path in links]
        tree.files += [path for path, kind in visible.items() if kind in (stat.S_IFREG, None)]
        tree.hidden += [path for path, kind in kinds.items() if kind == stat.S_IFREG and path not in visible]
        for path, kind in visible.items():
            if kind in _KINDS:
                tree.odd[path] = InputError(f"{path}: is {_KINDS[kind]} and no file, so it is left out")
    tree.files.sort()
    tree.hidden.sort()
    return tree


def _kind_of(entry: os.DirEntry[str]) -> int | None:
    """The kind of an entry, or of what it is a link to, as `stat.S_IFMT` has it; None for a link that leads nowhere."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return None
