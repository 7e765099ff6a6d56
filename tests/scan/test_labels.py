"""The label table: ids, names and colours, and a labels.json that is not what it has to be."""

import itertools
from pathlib import Path

import pytest

from sarco.core.errors import InputError
from sarco.scan.labels import COLOURS_RGB, LEFT, RIGHT, LabelTable, read_label_names, read_side


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
        '{"1": "Psoas_Left", "2": "psoas left"}',
        '{"1": "psoas-left", "3": "PSOAS  LEFT "}',
        '{"1": "\\uff50soas", "2": "psoas"}',
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


PAIRS = [
    ("psoas_left", "psoas_right"),
    ("Psoas_Left", "Psoas_Right"),
    ("left_psoas", "right_psoas"),
    ("psoas left", "psoas right"),
    ("psoas-left", "psoas-right"),
    ("psoas_L", "psoas_R"),
    ("psoas_left", "Psoas_right"),
    ("psoas.left", "psoas.right"),
    ("PsoasLeft", "PsoasRight"),
    ("leftPsoas", "rightPsoas"),
    ("LPsoas", "RPsoas"),
    ("psoasleft", "psoasright"),
    ("PSOASLEFT", "PSOASRIGHT"),
    ("psoas_left_major", "psoas_right_major"),
    ("psoas l major", "psoas r major"),
    ("Lt. psoas", "Rt. psoas"),
    ("left psoas (L)", "right psoas (R)"),
    ("psoas, left", "right psoas"),
    ("psoas_left_2", "psoas_right_2"),
    ("Psoas links", "Psoas rechts"),
    ("linker Psoas", "rechter Psoas"),
    ("Psoas li.", "Psoas re."),
    ("musculus psoas sinister", "musculus psoas dexter"),
    ("Rückenmuskel_links", "Rückenmuskel_rechts"),
    ("left", "right"),
    ("L", "R"),
    ("lpsoas", "rpsoas"),
    ("LPSOAS", "RPSOAS"),
    ("psoasl", "psoasr"),
    ("psoasL", "psoasR"),
    ("rectusl", "rectusr"),
    ("liliopsoas", "riliopsoas"),
    ("psoas (left)", "psoas (right)"),
    ("Left Psoas Major", "Right Psoas Major"),
    ("psoas_lt", "psoas_rt"),
    ("psoas_lh", "psoas_rh"),
    ("m_psoas_li", "m_psoas_re"),
    ("m_psoas_li_2", "m_psoas_re_2"),
    ("psoas_gauche", "psoas_droite"),
    ("psoas gauche", "psoas droit"),
    ("grand droit gauche", "grand droit droit"),
    ("psoas_sin", "psoas_dex"),
    ("psoas_sin", "psoas_dext"),
    ("psoas izq", "psoas der"),
    ("psoas izdo.", "psoas dcho."),
    ("psoas_esq", "psoas_dir"),
    ("left_psoas", "psoas_R"),
    ("lpsoas", "psoas_right"),
    ("psoas_left_L3", "psoas_right_L3"),
    ("L3_psoas_L", "L3_psoas_R"),
]


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_sides_swap_in_a_mirror_however_they_are_written(left: str, right: str) -> None:
    """Catches mirrored slices that teach left as right because a name does not end in _left or _right."""
    assert (read_side(left)[1], read_side(right)[1]) == (LEFT, RIGHT)
    table = LabelTable({1: "spleen", 2: right, 5: "liver", 9: left})
    assert table.mirrored_channels() == [0, 1, 4, 3, 2]
    assert table.without_partner() == []


@pytest.mark.parametrize(
    "name",
    [
        "muscle L3",
        "muscle_L_3",
        "L3",
        "IMAT",
        "upright",
        "cleft",
        "bright_fat",
        "re-drawn psoas",
        "sin muscle",
        "left_and_right",
        "links_rechts",
        "rectus",
        "label_1",
        "lateral wall",
        "grand droit",
        "muscle droit",
        "droit",
        "der muscle",
        "vertebra_L1",
        "vertebrae L 5",
        "L1 to L5",
        "lumbar",
        "renal",
        "rmuscular",
    ],
)
def test_what_names_no_side_or_both_has_none(name: str) -> None:
    """Catches a vertebra, a prefix or a muscle's other name that is coded as a side."""
    assert read_side(name)[1] is None
    assert LabelTable({1: name}).without_partner() == []


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (("psoas_left", "iliacus_right"), ["psoas_left", "iliacus_right"]),
        (("psoas_left", "psoas"), ["psoas_left"]),
        (("left psoas", "right psoas muscle"), ["left psoas", "right psoas muscle"]),
        (("psoas_left", "Psoas left", "psoas_right"), ["psoas_left", "Psoas left", "psoas_right"]),
        (("r rectus left", "r rectus right"), ["r rectus left", "r rectus right"]),
    ],
)
def test_sides_without_one_partner_stay_and_are_named(names: tuple[str, ...], alone: list[str]) -> None:
    """Catches a swap that is a guess, and a side that stays on its channel without a word."""
    table = LabelTable(dict(enumerate(names, start=1)))
    assert table.mirrored_channels() == [*range(len(names) + 1)]
    assert table.without_partner() == alone


@pytest.mark.parametrize(
    ("names", "maybe"),
    [
        (("psoas_g", "psoas_d"), True),
        (("lerectores", "rerectores"), True),
        (("erectoresl", "erectoresr"), True),
        (("psoas_g", "iliacus_d"), False),
        (("psoas_1", "psoas_2"), False),
        (("sat", "vat"), False),
        (("psoas major", "psoas minor"), False),
        (("psoas_l", "psoas_r"), False),
        (("vertebra_L1", "vertebra_L2"), False),
    ],
)
def test_what_may_be_a_side_stays_and_is_named(names: tuple[str, str], maybe: bool) -> None:
    """Catches left taught as right in silence, for sides in letters that nobody can be sure of."""
    table = LabelTable(dict(enumerate(names, start=1)))
    assert table.maybe_sides() == ([names] if maybe else [])


def test_other_pairs_swap_beside_one_without_partner() -> None:
    """Catches all swaps that are lost because of one name."""
    table = LabelTable({1: "psoas_left", 2: "psoas_right", 3: "iliacus_left"})
    assert table.mirrored_channels() == [0, 2, 1, 3]
    assert table.without_partner() == ["iliacus_left"]


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (("psoas_left", "psoas_right", "rectus"), ""),
        (("muscle",), ""),
        (("label_7",), ""),
        (("psoas_left", "rectus"), "'psoas_left' of one side"),
        (("psoas_g", "psoas_d"), "'psoas_g' and 'psoas_d' may be left and right"),
    ],
)
def test_a_mirror_needs_to_know_every_label(names: tuple[str, ...], doubt: str) -> None:
    """Catches slices that are mirrored although a label may be of one side, and a whole muscle that stops it."""
    assert LabelTable(dict(enumerate(names, start=1))).mirror_doubt() == doubt


def test_labels_without_names_are_not_mirrored() -> None:
    """Catches two sides that nobody named and that mirrored slices mix up."""
    assert LabelTable.from_ids([3, 5]).mirror_doubt() == "labels 3, 5 have no names"
