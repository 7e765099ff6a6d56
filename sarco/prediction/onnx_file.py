"""Writes the network of a run as an ONNX file that describes itself, after comparing it with torch."""

import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco.core.command import quieten_libraries, tune_allocator
from sarco.core.options import ExportOptions
from sarco.core.training_options import DataOptions

if TYPE_CHECKING:  # seconds to import
    from sarco.network.segmentation import SegmentationNetwork
    from sarco.runs.store import Provenance, RunDescription
    from sarco.scan.series import Series

INVENTED_SLICES = 6
Figures = dict[str, Any]


def write_onnx_file(options: ExportOptions) -> Figures:
    """Writes ``FILE.onnx`` and, beside it, ``FILE.json`` with the comparison, which is what it gives back.

    Raises:
        SarcoError: the run cannot be exported, its file gives other masks than torch, or cannot be written.
    """
    import numpy as np

    from sarco.core.errors import InputError
    from sarco.core.files import atomic_file, write_json
    from sarco.prediction.convert import export_onnx
    from sarco.prediction.engine import check_packages

    file_path = options.onnx
    assert file_path
    if file_path.exists() and not options.overwrite:
        raise InputError(f"{file_path}: exists already; choose another --onnx, or --overwrite=yes to replace it")
    check_packages("onnx")
    description, network, provenance = load_run(options)
    data = description.data
    side, _ = data.crop_size
    shape = (1, 3 if data.channel_3d else 1, side, side)
    exported = export_onnx(network, np.zeros(shape, dtype=np.float32), keep_names=True)["model.onnx"]
    content = _describe(exported, description, provenance.sha256)
    report = _compare(network, data, content, options.infer_path)
    try:
        with atomic_file(file_path, replace=options.overwrite) as file:
            file.write(content)
        write_json(file_path.with_suffix(".json"), report)
    except FileExistsError:
        raise InputError(f"{file_path}: was made by another process meanwhile and stays; export again") from None
    except OSError as error:
        raise InputError(f"{file_path}: cannot be written ({error.strerror}); choose another --onnx") from None
    return report


def load_run(options: ExportOptions) -> "tuple[RunDescription, SegmentationNetwork, Provenance]":
    """What a run is, its network with its weights, and where these come from.

    Raises:
        CheckpointError: there is no such run, or its checkpoint cannot be used.
    """
    from sarco.network.segmentation import load_network
    from sarco.runs.store import Provenance, RunStore

    tune_allocator()
    project = options.ckpt_wandb_project
    checkpoint = RunStore(options.dirpath).checkpoint(options.run_id, project or None, options.ckpt_choice)
    quieten_libraries()
    description, network = load_network(checkpoint)
    return description, network, Provenance.of(options.run_id, project, checkpoint)


