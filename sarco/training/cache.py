"""Decoded, cropped slices as memory-mapped arrays, found again by a hash of everything they depend on."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sarco
from sarco.core.errors import InputError
from sarco.core.files import chosen_folder, is_unfinished
from sarco.core.resources import NO_ROOM, writing

CACHE_FORMAT = 6  # raise when what is stored changes its meaning
KEY_BYTES = 16
REMOVING = ".removing-"  # how names of folders begin that are no entries any more
SECONDS_A_DAY = 86400.0
MEMORY_SHARE = 0.8  # of the machine's memory that slices may take

# image (C, S, S) in HU, label map (S, S), and which ids its pixels on the slice hold
CachedSlice = tuple[NDArray[np.int16], NDArray[np.uint8], Sequence[int]]


@dataclass(frozen=True)
class SliceCache:
    """Slices ready for the network.

    Attributes:
        images: (N, C, S, S) int16 HU, memory-mapped where there is a folder.
        label_maps: (N, S, S) uint8 label ids, likewise.
        occurs: (N, 256) bool, which label ids each slice holds; what lies beyond it is background and does not count.
        folder: where it lies; None in memory.
        reused: whether it was there already.
    """

    images: NDArray[np.int16]
    label_maps: NDArray[np.uint8]
    occurs: NDArray[np.bool_]
    folder: Path | None
    reused: bool

    def take(self, index: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """A slice: image (C, S, S) in HU, label map (S, S)."""
        return self.images[index], self.label_maps[index]

    @property
    def size_mb(self) -> float:
        """Size on disk or in memory, in megabytes."""
        return (self.images.nbytes + self.label_maps.nbytes) / 1e6


def make_key(files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """A hash of file contents, in order, and of the settings they are prepared with.

    A file, label, crop setting or version that changes gives another key, so that nothing stale is ever served.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    digest.update(
        json.dumps({"format": CACHE_FORMAT, "version": sarco.__version__, **settings}, sort_keys=True).encode()
    )
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return digest.hexdigest()


def open_cache(
    root: Path | None,
    key: str,
    n_slices: int,
    image_shape: tuple[int, int, int],
    prepare: Callable[[], Iterable[CachedSlice]],
) -> SliceCache:
    """Opens the cache with this key, or makes it.

    It is built in a folder of its own and put in place by a rename, so that several processes may try at once and a
    broken-off build leaves nothing behind that could be taken for a whole one. An entry that is removed while it is
    open stays readable until it is closed, as files do on every system but Windows, which refuses to remove it.

    Args:
        root: folder of all caches; None keeps the slices in the memory of this process.
        key: from `make_key`.
        n_slices: how many slices ``prepare`` yields.
        image_shape: (C, S, S) of each image.
        prepare: yields the slices in order; called only where there is no such cache yet.

    Raises:
        InputError: the folder cannot be written, or there is too little room on the disk or in memory.
    """
    if root is None:
        return keep_in_memory(n_slices, image_shape, prepare)
    folder = root / key
    reused = folder.is_dir()
    if not reused:
        _check_space(root, n_slices, image_shape)
        try:
            _build(folder, n_slices, image_shape, prepare)
        except OSError:
            if not folder.is_dir():  # another process was faster otherwise
                raise
    _note_use(folder)
    images = np.load(folder / "images.npy", mmap_mode="r")
    label_maps = np.load(folder / "label_maps.npy", mmap_mode="r")
    return SliceCache(images, label_maps, np.load(folder / "occurs.npy"), folder, reused)


def keep_in_memory(
    n_slices: int, image_shape: tuple[int, int, int], prepare: Callable[[], Iterable[CachedSlice]]
) -> SliceCache:
    """The slices in the memory of this process; arguments as of `open_cache`.

    Raises:
        InputError: there is too little room.
    """
    needed, there = _bytes_needed(n_slices, image_shape), _memory_bytes()
    if there is not None and needed > MEMORY_SHARE * there:
        raise InputError(
            f"--cache=no: prepared slices take {needed / 1e9:.1f} GB but this machine has {there / 1e9:.1f} GB of "
            "memory; leave it out, or choose a smaller --image_size"
        )
    images = np.empty((n_slices, *image_shape), np.int16)
    label_maps = np.empty((n_slices, *image_shape[1:]), np.uint8)
    return SliceCache(images, label_maps, _fill(images, label_maps, prepare()), None, False)


