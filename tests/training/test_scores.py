"""Scores of a training against counting by hand and against torchmetrics, and the command that compares files."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_average_precision, multiclass_jaccard_index

from sarco.commands.compare import main
from sarco.core.errors import InputError, SarcoError
from sarco.io.nifti import write_label_map
from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.training.scores import N_BINS, SegmentationScores, average_precision, dice_of_confusion, likeliest

ROOT = Path(__file__).parents[2]


def batch(seed: int, k: int = 4, n: int = 3, side: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (B, K, R, C) that know something of the target (B, R, C)."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, k, (n, side, side), generator=generator)
    logits = torch.randn(n, k, side, side, generator=generator)
    logits += 1.5 * torch.nn.functional.one_hot(target, k).movedim(-1, 1)
    return torch.softmax(logits, 1), target


def scores_of(*batches: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The scores after these batches."""
    scores = SegmentationScores(batches[0][0].shape[1])
    for probability, target in batches:
        scores.update(probability, target, torch.arange(len(target)))
    return scores.compute()


def certain(label_map: torch.Tensor, k: int) -> torch.Tensor:
    """Probabilities 0 and 1 of a label map."""
    return torch.nn.functional.one_hot(label_map, k).movedim(-1, 1).float()


def test_scores_equal_a_count_by_hand() -> None:
    """Catches Dice taken for IoU, background counted in, and accuracy over labels instead of pixels."""
    truth = torch.tensor([[[0, 0, 1, 1], [0, 2, 2, 2]]])
    predicted = torch.tensor([[[0, 1, 1, 0], [0, 2, 2, 1]]])
    scores = scores_of((certain(predicted, 3), truth))
    # label 1: 1 hit, 2 in truth, 3 predicted; label 2: 2 hits, 3 in truth, 2 predicted
    assert scores["dice_per_label"].tolist() == pytest.approx([2 * 1 / 5, 2 * 2 / 5])
    assert float(scores["dice"]) == pytest.approx(0.6)
    assert float(scores["iou"]) == pytest.approx((1 / 4 + 2 / 3) / 2)
    assert float(scores["accuracy"]) == pytest.approx(5 / 8)


def test_perfect_and_useless_predictions() -> None:
    """Catches a score that cannot reach its ends."""
    _, target = batch(1)
    perfect = scores_of((certain(target, 4), target))
    assert [float(perfect[name]) for name in ("dice", "iou", "ap", "accuracy")] == [1.0] * 4
    nothing = scores_of((certain(torch.zeros_like(target), 4), target))
    assert float(nothing["dice"]) == float(nothing["iou"]) == 0.0
    share = [(target == label).float().mean().item() for label in (1, 2, 3)]
    assert float(nothing["ap"]) == pytest.approx(np.mean(share), abs=1e-6)


def test_scores_equal_torchmetrics() -> None:
    """Catches a slip in IoU or average precision that shows on three and more channels only."""
    probability, target = batch(2)
    scores = scores_of((probability, target))
    iou = multiclass_jaccard_index(probability, target, num_classes=4, average=None)
    assert float(scores["iou"]) == pytest.approx(float(iou[1:].mean()), abs=1e-6)
    exact = [binary_average_precision(probability[:, label], (target == label).int()) for label in (1, 2, 3)]
    assert float(scores["ap"]) == pytest.approx(float(torch.stack(exact).mean()), abs=0.005)
    edges = torch.arange(N_BINS) / N_BINS  # with the same thresholds there is no binning error
    binned = [
        binary_average_precision(probability[:, label], (target == label).int(), thresholds=edges)
        for label in (1, 2, 3)
    ]
    assert float(scores["ap"]) == pytest.approx(float(torch.stack(binned).mean()), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, N_BINS - 1), st.booleans()), min_size=1, max_size=60))
def test_average_precision_equals_its_definition(pixels: list[tuple[int, bool]]) -> None:
    """Catches ties that are ordered in the label's favour: pixels of one bin are one step."""
    counts = torch.zeros(2, N_BINS, dtype=torch.long)
    for place, belongs in pixels:
        counts[int(belongs), place] += 1
    value = float(average_precision(counts[1], counts[0]))
    total = sum(belongs for _, belongs in pixels)
    if total == 0:
        assert np.isnan(value)
        return
    expected, before = 0.0, 0
    for threshold in sorted({place for place, _ in pixels}, reverse=True):
        taken = [belongs for place, belongs in pixels if place >= threshold]
        expected += sum(taken) / len(taken) * (sum(taken) - before) / total
        before = sum(taken)
    assert value == pytest.approx(expected)


def test_batches_add_up_to_one_pass() -> None:
    """Catches a mean over batches: small batches and batches without a label would count too much."""
    batches = [batch(1, n=5), batch(2, n=1), batch(3, n=2)]
    together = (torch.cat([one[0] for one in batches]), torch.cat([one[1] for one in batches]))
    for name, value in scores_of(*batches).items():
        assert torch.allclose(value, scores_of(together)[name], atol=1e-12), name


