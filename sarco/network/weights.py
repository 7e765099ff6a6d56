"""Where the first weights of the encoder come from."""

import contextlib
import io
import pickle
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from efficientnet_pytorch.utils import url_map

from sarco.core.errors import InputError
from sarco.core.files import atomic_file
from sarco.core.messages import reason_of
from sarco.core.training_options import FIRST_WEIGHTS, NetworkOptions
from sarco.network.encoder import NOT_USED, Encoder
from sarco.network.segmentation import SegmentationNetwork
from sarco.runs.store import is_pickled_code

CONNECT_TIMEOUT_S = 15.0  # for a server or a proxy to answer, and between two parts of the file
SLOWEST_BYTES_PER_S = 10_000  # on average; slower than this is as good as nothing
PART_BYTES = 2**16
NO_WEIGHTS = "holds no weights; give a state dict of efficientnet-pytorch"
SQUEEZE = ("._se_reduce.", "._se_expand.")  # layers that EfficientNet-Lite does without


def load_encoder_weights(
    network: SegmentationNetwork, options: NetworkOptions, tell: Callable[[str], object] = lambda line: None
) -> str:
    """Gives the encoder the weights that ``--pretrained`` asks for.

    Args:
        network: takes them.
        options: which ones.
        tell: takes a line where weights are fetched, and where ``auto`` does without.

    Returns:
        Where they came from: ``random``, ``imagenet`` or the file.

    Raises:
        InputError: weights that were asked for cannot be had or do not fit.
    """
    choice = options.pretrained
    if choice == "no":
        return "random"
    if choice not in FIRST_WEIGHTS:
        _adopt(network.encoder, _encoder_weights(Path(choice)), choice, tell)
        return choice
    url = url_map[options.backbone]
    try:
        _adopt(network.encoder, _imagenet_weights(url, tell), "imagenet", tell)
    except Exception as error:  # no network, no answer, something else than weights
        if choice == "auto":
            tell(
                f"ImageNet weights can't be fetched ({reason_of(error)}), so the encoder starts from random ones "
                "(--pretrained=FILE takes a file)"
            )
            return "random"
        raise InputError(
            f"--pretrained=imagenet: the weights of {options.backbone} cannot be had ({reason_of(error)}); download "
            f"{url} elsewhere and give the file as --pretrained=FILE, or start from random weights with --pretrained=no"
        ) from None
    return "imagenet"


def _imagenet_weights(url: str, tell: Callable[[str], object]) -> Mapping[str, torch.Tensor]:
    """The weights at an address, from torch's cache where they lie there; what is fetched is kept only if it is whole.

    Raises:
        Exception: they cannot be had.
    """
    kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    with contextlib.suppress(Exception):  # not there, or damaged: then it is fetched again
        return _parse(kept.read_bytes())
    tell(f"fetching ImageNet weights from {url}")
    content = _fetch(url)
    try:
        weights = _parse(content)
    except Exception:
        raise ValueError(f"what came from {Path(url).name}'s address is no file of weights") from None
    if not str(kept).startswith("~"):  # a process without a home
        with contextlib.suppress(OSError):  # it is fetched again the next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(kept) as file:
                file.write(content)
    return weights


def _parse(content: bytes) -> Mapping[str, torch.Tensor]:
    weights: Mapping[str, torch.Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights


def _fetch(url: str) -> bytes:
    """The whole file at an address.

    Raises:
        OSError: it does not come, not all of it, or far too slowly.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "sarco"})  # noqa: S310 - an address of our own
    began = time.monotonic()
    content = bytearray()
    opener = urllib.request.build_opener()  # with the proxies of now, not those of the first call
    with opener.open(request, timeout=CONNECT_TIMEOUT_S) as answer:
        while part := answer.read1(PART_BYTES):
            content += part
            seconds = time.monotonic() - began
            if seconds > CONNECT_TIMEOUT_S and len(content) < SLOWEST_BYTES_PER_S * seconds:
                raise TimeoutError(f"too slow: {len(content)} bytes in {seconds:.0f} s")
        length = answer.headers.get("Content-Length")
    if length is not None and int(length) != len(content):
        raise OSError(f"the connection broke off after {len(content)} of {length} bytes")
    return bytes(content)


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a file holds, by name; none of its code is run.

    Raises:
        InputError: it cannot be read, or holds no names.
    """
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
    if not isinstance(weights, Mapping):
        raise InputError(f"--pretrained={path}: {NO_WEIGHTS}")
    return weights


def _encoder_weights(path: Path) -> Mapping[str, torch.Tensor]:
    weights = read_weights(path)
    if isinstance(weights.get("state_dict"), Mapping):  # of a run of sarco, without what it says of itself
        prefix = "network.encoder.net."
        return {k.removeprefix(prefix): v for k, v in weights["state_dict"].items() if k.startswith(prefix)}
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()):
        raise InputError(f"--pretrained={path}: {NO_WEIGHTS}")
    return weights


def _adopt(encoder: Encoder, weights: Mapping[str, torch.Tensor], source: str, tell: Callable[[str], object]) -> None:
    own = encoder.net.state_dict()
    used = {name: value for name, value in weights.items() if not name.startswith(NOT_USED)}
    stem = "_conv_stem.weight"
    if stem in used and used[stem].ndim == 4:
        used[stem] = adapt_stem(used[stem], own[stem].shape[1])
    missing = set(own) - set(used)
    if missing and all(any(layer in name for layer in SQUEEZE) for name in missing):
        n_blocks = len({name.partition("._se_")[0] for name in missing})
        tell(f"{source}: has no squeeze-and-excitation, as EfficientNet-Lite; in {n_blocks} blocks it starts random")
        used = {**{name: own[name] for name in missing}, **used}
    elif missing:
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
