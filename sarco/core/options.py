"""Options and what they mean: one frozen dataclass per consumer; the parser is made from their fields."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from sarco.core.parser import (
    BASICS,
    DATA,
    INFERENCE,
    MEASURING,
    NO,
    OPTIMISATION,
    REGULARISATION,
    STACKING,
    YES,
    flag,
    require,
)

RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
PROJECT = re.compile(r"[^/\\#?%:.\x00-\x1f][^/\\#?%:\x00-\x1f]*")  # what both W&B and file systems take
BACKBONES = tuple(f"efficientnet-b{n}" for n in range(8))
CROP_MULTIPLE = 32  # the encoder halves five times


def _check_wandb(value: str) -> str:
    word = value.lower()
    if word in (*YES, *NO):
        return "yes" if word in YES else "no"
    require(word in ("online", "offline"), "wandb", value, "give online, offline, yes or no")
    return word


def _check_project(name: str, value: str) -> None:
    require(
        bool(PROJECT.fullmatch(value)), name, value, r"a project name holds none of / \ # ? % : and starts with no dot"
    )


@dataclass(frozen=True)
class DataOptions:
    """What the training data is and how a slice becomes the network's input."""

    data_dir: Path = flag(
        Path("./data/dataset"),
        DATA,
        "folder with NAME.dcm beside NAME.nii.gz, or CASE/ beside CASE.nii.gz; nested as you like",
    )
    val_fraction: float = flag(0.2, DATA, "share of the slices for validation, in whole patients")
    seed: int = flag(0, DATA, "split, first weights, order, augmentation, mixup: the same seed gives the same run")
    batch_size: int = flag(16, BASICS, "slices a step; even")
    image_size: int = flag(512, BASICS, "side of the square that the body is cropped and resized to; a multiple of 32")
    hu_min: float = flag(-250.0, BASICS, "lower end of the HU window")
    hu_max: float = flag(250.0, BASICS, "upper end of the HU window")
    channel_3d: bool = flag(False, STACKING, "three neighbouring slices as channels; the mask is the middle one's")
    num_workers: int = flag(0, STACKING, "loader processes")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "has to lie between 0 and 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "has to lie between 0 and 4294967295")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "has to be 2 or more")
        require(self.batch_size % 2 == 0, "batch_size", self.batch_size, "has to be even, for example "
                 f"{self.batch_size + 1}")  # fmt: skip
        rounded = max(1, round(self.image_size / CROP_MULTIPLE)) * CROP_MULTIPLE
        require(
            self.image_size == rounded,
            "image_size",
            self.image_size,
            f"has to be a multiple of 32, for example {rounded}",
        )
        for name in ("hu_min", "hu_max"):
            require(math.isfinite(getattr(self, name)), name, getattr(self, name), "has to be a finite number")
        require(self.hu_min < self.hu_max, "hu_min", self.hu_min, f"has to be below --hu_max ({self.hu_max})")
        require(self.num_workers >= 0, "num_workers", self.num_workers, "has to be 0 or more")


@dataclass(frozen=True)
class AugmentOptions:
    """How training slices are varied."""

    do_flips: bool = flag(False, REGULARISATION, "flips and quarter rotations")
    do_elastic_transforms: bool = flag(
        False, REGULARISATION, "elastic deformation, small rotation, other size; either flag adds light changes of HU"
    )
    aug_prob: float = flag(0.2, REGULARISATION, "probability of each augmentation; training slices only")

    def __post_init__(self) -> None:
        """Checks the range."""
        require(0 <= self.aug_prob <= 1, "aug_prob", self.aug_prob, "has to lie in 0..1")


@dataclass(frozen=True)
class MixupOptions:
    """How training samples are mixed with each other."""

    mixup: str = flag("no", REGULARISATION, "mix pairs of samples", choices=("no", "input", "manifold"))
    mixup_alpha: float = flag(0.3, REGULARISATION, "the share of a sample is drawn from Beta(alpha, alpha)")
    mixed_layer: str = flag(
        "random",
        REGULARISATION,
        "encoder level that manifold mixup mixes: 0 (the image) to 5, or random for each batch",
    )

    def __post_init__(self) -> None:
        """Checks the choices and ranges."""
        require(self.mixup in ("no", "input", "manifold"), "mixup", self.mixup, "choose no, input or manifold")
        alpha = self.mixup_alpha
        require(math.isfinite(alpha) and alpha > 0, "mixup_alpha", alpha, "has to be above 0")
        level = self.mixed_layer
        require(level in ("random", *"012345"), "mixed_layer", level, "give 0 to 5, or random")


