"""First weights from a network of sarco: encoder, decoder and the head's channels of labels that both have."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sarco.core.errors import CheckpointError, InputError
from sarco.core.messages import reason_of
from sarco.core.options import BUILT_IN
from sarco.core.training_options import FIRST_WEIGHTS, NetworkOptions
from sarco.network.head import bias_of
from sarco.network.segmentation import SegmentationNetwork
from sarco.network.weights import adapt_stem, load_encoder_weights, read_weights
from sarco.runs.built_in import built_in_weights
from sarco.runs.store import RunDescription, built_in_description, load_checkpoint

ENCODER, DECODER, HEAD = "encoder", "decoder", "head"
STEM = "encoder.net._conv_stem.weight"
HEAD_WEIGHT, HEAD_BIAS = "head.0.weight", "head.0.bias"
MOST_TOLD = 8  # labels by name
TOLD_PIXEL_RATIO = 1.4  # of pixel sizes; encoders bear less than that without a loss
_COUNTERS = ".num_batches_tracked"  # of batch normalisation; without effect, and in no ONNX file


@dataclass(frozen=True)
class KnownNetwork:
    """A network that was trained before.

    Attributes:
        path: its file.
        weights: by their names in `SegmentationNetwork`.
        labels: the names of its channels behind the background.
        backbone, model_choice: its encoder and decoder.
        pixel_mm: the size of the pixels that it learnt from; None where it has no fixed one.
    """

    path: Path
    weights: Mapping[str, torch.Tensor]
    labels: tuple[str, ...]
    backbone: str
    model_choice: str
    pixel_mm: float | None = None


def why_not_built_in(options: NetworkOptions, channel_3d: bool) -> str:
    """Why a run cannot start from the built-in network; empty where it can.

    Args:
        options: encoder and decoder of the run.
        channel_3d: whether its images are of three slices.
    """
    try:
        known = built_in_description()
    except CheckpointError as error:
        return str(error)
    wanted = {"encoder": options.backbone, "decoder": options.model_choice, "--channel_3d": channel_3d}
    own = {
        "encoder": known.network.backbone,
        "decoder": known.network.model_choice,
        "--channel_3d": known.data.channel_3d,
    }
    return "".join(f"its {what} is {own[what]}, not {value}" for what, value in wanted.items() if own[what] != value)


@dataclass(frozen=True)
class KnownStart:
    """The network that a run starts from.

    Attributes:
        name: what to call it.
        pixel_mm: the size of the pixels that it learnt from; None where it has no fixed one.
        is_whole: whether encoder and decoder are taken, and not the encoder alone.
        labels: those that invented slices can keep it from forgetting: of the built-in network, else none.
    """

    name: str
    pixel_mm: float | None
    is_whole: bool
    labels: tuple[str, ...] = ()


def known_start(options: NetworkOptions, channel_3d: bool) -> KnownStart | None:
    """The network that a run starts from; None where it starts from other weights.

    Args:
        options: encoder and decoder of the run, and its first weights.
        channel_3d: whether its images are of three slices.

    Raises:
        InputError, CheckpointError: the network cannot be read.
    """
    if options.pretrained in ("auto", BUILT_IN):
        if why_not_built_in(options, channel_3d):
            return None
        own = built_in_description()
        return KnownStart("the built-in network", own.data.pixel_mm, True, tuple(own.labels.names.values()))
    known = None if options.pretrained in FIRST_WEIGHTS else read_known_network(Path(options.pretrained))
    if known is None:
        return None
    return KnownStart(str(known.path), known.pixel_mm, known.model_choice == options.model_choice)


def give_first_weights(
    network: SegmentationNetwork,
    description: RunDescription,
    tell: Callable[[str], object] = lambda line: None,
    parts_of: Callable[[str], Sequence[str]] = lambda label: (label,),
) -> tuple[str, tuple[str, ...]]:
    """Gives a network the weights that ``--pretrained`` asks for.

    Args:
        network: takes them; what is not taken stays as it is.
        description: of the run that begins.
        tell: takes a line that says what was taken, and where ``auto`` does without.
        parts_of: the names by which another network may know what a label stands for: both sides of psoas.

    Returns:
        Where they came from: ``random``, ``imagenet``, ``built-in`` or the file; and the parts of the network that were
        taken.

    Raises:
        InputError, CheckpointError: weights that were asked for cannot be had or do not fit.
    """
    choice = description.network.pretrained
    if choice in ("auto", BUILT_IN):
        why_not = why_not_built_in(description.network, description.data.channel_3d)
        if not why_not:
            known = replace(_read_known(built_in_weights()), path=Path("the built-in network"))
            return BUILT_IN, _adopt_network(network, known, description, tell, parts_of)
        if choice == BUILT_IN:
            raise InputError(f"--pretrained={BUILT_IN}: {why_not}")
        tell(f"the built-in network does not fit ({why_not})")
    other = None if choice in FIRST_WEIGHTS else read_known_network(Path(choice))
    if other is not None:
        return choice, _adopt_network(network, other, description, tell, parts_of)
    source = load_encoder_weights(network, description.network, tell)
    return source, () if source == "random" else (ENCODER,)


def read_known_network(path: Path) -> KnownNetwork | None:
    """The network in a checkpoint or an exported file of sarco; None where a file holds other weights.

    Raises:
        InputError, CheckpointError: the file cannot be read.
    """
    if path.suffix.lower() == ".onnx":
        return _read_exported(path)
    content = read_weights(path)
    if "state_dict" not in content or "hyper_parameters" not in content:
        return None
    return _read_known(path)


def _read_known(path: Path) -> KnownNetwork:
    description, checkpoint = load_checkpoint(path)
    weights = {str(name).removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}
    labels, network = tuple(description.labels.names.values()), description.network
    return KnownNetwork(path, weights, labels, network.backbone, network.model_choice, description.data.pixel_mm)


def _read_exported(path: Path) -> KnownNetwork:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise InputError(
            f"--pretrained={path}: needs the package onnx (pip install onnx); or give the run's checkpoint"
        ) from None
    try:
        proto = onnx.load(path, load_external_data=False)
        told = {entry.key: entry.value for entry in proto.metadata_props}
    except Exception as error:  # protobuf has errors of its own
        raise InputError(f"--pretrained={path}: cannot be read as ONNX ({reason_of(error)}); export it again") from None
    if "network" not in told:
        raise InputError(
            f"--pretrained={path}: does not say which of its weights is which, as files of earlier versions of sarco "
            f"do not; export run {told.get('run_id', 'RUN_ID')} again, or give its checkpoint"
        )
    try:
        network = json.loads(told["network"])
        labels = tuple(str(channel["name"]) for channel in json.loads(told["labels"])[1:])
        weights = {one.name: torch.tensor(numpy_helper.to_array(one)) for one in proto.graph.initializer}
        for node in proto.graph.node:  # of equal weights one is kept, the others are said to be the same
            if node.op_type == "Identity" and node.input[0] in weights:
                weights[node.output[0]] = weights[node.input[0]]
        pixel_mm = network.get("pixel_mm")
        return KnownNetwork(path, weights, labels, network["backbone"], network["model_choice"], pixel_mm)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"--pretrained={path}: is damaged ({reason_of(error)}); export it again") from None


def _adopt_network(
    network: SegmentationNetwork,
    known: KnownNetwork,
    description: RunDescription,
    tell: Callable[[str], object],
    parts_of: Callable[[str], Sequence[str]],
) -> tuple[str, ...]:
    """Takes encoder and decoder whole, and the head by label names; nothing where anything does not fit."""
    options = description.network
    if known.backbone != options.backbone:
        raise InputError(
            f"--pretrained={known.path}: its encoder is {known.backbone}; give --backbone={known.backbone} to take it"
        )
    parts = [ENCODER, *([DECODER] if known.model_choice == options.model_choice else [])]
    own = network.state_dict()
    used = {name: value for name, value in known.weights.items() if name.startswith(tuple(f"{p}." for p in parts))}
    notes = []
    if isinstance(stem := used.get(STEM), torch.Tensor) and stem.ndim == 4 and stem.shape[1] != own[STEM].shape[1]:
        used[STEM] = adapt_stem(stem, own[STEM].shape[1])
        notes.append(f"made for {stem.shape[1]} slice(s) an image, now {own[STEM].shape[1]}")
    wanted = [name for name in own if name.startswith(tuple(f"{p}." for p in parts)) and not name.endswith(_COUNTERS)]
    _check_fit(known, used, {name: own[name] for name in wanted})
    labels = tuple(description.labels.names.values())
    sources = {label: _known_as(label, known, parts_of) for label in labels}
    common = [label for label in labels if sources[label]] if DECODER in parts else []
    if common:
        _check_fit(known, known.weights, _head_of(own, len(known.labels) + 1))
    network.load_state_dict({**own, **{name: used[name] for name in wanted}})
    if DECODER not in parts:
        notes.append(f"its decoder is {known.model_choice} and was not taken")
    elif common:
        _adopt_channels(network, known, sources)
        parts.append(HEAD)
    taken = [*parts[:2], *([f"head of {_few(common)}"] if common else [])]
    notes += [f"new: {', '.join(new)}" for new in [[one for one in labels if one not in common]] if new]
    used_labels = {one for its in sources.values() for one in its}
    notes += [f"left out: {_few(gone)}" for gone in [[one for one in known.labels if one not in used_labels]] if gone]
    tell("; ".join([f"taken from {known.path}: {', '.join(taken)}", *notes]))
    _tell_of_pixels(known, getattr(description.data, "pixel_mm", None), tell)
    return tuple(parts)


def _head_of(own: Mapping[str, torch.Tensor], n_channels: int) -> dict[str, torch.Tensor]:
    """What the head of another number of channels looks like."""
    return {name: own[name][:1].expand(n_channels, *own[name].shape[1:]) for name in (HEAD_WEIGHT, HEAD_BIAS)}


def _check_fit(known: KnownNetwork, found: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> None:
    for name, own in wanted.items():
        value = found.get(name)
        if not isinstance(value, torch.Tensor) or value.shape != own.shape:
            what = "has another shape" if isinstance(value, torch.Tensor) else "is missing"
            raise InputError(f"--pretrained={known.path}: does not fit the network it describes ({name} {what})")


def _known_as(label: str, known: KnownNetwork, parts_of: Callable[[str], Sequence[str]]) -> list[str]:
    """The known network's labels that together are a label; its own name before all others."""
    return [label] if label in known.labels else [one for one in parts_of(label) if one in known.labels]