def test_reset_starts_over() -> None:
    """Catches scores that remember the epoch before."""
    scores = SegmentationScores(4)
    scores.update(*batch(1), torch.arange(3))
    scores.reset()
    scores.update(*batch(2), torch.arange(3))
    assert float(scores.compute()["dice"]) == float(scores_of(batch(2))["dice"])


def test_label_that_the_truth_lacks_is_left_out() -> None:
    """Catches a mean dragged down, or made NaN, by a label that no validation slice holds."""
    truth = torch.tensor([[[0, 1, 1, 0]]])
    predicted = torch.tensor([[[0, 1, 0, 2]]])
    scores = scores_of((certain(predicted, 3), truth))
    assert float(scores["dice"]) == pytest.approx(2 / 3)
    assert float(scores["iou"]) == pytest.approx(1 / 2)
    assert torch.isfinite(scores["ap"])
    assert torch.isnan(scores["dice_per_label"][1])


def test_pixels_that_nobody_looked_at_count_nowhere() -> None:
    """Catches unlabelled pixels scored as background."""
    probability, target = batch(5)
    left = target.clone()
    left[:, :, 12:] = -1
    cut = scores_of((probability[..., :12], target[..., :12]))
    for name, value in scores_of((probability, left)).items():
        if name != "area_error":
            assert torch.allclose(value, cut[name], equal_nan=True), name
    assert float(scores_of((probability, left))["area_error"]) == pytest.approx(float(cut["area_error"]))
    nobody = scores_of((probability, torch.full_like(target, -1)))
    assert [float(nobody[name]) for name in ("dice", "iou", "ap", "accuracy", "area_error")] == [0.0] * 5


