"""All DICOM results of a series: valid by dciodvfy, kept by an archive as they are, and only what was asked for."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from email.parser import BytesParser
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_parts import Measured

from sarco.core.attempts import Attempts
from sarco.core.errors import SarcoError
from sarco.io.dicom import find_series
from sarco.pacs.objects import PICTURE, REPORT, SEGMENTATION, Wanted, check_source, write_dicom_results
from sarco.pacs.source import Origin
from sarco.phantom.patient import Phantom
from sarco.scan.labels import LabelTable

pytest.importorskip("highdicom", reason="highdicom is not installed")

ORIGIN = Origin("run1", "a" * 64, datetime(2024, 5, 6, 7, 8, 9))
ALL = Wanted(seg=True, sr=True, sc=True)
DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
PICTURE_RGB = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def write_all(folder: Path, scan: Path, label_map: np.ndarray | None, labels: LabelTable) -> list[Path]:
    """All three results of a scan; where no label map is given, every third row is labelled."""
    (series,) = find_series(scan).series
    source = check_source(series, ALL)
    assert source is not None
    if label_map is None:
        label_map = np.zeros(series.shape, dtype=np.uint8)
        label_map[::3, :, list(series.plane_index)] = labels.ids[0]
    counts = [(plane, i, int((label_map[:, :, plane] == i).sum())) for plane in series.plane_index for i in labels.ids]
    folder.mkdir(exist_ok=True)
    return write_dicom_results(
        folder,
        source,
        ALL,
        label_map,
        labels,
        ORIGIN,
        Attempts(),
        per_slice=[Measured(plane, i, count, count * 0.1, 40.5, 12.25) for plane, i, count in counts],
        whole=[{"id": i, "volume_ml": 12.5, "mean_hu": 40.5} for i in labels.ids],
        picture=PICTURE_RGB,
    )


@pytest.fixture
def results(phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """The three files of a phantom."""
    phantom = phantoms["oblique"]
    return write_all(tmp_path / "out", series_folder(phantom), phantom.label_map, LabelTable(phantom.label_names))


def complaints(path: Path) -> list[str]:
    """Errors that dciodvfy finds, an independent validator of the standard's modules."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    run = subprocess.run([program, str(path)], capture_output=True, text=True, check=False, errors="replace")
    said = (run.stdout + run.stderr).splitlines()
    return [line for line in said if line.startswith("Error")] + [f"exit {run.returncode}"] * bool(run.returncode)


def test_the_validator_does_find_errors(results: list[Path]) -> None:
    """Catches a check for errors that passes whatever the validator says."""
    dataset = pydicom.dcmread(results[0])
    del dataset.SegmentSequence[0].SegmentAlgorithmType
    dataset.save_as(results[0])
    assert complaints(results[0])


@pytest.mark.parametrize("geometry", ["axial", "oblique", "feet first", "coronal"])
def test_every_result_is_valid(
    turned_phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path, geometry: str
) -> None:
    """Catches missing attributes, wrong value representations and broken conditions of the standard."""
    phantom = turned_phantoms[geometry]
    labels = LabelTable(phantom.label_names)
    for path in write_all(tmp_path / "out", series_folder(phantom), phantom.label_map, labels):
        assert complaints(path) == [], path.name


