"""Engines on a trained network: they agree, the fastest that does is taken, and each fall-back is said in one line."""

import hashlib
import importlib.util
import shutil
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_prediction import predict_with_trainer
from torch.nn import functional as F

import inference
from model import SarcoModel
from sarco.api import predicting
from sarco.core.command import run_command
from sarco.core.errors import CheckpointError, OptionError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.crop.slices import SlicePreparer
from sarco.io.dicom import find_series
from sarco.network.device import choose_device
from sarco.network.segmentation import load_network
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.prediction import choose as engine
from sarco.prediction import openvino_engine
from sarco.prediction.choose import open_network
from sarco.prediction.convert import export_openvino
from sarco.prediction.judge import Agreement, EngineVerdict, compare_engines
from sarco.prediction.onnx_engine import OnnxEngine
from sarco.prediction.openvino_engine import BF16, F32, MIXED, OpenVinoEngine, openvino_computes_bf16
from sarco.prediction.pipeline import predict_series
from sarco.prediction.torch_engine import TorchEngine
from sarco.runs.store import RunDescription, RunStore
from sarco.scan.labels import LabelTable
from sarco_infdatamodule import SarcoInfDataModule

openvino_missing = importlib.util.find_spec("openvino") is None
needs_openvino = pytest.mark.skipif(openvino_missing, reason="openvino is not installed")
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
SIZE = 96
SAME = EngineVerdict(True, Agreement(0.9995, 0.002, 9000), 4)
OTHER = EngineVerdict(False, Agreement(0.998, 0.0, 9000), 4)
LARGER = EngineVerdict(False, Agreement(1.0, 0.004, 9000), 12)
EMPTY = EngineVerdict(False, Agreement(1.0, 0.0, 3), 12)
STEPS = 40


@dataclass(frozen=True)
class Trained:
    """A network that learnt a little, with a series to predict.

    Attributes:
        checkpoint: its file, in a run's folder.
        scan: a folder with six slices.
        images: (6, 1, S, S) what the network sees of them.
    """

    checkpoint: Path
    scan: Path
    images: Any

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A few steps on one phantom: enough for masks with an inside, which random weights do not give."""
    folder = tmp_path_factory.mktemp("engine")
    phantom = make_phantom(3, PhantomOptions(n_slices=6, rows=96, columns=120, spacing_mm=(3.1, 3.4, 6.0)))
    write_series(phantom, folder / "scan", patient_id="P", seed=1)
    (series,) = find_series(folder / "scan").series
    data = DataOptions(image_size=SIZE, crop="box")
    prepared = [SlicePreparer(series, data)(place) for place in range(len(series.slices))]
    target = np.stack([p.placement.crop_label_map(phantom.label_map[None, ..., p.plane])[0] for p in prepared])
    images = np.stack([p.image for p in prepared])

    torch.manual_seed(1)
    description = RunDescription(
        RunOptions(run_id="tiny"), LabelTable({1: "muscle"}), data, NetworkOptions(), FitOptions(), AugmentOptions(),
        MixupOptions(), PredictedOptions(), "random", {},
    )  # fmt: skip
    model = SarcoModel(description)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    truth = torch.from_numpy(target > 0).long()
    for _ in range(STEPS):
        loss = F.cross_entropy(model(torch.from_numpy(images)), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        model.calibrate([torch.from_numpy(images)])
    run = RunStore(folder / "checkpoints").create("tiny", "Trains", False)
    checkpoint = run.checkpoint_path("best")
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": description.to_builtins()}, checkpoint)
    mask = TorchEngine(model.network, choose_device(-1, "32"))(images).argmax(axis=1)
    assert 2 * (mask * target).sum() / (mask.sum() + (target > 0).sum()) > 0.7  # else agreement would mean little
    return Trained(checkpoint, folder / "scan", images)


@pytest.fixture
def trained(learnt: Trained, tmp_path: Path) -> Trained:
    """The same in a folder of its own, where nothing is kept yet."""
    run = RunStore(tmp_path / "checkpoints").create("tiny", "Trains", False)
    run.checkpoint_path("best").write_bytes(learnt.checkpoint.read_bytes())
    return Trained(run.checkpoint_path("best"), learnt.scan, learnt.images)


@pytest.fixture(scope="module")
def exported(learnt: Trained) -> Any:
    """The OpenVINO export of the network; also kept beside its checkpoint."""
    opened(learnt, engine="openvino", precision="32")
    (kept,) = (learnt.checkpoint.parent / ".engines").iterdir()
    with zipfile.ZipFile(kept) as archive:
        return {name: archive.read(name) for name in ("model.xml", "model.bin")}


@pytest.fixture
def kept(trained: Trained, learnt: Trained, exported: Any) -> Path:
    """The file that an earlier start left beside the checkpoint."""
    assert exported
    shutil.copytree(learnt.checkpoint.parent / ".engines", trained.checkpoint.parent / ".engines")
    (file,) = (trained.checkpoint.parent / ".engines").iterdir()
    return file


@pytest.fixture
def exports(exported: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Spares the seconds that an export takes; grows with each one."""
    made: list[int] = []
    monkeypatch.setattr(engine, "EXPORTS", {"openvino": lambda model, images: made.append(1) or exported})
    return made


