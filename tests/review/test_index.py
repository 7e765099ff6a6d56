"""The list of reviews: flagged ones first, sortable, honest about what is missing, and no markup from outside."""

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from review_results import HOSTILE, write_review_results
from stored_results import NESTED, correction, plain_prediction

from sarco.commands.review import main
from sarco.core.errors import InputError
from sarco.phantom.patient import Phantom
from sarco.review.index import read_entry, write_index


def write_bare(folder: Path, summary: dict[str, Any] | None = None, **prediction: Any) -> Path:
    """A results folder of JSON files alone."""
    folder.mkdir(parents=True)
    (folder / "prediction.json").write_text(json.dumps(plain_prediction(**prediction)), encoding="utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def names(browser: Browser) -> list[str]:
    """The second column as it is shown."""
    cells = "return [...document.querySelectorAll('#rows tr')].map((row) => row.children[1].textContent)"
    return list(browser.run(cells))


def click_heading(browser: Browser, place: int) -> list[str]:
    """The names after a click on a heading."""
    browser.click(f"#heads th:nth-child({place + 1}) button")
    return names(browser)


def test_table_sorts_searches_and_links(
    browser: Browser, phantoms: dict[str, Phantom], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches text sorted for numbers, empty cells in front, links that lead nowhere, and anything fetched."""
    root = tmp_path / "all"
    root.mkdir()
    write_review_results(root, phantoms["anisotropic"], "a & b #1")
    flag = {"name": "arms_in_picture", "reason": "r", "numbers": {}, "slices": []}
    write_bare(root / "deep" / "two_flags", {"flags": [flag, flag], "smi": {"value": 100.5}})
    write_bare(
        root / "one_flag",
        {"flags": [flag], "smi": {"value": 9.25}, "cutoffs": [{"verdict": "low", "text": "low by X"}]},
    )
    write_bare(root / "plain", {"flags": [], "smi": {"value": None, "why_not": "no height was given"}})
    main(["index", str(root)])
    assert capsys.readouterr().out == f"4 results: {root / 'index.html'}\n"
    browser.open(root / "index.html")
    with_page = "results_a & b #1"
    assert names(browser) == ["deep/two_flags", "one_flag", "plain", with_page]
    assert click_heading(browser, 3) == ["one_flag", "deep/two_flags", "plain", with_page]  # SMI
    assert click_heading(browser, 3) == ["deep/two_flags", "one_flag", "plain", with_page]  # and downwards
    assert click_heading(browser, 1)[0] == "deep/two_flags"
    assert "no height was given" in browser.run("return document.body.innerText")
    browser.run(
        "const box = document.getElementById('find'); box.value = 'LOW BY'; box.dispatchEvent(new Event('input'))"
    )
    assert names(browser) == ["one_flag"]
    browser.run("const box = document.getElementById('find'); box.value = ''; box.dispatchEvent(new Event('input'))")
    assert browser.run("return document.querySelector('#rows img').naturalWidth") == 160
    assert browser.log("browser") == []
    assert {address.split(":")[0] for address in browser.addresses()} <= {"file", "data"}
    browser.click("#rows a")
    browser.wait("document.body.dataset.firstPictureMs")
    assert browser.run("return page.shape") == [96, 120, 5]


def test_text_from_outside_stays_text(browser: Browser, tmp_path: Path) -> None:
    """Catches a flag, a name or a verdict that runs as a script."""
    summary = {
        "flags": [{"name": HOSTILE}],
        "smi": {"value": None, "why_not": HOSTILE},
        "cutoffs": [{"verdict": HOSTILE, "text": HOSTILE}],
    }
    write_bare(tmp_path / "javascript:alert(1)", summary, run_id=HOSTILE, corrections=[correction(HOSTILE)])
    (tmp_path / "javascript:alert(1)" / "review.html").write_text("")
    write_index(tmp_path)
    browser.open(tmp_path / "index.html")
    assert browser.run("return document.querySelector('#rows a').protocol") == "file:"
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.querySelectorAll('img, tbody script').length") == 0
    assert browser.run("return document.body.innerText").count(HOSTILE) == 5
    assert browser.log("browser") == []


def test_a_damaged_folder_is_listed_with_its_fault(tmp_path: Path) -> None:
    """Catches one bad folder that hides all others, or that vanishes from the list."""
    odd: dict[str, Any] = {"flags": "x", "smi": [1], "cutoffs": {"a": 1}, "labels": [3, {"volume_ml": "much"}]}
    write_bare(tmp_path / "odd", odd, slices=7, corrections=3)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "prediction.json").write_text("{")
    write_bare(tmp_path / "listed")
    (tmp_path / "listed" / "summary.json").write_text("[]")
    assert write_index(tmp_path)[0] == 3
    assert read_entry(tmp_path / "broken", tmp_path)["fault"].startswith("prediction.json: cannot be read as JSON")
    entry = read_entry(tmp_path / "listed", tmp_path)
    assert entry["fault"].startswith("summary.json: cannot be used (it holds no object)") and entry["slices"] == 2
    entry = read_entry(tmp_path / "odd", tmp_path)
    assert (entry["flags"], entry["smi"], entry["volume_ml"], entry["slices"]) == ([], None, None, 0)
    assert entry["fault"].startswith("prediction.json: cannot be used")


@pytest.mark.parametrize("name", ["prediction.json", "summary.json"])
@pytest.mark.parametrize(
    "text", [*NESTED, '{"smi": {"value": NaN}, "slices": [', '{"smi": {"value": 1' + "0" * 400 + "}}"]
)
def test_a_file_that_breaks_a_reader_is_a_line_of_the_list(tmp_path: Path, name: str, text: str) -> None:
    """Catches a list of reviews that ends in a traceback, or a page that no browser reads, for one bad file."""
    write_bare(tmp_path / "good", {"smi": {"value": 50.5}})
    write_bare(tmp_path / "bad", {"smi": {"value": 40.5}})
    (tmp_path / "bad" / name).write_text(text)
    assert write_index(tmp_path)[0] == 2
    fault = read_entry(tmp_path / "bad", tmp_path)["fault"]
    assert fault.startswith(name) and str(tmp_path) not in fault and fault.isprintable()
    assert read_entry(tmp_path / "good", tmp_path) == read_entry(tmp_path / "good", tmp_path) | {
        "fault": "",
        "smi": 50.5,
    }


def test_volumes_and_corrections_are_told(tmp_path: Path) -> None:
    """Catches a sum over the wrong file, and corrections without a name shown as none."""
    labels = [{"id": 1, "name": "a", "volume_ml": 10.25}, {"id": 2, "name": "b", "volume_ml": 0.5}]
    folder = write_bare(
        tmp_path / "a",
        {"labels": labels},
        labels=[{"id": 1, "name": "a", "volume_ml": 99.0}],
        corrections=[correction()],
    )
    entry = read_entry(folder, tmp_path)
    assert entry["volume_ml"] == 10.8 and entry["corrected_by"] == "yes" and entry["link"] == ""
    folder = write_bare(tmp_path / "b", labels=labels, corrections=[correction("A"), correction("B")])
    assert read_entry(folder, tmp_path)["corrected_by"] == "B" and read_entry(folder, tmp_path)["volume_ml"] == 10.8


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    """Catches an empty list where the path was mistyped."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError):
            write_index(folder)
    assert list(tmp_path.iterdir()) == []
