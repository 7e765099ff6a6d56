"""Runs on disk: their names, finding them again, and checkpoints that are damaged, foreign or hostile."""

import errno
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sarco
from sarco.core.errors import CheckpointError, InputError, OptionError
from sarco.core.training_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    InventedOptions,
    MixupOptions,
    NetworkOptions,
    PredictedOptions,
    RunOptions,
)
from sarco.runs import store as store_module
from sarco.runs.store import Run, RunDescription, RunStore, held, load_checkpoint, new_run_id, read_run
from sarco.scan.labels import LabelTable


def describe(weights_file: Path | None = None) -> RunDescription:
    """A run whose every value differs from the default where it can."""
    return RunDescription(
        run=RunOptions(run_id="abcd1234", wandb_project="Trains", dirpath=Path("some/where"), wandb="no"),
        labels=LabelTable({1: "psoas", 4: "Rückenstrecker"}),
        data=DataOptions(
            data_dir=Path("a/b"),
            image_size=64,
            pixel_mm=6.5,
            field_mm=416.0,
            batch_size=4,
            hu_min=-150.5,
            seed=7,
            channel_3d=True,
        ),
        network=NetworkOptions(
            backbone="efficientnet-b1", model_choice="segresnet", pretrained=str(weights_file or "no")
        ),
        fit=FitOptions(max_epochs=3, learning_rate=1e-3, scheduler="cosine", early_stopping=False),
        augment=AugmentOptions(do_flips=True, aug_prob=0.5),
        mixup=MixupOptions(mixup="manifold", mixed_layer="2"),
        predicted=PredictedOptions(add_predicted_data=True, path_to_prediction=(Path("p/q"), Path("r"))),
        weights="random",
        split={"by_patient": True, "train": {"patients": {"x": 3}}, "seed": 7},
        area_errors={"all": [[0.1, 0.2], [0.3]], "psoas": [[0.5]]},
        validation={"0a1b": {"psoas": [0.8, 0.1], "all": [0.9, None]}},
        training_statistics={"n_slices": 40, "features": {"body_fill": {"median": 0.8, "spread": 0.02, "n": 40}}},
        activation="relu",
        invented=InventedOptions(0.5, Path("some/scans")),
    )


def save(path: Path, content: object = None) -> Path:
    """A checkpoint as training leaves it, or with another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"hyper_parameters": describe().to_builtins(), "state_dict": {"w": torch.arange(1000.0)}, "epoch": 2}
    torch.save(whole if content is None else content, path)
    return path


def make_run(root: Path, run_id: str, project: str = "Trains", channel_3d: bool = False) -> Run:
    """A run with both checkpoints."""
    run = RunStore(root).create(run_id, project, channel_3d)
    for choice in ("best", "last"):
        save(run.checkpoint_path(choice))
    return run


def refusal(path: Path) -> str:
    """The one line that a checkpoint is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 500
    return message


def test_checkpoint_of_an_earlier_version_keeps_its_crop(tmp_path: Path) -> None:
    """Catches an old network that sees patients at a scale that it never learnt."""
    stored = describe().to_builtins()
    for name in ("crop", "pixel_mm", "field_mm"):
        del stored["data"][name]
    found, _ = load_checkpoint(save(tmp_path / "old.ckpt", {"hyper_parameters": stored, "state_dict": {}}))
    assert (found.data.crop, found.data.crop_size) == ("box", (64, None))


def test_checkpoint_without_a_settled_crop_is_refused(tmp_path: Path) -> None:
    """Catches a network that would be shown slices at any scale."""
    stored = describe().to_builtins()
    stored["data"]["pixel_mm"] = None
    assert "not chosen" in refusal(save(tmp_path / "open.ckpt", {"hyper_parameters": stored, "state_dict": {}}))