def test_area_error_is_a_mean_over_slices() -> None:
    """Catches an area error over the pooled pixels, where slices cancel out, and a slice without muscle in it."""
    truth = torch.tensor([[[0, 1, 1, 2]], [[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    predicted = torch.tensor([[[1, 1, 1, 2]], [[0, 1, 0, 0]], [[1, 0, 0, 0]]])
    scores = scores_of((certain(predicted, 3), truth))
    assert float(scores["area_error"]) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_slices_are_kept_by_their_index() -> None:
    """Catches scores of slices in the order of arrival."""
    scores = SegmentationScores(3, keep_slices=True)
    truth = torch.tensor([[[0, 1, 1, 2]], [[1, 1, 0, 0]]])
    predicted = torch.tensor([[[0, 1, 1, 2]], [[0, 1, 2, 0]]])
    scores.update(certain(predicted, 3), truth, torch.tensor([7, 2]))
    found = scores.per_slice()
    assert set(found) == {2, 7}
    assert found[7].tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert found[2].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert dice_of_confusion(found[7]) == 1.0
    assert dice_of_confusion(found[2]) == pytest.approx((2 / 3 + 0) / 2)
    assert dice_of_confusion(torch.diag(torch.tensor([9, 0, 0]))) == 1.0


def test_processes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a score of one process only, and slices that fail to come together."""
    probability, target = batch(6)
    scores = SegmentationScores(4, keep_slices=True)
    scores.update(probability, target, torch.arange(3))
    alone = scores.compute()
    matrices = scores.per_slice()
    scores = SegmentationScores(4, keep_slices=True)
    scores.update(probability, target, torch.arange(3))
    monkeypatch.setattr(scores, "distributed_available_fn", lambda: True)
    monkeypatch.setattr(scores, "dist_sync_fn", lambda tensor, group=None: [tensor, tensor])  # a twin process
    together = scores.compute()
    assert float(together["dice"]) == pytest.approx(float(alone["dice"]))
    assert int(scores.confusion.sum()) == target.numel(), "back to its own counts"
    assert {index: matrix.tolist() for index, matrix in scores.synced_per_slice.items()} == {
        index: matrix.tolist() for index, matrix in matrices.items()
    }


def test_truth_without_any_label_scores_zero() -> None:
    """Catches NaN as the score that decides which checkpoint is best."""
    scores = scores_of((certain(torch.zeros(1, 4, 4, dtype=torch.long), 3), torch.zeros(1, 4, 4, dtype=torch.long)))
    assert [float(scores[name]) for name in ("dice", "iou", "ap")] == [0.0, 0.0, 0.0]
    assert float(scores["accuracy"]) == 1.0


def test_bf16_probabilities_count_too() -> None:
    """Catches sums that leave the range of a short float."""
    probability, target = batch(4)
    exact, short = scores_of((probability, target)), scores_of((probability.bfloat16(), target))
    assert float(short["dice"]) == pytest.approx(float(exact["dice"]), abs=0.01)
    assert float(short["ap"]) == pytest.approx(float(exact["ap"]), abs=0.01)


def run_metrics(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "sarco", "compare", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Truth of six patients as files and predictions as results folders; the sixth prediction lies elsewhere."""
    root = tmp_path_factory.mktemp("compare")
    truth, results = root / "truth", root / "preds_from_x_of_truth"
    truth.mkdir()
    (truth / "labels.json").write_text('{"1": "skeletal_muscle"}')
    grid = PhantomOptions(n_slices=3, rows=40, columns=48, spacing_mm=(9.0, 8.0, 5.0))
    for number in range(6):
        phantom = make_phantom(number, grid)
        write_label_map(truth / f"P{number}.nii.gz", phantom.label_map, phantom.affine_lps)
        folder = results / f"P{number}"
        folder.mkdir(parents=True)
        drawn, affine = phantom.label_map.copy(), phantom.affine_lps.copy()
        drawn[:, : 10 + 2 * number] = 0
        affine[0, 3] += 100 * (number == 5)
        write_label_map(folder / "label_map.nii.gz", drawn, affine)
    write_label_map(truth / "lone.nii.gz", np.zeros((4, 4, 1), np.uint8), np.eye(4))
    return truth, results


def test_command_compares_two_files(folders: tuple[Path, Path]) -> None:
    """Catches a command that starts and then fails, or prints to the wrong place."""
    truth, results = folders
    done = run_metrics(truth / "P1.nii.gz", results / "P1")
    assert done.returncode == 0 and done.stderr == ""
    (line,) = done.stdout.splitlines()
    one, two = (
        np.asarray(nib.load(path).dataobj) > 0 for path in (truth / "P1.nii.gz", results / "P1/label_map.nii.gz")
    )
    dice = 2 * (one & two).sum() / (one.sum() + two.sum())
    assert line.startswith(f"label 1 (skeletal_muscle): Dice {dice:.4f}, IoU ")
    assert 0 < dice < 1


def test_command_compares_folders(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches patients that drop out in silence, tables that are not written, or that overwrite others."""
    truth, results = folders
    with pytest.raises(SarcoError, match="1 of 6 pairs could not be compared"):
        main([str(truth), str(results), f"--out={tmp_path / 'out'}"])
    out, err = capsys.readouterr()
    assert "lone.nii.gz has no partner" in err and "P5" in err
    with open(tmp_path / "out" / "comparison.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["P0", "P1", "P2", "P3", "P4"]
    assert {row["label"] for row in rows} == {"skeletal_muscle"}
    mean = np.mean([float(row["dice"]) for row in rows])
    with open(tmp_path / "out" / "summary.csv", newline="", encoding="utf-8") as file:
        dice = next(row for row in csv.DictReader(file) if row["measure"] == "dice")
    assert float(dice["mean"]) == pytest.approx(mean, rel=1e-4)
    assert float(dice["low"]) < mean < float(dice["high"]) and (dice["n"], dice["undefined"]) == ("5", "0")
    assert (tmp_path / "out" / "bland_altman.png").read_bytes().startswith(b"\x89PNG")
    told = re.search(r"^skeletal_muscle dice: mean ([\d.]+) \[", out, re.MULTILINE)
    assert told and float(told[1]) == pytest.approx(mean, abs=1e-4)
    with pytest.raises(InputError, match="nothing is overwritten"):
        main([str(truth / "P1.nii.gz"), str(results / "P1"), f"--out={tmp_path / 'out'}"])


def test_path_that_does_not_exist(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Catches a traceback for a mistyped path."""
    truth, _ = folders
    for one, two in ((truth / "P1.nii.gz", tmp_path / "absent.nii.gz"), (truth, tmp_path / "absent")):
        with pytest.raises(InputError, match="absent"):
            main([str(one), str(two)])


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_likeliest_channel_is_argmax(seed: int, k: int) -> None:
    """Catches another winner than argmax has, where channels are equal too."""
    generator = torch.Generator().manual_seed(seed)
    probability = torch.randint(0, 4, (2, k, 5, 7), generator=generator) / 3  # many ties
    for layout in (torch.contiguous_format, torch.channels_last):
        found = likeliest(probability.contiguous(memory_format=layout))
        assert found.dtype == torch.long and np.array_equal(found.numpy(), probability.numpy().argmax(1))


def test_slice_that_nobody_looked_at_is_not_kept() -> None:
    """Catches a filler, which evens out the shares of processes, that takes the place of a real slice."""
    scores = SegmentationScores(3, keep_slices=True)
    truth = torch.tensor([[[0, 1, 1, 2]], [[-1, -1, -1, -1]]])
    scores.update(certain(truth.clamp(min=0), 3), truth, torch.tensor([7, 7]))
    assert {index: int(matrix.sum()) for index, matrix in scores.per_slice().items()} == {7: 4}


def test_what_is_no_number_is_counted_nowhere_it_could_break() -> None:
    """Catches an index of -9223372036854775808, before anybody could say that the loss is no number."""
    scores = SegmentationScores(2)
    probability = torch.full((1, 2, 4, 4), torch.nan)
    scores.update(probability, torch.ones(1, 4, 4, dtype=torch.long), torch.tensor([0]))
    assert float(scores.compute()["dice"]) == 0
