"""The bar over slices: where somebody watches, and nowhere else."""

import re
import sys
import time

import pytest

from sarco.commands.progress import slices_bar


def test_no_bar_where_output_goes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches thousands of lines of a bar in a log."""
    with slices_bar(3) as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")


def test_a_bar_counts_slices_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a bar that counts calls instead of slices, without the time left, or that stays in the way."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with slices_bar(8) as progress:
        assert progress
        for done in (2, 8):
            time.sleep(0.12)  # tqdm draws no more often than each tenth of a second
            progress(done, 8)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"8/8 \[.*slices/s\]", err)
    assert err.split("\r")[-1].strip() == ""
