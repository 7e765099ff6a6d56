"""How far is the network from what this machine could do? Its FLOPs and bytes against measured rates.

python benchmarks/roofline.py [--image_size=512] [--backbone=b0] [--append]

A convolution takes at least its FLOPs over the rate of a large matrix product, and at least the bytes of its input,
weights and output over the rate of a large copy: the larger of the two is its floor. Everything else (normalisation,
activations, sums) costs nothing in this count, as if fused into the convolutions. The floor of the network is the sum.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness import report, table

SIZE = 2048  # of the matrices
COPIED = 1 << 28  # bytes
REPEATS = 5


@dataclass(frozen=True)
class Work:
    """What a convolution does.

    Attributes:
        kind: ``depthwise``, ``1x1`` or ``3x3 and larger``.
        flop: multiplications and additions.
        elements: of input, weights and output.
    """

    kind: str
    flop: float
    elements: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=512)
    parser.add_argument("--backbone", default="b0")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    import torch
    from scaling import make_network, time_network

    work = count_work(make_network(typed.backbone), typed.image_size)
    copy = rate_of_copy()
    gemm = {"f32": rate_of_gemm(torch.float32), "bf16": rate_of_gemm(torch.bfloat16)}
    rows = []
    for precision, size in (("f32", 4), ("bf16", 2)):
        measured = min(time_network(typed.backbone, typed.image_size, precision)["ms"] for _ in range(2))
        compute = 1000 * sum(one.flop for one in work) / gemm[precision]
        memory = 1000 * sum(one.elements for one in work) * size / copy
        floor = sum(floor_ms(one, gemm[precision], copy, size) for one in work)
        rows.append([
            precision, f"{gemm[precision] / 1e9:.0f}", f"{copy / 1e9:.1f}", f"{compute:.1f}", f"{memory:.1f}",
            f"{floor:.1f}", f"{measured:.1f}", f"{floor / measured:.0%}",
        ])  # fmt: skip
    head = ["precision", "GEMM, GFLOP/s", "copy, GB/s", "FLOPs alone, ms", "bytes alone, ms", "floor, ms",
            "OpenVINO, ms", "share of the floor"]  # fmt: skip
    kinds = []
    for kind in dict.fromkeys(one.kind for one in work):
        own = [one for one in work if one.kind == kind]
        floor = sum(floor_ms(one, gemm["bf16"], copy, 2) for one in own)
        mega = sum(one.elements for one in own) * 2 / 1e6
        kinds.append([kind, str(len(own)), f"{sum(one.flop for one in own) / 1e9:.2f}", f"{mega:.0f}", f"{floor:.1f}"])
    parts = table(["convolutions", "number", "GFLOP", "MB, bf16", "floor, ms, bf16"], kinds)
    text = f"{table(head, rows)}\n\n{parts}\n\n{typed.backbone} with U-Net, one slice of {typed.image_size} x " + (
        f"{typed.image_size}. GEMM of {SIZE} x {SIZE} on all cores; a copy counts bytes read and written."
    )
    command = f"python benchmarks/roofline.py --image_size={typed.image_size} --backbone={typed.backbone}"
    report("Roofline of this CPU", command, text, typed.append, ("openvino",))


def floor_ms(work: Work, flops: float, copy: float, size: int) -> float:
    """The least that a convolution can take, with elements of this size in bytes."""
    return 1000 * max(work.flop / flops, work.elements * size / copy)


def count_work(network, side: int) -> list[Work]:  # type: ignore[no-untyped-def]
    """Every convolution of a forward pass of one slice."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[Work] = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if function is torch.ops.aten.convolution.default:
                image, weight = args[0], args[1]
                each = 2 * weight[0].numel()
                kind = "1x1" if weight.shape[-1] == 1 else "3x3 and larger"
                kind = "depthwise" if args[8] > 1 else kind
                elements = image.numel() + weight.numel() + result.numel()
                found.append(Work(kind, float(each * result.numel()), elements))
            return result

    with torch.no_grad(), Listener():
        network.eval()(torch.zeros(1, 1, side, side))
    return found


def rate_of_gemm(dtype) -> float:  # type: ignore[no-untyped-def]
    """FLOP a second of a large matrix product."""
    import torch

    one, two = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    return 2 * SIZE**3 / fastest(lambda: one @ two)


def rate_of_copy() -> float:
    """Bytes a second, read and written, of a large copy on all cores."""
    import torch

    source = torch.zeros(COPIED, dtype=torch.uint8)
    target = torch.ones_like(source)
    return 2 * COPIED / fastest(lambda: target.copy_(source))


def fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
