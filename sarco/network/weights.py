"""Where the first weights of the encoder come from."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from efficientnet_pytorch.utils import url_map

from sarco.core.errors import InputError
from sarco.core.messages import reason_of
from sarco.core.training_options import NetworkOptions
from sarco.network.encoder import NOT_USED, Encoder
from sarco.network.segmentation import SegmentationNetwork
from sarco.runs.store import is_pickled_code


def load_encoder_weights(network: SegmentationNetwork, options: NetworkOptions) -> str:
    """Gives the encoder the weights that ``--pretrained`` asks for.

    Returns:
        Where they came from: ``random``, ``imagenet`` or the file.

    Raises:
        InputError: weights that were asked for cannot be had or do not fit.
    """
    choice = options.pretrained
    if choice == "no":
        return "random"
    if choice not in ("auto", "imagenet"):
        _adopt(network.encoder, _read_weights(Path(choice)), choice)
        return choice
    url = url_map[options.backbone]
    try:
        weights = torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=True, weights_only=True)
    except Exception as error:  # no network, no space, a damaged file in the cache
        if choice == "auto":
            return "random"
        raise InputError(
            f"--pretrained=imagenet: the weights of {options.backbone} cannot be had ({error}); download "
            f"{Path(url).name} elsewhere and give it as --pretrained=FILE, or use --pretrained=auto"
        ) from None
    _adopt(network.encoder, weights, "imagenet")
    return "imagenet"


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if is_pickled_code(error):
            raise InputError(
                f"--pretrained={path}: holds pickled code, which is never run; save the weights alone, as a state dict"
            ) from None
        raise InputError(f"--pretrained={path}: is damaged and cannot be read; copy it again") from None
    except Exception as error:  # damaged files make torch raise nearly anything
        raise InputError(f"--pretrained={path}: cannot be read as weights ({reason_of(error)})") from None
    if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):  # a run of sarco
        prefix = "network.encoder.net."
        return {k.removeprefix(prefix): v for k, v in weights["state_dict"].items() if k.startswith(prefix)}
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise InputError(f"--pretrained={path}: holds no weights; give a state dict of efficientnet-pytorch")
    return weights


def _adopt(encoder: Encoder, weights: Mapping[str, torch.Tensor], source: str) -> None:
    own = encoder.net.state_dict()
    used = {name: value for name, value in weights.items() if not name.startswith(NOT_USED)}
    stem = "_conv_stem.weight"
    if stem in used and used[stem].ndim == 4:
        used[stem] = adapt_stem(used[stem], own[stem].shape[1])
    if missing := set(own) - set(used):
        raise InputError(f"--pretrained={source}: {len(missing)} weights are missing, such as {min(missing)}")
    wrong = [name for name in own if used[name].shape != own[name].shape]
    if wrong:
        raise InputError(f"--pretrained={source}: {wrong[0]} has another shape; is it for another backbone?")
    encoder.net.load_state_dict({name: used[name] for name in own})


def adapt_stem(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """The first convolution for another number of channels, with the response to a grey image unchanged.

    Args:
        weight: (filters, channels, k, k).
        in_channels: channels wanted.
    """
    if weight.shape[1] == in_channels:
        return weight
    return weight.sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
