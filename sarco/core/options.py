"""Options and what they mean: one frozen dataclass per consumer; the parser is made from their fields."""

import re
from dataclasses import dataclass
from pathlib import Path

from sarco.core.errors import OptionError
from sarco.core.parser import (
    BASICS,
    COMMAND,
    DATA,
    INFERENCE,
    MEASURING,
    NO,
    YES,
    option,
    require,
)
from sarco.core.tables import CSV_STYLES, PLAIN

BUILT_IN = "built-in"  # the id of the network that comes with sarco
NOTICE = "built-in network, trained on invented patients, not validated for clinical use"
TOGETHER = "+"  # between the ids of runs that predict together; none of them holds it
RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
PROJECT = re.compile(r"[^/\\#?%:.\x00-\x1f][^/\\#?%:\x00-\x1f]*")  # what both W&B and file systems take


def notice_of(run_id: str) -> str:
    """What every result has to say of a network; empty for a person's own.

    Args:
        run_id: of the run, or of several with `TOGETHER` between them.
    """
    return NOTICE if BUILT_IN in run_id.split(TOGETHER) else ""


def check_project(name: str, value: str) -> None:
    """Raises an `OptionError` where both W&B and file systems would not take a project of this name."""
    require(
        bool(PROJECT.fullmatch(value)), name, value, r"a project name holds none of / \ # ? % : and starts with no dot"
    )


class _Checked:
    """What options are made of: each class checks its own fields, then the next one does."""

    def __post_init__(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True)
class WandbOptions(_Checked):
    """Whether Weights & Biases takes part."""

    wandb: str = option("yes", DATA, "online, offline or no; yes = online where an API key is configured, else offline")

    def __post_init__(self) -> None:
        """Makes one word of each meaning."""
        super().__post_init__()
        word = self.wandb.lower()
        if word in (*YES, *NO):
            word = "yes" if word in YES else "no"
        require(word in ("online", "offline", "yes", "no"), "wandb", self.wandb, "give online, offline, yes or no")
        object.__setattr__(self, "wandb", word)


@dataclass(frozen=True)
class GpuOptions(_Checked):
    """Where to compute."""

    gpu: int = option(0, DATA, "which GPU; -1 asks for the CPU, which is also used where there is no GPU")

    def __post_init__(self) -> None:
        """Checks the number."""
        super().__post_init__()
        require(self.gpu >= -1, "gpu", self.gpu, "has to be the number of a GPU, or -1 for the CPU")


@dataclass(frozen=True)
class PrecisionOptions(_Checked):
    """How finely to compute."""

    precision: str = option(
        "auto", BASICS, "auto: fastest that is safe on the device", choices=("auto", "32", "bf16", "16")
    )


@dataclass(frozen=True)
class OverwriteOptions(_Checked):
    """Whether something may be replaced."""

    overwrite: bool = option(False, DATA, "replace what is there already")


@dataclass(frozen=True)
class TableOptions(_Checked):
    """How tables are written."""

    csv: str = option(
        PLAIN,
        MEASURING,
        "plain: commas between cells and decimal points; excel: for Excel where the decimal sign is a comma",
        choices=CSV_STYLES,
    )

    def __post_init__(self) -> None:
        """Checks the word, which need not come from the command line."""
        super().__post_init__()
        require(self.csv in CSV_STYLES, "csv", self.csv, f"choose from {', '.join(CSV_STYLES)}")


@dataclass(frozen=True)
class CheckpointOptions(_Checked):
    """Which run's network."""

    run_id: str = option(BUILT_IN, INFERENCE, "the run whose checkpoint is taken, or built-in")
    dirpath: Path = option(Path("./checkpoints"), INFERENCE, "folder with the checkpoints")
    ckpt_choice: str = option("best", INFERENCE, "which checkpoint of the run", choices=("best", "last"))
    ckpt_wandb_project: str = option("", INFERENCE, "project the run was trained in, where its id is not unique")

    def __post_init__(self) -> None:
        """Checks that there is a run."""
        super().__post_init__()
        _need(self, "run_id")


