"""Trainings with invented patients, alone and beside a person's slices."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_batches import batches, same

import sarco
import sarco_datamodule_invented
from sarco.anatomy.labels import INVENTED_IDS, INVENTED_LABELS, meaning_of
from sarco.batches.mixed import FIRST_INVENTED
from sarco.core.errors import InputError, OptionError
from sarco.core.training_options import AugmentOptions, DataOptions, InventedOptions, PredictedOptions
from sarco.phantom.patient import PhantomOptions, make_phantom, write_dataset, write_series
from sarco.runs.store import load_checkpoint
from sarco_datamodule import SarcoDataModule
from sarco_datamodule_3d import SarcoDataModule_3D
from sarco_datamodule_invented import SarcoDataModule_Invented

SMALL = {"image_size": 32, "pixel_mm": 12.0, "batch_size": 4}
STYLED = {"image_size": 128, "pixel_mm": 4.0}  # a style needs pixels to be measured on
TINY = {**SMALL, "pretrained": "no", "gpu": -1, "scheduler": "none", "cache": False, "run_id": "same"}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of a few slices."""
    for name, value in {"DRAWS_A_PASS": 4, "PASSES": 2, "SAMPLE_SLICES": 4, "VALIDATION_SLICES": 3}.items():
        monkeypatch.setattr(sarco_datamodule_invented, name, value)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small patients with left and right muscles."""
    folder = tmp_path_factory.mktemp("invented") / "data"
    write_dataset(folder, 3, 1, PhantomOptions(n_slices=2, rows=48, columns=56, labels="groups"))
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series without labels."""
    folder = tmp_path_factory.mktemp("scans")
    write_series(make_phantom(1, PhantomOptions(2, 200, 220, (2.0, 2.0, 8.0))), folder / "a", patient_id="Doe", seed=1)
    return folder


def alone(
    augment: AugmentOptions | None = None, style_from: Path | None = None, **more: Any
) -> SarcoDataModule_Invented:
    """The data module without data, set up."""
    options = DataOptions(**{**SMALL, **more})
    datamodule = SarcoDataModule_Invented(options, augment or AugmentOptions(), PredictedOptions(), style_from)
    datamodule.setup()
    return datamodule


def mixed(
    data: Path, kept: tuple[str, ...] = (), share: float | None = 0.5, style_from: Path | None = None, **more: Any
) -> SarcoDataModule:
    """The data module with half of each batch invented, set up."""
    options = DataOptions(**{**SMALL, "data_dir": data, "val_fraction": 0.3, **more})
    kind = SarcoDataModule_3D if options.channel_3d else SarcoDataModule
    datamodule = kind(options, None, AugmentOptions(), invented=InventedOptions(share, style_from), kept=kept)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize("channel_3d", [False, True])
def test_invented_alone_need_no_data(channel_3d: bool) -> None:
    """Catches batches of another kind than a person's, and slices that come again in the next epoch."""
    datamodule = alone(channel_3d=channel_3d)
    first, second = batches(datamodule), batches(datamodule, epoch=1)
    assert [batch["image"].shape for batch in first] == 2 * [(4, 3 if channel_3d else 1, 32, 32)]
    assert dict(datamodule.labels.names) == INVENTED_LABELS
    for batch in first:
        assert batch["label"].dtype == torch.int64 and int(batch["label"].max()) < datamodule.labels.n_channels
        assert float(batch["image"].min()) >= 0 and float(batch["image"].max()) <= 1
        assert "known" not in batch
    seen = [index for batch in (*first, *second) for index in batch["index"].tolist()]
    assert len(set(seen)) == 16


def test_seed_decides_who_trains_but_not_who_validates() -> None:
    """Catches scores that cannot be compared between runs, and a seed without effect."""
    one, two, three = alone(seed=1), alone(seed=1), alone(seed=2)
    assert same(batches(one), batches(two)) and not same(batches(one), batches(three))
    assert same(list(one.val_dataloader()), list(three.val_dataloader()))
    assert len(set(one.validation_patients().values())) == 3


@pytest.mark.parametrize("kind", ["alone", "mixed"])
def test_loader_processes_paint_the_same(data: Path, kind: str) -> None:
    """Catches a stream that depends on which process draws it."""
    here, there = (
        alone(num_workers=workers) if kind == "alone" else mixed(data, num_workers=workers) for workers in (0, 2)
    )
    assert same(batches(here), batches(there))


