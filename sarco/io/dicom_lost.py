"""Slices that are lost: what lies where one should be, told by its name and by those of the slices beside it.

A name says more than a suffix: beside ``IM0001`` and ``IM0003`` a text called ``IM0002`` was a slice, a program called
``VIEWER`` was none.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sarco.core.errors import InputError
from sarco.core.tree import Tree

_SLICE_SUFFIXES = (".dcm", ".ima", ".dicom", ".dic")  # a file of such a name should be a slice
_LOOKED_AT_BYTES = 4096  # of a file that is no DICOM, to say what it is
_WHAT_COUNTS = re.compile(  # in a name: long hexadecimal words, UUIDs, letters that stand alone; numbers and UIDs
    r"(?<![a-z0-9])(?:[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[a-z])(?![a-z0-9])|\d+(?:\.\d+)*"
)
_UNFINISHED = re.compile(  # what copying, packing and putting aside add to the name of a file
    r"(.+?)(?:~|\.(?:part|partial|filepart|crdownload|download|icloud|te?mp|bak|old|gz|bz2|xz|zst))+", re.IGNORECASE
)
_MADE_OF_SLICE = re.compile(r"(.+\.(?:dcm|ima|dicom|dic))[^a-z0-9].*", re.IGNORECASE)
_PAGE = "is a page of a website and not the slice itself; download it again"
_BEGINNINGS = {  # of files that come in the stead of others
    b"version https://git-lfs": "is a pointer of Git LFS and not the slice itself; run git lfs pull",
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
}


@dataclass(frozen=True)
class LostFile:
    """Something that cannot be read as DICOM, and may have been a slice.

    Attributes:
        path: where it lies.
        reason: what is wrong with it.
        name: that of the slice that it may have been.
        is_dicom: whether it begins as DICOM does, so that its name does not matter.
        is_suspect: whether its content is that of a damaged file.
    """

    path: Path
    reason: InputError
    name: str
    is_dicom: bool = False
    is_suspect: bool = True

    @property
    def should_be_slice(self) -> bool:
        """Whether its name or its first bytes say so, whatever lies beside it."""
        unfinished = _UNFINISHED.fullmatch(self.path.name)
        return self.is_dicom or _kind_of_name(unfinished[1] if unfinished else self.path.name) in _SLICE_SUFFIXES


def look_at(file: Path) -> LostFile:
    """What a file that is no DICOM may have been, and what it is instead."""
    name = _slice_of(file.name) or file.name
    is_suspect = True
    try:
        with open(file, "rb") as opened:
            start = opened.read(_LOOKED_AT_BYTES)
    except OSError as error:
        gone = "is a link that leads nowhere" if _leads_nowhere(file) else "cannot be read"
        return LostFile(file, InputError(f"{file}: {gone} ({error.strerror}); bring the file back"), name)
    beginning = next((one for one in _BEGINNINGS if start.lstrip().lower().startswith(one)), None)
    if not start:
        fault = "is empty; copy it again"
    elif not start.strip(start[:1]):
        fault = f"holds nothing but {f'the byte 0x{start[:1].hex()}' if start[0] else 'zeros'}; copy it again"
    elif beginning:
        fault = _BEGINNINGS[beginning]
    elif name != file.name:
        fault = f"stands for {name}, packed, put aside or not copied to its end; bring the slice itself back"
    elif _kind_of_name(name) in _SLICE_SUFFIXES:
        fault = "is no DICOM file, though its name says so; export it again"
    else:
        fault = "is no DICOM file; export it again, or take it away"
        is_suspect = b"\0" in start
    return LostFile(file, InputError(f"{file}: {fault}"), name, is_suspect=is_suspect)


class Losses:
    """What may be lost of the series of a tree."""

    def __init__(self, tree: Tree, lost: Iterable[LostFile], slices: Iterable[Path]) -> None:
        """Looks at what is no DICOM.

        Args:
            tree: what lies there.
            lost: the files that cannot be read as DICOM.
            slices: those that can.
        """
        there = set(slices)
        inhabited = set(_folders_above(there))
        with_files = set(_folders_above(tree.files))
        deserted = [folder for folder in tree.folders if folder not in inhabited]
        every = [*lost, *_hidden(tree), *_no_files(tree, deserted)]
        every = [one for one in every if one.name == one.path.name or one.path.with_name(one.name) not in there]
        self._of_folder: dict[Path, list[LostFile]] = defaultdict(list)
        for one in sorted(every, key=lambda one: one.path):
            self._of_folder[one.path.parent].append(one)
        self._deserted = set(deserted)
        self._empty = {
            folder: tree.closed.get(folder) or InputError(f"{folder}: is a folder without files; copy it again")
            for folder in deserted
            if folder not in with_files
        }
        links = (one for one in every if _leads_nowhere(one.path))
        self._empty |= {one.path: one.reason for one in links}  # they may have led to folders

    def beside(self, slices: Iterable[Path]) -> list[LostFile]:
        """What may be one more slice of a series: it lies beside these and is called as they are."""
        return [
            one
            for folder, names in _by_folder(slices).items()
            for one in _fitting(self._of_folder.get(folder, ()), _Names(names))
        ]

    def folders_beside(self, slices: Sequence[Path]) -> list[InputError]:
        """Where a series over several folders may go on: folders called as these that hold nothing, or lost slices."""
        names = _by_folder(slices)
        if len(names) < 2:
            return []
        top = Path(os.path.commonpath(names))
        patterns = {_pattern_below(folder, top) for folder in names}
        starts = {pattern[:length] for pattern in patterns for length in range(1, len(pattern) + 1)}
        found = {
            folder: reason
            for folder, reason in self._empty.items()
            if folder not in names and folder.is_relative_to(top) and _pattern_below(folder, top) in starts
        }
        of_all = _Names([path.name for path in slices])
        for folder in self._deserted & self._of_folder.keys():
            if folder.is_relative_to(top) and _pattern_below(folder, top) in patterns:
                found.update((folder, one.reason) for one in _fitting(self._of_folder[folder], of_all)[:1])
        return [
            found[folder] for folder in sorted(found.keys() - {above for folder in found for above in folder.parents})
        ]

    def told(self, series: Iterable[Iterable[Path]]) -> list[LostFile]:
        """What people should know of: what may be a slice of one of the series, or of one of which nothing is left."""
        every_slice = [list(slices) for slices in series]
        beside = {one.path for slices in every_slice for one in self.beside(slices)}
        patterns = {_pattern_of(path.name) for slices in every_slice for path in slices}

        def is_told(one: LostFile) -> bool:
            alone = one.is_suspect and one.path.parent in self._deserted and _pattern_of(one.name) in patterns
            return one.should_be_slice or alone or one.path in beside

        every = (one for of_folder in self._of_folder.values() for one in of_folder)
        return sorted(filter(is_told, every), key=lambda one: one.path)


class _Names:
    """How the slices of a series are called in a folder."""

    def __init__(self, names: Sequence[str]) -> None:
        counts = Counter(map(_pattern_of, names))
        singular = sum(1 for count in counts.values() if count == 1)
        self._patterns = counts.keys()
        self._kinds = set(map(_kind_of_name, names))
        self._have_no_pattern = len(names) > 1 and 2 * singular >= len(names)

    def fit(self, lost: LostFile) -> bool:
        """Whether something is called as they are, or as slices are anywhere."""
        if lost.should_be_slice or _pattern_of(lost.name) in self._patterns:
            return True
        return self._have_no_pattern and lost.is_suspect and _kind_of_name(lost.name) in self._kinds


def _fitting(lost: Iterable[LostFile], names: _Names) -> list[LostFile]:
    return [one for one in lost if names.fit(one)]


def _leads_nowhere(path: Path) -> bool:
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114 - Path's raise where it is too long


def _hidden(tree: Tree) -> Iterator[LostFile]:
    """What clouds and broken copies leave of a slice: its name between a dot and an ending. ``._`` is Apple's."""
    for path in tree.hidden:
        shown = path.name[1:]
        name = _slice_of(shown)
        if not name and _kind_of_name(shown) not in ("", *_SLICE_SUFFIXES):
            name = shown.removesuffix(Path(shown).suffix)
        if name.strip(".") and not shown.startswith("_"):
            fault = f"stands for {name}, not downloaded or not copied to its end; bring the slice itself back"
            yield LostFile(path, InputError(f"{path}: {fault}"), name)


