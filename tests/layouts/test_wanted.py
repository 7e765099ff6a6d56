"""Which labels are learnt, under which number, and what a case means that lacks one."""

import json
from pathlib import Path

import numpy as np
import pytest
from written_layouts import names_of, patients, save_image, save_labels, write_nnunet, write_totalsegmentator

from sarco.core.errors import DataWarning, InputError, OptionError
from sarco.layouts.wanted import parse_labels
from sarco.training.cases import Dataset, find_cases

PSOAS_LEFT, PSOAS_RIGHT, BACK_LEFT = 2, 3, 4  # ids of the phantom


@pytest.fixture(params=["nnU-Net", "TotalSegmentator"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same patients in two layouts."""
    (tmp_path / "data").mkdir()
    (write_nnunet if request.param == "nnU-Net" else write_totalsegmentator)(tmp_path / "data")
    return tmp_path / "data"


def ids_of(dataset: Dataset, patient: str) -> np.ndarray:
    """The label map of a patient as the training sees it, (row, column, slice)."""
    (case,) = {item.case for item in dataset.slices if item.patient == patient}
    return np.stack(case.read_label_maps(), axis=-1)


def test_labels_are_picked_in_the_order_of_the_words(data: Path) -> None:
    """Catches a structure under the number of another."""
    dataset = find_cases(data, "psoas_right,Psoas_Left")
    assert dataset.label_names == {1: "psoas_right", 2: "Psoas_Left"}
    truth = patients()["P2"].label_map
    expected = np.select([truth == PSOAS_RIGHT, truth == PSOAS_LEFT], [1, 2], 0)
    np.testing.assert_array_equal(ids_of(dataset, "P2"), expected)


def test_labels_are_merged_under_a_new_name(data: Path) -> None:
    """Catches a part that is left out of a sum, and ids that do not work as names do."""
    dataset = find_cases(data, "psoas=psoas_left+3,back=paraspinal_left")
    assert dataset.label_names == {1: "psoas", 2: "back"}
    truth = patients()["P3"].label_map
    expected = np.select([np.isin(truth, (PSOAS_LEFT, PSOAS_RIGHT)), truth == BACK_LEFT], [1, 2], 0)
    np.testing.assert_array_equal(ids_of(dataset, "P3"), expected)


def test_a_name_that_no_case_has_is_an_error_with_those_there_are(data: Path) -> None:
    """Catches a typing error by which a structure is never learnt."""
    for typed in ("liver", "psoas_left,200"):
        with pytest.raises(OptionError, match=r"no case has (liver|200); there are abdominal_wall, .*paraspinal_left"):
            find_cases(data, typed)


@pytest.mark.parametrize("text", ["a,,b", "=a", "a=", "a=b+", "a,a", "x=a,y=a", "a=b,c=d,a=e"])
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    """Catches an empty name, and a structure that would have two numbers."""
    with pytest.raises(OptionError, match="--labels="):
        parse_labels(text)


@pytest.mark.parametrize("missing", ["background", "ignore"])
def test_a_case_without_a_structure(tmp_path: Path, missing: str) -> None:
    """Catches pixels of a structure that nobody drew learnt as background where they may not, and the reverse."""
    write_totalsegmentator(tmp_path)
    (tmp_path / "P2" / "segmentations" / "psoas_right.nii.gz").unlink()
    dataset = find_cases(tmp_path, "psoas_left,psoas_right", missing)
    truth = patients()["P2"].label_map
    expected = np.where(truth == PSOAS_LEFT, 1, 0 if missing == "background" else 255)
    np.testing.assert_array_equal(ids_of(dataset, "P2"), expected)
    assert set(np.unique(ids_of(dataset, "P1"))) == {0, 1, 2}
    everything = find_cases(tmp_path, missing_labels=missing)
    held = set(np.unique(ids_of(everything, "P2")).tolist())
    rest = set(np.unique(truth).tolist()) - {0, PSOAS_RIGHT}
    assert held == ({0, *rest} if missing == "background" else {255, *rest})


def test_structures_that_overlap_follow_a_rule_that_is_told(tmp_path: Path) -> None:
    """Catches a result that depends on the order of files on the disk."""
    write_totalsegmentator(tmp_path)
    phantom = patients()["P1"]
    wide = (np.isin(phantom.label_map, (PSOAS_LEFT, BACK_LEFT))).astype(np.uint8)
    save_labels(tmp_path / "P1" / "segmentations" / "psoas_left.nii.gz", phantom, wide)
    n_shared = int(np.count_nonzero(phantom.label_map == BACK_LEFT))
    for typed, winner in (("psoas_left,paraspinal_left", 2), ("paraspinal_left,psoas_left", 2)):
        with pytest.warns(DataWarning, match=f"{n_shared} voxels are labelled twice, last in .*; the later structure"):
            ids = ids_of(find_cases(tmp_path, typed), "P1")
        assert (ids[phantom.label_map == BACK_LEFT] == winner).all()


def test_the_ignore_label_of_nnunet_is_nobody_looked(tmp_path: Path) -> None:
    """Catches nnU-Net's ignore label learnt as a structure."""
    write_nnunet(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["labels"]["ignore"] = 99
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    phantom = patients()["P1"]
    sparse = phantom.label_map.copy()
    sparse[:, :, 1::2] = 99
    save_labels(tmp_path / "labelsTr" / "P1.nii.gz", phantom, sparse)
    dataset = find_cases(tmp_path)
    np.testing.assert_array_equal(ids_of(dataset, "P1"), np.where(sparse == 99, 255, sparse))
    assert 99 not in dataset.label_names
    picked = ids_of(find_cases(tmp_path, "psoas_left"), "P1")
    assert (picked[:, :, 1::2] == 255).all() and set(np.unique(picked[:, :, ::2])) == {0, 1}


def describe(data: Path, **content: object) -> None:
    """Changes ``dataset.json``."""
    told = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(told | content))


def test_regions_of_nnunet_are_put_together(tmp_path: Path) -> None:
    """Catches a region of which one id is learnt, under its own number, and regions that overlap learnt in silence."""
    write_nnunet(tmp_path)
    truth = patients()["P1"].label_map
    rest = [number for number in names_of(patients()["P1"]) if number not in (PSOAS_LEFT, PSOAS_RIGHT)]
    regions = {"background": 0, "psoas": [PSOAS_LEFT, PSOAS_RIGHT], "others": rest}
    describe(tmp_path, labels=regions, regions_class_order=[7, 5])
    dataset = find_cases(tmp_path)
    assert dataset.label_names == {5: "others", 7: "psoas"}
    is_psoas = np.isin(truth, (PSOAS_LEFT, PSOAS_RIGHT))
    np.testing.assert_array_equal(ids_of(dataset, "P1"), np.select([is_psoas, truth > 0], [7, 5], 0))
    np.testing.assert_array_equal(ids_of(find_cases(tmp_path, "psoas"), "P1"), is_psoas)
    describe(tmp_path, labels=regions | {"all": [*rest, PSOAS_LEFT, PSOAS_RIGHT]}, regions_class_order=[1, 2, 3])
    for typed in ("", "psoas,all"):
        with pytest.raises(
            InputError, match=r"dataset\.json: id \d belongs to \w+ and to all, but a pixel has one label"
        ):
            find_cases(tmp_path, typed)
    np.testing.assert_array_equal(ids_of(find_cases(tmp_path, "all"), "P1"), truth > 0)
    describe(tmp_path, labels={"background": [0], **{name: [n] for n, name in names_of(patients()["P1"]).items()}})
    np.testing.assert_array_equal(ids_of(find_cases(tmp_path), "P1"), truth)


def test_files_that_dataset_json_lists_count(tmp_path: Path) -> None:
    """Catches cases of a folder that nnU-Net leaves out because its dataset.json lists others."""
    write_nnunet(tmp_path / "set")
    (tmp_path / "set" / "labelsTr" / "P3.nii.gz").rename(tmp_path / "corrected.nii.gz")
    listed = {
        "P1": {"images": ["imagesTr/P1_0000.nii.gz"], "label": "labelsTr/P1.nii.gz"},
        "third": {"images": ["./imagesTr/P3_0000.nii.gz"], "label": "../corrected.nii.gz"},
    }
    describe(tmp_path / "set", dataset=listed, numTraining=2)
    with pytest.warns(DataWarning, match=r"2 files without a partner .*P2_0000\.nii\.gz, .*P2\.nii\.gz"):
        dataset = find_cases(tmp_path)
    assert {item.patient for item in dataset.slices} == {"P1", "third"}
    np.testing.assert_array_equal(ids_of(dataset, "third"), patients()["P3"].label_map)
    (tmp_path / "set" / "imagesTr").rename(tmp_path / "set" / "scans")
    (tmp_path / "set" / "labelsTr").rename(tmp_path / "set" / "masks")
    text = (tmp_path / "set" / "dataset.json").read_text().replace("imagesTr", "scans").replace("labelsTr", "masks")
    (tmp_path / "set" / "dataset.json").write_text(text)
    with pytest.warns(DataWarning, match="2 files without a partner"):
        assert {item.patient for item in find_cases(tmp_path).slices} == {"P1", "third"}


def test_two_folders_that_disagree_are_refused_unless_names_pick(tmp_path: Path) -> None:
    """Catches one number for two structures, learnt as one."""
    write_nnunet(tmp_path / "one")
    write_nnunet(tmp_path / "two")
    content = json.loads((tmp_path / "two" / "dataset.json").read_text())
    swapped = {"psoas_left": PSOAS_RIGHT, "psoas_right": PSOAS_LEFT}
    content["labels"] |= swapped
    (tmp_path / "two" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"one/dataset\.json calls label \d 'psoas_\w+', .*two/dataset\.json calls it"):
        find_cases(tmp_path)
    with pytest.raises(OptionError, match="calls label 2 'psoas_left'"):
        find_cases(tmp_path, "2")
    with pytest.warns(DataWarning, match="names of several NIfTI images"):
        dataset = find_cases(tmp_path, "psoas_left")
    maps = {item.case.label_path.parts[-3]: item.case.read_label_maps() for item in dataset.slices}
    truth = patients()["P3"].label_map
    np.testing.assert_array_equal(np.stack(maps["one"], -1) == 1, truth == PSOAS_LEFT)
    np.testing.assert_array_equal(np.stack(maps["two"], -1) == 1, truth == PSOAS_RIGHT)


def test_labels_json_counts_for_everything_below_it(tmp_path: Path) -> None:
    """Catches names of one folder given to another, and two names for one id."""
    for site, phantom in zip(("a", "b"), patients().values(), strict=False):
        save_image(tmp_path / site / f"case_{site}" / "ct.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(tmp_path / site / f"case_{site}" / "label.nii.gz", phantom)
    (tmp_path / "labels.json").write_text('{"1": "wall"}')
    (tmp_path / "a" / "labels.json").write_text('{"2": "psoas"}')
    assert find_cases(tmp_path).label_names == {1: "wall", 2: "psoas"}
    (tmp_path / "b" / "labels.json").write_text('{"2": "liver"}')
    with pytest.raises(InputError, match=r"a/labels\.json calls label 2 'psoas', .*b/labels\.json calls it 'liver'"):
        find_cases(tmp_path)
    (tmp_path / "b" / "labels.json").write_text('{"1": "liver"}')
    with pytest.raises(InputError, match=r"labels\.json calls label 1 'wall', .*b/labels\.json calls it 'liver'"):
        find_cases(tmp_path)


def test_more_structures_than_a_label_map_holds_are_refused(tmp_path: Path) -> None:
    """Catches the 255th structure counted as nobody looked."""
    write_totalsegmentator(tmp_path)
    (tmp_path / "labels.json").unlink()
    masks = tmp_path / "P1" / "segmentations"
    for number in range(250):
        (masks / f"s{number}.nii.gz").symlink_to("psoas_left.nii.gz")
    with pytest.raises(InputError, match=r"25\d structures are more than the 254 that a label map holds"):
        find_cases(tmp_path)
    assert find_cases(tmp_path, "s7").label_names == {1: "s7"}
    assert names_of(patients()["P1"])[PSOAS_LEFT] == "psoas_left"
