"""Slices that are lost without a gap: files, folders and links in their place, and what only looks like that."""

import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from sarco.core.errors import InputError
from sarco.io.dicom import FoundSeries, find_series
from sarco.phantom.patient import Phantom, write_series

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
Namer = Callable[[int], str]
NAMES: dict[str, Namer] = {
    "dcm": lambda n: f"{n}.dcm",
    "IMA": lambda n: f"A.CT.0001.{n:04d}.2020.01.01.IMA",
    "numbers": lambda n: f"{n:08d}",
    "no suffix": lambda n: f"IM_{n:04d}",
    "uid": lambda n: f"1.2.840.113619.2.55.{n}.{n * 77}",
    "CT.uid": lambda n: f"CT.1.2.840.{n}",
    "img": lambda n: f"slice{n}.img",
    "CT": lambda n: f"{n}.CT",
    "hexadecimal": lambda n: f"0000A{n}F{n:02X}",
    "uuid": lambda n: str(uuid.UUID(int=0xABCDEF0123456789ABCDEF0123456789 + n * 7**30)),
    "letters": lambda n: "ABCDEFGH"[n],
}
CONTENTS: dict[str, bytes] = {
    "pointer of Git LFS": LFS,
    "page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "0xff": b"\xff" * 9000,
    "text": b"the quick brown fox",
    "zeros": bytes(9000),
    "nothing": b"",
}
ENDINGS = [".gz", ".part", ".crdownload", ".icloud", ".filepart", "~", ".tmp", ".gz.part"]
ON_DISCS = {  # what discs and systems put beside slices
    "VERSION": b"",
    "VIEWER": b"\x7fELF\0\0\1",
    "AUTORUN": bytes(100),
    "README": b"read me",
    "LICENSE": b"free",
    "autorun.inf": b"[autorun]",
    "viewer.exe": b"MZ\0\0",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\0\0",
    "desktop.ini": b"[.ShellClassInfo]",
    ".DS_Store": b"\0\0\0\1Bud1",
    "._IM_0001": b"\0\5\x16\7\0",
    "._9.dcm": b"\0\5\x16\7\0",
    "notes.txt": b"",
    "index.html": b"<html></html>",
    "study.zip": b"PK\3\4",
    "mask.nii.gz": b"\x1f\x8b",
}


def write_named(phantom: Phantom, folder: Path, name: Namer) -> list[Path]:
    """A series of five slices from bottom to top, called so."""
    written = write_series(phantom, folder, patient_id="P", seed=1)
    return [path.rename(folder / name(number)) for number, path in enumerate(written)]


def lengths(found: FoundSeries) -> list[int]:
    """How many slices each series has."""
    return [len(series.slices) for series in found.series]


def assert_refused(root: Path, place: Path, n_left: int = 4) -> None:
    """The series is refused with a line that names a path, and predicted without it on demand."""
    found = find_series(root)
    assert not found.series and len(found.failed) == 1
    assert str(place) in str(found.failed[0])
    found = find_series(root, allow_gaps=True)
    assert lengths(found) == [n_left]
    assert any(str(place) in str(line) for line in found.refused)
    assert all(len(str(line).splitlines()) == 1 for line in found.refused)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_called_as_the_slices_beside_it_was_one(
    phantoms: dict[str, Phantom], tmp_path: Path, name: str, content: str
) -> None:
    """Catches a series that ends early without a word because something else lies in the place of its last slice."""
    *_, last = write_named(phantoms["anisotropic"], tmp_path, NAMES[name])
    last.write_bytes(CONTENTS[content])
    assert_refused(tmp_path, last)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_slice_that_is_packed_or_half_copied_is_lost(
    phantoms: dict[str, Phantom], tmp_path: Path, name: str, ending: str
) -> None:
    """Catches a slice that counts as no slice because something was added to its name."""
    *_, last = write_named(phantoms["anisotropic"], tmp_path, NAMES[name])
    changed = last.rename(last.with_name(last.name + ending))
    changed.write_bytes(b"\x1f\x8b packed")
    assert_refused(tmp_path, changed)