def _no_files(tree: Tree, deserted: Iterable[Path]) -> Iterator[LostFile]:
    """Pipes, devices, and folders without DICOM whose names have the suffix of a file."""
    for path, reason in tree.odd.items():
        yield LostFile(path, reason, _slice_of(path.name) or path.name)
    for folder in deserted:
        name = _slice_of(folder.name) or folder.name
        if _kind_of_name(name):
            reason = InputError(f"{folder}: is a folder, though it is called as a slice; bring the slice back")
            yield LostFile(folder, tree.closed.get(folder, reason), name)


def _slice_of(name: str) -> str:
    """The name of the slice that a packed, put aside or half copied file stands for; empty where it is none."""
    if _kind_of_name(name) in _SLICE_SUFFIXES:
        return ""
    meant = _UNFINISHED.fullmatch(name) or _MADE_OF_SLICE.fullmatch(name)
    return meant[1] if meant and meant[1].strip(".") else ""


def _pattern_of(name: str) -> str:
    """A name without what differs from slice to slice.

    >>> _pattern_of("IM0001"), _pattern_of("CT.1.2.840.7.dcm"), _pattern_of("0000A3F1"), _pattern_of("VIEWER")
    ('im#', 'ct.#.dcm', '#', 'viewer')
    """
    return _WHAT_COUNTS.sub("#", name.lower())


def _kind_of_name(name: str) -> str:
    """The suffix; those of slices named after UIDs are numbers, and none is like the next."""
    suffix = Path(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _pattern_below(folder: Path, top: Path) -> tuple[str, ...]:
    return tuple(map(_pattern_of, folder.relative_to(top).parts))


def _by_folder(files: Iterable[Path]) -> dict[Path, list[str]]:
    """The names of files by their folders."""
    names: dict[Path, list[str]] = defaultdict(list)
    for file in files:
        names[file.parent].append(file.name)
    return names


def _folders_above(files: Iterable[Path]) -> Iterator[Path]:
    for folder in {file.parent for file in files}:
        yield folder
        yield from folder.parents
