"""Predictions as further labels: only sure ones, never in a person's place, never across the split, never of a slice
that is not the one that was predicted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco.core.errors import InputError
from sarco.core.training_options import DataOptions, PredictedOptions
from sarco.io.dicom import find_series
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import PhantomOptions, write_dataset
from sarco.results.folder import write_results
from sarco.runs.store import Provenance
from sarco.scan.labels import LabelTable
from sarco.training.cases import find_cases
from sarco.training.distillation import FoundPredictions, assign_sides, find_predictions
from sarco_datamodule import SarcoDataModule
from sarco_datamodule_3d import SarcoDataModule_3D

SLICES = 3
TABLE = LabelTable({1: "skeletal_muscle"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` (P001 to P003, labelled) and `new` (P004 and P005, without labels)."""
    root = tmp_path_factory.mktemp("predictions")
    write_dataset(root / "data", 5, 1, PhantomOptions(n_slices=SLICES, rows=64, columns=72))
    (root / "truth").mkdir()
    for name in ("P004", "P005"):
        (root / "new").mkdir(exist_ok=True)
        (root / "data" / name).rename(root / "new" / name)
        (root / "data" / f"{name}.nii.gz").rename(root / "truth" / f"{name}.nii.gz")
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """The same, to be changed at will."""
    shutil.copytree(written, tmp_path / "root")
    return tmp_path / "root"


def predict(
    series_folder: Path,
    out: Path,
    confidence: tuple[float, ...] = (0.99, 0.98, 0.5),
    label: int = 1,
    table: LabelTable = TABLE,
) -> Path:
    """A results folder as inference.py writes it; the prediction is a square of the label in the middle."""
    series = find_series(series_folder).series[0]
    label_map = np.zeros(series.shape, dtype=np.uint8)
    rows, columns = label_map.shape[:2]
    label_map[rows // 2 - 8 : rows // 2 + 8, columns // 2 - 8 : columns // 2 + 8] = label
    out.mkdir(parents=True)
    checkpoint = out.parent / "some.ckpt"
    checkpoint.write_text("")
    provenance = Provenance("teacher", "Trains", checkpoint, "0" * 64)
    write_results(out, series, label_map, dict(enumerate(confidence)), table, provenance)
    return out


def options(*paths: Path, **more: Any) -> PredictedOptions:
    """Predictions to add."""
    return PredictedOptions(add_predicted_data=True, path_to_prediction=paths, **more)


def find(root: Path, *paths: Path, **more: Any) -> FoundPredictions:
    """The predictions that join the data of the root."""
    data = root / "data"
    dataset = find_cases(data)
    return find_predictions(options(*paths, **more), data, dataset.slices, dataset.label_names)


def module(root: Path, predicted: PredictedOptions, kind: type[SarcoDataModule] = SarcoDataModule) -> SarcoDataModule:
    """The data module, set up."""
    data = DataOptions(
        data_dir=root / "data", image_size=64, batch_size=4, val_fraction=0.3, channel_3d=kind is SarcoDataModule_3D
    )
    datamodule = kind(data, root / "cache", None, predicted)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(("limit", "kept"), [(0.0, 3), (0.5, 3), (0.6, 2), (0.985, 1), (1.0, 0)])
def test_only_sure_slices_enter(root: Path, limit: float, kept: int) -> None:
    """Catches --min_confidence of a whole series, turned round, or without effect."""
    found = find(root, predict(root / "new" / "P004", root / "out"), min_confidence=limit)
    assert (len(found.slices), found.unsure, found.labelled) == (kept, SLICES - kept, 0)
    assert all(item.case.predicted for item in found.slices)
    if kept == 2:
        positions = [item.header.position[2] for item in found.slices]
        every = [header.position[2] for header in find_series(root / "new" / "P004").series[0].slices]
        assert positions == every[:2], "the slices that are sure, not as many others"


def test_labels_are_those_of_the_prediction(root: Path) -> None:
    """Catches label maps that belong to other slices."""
    found = find(root, predict(root / "new" / "P004", root / "out"), min_confidence=0.0)
    maps = found.slices[0].case.read_label_maps()
    stored = read_label_map(root / "out" / "label_map.nii.gz")
    assert len(maps) == SLICES and all(label_map.sum() == 16 * 16 for label_map in maps)
    assert int(stored.ids.sum()) == SLICES * 16 * 16


@pytest.mark.parametrize("moved", [False, True])
def test_human_label_is_never_shadowed(root: Path, moved: bool) -> None:
    """Catches a slice that is taught twice, once by a person and once by a network: by path, and by UID."""
    source = root / "data" / "P002"
    if moved:
        shutil.copytree(source, root / "copy" / "P002")
        source = root / "copy" / "P002"
    found = find(root, predict(source, root / "out"), min_confidence=0.0)
    assert (len(found.slices), found.labelled) == (0, SLICES)


def test_moved_source_is_found_by_its_uid(root: Path) -> None:
    """Catches predictions that are lost when a folder is renamed."""
    out = predict(root / "new" / "P004", root / "out")
    (root / "new" / "P004").rename(root / "new" / "renamed")
    for number, file in enumerate(sorted((root / "new" / "renamed").iterdir())):
        file.rename(file.with_name(f"{number}.dicom"))
    found = find(root, out, min_confidence=0.0)
    assert len(found.slices) == SLICES
    assert {item.header.path.parent.name for item in found.slices} == {"renamed"}


@pytest.mark.parametrize("fault", ["gone", "changed", "changed and moved"])
def test_source_that_is_not_what_was_predicted_is_named(root: Path, fault: str) -> None:
    """Catches a label map that is taught with another picture, and predictions that vanish without a word."""
    out = predict(root / "new" / "P004", root / "out")
    file = sorted((root / "new" / "P004").iterdir())[1]
    if fault == "gone":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[:-2] + bytes(byte ^ 1 for byte in content[-2:]))
        if fault == "changed and moved":
            file = file.rename(file.with_name("moved.dcm"))
    with pytest.raises(InputError) as caught:
        find(root, out, min_confidence=0.0)
    assert file.name in str(caught.value)
    assert ("gone" in str(caught.value)) == (fault == "gone")


