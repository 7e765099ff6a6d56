"""training.py as a user runs it: a run that is killed ends as one that is not, Ctrl-C is no accident, two processes
count as one, and every flag has a test that shows what it does."""

import ast
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from sarco.phantom.patient import PhantomOptions, write_dataset
from training import CONSUMERS

ROOT = Path(__file__).parents[1]
QUICK = ["--image_size=64", "--batch_size=4", "--learning_rate=1e-3", "--pretrained=no", "--gpu=-1", "--wandb=no"]
EVERYTHING = [
    "--scheduler=cosine", "--warmup_epochs=1", "--do_flips=yes", "--do_elastic_transforms=yes", "--aug_prob=0.5",
    "--mixup=manifold",
]  # fmt: skip
TIMEOUT_S = 280


def environment(home: Path) -> dict[str, str]:
    """No W&B key, no GPU, and a home of its own."""
    quiet = {"GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": "", "WANDB_API_KEY": "", "HOME": str(home)}
    ours = ("WANDB_", "SARCO_", "LOCAL_RANK", "NODE_RANK")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | quiet


def start(home: Path, *words: object) -> "subprocess.Popen[str]":
    """Starts training.py."""
    command = [sys.executable, str(ROOT / "training.py"), "--data_dir=data", *QUICK, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=home, env=environment(home), stdout=pipe, stderr=pipe, text=True)


def train(home: Path, *words: object) -> str:
    """Runs training.py to its end, which has to be a good one; gives what it printed."""
    process = start(home, *words)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    return out


def resume(home: Path, path: Path, *words: object) -> str:
    """Goes on with a run; nothing but the place and what is typed now is given."""
    command = [sys.executable, str(ROOT / "training.py"), "--resume_training=yes", f"--ckpt_path_to_resume_from={path}"]
    command += [str(word) for word in words]
    done = subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(run: Path) -> list[dict[str, str]]:
    """The lines of metrics.csv."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Waits until something has happened while the process runs."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def tensors_in(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, however deep."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {k: v for key, inner in items for k, v in tensors_in(inner, f"{name}/{key}").items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small patients in it."""
    folder = tmp_path_factory.mktemp("training")
    write_dataset(folder / "data", 3, 1, PhantomOptions(n_slices=4, rows=64, columns=72, labels="groups"))
    return folder


@pytest.fixture(scope="module")
def straight(home: Path) -> Path:
    """A run of four epochs that nobody disturbed."""
    train(home, "--dirpath=straight", "--run_id=same", "--max_epochs=4", *EVERYTHING)
    return home / "straight" / "same_Trains"