def _describe(content: bytes, description: "RunDescription", sha256: str) -> bytes:
    """The ONNX file with all that one needs to use it, as text in its ``metadata_props``."""
    import onnx

    import sarco

    names = {0: "background", **description.labels.names}
    channels = [{"channel": k, "id": i, "name": name} for k, (i, name) in enumerate(names.items())]
    network = {  # what another training needs to take the weights over, see sarco/network/warm_start.py
        "backbone": description.network.backbone,
        "model_choice": description.network.model_choice,
        "activation": description.activation,
        "pixel_mm": description.data.pixel_mm,
    }
    told: dict[str, Any] = {
        "sarco_version": sarco.__version__,
        "run_id": description.run.run_id,
        "checkpoint_sha256": sha256,
        "labels": channels,
        "window_hu": [description.data.hu_min, description.data.hu_max],
        "image_size": description.data.image_size,
        "pixel_mm": description.data.pixel_mm,
        "slices": 3 if description.data.channel_3d else 1,
        "network": network,
        "crop": _describe_crop(description.data),
        "input": "image: (batch, slices, row, column) float32; HU clipped to window_hu and scaled to 0..1",
        "output": "logits: (batch, channel, row, column); softmax gives probabilities",
    }
    proto = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(
        proto, {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    )
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _describe_crop(data: DataOptions) -> str:
    """How a slice becomes an input, for whoever does it outside of sarco."""
    from sarco.crop.grid import FIELD_STEPS
    from sarco.scan.hu import AIR_HU

    box = "the box around the body (sarco/crop/body.py, 5 mm margin; of three slices around all their bodies)"
    seen = "seen as radiologists see it (patient's right at the left edge, anterior at the top)"
    if data.pixel_mm is None:
        square = f"the smallest square in mm with {box} in its centre, {seen}, resized to image_size pixels per side"
    else:
        square = (
            f"image_size x image_size pixels of pixel_mm mm with {box} in their centre, {seen}; where the box is wider "
            f"than that, pixels are larger by the fewest whole times 1/{FIELD_STEPS} with which it fits in; where they "
            "are as large as the slice's, they lie on them"
        )
    return (
        f"{square}; taken linearly, air ({AIR_HU:.0f} HU) beyond the slice; where a pixel spans s > 1.2 pixels of the "
        "slice, that is first blurred by a Gaussian of sigma 0.5 * sqrt(s^2 - 1) of its own pixels"
    )


def _compare(network: "SegmentationNetwork", data: DataOptions, content: bytes, infer_path: Path | None) -> Figures:
    """What the file gives beside torch, slice by slice.

    Raises:
        SarcoError: their masks differ.
    """
    with tempfile.TemporaryDirectory() as scratch:
        series = series_to_compare_on(infer_path, Path(scratch))
        slices = _compare_slices(network, data, content, series)
    report = {
        "compared_on": "an invented patient" if infer_path is None else f"series {series.uid}",
        "dice": min(one["dice"] for one in slices),
        "area_difference": max(one["area_difference"] for one in slices),
        "versions": {name: metadata.version(name) for name in ("torch", "onnx", "onnxruntime")},
        "slices": slices,
    }
    from sarco.core.errors import SarcoError
    from sarco.prediction.judge import Agreement

    n_pixels = sum(one["labelled_pixels"] for one in slices)
    if not Agreement(report["dice"], report["area_difference"], n_pixels).holds:
        raise SarcoError(
            f"the exported network gives other masks than torch (Dice {report['dice']:.5f}, area "
            f"{100 * report['area_difference']:.2f} % apart), so it is not written; please report this"
        )
    return report


def series_to_compare_on(infer_path: Path | None, scratch: Path) -> "Series":
    """The series that a path holds; without one an invented patient, whose files go to ``scratch``.

    Raises:
        SarcoError: nothing there can be predicted.
    """
    from sarco.io.images import find_images

    if infer_path is None:
        from sarco.phantom.patient import PhantomOptions, make_phantom, write_series

        write_series(make_phantom(1, PhantomOptions(n_slices=INVENTED_SLICES)), scratch, patient_id="P", seed=1)
    found = find_images(infer_path or scratch)
    if not found.series:
        raise found.refused[-1]
    return found.series[0]


def _compare_slices(
    network: "SegmentationNetwork", data: DataOptions, content: bytes, series: "Series"
) -> list[Figures]:
    import numpy as np

    from sarco.crop.slices import SlicePreparer
    from sarco.network.device import choose_device
    from sarco.prediction.judge import compare_engines
    from sarco.prediction.onnx_engine import OnnxEngine
    from sarco.prediction.torch_engine import TorchEngine

    exact, exported = TorchEngine(network, choose_device(-1, "32")), OnnxEngine(content)
    prepare = SlicePreparer(series, data)
    slices = []
    for place, plane in enumerate(series.plane_index):
        image = prepare(place).image[None]
        expected, found = exact(image), exported(image)
        agreement = compare_engines(expected, found)
        slices.append(
            {
                "slice_index": plane,
                "dice": agreement.dice,
                "area_difference": agreement.area_difference,
                "labelled_pixels": agreement.n_pixels,
                "largest_difference_of_logits": float(np.abs(expected - found).max()),
            }
        )
    return slices