@pytest.mark.parametrize(("channel_3d", "name"), [(False, "my_run-1_Big Trains"), (True, "my_run-1_Big Trains_3d")])
def test_folder_says_run_and_project(tmp_path: Path, channel_3d: bool, name: str) -> None:
    """Catches another folder name than the documented <run_id>_<wandb_project>[_3d]."""
    run = make_run(tmp_path / "deep" / "ckpt", "my_run-1", "Big Trains", channel_3d)
    assert run.folder == tmp_path / "deep" / "ckpt" / name
    assert run.checkpoint_path("best").name == "best.ckpt" and run.checkpoint_path("last").name == "last.ckpt"
    found = RunStore(tmp_path / "deep" / "ckpt").find("my_run-1")
    assert (found.folder, found.wandb_project, found.channel_3d) == (run.folder, "Big Trains", channel_3d)


def test_fresh_ids_are_eight_letters_or_digits_and_differ() -> None:
    """Catches ids that repeat under a seed."""
    torch.manual_seed(0)
    ids = {new_run_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch("[a-z0-9]{8}", one) for one in ids)


def test_id_is_found_with_and_without_its_project(tmp_path: Path) -> None:
    """Catches a run that is found only where one knows its project, and one found in the wrong project."""
    run = make_run(tmp_path, "aa", channel_3d=True)
    store = RunStore(tmp_path)
    assert store.checkpoint("aa") == store.checkpoint("aa", "Trains") == run.folder / "best.ckpt"
    assert store.checkpoint("aa", choice="last") == run.folder / "last.ckpt"
    with pytest.raises(CheckpointError, match="Other"):
        store.find("aa", "Other")


def test_unknown_run_lists_the_known_ones(tmp_path: Path) -> None:
    """Catches "not found" without a hint at what there is."""
    for run_id in ("aa", "bb-2"):
        make_run(tmp_path, run_id)
    with pytest.raises(CheckpointError) as caught:
        RunStore(tmp_path).checkpoint("a")
    assert "aa" in str(caught.value) and "bb-2" in str(caught.value) and str(tmp_path) in str(caught.value)
    with pytest.raises(CheckpointError, match="none"):
        RunStore(tmp_path / "absent").checkpoint("a")


def test_same_id_twice_is_refused(tmp_path: Path) -> None:
    """Catches a second training that overwrites, or mixes with, the first: also in another project or kind."""
    run = make_run(tmp_path, "aa")
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    for project, channel_3d in (("Trains", False), ("Trains", True), ("Other", False)):
        with pytest.raises(OptionError, match="--run_id=aa"):
            RunStore(tmp_path).create("aa", project, channel_3d)
    with pytest.raises(OptionError, match="--run_id=aa"):
        RunStore(tmp_path).check_free("aa")
    RunStore(tmp_path).check_free("a")
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["aa_Trains"]


def test_folder_in_the_way_is_not_touched(tmp_path: Path) -> None:
    """Catches a run that moves into a folder which is there already, or in which none can be made."""
    (tmp_path / "aa_Trains").mkdir()
    with pytest.raises(OptionError, match="aa_Trains"):
        RunStore(tmp_path).create("aa", "Trains", False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="--dirpath"):
        RunStore(tmp_path / "file").create("aa", "Trains", False)


def test_run_that_ended_before_its_first_epoch_gives_its_id_back(tmp_path: Path) -> None:
    """Catches an id that is lost to a run of which nothing is left, and the folder of a run that is at work."""
    store = RunStore(tmp_path)
    first = store.create("aa", "Trains", False)
    (first.folder / "wandb").mkdir()
    with held(first):
        for refused in (lambda: store.check_free("aa"), lambda: store.create("aa", "Trains", False)):
            with pytest.raises(OptionError, match="--run_id=aa"):
                refused()
        with pytest.raises(OptionError, match="another process"), held(first):
            pass
    store.check_free("aa")
    assert store.create("aa", "Trains", False) == first and (first.folder / "wandb").is_dir()
    other = make_run(tmp_path, "aa", "Other")
    assert store.find("aa").folder == other.folder, "of two, the one with a checkpoint"
    with pytest.raises(OptionError, match="--run_id=aa"):
        store.create("aa", "Trains", False)


