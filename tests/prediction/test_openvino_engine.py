"""OpenVINO: numbers in bf16 that keep more than bf16, networks in two parts, and nothing reported or left behind."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sarco.core.training_options import NetworkOptions
from sarco.network.segmentation import build_network
from sarco.prediction.convert import export_openvino
from sarco.prediction.engine import run_all
from sarco.prediction.openvino_engine import (
    BF16,
    F32,
    MIXED,
    OpenVinoEngine,
    cut,
    import_openvino,
    openvino_computes_bf16,
    round_kernels,
    split_first_convolution,
)

pytest.importorskip("openvino", reason="openvino is not installed")
ROOT = Path(__file__).parents[2]
SIDE = 64
NETWORKS = [("unet", 1), ("segresnet", 1), ("unet", 3)]


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def exported(request: pytest.FixtureRequest) -> tuple[Any, dict[str, bytes]]:
    """Two images, and a network with random weights for them, as OpenVINO has it."""
    model_choice, channels = request.param
    torch.manual_seed(4)
    network = build_network(NetworkOptions(model_choice=model_choice), channels, 3)
    images = np.random.default_rng(1).random((2, channels, SIDE, SIDE), dtype=np.float32)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # else next to nothing of the image would come out
    network.train()(torch.from_numpy(images))
    return images, export_openvino(network.eval(), images[:1])


def round_to_bf16(values: Any) -> Any:
    """What bf16 holds of them, by torch."""
    return torch.from_numpy(np.array(values)).bfloat16().float().numpy()


def read(files: dict[str, bytes]) -> Any:
    """The network as OpenVINO opens it."""
    return import_openvino().Core().read_model(files["model.xml"], files["model.bin"])


def compute(model: Any, inputs: list[Any]) -> list[Any]:
    """All outputs at 32 bits."""
    compiled = import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": F32})
    return list(compiled(inputs).values())


def test_image_and_weights_of_the_first_convolution_are_split_into_two_bf16_each(
    exported: tuple[Any, dict[str, bytes]],
) -> None:
    """Catches a part that meets the wrong weights, or that is no bf16 and would be rounded after all."""
    images, files = exported
    (expected,) = compute(read(files), [images[:1]])
    model = read(files)
    assert split_first_convolution(model)
    upper = (images[:1].view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    parts = np.concatenate([upper, round_to_bf16(images[:1] - upper), upper], axis=1)
    convolution = next(one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution")
    weights = convolution.input_value(1).get_node().get_data()
    n_exact = 2 * images.shape[1]  # the upper bits; the lower are rounded, which leaves 16 bits in all
    np.testing.assert_array_equal(weights[:, :n_exact], round_to_bf16(weights[:, :n_exact]))
    (found,) = compute(model, [parts])
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_network_that_begins_otherwise_is_left_alone() -> None:
    """Catches an image that is split where something else than one convolution reads it."""
    ops = import_openvino().opset13
    image = ops.parameter([1, 1, SIDE, SIDE], np.float32)
    convolution = ops.convolution(image, np.ones((1, 1, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    for model in (ops.relu(image), ops.add(convolution, image)):
        whole = import_openvino().Model([model], [image], "other")
        assert not split_first_convolution(whole)
        assert list(whole.inputs[0].shape) == [1, 1, SIDE, SIDE]


def test_both_parts_of_a_cut_network_are_the_whole(exported: tuple[Any, dict[str, bytes]]) -> None:
    """Catches a skip that is lost, or handed over in another order, and a cut that leaves a part empty."""
    images, files = exported
    (expected,) = compute(read(files), [images[:1]])
    front, back = cut(read(files), 16)
    counts = [sum(one.get_type_name() == "Convolution" for one in part.get_ops()) for part in (front, back)]
    assert min(counts) > 10
    assert max(output.shape[-1] for output in front.outputs) > SIDE // 16  # what the decoder skips to
    features = compute(front, [images[:1]])
    (found,) = compute(back, features)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("precision", [F32, MIXED, BF16])
def test_every_precision_gives_the_logits_of_its_image(exported: tuple[Any, dict[str, bytes]], precision: str) -> None:
    """Catches requests that read what another image left, and logits that the next image overwrites."""
    if precision != F32 and not openvino_computes_bf16():
        pytest.skip("this CPU has no bf16")
    images, files = exported
    chosen = OpenVinoEngine(files, precision)
    expected = np.concatenate([compute(read(files), [image[None]])[0] for image in images])
    apart = (1e-3 if precision == F32 else 0.3) * np.std(expected[0] - expected[1])  # one image taken for the other: 1
    assert np.std(chosen(images) - expected) < apart
    assert np.std(run_all(chosen, images[::-1]) - expected[::-1]) < apart


@given(arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-8, 8, width=32)))
def test_rounded_kernels_keep_their_sums(weights: Any) -> None:
    """Catches a carry that is lost, or wanders into another kernel, and weights that bf16 would round again."""
    ops = import_openvino().opset13
    image = ops.parameter([1, 2, SIDE, SIDE], np.float32)
    model = import_openvino().Model(
        [ops.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])], [image], "one convolution"
    )
    round_kernels(model)
    (convolution,) = (one for one in model.get_ops() if one.get_type_name() == "Convolution")
    rounded = convolution.input_value(1).get_node().get_data()
    np.testing.assert_array_equal(rounded, round_to_bf16(rounded))
    largest = np.abs(weights).max(axis=(2, 3))
    assert (np.abs(rounded - weights).max(axis=(2, 3)) <= 2**-7 * largest).all()
    assert (np.abs(rounded.sum(axis=(2, 3)) - weights.sum(axis=(2, 3))) <= (2**-8 + 1e-6) * largest).all()


def test_openvino_reports_to_nobody() -> None:
    """Catches a mere prediction that sends usage data out of the building, as importing openvino does by itself."""
    code = (
        "import sys, sarco.prediction.openvino_engine as e; e.import_openvino(); "
        "from openvino.tools.ovc import telemetry_utils; "
        "print(telemetry_utils.tm.__name__, sys.modules['openvino_telemetry'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None", "False"]


def signal_stack() -> bytes:
    """What the kernel says of this thread's stack for signals, as it says it (`stack_t`)."""
    told = ctypes.create_string_buffer(24)
    assert ctypes.CDLL(None).sigaltstack(None, told) == 0
    return told.raw


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a thread")
def test_openvino_leaves_the_signal_stack_as_it_was(tmp_path: Path) -> None:
    """Catches Ctrl-C, or the end of a child process, killing the process where OpenVINO's small stack is left to it."""
    openvino = import_openvino()
    image = openvino.opset13.parameter([1, 1, 32, 32], np.float32)
    model = openvino.Model([openvino.opset13.relu(image)], [image], "relu")
    openvino.save_model(model, tmp_path / "model.xml")
    files = {name: (tmp_path / name).read_bytes() for name in ("model.xml", "model.bin")}
    before = signal_stack()
    engine = OpenVinoEngine(files, "f32")
    np.testing.assert_array_equal(engine(-np.ones((2, 1, 32, 32), np.float32)), 0)
    assert signal_stack() == before
