"""Files that are whole or not there."""

import json
from pathlib import Path

import pytest

from sarco.core.files import atomic_file, write_json


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


def test_what_a_kill_left_beside_is_replaced(tmp_path: Path) -> None:
    """Catches a temporary file of an earlier kill that stops the next write, or stays."""
    path = tmp_path / "best.ckpt"
    (tmp_path / ".best.ckpt.partial").write_bytes(b"half a checkpoint")
    with atomic_file(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert [one.name for one in tmp_path.iterdir()] == ["best.ckpt"]