def _few(names: Sequence[str]) -> str:
    """The names, or how many there are."""
    return ", ".join(names) if len(names) <= MOST_TOLD else f"{len(names)} labels"


def _adopt_channels(network: SegmentationNetwork, known: KnownNetwork, sources: Mapping[str, Sequence[str]]) -> None:
    """The head's background and known labels, the mean of several that are one now.

    A new label keeps its distance from the background.
    """
    weight, bias = known.weights[HEAD_WEIGHT], known.weights[HEAD_BIAS]
    own_weight, own_bias = network.head.get_parameter("0.weight"), bias_of(network.head)
    with torch.no_grad():
        own_bias += bias[0] - own_bias[0]
        own_weight[0] = weight[0]
        for channel, names in enumerate(sources.values(), start=1):
            if names:
                places = [known.labels.index(name) + 1 for name in names]
                own_weight[channel], own_bias[channel] = weight[places].mean(0), bias[places].mean()


def _tell_of_pixels(known: KnownNetwork, pixel_mm: float | None, tell: Callable[[str], object]) -> None:
    if known.pixel_mm and pixel_mm and max(known.pixel_mm / pixel_mm, pixel_mm / known.pixel_mm) > TOLD_PIXEL_RATIO:
        tell(
            f"hint: {known.path} learnt from pixels of {known.pixel_mm:g} mm, here they have {pixel_mm:g} mm, so "
            f"everything has another size; --pixel_mm={known.pixel_mm:g} keeps its size"
        )