@dataclass(frozen=True)
class PredictedOptions:
    """Which predictions join the human labels (self-distillation)."""

    add_predicted_data: bool = flag(False, STACKING, "self-distillation: learn from predictions of an earlier run too")
    path_to_prediction: tuple[Path, ...] = flag(
        (), STACKING, "results folder of inference.py; give the flag once for each folder, or several with commas"
    )
    predicted_data_to: str = flag(
        "train", STACKING, "where predictions go; no patient ends up on both sides", choices=("train", "val", "both")
    )
    min_confidence: float = flag(0.9, STACKING, "predicted slices below this mean confidence are left out")
    predicted_weight: float = flag(0.5, STACKING, "weight of a predicted slice in the loss; a human label has 1")

    def __post_init__(self) -> None:
        """Checks the ranges, and that the flags fit together."""
        paths = self.path_to_prediction
        require(bool(paths) or not self.add_predicted_data, "add_predicted_data", "yes", "needs --path_to_prediction")
        require(
            self.add_predicted_data or not paths, "path_to_prediction", ",".join(map(str, paths)),
            "does nothing without --add_predicted_data=yes; add it",
        )  # fmt: skip
        for name in ("min_confidence", "predicted_weight"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "has to lie in 0..1")


@dataclass(frozen=True)
class ResumeOptions:
    """Whether an earlier run goes on."""

    resume_training: bool = flag(False, OPTIMISATION, "go on with an earlier run after its last finished epoch")
    ckpt_path_to_resume_from: Path | None = flag(
        None, OPTIMISATION, "that run's folder <run_id>_<wandb_project>[_3d], or one of its .ckpt files"
    )

    def __post_init__(self) -> None:
        """Checks that the flags fit together."""
        path = self.ckpt_path_to_resume_from
        require(
            path is not None or not self.resume_training, "resume_training", "yes", "needs --ckpt_path_to_resume_from"
        )
        require(
            self.resume_training or path is None, "ckpt_path_to_resume_from", path,
            "does nothing without --resume_training=yes; add it",
        )  # fmt: skip


@dataclass(frozen=True)
class NetworkOptions:
    """What the network is."""

    backbone: str = flag("efficientnet-b0", BASICS, "encoder: efficientnet-b0 to -b7", choices=BACKBONES)
    model_choice: str = flag("unet", BASICS, "decoder", choices=("unet", "segresnet"))
    pretrained: str = flag(
        "auto", BASICS, "encoder weights: auto (ImageNet where they can be had), imagenet, no, or a file with weights"
    )

    def __post_init__(self) -> None:
        """Checks the choices."""
        require(self.backbone in BACKBONES, "backbone", self.backbone, f"choose from {', '.join(BACKBONES)}")
        require(
            self.model_choice in ("unet", "segresnet"), "model_choice", self.model_choice, "choose unet or segresnet"
        )
        known = self.pretrained in ("auto", "imagenet", "no") or Path(self.pretrained).is_file()
        require(known, "pretrained", self.pretrained, "give auto, imagenet, no, or a file that exists")