@pytest.mark.parametrize("kind", ["alone", "mixed", "three slices"])
def test_training_slices_alone_take_on_a_style(data: Path, scans: Path, kind: str) -> None:
    """Catches a style that nobody gets, or a person's slices, or those that validate; one that hangs on processes."""
    made = [
        alone(AugmentOptions(augment="no"), style_from=folder, num_workers=workers, **STYLED)
        if kind == "alone"
        else mixed(data, style_from=folder, num_workers=workers, channel_3d=kind != "mixed", **STYLED)
        for folder, workers in ((None, 0), (scans, 0), (scans, 2))
    ]
    plain, styled, again = made
    assert [line for line in styled.describe() if "50% of the invented slices: from 2 slices of 1 series" in line]
    assert not [line for one in made for line in one.describe() if "Doe" in line]
    assert same(list(plain.val_dataloader()), list(styled.val_dataloader()))
    assert same(batches(styled), batches(again))
    changed = []
    for before, after in zip(batches(plain), batches(styled), strict=True):
        assert torch.equal(before["label"], after["label"]) and torch.equal(before["index"], after["index"])
        moved = (before["image"] != after["image"]).flatten(1).any(1)
        invented = after["index"] >= FIRST_INVENTED if kind != "alone" else torch.ones_like(moved)
        assert not moved[~invented].any()
        changed += moved[invented].tolist()
    assert any(changed) and not all(changed)
    assert not same(list(plain.calibration_dataloader()), list(styled.calibration_dataloader()))


def test_size_is_chosen_where_it_was_left_open() -> None:
    """Catches a training without data that asks the data for its crop."""
    datamodule = SarcoDataModule_Invented(DataOptions(image_size=64), AugmentOptions(), PredictedOptions())
    datamodule.setup()
    assert datamodule.options.crop_size == (64, pytest.approx(7.5)) and datamodule.options.passes_per_epoch == 2


def test_predictions_are_refused() -> None:
    """Catches an option that does nothing without a word."""
    predicted = PredictedOptions(add_predicted_data=True, path_to_prediction=(Path("a"),))
    with pytest.raises(OptionError, match="add_predicted_data"):
        SarcoDataModule_Invented(DataOptions(), AugmentOptions(), predicted)


@pytest.mark.parametrize("channel_3d", [False, True])
def test_a_person_s_slices_and_invented_ones_share_each_batch(data: Path, channel_3d: bool) -> None:
    """Catches a person who is said to have drawn what the network only keeps, and labels that are not matched."""
    datamodule = mixed(data, kept=("body", "psoas_left"), channel_3d=channel_3d)
    names = ["background", *datamodule.labels.names.values()]
    assert set(names) == {"background", "body", *datamodule.drawn.names.values()}, "psoas_left is the person's own"
    body = names.index("body")
    for batch in batches(datamodule):
        invented = batch["index"] >= FIRST_INVENTED
        assert int(invented.sum()) == 2
        assert batch["known"][invented].all()
        assert not batch["known"][~invented][:, body].any()
        assert batch["known"][~invented].sum(1).tolist() == [len(names) - 1] * int((~invented).sum())
        assert (batch["label"][invented] == body).any() and not (batch["label"][~invented] == body).any()
        assert (batch["label"][invented] == names.index("paraspinal_left")).any()
    for batch in datamodule.val_dataloader():
        assert (batch["index"] < FIRST_INVENTED).all() and not batch["known"][:, body].any()


