"""Flags: every one of the command line exists, reads its value, checks its range and explains a slip in one line."""

import dataclasses
import getpass
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sarco.commands.table import every_command
from sarco.core.errors import OptionError
from sarco.core.options import CompareOptions, InferenceOptions, MeasurementOptions
from sarco.core.parser import DATA, NO, YES, Command, build, option, to_builtins
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    InventedOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    ResumeOptions,
    RunOptions,
)

ROOT = Path(__file__).parents[2]
TRAINING = (
    RunOptions, DataOptions, FitOptions, NetworkOptions, AugmentOptions, MixupOptions, ResumeOptions, PredictedOptions,
    InventedOptions,
)  # fmt: skip
INFERENCE = (InferenceOptions, MeasurementOptions)
NEEDED = ["--infer_path=scan"]  # what inference.py has no default for

TRAINING_DEFAULTS: dict[str, Any] = {
    "data_dir": Path("./data/dataset"),
    "labels": "",
    "missing_labels": "background",
    "dirpath": Path("./checkpoints"),
    "cache": True,
    "cache_dir": None,
    "wandb_project": "Trains",
    "wandb": "yes",
    "gpu": 0,
    "run_id": "",
    "val_fraction": 0.2,
    "folds": 0,
    "fold": "",
    "seed": 0,
    "max_epochs": 30,
    "learning_rate": 2e-3,
    "scheduler": "auto",
    "warmup_epochs": 10,
    "batch_size": 16,
    "passes_per_epoch": None,
    "backbone": "efficientnet-b0",
    "model_choice": "unet",
    "pretrained": "auto",
    "encoder_lr_factor": 1.0,
    "freeze_epochs": 0,
    "precision": "auto",
    "accumulate_grad_batches": 1,
    "crop": "field",
    "pixel_mm": None,
    "field_mm": None,
    "image_size": None,
    "hu_min": -250.0,
    "hu_max": 250.0,
    "early_stopping": None,
    "patience": 7,
    "channel_3d": False,
    "num_workers": 0,
    "devices": 1,
    "num_nodes": 1,
    "augment": "strong",
    "do_flips": False,
    "do_elastic_transforms": False,
    "aug_prob": 0.2,
    "mixup": "no",
    "mixup_alpha": 0.3,
    "mixed_layer": "random",
    "resume_training": False,
    "ckpt_path_to_resume_from": None,
    "add_predicted_data": False,
    "path_to_prediction": (),
    "predicted_data_to": "train",
    "invented": None,
    "style_from": None,
}
INFERENCE_DEFAULTS: dict[str, Any] = {
    "run_id": "built-in",
    "dirpath": Path("./checkpoints"),
    "ckpt_choice": "best",
    "ckpt_wandb_project": "",
    "wandb_project": "Predictions",
    "wandb": "yes",
    "gpu": 0,
    "engine": "auto",
    "precision": "auto",
    "tta": "no",
    "drop_islands": False,
    "dest_dir": Path("./data"),
    "allow_gaps": False,
    "overwrite": False,
    "batch_size": 8,
    "show_identity": False,
    "dicom_seg": False,
    "dicom_sr": False,
    "dicom_sc": False,
    "l3": "",
    "vertebrae": None,
    "l3_label": 0,
    "patients": None,
    "muscle_labels": "",
    "hu_ranges": "",
}
# One value of each flag, as typed and as read.
TYPED_TRAINING: dict[str, tuple[str, Any]] = {
    "data_dir": ("some/where", Path("some/where")),
    "labels": ("back=left+right,psoas", "back=left+right,psoas"),
    "missing_labels": ("ignore", "ignore"),
    "dirpath": ("some/where", Path("some/where")),
    "cache": ("no", False),
    "cache_dir": ("some/where", Path("some/where")),
    "wandb_project": ("Muscle", "Muscle"),
    "wandb": ("offline", "offline"),
    "gpu": ("-1", -1),
    "run_id": ("my-run_7", "my-run_7"),
    "val_fraction": ("0.5", 0.5),
    "seed": ("12", 12),
    "max_epochs": ("-1", -1),
    "learning_rate": ("1e-3", 1e-3),
    "scheduler": ("cosine", "cosine"),
    "warmup_epochs": ("3", 3),
    "batch_size": ("6", 6),
    "passes_per_epoch": ("3", 3),
    "backbone": ("efficientnet-b3", "efficientnet-b3"),
    "model_choice": ("segresnet", "segresnet"),
    "pretrained": ("no", "no"),
    "encoder_lr_factor": ("0.1", 0.1),
    "freeze_epochs": ("2", 2),
    "precision": ("bf16", "bf16"),
    "accumulate_grad_batches": ("4", 4),
    "crop": ("box", "box"),
    "pixel_mm": ("1.5", 1.5),
    "field_mm": ("450", 450.0),
    "image_size": ("192", 192),
    "hu_min": ("-150", -150.0),
    "hu_max": ("180.5", 180.5),
    "early_stopping": ("no", False),
    "patience": ("2", 2),
    "channel_3d": ("yes", True),
    "num_workers": ("2", 2),
    "devices": ("2", 2),
    "augment": ("light", "light"),
    "do_flips": ("yes", True),
    "do_elastic_transforms": ("yes", True),
    "aug_prob": ("0.5", 0.5),
    "mixup": ("manifold", "manifold"),
    "mixup_alpha": ("0.4", 0.4),
    "mixed_layer": ("2", "2"),
    "predicted_data_to": ("both", "both"),
    "min_confidence": ("0.9", 0.9),
    "predicted_weight": ("0.25", 0.25),
    "invented": ("0.5", 0.5),
}
NEED_EACH_OTHER = {
    "folds",
    "fold",
    "resume_training",
    "ckpt_path_to_resume_from",
    "add_predicted_data",
    "path_to_prediction",
    "num_nodes",
    "style_from",
}
TYPED_INFERENCE: dict[str, tuple[str, Any]] = {
    "infer_path": ("a scan/with space", Path("a scan/with space")),
    "run_id": ("abcd1234", "abcd1234"),
    "dirpath": ("some/where", Path("some/where")),
    "csv": ("excel", "excel"),
    "ckpt_choice": ("last", "last"),
    "ckpt_wandb_project": ("Trains", "Trains"),
    "wandb_project": ("Other", "Other"),
    "log_wandb_project": ("Other", "Other"),
    "wandb": ("no", "no"),
    "gpu": ("1", 1),
    "engine": ("onnx", "onnx"),
    "tta": ("mirror", "mirror"),
    "drop_islands": ("yes", True),
    "precision": ("32", "32"),
    "dest_dir": ("out", Path("out")),
    "allow_gaps": ("yes", True),
    "overwrite": ("yes", True),
    "batch_size": ("3", 3),
    "show_identity": ("yes", True),
    "dicom_seg": ("yes", True),
    "dicom_sc": ("yes", True),
    "l3": ("z=-412.5", "z=-412.5"),
    "vertebrae": ("bones.nii.gz", Path("bones.nii.gz")),
    "l3_label": ("29", 29),
    "patients": ("patients.csv", Path("patients.csv")),
    "muscle_labels": ("psoas_left,psoas_right", "psoas_left,psoas_right"),
    "hu_ranges": ("muscle=-29:150", "muscle=-29:150"),
}


