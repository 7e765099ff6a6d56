"""Which runs a word means, and what results say of several."""

import hashlib
from pathlib import Path

import pytest

from sarco.core.errors import CheckpointError
from sarco.core.options import BUILT_IN, NOTICE
from sarco.runs.members import find_members, join_provenance
from sarco.runs.store import Provenance, RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Eleven folds, two other runs, and one that has no checkpoint."""
    store = RunStore(tmp_path)
    for run_id in (*(f"a_fold{n}" for n in range(1, 12)), "b", "ab", "begun"):
        run = store.create(run_id, "Trains", False)
        if run_id != "begun":
            run.checkpoint_path("best").write_text(run_id)
    store.create("other", "Second", False).checkpoint_path("best").write_text("other")
    return store


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("b", ["b"]),
        ("b,a_fold2", ["b", "a_fold2"]),
        ("a_fold*", [f"a_fold{n}" for n in range(1, 12)]),
        ("a_fold?", [f"a_fold{n}" for n in range(1, 10)]),
        ("a_fold[23],b,a_fold3,a_fold1*,", ["a_fold2", "a_fold3", "b", "a_fold1", "a_fold10", "a_fold11"]),
    ],
)
def test_words_stand_for_runs_in_order(store: RunStore, words: str, expected: list[str]) -> None:
    """Catches a run that counts twice, fold 10 before fold 2, and a pattern that means parts of names."""
    found = find_members(store, words, None, "best")
    assert list(found) == expected
    assert [path.read_text() for path in found.values()] == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("b,absent", "no run absent in"),
        ("c_fold*", r"no run c_fold\* in .*known runs: .*a_fold1 "),
        ("b*", "run begun has no best checkpoint"),
        (",", "--run_id=,: names no run"),
    ],
)
def test_a_run_that_is_missing_is_named(store: RunStore, words: str, told: str) -> None:
    """Catches a mean of fewer runs than were asked for, without a word."""
    with pytest.raises(CheckpointError, match=told):
        find_members(store, words, None, "best")


def test_the_project_counts(store: RunStore) -> None:
    """Catches a pattern that takes runs of a project that was not asked for."""
    assert list(find_members(store, "*other*", "Second", "best")) == ["other"]
    with pytest.raises(CheckpointError, match="no run o"):
        find_members(store, "o*", "Trains", "best")


def test_results_name_every_run() -> None:
    """Catches a hash that is that of one member, and the notice of the built-in network that gets lost in company."""
    members = [Provenance(run, "Trains", Path(f"{run}.ckpt"), run * 64) for run in "ab"]
    joint = join_provenance(members)
    assert (joint.run_id, joint.wandb_project, joint.members) == ("a+b", "Trains", tuple(members))
    assert joint.sha256 == hashlib.sha256(("a" * 64 + "b" * 64).encode()).hexdigest() and joint.notice == ""
    assert join_provenance(members[:1]) is members[0]
    built_in = Provenance(BUILT_IN, "", Path("network"), "c" * 64)
    assert join_provenance([members[0], built_in]).notice == built_in.notice == NOTICE
