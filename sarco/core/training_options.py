"""Options of a training: one frozen dataclass per consumer."""

import math
from dataclasses import dataclass
from pathlib import Path

from sarco.core.options import RUN_ID, GpuOptions, PrecisionOptions, WandbOptions, check_project
from sarco.core.parser import (
    BASICS,
    DATA,
    OPTIMISATION,
    REGULARISATION,
    STACKING,
    option,
    require,
)

BACKBONES = tuple(f"efficientnet-b{n}" for n in range(8))
# Of a whole run; small data is drawn several times an epoch, so that the default run is that long.
FLOOR_OF_STEPS = 1000
SHARE_OF_INVENTED = 0.5  # where a run starts from the built-in network
FLOOR_FROM_NETWORK = 300  # of a run that starts from a whole network
FIRST_WEIGHTS = ("auto", "built-in", "imagenet", "no")  # what --pretrained takes besides runs and files
ACTIVATIONS = ("leakyrelu", "relu")  # of decoders: of new runs, and of those before it was stored
CROP_MULTIPLE = 32  # the encoder halves five times
BACKGROUND, IGNORE = "background", "ignore"  # what a pixel is where a label may be missing
ALL_FOLDS = "all"  # what --fold takes besides a number
LARGEST_IMAGE = 2048  # pixels a side; a slice of 512 x 512 at its finest spacing has no more to show