def test_normalisation_is_measured_on_both(data: Path) -> None:
    """Catches statistics of batch normalisation that are of one kind where training saw both."""
    kinds = [batch["index"] >= FIRST_INVENTED for batch in mixed(data).calibration_dataloader()]
    assert all(int(kind.sum()) == 2 for kind in kinds)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the last checkpoint."""
    weights: dict[str, torch.Tensor] = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_resumed_run_is_the_same_run(data: Path, tmp_path: Path, share: float) -> None:
    """Catches a stream that starts anew when a run goes on: 2 epochs straight equal 1 and 1, bit for bit."""
    given = {} if share == 1 else {"data_dir": data, "val_fraction": 0.3, "passes_per_epoch": 1}
    lines: list[str] = []
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    sarco.train(invented=share, max_epochs=2, dirpath=straight, mixup="manifold", tell=lines.append, **TINY, **given)
    sarco.train(invented=share, max_epochs=1, dirpath=broken, mixup="manifold", **TINY, **given)
    sarco.train(resume_training=True, ckpt_path_to_resume_from=broken / "same_Trains", max_epochs=2)
    one, two = weights_of(straight / "same_Trains"), weights_of(broken / "same_Trains")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any("invented" in line for line in lines)


def test_a_resumed_run_keeps_its_style(scans: Path, tmp_path: Path) -> None:
    """Catches a run that goes on as painted, and a checkpoint that needs the folder before it predicts."""
    folder = tmp_path / "scans"
    shutil.copytree(scans, folder)
    options = {**TINY, **STYLED, "invented": 1.0, "style_from": folder}
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    sarco.train(max_epochs=2, dirpath=straight, **options)
    sarco.train(max_epochs=1, dirpath=broken, **options)
    sarco.train(resume_training=True, ckpt_path_to_resume_from=broken / "same_Trains", max_epochs=2)
    one, two = weights_of(straight / "same_Trains"), weights_of(broken / "same_Trains")
    assert all(torch.equal(one[name], two[name]) for name in one)
    shutil.rmtree(folder)
    assert load_checkpoint(broken / "same_Trains" / "last.ckpt")[0].invented.style_from == folder
    with pytest.raises(InputError, match=r"--style_from=.*there is no such file or folder"):
        sarco.train(resume_training=True, ckpt_path_to_resume_from=broken / "same_Trains", max_epochs=3)


def test_a_style_needs_invented_slices_and_a_folder(data: Path, scans: Path, tmp_path: Path) -> None:
    """Catches a style without effect, and a slip in the path that is told after all data was read."""
    with pytest.raises(OptionError, match=r"--style_from=.*add --invented"):
        sarco.train(data, style_from=scans)
    with pytest.raises(OptionError, match=r"--style_from=.*no such folder"):
        sarco.train(data, invented=0.5, style_from=tmp_path / "slip")


def test_invented_alone_and_data_exclude_each_other(data: Path) -> None:
    """Catches data that is read by nobody, without a word."""
    with pytest.raises(OptionError, match="--data_dir"):
        sarco.train(data, invented=1.0, run_id="aa")


def test_kept_labels_get_the_same_ids_again(data: Path) -> None:
    """Catches channels that change their meaning when a run goes on: then all that was learnt is elsewhere."""
    first = mixed(data, kept=tuple(INVENTED_IDS))
    again = mixed(data, kept=tuple(first.labels.names.values()))
    own = json.loads((data / "labels.json").read_text()).values()
    meant = {label for name in own for label in meaning_of(name)}
    assert again.labels == first.labels and len(first.labels.ids) == len(INVENTED_IDS) - len(meant) + len(own) - 1
    assert np.array_equal(again.known, first.known)


def test_a_share_that_nobody_chose_keeps_the_built_in_network_from_forgetting(data: Path, tmp_path: Path) -> None:
    """Catches fine-tuning that forgets what the data does not show, and labels in a run that nobody asked for."""
    chosen = mixed(data, kept=("psoas_left", "bone"), share=None)
    assert chosen.invented.invented == 0.5 and chosen.labels == chosen.drawn
    assert any("nothing of the built-in network is forgotten" in line for line in chosen.describe())
    assert {bool(index >= FIRST_INVENTED) for batch in batches(chosen) for index in batch["index"].tolist()} == {
        True,
        False,
    }
    typed = mixed(data, kept=("psoas_left", "bone"))
    assert "bone" in typed.labels.names.values() and "bone" not in chosen.labels.names.values()
    for datamodule in (mixed(data, share=None), mixed(data, kept=("bone",), share=0.0)):
        assert datamodule.invented.invented == 0.0
    strange = tmp_path / "data"
    shutil.copytree(data, strange)
    names = json.loads((strange / "labels.json").read_text())
    (strange / "labels.json").write_text(
        json.dumps({key: f"thing_{key}" if key != "0" else name for key, name in names.items()})
    )
    assert mixed(strange, kept=("bone",), share=None).invented.invented == 0.0
