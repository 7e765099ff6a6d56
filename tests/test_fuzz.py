"""Damage of every kind ends in a right result or in one line that names the path: mutations, and JSON of any shape."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sarco.core.errors import InputError, SarcoError
from sarco.core.training_options import PredictedOptions
from sarco.io.results import read_prediction, read_summary
from sarco.review.index import write_index
from sarco.runs.store import read_run
from sarco.scan.labels import read_label_names
from sarco.training.distillation import find_predictions

FEW, MANY = 200, 10_000
# JSON of any shape, and what json.loads takes besides: NaN, infinity, numbers without end, lone surrogates.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
BYTES = st.binary(max_size=60)


def any_json(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """A file that is nearly right, of any shape, or no JSON at all."""
    return (likely | VALUES).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")) | BYTES


def outcome(call: Callable[[], Any], path: Path) -> Any:
    """What a call gives; None where it refuses in one printable line that names the path."""
    try:
        return call()
    except SarcoError as error:
        text = str(error)
        assert str(path) in text and text.isprintable()
        return None


few = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it")
examples = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
def test_a_few_hundred_mutations_end_well() -> None:
    """Catches a crash, a hang, a word on stderr or a wrong result on damaged slices, NIfTI and JSON."""
    score = fuzz(0, FEW)
    assert not score.failures, str(score)
    assert score.mutations == FEW
    assert min(score.right, score.refused) > FEW // 5  # or nothing was damaged, or nothing was read


@few
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutations_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches the same where it is rarer."""
    score = fuzz(0, MANY)
    with capsys.disabled():
        print(f"\n{score}")
    assert not score.failures, str(score)
    assert score.mutations == MANY


def test_the_fuzzer_sees_what_it_looks_for(tmp_path: Path) -> None:
    """Catches a judge who finds everything right: here are wrong labels, a wrong record and a message of two lines."""
    import fuzzing_seeds as seeds

    path = tmp_path / "labels.json"
    path.write_text('{"1": "psoas"}')
    for wrong in ({}, {1: "other"}, {2: "psoas"}):
        with pytest.raises(seeds.WrongError):
            seeds.check_names(wrong, path)
    for text in (f"{path}: two\nlines", "no path", f"{path}: {seeds.SECRET}^Person", f"{path}: \x1b[31m"):
        with pytest.raises(seeds.WrongError):
            seeds.check_line(text, tmp_path)


@examples
@given(content=any_json(st.dictionaries(st.integers(-2, 300).map(str), st.text(max_size=8) | VALUES, max_size=4)))
def test_any_labels_json(tmp_path: Path, content: bytes) -> None:
    """Catches names that are no text, ids that no label map can hold, and a traceback."""
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    names = outcome(lambda: read_label_names(path), path)
    if names is not None:
        stored = json.loads(content)
        assert names == {int(key): name for key, name in stored.items()}
        assert all(0 <= key <= 255 for key in names)
        assert all(isinstance(name, str) and name.strip() for name in names.values())


RECORD = st.fixed_dictionaries(
    {"run_id": st.text(max_size=8) | VALUES, "wandb_project": st.text(max_size=8) | VALUES, "channel_3d": VALUES}
)


@examples
@given(content=any_json(RECORD))
def test_any_run_json(tmp_path: Path, content: bytes) -> None:
    """Catches a run called None or [1], a 3D network because of the text "false", and a traceback."""
    folder = tmp_path / "abc_Trains"
    folder.mkdir(exist_ok=True)
    (folder / "best.ckpt").write_bytes(b"")
    (folder / "run.json").write_bytes(content)
    run = read_run(folder)
    assert run is not None
    if run.recorded:
        stored = json.loads(content)
        assert [run.run_id, run.wandb_project] == [stored["run_id"], stored["wandb_project"]]
        assert run.channel_3d is stored["channel_3d"]
    else:
        assert (run.run_id, run.wandb_project, run.channel_3d) == ("abc", "Trains", False)


ENTRY = st.fixed_dictionaries(
    {
        "slice_index": st.integers(-1, 3) | VALUES,
        "file": st.text(max_size=8) | VALUES,
        "sop_uid": st.text(max_size=8) | VALUES,
        "blake2b": st.text(max_size=8) | VALUES,
        "confidence": st.floats(0, 1) | VALUES,
    },
    optional={"frame": st.integers(-1, 3) | VALUES},
)
LABEL = st.fixed_dictionaries({"id": st.integers(0, 255) | VALUES, "name": st.text(max_size=4) | VALUES})
PREDICTION = st.fixed_dictionaries(
    {
        "series_uid": st.just("1.2") | VALUES,
        "labels": st.lists(LABEL, min_size=1, max_size=3) | st.just([{"id": 1, "name": "a"}]) | VALUES,
        "slices": st.lists(ENTRY, max_size=3),
    }
)


@examples
@given(content=any_json(PREDICTION))
def test_any_prediction_json(tmp_path: Path, content: bytes) -> None:
    """Catches a traceback, and predictions that are used although none of their slices exists."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    (out / "label_map.nii.gz").write_bytes(b"")
    (out / "prediction.json").write_bytes(content)
    (tmp_path / "data").mkdir(exist_ok=True)
    options = PredictedOptions(add_predicted_data=True, path_to_prediction=(out,))
    found = outcome(lambda: find_predictions(options, tmp_path / "data", (), {}), tmp_path)
    assert found is None


SUMMARY = st.dictionaries(
    st.sampled_from(["flags", "labels", "cutoffs", "smi", "level", "patient", "muscle_labels", "other"]),
    st.lists(st.dictionaries(st.sampled_from(["name", "volume_ml", "verdict", "text"]), VALUES, max_size=3), max_size=2)
    | st.fixed_dictionaries({"value": VALUES, "why_not": VALUES})
    | VALUES,
    max_size=5,
)


@examples
@given(content=any_json(PREDICTION), summary=any_json(SUMMARY))
def test_any_results_folder(tmp_path: Path, content: bytes, summary: bytes) -> None:
    """Catches a value of another kind than the reader promises, and a list of reviews that one folder ends."""
    (tmp_path / "prediction.json").write_bytes(content)
    (tmp_path / "summary.json").write_bytes(summary)
    found = outcome(lambda: read_prediction(tmp_path), tmp_path)
    if found is not None:
        stored = json.loads(content)
        assert [one.frame for one in found.slices] == [entry.get("frame", 0) for entry in stored["slices"]]
        assert all(0 < label_id < 255 for label_id in found.labels.ids)
        assert json.loads(json.dumps(found.raw)) == found.raw or "NaN" in json.dumps(found.raw)
    outcome(lambda: read_summary(tmp_path), tmp_path)
    count, page = write_index(tmp_path)
    assert count == 1 and page.is_file()


@pytest.mark.parametrize("text", ['{"slices": ' + "[" * 100_000, '{"a":' * 100_000])
def test_nesting_without_end(tmp_path: Path, text: str) -> None:
    """Catches a stack that runs out in the parser."""
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(InputError, match="nested too deeply"):
        read_label_names(path)