def training(*argv: str) -> dict[str, Any]:
    """All options of training.py after these words."""
    typed = Command("train", "", TRAINING, words=("data_dir",)).parse(argv)
    built = [build(consumer, typed) for consumer in TRAINING]
    return {item.name: getattr(options, item.name) for options in built for item in dataclasses.fields(options)}


def inference(*argv: str) -> SimpleNamespace:
    """All options of inference.py after these words."""
    typed = Command("predict", "", INFERENCE, words=("infer_path",)).parse(argv)
    built = [build(consumer, typed) for consumer in INFERENCE]
    return SimpleNamespace(**{name: value for options in built for name, value in vars(options).items()})


def refusal(script: str, *argv: str) -> str:
    """The message that these words are refused with; one line."""
    with pytest.raises(OptionError) as caught:
        training(*argv) if script == "training" else inference(*argv)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def help_of(script: str) -> subprocess.CompletedProcess[str]:
    """Runs ``-h`` and prints, last on stdout, which slow libraries it imported."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}', '-h']\n"
        "try:\n"
        f"    runpy.run_path('{script}', run_name='__main__')\n"
        "finally:\n"
        "    slow = {'torch', 'monai', 'pytorch_lightning', 'wandb', 'pydicom', 'nibabel', 'cv2'} & set(sys.modules)\n"
        "    print('imported:', sorted(slow))\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "default"), TRAINING_DEFAULTS.items())
def test_training_default(name: str, default: object) -> None:
    """Catches a flag of training.py that is gone, renamed, or starts from another value than documented."""
    value = training()[name]
    assert value == default
    assert type(value) is type(default)


@pytest.mark.parametrize(("name", "default"), INFERENCE_DEFAULTS.items())
def test_inference_default(name: str, default: object) -> None:
    """Catches a flag of inference.py that is gone, renamed, or starts from another value than documented."""
    value = getattr(inference(*NEEDED), name)
    assert value == default
    assert type(value) is type(default)


@pytest.mark.parametrize("name", TYPED_TRAINING)
@pytest.mark.parametrize("glued", [True, False])
def test_training_flag_is_read(name: str, glued: bool) -> None:
    """Catches a flag that is ignored, or that works in one of its two forms only."""
    text, expected = TYPED_TRAINING[name]
    words = [f"--{name}={text}"] if glued else [f"--{name}", text]
    value = training(*words)[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("name", TYPED_INFERENCE)
@pytest.mark.parametrize("glued", [True, False])
def test_inference_flag_is_read(name: str, glued: bool) -> None:
    """Catches a flag that is ignored, or that works in one of its two forms only."""
    text, expected = TYPED_INFERENCE[name]
    words = [f"--{name}={text}"] if glued else [f"--{name}", text]
    words += [other for other in NEEDED if not other.startswith(f"--{name}=")]
    field = "wandb_project" if name == "log_wandb_project" else name
    value = getattr(inference(*words), field)
    assert value == expected
    assert type(value) is type(expected)


def test_flags_that_need_each_other() -> None:
    """Catches a path that stays text, and one of several folders that is dropped."""
    resumed = training("--resume_training=yes", "--ckpt_path_to_resume_from", "ckpt/aa_Trains")
    assert resumed["resume_training"] is True and resumed["ckpt_path_to_resume_from"] == Path("ckpt/aa_Trains")
    assert training("--invented=0.5", "--style_from", "some/scans")["style_from"] == Path("some/scans")
    assert "--style_from=some/scans: does nothing without" in refusal("training", "--style_from=some/scans")
    assert training("--num_nodes=3", "--run_id=aa")["num_nodes"] == 3
    assert inference(*NEEDED, "--dicom_seg=yes", "--dicom_sr=yes").dicom_sr is True
    assert "--dicom_seg=yes" in refusal("inference", *NEEDED, "--dicom_sr=yes")
    for fold in ("1", "5", "all"):
        dealt = training("--folds=5", f"--fold={fold}")
        assert (dealt["folds"], dealt["fold"]) == (5, fold)
    folders = (Path("a/x"), Path("b"))
    for words in (["--path_to_prediction=a/x,b"], ["--path_to_prediction=a/x", "--path_to_prediction", "b"]):
        learnt = training("--add_predicted_data=yes", *words)
        assert learnt["add_predicted_data"] is True and learnt["path_to_prediction"] == folders


def test_every_flag_is_tried() -> None:
    """Catches a new flag without a line in the tables above."""
    flags = {item.name for consumer in TRAINING for item in dataclasses.fields(consumer)}
    assert set(TYPED_TRAINING) | NEED_EACH_OTHER == flags
    flags = {item.name for consumer in INFERENCE for item in dataclasses.fields(consumer)}
    assert flags <= set(TYPED_INFERENCE) | {"dicom_sr"}


@pytest.mark.parametrize("fold", ["0", "6", "-1", "02", "2.0", "every", "1,2"])
def test_a_fold_that_there_is_not_is_refused(fold: str) -> None:
    """Catches a fold counted from 0, and one beyond the last, whose run would validate nobody."""
    assert f"--fold={fold}: give 1 to 5, or all" in refusal("training", "--folds=5", f"--fold={fold}")


@pytest.mark.parametrize("change", [str, str.upper, str.capitalize])
def test_yes_and_no_words_in_any_case(change: Any) -> None:
    """Catches `type=bool`, which takes "no" as yes."""
    for word in YES:
        assert training(f"--channel_3d={change(word)}")["channel_3d"] is True
        assert inference(*NEEDED, f"--overwrite={change(word)}").overwrite is True
        assert training(f"--wandb={change(word)}")["wandb"] == "yes"
    for word in NO:
        assert training(f"--early_stopping={change(word)}")["early_stopping"] is False
        assert training(f"--wandb={change(word)}")["wandb"] == "no"
    assert training(f"--wandb={change('offline')}")["wandb"] == "offline"


@pytest.mark.parametrize(
    "word",
    [
        "--batch_size=7",
        "--batch_size=0",
        "--batch_size=-2",
        "--batch_size=2.0",
        "--invented=1.5",
        "--image_size=100",
        "--image_size=2080",
        "--pixel_mm=0.05",
        "--pixel_mm=nan",
        "--field_mm=5000",
        "--crop=circle",
        "--image_size=0",
        "--image_size=-32",
        "--learning_rate=0",
        "--learning_rate=-1e-3",
        "--learning_rate=nan",
        "--learning_rate=inf",
        "--learning_rate=fast",
        "--hu_min=250",
        "--hu_min=300",
        "--hu_min=-inf",
        "--hu_max=nan",
        "--hu_max=3e38",
        "--hu_min=-40000",
        "--max_epochs=0",
        "--max_epochs=-2",
        "--val_fraction=1",
        "--val_fraction=0",
        "--val_fraction=-0.2",
        "--val_fraction=nan",
        "--folds=5",
        "--folds=1",
        "--folds=-2",
        "--fold=2",
        "--fold=all",
        "--run_id=a/b",
        "--run_id=../x",
        "--run_id=a b",
        "--run_id=",
        "--run_id=ä",
        "--seed=-1",
        "--gpu=-2",
        "--gpu=one",
        "--patience=0",
        "--passes_per_epoch=0",
        "--patience=2.5",
        "--num_workers=-1",
        "--warmup_epochs=-1",
        "--backbone=efficientnet-b8",
        "--backbone=resnet50",
        "--model_choice=UNet++",
        "--scheduler=linear",
        "--precision=8",
        "--pretrained=weights/that/are/absent.pth",
        "--channel_3d=maybe",
        "--early_stopping=2",
        "--wandb=sometimes",
        "--wandb_project=a/b",
        "--wandb_project=..",
        "--devices=0",
        "--num_nodes=0",
        "--aug_prob=1.1",
        "--aug_prob=nan",
        "--augment=much",
        "--mixup=output",
        "--mixup_alpha=0",
        "--mixed_layer=6",
        "--mixed_layer=first",
        "--predicted_data_to=nowhere",
        "--min_confidence=2",
        "--predicted_weight=-1",
        "--resume_training=yes",
        "--ckpt_path_to_resume_from=ckpt/aa_Trains",
        "--add_predicted_data=yes",
        "--path_to_prediction=preds_from_aa_of_scan",
    ],
)
def test_bad_value_is_refused_by_the_name_of_its_flag(word: str) -> None:
    """Catches a range that is not checked, and a message that does not say which flag it is about."""
    assert word.partition("=")[0] in refusal("training", word)


@pytest.mark.parametrize(
    "word",
    ["--batch_size=0", "--overwrite=2", "--ckpt_choice=newest", "--gpu=-2", "--precision=8", "--wandb=x", "--run_id="],
)
def test_bad_value_of_inference_is_refused_by_the_name_of_its_flag(word: str) -> None:
    """Catches a range that is not checked."""
    others = [other for other in NEEDED if other.partition("=")[0] != word.partition("=")[0]]
    assert word.partition("=")[0] in refusal("inference", *others, word)


def test_inference_needs_a_scan() -> None:
    """Catches a run that starts without knowing what to predict."""
    assert "--infer_path" in refusal("inference")


@pytest.mark.parametrize("word", ["--colour=red", "--learning-rate=1", "--batch=4", "--max_epoch=3", "--gp=1"])
def test_unknown_and_shortened_flags_are_refused(word: str) -> None:
    """Catches abbreviations: `--max_epoch` would silently mean one flag today and another tomorrow."""
    assert word.partition("=")[0] in refusal("training", word)
    assert "--infer" in refusal("inference", "--infer=scan", "--run_id=abc")


def test_a_scheduler_needs_an_end() -> None:
    """Catches a cosine over an unlimited run, which divides by -1."""
    assert "--max_epochs" in refusal("training", "--max_epochs=-1", "--scheduler=cosine")


def test_two_names_of_the_project_have_to_agree() -> None:
    """Catches one of two names of a flag winning in silence."""
    message = refusal("inference", *NEEDED, "--wandb_project=A", "--log_wandb_project=B")
    assert "--wandb_project" in message and "--log_wandb_project" in message and "A" in message and "B" in message
    assert inference(*NEEDED, "--wandb_project=A", "--log_wandb_project=A").wandb_project == "A"
    assert inference(*NEEDED, "--log_wandb_project=B").wandb_project == "B"


def test_a_flag_given_twice_has_to_agree_with_itself() -> None:
    """Catches a long command line whose first value is dropped unseen."""
    assert "--seed" in refusal("training", "--seed=1", "--seed=2")
    assert training("--seed=1", "--seed=1")["seed"] == 1


def test_space_where_a_slash_was_meant() -> None:
    """Catches `--infer_path=./data/clean_CT_scans scan_1` predicting the wrong folder."""
    message = refusal("inference", "--run_id=a", "--infer_path=./data/clean_CT_scans", "scan_1")
    assert "scan_1" in message and "--infer_path=./data/clean_CT_scans" in message and "/" in message


def test_space_after_the_equals_sign() -> None:
    """Catches `--ckpt_choice= =best`, a slip that has to show the right form."""
    assert "--ckpt_choice=best" in refusal("inference", *NEEDED, "--ckpt_choice=", "=best")
    assert "--ckpt_choice=" in refusal("inference", *NEEDED, "--ckpt_choice=", "best")


def test_missing_space_between_two_flags() -> None:
    """Catches `...=abc_Trains--early_stopping=yes` being taken for a name."""
    message = refusal("training", "--wandb_project=abc_Trains--early_stopping=yes")
    assert "space" in message and "--early_stopping=" in message
    assert "--early_stopping" in refusal("training", "--dirpath=abc_Trains--early_stopping=yes")


def test_value_without_a_name() -> None:
    """Catches a stray word being swallowed."""
    assert "scan" in refusal("inference", *NEEDED, "scan")
    assert "given as elsewhere and as scan" in refusal("inference", "elsewhere", *NEEDED)
    assert "'other' is one word too many" in refusal("inference", "scan", "other", *NEEDED)


def test_the_first_word_may_leave_out_its_name() -> None:
    """Catches `sarco predict SCAN` that takes the scan for something else, or not at all."""
    typed = Command("predict", "", INFERENCE, words=("infer_path",)).parse(["a scan", "--run_id=first"])
    assert typed == {"infer_path": Path("a scan"), "run_id": "first"}
    two = Command("compare", "", (CompareOptions,), words=("truth", "prediction"))
    assert two.parse(["a", "b"]) == two.parse(["--truth=a", "--prediction", "b"]) == two.parse(["a", "--prediction=b"])


def test_typed_wins_over_stored_and_stored_over_default() -> None:
    """Catches a checkpoint that overrides the command line, or defaults that override the checkpoint."""
    stored = to_builtins(FitOptions(max_epochs=5, learning_rate=0.5, patience=3))
    typed = Command("train", "", TRAINING).parse(["--max_epochs=9"])
    fit = build(FitOptions, typed, stored)
    assert (fit.max_epochs, fit.learning_rate, fit.patience) == (9, 0.5, 3)
    assert build(FitOptions, {}, None) == FitOptions()
    assert Command("train", "", TRAINING).parse([]) == {}


@dataclasses.dataclass(frozen=True)
class _Chosen:
    size: int | None = option(None, DATA, "how large", auto=True)


def test_auto_leaves_a_value_to_the_data() -> None:
    """Catches `--size=auto` that cannot be typed, or that help does not show."""
    command = Command("try", "", (_Chosen,))
    assert command.parse(["--size=AUTO"]) == {"size": None}
    assert command.parse(["--size=64"]) == {"size": 64}
    with pytest.raises(OptionError, match="has to be a whole number or auto"):
        command.parse(["--size=large"])
    assert "(default: auto)" in command.parser().format_help()


def test_options_survive_a_checkpoint() -> None:
    """Catches a Path in a checkpoint: it saves well and then refuses to load."""
    predicted = PredictedOptions(add_predicted_data=True, path_to_prediction=(Path("a"), Path("b")))
    styled = InventedOptions(0.5, Path("a/b"))
    options = [consumer() for consumer in TRAINING] + [DataOptions(data_dir=Path("a/b")), predicted, styled]
    stored = [to_builtins(one) for one in options]
    for values in stored:
        plain = (str, int, float, bool, list, type(None))
        assert all(type(value) in plain for value in values.values())
    file = io.BytesIO()
    torch.save(stored, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == stored


@pytest.mark.parametrize(("script", "consumers"), [("training.py", TRAINING), ("inference.py", INFERENCE)])
def test_help_names_every_flag_and_imports_nothing_slow(script: str, consumers: tuple[type, ...]) -> None:
    """Catches a flag that -h does not know, and a `-h` that takes seconds."""
    answer = help_of(script)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    for consumer in consumers:
        for item in dataclasses.fields(consumer):
            assert re.search(rf"^  --{item.name}\b.*$", answer.stdout, re.MULTILINE), item.name
    assert answer.stdout.endswith("imported: []\n")


def test_help_shows_headings_and_defaults() -> None:
    """Catches a help that leaves out the heading or the default."""
    text = " ".join(help_of("training.py").stdout.split())
    for part in (
        "Data and logging:",
        "Basics:",
        "(default: 16)",
        "(default: 0.002)",
        "(default: yes)",
        "(default: auto)",
        "80 %",
    ):
        assert part in text
    assert "--log_wandb_project" in help_of("inference.py").stdout


@pytest.mark.skipif(os.name == "nt", reason="HOME names no home folder there")
def test_a_tilde_is_home_in_every_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches a folder called "~": after "=" no shell expands it, nor in an environment, a list or a quoted word."""
    monkeypatch.setenv("HOME", str(tmp_path))
    checked = 0
    for command in every_command():
        kinds = command.kinds()
        for name, kind in kinds.items():
            if kind is not Path:
                continue
            value = command.parse([f"--{name}=~/a b"])[name]
            assert value in (tmp_path / "a b", (tmp_path / "a b",)), f"{command.name} --{name}"
            checked += 1
    assert checked > 15
    assert training("--add_predicted_data=yes", "--path_to_prediction=~/a,~/b,c~/~")["path_to_prediction"] == (
        tmp_path / "a", tmp_path / "b", Path("c~/~"),
    )  # fmt: skip
    assert inference("~", "--run_id=aa").infer_path == tmp_path
    assert inference("./~/x", "--run_id=aa").infer_path == Path("~/x")
    assert inference(f"~{getpass.getuser()}/x", "--run_id=aa").infer_path.is_absolute()
    assert "nobody's home folder is ~nosuchuser" in refusal("inference", "--infer_path=~nosuchuser/x", "--run_id=aa")
