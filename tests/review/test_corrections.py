"""corrections.json: what a page writes is laid over exactly, and nothing else is taken."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarco.core.errors import InputError
from sarco.review.corrections import correct_label_map, describe_changes, hash_of_label_map, read_corrections
from sarco.scan.labels import LabelTable

LABELS = LabelTable({1: "psoas", 4: "back"})
PLANES = (0, 1, 3)  # plane 2 is a gap


def drawn_on() -> np.ndarray:
    """A label map of 3 x 4 pixels and 4 planes."""
    ids = np.zeros((3, 4, 4), np.uint8)
    ids[0, :2, 0] = 1
    ids[2, 3, 3] = 4
    return ids


def content() -> dict[str, Any]:
    """Three pixels from (0, 1) on become 4, and one is taken away."""
    return {
        "format": "sarco corrections",
        "version": 1,
        "sarco_version": "0.1.0",
        "series_uid": "1.2.3",
        "label_map_sha256": hash_of_label_map(drawn_on(), PLANES),
        "shape": [3, 4, 4],
        "corrected_by": "Dr. Ä\u202e",
        "corrected_at": "2026-01-02T03:04:05.678Z",
        "checked_slices": [1],
        "slices": [
            {"slice_index": 3, "runs": [[11, 1, 0]], "n_pixels": {"1": 0, "4": 0}},
            {"slice_index": 0, "runs": [[1, 3, 4], [9, 1, 1]], "n_pixels": {"1": 2, "4": 3}},
        ],
    }


def write(folder: Path, what: Any) -> Path:
    """The file."""
    path = folder / "corrections.json"
    path.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    return path


def test_pixels_change_where_the_page_painted_and_nowhere_else(tmp_path: Path) -> None:
    """Catches runs along columns instead of rows, off by one, or into another plane; and a changed original."""
    before = drawn_on()
    after = correct_label_map(before, PLANES, LABELS, read_corrections(write(tmp_path, content())), tmp_path)
    expected = drawn_on()
    expected[0, 1, 0] = expected[0, 2, 0] = expected[0, 3, 0] = 4
    expected[2, 1, 0] = 1
    expected[2, 3, 3] = 0
    assert np.array_equal(after, expected)
    assert np.array_equal(before, drawn_on())


def test_a_note_says_who_changed_what(tmp_path: Path) -> None:
    """Catches counts taken from the wrong side, and control characters of a name in prediction.json."""
    corrections = read_corrections(write(tmp_path, content()))
    after = correct_label_map(drawn_on(), PLANES, LABELS, corrections, tmp_path)
    note = describe_changes(drawn_on(), after, LABELS, corrections)
    assert note["corrected_by"] == "Dr. Ä" and note["corrected_at"] == "2026-01-02T03:04:05.678Z"
    assert note["slices"] == [0, 3] and note["checked_slices"] == [1] and corrections.seen_slices == (0, 1, 3)
    assert note["labels"] == [
        {"id": 1, "name": "psoas", "pixels_added": 1, "pixels_removed": 1},
        {"id": 4, "name": "back", "pixels_added": 3, "pixels_removed": 1},
    ]


HOSTILE = {
    "another program's": (["format"], "ITK"),
    "a later version": (["version"], 2),
    "hash is a number": (["label_map_sha256"], 5),
    "endless name": (["corrected_by"], "x" * 300),
    "no date": (["corrected_at"], "<script>"),
    "shape too short": (["shape"], [3, 4]),
    "negative shape": (["shape"], [3, -4, 4]),
    "shape of huge numbers": (["shape"], [10**30, 1, 1]),
    "checked is text": (["checked_slices"], "all"),
    "checked outside": (["checked_slices"], [4]),
    "slices is an object": (["slices"], {"0": []}),
    "slice is a number": (["slices", 0], 3),
    "slice outside": (["slices", 0, "slice_index"], 4),
    "slice negative": (["slices", 0, "slice_index"], -1),
    "slice is true": (["slices", 0, "slice_index"], True),
    "slice twice": (["slices", 0, "slice_index"], 0),
    "no runs": (["slices", 0, "runs"], []),
    "run of two numbers": (["slices", 0, "runs", 0], [1, 2]),
    "run with a fraction": (["slices", 0, "runs", 0], [1, 2.5, 1]),
    "run with NaN": (["slices", 0, "runs", 0], [float("nan"), 1, 1]),
    "run starts before": (["slices", 0, "runs", 0], [-1, 1, 1]),
    "run without pixels": (["slices", 0, "runs", 0], [1, 0, 1]),
    "run beyond the slice": (["slices", 0, "runs", 0], [11, 2, 1]),
    "runs overlap": (["slices", 1, "runs", 1], [3, 1, 1]),
    "runs out of order": (["slices", 1, "runs", 1], [0, 1, 1]),
    "counts missing": (["slices", 0, "n_pixels"], None),
    "counts of nonsense": (["slices", 0, "n_pixels"], {"²": 1}),
    "count is text": (["slices", 0, "n_pixels", "1"], "many"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    """Catches a traceback, or worse a label map, from a file that no page wrote."""
    keys, value = HOSTILE[case]
    changed = place = copy.deepcopy(content())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(InputError, match=r"corrections\.json: .*again$") as caught:
        read_corrections(write(tmp_path, changed))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, '{"a": ' * 100_000, "1" * 5000, "\x00"])
def test_garbage_is_refused(text: str, tmp_path: Path) -> None:
    """Catches tracebacks of the JSON reader."""
    with pytest.raises(InputError, match=r"again|give"):
        read_corrections(write(tmp_path, text))


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    """Catches tracebacks of the file system and of decoding."""
    with pytest.raises(InputError, match="cannot be read"):
        read_corrections(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_corrections(tmp_path)
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="no JSON"):
        read_corrections(tmp_path / "binary.json")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(content())), value=anything)
def test_any_value_in_any_field_is_taken_or_refused(
    key: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Catches a kind of value that nobody thought of."""
    path = write(tmp_path_factory.mktemp("any"), content() | {key: value})
    try:
        corrections = read_corrections(path)
        after = correct_label_map(drawn_on(), PLANES, LABELS, corrections, path)
    except InputError:
        return
    assert set(np.unique(after)) <= {0, 1, 4}


def test_another_label_map_is_never_corrected(tmp_path: Path) -> None:
    """Catches corrections of one prediction laid over another one."""
    corrections = read_corrections(write(tmp_path, content()))
    other = drawn_on()
    other[1, 1, 1] = 1
    with pytest.raises(InputError, match="hash differs"):
        correct_label_map(other, PLANES, LABELS, corrections, tmp_path)
    with pytest.raises(InputError, match=r"drawn on a label map of \(3, 4, 4\)"):
        correct_label_map(drawn_on().transpose(1, 0, 2), PLANES, LABELS, corrections, tmp_path)


def test_unknown_ids_gaps_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    """Catches ids without a name, labels where no slice is, and a file that lost runs on its way."""
    changes = [
        (["runs", 0, 2], 2, "label id 2"),
        (["runs", 0, 2], 300, "label id 300"),
        (["slice_index"], 2, "gap"),
        (["n_pixels", "4"], 5, "other areas"),
        (["n_pixels"], {"4": 0}, "other areas"),
    ]
    for keys, value, message in changes:
        changed = content()
        place: Any = changed["slices"][0]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        with pytest.raises(InputError, match=message):
            correct_label_map(drawn_on(), PLANES, LABELS, read_corrections(write(tmp_path, changed)), tmp_path)
