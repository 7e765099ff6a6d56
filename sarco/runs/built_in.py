"""The network that comes with sarco: two files, read without any pickle. `make weights` writes them.

``network.safetensors`` holds the weights, those of convolutions with 16 bits; ``network.json`` what the network says of
itself (a `RunDescription`), the hash of the weights, and the figures that were measured with them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sarco
from sarco.core.errors import CheckpointError, InputError
from sarco.core.files import atomic_file, hash_file, read_json, write_json

SUFFIX = ".safetensors"
BUILT_IN_WEIGHTS = Path(sarco.__file__).parent / "network" / "built_in" / f"network{SUFFIX}"


def built_in_weights() -> Path:
    """The file with the weights.

    Raises:
        CheckpointError: it is not there, as in a checkout where nobody made it.
    """
    if not BUILT_IN_WEIGHTS.is_file():
        raise CheckpointError(
            f"{BUILT_IN_WEIGHTS}: the built-in network is not there; `make weights` trains it, or give --run_id"
        )
    return BUILT_IN_WEIGHTS


def is_built_in(checkpoint: Path) -> bool:
    """Whether a file holds weights as the built-in network's are kept, and no checkpoint of a run."""
    return checkpoint.suffix == SUFFIX


def read_built_in(weights: Path) -> dict[str, Any]:
    """What stands beside the weights: ``hyper_parameters`` of the run, ``sha256`` of the weights, ``figures``.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        content = read_json(weights.with_suffix(".json"))
    except InputError as error:
        raise CheckpointError(f"{error}; install sarco again") from None
    if not isinstance(content, dict) or not isinstance(content.get("hyper_parameters"), dict):
        raise CheckpointError(f"{weights.with_suffix('.json')}: does not describe a network; install sarco again")
    return content


def load_built_in(weights: Path) -> dict[str, Any]:
    """The same with ``state_dict``, weights as `torch.load` gives those of a checkpoint, with 32 bits.

    Raises:
        CheckpointError: a file is missing or damaged, or both do not belong together.
    """
    from safetensors.torch import load_file  # needs torch, which takes seconds

    content = read_built_in(weights)
    try:
        if hash_file(weights, hashlib.sha256) != content.get("sha256"):
            raise CheckpointError(f"{weights}: is not the file that network.json describes; install sarco again")
        found = load_file(weights)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors has errors of its own
        raise CheckpointError(f"{weights}: cannot be read ({type(error).__name__}); install sarco again") from None
    state = {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
    return {**content, "state_dict": state}


def write_built_in(
    weights: Path, hyper_parameters: Mapping[str, Any], state_dict: Mapping[str, Any], figures: Mapping[str, Any]
) -> str:
    """Writes both files, each whole.

    Args:
        weights: the file with the weights; its folder exists.
        hyper_parameters: of a `RunDescription`.
        state_dict: of the network in a checkpoint.
        figures: what was measured with it.

    Returns:
        The hash of the weights.
    """
    from safetensors.torch import save

    kept = {
        # Statistics of batch normalisation can lie beyond what 16 bits hold, and are few.
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for name, value in sorted(state_dict.items())
        if name.startswith("network.")
    }
    content = save(kept)
    with atomic_file(weights) as file:
        file.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    stored = {"sha256": sha256, "figures": dict(figures), "hyper_parameters": dict(hyper_parameters)}
    write_json(weights.with_suffix(".json"), stored)
    return sha256
