"""A MONAI bundle runs by itself and gives the masks of `sarco predict`, however an image is stored."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written_layouts import save_image

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
from sarco.crop.monai_transforms import list_bundle_images
from sarco.io.images import find_images
from sarco.io.nifti import open_stored, read_label_map
from sarco.network.device import choose_device
from sarco.network.segmentation import load_network
from sarco.phantom.patient import PhantomOptions, make_phantom, write_series
from sarco.prediction import monai_bundle, onnx_file
from sarco.prediction.pipeline import predict_series
from sarco.prediction.torch_engine import TorchEngine, TorchNetwork
from sarco.runs.store import RunDescription, RunStore
from sarco.scan.labels import LabelTable

LABELS = LabelTable({3: "psoas", 9: "rectus"})
PHANTOM = make_phantom(5, PhantomOptions(n_slices=7, rows=96, columns=104, spacing_mm=(4.0, 3.5, 6.0)))
# sarco cannot be imported there, as where a bundle is used
ALONE = "import sys, runpy; sys.modules['sarco'] = None; runpy.run_module('monai.bundle', run_name='__main__')"


def write_run(folder: Path, channel_3d: bool, **data: Any) -> Path:
    """A run with two labels, whose weights are random but find all three channels."""
    torch.manual_seed(0)
    options = DataOptions(image_size=64, channel_3d=channel_3d, hu_min=-200, hu_max=300, **data)
    description = RunDescription(
        RunOptions(run_id="stacked" if channel_3d else "single"), LABELS, options, NetworkOptions(), FitOptions(),
        AugmentOptions(), MixupOptions(), PredictedOptions(), "random", {},
    )  # fmt: skip
    model = SarcoModel(description).eval()
    image = torch.from_numpy(PHANTOM.hu[:64, :64, :3].astype(np.float32)).clip(-200, 300).movedim(-1, 0) / 500 + 0.4
    with torch.no_grad():  # so that no channel wins everywhere
        logits = model(image[None] if channel_3d else image[:1, None])
        model.network.head[0].bias -= logits.mean(dim=(0, 2, 3))
    run = RunStore(folder).create(description.run.run_id, "Trains", channel_3d)
    content = {"state_dict": model.state_dict(), "hyper_parameters": description.to_builtins()}
    torch.save(content, run.checkpoint_path("best"))
    return run.checkpoint_path("best")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoints of two runs, in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    single = write_run(folder, channel_3d=False, crop="box")
    return {"folder": folder, "single": single, "stacked": write_run(folder, channel_3d=True, pixel_mm=6.5)}


@pytest.fixture
def call(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports a run as a bundle and gives its folder."""
    monkeypatch.setenv("SARCO_MALLOC", "default")  # the setting would stay with the other tests
    monkeypatch.setattr(onnx_file, "quieten_libraries", lambda: None)

    def export_bundle(run_id: str = "stacked", *words: str) -> Path:
        folder = tmp_path / "bundle"
        export.main([run_id, f"--dirpath={runs['folder']}", f"--monai_bundle={folder}", *words])
        return folder

    return export_bundle


def monai(bundle: Path, *words: object) -> str:
    """What ``python -m monai.bundle`` says, started in the bundle, where no sarco is."""
    for package in ("fire", "ignite", "jsonschema"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, words)], cwd=bundle, capture_output=True, text=True, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def write_images(folder: Path) -> dict[str, Path]:
    """One patient as a DICOM series, and in volumes that lie in every way."""
    write_series(PHANTOM, folder / "series", patient_id="P", seed=1)
    orders = {"axial": (1, 0, 2), "sagittal": (2, 0, 1), "coronal": (1, 2, 0), "rows_first": (0, 1, 2)}
    for name, order in orders.items():
        save_image(folder / f"{name}.nii.gz", PHANTOM.hu, PHANTOM.affine_lps, order)
    for axis, name in enumerate(("rows_up", "columns_left", "head_first")):
        affine = PHANTOM.affine_lps.copy()
        affine[:3, 3] += affine[:3, axis] * (PHANTOM.hu.shape[axis] - 1)
        affine[:3, axis] *= -1
        save_image(folder / f"{name}.nii.gz", np.flip(PHANTOM.hu, axis), affine)
    return {"series": folder / "series"} | {path.name.split(".")[0]: path for path in folder.glob("*.nii.gz")}


