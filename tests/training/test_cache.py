"""Prepared slices: reused only where nothing changed, whole or not there at all, and the same as computed afresh."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

import sarco
from sarco.commands.cache import main
from sarco.core.errors import InputError, OptionError
from sarco.core.training_options import DataOptions, RunOptions
from sarco.io.images import read_hu
from sarco.io.nifti import read_label_map, write_label_map
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.training.cache import CachedSlice, SliceCache, _reserved, list_entries, make_key, open_cache, remove_unused
from sarco_datamodule import SarcoDataModule
from sarco_datamodule_3d import SarcoDataModule_3D
from transforms import as_meta_tensor, make_crop

ROOT = Path(__file__).parents[2]
N, SHAPE = 3, (1, 32, 32)


def prepared(seed: int = 0) -> Iterator[CachedSlice]:
    """Slices of random numbers."""
    rng = np.random.default_rng(seed)
    for _ in range(N):
        image, label_map = (
            rng.integers(-1000, 1000, SHAPE, dtype=np.int16),
            rng.integers(0, 4, SHAPE[1:], dtype=np.uint8),
        )
        yield image, label_map, np.unique(label_map).tolist()


def never() -> Iterator[CachedSlice]:
    """Must not be called."""
    raise AssertionError("prepared again")


def entries(root: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two patients with three slices each."""
    write_dataset(tmp_path / "data", 2, 3, PhantomOptions(n_slices=3, rows=48, columns=56, labels="groups"))
    return tmp_path / "data"


def open_data(data: Path, image_size: int = 32, channel_3d: bool = False, **options: object) -> SliceCache:
    """The cache that training.py makes of a data folder."""
    kind = SarcoDataModule_3D if channel_3d else SarcoDataModule
    values = {"data_dir": data, "image_size": image_size, "channel_3d": channel_3d, **options}
    module = kind(DataOptions(**values), data.parent / "cache")
    module.setup()
    return module.cache


def test_second_opening_finds_the_first(tmp_path: Path) -> None:
    """Catches a cache that is made anew each time, or comes back changed."""
    first = open_cache(tmp_path / "cache", "key", N, SHAPE, prepared)
    second = open_cache(tmp_path / "cache", "key", N, SHAPE, never)
    assert (first.reused, second.reused) == (False, True)
    for image, label_map, number in zip(second.images, second.label_maps, range(N), strict=True):
        expected = list(prepared())[number]
        assert np.array_equal(image, expected[0]) and np.array_equal(label_map, expected[1])
        assert set(np.flatnonzero(second.occurs[number])) == set(np.unique(expected[1]))
    assert isinstance(second.images, np.memmap) and isinstance(second.label_maps, np.memmap)
    assert not second.images.flags.writeable


def test_key_depends_on_content_order_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches stale data: a file, its place, a setting or the version changed, and the old cache was served."""
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(file.name)
    key = make_key(files, {"size": 1})
    assert make_key(files, {"size": 1}) == key
    assert make_key(files[::-1], {"size": 1}) != key
    assert make_key(files, {"size": 2}) != key
    assert make_key(files[:1], {"size": 1}) != key
    before = files[0].stat()
    files[0].write_text("A")
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time, other content
    assert make_key(files, {"size": 1}) != key
    files[0].write_text("a")
    assert make_key(files, {"size": 1}) == key
    monkeypatch.setattr(sarco, "__version__", "another")
    assert make_key(files, {"size": 1}) != key


def change_pixel(data: Path) -> None:
    """A spot brighter, with the file's size and time kept."""
    path = next((data / "P001").glob("*.dcm"))
    before = path.stat()
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.copy()
    pixels[20:28, 20:36] += 9
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_label(data: Path) -> None:
    """A corrected label map."""
    label = read_label_map(data / "P001.nii.gz")
    assert label.affine_lps is not None
    ids: NDArray[np.uint8] = label.ids.copy()
    ids[20:24, 20:24, 1] = 1
    write_label_map(data / "P001.nii.gz", ids, label.affine_lps)


def swap_series(data: Path) -> None:
    """Another scan under the same name."""
    (data / "P001").rename(data / "P003")
    (data / "P001.nii.gz").rename(data / "P003.nii.gz")


@pytest.mark.parametrize("change", [change_pixel, change_label, swap_series])
def test_changed_data_is_prepared_anew(data: Path, change: Callable[[Path], None]) -> None:
    """Catches a corrected label map, or a replaced image, that training never sees."""
    first = open_data(data)
    assert open_data(data).reused
    change(data)
    second = open_data(data)
    assert not second.reused
    same = np.array_equal(first.images, second.images) and np.array_equal(first.label_maps, second.label_maps)
    assert not same