@dataclass(frozen=True)
class InferenceOptions(CheckpointOptions, WandbOptions, GpuOptions, PrecisionOptions, OverwriteOptions, TableOptions):
    """What is predicted, by which run, and where the results go."""

    run_id: str = option(
        BUILT_IN,
        INFERENCE,
        "the run whose checkpoint is taken, or built-in; several (a,b or a_fold*) predict by the mean of their "
        "probabilities",
    )
    infer_path: Path = option(
        None,
        INFERENCE,
        "a DICOM series, a tree with several (each is predicted), one slice, or a NIfTI volume in HU; required",
    )
    wandb_project: str = option(
        "Predictions", INFERENCE, "Weights & Biases project that predictions are logged to", name="log_wandb_project"
    )
    engine: str = option(
        "auto",
        INFERENCE,
        "what computes: auto = torch on a GPU; on a CPU OpenVINO where it is installed and its masks are the same",
        choices=("auto", "torch", "openvino", "onnx"),
    )
    tta: str = option(
        "no",
        INFERENCE,
        "mirror: the network sees each slice and its mirror image, and the mean counts; takes twice as long",
        choices=("no", "mirror"),
    )
    drop_islands: bool = option(
        False, INFERENCE, "leave out parts of a label that no neighbouring slice supports; the largest part stays"
    )
    dest_dir: Path = option(Path("./data"), INFERENCE, "results go to DEST_DIR/preds_from_<run_id>_of_<scan name>/")
    allow_gaps: bool = option(
        False,
        INFERENCE,
        "predict uneven series in parts with equal steps, and series with damaged files without these",
    )
    batch_size: int = option(8, INFERENCE, "slices per forward pass")
    show_identity: bool = option(False, INFERENCE, "name, PatientID and birth date in review.html")
    dicom_seg: bool = option(False, INFERENCE, "write the label map as DICOM segmentation too (needs highdicom)")
    dicom_sr: bool = option(False, INFERENCE, "write a DICOM measurement report; needs --dicom_seg=yes")
    dicom_sc: bool = option(False, INFERENCE, "write the contact sheet as DICOM secondary capture (needs highdicom)")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(
            self.dicom_seg or not self.dicom_sr, "dicom_sr", "yes", "refers to the segmentation; add --dicom_seg=yes"
        )
        _need(self, "infer_path")
        super().__post_init__()
        check_project("wandb_project", self.wandb_project)
        engines = ("auto", "torch", "openvino", "onnx")
        require(self.engine in engines, "engine", self.engine, f"choose from {', '.join(engines)}")
        require(self.tta in ("no", "mirror"), "tta", self.tta, "give no or mirror")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "has to be 1 or more")


@dataclass(frozen=True)
class MeasurementOptions:
    """What is measured in a prediction, and whose it is."""

    l3: str = option("", MEASURING, "the slice of L3: its index, z=<mm>, or its SOPInstanceUID")
    vertebrae: Path | None = option(
        None, MEASURING, "NIfTI label map of vertebrae on the grid of the series, to find L3 in"
    )
    l3_label: int = option(0, MEASURING, "label of L3 in --vertebrae")
    patients: Path | None = option(
        None, MEASURING, "CSV with PatientID or StudyInstanceUID, sex, height, weight_kg, age_years"
    )
    muscle_labels: str = option(
        "",
        MEASURING,
        "labels that together are the muscle of a cross-section: names or ids with commas, or all",
    )
    hu_ranges: str = option(
        "", MEASURING, "HU ranges other than the published ones, such as muscle=-29:150,imat=-190:-30"
    )


@dataclass(frozen=True)
class ExportOptions(CheckpointOptions, OverwriteOptions):
    """Which run becomes an ONNX file or a MONAI bundle, and what these are checked on."""

    onnx: Path | None = option(
        None, INFERENCE, "the file to write, FILE.onnx; FILE.json beside it tells how it was checked"
    )
    monai_bundle: Path | None = option(None, INFERENCE, "the folder to write as a MONAI bundle")
    infer_path: Path | None = option(
        None, INFERENCE, "a series to compare what is written with torch on; without it an invented patient"
    )

    def __post_init__(self) -> None:
        """Checks that there is something to write, and the file's name."""
        super().__post_init__()
        if self.onnx is None and self.monai_bundle is None:
            raise OptionError("--onnx is missing: give --onnx=FILE.onnx, or --monai_bundle=FOLDER")
        if self.onnx is not None:
            require(self.onnx.suffix.lower() == ".onnx", "onnx", self.onnx, "has to end in .onnx")


@dataclass(frozen=True)
class ListOptions:
    """Which folder is listed."""

    path: Path = option(None, COMMAND, "a folder, searched to its depth, or a file; required")

    def __post_init__(self) -> None:
        """Checks that there is one."""
        _need(self, "path")


@dataclass(frozen=True)
class MaskOptions(OverwriteOptions, TableOptions):
    """Which mask is measured on which image, and where the figures go."""

    image: Path = option(None, COMMAND, "DICOM series (a folder or a file), or a NIfTI volume in HU; required")
    label_map: Path = option(None, COMMAND, "NIfTI label map on the grid of the image; required")
    labels: Path | None = option(
        None, COMMAND, "JSON file with the names of the labels; without it labels.json beside the label map"
    )
    out: Path | None = option(None, COMMAND, "folder of the results; without it measurements_of_<label map>")

    def __post_init__(self) -> None:
        """Checks that there is something to measure."""
        super().__post_init__()
        _need(self, "image", "label_map")


