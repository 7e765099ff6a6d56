"""Tables as CSV, in the two styles that programs open without a word: plain, and Excel's where commas are decimal.

``plain`` has commas between cells, decimal points, UTF-8 and no mark in front. ``excel`` has semicolons, decimal
commas, and the mark in front (BOM) by which Excel knows UTF-8. Dates are ISO 8601 in both.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sarco.core.files import write_whole

PLAIN, EXCEL = "plain", "excel"
CSV_STYLES = (PLAIN, EXCEL)
_MARK = "\ufeff"


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], style: str = PLAIN) -> None:
    """Writes a table; a reader sees the old file or the new one.

    Args:
        path: the file.
        columns: their names.
        rows: cells as texts, numbers or None, which is an empty cell.
        style: ``plain`` or ``excel``.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO(newline="")
    is_excel = style == EXCEL
    writer = csv.writer(text, delimiter=";" if is_excel else ",", lineterminator="\r\n" if is_excel else "\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value, is_excel) for value in row])
    content = (_MARK if is_excel else "") + text.getvalue()
    write_whole(path, content.encode(errors="backslashreplace"))


def style_of(path: Path) -> str:
    """The style that a table has; plain where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return EXCEL if file.read(1) == _MARK else PLAIN
    except OSError:
        return PLAIN


def _cell(value: Any, is_excel: bool) -> Any:
    if value is None:
        return ""
    return str(value).replace(".", ",") if is_excel and isinstance(value, float) else value
