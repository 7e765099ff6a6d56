"""Several trained networks as one, whose probabilities are averaged: the folds of a cross-validation, say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sarco.core.errors import CheckpointError
from sarco.crop.slices import Images, Logits
from sarco.prediction.engine import Engine, Network, average
from sarco.quality.intervals import pool_errors
from sarco.quality.likeness import pool_statistics
from sarco.runs.store import RunDescription
from sarco.scan.labels import LabelTable

# What decides on the numbers that a network sees of a slice; the names are those of options.
INPUT = ("channel_3d", "crop", "image_size", "pixel_mm", "field_mm", "hu_min", "hu_max")


class EnsembleNetwork:
    """Several networks that see the same images and give the same channels."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """Takes them; there are two at least."""
        self._networks = networks

    def engine_for(self, images: Images) -> tuple[Engine, Mapping[int, Logits]]:
        """The choice of each, as one engine; what all of them have seen for that is averaged."""
        chosen = [network.engine_for(images) for network in self._networks]
        seen = [logits for _, logits in chosen]
        shared = set(seen[0]).intersection(*seen[1:])
        return _JointEngine([engine for engine, _ in chosen]), {
            place: average([one[place] for one in seen]) for place in sorted(shared)
        }


class _JointEngine:
    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        kinds = " and ".join(dict.fromkeys(engine.name for engine in engines))
        self.name = f"{kinds}, mean of {len(engines)} runs"
        self.batch_size = max(engine.batch_size for engine in engines)
        self.n_parallel = min(engine.n_parallel for engine in engines)

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) to the logarithm of the mean probability (B, K, S, S)."""
        found = []
        for engine in self._engines:
            size = engine.batch_size
            parts = [engine(images[start : start + size]) for start in range(0, len(images), size)]
            found.append(np.concatenate(parts) if len(parts) > 1 else parts[0])
        return np.stack([average(of_image) for of_image in zip(*found, strict=True)])


def check_together(members: Mapping[str, RunDescription]) -> None:
    """Raises a `CheckpointError` where runs cannot predict as one, because they see or say different things.

    Args:
        members: what their checkpoints say, by run id.
    """
    (first, one), *others = members.items()
    for name, other in others:
        for option in INPUT:
            mine, theirs = getattr(one.data, option), getattr(other.data, option)
            if mine != theirs and not (isinstance(mine, float) and theirs and math.isclose(mine, theirs, rel_tol=1e-6)):
                raise _misfit(first, name, f"--{option} is {_word(mine)} in the one and {_word(theirs)} in the other")
        if one.labels != other.labels:
            raise _misfit(first, name, _difference(one.labels, other.labels))


def _misfit(first: str, other: str, why: str) -> CheckpointError:
    return CheckpointError(f"runs {first} and {other} cannot predict together: {why}; leave one of them out")


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _difference(one: LabelTable, other: LabelTable) -> str:
    label_id = next(k for k in sorted({*one.ids, *other.ids}) if one.names.get(k) != other.names.get(k))
    mine, theirs = (names.names.get(label_id, "no label") for names in (one, other))
    return f"label {label_id} is {mine} in the one and {theirs} in the other"


def describe_together(members: Mapping[str, RunDescription]) -> tuple[RunDescription, tuple[str, ...]]:
    """One description of runs that fit together, and the runs whose validation patients are not among its errors.

    Area errors are those of the validation patients of all: of a cross-validation, of every patient by a network that
    never saw them. No patient counts twice: a run that shares one with a run before it adds none.

    Args:
        members: what their checkpoints say, by run id.
    """
    validated: set[str] = set()
    counted: list[str] = []
    left_out: list[str] = []
    for name, description in members.items():
        patients = _validation_patients(description)
        (left_out if patients & validated else counted).append(name)
        validated |= patients
    errors = pool_errors([members[name].area_errors for name in counted])
    statistics = pool_statistics([one.training_statistics for one in members.values()])
    first = next(iter(members.values()))
    return replace(first, area_errors=errors, training_statistics=statistics), tuple(left_out)


def _validation_patients(description: RunDescription) -> set[str]:
    """Pseudonyms; one that all share where a checkpoint names nobody, as those of invented patients."""
    side = description.split.get("val")
    patients = side.get("patients") if isinstance(side, Mapping) else None
    return set(patients) if isinstance(patients, Mapping) and patients else {"unknown"}
