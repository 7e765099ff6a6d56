"""Files and folders that are whole or not there."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sarco.core import files
from sarco.core.files import (
    atomic_file,
    atomic_folder,
    is_unfinished,
    read_json,
    short_name,
    whole_or_gone,
    write_json,
)

ROOT = Path(__file__).parents[2]


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Catches half a file after an error, and a temporary one left behind."""
    path = tmp_path / "split.json"
    write_json(path, {"ä": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["split.json"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """Catches a file that is opened in place: empty, then half, for whoever looks meanwhile."""
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def make_old(path: Path, idle_s: float) -> None:
    """As if nobody had changed it for so long."""
    then = time.time() - idle_s
    for one in (*(path.iterdir() if path.is_dir() else ()), path):
        os.utime(one, (then, then))


KILLED = """
import os, signal, sys
from pathlib import Path
from sarco.core import files
from sarco.core.files import atomic_file, atomic_folder

path, what = Path(sys.argv[1]), sys.argv[2]
if what == "file":
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
with atomic_folder(path, replace=True) as folder:
    (folder / "new").write_text("half")
    if what == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
    rename = os.rename
    os.rename = lambda *paths: (rename(*paths), os.kill(os.getpid(), signal.SIGKILL))  # between the two
"""


def kill_while_writing(path: Path, what: str) -> None:
    """Writes a file or a folder in another process, which is killed in the middle."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), what], cwd=ROOT, check=False)
    assert killed.returncode < 0


def test_a_kill_leaves_the_old_file_and_a_later_write_clears_up(tmp_path: Path) -> None:
    """Catches half a file after a kill, litter that stays for ever, and one that stops the next write."""
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"old")
    kill_while_writing(path, "file")
    assert path.read_bytes() == b"old"
    (left,) = set(tmp_path.iterdir()) - {path}
    assert is_unfinished(left) and not is_unfinished(path)
    make_old(left, idle_s=10)
    with atomic_file(tmp_path / "another") as file:
        file.write(b"whole")
    assert names_in(tmp_path) == ["another", "best.ckpt"]


def test_what_another_machine_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a clearing that takes what another machine is at work on: its locks need not be seen here."""
    kill_while_writing(tmp_path / "best.ckpt", "file")
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr(files, "_HOST", "0000" if files._HOST != "0000" else "1111")
    for idle_s, stays in ((80_000, True), (90_000, False)):
        make_old(left, idle_s)
        write_json(tmp_path / "a.json", 1)
        assert left.exists() is stays


def test_what_another_writes_or_nobody_here_wrote_is_left_alone(tmp_path: Path) -> None:
    """Catches a clearing that takes the file or folder that a live writer is at work on, or somebody else's."""
    path = tmp_path / "best.ckpt"
    foreign = tmp_path / ".best.ckpt.partial"
    foreign.write_bytes(b"not ours")
    make_old(foreign, idle_s=90_000)
    with atomic_file(path) as slow:
        slow.write(b"slow")
        slow.flush()
        (partial,) = set(tmp_path.iterdir()) - {foreign}
        make_old(partial, idle_s=90_000)
        with atomic_file(path) as quick:
            quick.write(b"quick")
        assert path.read_bytes() == b"quick"
        with atomic_folder(tmp_path / "folder", replace=True) as folder:
            (folder / "a").write_text("1")
            make_old(folder, idle_s=90_000)
            write_json(tmp_path / "b.json", 1)
    assert path.read_bytes() == b"slow"
    assert names_in(tmp_path) == [foreign.name, "b.json", "best.ckpt", "folder"]
    assert names_in(tmp_path / "folder") == ["a"]


WRITES_OFTEN = """
import sys
from pathlib import Path
from sarco.core import files
from sarco.core.files import atomic_file

for _ in range(60):
    with atomic_file(Path(sys.argv[1])) as file:
        for _ in range(40):
            file.write(sys.argv[2].encode() * int(sys.argv[3]))
            file.flush()
"""


def test_processes_that_write_the_same_file_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    """Catches one temporary name for all writers: they fail, or their contents are mixed."""
    path = tmp_path / "kept.zip"
    command = [sys.executable, "-c", WRITES_OFTEN, str(path)]
    contents = (("a", "7"), ("b", "900"), ("c", "1"))
    writers = [subprocess.Popen([*command, *words], cwd=ROOT) for words in contents]
    whole = {letter.encode(): 40 * int(count) for letter, count in contents}
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert content == content[:1] * whole[content[:1]]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert names_in(tmp_path) == ["kept.zip"]


def test_threads_that_write_the_same_file_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    """Catches a temporary name that is made of the process alone."""
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: write_json(path, [number] * 500), range(64)))
    assert len(set(json.loads(path.read_text()))) == 1 and names_in(tmp_path) == ["a.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_who_may_read_is_as_the_user_set_it(tmp_path: Path, umask: int, mode: int) -> None:
    """Catches results that others cannot read where they share, and can where the user keeps patients to himself."""
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", 1)
        with atomic_folder(tmp_path / "folder", replace=True):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == mode
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode & 0o666


@pytest.mark.parametrize("replace", [True, False])
def test_folder_appears_at_once_and_not_after_a_failure(tmp_path: Path, replace: bool) -> None:
    """Catches a folder that is seen half full, or is left after an error."""
    path = tmp_path / "new" / "results"
    with atomic_folder(path, replace=replace) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert names_in(path) == ["a"] and names_in(path.parent) == ["results"]
    with pytest.raises(KeyboardInterrupt), atomic_folder(path, replace=replace) as folder:
        (folder / "b").write_text("1")
        raise KeyboardInterrupt
    assert names_in(path) == ["a"] and names_in(path.parent) == ["results"]


def test_of_two_folders_the_one_asked_for_stays(tmp_path: Path) -> None:
    """Catches a slower process that spoils what a faster one has open, and old content mixed with new."""
    for replace, stays in ((False, "first"), (True, "second")):
        path = tmp_path / str(replace)
        with atomic_folder(path, replace=replace) as slow:
            (slow / "second").write_text("1")
            with atomic_folder(path, replace=replace) as quick:
                (quick / "first").write_text("1")
            assert names_in(path) == ["first"]
        assert names_in(path) == [stays]
    assert names_in(tmp_path) == ["False", "True"]


def test_a_kill_leaves_the_old_folder_and_a_later_write_clears_up(tmp_path: Path) -> None:
    """Catches old results thrown away before the new ones are whole."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "old").write_text("1")
    kill_while_writing(path, "folder")
    assert names_in(path) == ["old"]
    (left,) = set(tmp_path.iterdir()) - {path}
    make_old(left, idle_s=10)
    write_json(tmp_path / "a.json", 1)
    assert names_in(tmp_path) == ["a.json", "results"]


def test_a_kill_between_old_and_new_loses_neither(tmp_path: Path) -> None:
    """Catches a clearing that takes the only copy of the old results."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "old").write_text("1")
    kill_while_writing(path, "exchange")
    assert not path.exists()
    for left in tmp_path.iterdir():
        make_old(left, idle_s=90_000)
    write_json(tmp_path / "a.json", 1)
    (old,) = (one for one in tmp_path.iterdir() if one.is_dir())
    assert names_in(old) == ["old"]
    with atomic_folder(path, replace=True) as folder:
        (folder / "new").write_text("1")
    write_json(tmp_path / "a.json", 2)
    assert names_in(tmp_path) == ["a.json", "results"] and names_in(path) == ["new"]


def test_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches results that are gone because a rename failed."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "old").write_text("1")
    rename = os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if (Path(source) / "new").exists():
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(PermissionError), atomic_folder(path, replace=True) as folder:
        (folder / "new").write_text("1")
    assert names_in(tmp_path) == ["results"] and names_in(path) == ["old"]


def test_what_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    """Catches an error that hides from callers, who say which flag to change."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), atomic_file(tmp_path / "file" / "a"):
        pass
    with pytest.raises(OSError, match="file"), atomic_folder(tmp_path / "file" / "a", replace=True):
        pass


def fill(building: Path, content: str) -> None:
    """One file in a folder."""
    (building / "content").write_text(content)


def test_a_folder_that_came_meanwhile_stays_and_the_new_one_gets_a_name(tmp_path: Path) -> None:
    """Catches results of another process that vanish, work of hours that is thrown away, and a name that is taken."""
    path = tmp_path / "results"
    places: list[Path] = []
    for content in ("first", "second", "third"):
        with atomic_folder(path, replace=False, beside=places.append) as building:
            fill(building, content)
    assert places == [tmp_path / "results_2", tmp_path / "results_3"]
    assert [(place / "content").read_text() for place in (path, *places)] == ["first", "second", "third"]
    assert names_in(tmp_path) == ["results", "results_2", "results_3"]


def test_a_place_taken_in_the_midst_is_noticed_in_the_end(tmp_path: Path) -> None:
    """Catches a look at the start alone: the other process came between; an empty folder is nobody's, a file is."""
    for number, take in enumerate((Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere"))):
        path = tmp_path / str(number)
        places: list[Path] = []
        with atomic_folder(path, replace=False, beside=places.append) as building:
            fill(building, "mine")
            take(path)
        assert places == ([] if number == 0 else [tmp_path / f"{number}_2"])
        assert ((places or [path])[-1] / "content").read_text() == "mine"


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Catches two processes that see the same free name, of which one replaces the other."""
    path = tmp_path / "results"

    def work(number: int) -> None:
        with atomic_folder(path, replace=False, beside=lambda place: None) as building:
            fill(building, str(number))
            time.sleep(0.02)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted((folder / "content").read_text() for folder in tmp_path.iterdir()) == sorted(map(str, range(8)))


def test_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    """Catches an export that replaces another's of the same name, though nobody asked for it."""
    path = tmp_path / "first.onnx"
    with pytest.raises(FileExistsError), atomic_file(path, replace=False) as file:
        file.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs" and names_in(tmp_path) == ["first.onnx"]
    path.unlink()
    with atomic_file(path, replace=False) as file:
        file.write(b"mine")
    assert path.read_bytes() == b"mine" and names_in(tmp_path) == ["first.onnx"]


def test_the_longest_names_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    """Catches "File name too long", because what is written first has a longer name than what it becomes."""
    for name in ("a" * 255, "\u00fc" * 127):
        with atomic_file(tmp_path / name) as file:
            file.write(b"1")
        with atomic_folder(tmp_path / name[1:], replace=True) as building:
            fill(building, "1")
        assert {name, name[1:]} <= set(names_in(tmp_path))


@pytest.mark.parametrize("name", ["a" * 300, "\u00fc" * 200, "\u5c71" * 90 + "x", "\udcfc" * 260, "a\U0001f600" * 60])
def test_long_names_are_cut_and_stay_apart(name: str, tmp_path: Path) -> None:
    """Catches a letter cut in half, names beyond the limit, and two long names that become one."""
    cut = [short_name(name + end) for end in "12"]
    assert cut[0] != cut[1] and all(len(os.fsencode(one)) <= 255 for one in cut)
    assert name.startswith(cut[0][:-9]) and len(os.fsencode(cut[0])) > 250
    assert short_name("P001") == "P001"
    if os.name == "posix":
        (tmp_path / cut[0]).touch()


def test_paths_that_are_no_text_come_back_from_json(tmp_path: Path) -> None:
    """Catches a finished prediction lost to a folder that was named in another encoding, and a path that changed."""
    path = os.fsdecode(b"/scans/M\xfcller/\xff")
    write_json(tmp_path / "a.json", {"file": path, "name": "\u00fc \u5c71"})
    assert read_json(tmp_path / "a.json") == {"file": path, "name": "\u00fc \u5c71"}
    assert "\u00fc" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_half_a_file_goes(tmp_path: Path) -> None:
    """Catches a DICOM object without its end, which an archive takes for a whole one."""
    with pytest.raises(ValueError, match="x"), whole_or_gone(tmp_path / "a.dcm"):
        (tmp_path / "a.dcm").write_bytes(b"DICM")
        raise ValueError("x")
    assert names_in(tmp_path) == []