@pytest.mark.parametrize("run_id", [pytest.param("single", marks=pytest.mark.slow), "stacked"])
def test_a_bundle_gives_the_masks_of_a_prediction(
    call: Any, runs: dict[str, Path], run_id: str, tmp_path: Path
) -> None:
    """Catches a crop that is mirrored or shifted on its way, slices below and above that change places, and masks that
    do not lie on their image."""
    bundle, images = call(run_id), write_images(tmp_path / "images")
    monai(bundle, "run", "--config_file", "configs/inference.json", "--dataset_dir", tmp_path / "images",
          "--output_dir", tmp_path / "masks")  # fmt: skip
    description, network = load_network(runs[run_id])
    torch_network = TorchNetwork(TorchEngine(network, choose_device(-1, "32")))
    for name, path in images.items():
        (series,) = find_images(path).series
        expected = predict_series(torch_network, series, description.data, description.labels).label_map
        assert set(np.unique(expected)) == {0, 3, 9}
        found = read_label_map(tmp_path / "masks" / f"{name}_label_map.nii.gz")
        for place, plane in enumerate(series.plane_index):
            header = series.slices[place]
            laid = found.on_slice(header.affine_lps, header.shape, header.path)
            # rounding may decide where two random channels are equal
            assert np.count_nonzero(laid != expected[:, :, plane]) <= 2e-3 * laid.size, (name, plane)
        if path.is_file():  # on the very grid of the file, not on one that is turned
            stored = [open_stored(one, "image").image for one in (path, found.path)]
            assert stored[0].shape == stored[1].shape
            np.testing.assert_allclose(stored[0].affine, stored[1].affine, atol=1e-4)


def test_monai_verifies_the_bundle(call: Any, tmp_path: Path) -> None:
    """Catches a bundle that MONAI's own checks refuse, and weights that cannot be loaded without running code."""
    bundle = call()
    schema = tmp_path / "schema.json"  # what MONAI's meta_schema_20240725.json demands
    tensor = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"]
    every = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object", "required": tensor}}
    schema.write_text(json.dumps({
        "required": ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description",
                     "required_packages_version", "authors", "copyright", "network_data_format"],
        "properties": {"network_data_format": {"properties": {"inputs": every, "outputs": every}}},
    }))  # fmt: skip
    meta, config = "configs/metadata.json", "configs/inference.json"
    assert "metadata is verified" in monai(bundle, "verify_metadata", "--meta_file", meta, "--filepath", schema)
    net = monai(bundle, "verify_net_in_out", "network_def", "--meta_file", meta, "--config_file", config)
    assert "data shape of network is verified" in net
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert set(weights) == set(torch.jit.load(bundle / "models" / "model.ts").state_dict())
    told = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert told["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background", "1": "psoas", "2": "rectus",
    }  # fmt: skip
    assert told["network_data_format"]["inputs"]["image"]["num_channels"] == 3
    assert "9 rectus" in told["pred_classes"]
    readme = (bundle / "docs" / "README.md").read_text()
    assert "python -m monai.bundle run" in readme and "psoas, rectus" in readme


def test_scripts_of_a_bundle_need_no_sarco() -> None:
    """Catches a module that a bundle lacks."""
    scripts = monai_bundle.carried_scripts()
    assert {"scripts/crop/monai_transforms.py", "scripts/crop/body.py", "scripts/scan/view.py"} <= set(scripts)
    for place, text in scripts.items():
        compile(text, place, "exec")
        assert "import sarco" not in text and "from sarco" not in text, place


def test_a_bundle_that_differs_is_not_written(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a comparison that nobody heeds."""
    real = monai_bundle.compare_channels

    def shifted(one: Any, two: Any, n_channels: int) -> Any:
        return real(one, np.roll(two, 1, axis=0), n_channels)

    monkeypatch.setattr(monai_bundle, "compare_channels", shifted)
    with pytest.raises(SarcoError, match=r"gives other masks than sarco .* not written"):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_replaces_nothing_else(call: Any, tmp_path: Path) -> None:
    """Catches a folder of a person's own files that is lost."""
    with pytest.raises(OptionError, match="--onnx is missing: give --onnx=FILE"):
        export.main(["stacked"])
    mine = tmp_path / "bundle" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        call()
    with pytest.raises(InputError, match="is no MONAI bundle"):
        call("stacked", "--overwrite=yes")
    assert mine.read_text() == "mine"
    mine.unlink()
    bundle = call()
    (bundle / "old.txt").touch()
    call("single", "--overwrite=yes")
    assert not (bundle / "old.txt").exists()


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    """Catches a run over nothing that looks like success."""
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match="holds no NIfTI volume and no folder with a DICOM series"):
        list_bundle_images(str(tmp_path))
