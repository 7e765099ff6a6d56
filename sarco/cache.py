"""Decoded, cropped slices as memory-mapped arrays, found again by a hash of everything they depend on."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sarco
from sarco.errors import InputError

FORMAT = 3  # raise when what is stored changes its meaning

PreparedSlice = tuple[NDArray[np.int16], NDArray[np.uint8]]  # image (C, S, S) in HU, label map (S, S)


@dataclass(frozen=True)
class SliceCache:
    """Slices ready for the network.

    Attributes:
        images: (N, C, S, S) int16 HU, memory-mapped.
        label_maps: (N, S, S) uint8 label ids, memory-mapped.
        occurs: (N, 256) bool, which label ids each slice holds.
        folder: where it lies.
        reused: whether it was there already.
    """

    images: NDArray[np.int16]
    label_maps: NDArray[np.uint8]
    occurs: NDArray[np.bool_]
    folder: Path
    reused: bool

    @property
    def size_mb(self) -> float:
        """Size on disk, in megabytes."""
        return (self.images.nbytes + self.label_maps.nbytes) / 1e6


def make_key(files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """A hash of file contents, in order, and of the settings they are prepared with.

    A file, label, crop setting or version that changes gives another key, so that nothing stale is ever served.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps({"format": FORMAT, "version": sarco.__version__, **settings}, sort_keys=True).encode())
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return digest.hexdigest()


def open_cache(
    root: Path,
    key: str,
    n_slices: int,
    image_shape: tuple[int, int, int],
    prepare: Callable[[], Iterable[PreparedSlice]],
) -> SliceCache:
    """Opens the cache with this key, or makes it.

    It is built in a folder of its own and put in place by a rename, so that several processes may try at once and a
    broken-off build leaves nothing behind that could be taken for a whole one.

    Args:
        root: folder of all caches.
        key: from `make_key`.
        n_slices: how many slices ``prepare`` yields.
        image_shape: (C, S, S) of each image.
        prepare: yields the slices in order; called only where there is no such cache yet.

    Raises:
        InputError: the folder cannot be written or the disk is too full.
    """
    folder = root / key
    reused = folder.is_dir()
    if not reused:
        _check_space(root, n_slices, image_shape)
        building = _make_building(root)
        try:
            _build(building, n_slices, image_shape, prepare())
            building.chmod(0o755)
            os.rename(building, folder)
        except OSError:
            if not folder.is_dir():  # another process was faster otherwise
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    images = np.load(folder / "images.npy", mmap_mode="r")
    label_maps = np.load(folder / "label_maps.npy", mmap_mode="r")
    return SliceCache(images, label_maps, np.load(folder / "occurs.npy"), folder, reused)


def _check_space(root: Path, n_slices: int, image_shape: Sequence[int]) -> None:
    channels, rows, columns = image_shape
    needed = n_slices * rows * columns * (2 * channels + 1)
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise InputError(f"{root}: cannot be made ({error.strerror}); choose another --dirpath") from None
    if needed > 0.95 * free:
        raise InputError(
            f"{root}: prepared slices take {needed / 1e9:.1f} GB but {free / 1e9:.1f} GB are free; "
            "choose another --dirpath or a smaller --image_size"
        )


def _make_building(root: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(dir=root, prefix=".building-"))
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror}); choose another --dirpath") from None


def _build(folder: Path, n_slices: int, image_shape: tuple[int, int, int], slices: Iterable[PreparedSlice]) -> None:
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.int16, (n_slices, *image_shape))
    label_maps = np.lib.format.open_memmap(folder / "label_maps.npy", "w+", np.uint8, (n_slices, *image_shape[1:]))
    occurs = np.zeros((n_slices, 256), dtype=bool)
    count = 0
    for count, (image, label_map) in enumerate(slices, start=1):
        images[count - 1] = image
        label_maps[count - 1] = label_map
        occurs[count - 1, np.unique(label_map)] = True
    if count != n_slices:
        raise RuntimeError(f"{count} slices were prepared instead of {n_slices}")
    images.flush()
    label_maps.flush()
    np.save(folder / "occurs.npy", occurs)
