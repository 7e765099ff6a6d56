"""The search of a folder: links that lead round, nowhere or out of it, and folders that nobody may read."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sarco.core.errors import DataWarning, InputError
from sarco.core.tree import files_below, look_below


def names_below(folder: Path) -> list[str]:
    """What a search finds, as paths from the folder."""
    return [file.relative_to(folder).as_posix() for file in files_below(folder)]


def make_files(folder: Path, *names: str) -> None:
    """Files with a byte each."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes 1100 folders of one name inside each other with a file in the last one; pytest could not remove them."""

    def make(name: str) -> Path:
        place = os.open(tmp_path, os.O_RDONLY)
        for _ in range(1100):
            os.mkdir(name, dir_fd=place)
            inner = os.open(name, os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = inner
        os.close(os.open("deep.dcm", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        os.close(place)
        return tmp_path

    yield make
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def test_files_come_sorted_and_hidden_ones_do_not(tmp_path: Path) -> None:
    """Catches an order that depends on the disk, and files that a system or a writer put there."""
    make_files(tmp_path, "b/2.dcm", "b/10.dcm", "a.dcm", "b.dcm", ".hidden/x.dcm", "b/._2.dcm")
    assert names_below(tmp_path) == ["a.dcm", "b/10.dcm", "b/2.dcm", "b.dcm"]


@pytest.mark.parametrize(
    "links",
    [
        {"loop": "."},
        {"a/loop": "..", "b/loop": "../a"},
        {"0": "a", "z": "a"},  # sorted before and after the folder itself
        {"a/0": "../b", "b/0": "../a"},
        {"one": "two", "two": "a"},
    ],
)
def test_each_real_folder_is_looked_at_once(tmp_path: Path, links: dict[str, str]) -> None:
    """Catches a case that is found 41 times because a link leads back, and a folder found by its link's name."""
    make_files(tmp_path, "a/1.dcm", "b/2.dcm")
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert names_below(tmp_path) == ["a/1.dcm", "b/2.dcm"]


def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    """Catches data sets made of links that are found empty, and one that is found twice."""
    make_files(tmp_path, "disk/P1/1.dcm", "disk/P1/2.dcm", "disk/one.dcm", "data/3.dcm")
    data = tmp_path / "data"
    (data / "P1").symlink_to(tmp_path / "disk/P1")
    (data / "P1_again").symlink_to(tmp_path / "disk/P1")
    (data / "first.dcm").symlink_to("../disk/one.dcm")
    (data / "second.dcm").symlink_to("../disk/one.dcm")  # under another name it may be another reader's case
    assert names_below(data) == ["3.dcm", "P1/1.dcm", "P1/2.dcm", "first.dcm", "second.dcm"]
    assert names_below(data / "P1") == ["1.dcm", "2.dcm"]


def test_a_link_that_leads_nowhere_is_one_of_the_files(tmp_path: Path) -> None:
    """Catches a slice that vanishes without a word because its disk is not there."""
    make_files(tmp_path, "1.dcm")
    (tmp_path / "2.dcm").symlink_to("/nowhere/2.dcm")
    (tmp_path / "3.dcm").symlink_to("3.dcm")
    (tmp_path / "unmounted").symlink_to("/nowhere")
    assert names_below(tmp_path) == ["1.dcm", "2.dcm", "3.dcm", "unmounted"]


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Catches a search that waits for ever for somebody to write into a pipe, or into what a link to one leads to."""
    make_files(tmp_path, "1.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "link.dcm").symlink_to("pipe.dcm")
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / ".hidden")
    with pytest.warns(DataWarning) as told:
        assert names_below(tmp_path) == ["1.dcm"]
    assert [str(one.message) for one in told] == [
        f"{tmp_path}/link.dcm: is a pipe and no file, so it is left out",
        f"{tmp_path}/pipe.dcm: is a pipe and no file, so it is left out",
        f"{tmp_path}/zero.dcm: is a device and no file, so it is left out",
    ]


def test_the_whole_tree_is_seen(tmp_path: Path) -> None:
    """Catches an empty folder and a hidden file that nobody can ask for, and a hidden folder that is looked into."""
    make_files(tmp_path, "b/1.dcm", ".b.dcm", "b/.2.dcm", ".git/x")
    for name in ("empty", "b/c", ".hidden"):
        (tmp_path / name).mkdir()
    tree = look_below(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tree.folders) == ["b", "b/c", "empty"]
    assert [path.relative_to(tmp_path).as_posix() for path in tree.hidden] == [".b.dcm", "b/.2.dcm"]


@pytest.mark.parametrize("name", ["d", "a_name_of_some_length"])
def test_no_depth_is_too_deep(deep_folder: Callable[[str], Path], name: str) -> None:
    """Catches a search that calls itself too often, or that dies of a path longer than the system takes."""
    folder = deep_folder(name)
    make_files(folder, "1.dcm")
    tree = look_below(folder)
    assert len(tree.files) == (2 if name == "d" else 1)
    told = [str(reason) for reason in tree.closed.values()]
    assert not told if name == "d" else len(told) == 1 and "File name too long" in told[0]


def test_a_folder_that_cannot_be_read_is_told_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a data set that cannot be used because of a ``lost+found``, and one that loses a folder in silence."""
    make_files(tmp_path, "a/1.dcm", "lost+found/2.dcm", "z/3.dcm")
    scandir = os.scandir

    def refuse(place: Path) -> object:
        if place.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(DataWarning, match=r"lost\+found: cannot be read \(Permission denied\), so it is left out"):
        assert names_below(tmp_path) == ["a/1.dcm", "z/3.dcm"]
    with pytest.raises(InputError, match=r"lost\+found: cannot be read \(Permission denied\); check its permissions"):
        files_below(tmp_path / "lost+found")