@dataclass(frozen=True)
class CompareOptions(TableOptions):
    """Which label maps are compared."""

    truth: Path = option(None, COMMAND, "NIfTI label map, or a folder with several; required")
    prediction: Path = option(
        None,
        COMMAND,
        "NIfTI label map, a results folder, or a folder with several; folders pair by name; required",
    )
    out: Path | None = option(
        None, COMMAND, "new folder for comparison.csv, summary.csv, bland_altman.csv and bland_altman.png"
    )

    def __post_init__(self) -> None:
        """Checks that there are two."""
        super().__post_init__()
        _need(self, "truth", "prediction")


@dataclass(frozen=True)
class ApplyOptions:
    """Which corrections go into which results."""

    results: Path = option(None, COMMAND, "results folder of one series; required")
    corrections: Path = option(None, COMMAND, "the file that the review page saved; required")
    add_to: Path | None = option(None, COMMAND, "make a training case of it in this data folder")
    all_slices: bool = option(
        False, COMMAND, "learn from every slice, not only from those corrected or marked as checked"
    )
    scan: Path | None = option(None, COMMAND, "where the scan lies now, if it was moved (found by SOPInstanceUID)")

    def __post_init__(self) -> None:
        """Checks that both are there."""
        _need(self, "results", "corrections")


@dataclass(frozen=True)
class IndexOptions:
    """Which results are listed on a page."""

    folder: Path = option(None, COMMAND, "folder with results folders; gets index.html; required")

    def __post_init__(self) -> None:
        """Checks that there is one."""
        _need(self, "folder")


@dataclass(frozen=True)
class CacheOptions:
    """Which cache folder is listed, and what is removed from it."""

    folder: Path = option(None, COMMAND, "a cache folder: <dirpath>/.cache, or that of --cache_dir; required")
    remove_unused: float | None = option(None, COMMAND, "remove what was not used for so many days; 0 removes all")

    def __post_init__(self) -> None:
        """Checks that there is one."""
        _need(self, "folder")
        days = self.remove_unused
        require(days is None or days >= 0, "remove_unused", days, "has to be 0 or more")


@dataclass(frozen=True)
class InventOptions:
    """How many patients are invented, and what their series look like."""

    out: Path = option(None, COMMAND, "folder to write to, empty or absent; required")
    patients: int = option(4, COMMAND, "how many patients")
    slices: int = option(12, COMMAND, "slices of each series")
    size: int = option(256, COMMAND, "rows and columns of a slice")
    seed: int = option(0, COMMAND, "the same seed writes the same files")
    oblique: bool = option(False, COMMAND, "tilt the slices against the patient's axes")
    groups: bool = option(False, COMMAND, "label seven muscle groups instead of one muscle")

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _need(self, "out")
        require(1 <= self.patients <= 999, "patients", self.patients, "ask for 1 to 999")
        require(self.slices >= 1, "slices", self.slices, "a series has at least 1 slice")
        require(16 <= self.size <= 4096, "size", self.size, "choose 16 to 4096 rows and columns")
        require(self.seed >= 0, "seed", self.seed, "give a number from 0 up")


@dataclass(frozen=True)
class DoctorOptions:
    """Which readers are scored, and on which faults."""

    reader: tuple[str, ...] = option(
        (),
        COMMAND,
        "NAME=COMMAND: score this command too; {input} stands for the folder with the series, {output} for an empty "
        "folder that takes NIfTI files in HU; give it once for each",
    )
    fault: tuple[str, ...] = option((), COMMAND, "only this fault; give it once for each")
    out: Path | None = option(None, COMMAND, "write the table to this file, as Markdown")
    keep: Path | None = option(
        None, COMMAND, "keep the torture set in this folder: the series, and the truth as .npz; empty or absent"
    )
    timeout: float = option(120.0, COMMAND, "seconds that a reader has for one fault")
    read: tuple[Path, ...] = option((), COMMAND, "a folder to read, and one to write NIfTI files to", hidden=True)

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(self.timeout > 0, "timeout", f"{self.timeout:g}", "has to be positive")


def _need(options: object, *names: str) -> None:
    """Raises an `OptionError` for the first of these fields that was not given."""
    for name in names:
        if getattr(options, name) in (None, ""):
            raise OptionError(f"--{name} is missing; -h shows an example")
