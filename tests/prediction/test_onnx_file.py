"""The ONNX file says all that one needs to use it, and what it gives was compared with torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import SarcoModel
from sarco.commands import export
from sarco.core.errors import InputError, OptionError, SarcoError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.network.segmentation import SegmentationNetwork
from sarco.prediction import convert, onnx_file
from sarco.runs.store import RunDescription, RunStore
from sarco.scan.labels import LabelTable

ROOT = Path(__file__).parents[2]
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on three slices with two labels, whose weights are random."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    description = RunDescription(
        RunOptions(run_id="stacked"), LabelTable({3: "psoas", 9: "rectus"}),
        DataOptions(image_size=64, pixel_mm=6.5, channel_3d=True, hu_min=-200, hu_max=300),
        NetworkOptions(model_choice="segresnet"),
        FitOptions(), AugmentOptions(), MixupOptions(), PredictedOptions(), "random", {},
    )  # fmt: skip
    model = SarcoModel(description)
    run = RunStore(folder / "checkpoints").create("stacked", "Trains", True)
    content = {"state_dict": model.state_dict(), "hyper_parameters": description.to_builtins()}
    torch.save(content, run.checkpoint_path("best"))
    return folder


@pytest.fixture
def call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports to a file and gives it."""
    monkeypatch.setenv("SARCO_MALLOC", "default")  # the setting would stay with the other tests
    monkeypatch.setattr(onnx_file, "quieten_libraries", lambda: None)

    def run(*words: str, name: str = "network.onnx") -> Path:
        file = tmp_path / name
        export.main(["stacked", f"--dirpath={folder / 'checkpoints'}", f"--onnx={file}", *words])
        return file

    return run


def test_the_file_describes_itself_and_gives_what_torch_gives(
    call: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a file that is of no use without its checkpoint, and one that computes something else."""
    import hashlib

    file = call()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == [
        {"channel": 0, "id": 0, "name": "background"},
        {"channel": 1, "id": 3, "name": "psoas"},
        {"channel": 2, "id": 9, "name": "rectus"},
    ]
    assert json.loads(told["window_hu"]) == [-200, 300]
    assert json.loads(told["pixel_mm"]) == 6.5
    assert (told["image_size"], told["slices"], told["run_id"]) == ("64", "3", "stacked")
    checkpoint = folder / "checkpoints" / "stacked_Trains_3d" / "best.ckpt"
    assert told["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert "body" in told["crop"] and told["sarco_version"]

    images = np.random.default_rng(2).random((2, 3, 64, 64), dtype=np.float32)  # a batch of another size than exported
    model = SarcoModel.from_checkpoint(checkpoint).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(found, expected, atol=1e-3)

    report = json.loads(file.with_suffix(".json").read_text())
    assert report["compared_on"] == "an invented patient"
    assert len(report["slices"]) == 6 and report["dice"] == min(one["dice"] for one in report["slices"]) >= 0.999
    assert report["slices"][0]["largest_difference_of_logits"] < 1e-2
    assert "compared with torch on 6 slices" in capsys.readouterr().out


def test_the_file_says_how_its_input_is_made() -> None:
    """Catches a recipe of the other crop, by which whoever computes outside of sarco gets another scale."""
    field = onnx_file._describe_crop(DataOptions(image_size=64, pixel_mm=6.5))
    box = onnx_file._describe_crop(DataOptions(image_size=64, crop="box"))
    for told in (field, box):
        assert "5 mm margin" in told and "anterior at the top" in told and "-1024 HU" in told and "\n" not in told
    assert "pixels of pixel_mm mm" in field and "1/8" in field and "smallest square" not in field
    assert "smallest square in mm" in box and "pixel_mm" not in box


def test_a_file_that_differs_from_torch_is_not_written(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a parity report that nobody heeds."""
    real = convert.export_onnx

    def wrong(network: SegmentationNetwork, images: Any, **options: Any) -> Any:
        layer = network.head[0]
        with torch.no_grad():
            layer.bias += torch.tensor([0.0, 0.5, 0.0])
            files = real(network, images, **options)
            layer.bias -= torch.tensor([0.0, 0.5, 0.0])
        return files

    monkeypatch.setattr(convert, "export_onnx", wrong)
    with pytest.raises(SarcoError, match=r"gives other masks than torch .* not written"):
        call()
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_overwritten_unasked(call: Any, tmp_path: Path) -> None:
    """Catches a file that is lost, and a folder that is not there ending in a traceback."""
    (tmp_path / "network.onnx").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        call()
    assert (tmp_path / "network.onnx").read_bytes() == b"mine"
    with pytest.raises(InputError, match="cannot be written"):
        call(name="nowhere/x.onnx")
    with pytest.raises(OptionError, match=r"has to end in \.onnx"):
        call(name="x.pt")


def test_real_slices_can_be_compared_on(call: Any, shared_data: Path) -> None:
    """Catches a comparison that works on phantoms only."""
    file = call(f"--infer_path={shared_data / 'odd_series' / 'feet_first_3_slices'}")
    report = json.loads(file.with_suffix(".json").read_text())
    assert report["compared_on"].startswith("series ") and len(report["slices"]) == 3


def test_it_is_called_as_a_module_with_the_run_as_its_first_word(folder: Path, tmp_path: Path) -> None:
    """Catches a command that cannot be found, or takes the id of the run for something else."""
    words = [
        "-m",
        "sarco",
        "export",
        "stacked",
        f"--dirpath={folder / 'checkpoints'}",
        "--onnx",
        "network.txt",
    ]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--onnx=network.txt: has to end in .onnx" in done.stderr
    assert len(done.stderr.splitlines()) == 1
