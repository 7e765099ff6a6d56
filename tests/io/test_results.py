"""A results folder that anybody may have edited: read as sarco wrote it, or refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from stored_results import NESTED, correction, deep, plain_prediction

from sarco.core.errors import InputError
from sarco.io.results import PREDICTION, SUMMARY, find_results, read_prediction, read_summary


def write(folder: Path, name: str, content: Any) -> Path:
    """A results folder with one file; text is written as it stands."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def one_line(caught: pytest.ExceptionInfo[InputError], path: Path) -> None:
    """A message names its file, and fits into a line."""
    assert str(path) in str(caught.value) and str(caught.value).isprintable()
    assert len(str(caught.value)) < 900


def test_what_sarco_writes_is_read(tmp_path: Path) -> None:
    """Catches a value that lands in another's place, and results of older versions that are refused."""
    labels = [{"id": 9, "name": "psoas", "volume_ml": 2}, {"id": 2, "name": "größe, cm", "volume_ml": 0.5}]
    content = plain_prediction(labels=labels, corrections=[correction("A"), correction("B")], geometry={"part": 0})
    del content["slices"][1]["frame"], content["mean_confidence"]
    content["slices"][0]["frame"] = 3
    found = read_prediction(write(tmp_path, PREDICTION, content))
    assert (found.folder, found.series_uid, found.run_id, found.sarco_version) == (tmp_path, "1.2.3", "r1", "0.1.0")
    assert found.labels.names == {2: "größe, cm", 9: "psoas"} and found.volumes_ml == {9: 2.0, 2: 0.5}
    assert [(one.slice_index, one.frame, one.sop_uid) for one in found.slices] == [(0, 3, "1.2.0"), (1, 0, "1.2.1")]
    assert found.slices[1].file == "/nowhere/1.dcm" and found.slices[1].confidence == 0.75
    assert [one["corrected_by"] for one in found.corrections] == ["A", "B"] and found.mean_confidence is None
    assert found.raw == content


def test_no_number_is_no_confidence(tmp_path: Path) -> None:
    """Catches NaN that is compared with a limit, which it never undercuts."""
    content = plain_prediction(mean_confidence=math.nan)
    content["slices"][0]["confidence"] = math.nan
    found = read_prediction(write(tmp_path, PREDICTION, content))
    assert (found.mean_confidence, found.slices[0].confidence, found.slices[1].confidence) == (None, None, 0.75)


@pytest.mark.parametrize("text", NESTED)
@pytest.mark.parametrize("around", ["{}", '{{"slices": {}', '{{"slices": [{{"file": {}'])
def test_nesting_without_end_is_one_line(tmp_path: Path, around: str, text: str) -> None:
    """Catches a stack that runs out, at the top of the files or within their parts."""
    for name, read in ((PREDICTION, read_prediction), (SUMMARY, read_summary)):
        with pytest.raises(InputError, match="nested too deeply") as caught:
            read(write(tmp_path, name, around.format(text)))
        one_line(caught, tmp_path / name)


@pytest.mark.parametrize("layers", [40, 400, 900])
def test_nesting_that_a_parser_takes_is_refused_too(tmp_path: Path, layers: int) -> None:
    """Catches layers that are read, and end the program when they are written again."""
    for name, read in ((PREDICTION, read_prediction), (SUMMARY, read_summary)):
        content = plain_prediction() if name == PREDICTION else {}
        with pytest.raises(InputError, match="nested too deeply") as caught:
            read(write(tmp_path, name, content | {"other": deep(layers)}))
        one_line(caught, tmp_path / name)


