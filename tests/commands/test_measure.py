"""`sarco measure` writes where it was told to, and beside it where another process was faster."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sarco.commands.measure import free_place, main
from sarco.core.errors import InputError, PartlyDoneError
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom


@pytest.fixture
def words(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> list[str]:
    """A series, its mask and the folder of the results, as words of the command line."""
    phantom = phantoms["anisotropic"]
    write_label_map(tmp_path / "mask.nii.gz", phantom.label_map, phantom.affine_lps)
    return [str(series_folder(phantom)), str(tmp_path / "mask.nii.gz"), f"--out={tmp_path / 'out'}"]


def test_the_table_comes_in_the_style_that_was_asked_for(words: list[str], tmp_path: Path) -> None:
    """Catches an option that is read and forgotten, and figures that differ between the styles."""
    main(words)
    main([*words[:2], f"--out={tmp_path / 'excel'}", "--csv=excel"])
    plain = (tmp_path / "out" / "measurements.csv").read_text(encoding="utf-8").splitlines()
    excel = (tmp_path / "excel" / "measurements.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(plain) == len(excel) > 5
    rows = [line.split(";") for line in excel[1:]]
    names = excel[0].split(";")
    assert names == plain[0].split(",")
    at = names.index("area_cm2")
    assert [float(row[at].replace(",", ".")) for row in rows] == [float(line.split(",")[at]) for line in plain[1:]]
    assert (tmp_path / "excel" / "measurements.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_measurements_of_another_process_stay(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures that came while these were computed and are replaced, though nobody asked for it."""
    from sarco.measurement import mask

    real, out = mask.measure_mask, tmp_path / "out"

    def another_is_faster(*rest: Any) -> Any:
        found = real(*rest)
        out.mkdir()
        (out / "measurements.csv").write_text("theirs")
        return found

    monkeypatch.setattr(mask, "measure_mask", another_is_faster)
    with pytest.raises(PartlyDoneError, match="out_2") as caught:
        main(words)
    assert caught.value.exit_status == 3
    assert (out / "measurements.csv").read_text() == "theirs"
    assert sorted(path.name for path in (tmp_path / "out_2").iterdir()) == ["measurements.csv", "summary.json"]
    assert "out_2" in capsys.readouterr().out
    with pytest.raises(InputError, match="--overwrite=yes"):
        main(words)


def test_a_place_is_taken_by_one_alone(tmp_path: Path) -> None:
    """Catches two processes that both find a folder free."""
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(free_place, [tmp_path / "out"] * 12))
    assert len(set(places)) == 12 and tmp_path / "out" in places and tmp_path / "out_12" in places
