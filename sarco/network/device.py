"""Which device works, and at which precision; torch is imported only where it is needed."""

import ctypes
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco.core.errors import OptionError

NVIDIA_DRIVER = "libcuda.so.1"
AMD_DRIVER = Path("/dev/kfd")


@dataclass(frozen=True)
class Device:
    """A device in Lightning's words.

    Attributes:
        accelerator, devices, precision: as ``Trainer`` takes them.
        note: one line for the user.
    """

    accelerator: str
    devices: list[int] | int
    precision: Any
    note: str


def choose_device(gpu: int, precision: str, processes: int = 1, train_side: int | None = None) -> Device:
    """The GPU that was asked for, or the CPU where there is none.

    Args:
        gpu: number of the GPU, -1 for the CPU.
        precision: ``auto``, ``32``, ``bf16`` or ``16``.
        processes: how many GPUs, from this one on, or CPU processes work together.
        train_side: side of the images in pixels where a network is trained; ``auto`` may then take bf16 on a CPU.

    Raises:
        OptionError: there are GPUs but not this one, or the device cannot compute at this precision.
    """
    import torch

    from sarco.network.precision import bf16_pays_in_training, cpu_has_bf16

    count = count_gpus()
    if gpu >= 0 and count:
        if gpu + processes > count:
            raise OptionError(f"--gpu={gpu}: {processes} GPU(s) from here on are asked for, this machine has {count}")
        bf16 = torch.cuda.is_bf16_supported()
        chosen = {"auto": "bf16-mixed" if bf16 else "16-mixed", "32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
        name = torch.cuda.get_device_name(gpu)
        return Device(
            "gpu",
            list(range(gpu, gpu + processes)),
            chosen[precision],
            f"device: GPU {gpu} ({name}), precision {chosen[precision]}",
        )
    if precision == "16":
        raise OptionError("--precision=16: half precision needs a GPU; give auto, 32 or bf16")
    bf16 = precision == "bf16" or (precision == "auto" and train_side is not None and bf16_pays_in_training(train_side))
    chosen_cpu = "bf16-mixed" if bf16 else "32-true"
    words = [chosen_cpu]
    if bf16 and train_side is not None:
        words.append("depthwise convolutions in 32")
    if bf16 and not cpu_has_bf16():
        words.append("which this CPU only imitates: --precision=32 is faster")
    reason = "as asked" if gpu < 0 else "there is no GPU here"
    note = f"device: CPU ({reason}), {torch.get_num_threads()} threads, precision {', '.join(words)}"
    return Device("cpu", processes, chosen_cpu, note)


def count_gpus() -> int:
    """How many GPUs torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def may_have_gpu() -> bool:
    """False where there surely is no GPU that torch could use; takes no time, where asking torch takes seconds."""
    if platform.system() != "Linux":
        return True
    try:
        ctypes.CDLL(NVIDIA_DRIVER)
    except OSError:
        return AMD_DRIVER.exists()
    return True
