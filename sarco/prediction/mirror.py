"""A network that sees each image and its mirror image, and answers with the mean of both (``--tta=mirror``)."""

from collections.abc import Mapping

import numpy as np

from sarco.core.errors import OptionError
from sarco.crop.slices import Images, Logits
from sarco.prediction.engine import Engine, Network, average
from sarco.scan.labels import LabelTable


class MirroredNetwork:
    """Another network, asked twice: labels of the left and the right side change places in the mirror."""

    def __init__(self, network: Network, labels: LabelTable) -> None:
        """Knows the network and what its channels become in a mirror.

        Raises:
            OptionError: nobody can say what each label is in a mirror.
        """
        if doubt := labels.mirror_doubt():
            raise OptionError(f"--tta=mirror: of the run's labels {doubt}; leave --tta out")
        self._network = network
        self._channels = labels.mirrored_channels()

    def engine_for(self, images: Images) -> tuple[Engine, Mapping[int, Logits]]:
        """The network's own choice, wrapped; what it has seen for that it has to see again with its mirror image."""
        engine, _ = self._network.engine_for(images)
        return _MirroredEngine(engine, self._channels), {}


class _MirroredEngine:
    def __init__(self, engine: Engine, channels: list[int]) -> None:
        self._engine = engine
        self._channels = channels
        self.name = f"{engine.name}, with mirror images"
        self.batch_size = engine.batch_size
        self.n_parallel = engine.n_parallel

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) to the logarithm of the mean probability (B, K, S, S)."""
        straight = self._engine(images)
        mirrored = self._engine(np.ascontiguousarray(images[..., ::-1]))[:, self._channels, :, ::-1]
        return np.stack([average(both) for both in zip(straight, mirrored, strict=True)])
