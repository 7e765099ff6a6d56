"""What file names say of a NIfTI volume."""

from pathlib import Path

import pytest

from sarco.io.nifti import is_label_by_name, label_case, results_name, scan_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("set/s0011/ct.nii.gz", "s0011"),
        ("case_7/imaging.nii.gz", "case_7"),
        ("imagesTr/BRATS_001_0000.nii.gz", "BRATS_001"),
        ("P7_image.nii", "P7"),
        ("P7.nii.gz", "P7"),
        ("P7_12.nii.gz", "P7_12"),
    ],
)
def test_a_case_goes_by_its_folder_or_its_file(path: str, name: str) -> None:
    """Catches all scans called ct counted as one patient's, and a number that is no channel cut off."""
    assert scan_name(Path(path)) == name


def test_a_label_map_is_known_by_its_name(tmp_path: Path) -> None:
    """Catches label maps of a tree that are opened as scans, and scans that are passed over."""
    labels = ("a/label.nii.gz", "a/P1_seg.nii", "s/segmentations/psoas.nii.gz", "labelsTr/P1.nii.gz",
              "c/body-regions.nii.gz", "res/label_map.nii.gz")  # fmt: skip
    assert all(is_label_by_name(tmp_path / name) for name in labels)
    assert not any(is_label_by_name(tmp_path / name) for name in ("a/ct.nii.gz", "imagesTs/P1_0000.nii.gz", "P1.nii"))
    (tmp_path / "P2").mkdir()
    assert is_label_by_name(tmp_path / "P2.nii.gz")
    assert label_case("P1_label") == "P1" and label_case("P1") == "" and label_case("label") == ""


def test_scans_of_one_name_have_results_of_their_own(tmp_path: Path) -> None:
    """Catches the second ct.nii.gz refused because the first has the folder of its results."""
    one, other = (tmp_path / name / "ct.nii.gz" for name in ("s1", "s2"))
    assert {results_name(one), results_name(other)} == {"s1_ct", "s2_ct"}
    assert results_name(tmp_path / "P1.nii.gz") == "P1"
