"""Exported networks beside their checkpoint: found again whole or not at all, and never in the way."""

import os
from pathlib import Path
from typing import Any

import pytest

from sarco.prediction.kept import ENGINES_FOLDER, KeptNetwork, Shelf

NETWORK = KeptNetwork(
    {"model.xml": b"<net/>", "model.bin": bytes(range(256)) * 40}, {"unfit": "", "labels": {"1": "a"}}
)
VERSIONS = {"checkpoint": "aa", "sarco": "1", "openvino": "2"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The place of one network, which is kept there."""
    place = Shelf(tmp_path / "best.ckpt", "openvino", VERSIONS)
    assert place.keep(NETWORK) == ""
    return place


def test_what_is_kept_is_found(shelf: Shelf) -> None:
    """Catches files or a record that come back changed."""
    found, reason = shelf.find()
    assert found and not reason
    assert found.files == NETWORK.files
    assert {key: found.record[key] for key in NETWORK.record} == NETWORK.record
    assert shelf.path.stat().st_mode & 0o444 == 0o444  # whoever may read the checkpoint may read this


def test_nothing_kept_is_no_fault(tmp_path: Path) -> None:
    """Catches a warning at the first start."""
    assert Shelf(tmp_path / "best.ckpt", "openvino", VERSIONS).find() == (None, "")


@pytest.mark.parametrize("changed", VERSIONS)
def test_a_stale_one_is_not_found_and_makes_room(shelf: Shelf, tmp_path: Path, changed: str) -> None:
    """Catches the network of another checkpoint or version, and a folder that grows with every epoch."""
    other = Shelf(tmp_path / "last.ckpt", "openvino", VERSIONS)
    onnx = Shelf(tmp_path / "best.ckpt", "onnx", VERSIONS)
    other.keep(NETWORK)
    onnx.keep(NETWORK)
    newer = Shelf(tmp_path / "best.ckpt", "openvino", {**VERSIONS, changed: "new"})
    assert newer.find() == (None, "")
    newer.keep(NETWORK)
    assert sorted((tmp_path / ENGINES_FOLDER).iterdir()) == sorted([newer.path, other.path, onnx.path])


def test_one_under_a_wrong_name_is_not_used(shelf: Shelf, tmp_path: Path) -> None:
    """Catches a file that was copied from another run: its name is not what says whose it is."""
    other = Shelf(tmp_path / "best.ckpt", "openvino", {**VERSIONS, "checkpoint": "bb"})
    shelf.path.rename(other.path)
    found, reason = other.find()
    assert found is None and "belongs to another checkpoint" in reason


def flip(content: bytes) -> bytes:
    """One bit of the weights is another one."""
    place = content.index(bytes(range(200)))
    return content[: place + 50] + bytes([content[place + 50] ^ 1]) + content[place + 51 :]


@pytest.mark.parametrize("damage", [flip, lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"no archive" * 50])
def test_a_damaged_one_is_not_used(shelf: Shelf, damage: Any) -> None:
    """Catches masks from a network with a flipped bit, and an error that ends the run."""
    shelf.path.write_bytes(damage(shelf.path.read_bytes()))
    found, reason = shelf.find()
    assert found is None and "cannot be read" in reason
    assert shelf.keep(NETWORK) == ""
    assert shelf.find()[0]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    """Catches a run that dies because its checkpoints lie where one may only read."""
    (tmp_path / ENGINES_FOLDER).write_text("a file where the folder has to be")
    reason = Shelf(tmp_path / "best.ckpt", "openvino", VERSIONS).keep(NETWORK)
    assert "cannot be written" in reason


def test_a_write_that_fails_leaves_nothing(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches half a network in its place, and crumbs beside it."""
    before = shelf.path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert "Permission denied" in shelf.keep(KeptNetwork({"model.xml": b"new"}, {}))
    assert [path.read_bytes() for path in (tmp_path / ENGINES_FOLDER).iterdir()] == [before]
