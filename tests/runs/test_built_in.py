"""The network that comes with sarco: its files, and that every command finds them."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TinyRun

import sarco
from sarco.commands.weights import ship
from sarco.core.errors import CheckpointError, OptionError
from sarco.core.options import BUILT_IN, NOTICE
from sarco.network.segmentation import load_network
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.runs.built_in import BUILT_IN_WEIGHTS, load_built_in, read_built_in
from sarco.runs.store import RunStore, built_in_description

LARGEST_MB = 10


@pytest.fixture
def small(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny network in the place of the built-in one, and a cache of its own."""
    weights = tmp_path / "package" / "network.safetensors"
    weights.parent.mkdir()
    ship(tiny_run.trained.best, weights)
    monkeypatch.setattr("sarco.runs.built_in.BUILT_IN_WEIGHTS", weights)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return weights


def test_what_is_shipped_is_whole_and_small() -> None:
    """Catches a file that is not the one described, too large for a package, or that names somebody's folders."""
    content = read_built_in(BUILT_IN_WEIGHTS)
    assert hashlib.sha256(BUILT_IN_WEIGHTS.read_bytes()).hexdigest() == content["sha256"]
    assert BUILT_IN_WEIGHTS.stat().st_size < LARGEST_MB * 1e6
    known = built_in_description()
    assert known.run.run_id == BUILT_IN and known.invented.alone
    text = BUILT_IN_WEIGHTS.with_suffix(".json").read_text()
    assert "/tmp" not in text and "/home" not in text and "/work" not in text
    assert 0 < content["figures"]["val_dice"] <= 1
    card = (Path(__file__).parents[2] / "docs" / "model-card.md").read_text(encoding="utf-8")
    assert content["sha256"] in card and NOTICE in " ".join(card.split())


def test_what_is_shipped_opens_and_finds_muscle() -> None:
    """Catches weights that do not fit what stands beside them, and a network that predicts nothing."""
    description, network = load_network(BUILT_IN_WEIGHTS)
    side, _ = description.data.crop_size
    assert {"psoas_left", "body"} <= set(description.labels.names.values())
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 1, side, side)).isfinite().all()


def test_nothing_that_is_shipped_names_a_folder(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Catches somebody's folders in a package: where the data lay, the run, and the scans that lent their style."""
    checkpoint = tmp_path / "best.ckpt"
    content = torch.load(tiny_run.trained.best, weights_only=True)
    content["hyper_parameters"]["invented"] = {"invented": 1.0, "style_from": str(tmp_path / "scans of somebody")}
    torch.save(content, checkpoint)
    shutil.copy(tiny_run.trained.best.with_name("metrics.csv"), tmp_path)
    ship(checkpoint, tmp_path / "network.safetensors")
    text = (tmp_path / "network.json").read_text()
    assert "somebody" not in text and str(tmp_path) not in text and str(tiny_run.trained.folder.parent) not in text


def test_weights_come_back(tiny_run: TinyRun, small: Path) -> None:
    """Catches weights that lose more than 16 bits do, statistics that lose anything, and a pickle."""
    before = torch.load(tiny_run.trained.best, weights_only=True)["state_dict"]
    after = load_built_in(small)["state_dict"]
    assert set(after) == {name for name in before if name.startswith("network.")}
    for name, value in after.items():
        exact = value.ndim < 2
        torch.testing.assert_close(value, before[name], rtol=0 if exact else 1e-3, atol=0 if exact else 1e-7)
    assert b"pickle" not in small.read_bytes() and small.read_bytes()[8:9] == b"{"


@pytest.mark.parametrize("fault", ["weights", "text", "cut", "gone"])
def test_damaged_files_are_told_in_a_line(small: Path, fault: str) -> None:
    """Catches a network that predicts with half of its weights, and a traceback."""
    if fault == "weights":
        content = bytearray(small.read_bytes())
        content[-5] ^= 1
        small.write_bytes(bytes(content))
    elif fault == "text":
        small.with_suffix(".json").write_text("{}")
    elif fault == "cut":
        small.write_bytes(small.read_bytes()[:1000])
    else:
        small.unlink()
    with pytest.raises(CheckpointError) as caught:
        load_network(RunStore(Path("nowhere")).checkpoint(BUILT_IN))
    assert "\n" not in str(caught.value)
    assert ("make weights" if fault == "gone" else "install sarco again") in str(caught.value)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_prediction_needs_no_run(
    small: Path, series_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Catches a first day that needs a training, a package folder that is written to, and results without notice."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    scan = series_folder(make_phantom(3, PhantomOptions(n_slices=2, rows=64, columns=72)))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sarco.predict(
            scan, dest_dir=tmp_path / "out", engine=engine, gpu=-1, tell=lambda line, why: lines.append(line)
        )
    assert NOTICE in lines
    assert found.folder == tmp_path / "out" / "preds_from_built-in_of_series"
    for name in ("prediction.json", "summary.json", "review.html"):
        assert NOTICE in (found.folder / name).read_text(encoding="utf-8"), name
    rows = (found.folder / "measurements.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 1 and all("built_in_network" in row for row in rows[1:])
    assert {path.name for path in small.parent.iterdir()} == {"network.safetensors", "network.json"}
    kept = list((tmp_path / "cache" / "sarco" / "engines").glob("*.zip"))
    assert len(kept) == (engine == "openvino")


def test_its_name_is_taken(tmp_path: Path) -> None:
    """Catches a run that nobody could name afterwards."""
    with pytest.raises(OptionError, match="comes with sarco"):
        RunStore(tmp_path).create(BUILT_IN, "Trains", channel_3d=False)


def test_description_says_what_it_is(small: Path) -> None:
    """Catches a description that differs from the run's in more than where it lay."""
    known, (stored, _) = built_in_description(), load_network(small)
    assert known == stored == replace(known, run=known.run)
    assert json.loads(small.with_suffix(".json").read_text())["hyper_parameters"]["run"]["run_id"] == BUILT_IN
