"""Engines that run a trained network without torch, and how far two of them agree. Numpy arrays in and out."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Protocol

import numpy as np

from sarco.core.errors import OptionError
from sarco.crop.slices import Images, Logits, softmax

PACKAGES = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime")}
_LEAST = np.float32(1e-12)  # a probability whose logarithm is still a number


class Engine(Protocol):
    """Something that turns images into logits.

    Attributes:
        name: for the user.
        batch_size: images per call that suit it best.
        n_parallel: calls that may run at the same time, and together make the most of the machine.
    """

    name: str
    batch_size: int
    n_parallel: int

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) in [0, 1] to logits (B, K, S, S)."""


class Network(Protocol):
    """A trained network that picks its engine by what it is going to see."""

    def engine_for(self, images: Images) -> tuple[Engine, Mapping[int, Logits]]:
        """The engine for a series that these images are a sample of, in order.

        Returns:
            The engine, and its logits (K, S, S) of those images that it had to look at, by their place.
        """


def average(several: Sequence[Logits]) -> Logits:
    """The logarithm of the mean probability (K, S, S) of several logits (K, S, S)."""
    total = reduce(np.add, (softmax(one)[0] for one in several))
    return np.log(np.maximum(total / np.float32(len(several)), _LEAST))


def missing_packages(engine: str) -> list[str]:
    """Packages that an engine needs and that are not installed."""
    return [name for name in PACKAGES.get(engine, ()) if name not in sys.modules and not importlib.util.find_spec(name)]


def check_packages(engine: str) -> None:
    """Raises an `OptionError` where packages of an engine are missing."""
    if missing := missing_packages(engine):
        names, mend = " and ".join(missing), f"pip install {' '.join(missing)}"
        raise OptionError(f"--engine={engine}: needs {names}; {mend}, or give --engine=torch or auto")


def run_all(engine: Engine, images: Images) -> Logits:
    """Logits (B, K, S, S) of images (B, C, S, S), one by one on as many threads as the engine likes."""
    with ThreadPoolExecutor(engine.n_parallel) as threads:
        return np.concatenate(list(threads.map(engine, images[:, None])))
