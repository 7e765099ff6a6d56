"""OpenVINO on the CPU: how to import it, and a trained network on it at three precisions.

Plain bf16 keeps 8 bits of every number, which moves the edges of a mask. Most of that comes from the first convolution,
because 8 bits cannot hold the grey levels of a CT slice; then from the layers at high resolution that follow it, and
from kernels whose sum changes by rounding. So `BF16` gives the first convolution what it needs and rounds kernels with
care, and `MIXED` leaves all layers at high resolution before the decoder at fp32, too.
"""

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco.crop.slices import Images, Logits

F32, MIXED, BF16 = "f32", "mixed", "bf16"
NAMES = {F32: "fp32", MIXED: "fp32 and bf16", BF16: "bf16"}
MIXED_STRIDE = 16  # MIXED computes in fp32 until the encoder reaches this
MOST_STREAMS = 8
_UPPER_BITS = np.uint32(0xFFFF0000)  # those that bf16 has of a float32


def import_openvino() -> Any:
    """The module openvino, which may not report to its makers: it would send usage data when it is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import fails, openvino copes
    import openvino

    return openvino


def openvino_computes_bf16() -> bool:
    """Whether this CPU has instructions for bf16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """One image a call, as many calls at once as it has streams. An `sarco.prediction.engine.Engine`."""

    batch_size = 1

    def __init__(self, files: Mapping[str, bytes], precision: str) -> None:
        """Compiles the network for this CPU.

        Args:
            files: ``model.xml`` and ``model.bin``.
            precision: `F32`, `MIXED` or `BF16`.
        """
        core = import_openvino().Core()
        model = core.read_model(files["model.xml"], files["model.bin"])
        self._splits_input = precision == BF16 and split_first_convolution(model)
        parts = [(model, precision)]
        if precision == MIXED:
            front, back = cut(model, MIXED_STRIDE)
            parts = [(front, F32), (back, BF16)]
        for part, its_precision in parts:
            if its_precision == BF16:
                round_kernels(part)
        with _own_signal_stack():
            self._compiled = [_compile(core, part, its_precision) for part, its_precision in parts]
        self._threads = threading.local()
        self.n_parallel = max(1, int(self._compiled[-1].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
        self.name = f"OpenVINO, {NAMES[precision]}"

    def __call__(self, images: Images) -> Logits:
        """(B, C, S, S) in [0, 1] to logits (B, K, S, S); each thread has its own requests."""
        requests = getattr(self._threads, "requests", None)
        if requests is None:
            requests = self._threads.requests = _chain([one.create_infer_request() for one in self._compiled])
        entrance = requests[0].get_input_tensor().data
        found = []
        for image in images:
            if self._splits_input:
                _split(image, *np.split(entrance[0], 3))
            else:
                entrance[0] = image
            for request in requests:
                request.infer()
            found.append(requests[-1].get_output_tensor().data.copy())
        return np.concatenate(found) if len(found) > 1 else found[0]


def _compile(core: Any, model: Any, precision: str) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,  # outright, because OpenVINO takes bf16 wherever it is fast
        "PERFORMANCE_HINT": "THROUGHPUT",  # a stream for each core or so: less waiting for each other
        "PERFORMANCE_HINT_NUM_REQUESTS": MOST_STREAMS,
    }
    return core.compile_model(model, "CPU", settings)


def _chain(requests: Sequence[Any]) -> Sequence[Any]:
    """Requests of which each reads what the one before it writes, without a copy."""
    for writer, reader in pairwise(requests):
        for number in range(len(writer.model_outputs)):
            reader.set_input_tensor(number, writer.get_output_tensor(number))
    return requests


def split_first_convolution(model: Any) -> bool:
    """Lets the first convolution compute to 16 bits in bf16: image and weights come as a sum of two bf16 each.

    The image becomes three: its upper bits, its lower bits, and its upper bits again. The weights for them are the
    upper bits, again the upper bits, and the lower bits. bf16 products are summed in fp32, so what is lost is the
    product of the lower bits.

    Args:
        model: of OpenVINO; its input becomes (1, 3 C, S, S) in place.

    Returns:
        False where the image goes elsewhere than into one convolution; nothing is changed then.
    """
    from openvino import opset8

    image = model.inputs[0].get_node()
    readers = list(image.output(0).get_target_inputs())
    convolution = readers[0].get_node()
    if len(readers) > 1 or convolution.get_type_name() != "Convolution":
        return False
    weights = convolution.input_value(1).get_node()
    if weights.get_type_name() != "Constant":
        return False
    upper, lower, _ = _split(weights.get_data(), *np.empty((3, *weights.shape), dtype=np.float32))
    _, channels, rows, columns = image.get_output_shape(0)
    split_image = opset8.parameter([1, 3 * channels, rows, columns], np.float32, name="split_image")
    split_weights = opset8.constant(np.concatenate([upper, upper, lower], axis=1))
    convolution.input(0).replace_source_output(split_image.output(0))
    convolution.input(1).replace_source_output(split_weights.output(0))
    model.add_parameters([split_image])
    model.remove_parameter(image)
    model.validate_nodes_and_infer_types()
    return True


def _split(values: NDArray[np.float32], *parts: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Writes what bf16 holds of each value, the rest, and the former again, into the three parts."""
    upper, lower, again = parts
    np.bitwise_and(values.view(np.uint32), _UPPER_BITS, out=upper.view(np.uint32))
    np.subtract(values, upper, out=lower)
    again[...] = upper
    return parts


def round_kernels(model: Any) -> None:
    """Rounds the kernels of convolutions to bf16 so that each keeps its sum.

    What rounding takes from a weight is given to the next one of its kernel. What a kernel looks at is mostly alike,
    so its sum matters more than each of its weights, and rounding by itself would shift that at random.

    Args:
        model: of OpenVINO, changed in place.
    """
    from openvino import opset8

    for one in model.get_ops():
        if one.get_type_name() in ("Convolution", "GroupConvolution"):
            weights = one.input_value(1).get_node()
            if weights.get_type_name() == "Constant" and np.prod(one.input_value(1).get_shape()[-2:]) > 1:
                rounded = _round_with_carry(np.asarray(weights.get_data(), dtype=np.float32))
                one.input(1).replace_source_output(opset8.constant(rounded).output(0))


def _round_with_carry(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kernels (..., row, column), rounded to bf16 weight by weight; what is left over goes to the next weight."""
    kernels = weights.reshape(-1, weights.shape[-2] * weights.shape[-1])
    rounded = np.empty_like(kernels)
    carry = np.zeros(len(kernels), dtype=np.float32)
    for place in range(kernels.shape[1]):
        wanted = kernels[:, place] + carry
        bits = wanted.view(np.uint32)
        to_nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))  # half-way to even
        rounded[:, place] = (to_nearest & _UPPER_BITS).view(np.float32)
        carry = wanted - rounded[:, place]
    return rounded.reshape(weights.shape)


