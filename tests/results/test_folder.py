"""The results folder: whole or not there, never on top of others, and prediction.json says what was done."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sarco
from sarco.core.errors import InputError
from sarco.io.dicom import Series, find_series
from sarco.io.results import all_at_once
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series
from sarco.results.folder import name_series, results_path, write_results
from sarco.runs.store import Provenance
from sarco.scan.geometry import lps_to_ras, swap_rows_and_columns
from sarco.scan.labels import LabelTable

LABELS = LabelTable({1: "psoas", 3: "Rückenstrecker", 9: "nowhere"})


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A tilted patient."""
    return make_phantom(31, PhantomOptions(n_slices=4, rows=40, columns=48, oblique=True, labels="groups"))


@pytest.fixture
def series(phantom: Phantom, tmp_path: Path) -> Series:
    """The patient's series without its second slice."""
    paths = write_series(phantom, tmp_path / "scan", patient_id="P1", seed=4)
    paths[1].unlink()
    return find_series(tmp_path / "scan").series[0]


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_folder_is_named_after_run_and_scan(tmp_path: Path) -> None:
    """Catches another name than the documented preds_from_<run_id>_of_<scan name>."""
    scan = tmp_path / "my scan (1)"
    scan.mkdir()
    (scan / "slice.7.dcm").write_text("")
    assert results_path(tmp_path, "aa", scan, False).parent == tmp_path
    assert results_path(tmp_path, "aa", scan, False).name == "preds_from_aa_of_my_scan_1"
    assert results_path(tmp_path, "aa", scan / "slice.7.dcm", False).name == "preds_from_aa_of_slice.7"
    assert results_path(tmp_path, "aa", scan / ".." / scan.name, False).name == "preds_from_aa_of_my_scan_1"


def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    """Catches corrected label maps lost to a second prediction."""
    folder = tmp_path / "preds_from_aa_of_scan"
    folder.mkdir()
    assert results_path(tmp_path, "aa", Path("scan"), False) == folder
    (folder / "label_map.nii.gz").write_text("corrected by hand")
    with pytest.raises(InputError, match="--overwrite=yes"):
        results_path(tmp_path, "aa", Path("scan"), False)
    assert results_path(tmp_path, "aa", Path("scan"), True) == folder
    assert (folder / "label_map.nii.gz").read_text() == "corrected by hand"
    (tmp_path / "preds_from_aa_of_file").write_text("")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is a file"):
            results_path(tmp_path, "aa", Path("file"), overwrite)


def test_results_of_another_scan_are_named(series: Series, phantom: Phantom, tmp_path: Path) -> None:
    """Catches P1/CT and P2/CT, of which the second is told to replace "its" results: they are the first one's."""
    out = tmp_path / "preds_from_aa_of_CT"
    out.mkdir()
    provenance = Provenance("aa", "Trains", tmp_path / "best.ckpt")
    confidence = dict.fromkeys(series.plane_index, 1.0)
    write_results(out, series, phantom.label_map, confidence, LABELS, provenance)
    (tmp_path / "P2" / "CT").mkdir(parents=True)
    with pytest.raises(InputError, match="of another scan") as caught:
        results_path(tmp_path, "aa", tmp_path / "P2" / "CT", False)
    assert str(tmp_path / "scan") in str(caught.value) and "--dest_dir" in str(caught.value)
    out.rename(tmp_path / "preds_from_aa_of_scan")
    with pytest.raises(InputError, match="holds results already; choose another"):
        results_path(tmp_path, "aa", tmp_path / "scan", False)


def test_names_of_results_fit_every_disk(tmp_path: Path) -> None:
    """Catches "File name too long" after hours, a device of Windows, and two long names that become one."""
    for scan in ("1." * 60 + "7" * 120, "\u00fc" * 120, "\udcfc\udcff"):
        name = results_path(tmp_path, "aa", tmp_path / scan, False).name
        assert len(name.encode()) <= 200
        (tmp_path / name).mkdir()
    assert results_path(tmp_path, "aa", tmp_path / ("1." * 60 + "7" * 119 + "8"), False).name not in names_in(tmp_path)


