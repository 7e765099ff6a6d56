"""torch as an engine, on a GPU or a CPU."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sarco.crop.slices import Images, Logits
from sarco.network.device import Device
from sarco.prediction.engine import Engine

if TYPE_CHECKING:  # seconds to import, and not needed where an exported network is at hand
    from sarco.network.segmentation import SegmentationNetwork


class TorchEngine:
    """torch, on a GPU or a CPU: channels last, mixed precision where the device says so."""

    n_parallel = 1

    def __init__(self, network: "SegmentationNetwork", device: Device, batch_size: int = 8) -> None:
        """Moves the network to its device.

        Args:
            network: with its weights.
            device: where to compute and at which precision.
            batch_size: images per call that suit it.
        """
        import torch

        self._torch = torch
        place = "cpu" if device.accelerator == "cpu" else f"cuda:{device.devices[0]}"  # type: ignore[index]
        self._device = torch.device(place)
        self._mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(device.precision)
        self._network = network.eval().to(self._device)
        self.batch_size = batch_size
        self.name = f"torch, {device.precision}"

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) in [0, 1] to logits (B, K, S, S)."""
        torch = self._torch
        image = torch.as_tensor(images).to(self._device, non_blocking=True)
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device.type, self._mixed, enabled=self._mixed is not None):
            logits = self._network(image)
        return np.asarray(logits.float().cpu().contiguous().numpy())


class TorchNetwork:
    """A network whose engine is torch, whatever it sees."""

    def __init__(self, engine: TorchEngine) -> None:
        """Takes the engine."""
        self._engine = engine

    def engine_for(self, images: Images) -> tuple[Engine, Mapping[int, Logits]]:
        """torch, which need not look at them."""
        return self._engine, {}