def cut(model: Any, stride: int) -> tuple[Any, Any]:
    """Cuts a network in two where its encoder reaches a stride; what the decoder skips to is handed over, too.

    Args:
        model: of OpenVINO, with one image as input; it must not be used any more.
        stride: pixels of the image a pixel of the first feature map behind the cut.

    Returns:
        Image to features, and features to logits; the outputs of the one are the inputs of the other, in order.
    """
    from openvino import Model, opset8

    operations = model.get_ordered_ops()
    side = model.inputs[0].shape[-1] // stride
    shapes = [list(one.get_output_shape(0)) if one.get_output_size() else [] for one in operations]
    first_behind = next(
        place
        for place, (one, shape) in enumerate(zip(operations, shapes, strict=True))
        if one.get_type_name() != "Constant" and len(shape) == 4 and shape[2:] == [side, side]
    )
    before = operations[:first_behind]
    names = {one.get_friendly_name() for one in before}
    features, inputs = [], []
    for output in (output for one in before if one.get_type_name() != "Constant" for output in one.outputs()):
        readers = [one for one in output.get_target_inputs() if one.get_node().get_friendly_name() not in names]
        if readers:
            feature = opset8.parameter(list(output.shape), np.float32)
            for reader in readers:
                reader.replace_source_output(feature.output(0))
            features.append(opset8.result(output))
            inputs.append(feature)
    return Model(features, model.get_parameters(), "front"), Model(model.get_results(), inputs, "back")


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux: where signal handlers of a thread run, if not on its own stack."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _own_signal_stack() -> Iterator[None]:
    """Gives the thread back the signal stack that it had before.

    OpenVINO leaves one of 11 KB when it compiles, which is too small where the CPU has wide registers to save: the next
    signal with a handler of Python, such as Ctrl-C or the end of a child process, can then kill the process.
    """
    if platform.system() != "Linux":
        yield
        return
    exchange = ctypes.CDLL(None).sigaltstack
    before = _SignalStack()
    exchange(None, ctypes.byref(before))
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)
