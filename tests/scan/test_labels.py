"""The label table: ids, names and colours, and a labels.json that is not what it has to be."""

import itertools
from pathlib import Path

import pytest

from sarco.core.errors import InputError
from sarco.scan.labels import COLOURS_RGB, LabelTable, read_label_names


def write(folder: Path, text: str | bytes) -> Path:
    """A labels.json with this content."""
    path = folder / "labels.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_names_are_read(tmp_path: Path) -> None:
    """Catches ids that stay text, and a background that is lost or becomes a label."""
    names = read_label_names(write(tmp_path, '{"0": "background", "2": "psoas rechts", "1": "größter Muskel"}'))
    assert names == {0: "background", 1: "größter Muskel", 2: "psoas rechts"}
    assert LabelTable.from_ids([0, 2, 1], names).names == {1: "größter Muskel", 2: "psoas rechts"}


def test_no_file_gives_no_names(tmp_path: Path) -> None:
    """Catches an optional file that is demanded."""
    assert read_label_names(tmp_path / "labels.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2]",
        '"psoas"',
        "null",
        '{"psoas": 1}',
        '{"1.5": "psoas"}',
        '{"-1": "psoas"}',
        '{"256": "psoas"}',
        '{"1": "psoas", "2": "psoas"}',
        '{"1": null}',
        '{"1": {"name": "psoas"}}',
        '{"1": ""}',
        '{"1": "psoas", "1": "iliacus"}',
        '{"1": "psoas", "01": "iliacus"}',
        '{"²": "psoas"}',
        '{"1": "pso\\nas"}',
        '{"1": "\\ud800"}',
        '{"1": ' + "[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_faulty_file_is_named_in_one_line(tmp_path: Path, text: str | bytes) -> None:
    """Catches a labels.json that ends in a traceback, or in a label called None."""
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_label_names(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_only_ids_that_were_found_are_labels() -> None:
    """Catches a network with channels for names that no label map holds."""
    table = LabelTable.from_ids([5, 0, 3], {1: "one", 3: "three", 4: "four"})
    assert table.names == {3: "three", 5: "label_5"}
    assert table.ids == (3, 5)
    assert table.n_channels == 3


def test_order_is_that_of_the_ids() -> None:
    """Catches channels that depend on the order in which files were read."""
    assert LabelTable({7: "b", 2: "a"}).ids == LabelTable({2: "a", 7: "b"}).ids == (2, 7)
    assert list(LabelTable({7: "b", 2: "a"}).names) == [2, 7]


def test_empty_table_is_refused() -> None:
    """Catches a network that has nothing but background to find."""
    with pytest.raises(InputError):
        LabelTable.from_ids([0])


def test_table_survives_json_and_checkpoint() -> None:
    """Catches ids that come back as text."""
    table = LabelTable({1: "psoas", 12: "äußerer"})
    assert LabelTable.from_builtins(table.to_builtins()) == table
    assert all(isinstance(part, str) for pair in table.to_builtins().items() for part in pair)


def test_colours_are_stable_and_told_apart() -> None:
    """Catches colours that change between pictures, and neighbours that look alike."""
    table = LabelTable({i: f"label {i}" for i in range(1, 13)})
    colours = [table.colour_rgb(i) for i in table.ids]
    assert colours == [LabelTable(dict(table.names)).colour_rgb(i) for i in table.ids]
    assert len(set(colours[: len(COLOURS_RGB)])) == len(COLOURS_RGB)
    assert all(first != second for first, second in itertools.pairwise(colours))
    assert table.colour_rgb(1) == COLOURS_RGB[0]