def test_changed_settings_are_prepared_anew(data: Path) -> None:
    """Catches slices of another size or number of channels being served."""
    folders = {open_data(data).folder, open_data(data, image_size=64).folder, open_data(data, channel_3d=True).folder}
    assert len(folders) == 3
    assert open_data(data, channel_3d=True).images.shape == (6, 3, 32, 32)
    assert open_data(data, hu_min=-100.0, seed=3, batch_size=4).reused, "nothing that is stored depends on these"


def test_moved_data_is_found_again(data: Path) -> None:
    """Catches a cache that depends on where the data folder lies."""
    open_data(data)
    shutil.move(data, data.with_name("elsewhere"))
    assert open_data(data.with_name("elsewhere")).reused


@pytest.mark.parametrize("channel_3d", [False, True])
def test_content_equals_a_fresh_computation(data: Path, channel_3d: bool) -> None:
    """Catches image and label map of different slices, and neighbours in the wrong channel."""
    module = (SarcoDataModule_3D if channel_3d else SarcoDataModule)(
        DataOptions(data_dir=data, image_size=64, channel_3d=channel_3d), data.parent / "cache"
    )
    module.setup()
    crop = make_crop(module.options, keys=("image", "label"))
    for index, item in enumerate(module.slices):
        below, above = item.neighbours
        headers = (below, item.header, above) if channel_3d else (item.header,)
        hu = np.stack([read_hu(header) for header in headers])
        label_map = read_label_map(item.case.label_path).on_slice(
            item.header.affine_lps, item.header.shape, item.header.path
        )
        affine = item.header.affine_lps
        fresh = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label_map[None], affine)})
        assert np.abs(module.cache.images[index] - fresh["image"].numpy()).max() <= 0.5
        assert np.array_equal(module.cache.label_maps[index], fresh["label"].numpy()[0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, OSError, MemoryError])
def test_broken_off_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Catches half a cache that the next run takes for a whole one."""

    def breaks_off() -> Iterator[CachedSlice]:
        yield next(prepared())
        raise error

    with pytest.raises(error):
        open_cache(tmp_path / "cache", "key", N, SHAPE, breaks_off)
    assert entries(tmp_path / "cache") == []
    assert not open_cache(tmp_path / "cache", "key", N, SHAPE, prepared).reused


def test_wrong_number_of_slices_is_a_bug(tmp_path: Path) -> None:
    """Catches rows of zeros at the end of a cache."""
    with pytest.raises((RuntimeError, IndexError)):
        open_cache(tmp_path / "cache", "key", N + 1, SHAPE, prepared)
    assert entries(tmp_path / "cache") == []


OPEN_TOGETHER = """
import sys, time
from pathlib import Path
import numpy as np
from sarco.commands.cache import main
from sarco.training.cache import open_cache

root, me = Path(sys.argv[1]), sys.argv[2]

def slices():
    (root / me).touch()
    end = time.monotonic() + 60
    while not ((root / "a").exists() and (root / "b").exists()):  # both found no cache
        assert time.monotonic() < end
        time.sleep(0.01)
    for number in range(3):
        yield np.full((1, 32, 32), number - 7, np.int16), np.full((32, 32), number, np.uint8), [number]

cache = open_cache(root / "cache", "key", 3, (1, 32, 32), slices)
assert cache.images[:, 0, 3, 5].tolist() == [-7, -6, -5], cache.images
assert cache.label_maps[:, 3, 5].tolist() == [0, 1, 2]
"""


def test_two_processes_at_once_both_get_it_right(tmp_path: Path) -> None:
    """Catches two runs started together that trample on each other's files."""
    command = [sys.executable, "-c", OPEN_TOGETHER, str(tmp_path)]
    workers = [subprocess.Popen([*command, me], cwd=ROOT, stderr=subprocess.PIPE, text=True) for me in "ab"]
    for worker in workers:
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
    assert entries(tmp_path / "cache") == ["key"]


def test_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run that fills the disk, or dies of a bus error on a memory-mapped file."""
    monkeypatch.setattr("sarco.training.cache.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="free"):
        open_cache(tmp_path / "cache", "key", N, SHAPE, never)
    assert entries(tmp_path / "cache") == []


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback where --dirpath is read-only, or a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        open_cache(tmp_path / "file" / "cache", "key", N, SHAPE, never)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sarco.core.files.atomic_folder", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        open_cache(tmp_path / "cache", "key", N, SHAPE, never)


def test_without_cache_slices_are_the_same_and_nothing_is_written(data: Path) -> None:
    """Catches --cache=no that trains on other slices, or leaves files with pixels behind."""
    kept = open_data(data)
    before = sorted(data.parent.rglob("*"))
    module = SarcoDataModule(DataOptions(data_dir=data, image_size=32), RunOptions(cache=False).cache_root)
    module.setup()
    assert sorted(data.parent.rglob("*")) == before
    assert np.array_equal(module.cache.images, kept.images) and not module.cache.reused
    assert np.array_equal(module.cache.label_maps, kept.label_maps)
    assert module.cache.occurs.tolist() == kept.occurs.tolist()
    assert "prepared slices: 0.0 MB in memory" in module.describe()


def test_slices_beyond_memory_are_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a machine that swaps itself to death."""
    monkeypatch.setattr("sarco.training.cache._memory_bytes", lambda: 10_000)
    with pytest.raises(InputError, match="memory"):
        open_cache(None, "key", N, SHAPE, never)


