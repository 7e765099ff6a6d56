"""Opens a trained network on the engine that suits the machine: torch, OpenVINO or ONNX Runtime.

Every choice is told in one short line; the reason behind it is at hand for whoever asks.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import sarco
from sarco.core.errors import OptionError, SarcoError
from sarco.core.messages import Tell, count_of
from sarco.crop.slices import Images, Logits
from sarco.network.device import Device, choose_device, may_have_gpu
from sarco.prediction.convert import EXPORTS
from sarco.prediction.engine import PACKAGES, Engine, Network, check_packages, missing_packages, run_all
from sarco.prediction.judge import FIRST_LOOK, Sample, compare_engines, judge_engine
from sarco.prediction.kept import KeptNetwork, Shelf
from sarco.prediction.onnx_engine import OnnxEngine
from sarco.prediction.openvino_engine import BF16, F32, MIXED, NAMES, OpenVinoEngine, openvino_computes_bf16
from sarco.prediction.torch_engine import TorchEngine, TorchNetwork
from sarco.runs.store import RunDescription
from sarco.scan.series import pick_evenly

if TYPE_CHECKING:  # seconds to import, and not needed where an exported network is at hand
    from sarco.network.segmentation import SegmentationNetwork

TITLES = {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}


@dataclass(frozen=True)
class Opened:
    """A trained network, ready to predict.

    Attributes:
        description: what its checkpoint says of the run.
        network: picks the engine for each series.
    """

    description: RunDescription
    network: Network


def open_network(
    checkpoint: Path,
    sha256: str,
    engine: str = "auto",
    precision: str = "auto",
    gpu: int = 0,
    batch_size: int = 8,
    tell: Tell = lambda line, reason: None,
) -> Opened:
    """The network of a checkpoint on an engine.

    Args:
        checkpoint: its file.
        sha256: of that file.
        engine: ``auto``, ``torch``, ``openvino`` or ``onnx``. auto: torch on a GPU; on the CPU OpenVINO where it is
            installed and agrees with torch.
        precision: ``auto``, ``32``, ``bf16`` or ``16``.
        gpu: number of the GPU, -1 for the CPU.
        batch_size: slices a forward pass of torch.
        tell: takes each line for the user (device, engine, fall-backs), and the reason behind it.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        OptionError: a package is missing for the engine that was asked for, or it cannot compute at this precision.
    """
    if engine == "auto":
        engine = _best_engine(gpu, precision, tell)
    if engine == "torch":
        return _open_torch(checkpoint, choose_device(gpu, precision), batch_size, tell)
    check_packages(engine)
    return _open_exported(checkpoint, sha256, engine, _check_precision(engine, precision), batch_size, tell)


def _best_engine(gpu: int, precision: str, tell: Tell) -> str:
    if gpu >= 0 and may_have_gpu() and choose_device(gpu, "auto").accelerator == "gpu":
        return "torch"
    if precision == "16":
        return "torch"  # which says that this needs a GPU
    if missing_packages("openvino"):
        tell("engine: torch; pip install openvino makes it several times faster", "because openvino is not installed")
        return "torch"
    if precision == "bf16" and not openvino_computes_bf16():
        tell("engine: torch; --precision=auto is faster", "because OpenVINO finds no bf16 on this CPU")
        return "torch"
    return "openvino"


def _check_precision(engine: str, precision: str) -> tuple[str, ...]:
    """The precisions to try, the fastest first."""
    if precision == "16":
        raise OptionError("--precision=16: half precision needs a GPU; give auto, 32 or bf16")
    if precision == "32" or (precision == "auto" and engine == "onnx"):
        return (F32,)
    if engine == "onnx":
        raise OptionError("--precision=bf16: ONNX Runtime computes at 32 bits; give auto or 32, or another --engine")
    if openvino_computes_bf16():
        return (BF16, MIXED, F32)
    if precision == "bf16":
        raise OptionError("--precision=bf16: this CPU has no bf16; give auto or 32")
    return (F32,)


def _open_torch(checkpoint: Path, device: Device, batch_size: int, tell: Tell) -> Opened:
    from sarco.network.segmentation import load_network

    description, network = load_network(checkpoint)
    tell(device.note, "")
    return Opened(description, TorchNetwork(TorchEngine(network, device, batch_size)))


def _open_exported(
    checkpoint: Path, sha256: str, engine: str, precisions: tuple[str, ...], batch_size: int, tell: Tell
) -> Opened:
    """The exported network that is kept beside the checkpoint, or a new export of it."""
    versions = {name: metadata.version(name) for name in PACKAGES[engine]}
    shelf = Shelf(checkpoint, engine, {"checkpoint": sha256, "sarco": sarco.__version__, **versions})
    network = ExportedNetwork(checkpoint, engine, precisions, shelf, batch_size, tell)
    return Opened(network.description, network)


class ExportedNetwork:
    """A network that torch is not needed for any more, once it was seen to agree with torch."""

    def __init__(
        self, checkpoint: Path, engine: str, precisions: tuple[str, ...], shelf: Shelf, batch_size: int, tell: Tell
    ) -> None:
        """Finds the kept export, else opens the checkpoint; exporting waits for the first images.

        Args:
            checkpoint: what the network is made from.
            engine: ``openvino`` or ``onnx``.
            precisions: to try, the fastest first; `F32` is the last.
            shelf: where the export is kept.
            batch_size: for torch, should it have to stand in.
            tell: takes each line for the user.

        Raises:
            CheckpointError: the checkpoint cannot be used.
        """
        self._checkpoint, self._engine, self._precisions = checkpoint, engine, precisions
        self._shelf, self._batch_size, self._tell = shelf, batch_size, tell
        self._compiler = ThreadPoolExecutor(1)  # one after the other, so that Python keeps a core
        self._compiling: dict[str, Future[Engine]] = {}
        self._network: SegmentationNetwork | None = None  # where there is need of it
        self._torch: TorchEngine | None = None
        self._unfit = ""  # why it cannot stand for torch, at 32 bits
        self._told = ""
        self._kept, damage = shelf.find()
        if self._kept:
            try:
                self.description = RunDescription.from_builtins(self._kept.record["description"])
                self._unfit = str(self._kept.record["unfit"])
            except (SarcoError, AttributeError, KeyError, TypeError, ValueError) as error:
                self._kept, damage = None, f"{shelf.path} cannot be used ({_first_line_of(error)})"
        if self._kept and not self._unfit:  # compiled in the background, while the caller looks for images
            for precision in dict.fromkeys((F32, precisions[0])):
                self._start_compiling(precision)
        if damage:
            self._tell_damage(damage)
        if not self._kept:
            from sarco.network.segmentation import load_network

            self.description, self._network = load_network(checkpoint)

    def engine_for(self, images: Images) -> tuple[Engine, Mapping[int, Logits]]:
        """The fastest engine whose masks of these images are those of the slower one; torch is the last.

        Args:
            images: (B, C, S, S) in [0, 1], some slices of the series, in order.
        """
        if self._kept and not self._unfit:
            try:
                self._compile(F32)
            except Exception as error:  # OpenVINO raises nearly anything where a file is not what it should be
                self._kept = None
                self._compiling.clear()
                self._tell_damage(f"{self._shelf.path} cannot be used ({_first_line_of(error)})")
        if not self._kept:
            self._export(images)
        if self._unfit:
            self._say("engine: torch", f"because {TITLES[self._engine]} {self._unfit}")
            return self._torch_engine(), {}
        exact = Sample(self._compile(F32), images)
        differ = []
        for precision in self._precisions[:-1]:
            try:
                fast = Sample(self._compile(precision), images)
                verdict = judge_engine(exact, fast)
            except Exception as error:  # what is rebuilt for bf16 may be a network that nobody has seen yet
                differ.append(f"{NAMES[precision]} cannot be had of this network ({_first_line_of(error)})")
                continue
            if verdict.fits:
                self._say(f"engine: {fast.engine.name}", f"whose masks are those of fp32 ({verdict})")
                return fast.engine, fast.seen
            if not verdict.shows_enough:
                differ = [f"{count_of(verdict.n_slices, 'slice')} cannot show enough to check {fast.engine.name}"]
                break
            differ.append(f"the masks of {fast.engine.name} differ ({verdict})")
        self._say(f"engine: {exact.engine.name}", f"because {' and '.join(differ)}" if differ else "")
        return exact.engine, exact.seen

    def _export(self, images: Images) -> None:
        """Exports the network, compares it with torch on these images, and keeps it with the verdict."""
        torch_engine = self._torch_engine()
        try:
            files = EXPORTS[self._engine](self._open(), images[:1])
            self._kept = KeptNetwork(files, {})
            few = images[pick_evenly(range(len(images)), FIRST_LOOK)]
            agreement = compare_engines(run_all(torch_engine, few), run_all(self._compile(F32), few))
        except Exception as error:  # converters raise nearly anything
            self._kept, self._unfit = KeptNetwork({}, {}), f"cannot take this network ({_first_line_of(error)})"
            return
        if not agreement.holds:
            self._unfit = f"gives other masks ({agreement} on {count_of(len(few), 'slice')})"
        record = {"description": self.description.to_builtins(), "unfit": self._unfit, "agreement": asdict(agreement)}
        self._kept = KeptNetwork(files, record)
        if agreement.holds:
            self._network = self._torch = None  # has done its part; its memory is free for what comes
        if problem := self._shelf.keep(self._kept):
            self._say("engine: the exported network is not kept; each start will export it anew", f"because {problem}")

    def _open(self) -> "SegmentationNetwork":
        if self._network is None:
            from sarco.network.segmentation import load_network

            _, self._network = load_network(self._checkpoint)
        return self._network

    def _torch_engine(self) -> TorchEngine:
        if self._torch is None:
            self._torch = TorchEngine(self._open(), choose_device(-1, "32"), self._batch_size)
        return self._torch

    def _compile(self, precision: str) -> Engine:
        self._start_compiling(precision)
        return self._compiling[precision].result()

    def _start_compiling(self, precision: str) -> None:
        if precision not in self._compiling:
            assert self._kept
            files = self._kept.files
            if self._engine == "openvino":
                self._compiling[precision] = self._compiler.submit(OpenVinoEngine, files, precision)
            else:
                self._compiling[precision] = self._compiler.submit(OnnxEngine, files["model.onnx"])

    def _tell_damage(self, damage: str) -> None:
        self._tell("engine: the network is exported anew", f"because {damage}")

    def _say(self, line: str, reason: str) -> None:
        if line != self._told:  # once, not for each series
            self._tell(line, reason)
            self._told = line


def _first_line_of(error: Exception) -> str:
    """The first line of an error that says something, cut short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0][:120] if lines else type(error).__name__
