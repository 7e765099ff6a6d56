"""A corrected prediction as a training case; how it is learnt from stands in test_review.py."""

from pathlib import Path

import numpy as np
import pytest
from review_results import LABELS, three_labels

from sarco.core.errors import InputError
from sarco.io.dicom import find_series
from sarco.io.nifti import read_label_map
from sarco.phantom.patient import Phantom, write_series
from sarco.review.case import add_case, case_name
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series


@pytest.fixture
def series(phantoms: dict[str, Phantom], tmp_path: Path) -> Series:
    """A series whose file names would give the patient away."""
    write_series(phantoms["anisotropic"], tmp_path / "Doe^Jane", patient_id="P001", seed=1)
    return find_series(tmp_path / "Doe^Jane").series[0]


def test_case_holds_the_very_files_of_the_scan(series: Series, phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches slices that are lost, in another order, or that a name gives away."""
    label_map = three_labels(phantoms["anisotropic"])
    target = add_case(tmp_path / "data", series, label_map, series.plane_index, LABELS)
    assert target == tmp_path / "data" / f"{case_name(series.uid)}.nii.gz"
    copies = sorted((tmp_path / "data" / case_name(series.uid)).iterdir())
    assert [p.read_bytes() for p in copies] == [s.path.read_bytes() for s in series.slices]
    assert np.array_equal(read_label_map(target).ids, label_map)
    assert not [p for p in (tmp_path / "data").rglob("*") if "Doe" in p.name or p.name.startswith(".")]


def test_slices_are_copied_where_disks_know_no_links(
    series: Series, phantoms: dict[str, Phantom], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a case without slices on another disk."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    add_case(tmp_path / "data", series, three_labels(phantoms["anisotropic"]), [0], LABELS)
    copies = sorted((tmp_path / "data" / case_name(series.uid)).iterdir())
    assert [p.read_bytes() for p in copies] == [s.path.read_bytes() for s in series.slices]
    assert copies[0].stat().st_ino != series.slices[0].path.stat().st_ino


def test_what_cannot_be_learnt_from_is_refused(series: Series, phantoms: dict[str, Phantom], tmp_path: Path) -> None:
    """Catches a case that nobody looked at, names that contradict, and a case of another grid."""
    label_map = three_labels(phantoms["anisotropic"])
    data = tmp_path / "data"
    with pytest.raises(InputError, match="no slice was corrected or checked"):
        add_case(data, series, label_map, [], LABELS)
    assert not data.exists()
    target = add_case(data, series, label_map, [0], LABELS)
    before = target.read_bytes()
    with pytest.raises(InputError, match="label id 1 is 'psoas_left' there and 'liver' here"):
        add_case(data, series, label_map, [1], LabelTable({1: "liver"}))
    with pytest.raises(InputError, match="another shape"):
        add_case(data, series, label_map[1:], [1], LABELS)
    assert target.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        add_case(tmp_path / "file" / "data", series, label_map, [0], LABELS)


def test_cases_of_two_series_have_two_names() -> None:
    """Catches one patient's case that replaces another's."""
    assert case_name("1.2.3") != case_name("1.2.4") and case_name("1.2.3") == case_name("1.2.3")