@dataclass(frozen=True)
class DataOptions:
    """What the training data is and how a slice becomes the network's input."""

    data_dir: Path = option(
        Path("./data/dataset"),
        DATA,
        "folder with images and labels: DICOM or NIfTI beside label maps, nnU-Net, Decathlon, TotalSegmentator, SAROS, "
        "DICOM SEG; mixed and nested as you like",
    )
    labels: str = option(
        "",
        DATA,
        "labels to learn, by name or id: a,b or NAME=a+b, which merges some under a new name; all where it is left out",
    )
    missing_labels: str = option(
        BACKGROUND,
        DATA,
        "cases without a file, or an id, for one of the labels: background: it is not there; ignore: nobody looked",
        choices=(BACKGROUND, IGNORE),
    )
    val_fraction: float = option(0.2, DATA, "share of the slices for validation, in whole patients")
    folds: int = option(0, DATA, "cross-validation: patients are dealt into so many folds, and each validates once")
    fold: str = option(
        "", DATA, "which of the --folds validates, counted from 1; all: a run for each, then the scores of all patients"
    )
    seed: int = option(0, DATA, "split, first weights, order, augmentation, mixup: the same seed gives the same run")
    batch_size: int = option(16, BASICS, "slices per step; even")
    passes_per_epoch: int | None = option(
        None,
        BASICS,
        "how often each training slice is drawn in an epoch; auto: once, or, without --max_epochs, as often as "
        f"{FLOOR_OF_STEPS} steps in all need, or {FLOOR_FROM_NETWORK} from a network that was trained before",
        auto=True,
    )
    crop: str = option(
        "field",
        BASICS,
        "field: a field of view of one size in mm around the body; box: the body's box, stretched to the square",
        choices=("field", "box"),
    )
    pixel_mm: float | None = option(
        None,
        BASICS,
        "size of the network's pixels in mm; auto: that of the network to start from, or of the slices, 0.75 to 3",
        auto=True,
    )
    field_mm: float | None = option(
        None, BASICS, "side of the field of view in mm; auto: the largest body in the data fits in", auto=True
    )
    image_size: int | None = option(
        None,
        BASICS,
        "pixels a side of what the network sees, a multiple of 32; auto: follows from the field (512 with --crop=box)",
        auto=True,
    )
    hu_min: float = option(-250.0, BASICS, "lower end of the HU window")
    hu_max: float = option(250.0, BASICS, "upper end of the HU window")
    channel_3d: bool = option(False, STACKING, "three neighbouring slices as channels; the mask is the middle one's")
    num_workers: int = option(0, STACKING, "loader processes")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(
            self.missing_labels in (BACKGROUND, IGNORE), "missing_labels", self.missing_labels,
            f"choose {BACKGROUND} or {IGNORE}",
        )  # fmt: skip
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "has to lie between 0 and 1")
        self._check_folds()
        require(0 <= self.seed < 2**32, "seed", self.seed, "has to lie between 0 and 4294967295")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "has to be 2 or more")
        require(self.batch_size % 2 == 0, "batch_size", self.batch_size, "has to be even, for example "
                 f"{self.batch_size + 1}")  # fmt: skip
        passes = self.passes_per_epoch
        require(passes is None or passes >= 1, "passes_per_epoch", passes, "has to be 1 or more, or auto")
        self._check_crop()
        for name in ("hu_min", "hu_max"):
            hu = getattr(self, name)
            require(-32768 <= hu <= 32767, name, hu, "has to lie between -32768 and 32767, as HU do")
        require(self.hu_min < self.hu_max, "hu_min", self.hu_min, f"has to be below --hu_max ({self.hu_max})")
        require(self.num_workers >= 0, "num_workers", self.num_workers, "has to be 0 or more")

    def _check_folds(self) -> None:
        folds, fold = self.folds, self.fold
        require(folds == 0 or folds >= 2, "folds", folds, "has to be 2 or more")
        require(folds > 0 or not fold, "fold", fold, "needs --folds, such as --folds=5")
        require(folds == 0 or bool(fold), "folds", folds, f"say which validates: --fold=1 to {folds}, or --fold=all")
        counted = fold.isascii() and fold.isdecimal() and 1 <= int(fold) <= folds and str(int(fold)) == fold
        require(not fold or fold == ALL_FOLDS or counted, "fold", fold, f"give 1 to {folds}, or {ALL_FOLDS}")

    def _check_crop(self) -> None:
        size, pixel, field = self.image_size, self.pixel_mm, self.field_mm
        require(self.crop in ("field", "box"), "crop", self.crop, "choose field or box")
        if size is not None:
            rounded = max(1, round(size / CROP_MULTIPLE)) * CROP_MULTIPLE
            require(size == rounded, "image_size", size, f"has to be a multiple of 32, for example {rounded}")
            require(size <= LARGEST_IMAGE, "image_size", size, f"has to be {LARGEST_IMAGE} or less")
        for name, value, least, most in (("pixel_mm", pixel, 0.1, 40), ("field_mm", field, 20, 2000)):
            if value is None:
                continue
            require(self.crop == "field", name, value, "does nothing with --crop=box; drop one of the two")
            require(least <= value <= most, name, value, f"has to lie between {least} and {most} mm")
        if size is not None and pixel is not None and field is not None:
            fits = math.isclose(size * pixel, field, rel_tol=1e-6)
            rule = f"is not --image_size={size} times --pixel_mm={pixel:g}; leave one of the three out"
            require(fits, "field_mm", f"{field:g}", rule)

    @property
    def crop_size(self) -> tuple[int, float | None]:
        """Pixels a side of what the network sees, and the size of one in mm; None where the body's box decides.

        Raises:
            ValueError: the data has yet to choose, see `sarco.crop.size.settle_crop`.
        """
        if self.image_size is None or (self.crop == "field" and self.pixel_mm is None):
            raise ValueError("image_size and pixel_mm are not chosen yet")
        return self.image_size, self.pixel_mm


@dataclass(frozen=True)
class AugmentOptions:
    """How training slices are varied."""

    augment: str = option(
        "strong",
        REGULARISATION,
        "strong: place, mirror, HU, noise, resolution, arms, table, metal, cut views; light: --do_elastic_transforms",
        choices=("strong", "light", "no"),
    )
    do_flips: bool = option(False, REGULARISATION, "flips and quarter rotations, beside what --augment does")
    do_elastic_transforms: bool = option(
        False,
        REGULARISATION,
        "elastic deformation, small rotation, other size, light changes of HU; does nothing beside --augment=strong",
    )
    aug_prob: float = option(
        0.2, REGULARISATION, "probability of each change; those of strong are as documented at 0.2, and in proportion"
    )

    def __post_init__(self) -> None:
        """Checks choice and range."""
        require(self.augment in ("strong", "light", "no"), "augment", self.augment, "choose strong, light or no")
        require(0 <= self.aug_prob <= 1, "aug_prob", self.aug_prob, "has to lie in 0..1")