@pytest.mark.parametrize("ending", [".icloud", ".aB3xYz"])
@pytest.mark.parametrize("name", ["dcm", "no suffix", "uid"])
def test_a_slice_in_the_cloud_or_in_a_broken_copy_is_lost(
    phantoms: dict[str, Phantom], tmp_path: Path, name: str, ending: str
) -> None:
    """Catches what stands for a slice and is hidden: on Apple's cloud, and where rsync was killed."""
    *_, last = write_named(phantoms["anisotropic"], tmp_path, NAMES[name])
    assert_refused(tmp_path, last.rename(last.with_name(f".{last.name}{ending}")))


@pytest.mark.parametrize("added", [".gz", "~", ".part", ".md5", ".json", ".txt", ".png", ".nii.gz", ".bak"])
@pytest.mark.parametrize("name", NAMES)
def test_what_lies_beside_its_own_slice_is_nobodys_loss(
    phantoms: dict[str, Phantom], tmp_path: Path, name: str, added: str
) -> None:
    """Catches a series that is refused for the notes that a program keeps on each of its slices, or for a backup."""
    for path in write_named(phantoms["anisotropic"], tmp_path, NAMES[name]):
        path.with_name(path.name + added).write_bytes(b"what a program keeps")
        path.with_name(f".{path.name}.swp").write_bytes(b"")
    found = find_series(tmp_path)
    assert lengths(found) == [5] and not found.refused


@pytest.mark.parametrize("name", NAMES)
def test_what_discs_hold_beside_slices_is_passed_over(phantoms: dict[str, Phantom], tmp_path: Path, name: str) -> None:
    """Catches a disc that is refused because of its viewer, or whatever else it carries without a suffix."""
    write_named(phantoms["anisotropic"], tmp_path, NAMES[name])
    for other, content in ON_DISCS.items():
        if (name, other[0]) != ("uuid", "_"):
            (tmp_path / other).write_bytes(content)
    for folder in ("HELP", "viewer/bin", "JRE"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "viewer" / "bin" / "IM_0009").write_bytes(b"\x7fELF\0")
    found = find_series(tmp_path)
    assert lengths(found) == [5]
    assert all("IM_0009" in str(line) for line in found.refused)


