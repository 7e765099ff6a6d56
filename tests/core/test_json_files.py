"""JSON that anybody may have written: read as it stands, or refused in one line."""

from pathlib import Path

import pytest

from sarco.core.errors import InputError
from sarco.core.files import read_json


def test_content_is_read(tmp_path: Path) -> None:
    """Catches an umlaut that depends on the system, and a file of a Windows editor that is refused for its mark."""
    path = tmp_path / "some.json"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + '{"a": ["größe", 1.5, null]}'.encode())
        assert read_json(path) == {"a": ["größe", 1.5, None]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b'{"a": "\xff"}', "cannot be read as JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "key a stands there twice"),
        (b'{"x": [{"a\\n": 1, "a\\n": 1}]}', "stands there twice"),
        (b"[" * 200_000, "nested too deeply"),
        (None, "cannot be read"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, content: bytes | None, says: str) -> None:
    """Catches a traceback, and the last of two values that wins in silence."""
    path = tmp_path / "some.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
