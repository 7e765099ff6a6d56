"""The recipe of the built-in network: the same seed gives the same file, also where the training was broken off."""

from pathlib import Path

import pytest

import sarco_datamodule_invented
from sarco.commands.weights import TRAINED_AS, make_weights
from sarco.runs.built_in import load_built_in

# The recipe's first steps, on images that are small.
SHORT = {"image_size": 32, "pixel_mm": 12.0, "batch_size": 4, "max_epochs": 2, "scheduler": "none", "wandb": "no"}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of two steps."""
    for name, value in {"DRAWS_A_PASS": 4, "PASSES": 2, "SAMPLE_SLICES": 4, "VALIDATION_SLICES": 3}.items():
        monkeypatch.setattr(sarco_datamodule_invented, name, value)


def test_first_steps_reproduce(tmp_path: Path) -> None:
    """Catches chance beside the seed, and a recipe that gives something else when it was broken off and went on."""
    lines: list[str] = []
    hashes = []
    for name, epochs in (("straight", (2,)), ("broken", (1, 2, 2))):
        work, weights = tmp_path / name, tmp_path / f"{name}.safetensors"
        for n in epochs:
            last = make_weights(work, weights, lines.append, **{**SHORT, "max_epochs": n})
        hashes.append(last)
        assert (work / f"{TRAINED_AS}_Trains" / "last.ckpt").is_file()
        assert load_built_in(weights)["figures"]["epoch"] in (1, 2)
    assert hashes[0] == hashes[1]
    assert any("the training is done" in line for line in lines)
