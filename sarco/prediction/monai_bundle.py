"""Writes a run as a MONAI bundle that needs no sarco, after comparing its masks with those of `sarco predict`.

Source:
    https://docs.monai.io/en/latest/mb_specification.html (folders and files), MONAI's meta_schema_20240725.json.
"""

import ast
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import sarco
from sarco.core.errors import InputError, SarcoError
from sarco.core.files import chosen_folder, write_json
from sarco.core.options import ExportOptions
from sarco.core.resources import writing
from sarco.prediction.judge import Agreement, compare_channels
from sarco.prediction.onnx_file import Figures, load_run, series_to_compare_on

if TYPE_CHECKING:  # seconds to import
    from sarco.network.segmentation import SegmentationNetwork
    from sarco.runs.store import Provenance, RunDescription

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_CARRIED = "crop.monai_transforms"
# What the bundle needs besides MONAI, torch and numpy; the tests ran with these.
_NEEDED = {"fire": "0.7", "nibabel": "5.4", "opencv-python-headless": "5.0", "pydicom": "3.0", "pytorch-ignite": "0.5"}


def write_monai_bundle(options: ExportOptions) -> Agreement:
    """Writes the folder ``--monai_bundle``, and gives back how its masks compare with sarco's.

    Raises:
        SarcoError: the run cannot be exported, the bundle gives other masks, or the folder cannot be written.
    """
    folder = options.monai_bundle
    assert folder
    _check_place(folder, options.overwrite)
    description, network, provenance = load_run(options)
    with chosen_folder(folder, "monai_bundle", replace=options.overwrite) as building:
        with writing("the bundle", folder, "or choose another --monai_bundle"):
            _fill(building, description, network, provenance)
        return _compare(building, description, network, options.infer_path)


def _check_place(folder: Path, overwrite: bool) -> None:
    """Raises an `InputError` where something is there that may not, or should not, be replaced."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not overwrite:
        raise InputError(f"{folder}: exists already; choose another --monai_bundle, or --overwrite=yes to replace it")
    if folder.exists() and not (folder / "configs" / "metadata.json").is_file():
        raise InputError(f"{folder}: is no MONAI bundle, so it is not replaced; choose another --monai_bundle")


def _fill(
    building: Path, description: "RunDescription", network: "SegmentationNetwork", provenance: "Provenance"
) -> None:
    """Writes configs, models, scripts and a README."""
    import torch

    from sarco.prediction.convert import export_torchscript

    side, _ = description.data.crop_size
    image = np.zeros((1, 3 if description.data.channel_3d else 1, side, side), dtype=np.float32)
    for name in ("configs", "models", "docs", "scripts"):
        (building / name).mkdir()
    (building / "models" / "model.ts").write_bytes(export_torchscript(network, image))
    torch.save({name: value.contiguous() for name, value in network.state_dict().items()}, building / "models/model.pt")
    write_json(building / "configs" / "metadata.json", _metadata(description, provenance))
    write_json(building / "configs" / "inference.json", _inference(description))
    (building / "docs" / "README.md").write_text(_readme(description, provenance), encoding="utf-8")
    for place, text in carried_scripts().items():
        (building / place).parent.mkdir(parents=True, exist_ok=True)
        (building / place).write_text(text, encoding="utf-8")


def carried_scripts() -> dict[str, str]:
    """The modules of sarco that the transforms need, as files of a bundle's own ``scripts/``: path to text."""
    head = f"# From sarco {sarco.__version__}, Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0\n"
    scripts, waiting = {"scripts/__init__.py": head}, [f"sarco.{_CARRIED}"]
    while waiting:
        name = waiting.pop()
        place = f"scripts/{name.removeprefix('sarco.').replace('.', '/')}.py"
        if place in scripts:
            continue
        spec = find_spec(name)
        assert spec and spec.origin
        text = Path(spec.origin).read_text(encoding="utf-8")
        imported = [node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        waiting += [module for module in imported if module and module.startswith("sarco.")]
        scripts[place] = head + text.replace("from sarco.", "from scripts.")
        scripts[str(Path(place).parent / "__init__.py")] = head
    return scripts


def _metadata(description: "RunDescription", provenance: "Provenance") -> Figures:
    """``metadata.json``, as MONAI's schema wants it."""
    names = {0: "background", **description.labels.names}
    side, _ = description.data.crop_size
    n_slices = 3 if description.data.channel_3d else 1
    tensor = {"type": "image", "spatial_shape": [side, side], "dtype": "float32", "is_patch_data": False}
    slices = ("slice below", "slice", "slice above") if n_slices == 3 else ("slice",)
    image = {
        **tensor, "format": "hounsfield", "modality": "CT", "num_channels": n_slices, "value_range": [0, 1],
        "channel_def": dict(enumerate(slices)),
    }  # fmt: skip
    pred = {
        **tensor, "format": "segmentation", "num_channels": len(names), "value_range": [],
        "channel_def": dict(enumerate(names.values())),
    }  # fmt: skip
    told = f"Segments {', '.join(description.labels.names.values())} on axial CT, slice by slice."
    from_run = f"run {provenance.run_id}, checkpoint sha256 {provenance.sha256}, sarco {sarco.__version__}"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": from_run},
        **{f"{key}_version": metadata.version(name).split("+")[0]
           for key, name in (("monai", "monai"), ("pytorch", "torch"), ("numpy", "numpy"))},
        "required_packages_version": _NEEDED,
        "name": provenance.run_id,
        "task": "Segmentation of axial CT",
        "description": f"{told} {provenance.notice}".strip(),
        "authors": "whoever trained this run; name them here",
        "copyright": "of the weights: whoever trained this run; of scripts/: the sarco maintainers, Apache-2.0",
        "intended_use": "research; not validated for clinical use",
        "data_type": "NIfTI or DICOM, axial CT in HU",
        "pred_classes": "label ids: " + ", ".join(f"{number} {name}" for number, name in names.items()),
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }  # fmt: skip


