"""Names of labels on two sides: numbers that mean something else are not compared in silence."""

import json
from pathlib import Path

import pytest
from stored_results import plain_prediction

from sarco.comparison.names import compare_names, names_of
from sarco.core.errors import InputError

PATH = Path("found/P1.nii.gz")


@pytest.mark.parametrize(
    "prediction",
    [
        {1: "psoas_right", 2: "psoas_left"},
        {1: "Right Psoas"},
        {3: "psoas_L"},
    ],
)
def test_a_structure_with_another_number_is_refused(prediction: dict[int, str]) -> None:
    """Catches left compared with right, or psoas with another muscle, by number alone."""
    with pytest.raises(InputError, match=r"found/P1\.nii\.gz: label \d is '.*', but '.*' is \d in the truth; renumber"):
        compare_names({0: "background", 1: "psoas_left", 2: "psoas_right"}, prediction, PATH)


@pytest.mark.parametrize(
    ("prediction", "told"),
    [
        ({}, []),
        ({1: "psoas_left", 2: "psoas_right"}, []),
        ({1: "Psoas L", 2: "right-psoas", 9: "liver"}, []),
        ({0: "psoas_left", 1: "label_1"}, []),
        ({1: "m. psoas left", 2: "iliopsoas right"}, ["label 1 is 'psoas_left'", "label 2 is 'psoas_right'"]),
    ],
)
def test_other_names_of_a_number_are_told(prediction: dict[int, str], told: list[str]) -> None:
    """Catches two structures of one number compared without a word, and a word about the same name in other letters."""
    found = compare_names({0: "nothing", 1: "psoas_left", 2: "psoas_right"}, prediction, PATH)
    assert len(found) == len(told) and all(map(str.startswith, found, told))


def test_names_that_read_alike_are_no_contradiction() -> None:
    """Catches a refusal of two sides that are named the very same."""
    names = {1: "fat+", 2: "fat-", 3: "left psoas", 4: "psoas left"}
    assert compare_names(names, names, PATH) == []


def test_names_are_those_of_the_label_map(tmp_path: Path) -> None:
    """Catches names of another folder for those of a prediction, and damage to what is not needed that ends all."""
    results = tmp_path / "preds_from_r1_of_P1"
    results.mkdir()
    (tmp_path / "labels.json").write_text('{"1": "psoas"}')
    (results / "prediction.json").write_text(json.dumps(plain_prediction()))
    assert names_of(results / "label_map.nii.gz", tmp_path) == {1: "muscle"}
    assert names_of(tmp_path / "site" / "P1.nii.gz", tmp_path) == {1: "psoas"}
    assert names_of(tmp_path / "P1.nii.gz", tmp_path / "P1.nii.gz") == {1: "psoas"}
    (results / "prediction.json").write_text("{")
    assert names_of(results / "label_map.nii.gz", tmp_path) == {1: "psoas"}