def test_killed_run_ends_as_if_it_had_never_been(home: Path, straight: Path) -> None:
    """Catches a resumed run that is another run: 4 epochs straight equal 2, kill -9 and the rest, bit for bit."""
    run = home / "killed" / "same_Trains"
    process = start(home, "--dirpath=killed", "--run_id=same", "--max_epochs=4", *EVERYTHING)
    wait_for(lambda: len(rows_of(run)) >= 2 and (run / "last.ckpt").is_file(), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and len(rows_of(run)) < 4
    done = load(run / "last.ckpt")["epoch"] + 1
    assert done in (1, 2)
    out = resume(home, run)
    assert "going on with run same" in out and "changed" not in out
    assert [int(row["epoch"]) for row in rows_of(run)] == [0, 1, 2, 3]
    assert (run / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    for name in ("last.ckpt", "best.ckpt"):
        one, two = load(straight / name), load(run / name)
        weights = one["state_dict"]
        assert weights.keys() == two["state_dict"].keys() and len(weights) > 300
        assert all(torch.equal(weights[key], two["state_dict"][key]) for key in weights)
        assert one["epoch"] == two["epoch"] and one["global_step"] == two["global_step"]
        first, second = tensors_in(one["optimizer_states"]), tensors_in(two["optimizer_states"])
        assert first.keys() == second.keys() and len(first) > 300
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert {path.name for path in run.iterdir()} == {path.name for path in straight.iterdir()}


@pytest.mark.slow
def test_resume_is_exact_in_bf16_and_with_batches_that_add_up(home: Path) -> None:
    """Catches a step in bf16 that chance enters, and gradients of half a step that get lost; also --cache=no."""
    words = ["--precision=bf16", "--accumulate_grad_batches=2", "--mixup=manifold", "--cache=no"]
    out = train(home, "--dirpath=bf16/a", "--run_id=same", "--max_epochs=2", *words)
    assert "bf16-mixed, depthwise convolutions in 32" in out and "MB in memory" in out
    train(home, "--dirpath=bf16/b", "--run_id=same", "--max_epochs=1", *words)
    resume(home, home / "bf16" / "b" / "same_Trains", "--max_epochs=2")
    one, two = (load(home / "bf16" / side / "same_Trains" / "last.ckpt") for side in "ab")
    assert one["global_step"] == two["global_step"] == 2, "8 slices in batches of 4, two batches per step, two epochs"
    assert all(torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())
    first, second = tensors_in(one["optimizer_states"]), tensors_in(two["optimizer_states"])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not list((home / "bf16").rglob(".cache"))


def test_cosine_rate_is_recorded_epoch_by_epoch(straight: Path) -> None:
    """Catches --scheduler and --warmup_epochs without effect, and a rate that is noted an epoch too late."""
    rates = [float(row["learning_rate"]) for row in rows_of(straight)]
    assert rates == pytest.approx([0.0, 1e-3, 0.75e-3, 0.25e-3])


def test_run_can_be_judged_without_wandb(straight: Path) -> None:
    """Catches a run that leaves no figures."""
    row = rows_of(straight)[-1]
    assert {"val_loss", "val_ap", "val_dice", "val_iou", "val_accuracy", "val_area_error", "train_loss"} <= row.keys()
    assert "val_dice_psoas_left" in row
    assert (straight / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_typed_values_win_in_a_run_that_was_moved(home: Path, straight: Path) -> None:
    """Catches a new learning rate that never reaches the optimiser, and a run bound to the place where it began."""
    moved = home / "moved" / "elsewhere" / straight.name
    shutil.copytree(straight, moved)
    words = ["--max_epochs=5", "--learning_rate=5e-4", "--scheduler=none", "--mixup=no"]
    out = resume(home, moved / "last.ckpt", *words)
    for change in ("--max_epochs: 4 -> 5", "--learning_rate: 0.001 -> 0.0005", "--scheduler: cosine -> none"):
        assert f"changed: {change}" in out
    rows = rows_of(moved)
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3, 4]
    assert float(rows[4]["learning_rate"]) == 5e-4
    assert rows[4]["train_dice"] and not rows[3]["train_dice"], "without mixup training slices can be scored"
    content = load(moved / "last.ckpt")
    assert [group["lr"] for group in content["optimizer_states"][0]["param_groups"]] == [5e-4]
    assert content["hyper_parameters"]["fit"]["learning_rate"] == 5e-4
    assert content["epoch"] == 4
    assert len(rows_of(straight)) == 4, "the run at the old place is another one now"
    assert load(straight / "last.ckpt")["epoch"] == 3


def test_ctrl_c_says_how_to_go_on(home: Path) -> None:
    """Catches a traceback, a status that says all was well, and a command for another place; also --max_epochs=-1."""
    words = ["--dirpath=my runs", "--run_id=stopped", "--max_epochs=-1", "--early_stopping=no"]
    process = start(home, *words)
    run = home / "my runs" / "stopped_Trains"
    wait_for(lambda: len(rows_of(run)) >= 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130 and "Traceback" not in err
    line = next(line for line in out.splitlines() if line.startswith("python training.py --resume_training=yes"))
    done = load(run / "last.ckpt")["epoch"] + 1
    path = Path(shlex.split(line)[-1].partition("=")[2])
    assert home / path == run
    assert not list(run.glob(".*")), "nothing half-written is left"
    assert (run / "curves.png").is_file()
    assert done >= 1 and len(rows_of(run)) in (done, done + 1)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("victim", ["W&B's own process", "the process that speaks with it"])
def test_out_of_memory_killer_takes_wandb_alone(home: Path, victim: str) -> None:
    """Catches a training that dies, or hangs, with W&B: it goes on to its end, with one line."""
    run = home / "wandb" / f"{len(victim)}_Trains"
    words = ["--dirpath=wandb", f"--run_id={len(victim)}", "--max_epochs=6", "--early_stopping=no"]
    command = [sys.executable, str(ROOT / "training.py"), "--data_dir=data", *QUICK[:-1], "--wandb=offline", *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=home, env=environment(home), stdout=pipe, stderr=pipe, text=True)
    wait_for(lambda: len(rows_of(run)) >= 1, process)
    (speaker,) = children(process.pid)
    (core,) = children(speaker)
    os.kill(core if victim == "W&B's own process" else speaker, signal.SIGKILL)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0 and "Traceback" not in err
    assert [line.startswith("W&B: lost (") for line in out.splitlines() if "W&B" in line] == [True]
    assert load(run / "last.ckpt")["epoch"] == 5


VALIDATE = """
import json, sys
from dataclasses import replace
from pathlib import Path

import callbacks
from model import SarcoModel
from sarco.network.device import choose_device
from sarco.runs.store import Run
from sarco_datamodule import SarcoDataModule

checkpoint, processes, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
model = SarcoModel.from_checkpoint(checkpoint)
description = replace(model.description, run=replace(model.description.run, devices=processes))
datamodule = SarcoDataModule(description.data, out.parent / "cache")
run = Run(checkpoint.parent, "x", "y", False)
trainer = callbacks.make_trainer(description, run, choose_device(-1, "auto", processes), None)
scores = trainer.validate(model, datamodule=datamodule, verbose=False)[0]
if trainer.is_global_zero:
    counted = {str(index): int(confusion.sum()) for index, confusion in model.slice_confusions.items()}
    out.write_text(json.dumps({"scores": scores, "slices": counted, "world": trainer.world_size}))
"""


@pytest.mark.slow
def test_two_processes_score_as_one(home: Path, straight: Path, tmp_path: Path) -> None:
    """Catches slices counted twice to make the shares even, and means of means: 3 slices on 2 processes."""
    script = tmp_path / "validate.py"
    script.write_text(VALIDATE)
    found = {}
    content = load(straight / "last.ckpt")
    content["hyper_parameters"]["data"] |= {"batch_size": 2, "val_fraction": 0.3}
    torch.save(content, tmp_path / "last.ckpt")
    data = home / "data"
    odd = tmp_path / "data"
    shutil.copytree(data, odd)
    for folder in sorted(odd.glob("P*/")):
        if folder.is_dir():
            sorted(folder.glob("*.dcm"))[-1].unlink()  # three slices per patient, which two processes cannot share
    for processes in (1, 2):
        command = [sys.executable, str(script), str(tmp_path / "last.ckpt"), str(processes), str(tmp_path / "scores")]
        env = environment(home) | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr
        found[processes] = json.loads((tmp_path / "scores").read_text())
    assert (found[1]["world"], found[2]["world"]) == (1, 2)
    assert len(found[1]["slices"]) == 3
    assert found[1]["slices"] == found[2]["slices"]
    assert found[1]["scores"].keys() == found[2]["scores"].keys()
    assert {"val_loss", "val_dice", "val_iou", "val_ap", "val_accuracy", "val_area_error"} <= found[1]["scores"].keys()
    for name, value in found[1]["scores"].items():
        assert found[2]["scores"][name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.slow
def test_two_processes_train_one_run(home: Path) -> None:
    """Catches --devices that makes two runs, a record of one process only, and a checkpoint that does not load."""
    out = train(home, "--dirpath=ddp", "--run_id=pair", "--max_epochs=2", "--devices=2", "--mixup=input")
    assert out.count("run id: pair") == 1
    run = home / "ddp" / "pair_Trains"
    assert len(rows_of(run)) == 2
    content = load(run / "last.ckpt")
    assert content["epoch"] == 1
    assert content["global_step"] == 2, "8 slices in batches of 4 on two processes are one step an epoch"
    resume(home, run, "--max_epochs=3", "--devices=1")
    assert [int(row["epoch"]) for row in rows_of(run)] == [0, 1, 2]


# Where each flag of training.py is shown to change what it should.
SHOWN_BY = {
    "data_dir": "test_scripts::test_training_ends_well",
    "labels": "layouts/test_wanted::test_labels_are_merged_under_a_new_name",
    "missing_labels": "layouts/test_wanted::test_a_case_without_a_structure",
    "dirpath": "test_training::test_ctrl_c_says_how_to_go_on",
    "cache": "training/test_cache::test_without_cache_slices_are_the_same_and_nothing_is_written",
    "cache_dir": "training/test_cache::test_place_of_the_cache_is_the_one_asked_for",
    "wandb_project": "test_scripts::test_three_slices_and_the_other_decoder_train",
    "wandb": "runs/test_tracking::test_mode_is_what_was_asked_for",
    "gpu": "test_scripts::test_training_ends_well",
    "run_id": "test_training::test_ctrl_c_says_how_to_go_on",
    "val_fraction": "training/test_split::test_split_keeps_patients_whole_and_comes_closest",
    "folds": "training/test_split::test_folds_keep_patients_whole_and_each_validates_once",
    "fold": "api/test_folds::test_each_patient_is_scored_by_the_network_that_never_saw_them",
    "seed": "test_sarco_datamodule::test_seed_decides_split_order_and_augmentation",
    "max_epochs": "training/test_callbacks::test_unlimited_run_ends_by_patience",
    "learning_rate": "test_training::test_typed_values_win_in_a_run_that_was_moved",
    "scheduler": "test_training::test_cosine_rate_is_recorded_epoch_by_epoch",
    "warmup_epochs": "training/test_schedule::test_warm_up_takes_at_most_a_third_of_the_run",
    "passes_per_epoch": "api/test_training::test_small_data_is_learnt_from_for_long_enough",
    "batch_size": "test_sarco_datamodule::test_batches_are_as_large_as_asked",
    "backbone": "network/test_segmentation::test_encoder_equals_its_reference",
    "model_choice": "network/test_segmentation::test_logits_lie_on_the_image",
    "pretrained": "network/test_segmentation::test_weights_from_a_file",
    "encoder_lr_factor": "network/test_taken::test_each_group_has_its_rate_also_where_a_run_goes_on",
    "freeze_epochs": "network/test_taken::test_frozen_parts_stay_and_then_learn",
    "precision": "training/test_callbacks::test_precision_reaches_the_trainer",
    "crop": "test_sarco_datamodule::test_crop_is_the_one_asked_for",
    "pixel_mm": "test_sarco_datamodule::test_crop_is_the_one_asked_for",
    "field_mm": "test_sarco_datamodule::test_crop_is_the_one_asked_for",
    "image_size": "test_sarco_datamodule::test_image_size_is_the_side_of_the_crop",
    "hu_min": "test_sarco_datamodule::test_window_is_the_one_asked_for",
    "hu_max": "test_sarco_datamodule::test_window_is_the_one_asked_for",
    "augment": "augmentation/test_draws::test_light_is_what_elastic_transforms_are_alone",
    "do_flips": "augmentation/test_draws::test_a_flag_does_not_shift_the_draws_of_the_other",
    "do_elastic_transforms": "augmentation/test_draws::test_probability_1_does_everything",
    "aug_prob": "augmentation/test_draws::test_each_kind_happens_as_often_as_asked",
    "mixup": "test_mixup::test_training_step_learns_from_the_mix",
    "mixup_alpha": "test_mixup::test_shares_follow_beta",
    "mixed_layer": "test_mixup::test_fixed_level_is_kept",
    "resume_training": "test_training::test_killed_run_ends_as_if_it_had_never_been",
    "ckpt_path_to_resume_from": "test_training::test_typed_values_win_in_a_run_that_was_moved",
    "early_stopping": "training/test_callbacks::test_without_early_stopping_nothing_waits",
    "patience": "training/test_callbacks::test_unlimited_run_ends_by_patience",
    "channel_3d": "test_scripts::test_three_slices_and_the_other_decoder_train",
    "add_predicted_data": "training/test_distillation::test_predictions_join_the_training_side",
    "path_to_prediction": "training/test_distillation::test_several_folders_and_trees",
    "predicted_data_to": "training/test_distillation::test_no_patient_ends_up_on_both_sides",
    "min_confidence": "training/test_distillation::test_only_sure_slices_enter",
    "predicted_weight": "training/test_distillation::test_weight_reaches_the_batch",
    "invented": "test_sarco_datamodule_invented::test_a_person_s_slices_and_invented_ones_share_each_batch",
    "style_from": "test_sarco_datamodule_invented::test_training_slices_alone_take_on_a_style",
    "num_workers": "test_sarco_datamodule::test_loader_processes_change_no_sample",
    "devices": "test_training::test_two_processes_train_one_run",
    "accumulate_grad_batches": "training/test_callbacks::test_gradients_of_several_batches_make_one_step",
    "num_nodes": "training/test_callbacks::test_several_machines_train_together",
}


def test_every_flag_is_shown_to_work() -> None:
    """Catches a flag that is accepted and does nothing, because no test would notice."""
    flags = {item.name for consumer in CONSUMERS for item in fields(consumer)}
    assert flags == SHOWN_BY.keys()
    for name, place in SHOWN_BY.items():
        file, _, test = place.partition("::")
        tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"--{name} is said to be shown by {place}"