def _memory_bytes() -> int | None:
    """The machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return None


def _note_use(folder: Path) -> None:
    try:
        os.utime(folder)  # when it was used last, for whoever clears the folder
    except OSError:  # somebody else's, and only readable
        return


def _bytes_needed(n_slices: int, image_shape: Sequence[int]) -> int:
    channels, rows, columns = image_shape
    return n_slices * rows * columns * (2 * channels + 1)


def _check_space(root: Path, n_slices: int, image_shape: Sequence[int]) -> None:
    needed = _bytes_needed(n_slices, image_shape)
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise InputError(f"{root}: cannot be made ({error.strerror}); choose another --cache_dir") from None
    if needed > 0.95 * free:
        raise InputError(
            f"{root}: prepared slices take {needed / 1e9:.1f} GB but {free / 1e9:.1f} GB are free; "
            "choose another --cache_dir or a smaller --image_size, or give --cache=no"
        )


def _build(
    folder: Path, n_slices: int, image_shape: tuple[int, int, int], prepare: Callable[[], Iterable[CachedSlice]]
) -> None:
    otherwise = "choose another --cache_dir, or give --cache=no"
    with chosen_folder(folder, "cache_dir", replace=False) as building:
        with writing("prepared slices", folder.parent, otherwise, _bytes_needed(n_slices, image_shape)):
            images = _reserved(building / "images.npy", np.int16, (n_slices, *image_shape))
            label_maps = _reserved(building / "label_maps.npy", np.uint8, (n_slices, *image_shape[1:]))
        occurs = _fill(images, label_maps, prepare())
        with writing("prepared slices", folder.parent, otherwise):
            images.flush()  # type: ignore[attr-defined]
            label_maps.flush()  # type: ignore[attr-defined]
            np.save(building / "occurs.npy", occurs)


def _reserved(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A mapped array whose room on the disk is taken already: a full disk would kill the process without a word."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # Linux; others reserve what a file is long, or do without
        with open(path, "rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise
    return array


def _fill(images: NDArray[np.int16], label_maps: NDArray[np.uint8], slices: Iterable[CachedSlice]) -> NDArray[np.bool_]:
    """Writes the slices into the arrays; gives which label ids each of them holds (N, 256)."""
    occurs = np.zeros((len(images), 256), dtype=bool)
    count = 0
    for count, (image, label_map, ids) in enumerate(slices, start=1):
        images[count - 1] = image
        label_maps[count - 1] = label_map
        occurs[count - 1, ids] = True
    if count != len(images):
        raise RuntimeError(f"{count} slices were prepared instead of {len(images)}")
    return occurs


@dataclass(frozen=True)
class Entry:
    """What a cache folder holds under one name.

    Attributes:
        folder: where it lies.
        size_mb: in megabytes.
        unused_days: since it was opened last.
        whole: whether it is an entry; else what a run that was killed left behind.
    """

    folder: Path
    size_mb: float
    unused_days: float
    whole: bool


def list_entries(root: Path) -> tuple[Entry, ...]:
    """What a cache folder holds, used last first; other files and folders in it are none of ours.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; give the one that a training names, DIRPATH/.cache")
    entries = []
    for folder in root.iterdir():
        whole = bool(re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", folder.name))
        if folder.is_dir() and (whole or is_unfinished(folder) or folder.name.startswith(REMOVING)):
            files = [path.stat() for path in folder.iterdir()]
            used = max([folder.stat().st_mtime, *(status.st_mtime for status in files)])
            days = max(0.0, time.time() - used) / SECONDS_A_DAY
            entries.append(Entry(folder, sum(status.st_size for status in files) / 1e6, days, whole))
    return tuple(sorted(entries, key=lambda entry: entry.unused_days))


def remove_unused(root: Path, days: float) -> tuple[Entry, ...]:
    """Removes what was not used for so many days; gives what was removed.

    An entry first gets another name, so that no run ever finds half of it.

    Raises:
        InputError: there is no such folder, or something in it cannot be removed.
    """
    removed = tuple(entry for entry in list_entries(root) if entry.unused_days >= days)
    for entry in removed:
        try:
            doomed = root / f"{REMOVING}{entry.folder.name.removeprefix(REMOVING)}"
            os.rename(entry.folder, doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise InputError(f"{entry.folder}: cannot be removed ({error.strerror}); is a run using it?") from None
    return removed