@pytest.fixture
def torch_logits(trained: Trained) -> Any:
    """What torch makes of the images at 32 bits."""
    _, network = load_network(trained.checkpoint)
    return TorchEngine(network, choose_device(-1, "32"))(trained.images)


def opened(trained: Trained, **options: Any) -> tuple[Any, Any, list[str]]:
    """The engine for the images, its logits, and what was said."""
    told: list[str] = []

    def tell(line: str, reason: str) -> None:
        told.append(f"{line}, {reason}" if reason else line)

    network = open_network(trained.checkpoint, trained.sha256, gpu=-1, tell=tell, **options).network
    chosen, seen = network.engine_for(trained.images)
    logits = [seen[k] if k in seen else chosen(image[None])[0] for k, image in enumerate(trained.images)]
    return chosen, np.stack(logits), told


def test_torch_engine_is_the_model(trained: Trained, torch_logits: Any) -> None:
    """Catches an engine that predicts in training mode or at another precision."""
    model = SarcoModel.from_checkpoint(trained.checkpoint).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(trained.images)).numpy()
    np.testing.assert_allclose(torch_logits, expected, atol=1e-4)
    chosen, logits, told = opened(trained, engine="torch")
    assert isinstance(chosen, TorchEngine)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert len(told) == 1 and told[0].startswith("device: CPU")


@needs_openvino
def test_openvino_gives_the_masks_of_torch(trained: Trained, torch_logits: Any, kept: Path) -> None:
    """Catches an export with other weights, another input, or of a network in training mode."""
    chosen, logits, _ = opened(trained, engine="openvino", precision="32")
    assert isinstance(chosen, OpenVinoEngine)
    assert compare_engines(torch_logits, chosen(trained.images)).dice >= 0.999
    np.testing.assert_allclose(logits, torch_logits, atol=5e-3)


@needs_onnx
def test_onnx_runtime_gives_the_masks_of_torch(trained: Trained, torch_logits: Any) -> None:
    """Catches the same for the other engine."""
    chosen, logits, told = opened(trained, engine="onnx")
    assert isinstance(chosen, OnnxEngine) and told == ["engine: ONNX Runtime, fp32"]
    assert compare_engines(torch_logits, chosen(trained.images)).dice >= 0.999
    np.testing.assert_allclose(logits, torch_logits, atol=5e-3)


@needs_openvino
def test_auto_takes_bf16_only_where_it_agrees(trained: Trained, torch_logits: Any, kept: Path) -> None:
    """Catches bf16 that is taken unseen, or said to be taken while it is not."""
    chosen, logits, told = opened(trained)
    assert len(told) == 1
    assert compare_engines(torch_logits, logits).dice >= 0.999
    assert isinstance(chosen, OpenVinoEngine)
    assert told[0].startswith(f"engine: {chosen.name}")