def test_results_of_an_anonymised_scan_are_valid(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches results that break where a de-identification took attributes out, and names beyond ASCII."""
    phantom, folder = phantoms["anisotropic"], series_folder(phantoms["anisotropic"])
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for tag in ("PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyTime", "AccessionNumber"):
            del dataset[tag]
        for tag in ("FrameOfReferenceUID", "BodyPartExamined", "SliceThickness", "SeriesNumber", "Manufacturer"):
            del dataset[tag]
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller"
        dataset.save_as(path)
    labels = LabelTable({i: f"Müskel 筋肉 {name}" for i, name in phantom.label_names.items()})
    for path in write_all(tmp_path / "out", folder, phantom.label_map, labels):
        assert complaints(path) == [], path.name
        assert pydicom.dcmread(path).PatientName == "Müller"


@pytest.mark.parametrize("name", ["feet_first_3_slices", "uneven_gaps", "gantry_tilt"])
def test_results_of_real_scans_are_valid(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Catches what only real headers provoke."""
    for path in write_all(tmp_path / "out", shared_data / "odd_series" / name, None, LabelTable({1: "muscle"})):
        assert complaints(path) == [], path.name


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DICOMweb address of an Orthanc that only this machine can reach, empty and gone afterwards."""
    program = shutil.which("Orthanc")
    if program is None or not Path(DICOMWEB).is_file():
        pytest.skip("Orthanc with DICOMweb is not installed (Debian: orthanc, orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": port,
        "DicomServerEnabled": False,
        "Plugins": [DICOMWEB],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{address}/system", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield f"{address}/dicom-web"
    finally:
        server.terminate()
        server.wait(20)


def store(address: str, paths: list[Path]) -> dict[str, object]:
    """STOW-RS (PS3.18 section 10.5)."""
    edge = "edge-of-a-part"
    body = b"".join(
        f"--{edge}\r\nContent-Type: application/dicom\r\n\r\n".encode() + path.read_bytes() + b"\r\n" for path in paths
    )
    request = urllib.request.Request(
        f"{address}/studies",
        data=body + f"--{edge}--\r\n".encode(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={edge}',
            "Accept": "application/dicom+json",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def fetch(address: str, dataset: pydicom.Dataset) -> bytes:
    """WADO-RS of one instance, as it is stored (PS3.18 section 10.4)."""
    request = urllib.request.Request(
        f"{address}/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + answer.read())
    (part,) = message.get_payload()
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def test_an_archive_keeps_the_results_as_they_are(results: list[Path], archive: str) -> None:
    """Catches objects that an archive refuses or changes, and copies that pile up when they are stored again."""
    for _ in range(2):
        answer = store(archive, results)
        assert len(answer["00081199"]["Value"]) == len(results)  # type: ignore[index]  # Referenced SOP Sequence
        assert "Value" not in answer.get("00081198", {})  # type: ignore[operator]  # Failed SOP Sequence
    for path in results:
        dataset = pydicom.dcmread(path)
        fetched = path.with_suffix(".fetched")
        fetched.write_bytes(fetch(archive, dataset))
        assert pydicom.dcmread(fetched) == dataset
    study = pydicom.dcmread(results[0]).StudyInstanceUID
    request = urllib.request.Request(f"{archive}/studies/{study}/instances", headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        assert len(json.load(answered)) == len(results)


def test_only_what_was_asked_for_is_written(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Catches a report without the segmentation that it refers to, and files that nobody wanted."""
    phantom = phantoms["anisotropic"]
    (series,) = find_series(series_folder(phantom)).series
    labels = LabelTable(phantom.label_names)
    whole = [{"id": i, "volume_ml": 1.0, "mean_hu": None} for i in labels.ids]
    expected = {
        Wanted(): [],
        Wanted(seg=True): [SEGMENTATION],
        Wanted(sr=True): [SEGMENTATION, REPORT],
        Wanted(sc=True): [PICTURE],
        ALL: [SEGMENTATION, REPORT, PICTURE],
    }
    for number, (wanted, names) in enumerate(expected.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = check_source(series, wanted)
        assert (source is None) == (not wanted.anything)
        if source:
            written = write_dicom_results(
                folder, source, wanted, phantom.label_map, labels, ORIGIN, Attempts(), whole=whole, picture=PICTURE_RGB
            )
            assert [path.name for path in written] == names
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_the_uids_of_the_three_differ(results: list[Path]) -> None:
    """Catches two objects, or two kinds in one series, under one UID."""
    datasets = [pydicom.dcmread(path) for path in results]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 3
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 3
    assert len({dataset.SeriesNumber for dataset in datasets}) == 3
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1


def test_nothing_is_missed_where_highdicom_is_missing(
    phantoms: dict[str, Phantom], series_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a prediction that fails for an extra which nobody asked for."""
    (series,) = find_series(series_folder(phantoms["anisotropic"])).series
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert check_source(series, Wanted()) is None
    with pytest.raises(SarcoError, match="pip install highdicom"):
        check_source(series, ALL)
