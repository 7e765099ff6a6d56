"""The network as OpenVINO, ONNX and TorchScript have it."""

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sarco.crop.slices import Images
from sarco.prediction.openvino_engine import (
    import_openvino,
)

if TYPE_CHECKING:  # seconds to import, and not needed where an exported network is at hand
    from sarco.network.segmentation import SegmentationNetwork


ONNX_OPSET = 17


def export_openvino(network: "SegmentationNetwork", images: Images) -> dict[str, bytes]:
    """The network as OpenVINO has it, for one image of this size.

    Args:
        network: with its weights.
        images: (1, C, S, S).
    """
    import torch

    openvino = import_openvino()
    with _quietly(), torch.no_grad():
        # Its masks are compared with torch's anyway; torch's own check of a trace takes 2 s.
        traced = torch.jit.trace(network.eval(), torch.as_tensor(images), check_trace=False)
        converted = openvino.convert_model(traced, input=list(images.shape))
    with tempfile.TemporaryDirectory() as scratch:
        openvino.save_model(converted, Path(scratch) / "model.xml", compress_to_fp16=False)
        return {name: (Path(scratch) / name).read_bytes() for name in ("model.xml", "model.bin")}


def export_onnx(network: "SegmentationNetwork", images: Images, keep_names: bool = False) -> dict[str, bytes]:
    """The network as an ONNX file, for any number of images of this size.

    Args:
        network: with its weights.
        images: (1, C, S, S).
        keep_names: whether weights keep their names and values; otherwise batch normalisation is part of convolutions.
    """
    import torch
    from torch.onnx import TrainingMode

    file = io.BytesIO()
    with _quietly(), torch.no_grad():
        torch.onnx.export(  # the tracing exporter: the new one needs a further package and gives the same graph
            network.eval(),
            (torch.as_tensor(images),),
            file,  # type: ignore[arg-type]  # takes files too
            dynamo=False,
            training=TrainingMode.PRESERVE if keep_names else TrainingMode.EVAL,
            do_constant_folding=not keep_names,
            opset_version=ONNX_OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return {"model.onnx": file.getvalue()}


def export_torchscript(network: "SegmentationNetwork", images: Images) -> bytes:
    """The network as TorchScript, for any number of images of this size; its weights keep their names.

    Args:
        network: with its weights.
        images: (1, C, S, S).
    """
    import torch

    file = io.BytesIO()
    with _quietly(), torch.no_grad():
        traced = torch.jit.trace(network.eval(), torch.as_tensor(images), check_trace=False)
        torch.jit.save(traced, file)
    return file.getvalue()


EXPORTS: Mapping[str, Callable[["SegmentationNetwork", Images], dict[str, bytes]]] = {
    "openvino": export_openvino,
    "onnx": export_onnx,
}


@contextmanager
def _quietly() -> Iterator[None]:
    """Hides what torch says of its own exporters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