@dataclass(frozen=True)
class FitOptions:
    """How the network is fitted."""

    max_epochs: int = flag(30, BASICS, "epochs; -1 = until early stopping or Ctrl-C")
    learning_rate: float = flag(1e-4, BASICS, "step size of the optimiser")
    scheduler: str = flag(
        "none", BASICS, "cosine: warm-up, then cosine; step: /10 at 80 %% and /5 at 90 %% of the epochs",
        choices=("none", "cosine", "step"),
    )  # fmt: skip
    warmup_epochs: int = flag(10, BASICS, "warm-up of the cosine scheduler, at most a third of the run")
    precision: str = flag(
        "auto", BASICS, "auto: fastest that is safe on the device", choices=("auto", "32", "bf16", "16")
    )
    accumulate_grad_batches: int = flag(1, OPTIMISATION, "batches whose gradients make one step together")
    early_stopping: bool = flag(
        True, OPTIMISATION, "stop when the best validation average precision is no longer beaten"
    )
    patience: int = flag(7, OPTIMISATION, "epochs without an increase before stopping")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        epochs = self.max_epochs
        require(epochs == -1 or epochs >= 1, "max_epochs", epochs, "has to be 1 or more, or -1 for no limit")
        rate = self.learning_rate
        require(math.isfinite(rate) and rate > 0, "learning_rate", rate, "has to be above 0")
        require(self.scheduler in ("none", "cosine", "step"), "scheduler", self.scheduler, "give none, cosine or step")
        require(
            epochs != -1 or self.scheduler == "none", "scheduler", self.scheduler,
            "needs to know the end of the run; give --max_epochs or --scheduler=none",
        )  # fmt: skip
        require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "has to be 0 or more")
        require(self.patience >= 1, "patience", self.patience, "has to be 1 or more")
        n = self.accumulate_grad_batches
        require(n >= 1, "accumulate_grad_batches", n, "has to be 1 or more")


@dataclass(frozen=True)
class RunOptions:
    """Where a training runs and where it leaves its traces."""

    dirpath: Path = flag(Path("./checkpoints"), DATA, "folder for checkpoints: DIRPATH/<run_id>_<wandb_project>[_3d]/")
    cache: bool = flag(True, DATA, "keep prepared slices on disk for later runs; no = in memory, nothing stays")
    cache_dir: Path | None = flag(None, DATA, "folder for prepared slices, instead of DIRPATH/.cache")
    wandb_project: str = flag("Trains", DATA, "Weights & Biases project")
    wandb: str = flag("yes", DATA, "online, offline or no; yes = online where an API key is configured, else offline")
    gpu: int = flag(0, DATA, "which GPU; -1 asks for the CPU, which is also used where there is no GPU")
    devices: int = flag(1, STACKING, "GPUs (from --gpu on) or CPU processes a machine that train together")
    num_nodes: int = flag(1, STACKING, "machines that train together")
    run_id: str = flag("", DATA, "names the run: letters, digits, - and _ (default: fresh 8 characters)")

    def __post_init__(self) -> None:
        """Checks the names."""
        object.__setattr__(self, "wandb", _check_wandb(self.wandb))
        _check_project("wandb_project", self.wandb_project)
        ok = not self.run_id or RUN_ID.fullmatch(self.run_id)
        require(bool(ok), "run_id", self.run_id, "may hold letters, digits, - and _ only")
        require(
            self.cache or self.cache_dir is None, "cache_dir", self.cache_dir, "does nothing with --cache=no; drop one"
        )
        require(self.gpu >= -1, "gpu", self.gpu, "has to be the number of a GPU, or -1 for the CPU")
        require(self.devices >= 1, "devices", self.devices, "has to be 1 or more")
        require(self.num_nodes >= 1, "num_nodes", self.num_nodes, "has to be 1 or more")
        require(
            self.num_nodes == 1 or bool(self.run_id), "num_nodes", self.num_nodes, "needs --run_id, the same on each"
        )

    @property
    def cache_root(self) -> Path | None:
        """The folder for prepared slices; None where they are kept in memory."""
        return (self.cache_dir or self.dirpath / ".cache") if self.cache else None