@needs_openvino
def test_bf16_is_finer_than_it_comes(learnt: Trained, exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a split image, or a first part at 32 bits, that cost time and bring nothing."""
    if not openvino_computes_bf16():
        pytest.skip("this CPU has no bf16")
    expected = OpenVinoEngine(exported, F32)(learnt.images)

    def errors(precision: str) -> Any:
        return OpenVinoEngine(exported, precision)(learnt.images) - expected

    mixed, careful = errors(MIXED), errors(BF16)
    monkeypatch.setattr(openvino_engine, "round_kernels", lambda model: None)
    monkeypatch.setattr(openvino_engine, "split_first_convolution", lambda model: False)
    plain = errors(BF16)
    assert mixed.std() < 0.9 * careful.std() < 0.9 * 0.85 * plain.std()


@needs_openvino
@pytest.mark.parametrize(
    ("found", "name", "words"),
    [
        ([SAME], "OpenVINO, bf16", "whose masks are those of fp32 (Dice 0.99950, area 0.20 % apart on 4 slices)"),
        ([OTHER, SAME], "OpenVINO, fp32 and bf16", "whose masks are those of fp32 (Dice 0.99950, area 0.20 %"),
        (
            [OTHER, OTHER],
            "OpenVINO, fp32",
            "because the masks of OpenVINO, bf16 differ (Dice 0.99800, area",
        ),
        (
            [OTHER, LARGER],
            "OpenVINO, fp32",
            " and the masks of OpenVINO, fp32 and bf16 differ (Dice 1.00000",
        ),
        ([EMPTY], "OpenVINO, fp32", "because 12 slices cannot show enough to check OpenVINO, bf16"),
    ],
)
def test_what_the_check_finds_decides(
    trained: Trained, kept: Path, monkeypatch: pytest.MonkeyPatch, found: list[EngineVerdict], name: str, words: str
) -> None:
    """Catches a check whose verdict nobody heeds, on either side of its limits, and a precision that is passed over."""
    verdicts = iter(found)
    monkeypatch.setattr(engine, "openvino_computes_bf16", lambda: True)
    monkeypatch.setattr(engine, "judge_engine", lambda exact, other: next(verdicts))
    chosen, _, told = opened(trained)
    assert chosen.name == name
    assert len(told) == 1 and words in told[0]


@needs_openvino
def test_a_network_that_cannot_be_rebuilt_for_bf16_is_no_error(
    trained: Trained, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a traceback, instead of 32 bits, where a network begins in a way that nobody thought of."""

    def fail(*_: Any) -> Any:
        raise StopIteration("no such feature map")

    monkeypatch.setattr(engine, "openvino_computes_bf16", lambda: True)
    monkeypatch.setattr(openvino_engine, "split_first_convolution", fail)
    monkeypatch.setattr(openvino_engine, "cut", fail)
    chosen, _, told = opened(trained)
    assert chosen.name == "OpenVINO, fp32"
    assert told == [
        "engine: OpenVINO, fp32, because bf16 cannot be had of this network (no such feature map) and "
        "fp32 and bf16 cannot be had of this network (no such feature map)"
    ]


@needs_openvino
def test_masks_that_differ_from_torch_lead_back_to_torch(
    trained: Trained, torch_logits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an export that is wrong and used all the same, also at the next start."""

    def wrong(network: Any, images: Any) -> Any:
        with torch.no_grad():
            network.head[0].bias += torch.tensor([0.0, 3.0])
            files = export_openvino(network, images)
            network.head[0].bias -= torch.tensor([0.0, 3.0])
        return files

    monkeypatch.setattr(engine, "EXPORTS", {"openvino": wrong})
    for _ in range(2):
        chosen, logits, told = opened(trained, engine="openvino")
        assert isinstance(chosen, TorchEngine)
        np.testing.assert_allclose(logits, torch_logits, atol=1e-4)
        assert len(told) == 1 and told[0].startswith("engine: torch, because OpenVINO gives other masks (Dice ")


@needs_openvino
def test_a_network_that_cannot_be_converted_leads_back_to_torch(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a traceback of a converter."""

    def fail(model: Any, images: Any) -> Any:
        raise RuntimeError("Exception from src/x.cpp:1:\nno rule for aten::strange\n")

    monkeypatch.setattr(engine, "EXPORTS", {"openvino": fail})
    chosen, _, told = opened(trained)
    assert isinstance(chosen, TorchEngine)
    assert told == ["engine: torch, because OpenVINO cannot take this network (no rule for aten::strange)"]


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in names else find(name, *a))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_without_openvino_auto_is_torch_and_says_how_to_get_faster(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an ImportError, and a user who never hears why it is slow."""
    hide(monkeypatch, "openvino")
    chosen, _, told = opened(trained)
    assert isinstance(chosen, TorchEngine)
    assert told[0].startswith("engine: torch; pip install openvino makes it several times faster, because")
    with pytest.raises(OptionError, match="--engine=openvino: needs openvino"):
        opened(trained, engine="openvino")


@needs_openvino
def test_precisions_that_cannot_be_had(trained: Trained, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a precision that was asked for and is replaced in silence."""
    for chosen in ("auto", "openvino", "onnx"):
        with pytest.raises(OptionError, match="--precision=16: half precision needs a GPU"):
            opened(trained, engine=chosen, precision="16")
    with pytest.raises(OptionError, match="ONNX Runtime computes at 32 bits"):
        opened(trained, engine="onnx", precision="bf16")
    monkeypatch.setattr(engine, "openvino_computes_bf16", lambda: False)
    with pytest.raises(OptionError, match="this CPU has no bf16"):
        opened(trained, engine="openvino", precision="bf16")
    slow, _, told = opened(trained, precision="bf16")
    assert isinstance(slow, TorchEngine) and "no bf16 on this CPU" in told[0]
    exact, _, _ = opened(trained)
    assert exact.name == "OpenVINO, fp32"


@needs_openvino
def test_the_second_start_needs_no_torch(trained: Trained, exports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an export at each start, and a kept network that differs from the first one."""
    _, first, _ = opened(trained, precision="32")
    monkeypatch.setattr("sarco.network.segmentation.load_network", None)
    _, second, told = opened(trained, precision="32")
    np.testing.assert_array_equal(first, second)
    assert told == ["engine: OpenVINO, fp32"] and exports == [1]


@needs_openvino
def test_another_checkpoint_is_exported_anew(trained: Trained, kept: Path) -> None:
    """Catches the masks of yesterday's weights under today's checkpoint."""
    _, before, _ = opened(trained, precision="32")
    content = torch.load(trained.checkpoint, weights_only=True)
    content["state_dict"]["network.head.0.bias"] += torch.tensor([0.0, 1.0])
    torch.save(content, trained.checkpoint)
    _, after, _ = opened(trained, precision="32")
    np.testing.assert_allclose(after - before, np.broadcast_to([[[0.0]], [[1.0]]], after.shape[1:])[None].repeat(6, 0),
                               atol=1e-3)  # fmt: skip
    assert len(list(kept.parent.iterdir())) == 1 and not kept.exists()


@needs_openvino
@pytest.mark.parametrize("damage", ["bits", "content"])
def test_a_damaged_kept_network_is_exported_anew(trained: Trained, kept: Path, exports: list[int], damage: str) -> None:
    """Catches a crash or, worse, masks from damaged weights."""
    _, expected, _ = opened(trained, precision="32")
    if damage == "bits":
        whole = bytearray(kept.read_bytes())
        whole[len(whole) // 2] ^= 255
        kept.write_bytes(bytes(whole))
    else:  # whole as an archive, but no network
        with zipfile.ZipFile(kept) as archive:
            record = archive.read("record.json")
        with zipfile.ZipFile(kept, "w") as archive:
            archive.writestr("record.json", record)
            archive.writestr("model.xml", b"<net")
            archive.writestr("model.bin", b"")
    _, found, told = opened(trained, precision="32")
    np.testing.assert_array_equal(found, expected)
    assert len(told) == 2 and "the network is exported anew, because" in told[0]
    assert opened(trained, precision="32")[2] == ["engine: OpenVINO, fp32"]
    assert exports == [1]


@needs_openvino
def test_a_folder_that_cannot_be_written_is_no_error(trained: Trained, exports: list[int]) -> None:
    """Catches a run that dies because its checkpoints may only be read."""
    (trained.checkpoint.parent / ".engines").write_text("")
    chosen, _, told = opened(trained, precision="32")
    assert isinstance(chosen, OpenVinoEngine)
    assert len(told) == 2 and "is not kept" in told[0] and "cannot be written" in told[0]


def test_a_damaged_checkpoint_is_told_as_ever(trained: Trained) -> None:
    """Catches a checkpoint whose fault is hidden behind an engine's."""
    trained.checkpoint.write_bytes(b"no checkpoint")
    for chosen in ("auto", "torch"):
        with pytest.raises(CheckpointError, match=r"best\.ckpt"):
            opened(trained, engine=chosen)


def test_the_pipeline_is_lightning_s_prediction(trained: Trained) -> None:
    """Catches a pipeline that differs from what trainer.predict gives with the data module."""
    (series,) = find_series(trained.scan).series
    model = SarcoModel.from_checkpoint(trained.checkpoint)
    description = model.description
    module = SarcoInfDataModule(series, description.data, description.labels, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = predict_with_trainer(model, module, choose_device(-1, "32")).volume.finish()
    network = open_network(trained.checkpoint, trained.sha256, "torch", gpu=-1).network
    found = predict_series(network, series, description.data, description.labels).label_map
    assert expected.any()
    assert (found != expected).mean() < 1e-5


@pytest.fixture
def predict(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Calls inference.py's main as the command line does and gives the exit status."""
    monkeypatch.setenv("SARCO_MALLOC", "default")  # the setting would stay with the other tests
    monkeypatch.setattr(predicting, "quieten_libraries", lambda: None)

    def call(*words: str) -> int:
        own = [f"--infer_path={trained.scan}", "--run_id=tiny", f"--dirpath={trained.checkpoint.parents[1]}"]
        monkeypatch.setattr(sys, "argv", ["inference.py", *own, f"--dest_dir={tmp_path / 'out'}", "--wandb=no", *words])
        try:
            run_command(inference.main, "inference.py")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.mark.parametrize("where", ["reading", "restoring"])
def test_an_error_in_a_thread_is_one_line_and_leaves_nothing(
    predict: Callable[..., int],
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    """Catches a traceback, a silent hole, or half of the results."""
    from sarco.core.errors import GeometryError, InputError
    from sarco.crop import slices
    from sarco.prediction import pipeline

    threads = []

    def fail(*_: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        if where == "reading":
            raise InputError("slice7.dcm: is damaged; export it again")
        raise GeometryError("slice 7 did not come back; please report this")

    name = "read_hu" if where == "reading" else "softmax"
    real = getattr(slices, name)
    calls: list[int] = []

    def sometimes(*words: Any) -> Any:
        calls.append(1)
        return real(*words) if len(calls) <= 5 else fail()

    monkeypatch.setattr(pipeline, "SAMPLE_SLICES", 4)  # they are read in the main thread
    monkeypatch.setattr(slices, name, sometimes)
    assert predict("--engine=torch") == 1
    shown = capsys.readouterr()
    assert shown.err.strip().count("\n") == 0
    assert shown.err.startswith("inference.py: error: slice")
    assert threads == [False]
    assert not any((tmp_path / "out").iterdir())


@needs_openvino
def test_results_of_both_engines_are_the_same(
    predict: Callable[..., int], kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a difference anywhere between the flag and the file."""
    from sarco.comparison.maps import compare_label_maps

    assert predict("--engine=torch", "--precision=32") == 0
    (tmp_path / "out").rename(tmp_path / "torch")
    assert predict() == 0
    told = capsys.readouterr().out
    assert "engine: OpenVINO" in told
    name = "preds_from_tiny_of_scan"
    found = {path.name for path in (tmp_path / "out" / name).iterdir()}
    assert found == {path.name for path in (tmp_path / "torch" / name).iterdir()}
    compared = compare_label_maps(*(tmp_path / out / name / "label_map.nii.gz" for out in ("torch", "out")))
    assert min(one.dice for one in compared) >= 0.999


def test_a_missing_package_ends_with_2(
    predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback for what one command mends."""
    hide(monkeypatch, "onnxruntime")
    assert predict("--engine=onnx") == 2
    assert "needs onnxruntime; pip install onnxruntime" in capsys.readouterr().err