def _inference(description: "RunDescription") -> Figures:
    """``inference.json``: what `sarco predict` does, as MONAI writes it down."""
    data = description.data
    side, pixel_mm = data.crop_size
    transforms = f"scripts.{_CARRIED}"
    crop = {
        "_target_": f"{transforms}.CropSlicesd", "keys": "image", "image_size": side, "pixel_mm": pixel_mm,
        "n_neighbours": 3 if data.channel_3d else 1, "label_ids": [0, *description.labels.ids],
    }  # fmt: skip
    window = {"a_min": data.hu_min, "a_max": data.hu_max, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "data": {"_target_": f"{transforms}.list_bundle_images", "path": "@dataset_dir"},
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                crop,
                {"_target_": "ScaleIntensityRanged", "keys": "image", **window},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "SliceInferer", "roi_size": [side, side], "spatial_dim": 2, "sw_batch_size": 8},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                    "nearest_interp": False,
                },
                {
                    "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "separate_folder": False,
                    "output_postfix": "label_map", "output_dtype": "$np.uint8", "resample": False,
                },
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"}, "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _readme(description: "RunDescription", provenance: "Provenance") -> str:
    """How one runs it."""
    packages = " ".join(f"'{name}>={version}'" for name, version in _NEEDED.items())
    return f"""# {provenance.run_id}

Segments {", ".join(description.labels.names.values())} on axial CT. {provenance.notice}

    pip install 'monai>=1.6' {packages}
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir MASKS

Start it in this folder. `IMAGES` holds NIfTI volumes in HU and folders with a DICOM series each, and no label maps; or
it is such a folder itself. `MASKS` gets `NAME_label_map.nii.gz` on the grid of each image. MONAI reads the images and
does not check what `sarco predict` checks: that a series is whole, is axial CT, and is in HU.

`models/model.ts` is the network as TorchScript, `models/model.pt` its weights, which are loaded into it.
`scripts/` holds the crop to the body and the way back; it needs no sarco.
"""


def _compare(
    building: Path, description: "RunDescription", network: "SegmentationNetwork", infer_path: Path | None
) -> Agreement:
    """What the bundle's own files give beside `sarco predict`.

    Raises:
        SarcoError: their masks differ, or the series has gaps, which MONAI would not see.
    """
    from sarco.io.images import read_hu
    from sarco.io.nifti import read_label_map, write_volume
    from sarco.network.device import choose_device
    from sarco.prediction.pipeline import predict_series
    from sarco.prediction.torch_engine import TorchEngine, TorchNetwork

    torch_engine = TorchEngine(network, choose_device(-1, "32"))
    with tempfile.TemporaryDirectory() as scratch:
        series = series_to_compare_on(infer_path, Path(scratch))
        if len(series.slices) != series.shape[2]:
            raise InputError(f"{series.slices[0].path.parent}: planes are missing; give a whole series as --infer_path")
        predicted = predict_series(TorchNetwork(torch_engine), series, description.data, description.labels)
        volume = Path(scratch) / "volume.nii"
        write_volume(volume, np.stack([read_hu(header) for header in series.slices], axis=-1), series.affine_lps)
        _run_bundle(building, volume)
        found = read_label_map(volume.with_name("volume_label_map.nii.gz"))
    agreement = compare_channels(predicted.label_map, found.ids, 1 + max(description.labels.ids))
    if not agreement.holds:
        raise SarcoError(
            f"the MONAI bundle gives other masks than sarco ({agreement}), so it is not written; please report this"
        )
    return agreement


def _run_bundle(building: Path, volume: Path) -> None:
    """What ``python -m monai.bundle run`` does, without the packages that its loop needs."""
    import torch
    from monai.bundle import ConfigParser

    text = (building / "configs" / "inference.json").read_text(encoding="utf-8")
    config = json.loads(text.replace(f"scripts.{_CARRIED}", f"sarco.{_CARRIED}"))
    parser = ConfigParser({**config, "bundle_root": str(building), "output_dir": str(volume.parent), "device": "cpu"})
    with warnings.catch_warnings(), torch.no_grad(), _silence():
        warnings.simplefilter("ignore")
        data = parser.get_parsed_content("preprocessing")({"image": str(volume)})
        network = parser.get_parsed_content("network").eval()
        network.load_state_dict(torch.load(building / "models" / "model.pt", weights_only=True))
        pred = parser.get_parsed_content("inferer")(data["image"][None], network)
        parser.get_parsed_content("postprocessing")({**data, "pred": pred[0]})


@contextmanager
def _silence() -> Iterator[None]:
    """Without what MONAI's loggers say of readers and files."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