def test_run_at_work_is_known_from_another_process(tmp_path: Path) -> None:
    """Catches two trainings in one folder; and an id that stays taken where the first was killed."""
    run = RunStore(tmp_path).create("aa", "Trains", False)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sarco.runs.store import held, read_run\n"
        "with held(read_run(Path(sys.argv[1]))):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(sarco.__file__).parents[1])}
    command = [sys.executable, "-c", code, str(run.folder)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(OptionError, match="exists already"):
            RunStore(tmp_path).create("aa", "Trains", False)
        process.kill()
    RunStore(tmp_path).create("aa", "Trains", False)


def test_record_that_cannot_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a full disk that ends in a traceback, and in a folder that blocks its id and is known to nobody."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_json", fail)
        with pytest.raises(InputError, match=r"run.json: the record of the run cannot be written .*MB are free"):
            RunStore(tmp_path).create("aa", "Trains", False)
    assert list(tmp_path.iterdir()) == []


def test_id_of_several_runs_asks_for_the_project(tmp_path: Path) -> None:
    """Catches one of two runs being taken at random: folders of two machines get copied together."""
    first = make_run(tmp_path, "aa")
    make_run(tmp_path / "elsewhere", "aa", "Other")
    shutil.move(tmp_path / "elsewhere" / "aa_Other", tmp_path)
    with pytest.raises(CheckpointError) as caught:
        RunStore(tmp_path).find("aa")
    assert all(part in str(caught.value) for part in ("--ckpt_wandb_project", "Trains", "Other"))
    assert RunStore(tmp_path).find("aa", "Trains").folder == first.folder


@pytest.mark.parametrize("run_id", ["aa", "my_run"])
@pytest.mark.parametrize("channel_3d", [False, True])
def test_folder_copied_without_its_record_is_found(tmp_path: Path, run_id: str, channel_3d: bool) -> None:
    """Catches a checkpoint that cannot be used because a small file beside it was not copied."""
    run = make_run(tmp_path, run_id, "Big_Trains", channel_3d)
    (run.folder / "run.json").unlink()
    assert RunStore(tmp_path).find(run_id).folder == run.folder
    assert RunStore(tmp_path).find(run_id, "Big_Trains").folder == run.folder


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    """Catches the cache, or anything else in the folder, being listed as a run."""
    (tmp_path / ".cache" / "x").mkdir(parents=True)
    (tmp_path / "some_notes").mkdir()
    (tmp_path / "file_Trains").write_text("")
    make_run(tmp_path, "aa")
    assert [run.run_id for run in RunStore(tmp_path).runs()] == ["aa"]


def test_run_without_a_best_checkpoint(tmp_path: Path) -> None:
    """Catches `last` being taken in silence where `best` was asked for."""
    run = make_run(tmp_path, "aa")
    (run.folder / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match="no best checkpoint"):
        RunStore(tmp_path).checkpoint("aa")
    assert RunStore(tmp_path).checkpoint("aa", choice="last").is_file()