def test_place_of_the_cache_is_the_one_asked_for(tmp_path: Path) -> None:
    """Catches --cache_dir and --cache without effect, and both at once without a word."""
    runs = tmp_path / "runs"
    assert RunOptions(dirpath=runs).cache_root == runs / ".cache"
    assert RunOptions(dirpath=runs, cache_dir=tmp_path / "c").cache_root == tmp_path / "c"
    assert RunOptions(dirpath=runs, cache=False).cache_root is None
    with pytest.raises(OptionError, match="--cache_dir"):
        RunOptions(cache=False, cache_dir=tmp_path / "c")


def make_entries(root: Path) -> tuple[Path, Path, Path]:
    """A used entry, one of ten days ago, what a killed run left behind; and a file that is none of ours."""
    used, old = (open_cache(root, letter * 32, N, SHAPE, prepared).folder for letter in "ab")
    assert used and old
    left = root / f".{'c' * 32}.0123456789ab.sarco-partial"
    left.mkdir()
    (left / "images.npy").write_bytes(b"half")
    (root / "notes.txt").write_text("mine")
    (root / "project").mkdir()
    then = time.time() - 10 * 86400
    for folder in (old, left):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (then, then))
    return used, old, left


def test_only_what_was_not_used_for_long_is_removed(tmp_path: Path) -> None:
    """Catches a clearing that takes what a run uses or what is not ours, and one that leaves half an entry."""
    root = tmp_path / "cache"
    used, old, left = make_entries(root)
    found = {entry.folder: entry for entry in list_entries(root)}
    assert found.keys() == {used, old, left}
    assert [found[folder].whole for folder in (used, old, left)] == [True, True, False]
    assert found[old].size_mb == pytest.approx(sum(p.stat().st_size for p in old.iterdir()) / 1e6)
    assert found[used].unused_days < 0.01 and found[old].unused_days == pytest.approx(10, abs=0.01)
    assert {entry.folder for entry in remove_unused(root, days=5)} == {old, left}
    assert entries(root) == ["a" * 32, "notes.txt", "project"]


def test_reading_an_entry_counts_as_use_and_survives_its_removal(tmp_path: Path) -> None:
    """Catches an entry in daily use that is taken for an old one, and a run that dies when somebody clears up."""
    root = tmp_path / "cache"
    _, old, _ = make_entries(root)
    cache = open_cache(root, old.name, N, SHAPE, never)
    assert {entry.folder: entry.unused_days < 0.01 for entry in list_entries(root)}[old]
    remove_unused(root, days=0)
    assert np.array_equal(cache.images[2], list(prepared())[2][0])


def test_clearing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command that removes without saying what, or removes unasked."""
    root = tmp_path / "cache"
    _, old, left = make_entries(root)
    main([str(root)])
    assert "kept: 3 entries" in capsys.readouterr().out and old.is_dir()
    main([str(root), "--remove_unused=5"])
    out = capsys.readouterr().out
    assert f"removed: {old}" in out and f"removed: {left}" in out and "kept: 1 entry" in out
    with pytest.raises(InputError, match="no such folder"):
        main([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_room_is_taken_before_slices_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Catches a disk that fills up while slices are prepared: the process dies of a bus error, without a word."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(InputError, match=r"prepared slices cannot be written .*MB are free.*--cache_dir"):
        open_cache(tmp_path / "cache", "0" * 32, N, SHAPE, never)
    assert list((tmp_path / "cache").iterdir()) == []


def test_disk_that_cannot_reserve_room_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a network disk on which nothing can be trained any more."""

    def fail(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    cache = open_cache(tmp_path / "cache", "0" * 32, N, SHAPE, prepared)
    assert np.array_equal(cache.images, [image for image, _, _ in prepared()])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_prepared_slices_have_their_room_on_the_disk(tmp_path: Path) -> None:
    """Catches a file that is only said to be long."""
    array = _reserved(tmp_path / "images.npy", np.int16, (64, 1, 64, 64))
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= array.nbytes