def test_results_appear_at_once(tmp_path: Path) -> None:
    """Catches a folder that can be read while it is half full."""
    path = tmp_path / "new" / "results"
    with all_at_once(path, replace=True) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert names_in(path) == ["a"] and names_in(path.parent) == ["results"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_new_results_replace_old_ones_as_a_whole(tmp_path: Path) -> None:
    """Catches old and new results mixed in one folder."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "old").write_text("1")
    with all_at_once(path, replace=True) as folder:
        (folder / "new").write_text("1")
        assert names_in(path) == ["old"]
    assert names_in(path) == ["new"] and names_in(tmp_path) == ["results"]


@pytest.mark.parametrize("error", [InputError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [True, False])
def test_failure_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], before: bool) -> None:
    """Catches half results, and old ones thrown away before there are new ones."""
    path = tmp_path / "results"
    if before:
        path.mkdir()
        (path / "old").write_text("1")
    with pytest.raises(error), all_at_once(path, replace=True) as folder:
        (folder / "new").write_text("1")
        raise error
    assert names_in(tmp_path) == (["results"] if before else [])
    assert not before or names_in(path) == ["old"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Catches a traceback where --dest_dir is a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--dest_dir"), all_at_once(tmp_path / "file" / "results", replace=True):
        pass


def moved(series: Series, folder: Path, uid: str = "1.2.3", number: int | None = 2) -> Series:
    """The same series as if it lay elsewhere."""
    slices = tuple(replace(header, path=folder / header.path.name, number=number) for header in series.slices)
    return replace(series, uid=uid, slices=slices)


def test_series_of_a_tree_get_names_of_their_own(series: Series, tmp_path: Path) -> None:
    """Catches one series overwriting another's results, and names that lead out of the folder."""
    root = tmp_path / "tree"
    tree = [
        moved(series, root / "P1" / "venous"),
        moved(series, root / "P1 venous"),
        moved(series, root),
        moved(series, root / "P2", "1.2.826.0.1.3680043.8.498.111111111111", 1),
        moved(series, root / "P2", "1.2.826.0.1.3680043.8.498.222222222222", 2),
        moved(series, root / "P3", "1.5.111111111111", None),
        moved(series, root / "P3", "1.6.111111111111", None),
        moved(series, root / ".." / "elsewhere" / "P4"),
        moved(series, root / "Größe"),
    ]
    names = name_series(tree, root)
    assert len(set(names)) == len(tree)
    assert all("/" not in name and not name.startswith(".") for name in names)
    assert names[2] == "tree" and names[8] == "Größe"
    assert "series1" in names[3] and "series2" in names[4], "both of two say what they are"


def test_names_in_a_tree_fit_every_disk_and_stay_apart(series: Series, tmp_path: Path) -> None:
    """Catches five levels of UIDs, names that differ in their end or case alone, letters that are none, and devices."""
    root, uid = tmp_path / "tree", "1.3.6.1.4.1.14519.5.2.1.6279.6001.298806137288633453246975630"
    tree = [
        *(moved(series, root / f"{uid}{end}9" / f"{uid}8" / f"{uid}7" / f"{uid}6" / "DICOM") for end in "12"),
        *(moved(series, root / name, f"1.2.{number}") for number, name in enumerate(("CT", "ct", "con", "Nul.1"), 3)),
        *(moved(series, root / f"M{letter}ller", f"1.2.840.{letter!a}", None) for letter in "\udcfc\udcf6"),
    ]
    names = name_series(tree, root)
    assert len({name.casefold() for name in names}) == len(tree)
    assert all(len(name.encode()) <= 200 for name in names)
    assert not {name.partition(".")[0].upper() for name in names} & {"CON", "NUL"}


def test_provenance_holds_the_hash_of_the_file(tmp_path: Path) -> None:
    """Catches a hash of the name, or of a part."""
    (tmp_path / "best.ckpt").write_bytes(b"x" * 3_000_000)
    provenance = Provenance.of("aa", "Trains", tmp_path / "best.ckpt")
    assert provenance.sha256 == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_prediction_json_says_what_was_done(series: Series, phantom: Phantom, tmp_path: Path) -> None:
    """Catches volumes by the wrong voxel size, files in the wrong order, and geometry that is not the series'."""
    out = tmp_path / "out"
    out.mkdir()
    assert series.shape == (40, 48, 4) and series.plane_index == (0, 2, 3)
    label_map = phantom.label_map.copy()
    label_map[:, :, 1] = 0
    confidence = {0: 0.9, 3: 0.7, 2: 0.8}
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    write_results(out, series, label_map, confidence, LABELS, Provenance.of("aa", "Trains", tmp_path / "best.ckpt"))
    assert names_in(out) == ["label_map.nii.gz", "prediction.json"]

    content = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    assert content["run_id"] == "aa" and content["wandb_project"] == "Trains"
    assert content["sarco_version"] == sarco.__version__
    assert content["checkpoint"] == str(tmp_path / "best.ckpt")
    assert content["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert content["series_uid"] == series.uid and content["study_uid"] == series.slices[0].study_uid

    geometry = content["geometry"]
    assert geometry["shape"] == [40, 48, 4] and geometry["missing_planes"] == [1]
    assert np.allclose(geometry["affine_lps"], phantom.affine_lps, atol=1e-3)
    spacing = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    assert np.allclose(geometry["spacing_mm"], spacing, atol=1e-4)

    volumes = {entry["id"]: (entry["name"], entry["volume_ml"]) for entry in content["labels"]}
    assert set(volumes) == {1, 3, 9} and volumes[9] == ("nowhere", 0)
    for label_id in (1, 3):
        expected = np.count_nonzero(label_map == label_id) * spacing.prod() / 1000
        assert volumes[label_id][0] == LABELS.names[label_id]
        assert volumes[label_id][1] == pytest.approx(expected, rel=1e-3, abs=1e-3)

    assert content["mean_confidence"] == pytest.approx(0.8)
    assert [entry["slice_index"] for entry in content["slices"]] == [0, 2, 3]
    assert [entry["confidence"] for entry in content["slices"]] == [0.9, 0.8, 0.7]
    assert [entry["file"] for entry in content["slices"]] == [str(header.path) for header in series.slices]
    assert [entry["sop_uid"] for entry in content["slices"]] == [header.sop_uid for header in series.slices]


def test_prediction_json_names_no_patient(series: Series, phantom: Phantom, tmp_path: Path) -> None:
    """Catches a name or an id of a patient in a file that travels."""
    (tmp_path / "out").mkdir()
    slices = tuple(replace(header, patient_id="SECRET-ID", description="SECRET WORDS") for header in series.slices)
    provenance = Provenance("aa", "Trains", tmp_path / "best.ckpt")
    confidence = dict.fromkeys(series.plane_index, 1.0)
    write_results(tmp_path / "out", replace(series, slices=slices), phantom.label_map, confidence, LABELS, provenance)
    text = (tmp_path / "out" / "prediction.json").read_text(encoding="utf-8")
    assert "SECRET" not in text and "Phantom^" not in text


def test_label_map_lies_on_the_series(series: Series, phantom: Phantom, tmp_path: Path) -> None:
    """Catches a label map on another grid, of another type, or without units."""
    (tmp_path / "out").mkdir()
    provenance = Provenance("aa", "Trains", tmp_path / "best.ckpt")
    confidence = dict.fromkeys(series.plane_index, 1.0)
    write_results(tmp_path / "out", series, phantom.label_map, confidence, LABELS, provenance)
    image = nib.load(tmp_path / "out" / "label_map.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), phantom.label_map.transpose(1, 0, 2))
    assert np.allclose(image.affine, lps_to_ras(swap_rows_and_columns(phantom.affine_lps)), atol=1e-3)
    assert int(image.header["sform_code"]) > 0 and int(image.header["qform_code"]) > 0
    assert image.header.get_xyzt_units()[0] == "mm"