@dataclass(frozen=True)
class MixupOptions:
    """How training samples are mixed with each other."""

    mixup: str = option("no", REGULARISATION, "mix pairs of samples", choices=("no", "input", "manifold"))
    mixup_alpha: float = option(0.3, REGULARISATION, "the share of a sample is drawn from Beta(alpha, alpha)")
    mixed_layer: str = option(
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

    add_predicted_data: bool = option(
        False, STACKING, "self-distillation: learn from predictions of an earlier run too"
    )
    path_to_prediction: tuple[Path, ...] = option(
        (), STACKING, "results folder of a prediction; give it once for each folder, or several with commas"
    )
    predicted_data_to: str = option(
        "train", STACKING, "where predictions go; no patient ends up on both sides", choices=("train", "val", "both")
    )
    min_confidence: float = option(0.9, STACKING, "predicted slices below this mean confidence are left out")
    predicted_weight: float = option(0.5, STACKING, "weight of a predicted slice in the loss; a human label has 1")

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
class InventedOptions:
    """How much of a training is invented."""

    invented: float | None = option(
        None,
        DATA,
        "share of invented patients in each batch, painted on the fly; 1: nothing else, and no --data_dir is needed; "
        f"auto: {SHARE_OF_INVENTED:g} from the built-in network if it knows a label of the data, else 0",
        auto=True,
    )
    style_from: Path | None = option(
        None,
        DATA,
        "folder with CT without labels that lends its grey values and noise to half of the invented slices",
    )

    def __post_init__(self) -> None:
        """Checks the range, and that the options fit together."""
        share = self.invented or 0.0
        require(0 <= share <= 1, "invented", self.invented, "has to lie in 0..1")
        require(
            share > 0 or self.style_from is None, "style_from", self.style_from,
            "does nothing without invented patients; add --invented=0.5, or another share",
        )  # fmt: skip

    @property
    def alone(self) -> bool:
        """Whether nobody else trains."""
        return self.invented == 1


@dataclass(frozen=True)
class ResumeOptions:
    """Whether an earlier run goes on."""

    resume_training: bool = option(False, OPTIMISATION, "go on with an earlier run after its last finished epoch")
    ckpt_path_to_resume_from: Path | None = option(
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

    backbone: str = option("efficientnet-b0", BASICS, "encoder: efficientnet-b0 to -b7", choices=BACKBONES)
    model_choice: str = option("unet", BASICS, "kind of decoder", choices=("unet", "segresnet"))
    pretrained: str = option(
        "auto",
        BASICS,
        "first weights: auto (built-in where it fits, else ImageNet for the encoder, where it can be had), built-in, "
        "imagenet, no; for the whole network: a run id of --dirpath, a checkpoint or an exported network; or a file "
        "with encoder weights",
    )
    encoder_lr_factor: float = option(
        1.0, OPTIMISATION, "the learning rate of what --pretrained gave (encoder, decoder), relative to the rest"
    )
    freeze_epochs: int = option(0, OPTIMISATION, "first epochs in which what --pretrained gave stays as it is")

    def __post_init__(self) -> None:
        """Checks the choices."""
        require(self.backbone in BACKBONES, "backbone", self.backbone, f"choose from {', '.join(BACKBONES)}")
        require(
            self.model_choice in ("unet", "segresnet"), "model_choice", self.model_choice, "choose unet or segresnet"
        )
        first = self.pretrained
        known = first in FIRST_WEIGHTS or Path(first).is_file() or RUN_ID.fullmatch(first)
        require(bool(known), "pretrained", first, "give auto, built-in, imagenet, no, a run id, or a file that exists")
        factor = self.encoder_lr_factor
        require(math.isfinite(factor) and factor > 0, "encoder_lr_factor", factor, "has to be above 0")
        require(self.freeze_epochs >= 0, "freeze_epochs", self.freeze_epochs, "has to be 0 or more")


@dataclass(frozen=True)
class FitOptions(PrecisionOptions):
    """How the network is fitted."""

    max_epochs: int = option(30, BASICS, "epochs; -1 = until early stopping or Ctrl-C")
    learning_rate: float = option(2e-3, BASICS, "step size of the optimiser")
    scheduler: str = option(
        "auto",
        BASICS,
        "none: the rate stays; cosine: warm-up, then cosine; step: /10 at 80 %% and /5 at 90 %% of the epochs; "
        "auto: cosine, or none with --max_epochs=-1",
        choices=("auto", "none", "cosine", "step"),
    )
    warmup_epochs: int = option(10, BASICS, "warm-up of the cosine scheduler, at most a third of the run")
    accumulate_grad_batches: int = option(1, OPTIMISATION, "batches whose gradients make one step together")
    early_stopping: bool | None = option(
        None,
        OPTIMISATION,
        "stop when the best validation score is no longer beaten; auto: only where the rate stays the same, because a "
        "rate that falls to its end brings the best epochs last",
        auto=True,
    )
    patience: int = option(7, OPTIMISATION, "epochs without an increase before stopping")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        epochs = self.max_epochs
        require(epochs == -1 or epochs >= 1, "max_epochs", epochs, "has to be 1 or more, or -1 for no limit")
        rate = self.learning_rate
        require(math.isfinite(rate) and rate > 0, "learning_rate", rate, "has to be above 0")
        schedules = ("auto", "none", "cosine", "step")
        require(self.scheduler in schedules, "scheduler", self.scheduler, "give auto, none, cosine or step")
        require(
            epochs != -1 or self.scheduler in ("auto", "none"), "scheduler", self.scheduler,
            "needs to know the end of the run; give --max_epochs or --scheduler=none",
        )  # fmt: skip
        require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "has to be 0 or more")
        require(self.patience >= 1, "patience", self.patience, "has to be 1 or more")
        n = self.accumulate_grad_batches
        require(n >= 1, "accumulate_grad_batches", n, "has to be 1 or more")

    @property
    def schedule(self) -> str:
        """What ``scheduler`` means for this run: ``none``, ``cosine`` or ``step``."""
        if self.scheduler != "auto":
            return self.scheduler
        return "none" if self.max_epochs == -1 else "cosine"

    @property
    def stops_early(self) -> bool:
        """Whether the run ends when its validation score is no longer beaten."""
        return self.schedule == "none" if self.early_stopping is None else self.early_stopping


@dataclass(frozen=True)
class RunOptions(WandbOptions, GpuOptions):
    """Where a training runs and where it leaves its traces."""

    dirpath: Path = option(
        Path("./checkpoints"), DATA, "folder for checkpoints: DIRPATH/<run_id>_<wandb_project>[_3d]/"
    )
    cache: bool = option(True, DATA, "keep prepared slices on disk for later runs; no = in memory, nothing stays")
    cache_dir: Path | None = option(None, DATA, "folder for prepared slices, instead of DIRPATH/.cache")
    wandb_project: str = option("Trains", DATA, "Weights & Biases project")
    devices: int = option(1, STACKING, "GPUs (from --gpu on) or CPU processes per machine that train together")
    num_nodes: int = option(1, STACKING, "machines that train together")
    run_id: str = option("", DATA, "names the run: letters, digits, - and _ (default: fresh 8 characters)")

    def __post_init__(self) -> None:
        """Checks the names."""
        super().__post_init__()
        check_project("wandb_project", self.wandb_project)
        ok = not self.run_id or RUN_ID.fullmatch(self.run_id)
        require(bool(ok), "run_id", self.run_id, "may hold letters, digits, - and _ only")
        require(
            self.cache or self.cache_dir is None, "cache_dir", self.cache_dir, "does nothing with --cache=no; drop one"
        )
        require(self.devices >= 1, "devices", self.devices, "has to be 1 or more")
        require(self.num_nodes >= 1, "num_nodes", self.num_nodes, "has to be 1 or more")
        require(
            self.num_nodes == 1 or bool(self.run_id), "num_nodes", self.num_nodes, "needs --run_id, the same on each"
        )

    @property
    def cache_root(self) -> Path | None:
        """The folder for prepared slices; None where they are kept in memory."""
        return (self.cache_dir or self.dirpath / ".cache") if self.cache else None
