"""Label maps of files: compared in space, by hand and by SimpleITK; empty labels; pairing by name."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from sarco.comparison.maps import compare_label_maps, compare_masks, describe_row, find_pairs, with_absent
from sarco.core.errors import DataWarning, GeometryError, InputError
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom

AFFINE = np.array([[0, 2.0, 0, 3], [0.5, 0, 0, -4], [0, 0, 5.0, 7], [0, 0, 0, 1]])  # rows 0.5, columns 2, slices 5 mm


def mask(*voxels: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A mask of 4 x 4 x 3 voxels."""
    found = np.zeros((4, 4, 3), bool)
    for voxel in voxels:
        found[voxel] = True
    return found


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A patient on a tilted grid, with several labels."""
    grid = PhantomOptions(n_slices=4, rows=40, columns=48, spacing_mm=(9.0, 8.0, 5.0), labels="groups", oblique=True)
    return make_phantom(21, grid)


def write_pair(phantom: Phantom, folder: Path) -> tuple[Path, Path]:
    """The truth, and a prediction that lacks label 1 in one slice, stored flipped and transposed."""
    truth, prediction = folder / "truth.nii.gz", folder / "prediction.nii.gz"
    write_label_map(truth, phantom.label_map, phantom.affine_lps)
    drawn = phantom.label_map.copy()
    drawn[:, :, 1][drawn[:, :, 1] == 1] = 0
    write_label_map(prediction, drawn, phantom.affine_lps)
    turned = nib.load(prediction).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), prediction)
    return truth, prediction


def test_figures_by_hand() -> None:
    """Catches areas with the wrong spacing, a signed error that cancels, and shares of the prediction."""
    truth = mask((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 2, 1))
    prediction = mask((0, 0, 0), (0, 1, 0), (3, 3, 1), (2, 2, 1), (1, 3, 2))
    found = compare_masks(truth, prediction, AFFINE, "P", 7)
    assert (found.patient, found.label_id, found.state) == ("P", 7, "both")
    assert found.dice == pytest.approx(2 * 3 / 10)
    assert found.iou == pytest.approx(3 / 7)
    assert (found.truth_ml, found.prediction_ml) == (pytest.approx(5 * 0.005), pytest.approx(5 * 0.005))
    assert found.volume_error == 0
    # A pixel is 0.01 cm2. Slices: 4 against 2, 1 against 2, 0 against 1.
    assert (found.truth_cm2, found.prediction_cm2) == (pytest.approx(0.05 / 3), pytest.approx(0.05 / 3))
    assert found.area_error == pytest.approx((2 / 4 + 1 / 1) / 2)


@pytest.mark.parametrize("seed", [3, 9])
def test_overlap_and_distance_equal_simpleitk(seed: int) -> None:
    """Catches Dice and IoU swapped, and a volume error of the wrong sign."""
    options = PhantomOptions(n_slices=5, rows=48, columns=56, spacing_mm=(6.1, 5.3, 7.0))
    phantom = make_phantom(seed, options)
    truth = phantom.label_map > 0
    prediction = np.roll(truth, (1, -2, 1), axis=(0, 1, 2))
    prediction[:20] = False
    found = compare_masks(truth, prediction, phantom.affine_lps, "P", 1)
    measures = SimpleITK.LabelOverlapMeasuresImageFilter()
    images = [SimpleITK.GetImageFromArray(m.transpose(2, 0, 1).astype(np.uint8)) for m in (truth, prediction)]
    measures.Execute(*images)
    assert found.dice == pytest.approx(measures.GetDiceCoefficient())
    assert found.iou == pytest.approx(measures.GetJaccardCoefficient())
    assert found.volume_error == pytest.approx(prediction.sum() / truth.sum() - 1) and found.volume_error < 0
    assert found.hd95_mm > found.asd_mm > 0


def test_empty_labels_are_told_apart() -> None:
    """Catches Dice 1 or NaN for a label that was missed, and a distance where there is none."""
    one, none = mask((1, 1, 1)), mask()
    for truth, prediction, state, dice in (
        (one, none, "truth only", 0.0),
        (none, one, "prediction only", 0.0),
        (none, none, "neither", np.nan),
    ):
        found = compare_masks(truth, prediction, AFFINE, "P", 1)
        assert found.state == state
        np.testing.assert_equal([found.dice, found.iou], [dice, dice])
        assert np.isnan([found.hd95_mm, found.asd_mm]).all()
        assert np.isnan(found.volume_error) == (not truth.any())
        assert "undefined" in describe_row(found, {}) and "nan" not in describe_row(found, {})
    assert compare_masks(one, none, AFFINE, "P", 1).area_error == 1.0


def test_label_that_a_patient_lacks_is_counted() -> None:
    """Catches a mean over those patients only in whom all went well."""
    rows = [compare_masks(mask((0, 0, 0)), mask((0, 0, 0)), AFFINE, who, label) for who, label in (("A", 1), ("B", 2))]
    found = {(row.patient, row.label_id): row.state for row in with_absent(rows, ["A", "B", "C"])}
    assert found == {("A", 1): "both", ("B", 2): "both"} | dict.fromkeys(
        (("A", 2), ("B", 1), ("C", 1), ("C", 2)), "neither"
    )


def test_patients_without_any_label_are_rows() -> None:
    """Catches a comparison that prints nothing because every label map is empty."""
    rows = with_absent([], ["A", "B"])
    assert [(row.patient, row.label_id, row.state) for row in rows] == [("A", 0, "neither"), ("B", 0, "neither")]
    assert describe_row(rows[0], {0: "background"}).startswith("no label: Dice undefined")
    assert "volume 0.0 of 0.0 ml" in describe_row(rows[0], {}) and "[held by neither]" in describe_row(rows[0], {})


@pytest.mark.parametrize("which", ["truth", "prediction"])
def test_a_mask_of_0_and_255_is_refused_with_the_reason(phantom: Phantom, which: str, tmp_path: Path) -> None:
    """Catches a patient who drops out because another program writes 255 for what it marks."""
    paths = write_pair(phantom, tmp_path)
    muscle = (phantom.label_map > 0).astype(np.uint8)
    write_label_map(tmp_path / f"{which}.nii.gz", muscle * np.uint8(255), phantom.affine_lps)
    with pytest.raises(InputError, match=rf"{which}\.nii\.gz: .*is this a mask of 0/255\? If so, save it with 1"):
        compare_label_maps(*paths)
    write_label_map(tmp_path / f"{which}.nii.gz", np.full_like(muscle, 255), phantom.affine_lps)
    with pytest.raises(InputError, match=rf"{which}\.nii\.gz: is 255 .*throughout"):
        compare_label_maps(*paths)


def test_greys_of_a_picture_are_refused(phantom: Phantom, tmp_path: Path) -> None:
    """Catches a structure that counts nowhere because a picture has 255 for it; with names it was meant."""
    truth, prediction = write_pair(phantom, tmp_path)
    drawn = np.where(phantom.label_map == 1, 255, np.where(phantom.label_map > 0, 128, 0)).astype(np.uint8)
    write_label_map(truth, drawn, phantom.affine_lps)
    with pytest.raises(InputError, match=r"truth\.nii\.gz: holds 128 beside 255.*greys of a picture"):
        compare_label_maps(truth, prediction)
    with pytest.warns(DataWarning, match=r"truth\.nii\.gz: \d+ voxels are 255 .* within slices that were looked at"):
        assert 128 in {row.label_id for row in compare_label_maps(truth, prediction, names={128: "psoas"})}
    with pytest.raises(InputError, match=r"truth\.nii\.gz: 255 is called 'fat' in labels\.json"):
        compare_label_maps(truth, prediction, names={128: "psoas", 255: "fat"})


def test_an_empty_truth_of_few_slices_is_no_mask(phantom: Phantom, tmp_path: Path) -> None:
    """Catches sparse labels that are taken for a mask of 0/255: one slice was looked at and holds nothing."""
    truth = np.full_like(phantom.label_map, 255)
    truth[:, :, 1] = 0
    write_label_map(tmp_path / "truth.nii.gz", truth, phantom.affine_lps)
    write_label_map(tmp_path / "prediction.nii.gz", phantom.label_map, phantom.affine_lps)
    rows = compare_label_maps(tmp_path / "truth.nii.gz", tmp_path / "prediction.nii.gz")
    assert {row.state for row in rows} == {"prediction only"}


def test_what_the_prediction_leaves_open_is_told(phantom: Phantom, tmp_path: Path) -> None:
    """Catches a second reader who looked at some slices and is marked down for the others without a word."""
    truth, prediction = write_pair(phantom, tmp_path)
    drawn = phantom.label_map.copy()
    drawn[:, :, 3] = 255
    write_label_map(prediction, drawn, phantom.affine_lps)
    with pytest.warns(DataWarning, match=rf"prediction\.nii\.gz: {drawn[:, :, 3].size} voxels are 255"):
        compare_label_maps(truth, prediction)


def test_tilted_gantry_has_no_distance() -> None:
    """Catches distances along axes that do not stand at right angles; overlap and volume hold all the same."""
    sheared = AFFINE.copy()
    sheared[1, 2] = 1.5
    found = compare_masks(mask((0, 0, 0)), mask((0, 0, 0)), sheared, "P", 1)
    assert np.isnan(found.hd95_mm) and found.dice == 1
    assert found.truth_ml == pytest.approx(0.5 * 2 * 5 / 1000)


def test_label_maps_are_compared_in_space(phantom: Phantom, tmp_path: Path) -> None:
    """Catches a comparison by index: the same label map stored another way round would score next to nothing."""
    rows = compare_label_maps(*write_pair(phantom, tmp_path))
    assert [row.label_id for row in rows] == sorted(set(np.unique(phantom.label_map).tolist()) - {0})
    first = phantom.label_map == 1
    kept = first.sum() - first[:, :, 1].sum()
    assert rows[0].dice == pytest.approx(2 * kept / (first.sum() + kept)) and rows[0].dice < 0.95
    assert all((row.dice, row.hd95_mm) == (1.0, 0.0) for row in rows[1:])


def test_what_nobody_looked_at_counts_nowhere(phantom: Phantom, tmp_path: Path) -> None:
    """Catches 255 compared as a label, and predictions there count_of as wrong."""
    truth = phantom.label_map.copy()
    truth[:, :, 2:] = 255
    write_label_map(tmp_path / "truth.nii.gz", truth, phantom.affine_lps)
    write_label_map(tmp_path / "prediction.nii.gz", phantom.label_map, phantom.affine_lps)
    rows = compare_label_maps(tmp_path / "truth.nii.gz", tmp_path / "prediction.nii.gz")
    assert rows and all(row.label_id != 255 and row.dice == 1.0 for row in rows)


def test_other_grids_are_not_compared(phantom: Phantom, tmp_path: Path) -> None:
    """Catches a score for label maps of two scans, or for a part of the prediction only."""
    truth, _ = write_pair(phantom, tmp_path)
    moved = phantom.affine_lps.copy()
    moved[0, 3] += 8.0
    write_label_map(tmp_path / "moved.nii.gz", phantom.label_map, moved)
    longer = np.concatenate([phantom.label_map, phantom.label_map[:, :, :1]], axis=2)
    write_label_map(tmp_path / "longer.nii.gz", longer, phantom.affine_lps)
    for name in ("moved", "longer"):
        with pytest.raises(GeometryError, match=rf"truth\.nii\.gz.*{name}\.nii\.gz|{name}\.nii\.gz.*truth\.nii\.gz"):
            compare_label_maps(truth, tmp_path / f"{name}.nii.gz")


def touch(*paths: Path) -> None:
    """Empty files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_what_is_still_being_written_is_no_partner(tmp_path: Path) -> None:
    """Catches half a results folder that is compared, or that makes a name stand there twice."""
    for folder in ("truth", "results/preds_from_run_of_P1", "results/.preds_from_run_of_P1.0123456789ab.sarco-partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "truth" / "P1.nii.gz").touch()
    for folder in (tmp_path / "results").iterdir():
        (folder / "label_map.nii.gz").touch()
    found = find_pairs(tmp_path / "truth", tmp_path / "results")
    assert [name for name, _, _ in found.pairs] == ["P1"] and not found.alone


def test_folders_pair_by_name(tmp_path: Path) -> None:
    """Catches pairs by order, results folders that go unseen, and files without a partner that are not told."""
    truth, found = tmp_path / "truth", tmp_path / "found"
    touch(truth / "P1.nii.gz", truth / "site" / "P2.nii", truth / "P3.nii.gz", truth / "P10.nii.gz")
    touch(found / "preds_from_a_b_of_P1" / "label_map.nii.gz", found / "P2" / "label_map.nii.gz", found / "P10.nii.gz")
    touch(found / "other.nii.gz", found / "P1" / "prediction.json")
    pairs = find_pairs(truth, found)
    assert pairs.pairs == (
        ("P1", truth / "P1.nii.gz", found / "preds_from_a_b_of_P1" / "label_map.nii.gz"),
        ("P10", truth / "P10.nii.gz", found / "P10.nii.gz"),
        ("P2", truth / "site" / "P2.nii", found / "P2" / "label_map.nii.gz"),
    )
    assert set(pairs.alone) == {truth / "P3.nii.gz", found / "other.nii.gz"}
    one = find_pairs(truth / "P3.nii.gz", found / "P2")
    assert one.pairs == (("P3", truth / "P3.nii.gz", found / "P2" / "label_map.nii.gz"),)


def test_results_folders_are_their_label_map_alone(tmp_path: Path) -> None:
    """Catches a comparison that fails after a review, for whatever else lies in results, and for files of macOS."""
    truth, found = tmp_path / "truth", tmp_path / "found"
    touch(truth / "P1.nii.gz", truth / "P2.nii.gz", truth / "._P1.nii.gz", truth / ".Trash" / "P2.nii.gz")
    for patient in ("P1", "P2"):
        results = found / f"preds_from_demo_of_{patient}"
        touch(results / "label_map.nii.gz", results / "label_map_predicted.nii.gz", results / "prediction.json")
        touch(results / "._label_map.nii.gz", results / "mine.nii.gz")
    touch(found / "label_map_predicted.nii.gz")
    pairs = find_pairs(truth, found)
    assert [(name, two.parent.name, two.name) for name, _, two in pairs.pairs] == [
        (patient, f"preds_from_demo_of_{patient}", "label_map.nii.gz") for patient in ("P1", "P2")
    ]
    assert pairs.alone == ()
    one = find_pairs(found / "preds_from_demo_of_P1", truth / "P1.nii.gz")
    assert one.pairs == (("P1", found / "preds_from_demo_of_P1" / "label_map.nii.gz", truth / "P1.nii.gz"),)
    assert [name for name, _, _ in find_pairs(found, found).pairs] == ["P1", "P2"]


def test_a_label_map_behind_a_dead_link_is_a_pair_that_fails(tmp_path: Path, phantom: Phantom) -> None:
    """Catches a patient who drops out because a disk is not there."""
    truth, _ = write_pair(phantom, tmp_path)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "truth.nii.gz").symlink_to("/nowhere/truth.nii.gz")
    ((_, one, other),) = find_pairs(truth, tmp_path / "found").pairs
    with pytest.raises(InputError, match=r"found/truth\.nii\.gz: there is no such file"):
        compare_label_maps(one, other)


def test_names_that_do_not_tell_apart(tmp_path: Path) -> None:
    """Catches one of two files of a name taken at random, and a comparison of nothing that ends well."""
    touch(tmp_path / "a" / "x" / "P1.nii.gz", tmp_path / "a" / "y" / "P1.nii.gz", tmp_path / "b" / "P2.nii.gz")
    with pytest.raises(InputError, match="share the name P1"):
        find_pairs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match=r"no label maps of the same name.*P2.*no NIfTI"):
        (tmp_path / "empty").mkdir()
        find_pairs(tmp_path / "b", tmp_path / "empty")
