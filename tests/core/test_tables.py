"""CSV that programs open without a word: plain, and for Excel where commas are decimal."""

import csv
from pathlib import Path

import pytest

from sarco.core.tables import EXCEL, PLAIN, style_of, write_table

ROWS = [["psoas; left", 1.5, 3, None, "2026-01-02"], ['a "b", \u00fc \udcfc', -0.25, 0, True, ""]]
COLUMNS = ["label", "area_cm2", "n", "empty", "date"]


def test_plain_is_what_every_reader_takes(tmp_path: Path) -> None:
    """Catches a mark or a separator that breaks scripts, and a name that is no text and ends the writing."""
    write_table(tmp_path / "a.csv", COLUMNS, ROWS)
    content = (tmp_path / "a.csv").read_bytes()
    assert content.startswith(b"label,area_cm2") and b"\r" not in content
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    assert read == [
        COLUMNS,
        ["psoas; left", "1.5", "3", "", "2026-01-02"],
        ['a "b", \u00fc \\udcfc', "-0.25", "0", "True", ""],
    ]


def test_excel_is_what_excel_takes_in_half_of_europe(tmp_path: Path) -> None:
    """Catches umlauts that turn to letter salad, all cells in one column, 1.5 read as a date, and dates in pieces."""
    write_table(tmp_path / "a.csv", COLUMNS, ROWS, EXCEL)
    content = (tmp_path / "a.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbflabel;area_cm2;") and content.count(b"\r\n") == 3
    with open(tmp_path / "a.csv", newline="", encoding="utf-8-sig") as file:
        read = list(csv.reader(file, delimiter=";"))
    assert read[1] == ["psoas; left", "1,5", "3", "", "2026-01-02"]
    assert read[2][:2] == ['a "b", \u00fc \\udcfc', "-0,25"]


@pytest.mark.parametrize("style", [PLAIN, EXCEL])
def test_a_table_says_its_style(tmp_path: Path, style: str) -> None:
    """Catches a table that changes its style when a correction is applied."""
    write_table(tmp_path / "a.csv", COLUMNS, ROWS, style)
    assert style_of(tmp_path / "a.csv") == style
    assert style_of(tmp_path / "absent.csv") == PLAIN
    (tmp_path / "other.csv").write_bytes(b"\xff\xfe\x00")
    assert style_of(tmp_path / "other.csv") == PLAIN