WRONG: dict[str, tuple[Any, ...]] = {
    "series_uid": (None, "", 5, ["1.2"]),
    "labels": (None, [], {}, "x", [3], [[]], [{"id": 1}], [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
    "slices": (None, [], {}, 7, "ab", [None], [{}], [[]]),
    "corrections": (None, 3, {}, [3], [{}], [correction() | {"slices": 1}], [correction() | {"slices": [True]}]),
    "run_id": (3, ["r1"], {}),
    "runs": (None, 3, {}, ["a"], [{}], [{"run_id": "a", "wandb_project": "T", "checkpoint_sha256": 7}]),
    "sarco_version": (0.1,),
    "wandb_project": (7,),
    "mean_confidence": (10**400, math.inf, "0.9", True, -1, None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_part_of_another_kind_is_named(tmp_path: Path, name: str, value: Any) -> None:
    """Catches a traceback, or a wrong value that goes on into pages and measurements."""
    said = {"mean_confidence": "confidence", "labels": "label", "slices": "slice", "corrections": "correction"}.get(
        name, name
    )
    with pytest.raises(InputError, match=rf"prediction\.json: cannot be used \(.*{said}") as caught:
        read_prediction(write(tmp_path, PREDICTION, plain_prediction(**{name: value})))
    one_line(caught, tmp_path / PREDICTION)


WRONG_IN_SLICE: dict[str, tuple[Any, ...]] = {
    "slice_index": (None, -1, 0.0, math.nan, True, "0", []),
    "file": (None, 5, ["a"], {}),
    "frame": (None, -1, 1.5, True, math.inf),
    "sop_uid": (None, 1.2, []),
    "blake2b": (None, 0),
    "confidence": (None, "0.9", True, -0.1, 1.1, math.inf, 10**400, [0.9]),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_IN_SLICE.items() for value in values]
)
def test_a_value_of_another_kind_in_a_slice_is_named(tmp_path: Path, name: str, value: Any) -> None:
    """Catches frame -1, which is the last one of a file, and all else that only looks like a slice."""
    content = plain_prediction()
    content["slices"][1][name] = value
    with pytest.raises(InputError, match=rf"\(slice 1 has .*{name}") as caught:
        read_prediction(write(tmp_path, PREDICTION, content))
    one_line(caught, tmp_path / PREDICTION)


@pytest.mark.parametrize("label_id", [0, 255, 256, -1, 10**400, 1.0, True, "1", None, math.nan, [1]])
def test_label_ids_that_no_label_map_holds_are_refused(tmp_path: Path, label_id: Any) -> None:
    """Catches an index beyond the counts of labels, and the background given a name."""
    with pytest.raises(InputError, match="label id") as caught:
        read_prediction(write(tmp_path, PREDICTION, plain_prediction(labels=[{"id": label_id, "name": "x"}])))
    one_line(caught, tmp_path / PREDICTION)


@pytest.mark.parametrize(
    "entry", [{"name": ""}, {"name": " "}, {"name": "a\nb"}, {"name": 3}, {"volume_ml": "1"}, {"volume_ml": math.nan}]
)
def test_labels_of_another_kind_are_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    """Catches a name of two lines in a table, and a volume that no sum holds."""
    labels = [{"id": 7, "name": "x", "volume_ml": 1.0} | entry]
    with pytest.raises(InputError, match="label id 7 has"):
        read_prediction(write(tmp_path, PREDICTION, plain_prediction(labels=labels)))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"x"', '{"a": 1, "a": 1}', '{"a": "\\ud800"}'])
def test_what_is_no_object_of_its_own_is_one_line(tmp_path: Path, content: str) -> None:
    """Catches a list where an object is due, a key twice, and half a character, which no file can hold."""
    for name, read in ((PREDICTION, read_prediction), (SUMMARY, read_summary)):
        with pytest.raises(InputError) as caught:
            read(write(tmp_path, name, content))
        one_line(caught, tmp_path / name)


WRONG_SUMMARY: dict[str, tuple[Any, ...]] = {
    "flags": ("x", {}, [3], [{}], [{"name": 3}], [{"name": "a", "slices": 4}], [{"name": "a", "slices": [None]}]),
    "labels": ({}, [[]], [{"volume_ml": "much"}], [{"volume_ml": True}]),
    "cutoffs": ({"a": 1}, ["x"]),
    "muscle_labels": ("psoas", [3], {}),
    "not_checked": ("x", [None]),
    "level": ([], 3, "L3"),
    "patient": (3, []),
    "smi": ([1], "9", {"value": "9"}, {"value": [9]}, {"value": True}),
    "hu_ranges": ([], "muscle"),
    "other": (math.nan, -math.inf, 10**400, 1e300, {"deep": [math.nan]}),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_SUMMARY.items() for value in values]
)
def test_a_summary_of_another_kind_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    """Catches a part of a damaged summary that reaches the list of reviews or a second measurement."""
    with pytest.raises(InputError, match=r"summary\.json: cannot be used") as caught:
        read_summary(write(tmp_path, SUMMARY, {name: value}))
    one_line(caught, tmp_path / SUMMARY)


def test_a_summary_may_lack_anything(tmp_path: Path) -> None:
    """Catches results without measurements, or of an older version, that are refused."""
    empty = read_summary(tmp_path)
    assert (empty["flags"], empty["level"], empty["muscle_labels"]) == ([], {}, [])
    content = {"flags": None, "smi": {"value": None}, "labels": [{"volume_ml": 3}], "new": {"kept": 1}}
    assert read_summary(write(tmp_path, SUMMARY, content)) == empty | content | {"flags": []}


def test_every_results_folder_is_found(tmp_path: Path) -> None:
    """Catches results that lie deeper, a folder that is its own result, and a mistyped path that says nothing."""
    places = [tmp_path / "a", tmp_path / "a" / "inner", tmp_path / "b" / "c"]
    for place in places:
        write(place, PREDICTION, "{")
    write(tmp_path / ".hidden", PREDICTION, "{")
    assert sorted(find_results(tmp_path)) == places and sorted(find_results(tmp_path / "a")) == places[:2]
    (tmp_path / "empty").mkdir()
    for folder, says in ((tmp_path / "empty", "holds no prediction"), (tmp_path / "absent", "there is no such folder")):
        with pytest.raises(InputError, match=says):
            find_results(folder)
        with pytest.raises(InputError, match=r"holds no prediction\.json; give the results folder of one series"):
            read_prediction(folder)