def test_names_without_a_pattern_are_judged_by_what_lies_there(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a slice that is lost because names of its series have nothing in common."""
    names = ["AKXBQW", "QMZTRH", "PPLOKI", "ZEBRAX", "MNBVCX"]
    *_, last = write_named(phantoms["anisotropic"], tmp_path, names.__getitem__)
    (tmp_path / "README").write_text("read me")
    assert lengths(find_series(tmp_path)) == [5]
    for content in (LFS, b"\xff" * 500, b"<html>", b"\1\0"):
        last.write_bytes(content)
        assert_refused(tmp_path, last)


def test_a_pattern_is_that_of_its_own_folder_and_series(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a series that is refused for a loss of another one."""
    write_named(phantoms["anisotropic"], tmp_path / "one", NAMES["no suffix"])
    for path in write_series(phantoms["oblique"], tmp_path / "two", patient_id="Q", seed=2):
        path.rename(tmp_path / "one" / path.with_suffix(".img").name)
    (tmp_path / "one" / "IM_0099").write_bytes(LFS)
    found = find_series(tmp_path)
    assert lengths(found) == [5]
    assert found.series[0].slices[0].path.suffix == ".img"


def make_folder(path: Path) -> None:
    """An empty folder, whose name is that of a slice."""
    path.mkdir()


def make_socket(path: Path) -> None:
    """A socket, under a short path: systems allow about 100 letters."""
    import socket

    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


@pytest.mark.parametrize(
    "make",
    [make_folder, os.mkfifo, make_socket, lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "pipe", "socket", "device"],
)
def test_what_is_no_file_can_stand_for_a_slice(
    phantoms: dict[str, Phantom], tmp_path: Path, make: Callable[[Path], object], request: pytest.FixtureRequest
) -> None:
    """Catches a slice whose place something takes that nobody can read, and a search that reads it for ever."""
    *_, last = write_named(phantoms["anisotropic"], tmp_path, NAMES["dcm"])
    last.unlink()
    make(last)
    assert_refused(tmp_path, last)


def spread(phantom: Phantom, root: Path, name: str) -> list[Path]:
    """A series over five folders, from bottom to top."""
    folders = []
    for number, path in enumerate(write_series(phantom, root / "all", patient_id="P", seed=1)):
        folders.append(root / name.format(number))
        folders[-1].mkdir(parents=True)
        path.rename(folders[-1] / f"IM{number}")
    (root / "all").rmdir()
    return folders


@pytest.mark.parametrize("name", ["DIR{}", "D{}/S1"])
@pytest.mark.parametrize("loss", ["empty", "hidden alone", "dangling links", "dangling folder", "pointers", "closed"])
def test_a_folder_of_a_series_is_lost(
    phantoms: dict[str, Phantom], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loss: str
) -> None:
    """Catches a series over several folders that ends early because one of them holds nothing."""
    *_, last = spread(phantoms["anisotropic"], tmp_path, name)
    (tmp_path / "VIEWER").mkdir()
    assert lengths(find_series(tmp_path)) == [5]
    (slice_file,) = last.iterdir()
    slice_file.unlink()
    scandir = os.scandir

    def refuse(place: Path) -> object:
        if place == last:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    if loss == "hidden alone":
        (last / ".DS_Store").write_bytes(b"x")
    elif loss == "dangling links":
        slice_file.symlink_to("/nowhere/IM4")
    elif loss == "dangling folder":
        last.rmdir()
        last.symlink_to("/nowhere/at/all")
    elif loss == "pointers":
        slice_file.write_bytes(LFS)
    elif loss == "closed":
        monkeypatch.setattr(os, "scandir", refuse)
    found = find_series(tmp_path)
    assert not found.series and found.failed
    assert str(last) in str(found.failed[-1]) and "folder" in str(found.failed[-1])
    found = find_series(tmp_path, allow_gaps=True)
    assert lengths(found) == [4]
    assert any(str(last) in str(line) for line in found.refused)


def test_folders_of_others_are_no_loss(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a series that is refused because of a folder for another patient, for documents or for a copy."""
    folders = spread(phantoms["anisotropic"], tmp_path / "P1", "DIR{}")
    (tmp_path / "P2").mkdir()
    (tmp_path / "P1" / "DIR9").mkdir()
    (tmp_path / "P1" / "DIR9" / "report.pdf").write_bytes(b"%PDF")
    write_series(phantoms["oblique"], tmp_path / "P1" / "DIR8", patient_id="Q", seed=2)
    for number in range(3):  # the same series once more, and a place where it is not
        (tmp_path / f"copy{number}").mkdir()
        for folder in folders if number else ():
            for path in folder.iterdir():
                (tmp_path / f"copy{number}" / path.name).write_bytes(path.read_bytes())
    assert sorted(lengths(find_series(tmp_path))) == [5, 5]


def test_a_patient_of_whom_only_lost_slices_are_left_is_told(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a patient who vanishes without a line because nothing of him can be read."""
    write_named(phantoms["anisotropic"], tmp_path / "P1", NAMES["no suffix"])
    (tmp_path / "P2").mkdir()
    (tmp_path / "P2" / "IM_0001").symlink_to("/nowhere")
    (tmp_path / "P2" / "IM_0002").write_bytes(LFS)
    (tmp_path / "P2" / "README").symlink_to("/nowhere")
    found = find_series(tmp_path)
    assert lengths(found) == [5]
    assert [path in str(line) for line, path in zip(found.refused, ("IM_0001", "IM_0002"), strict=True)] == [True, True]


def test_a_tree_of_lost_slices_says_so(tmp_path: Path) -> None:
    """Catches a folder of packed slices that is said to hold nothing of DICOM."""
    (tmp_path / "1.dcm.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "..part").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"1\.dcm\.gz: stands for 1\.dcm"):
        find_series(tmp_path)


def test_a_path_that_became_too_long_is_lost_by_name(phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a search that dies because a folder was moved to where the names below it are too long to be opened."""
    inner = tmp_path / "folder"
    for path in write_series(phantoms["anisotropic"], inner, patient_id="P", seed=1):
        path.rename(path.with_name("n" * 200 + path.name))
    while len(str(inner)) < 3900:
        (tmp_path / "folder").rename(tmp_path / "inner")
        (tmp_path / "folder").mkdir()
        (tmp_path / "inner").rename(tmp_path / "folder" / ("y" * 99))
        inner = inner / ("y" * 99)
    try:
        with pytest.raises(InputError, match=r"no CT slice in this folder .*cannot be read \(File name too long\)"):
            find_series(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "folder"], check=True)