def test_description_survives_the_checkpoint(tmp_path: Path) -> None:
    """Catches a value that is lost, or that comes back as another type."""
    description, checkpoint = load_checkpoint(save(tmp_path / "best.ckpt"))
    assert description == describe()
    assert checkpoint["epoch"] == 2 and torch.equal(checkpoint["state_dict"]["w"], torch.arange(1000.0))
    file = io.BytesIO()
    torch.save(describe().to_builtins(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == describe().to_builtins()
    assert json.loads(json.dumps(describe().to_builtins())) == describe().to_builtins()
    assert description.version == sarco.__version__


def test_checkpoint_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    """Catches runs that cannot predict any more because they know nothing of errors and statistics."""
    old = describe().to_builtins()
    del old["area_errors"], old["training_statistics"], old["validation"]
    path = save(tmp_path / "best.ckpt", {"hyper_parameters": old, "state_dict": {}, "epoch": 2})
    description, _ = load_checkpoint(path)
    assert description == replace(describe(), area_errors={}, training_statistics={}, validation={})


def test_file_of_first_weights_need_not_exist_any_more(tmp_path: Path) -> None:
    """Catches a checkpoint that works only where the file of its first weights still lies."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"x")
    stored = describe(weights).to_builtins()
    weights.unlink()
    assert RunDescription.from_builtins(stored).network.backbone == "efficientnet-b1"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_checkpoint(tmp_path: Path, share: float) -> None:
    """Catches a traceback after a copy that broke off."""
    path = save(tmp_path / "best.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert re.search("truncated|damaged", refusal(path))


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["pickle", "pickle 4", "torch", "inside a checkpoint", "old torch"])
def test_pickled_code_is_never_run(tmp_path: Path, form: str) -> None:
    """Catches a checkpoint that runs a stranger's code on a hospital's computer."""
    path, hostile = tmp_path / "best.ckpt", Hostile(tmp_path / "was here")
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(hostile, protocol=4 if form.endswith("4") else 2))
    elif form == "old torch":
        torch.save({"state_dict": hostile}, path, _use_new_zipfile_serialization=False)
    else:
        content = {"hyper_parameters": describe().to_builtins(), "state_dict": {"w": hostile}}
        save(path, hostile if form == "torch" else content)
    message = refusal(path)
    assert not hostile.trace.exists()
    if form in ("torch", "inside a checkpoint"):
        assert "pickled code" in message
    assert not path.with_name("was here").exists()


def test_hostile_file_is_hostile(tmp_path: Path) -> None:
    """The counter-check: whoever does run it, sees the trace."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / "was here")))
    assert (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        {"state_dict": {}, "hyper_parameters": {}},
        {"state_dict": {}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": {}, "hyper_parameters": None},
        {"hyper_parameters": describe().to_builtins()},
        {"state_dict": {}, "hyper_parameters": {**describe().to_builtins(), "labels": {}}},
        {"state_dict": {}, "hyper_parameters": {**describe().to_builtins(), "labels": {"one": "x"}}},
        {"state_dict": {}, "hyper_parameters": {**describe().to_builtins(), "data": {"data_dir": "x", "seed": "y"}}},
        {"state_dict": {}, "hyper_parameters": {**describe().to_builtins(), "network": {"backbone": "vgg"}}},
        [1, 2],
        torch.zeros(3),
        "text",
    ],
    ids=range(12),
)
def test_checkpoint_of_another_program(tmp_path: Path, content: object) -> None:
    """Catches a KeyError where somebody else's checkpoint lies in the folder."""
    assert "no checkpoint of sarco" in refusal(save(tmp_path / "best.ckpt", content))


def test_files_that_are_no_checkpoint_at_all(tmp_path: Path) -> None:
    """Catches a traceback for a text file, another archive, a folder, or nothing."""
    (tmp_path / "text.ckpt").write_text("hello\nworld")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a", "b")
    (tmp_path / "folder.ckpt").mkdir()
    for name in ("text", "zip", "folder", "absent"):
        refusal(tmp_path / f"{name}.ckpt")


@pytest.mark.parametrize(
    "text",
    [
        '{"run_id": ["a"], "wandb_project": "P", "channel_3d": false}',
        '{"run_id": "a", "wandb_project": null, "channel_3d": false}',
        '{"run_id": "a", "wandb_project": "P", "channel_3d": "false"}',
        '{"run_id": "a", "run_id": "b", "wandb_project": "P", "channel_3d": false}',
        '["run_id"]',
        "[" * 100_000,
    ],
)
def test_a_record_of_another_kind_is_none(tmp_path: Path, text: str) -> None:
    """Catches a run called "None" or "['a']", a 3D network because of the text "false", and a traceback."""
    folder = tmp_path / "abc_Trains"
    folder.mkdir()
    (folder / "best.ckpt").write_bytes(b"")
    (folder / "run.json").write_text(text)
    run = read_run(folder)
    assert run is not None
    assert (run.run_id, run.wandb_project, run.channel_3d, run.recorded) == ("abc", "Trains", False, False)


def test_runs_of_earlier_versions_go_on_without_strong_augmentation() -> None:
    """Catches a resumed run that is augmented otherwise than it was, because of a new default."""
    stored = describe().to_builtins()
    assert RunDescription.from_builtins(stored).augment.augment == "strong"
    del stored["augment"]["augment"]
    assert RunDescription.from_builtins(stored).augment == AugmentOptions(augment="no", do_flips=True, aug_prob=0.5)
