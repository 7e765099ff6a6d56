"""ONNX Runtime as an engine."""

import numpy as np

from sarco.crop.slices import Images, Logits


class OnnxEngine:
    """ONNX Runtime on the CPU, at 32 bits."""

    batch_size = 1  # eight at once are no faster and take more memory
    n_parallel = 1
    name = "ONNX Runtime, fp32"

    def __init__(self, model: bytes) -> None:
        """Prepares the network.

        Args:
            model: an ONNX file with the input ``image`` and the output ``logits``.
        """
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(3)
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) in [0, 1] to logits (B, K, S, S)."""
        return np.concatenate([self._session.run(["logits"], {"image": image[None]})[0] for image in images])