@dataclass(frozen=True)
class InferenceOptions:
    """What is predicted, by which run, and where the results go."""

    infer_path: Path = flag(
        None,
        INFERENCE,
        "a DICOM series, a tree with several (each is predicted), one slice, or a NIfTI volume in HU; required",
    )
    run_id: str = flag("", INFERENCE, "the run whose checkpoint predicts; required")
    dirpath: Path = flag(Path("./checkpoints"), INFERENCE, "folder with the checkpoints")
    ckpt_choice: str = flag("best", INFERENCE, "which checkpoint of the run", choices=("best", "last"))
    ckpt_wandb_project: str = flag("", INFERENCE, "project the run was trained in, where its id is not unique")
    wandb_project: str = flag(
        "Predictions", INFERENCE, "Weights & Biases project that predictions are logged to", name="log_wandb_project"
    )
    wandb: str = flag(
        "yes", INFERENCE, "online, offline or no; yes = online where an API key is configured, else offline"
    )
    gpu: int = flag(0, INFERENCE, "which GPU; -1 asks for the CPU, which is also used where there is no GPU")
    engine: str = flag(
        "auto",
        INFERENCE,
        "what computes: auto = torch on a GPU; on a CPU OpenVINO where it is installed and its masks are the same",
        choices=("auto", "torch", "openvino", "onnx"),
    )
    precision: str = flag(
        "auto", INFERENCE, "auto: fastest that is safe on the device", choices=("auto", "32", "bf16", "16")
    )
    dest_dir: Path = flag(Path("./data"), INFERENCE, "results go to DEST_DIR/preds_from_<run_id>_of_<scan name>/")
    allow_gaps: bool = flag(
        False, INFERENCE, "predict a series with uneven gaps in parts with equal steps, instead of refusing it"
    )
    overwrite: bool = flag(False, INFERENCE, "replace results that are there already")
    batch_size: int = flag(8, INFERENCE, "slices a forward pass")
    show_identity: bool = flag(False, INFERENCE, "name, PatientID and birth date in review.html")
    dicom_seg: bool = flag(False, INFERENCE, "write the label map as DICOM segmentation too (needs highdicom)")
    dicom_sr: bool = flag(False, INFERENCE, "write a DICOM measurement report; needs --dicom_seg=yes")
    dicom_sc: bool = flag(False, INFERENCE, "write the contact sheet as DICOM secondary capture (needs highdicom)")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        object.__setattr__(self, "wandb", _check_wandb(self.wandb))
        require(
            self.dicom_seg or not self.dicom_sr, "dicom_sr", "yes", "refers to the segmentation; add --dicom_seg=yes"
        )
        require(self.infer_path is not None, "infer_path", "", "is needed: the DICOM series to predict")
        require(bool(self.run_id), "run_id", "", "is needed: the run whose checkpoint predicts")
        _check_project("wandb_project", self.wandb_project)
        require(self.gpu >= -1, "gpu", self.gpu, "has to be the number of a GPU, or -1 for the CPU")
        engines = ("auto", "torch", "openvino", "onnx")
        require(self.engine in engines, "engine", self.engine, f"choose from {', '.join(engines)}")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "has to be 1 or more")


@dataclass(frozen=True)
class MeasurementOptions:
    """What is measured in a prediction, and whose it is."""

    l3: str = flag("", MEASURING, "the slice of L3: its index, z=<mm>, or its SOPInstanceUID")
    vertebrae: Path | None = flag(
        None, MEASURING, "NIfTI label map of vertebrae on the grid of the series, to find L3 in"
    )
    l3_label: int = flag(0, MEASURING, "label of L3 in --vertebrae")
    patients: Path | None = flag(
        None, MEASURING, "CSV with PatientID or StudyInstanceUID, sex, height, weight_kg, age_years"
    )
    muscle_labels: str = flag(
        "",
        MEASURING,
        "labels that together are the muscle of a cross-section: names or ids with commas, or all",
    )
    hu_ranges: str = flag(
        "", MEASURING, "HU ranges other than the published ones, such as muscle=-29:150,imat=-190:-30"
    )


@dataclass(frozen=True)
class ExportOptions:
    """Which run becomes an ONNX file, and what the file is checked on."""

    run_id: str = flag("", INFERENCE, "the run whose checkpoint is exported; required")
    onnx: Path = flag(
        None, INFERENCE, "the file to write, FILE.onnx; FILE.json beside it tells how it was checked; required"
    )
    dirpath: Path = flag(Path("./checkpoints"), INFERENCE, "folder with the checkpoints")
    ckpt_choice: str = flag("best", INFERENCE, "which checkpoint of the run", choices=("best", "last"))
    ckpt_wandb_project: str = flag("", INFERENCE, "project the run was trained in, where its id is not unique")
    infer_path: Path | None = flag(
        None, INFERENCE, "a series to compare ONNX Runtime with torch on; without it an invented patient"
    )
    overwrite: bool = flag(False, INFERENCE, "replace a file that is there already")

    def __post_init__(self) -> None:
        """Checks the file's name."""
        require(bool(self.run_id), "run_id", "", "is needed: the run whose checkpoint is exported")
        require(self.onnx is not None, "onnx", "", "is needed: the file to write")
        require(self.onnx.suffix.lower() == ".onnx", "onnx", self.onnx, "has to end in .onnx")