def test_several_folders_and_trees(root: Path) -> None:
    """Catches all but the first of several folders, and a folder that counts twice because it is named twice."""
    first = predict(root / "new" / "P004", root / "results" / "a" / "one")
    second = predict(root / "new" / "P005", root / "results" / "b")
    for paths in ((first, second), (root / "results",), (root / "results", first)):
        found = find(root, *paths, min_confidence=0.0)
        assert len(found.slices) == 2 * SLICES
        assert {item.header.path.parent.name for item in found.slices} == {"P004", "P005"}


def test_two_teachers_leave_the_neighbours_alone(root: Path) -> None:
    """Catches copies of a slice that are taken for its neighbours."""
    first = predict(root / "new" / "P004", root / "one")
    second = predict(root / "new" / "P004", root / "two")
    alone, both = find(root, first, min_confidence=0.0), find(root, first, second, min_confidence=0.0)
    assert len(both.slices) == 2 * SLICES
    assert [item.neighbours for item in both.slices] == 2 * [item.neighbours for item in alone.slices]
    middle = alone.slices[1]
    assert [header.path for header in middle.neighbours] == [alone.slices[0].header.path, alone.slices[2].header.path]


def test_unsure_slices_are_neighbours_still(root: Path) -> None:
    """Catches 3-slice images whose outer slices depend on --min_confidence."""
    found = find(root, predict(root / "new" / "P004", root / "out", (0.5, 0.99, 0.5)), min_confidence=0.9)
    assert len(found.slices) == 1
    below, above = found.slices[0].neighbours
    assert len({below.path, found.slices[0].header.path, above.path}) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", 1e30),
        ("confidence", -0.1),
        ("confidence", True),
        ("confidence", "0.9"),
        ("confidence", 10**400),
        ("file", 5),
        ("file", None),
        ("frame", 0.5),
        ("frame", True),
        ("frame", 10**30),
        ("sop_uid", ["1.2"]),
        ("blake2b", None),
    ],
)
def test_a_value_of_another_kind_is_named(root: Path, name: str, value: object) -> None:
    """Catches a traceback, and a confidence of 1e30 that is always sure enough."""
    out = predict(root / "new" / "P004", root / "out")
    record = json.loads((out / "prediction.json").read_text())
    record["slices"][1][name] = value
    (out / "prediction.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=name) as caught:
        find(root, out, min_confidence=0.0)
    assert str(out) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("file", ["x" * 5000, "a\0b", "two\nlines", ""])
def test_a_name_that_no_file_can_have_is_gone(root: Path, file: str) -> None:
    """Catches an error of the system, and a message of several lines."""
    out = predict(root / "new" / "P004", root / "out")
    record = json.loads((out / "prediction.json").read_text())
    record["slices"][1] |= {"file": file, "sop_uid": ""}
    (out / "prediction.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="is gone") as caught:
        find(root, out, min_confidence=0.0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"slices": [{}]}', '{"slices": [{"confidence": "high"}]}', "null"]
)
def test_damaged_record_is_named(root: Path, text: str) -> None:
    """Catches a traceback where a results folder was edited."""
    out = predict(root / "new" / "P004", root / "out")
    (out / "prediction.json").write_text(text)
    with pytest.raises(InputError, match=r"prediction\.json: cannot be (used|read)"):
        find(root, out)


def test_folder_that_holds_no_prediction(root: Path) -> None:
    """Catches a wrong folder that adds nothing and says nothing."""
    with pytest.raises(InputError, match="there is no such folder"):
        find(root, root / "nowhere")
    with pytest.raises(InputError, match=r"holds no prediction\.json"):
        find(root, root / "new")
    out = predict(root / "new" / "P004", root / "out")
    (out / "label_map.nii.gz").unlink()
    with pytest.raises(InputError, match=r"holds no label_map\.nii\.gz"):
        find(root, out)


def test_sources_without_uid_are_not_all_the_same(root: Path) -> None:
    """Catches an empty SOPInstanceUID that stands for every other empty one."""
    out = predict(root / "new" / "P004", root / "out")
    record = json.loads((out / "prediction.json").read_text())
    for entry in record["slices"]:
        entry["sop_uid"] = ""
    (out / "prediction.json").write_text(json.dumps(record))
    assert len(find(root, out, min_confidence=0.0).slices) == SLICES
    shutil.move(root / "new" / "P004", root / "new" / "moved")
    with pytest.raises(InputError, match="is gone"):
        find(root, out, min_confidence=0.0)


@pytest.mark.parametrize(
    ("to", "sides"),
    [
        ("train", {"T": "train", "V": None, "new": "train"}),
        ("val", {"T": None, "V": "val", "new": "val"}),
        ("both", {"T": "train", "V": "val", "new": "train"}),
    ],
)
def test_no_patient_ends_up_on_both_sides(root: Path, to: str, sides: dict[str, str | None]) -> None:
    """Catches a validation patient whose other slices are trained on."""
    found = find(root, predict(root / "new" / "P004", root / "out"), min_confidence=0.0)
    patient_id = found.slices[0].header.patient_id
    for patient, side in sides.items():
        known = {patient_id: {"T": "train", "V": "val"}[patient]} if patient != "new" else {"somebody else": "val"}
        given, barred = assign_sides(found.slices, known, to)
        assert given == [side] * SLICES and barred == (SLICES if side is None else 0)


@pytest.mark.parametrize("to", ["train", "val", "both"])
def test_sides_hold_in_the_data_module(root: Path, to: str) -> None:
    """Catches a split that is right only until predictions join it; some are of patients with human labels."""
    for name in ("P001", "P002", "P003"):  # one slice of each patient has lost its human label
        folder = root / "data" / name
        (root / "more" / name).mkdir(parents=True)
        shutil.move(sorted(folder.iterdir())[0], root / "more" / name)
    results = [predict(root / "more" / name, root / "results" / name, (0.99,)) for name in ("P001", "P002", "P003")]
    results.append(predict(root / "new" / "P004", root / "results" / "P004"))
    datamodule = module(root, options(*results, predicted_data_to=to, min_confidence=0.9))
    slices, split = datamodule.slices, datamodule.split
    train, val = ({slices[i].header.patient_id for i in side} for side in (split.train, split.val))
    assert train and val and not train & val
    assert any("predicted slices:" in note for note in datamodule.notes)
    added = {"train": split.train, "val": split.val}
    found = {name: sum(slices[i].case.predicted for i in side) for name, side in added.items()}
    human = {name: len(side) - found[name] for name, side in added.items()}
    assert human == {"train": 4, "val": 2}
    assert (
        found
        == {
            "train": {"train": 2 + 2, "val": 0},
            "val": {"train": 0, "val": 1 + 2},
            "both": {"train": 2 + 2, "val": 1},
        }[to]
    )


def test_predictions_join_the_training_side(root: Path) -> None:
    """Catches --add_predicted_data that finds slices and never trains on them; and a log that does not count them."""
    plain = module(root, PredictedOptions())
    out = predict(root / "new" / "P004", root / "out")
    joined = module(root, options(out, min_confidence=0.9, predicted_weight=0.25))
    assert len(joined.split.train) == len(plain.split.train) + 2
    assert joined.split.val == plain.split.val
    assert joined.describe_split(in_full=False)["train"]["predicted"] == 2
    assert joined.notes == [
        "predicted slices: 2 train, 0 validate (weight 0.25); left out: 1 below confidence 0.9, 0 with human labels, "
        "0 of patients of the other side"
    ]
    assert plain.notes == []


@pytest.mark.parametrize("kind", [SarcoDataModule, SarcoDataModule_3D])
def test_weight_reaches_the_batch(root: Path, kind: type[SarcoDataModule]) -> None:
    """Catches --predicted_weight that goes to the wrong slices, or nowhere."""
    out = predict(root / "new" / "P004", root / "out")
    datamodule = module(root, options(out, min_confidence=0.9, predicted_weight=0.25), kind)
    weights = {}
    for batch in datamodule.train_dataloader():
        weights |= dict(zip(batch["index"].tolist(), batch["weight"].tolist(), strict=True))
    expected = {i: 0.25 if datamodule.slices[i].case.predicted else 1.0 for i in datamodule.split.train}
    assert weights == expected and set(expected.values()) == {0.25, 1.0}


def test_label_that_no_person_drew_is_refused(root: Path) -> None:
    """Catches a channel that only a network of other labels knows of."""
    out = predict(root / "new" / "P004", root / "out", label=7)
    with pytest.raises(InputError, match="predictions hold label 7, which no human label map"):
        module(root, options(out, min_confidence=0.0))


def test_labels_of_predictions_go_by_their_names(root: Path) -> None:
    """Catches a psoas that is learnt as rectus, because another run gave it the rectus's number."""
    table = LabelTable({1: "Psoas", 4: "erector_spinae", 9: "liver"})
    for label, expected in ((1, 5), (4, 2), (9, 9)):
        out = predict(root / "new" / "P004", root / f"out{label}", label=label, table=table)
        names = {2: "paraspinal", 3: "rectus", 5: "psoas"}
        found = find_predictions(options(out), root / "data", (), names)
        drawn = found.slices[0].case.read_label_maps()[0]
        assert set(np.unique(drawn)) == {0, expected}


@pytest.mark.parametrize(
    ("table", "names", "expected"),
    [
        ({1: "psoas"}, {1: "rectus"}, "label 1 is psoas there and rectus in"),
        ({1: "psoas", 2: "liver"}, {2: "psoas"}, "label 2 is liver there and psoas in"),
        ({1: "psoas", 5: "liver"}, {5: "psoas"}, "label 5 is liver there and psoas in"),
        ({1: "muscle", 2: "skeletal_muscle"}, {1: "muscle"}, "its labels muscle and skeletal_muscle would both be"),
    ],
)
def test_an_id_that_means_something_else_is_refused(
    root: Path, table: dict[int, str], names: dict[int, str], expected: str
) -> None:
    """Catches labels that are taken for others in silence."""
    out = predict(root / "new" / "P004", root / "out", table=LabelTable(table))
    with pytest.raises(InputError) as caught:
        find_predictions(options(out), root / "data", (), names)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_ids_without_names_stay(root: Path) -> None:
    """Catches data without labels.json from which nobody can learn any more."""
    out = predict(root / "new" / "P004", root / "out", table=LabelTable({1: "label_1"}))
    for names in ({}, {1: "psoas"}):
        drawn = find_predictions(options(out), root / "data", (), names).slices[0].case.read_label_maps()[0]
        assert set(np.unique(drawn)) == {0, 1}
