"""Keyword arguments from Python mean what the same words mean on the command line, or are refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.api.options import options_of
from sarco.core.errors import OptionError
from sarco.core.options import InferenceOptions, MeasurementOptions
from sarco.core.parser import Command
from sarco.core.training_options import DataOptions, FitOptions, PredictedOptions, RunOptions

PREDICTING = (InferenceOptions, MeasurementOptions)
TRAINING = (DataOptions, FitOptions, PredictedOptions, RunOptions)


@pytest.mark.parametrize(
    ("consumers", "name", "value", "typed"),
    [
        (PREDICTING, "dirpath", "some/where", "some/where"),
        (PREDICTING, "dirpath", Path("some/where"), "some/where"),
        (PREDICTING, "l3", 4, "4"),
        (PREDICTING, "l3", "z=12.5", "z=12.5"),
        (PREDICTING, "gpu", "-1", "-1"),
        (PREDICTING, "gpu", np.int64(1), "1"),
        (PREDICTING, "overwrite", True, "yes"),
        (PREDICTING, "overwrite", "no", "no"),
        (PREDICTING, "precision", 32, "32"),
        (TRAINING, "early_stopping", False, "no"),
        (TRAINING, "early_stopping", "no", "no"),
        (TRAINING, "learning_rate", np.float64(1e-3), "1e-3"),
        (TRAINING, "learning_rate", 1, "1"),
        (TRAINING, "wandb", False, "no"),
        (TRAINING, "path_to_prediction", "one", "one"),
    ],
)
def test_a_value_is_read_as_the_word_that_one_would_type(
    consumers: tuple[type, ...], name: str, value: Any, typed: str
) -> None:
    """Catches "no" taken for a yes because it is no empty text, and numbers that are text until hours later."""
    by_command = Command("any", "", consumers).parse([f"--{name}={typed}"])
    found = options_of(consumers, {name: value})
    assert found == by_command
    assert type(found[name]) is type(by_command[name])


def test_several_paths_may_be_text() -> None:
    """Catches a list of text that reaches code for paths."""
    found = options_of(TRAINING, {"path_to_prediction": ["one", Path("two")]})
    assert found == {"path_to_prediction": (Path("one"), Path("two"))}


def test_none_and_defaults_stand_for_themselves() -> None:
    """Catches None that becomes the text "None", and an empty text, which one cannot type, refused."""
    assert options_of(PREDICTING, {"patients": None, "l3": "", "muscle_labels": ""}) == {"l3": "", "muscle_labels": ""}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": "red"}, "there is no option 'colour' here"),
        ({"overwrit": True}, "did you mean 'overwrite'"),
        ({"infer_path": "elsewhere"}, "there is no option 'infer_path' here"),
        ({"gpu": 1.5}, "--gpu=1.5: has to be a whole number"),
        ({"gpu": True}, "--gpu=yes: has to be a whole number"),
        ({"overwrite": 2}, "--overwrite=2: give yes or no"),
        ({"precision": 64}, "--precision=64: choose from"),
        ({"patients": {"sex": "F"}}, "cannot be read"),
        ({"dirpath": ["one", "two"]}, "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_one_line(values: dict[str, Any], said: str) -> None:
    """Catches a TypeError from deep inside, an option that is swallowed, and one that overrides an argument."""
    with pytest.raises(OptionError) as caught:
        options_of(PREDICTING, values, infer_path="scan")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
