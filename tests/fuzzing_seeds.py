"""What the fuzzer damages, and how it judges what became of it, with readers of its own: plain pydicom and nibabel."""

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzzing_mutators as mutators
import nibabel as nib
import numpy as np
import pydicom
from fuzzing_mutators import Files, Mutator
from numpy.typing import NDArray

from sarco.commands.list import main
from sarco.core.command import run_command
from sarco.core.errors import SarcoError
from sarco.core.training_options import PredictedOptions
from sarco.doctor.score import FAULTS
from sarco.io.dicom import find_series, read_series
from sarco.io.images import find_images, read_hu
from sarco.io.nifti import write_volume
from sarco.phantom.patient import PhantomOptions, make_phantom, write_dataset
from sarco.results.folder import write_results
from sarco.runs.store import Provenance, read_run
from sarco.scan.labels import LabelTable, read_label_names
from sarco.scan.series import Series
from sarco.training.cases import DataWarning, find_cases
from sarco.training.distillation import find_predictions

SECRET = "Secretissima"  # the patient's name in every seed: never in a message
ROOT_MARK = "/@ROOT@"  # stands in seeds for the folder that they are written to
ENCODINGS = (
    "no_suffix", "implicit_vr", "big_endian", "deflated", "rle", "jpeg_2000", "no_meta_header", "enhanced",
    "legacy_converted", "padding_range", "scale_by_slice", "signed",
)  # fmt: skip
MIN_CONFIDENCE = 0.6
LARGEST_MM = 1e6


class WrongError(Exception):
    """Something came out that is neither right nor a refusal in one line."""


@dataclass(frozen=True)
class Seed:
    """Files that are right, what may happen to them, and who judges: "right" or "refused", or raises."""

    name: str
    files: Files
    mutators: tuple[Mutator, ...]
    judge: Callable[[Path], str]


def require(claim: Any, what: str) -> None:
    """Raises where a claim does not hold."""
    if not claim:
        raise WrongError(what)


def files_of(folder: Path) -> Files:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_line(text: str, folder: Path) -> None:
    """A message is one printable line with the path in it and without the patient's name."""
    require(len(text.splitlines()) == 1, f"message of {len(text.splitlines())} lines: {text[:200]!r}")
    require(text.isprintable(), f"message with control characters: {text[:200]!r}")
    require(str(folder) in text, f"message without the path: {text[:200]!r}")
    require(SECRET not in text, f"message with the patient's name: {text[:200]!r}")
    require(len(text) < 2000, f"message of {len(text)} characters: {text[:200]!r}")


def refusing(judge: Callable[[Path], None]) -> Callable[[Path], str]:
    """A judge for whom a `SarcoError` of one line is a good end too."""

    def judged(folder: Path) -> str:
        try:
            judge(folder)
        except SarcoError as error:
            check_line(str(error), folder)
            return "refused"
        return "right"

    return judged


# --- DICOM series ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """What a decoder of the reference says on stderr is no word of sarco's."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def expected_of(path: Path, frame: int) -> tuple[NDArray[np.float64], pydicom.Dataset]:
    """HU and tags of a frame as plain pydicom has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2" + ("" if implicit else ".1"))
        dataset.add_new("PhotometricInterpretation", "CS", "MONOCHROME2")  # about display only
        dataset.add_new("SamplesPerPixel", "US", 1)  # colours are refused
        with quiet_stderr():
            stored = dataset.pixel_array
        flat = pydicom.Dataset()
        flat.update(dataset)
        flat.set_original_encoding(*dataset.original_encoding, character_encoding=None)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            stored = stored.reshape(-1, *stored.shape[-2:])[frame]
            shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
            for groups in (*shared, dataset.PerFrameFunctionalGroupsSequence[frame]):
                for element in groups:
                    if element.VR == "SQ" and len(element.value):
                        flat.update(element.value[0])
        for tag in {"RescaleSlope", "RescaleIntercept"} & set(flat.dir("Rescale")):
            text = flat[tag].value
            del flat[tag]
            if text not in (None, ""):  # empty is absent
                flat.add_new(tag, "DS", float(text))  # whatever its VR was
        hu = np.asarray(pydicom.pixels.apply_modality_lut(stored, flat), dtype=np.float64)
        if "RescaleSlope" not in flat and flat.get("ModalityLUTSequence"):
            hu = np.where(hu > 32767, hu - 65536, hu)  # a table in two's complement
    return hu, flat


def check_series(series: Series, volume: NDArray[np.float32]) -> None:
    """Values, grid and order of a series that was read, against its files."""
    require(volume.dtype == np.float32 and volume.shape == series.shape, "dtype or shape")
    require(np.isfinite(volume).all(), "HU are not finite")
    require(np.isfinite(series.affine_lps).all() and np.abs(series.affine_lps).max() < LARGEST_MM, "affine not finite")
    steps = series.affine_lps[:3, :3]
    require(np.linalg.cond(steps) < 1e9 and np.linalg.norm(steps, axis=0).min() > 1e-5, "affine is singular")
    require(list(series.plane_index) == sorted(set(series.plane_index)), "planes out of order")
    require(series.plane_index[0] == 0 and series.plane_index[-1] == series.n_planes - 1, "planes beyond the grid")
    for header, plane in zip(series.slices, series.plane_index, strict=True):
        hu, flat = expected_of(header.path, header.frame)
        require((int(flat.Rows), int(flat.Columns)) == header.shape == hu.shape, "shape of a slice")
        seen = volume[:, :, plane]
        differs = ~np.isclose(seen, hu, rtol=1e-5, atol=1e-2)
        if "PixelPaddingValue" in flat or "PixelPaddingRangeLimit" in flat:
            differs &= seen != -1024
        require(not differs.any(), f"{differs.sum()} pixels of a slice")
        place = series.affine_lps @ (0, 0, plane, 1)
        off = np.abs(place[:3] - np.array(flat.ImagePositionPatient, dtype=float)).max()
        require(off < max(0.11, 0.11 * np.linalg.norm(steps[:, 2])), f"a slice lies {off:g} mm off")
        cosines, spacing = np.array(flat.ImageOrientationPatient, dtype=float), np.array(flat.PixelSpacing, dtype=float)
        wanted = np.stack([cosines[3:] * spacing[0], cosines[:3] * spacing[1]], axis=1)
        require(np.allclose(steps[:, :2], wanted, rtol=0, atol=2e-3 * spacing.max() + 1e-4), "direction or spacing")


def looks_like_dicom(path: Path) -> bool:
    """What a person would call a DICOM file: by its mark or its name."""
    return path.read_bytes()[128:132] == b"DICM" or path.suffix == ".dcm"


def judge_series(folder: Path) -> str:
    """Reads whatever series a tree holds in both ways, and looks that no file vanishes without a word."""
    try:
        found = find_series(folder)
    except SarcoError as error:
        check_line(str(error), folder)
        return "refused"
    for line in found.refused:
        check_line(str(line), folder)
    known = sum(one.n_files for one in found.listed) + len(found.unreadable)
    files = [path for path in folder.rglob("*") if path.is_file() and looks_like_dicom(path)]
    require(known >= len(files), f"{len(files) - known} files are neither read nor refused")
    n_read = 0
    for one in found.listed:
        for series in one.series:
            with contextlib.suppress(SarcoError):
                volume = refused_with_path(lambda series=series: read_series(series), folder)
                check_series(series, volume)
                n_read += 1
        if one.series and not any(header.frame for series in one.series for header in series.slices):
            paths = {header.path for series in one.series for header in series.slices}
            require(len(paths) + len(one.aside) >= one.n_files, "a file of a series vanishes without a word")
    for series in find_images(folder).series:
        for header in series.slices:
            with contextlib.suppress(SarcoError):
                require(np.isfinite(refused_with_path(lambda header=header: read_hu(header), folder)).all(), "HU")
    return "right" if n_read else "refused"


def refused_with_path(call: Callable[[], Any], folder: Path) -> Any:
    """The call's result; the message of its refusal is looked at and then goes on."""
    try:
        return call()
    except SarcoError as error:
        check_line(str(error), folder)
        raise


def judge_listing(folder: Path) -> str:
    """``sarco list``, in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["sarco list", str(folder)]
    status: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_command(main, "sarco list")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = before
    require(out.getvalue().replace("\n", "").isprintable(), "a table with control characters")
    require(SECRET not in out.getvalue(), "a table with the patient's name")
    if status == 0:
        require(not err.getvalue(), f"stderr: {err.getvalue()[:200]}")
        require(re.search(r"^\d+ series, \d+ can be predicted$", out.getvalue(), re.M), "no table")
        return "right"
    require(status == 1, f"exit status {status}")
    check_line(err.getvalue().rstrip("\n"), folder)
    return "refused"


# --- NIfTI and label maps --------------------------------------------------------------------------------------------


def nibabel_values(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Values and affine (LPS mm) of a file as nibabel has them, and whether it says how it lies."""
    nib.imageglobals.logger.disabled = True  # sarco switches it off itself where it reads
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        content = path.read_bytes()
        try:
            content = gzip.decompress(content) if path.name.endswith(".gz") else content
        except Exception as error:
            raise WrongError(f"read although gzip says {error}") from None
        kind = nib.Nifti1Image if content[:2] == b"\x5c\x01" else nib.load(path, mmap=False).__class__
        image = kind.from_bytes(content)
        values = np.asarray(image.dataobj, dtype=np.float64)
        values = values.reshape(*values.shape[:3], *[1] * (3 - values.ndim))
        placed = image.header["sform_code"] != 0 or image.header["qform_code"] != 0
        nib.imageglobals.logger.disabled = False
        return values, np.diag([-1, -1, 1, 1]) @ image.affine, bool(placed)


def look_up(values: NDArray[Any], affine: NDArray[Any], shape: tuple[int, ...], wanted: NDArray[Any]) -> NDArray[Any]:
    """For each voxel of a grid the value of the image that lies nearest, by brute force; NaN beyond the image."""
    index = np.stack([axis.ravel() for axis in np.indices(shape)] + [np.ones(math.prod(shape))])
    inside = np.rint(np.linalg.inv(affine) @ wanted @ index)[:3].astype(int)
    good = ((inside >= 0) & (inside < np.array(values.shape)[:, None])).all(axis=0)
    out = np.full(index.shape[1], np.nan)
    out[good] = values[tuple(inside[:, good])]
    return out.reshape(shape)


def judge_volume(folder: Path) -> None:
    """Reads a NIfTI volume slice by slice."""
    (path,) = folder.iterdir()
    (series,) = find_images(path).series
    volume = np.stack([read_hu(header) for header in series.slices], axis=2)
    values, affine, placed = nibabel_values(path)
    require(placed, "read although it does not say how it lies")
    require(volume.dtype == np.float32 and volume.shape == series.shape, "dtype or shape")
    require(np.isfinite(volume).all(), "HU are not finite")
    require(np.isfinite(series.affine_lps).all() and np.abs(series.affine_lps).max() < LARGEST_MM, "affine not finite")
    require(np.linalg.cond(series.affine_lps[:3, :3]) < 1e9, "affine is singular")
    ratio = np.linalg.norm(series.affine_lps[:3, :3]) / np.linalg.norm(affine[:3, :3])
    require(np.isclose(min(abs(math.log10(ratio) - power) for power in (0, 3, -3)), 0, atol=1e-3), "size of voxels")
    scale = np.diag([*[10.0 ** round(math.log10(ratio))] * 3, 1])
    expected = look_up(values, scale @ affine, series.shape, series.affine_lps)
    expected = np.where(np.isfinite(expected), expected, -1024)
    require(np.allclose(volume, expected, rtol=1e-5, atol=1e-2), "voxels")


def judge_cases(folder: Path) -> None:
    """Reads a data folder as training does."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = find_cases(folder)
    for warning in said:
        require(issubclass(warning.category, DataWarning), f"warning: {warning.message}")
        require(len(str(warning.message).splitlines()) == 1, f"warning of several lines: {warning.message}")
    check_names(dataset.label_names, folder / "labels.json")
    for case in {id(item.case): item.case for item in dataset.slices}.values():
        maps = refused_with_path(case.read_label_maps, folder)
        values, affine, placed = nibabel_values(case.label_path)
        for header, ids in zip(case.slices, maps, strict=True):
            require(ids.dtype == np.uint8 and ids.shape == header.shape, "dtype or shape of a label map")
            if placed:
                expected = look_up(values, affine, (*header.shape, 1), header.affine_lps)[:, :, 0]
                require(np.array_equal(ids, np.rint(expected)) and np.abs(ids - expected).max() <= 1e-3, "label ids")


# --- JSON ------------------------------------------------------------------------------------------------------------


def strict_json(path: Path) -> Any:
    """The content; None where it is no JSON, or is ambiguous."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


def check_names(names: dict[int, str], path: Path) -> None:
    """Names by label id, against the file."""
    if not path.exists():
        require(names == {}, "names out of nowhere")
        return
    stored = strict_json(path)
    require(isinstance(stored, dict), "labels.json was read although it is no JSON object with keys of their own")
    require(all(re.fullmatch(r"\s*\d+\s*", key) for key in stored), "a label id that is no number")
    require(names == {int(key): name for key, name in stored.items()} and len(names) == len(stored), "names")
    require(all(0 <= label_id <= 255 for label_id in names), "a label id that no label map can hold")
    require(all(isinstance(name, str) and name.strip() and name.isprintable() for name in names.values()), "a name")


def judge_labels(folder: Path) -> None:
    """Reads labels.json."""
    check_names(read_label_names(folder / "labels.json"), folder / "labels.json")


def judge_prediction(folder: Path) -> None:
    """Reads results of inference as labels."""
    options = PredictedOptions(
        add_predicted_data=True, path_to_prediction=(folder / "out",), min_confidence=MIN_CONFIDENCE
    )
    found = find_predictions(options, folder / "data", (), {})
    entries = strict_json(folder / "out" / "prediction.json")["slices"]
    require(isinstance(entries, list), "slices that are no list")
    numbers = [entry["confidence"] for entry in entries]
    good = all(
        type(number) in (int, float)
        and (math.isnan(number) if isinstance(number, float) and not number >= 0 else 0 <= number <= 1)
        for number in numbers
    )
    require(good, f"confidences {numbers}")
    sure = [entry for entry in entries if entry["confidence"] >= MIN_CONFIDENCE]
    require(len(found.slices) + found.unsure + found.labelled == len(entries), "slices vanish or multiply")
    hashes = [hashlib.blake2b(item.header.path.read_bytes()).hexdigest() for item in found.slices]
    require(sorted(hashes) == sorted(entry["blake2b"] for entry in sure), "other slices than those that were predicted")
    for case in {id(item.case): item.case for item in found.slices}.values():
        for ids, header in zip(refused_with_path(case.read_label_maps, folder), case.slices, strict=True):
            require(ids.dtype == np.uint8 and ids.shape == header.shape, "dtype or shape of a label map")


def judge_run(folder: Path) -> None:
    """Reads the record of a run, which may fail only by being no record."""
    run = read_run(folder / "abc_Trains")
    record = strict_json(folder / "abc_Trains" / "run.json") if (folder / "abc_Trains" / "run.json").exists() else None
    fields = {"run_id": str, "wandb_project": str, "channel_3d": bool}
    is_whole = isinstance(record, dict) and all(type(record.get(key)) is kind for key, kind in fields.items())
    if run is None:
        require(not (folder / "abc_Trains" / "best.ckpt").exists(), "a run that is overlooked")
    elif run.recorded:
        require(is_whole, f"a record that is none: {record!r}"[:200])
        require((run.run_id, run.wandb_project, run.channel_3d) == tuple(record[key] for key in fields), "the record")
    else:
        require((run.run_id, run.wandb_project, run.channel_3d) == ("abc", "Trains", False), "the name")


# --- seeds -----------------------------------------------------------------------------------------------------------


def name_patient(files: Files) -> Files:
    """The same slices of a patient whose name must not appear anywhere."""
    named = {}
    for name, content in files.items():
        with mutators.quiet():
            dataset = mutators.parse(content)
            dataset.PatientName = f"{SECRET}^Person"
            named[name if name.endswith(".dcm") else f"{name}.dcm"] = mutators.unparse(dataset)
    return named


def with_table(content: bytes) -> bytes:
    """The slice with a Modality LUT to HU in two's complement instead of its rescale."""
    dataset = mutators.parse(content)
    hu = np.rint(pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)).astype(np.int64)
    lowest = int(hu.min())
    table = pydicom.Dataset()
    entries = np.arange(lowest, int(hu.max()) + 1).astype("<i2")
    table.add_new("LUTDescriptor", "US", [len(entries), 0, 16])
    table.ModalityLUTType = "HU"
    table.add_new("LUTData", "OW", entries.tobytes())
    dataset.PixelData = (hu - lowest).astype("<u2").tobytes()
    dataset.ModalityLUTSequence = [table]
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
    return mutators.unparse(dataset)


def dicom_seeds(folder: Path) -> Iterable[Seed]:
    """A series in each encoding that can be written here, and two in one tree."""
    for name in ENCODINGS:
        (folder / name).mkdir()
        FAULTS[name].build(folder / name)
        yield Seed(name, name_patient(files_of(folder / name)), mutators.DICOM, judge_series)
    plain = name_patient(files_of(folder / "no_suffix"))
    yield Seed("modality_lut", {name: with_table(one) for name, one in plain.items()}, mutators.DICOM, judge_series)
    yield Seed("listing", plain, mutators.DICOM, judge_listing)
    (folder / "late").mkdir()
    FAULTS["feet_first"].build(folder / "late") if "feet_first" in FAULTS else FAULTS["prone"].build(folder / "late")
    other = {}
    for name, content in name_patient(files_of(folder / "late")).items():
        dataset = mutators.parse(content)
        dataset.SeriesInstanceUID = "1.2.3.4"
        other[f"late/{name}"] = mutators.unparse(dataset)
    tree = {f"venous/{name}": content for name, content in plain.items()} | other
    yield Seed("two_series", tree, (*mutators.DICOM, *[mutators.shuffle_files] * 4), judge_series)


def nifti_seeds(folder: Path) -> Iterable[Seed]:
    """CT volumes, labelled data and its parts."""
    source = make_phantom(3, PhantomOptions(n_slices=4, rows=24, columns=30, spacing_mm=(9, 8, 7), oblique=True))
    for name in ("scan.nii", "scan.nii.gz"):
        write_volume(folder / name, source.hu.astype(np.float32), source.affine_lps)
        yield Seed(name, {name: (folder / name).read_bytes()}, mutators.NIFTI, refusing(judge_volume))
    stored = nib.Nifti1Image(source.hu.transpose(2, 0, 1), np.diag([-1, -1, 1, 1]) @ source.affine_lps[:, [2, 0, 1, 3]])
    stored.header.set_slope_inter(1, 0)
    nib.save(stored, folder / "other.nii")
    yield Seed("int16", {"s.nii": (folder / "other.nii").read_bytes()}, mutators.NIFTI, refusing(judge_volume))
    write_dataset(folder / "data", 2, 5, PhantomOptions(n_slices=3, rows=24, columns=30, oblique=True))
    files = files_of(folder / "data")
    files |= name_patient({name: content for name, content in files.items() if name.endswith(".dcm")})
    files["single.dcm"] = files[min(name for name in files if name.endswith(".dcm"))]
    files["single.nii.gz"] = files["P001.nii.gz"]  # a volume: the slice finds its plane in it
    yield Seed("cases", files, (*mutators.DICOM, *mutators.NIFTI, *mutators.JSON), refusing(judge_cases))
    yield Seed("label_maps", files, (mutators.change_nifti,), refusing(judge_cases))
    yield Seed("labels.json", {"labels.json": files["labels.json"]}, mutators.JSON, refusing(judge_labels))


def json_seeds(folder: Path) -> Iterable[Seed]:
    """Results of inference, and the record of a run."""
    write_dataset(folder / "root" / "new", 1, 6, PhantomOptions(n_slices=3, rows=24, columns=30))
    root = folder / "root"
    (series,) = find_series(root / "new" / "P001").series
    label_map = np.zeros(series.shape, dtype=np.uint8)
    label_map[8:15, 9:20] = 1
    (root / "out").mkdir()
    (root / "some.ckpt").write_bytes(b"")
    provenance = Provenance("teacher", "Trains", root / "some.ckpt", "0" * 64)
    confidences = dict(enumerate((0.99, 0.9, 0.5)))
    write_results(root / "out", series, label_map, confidences, LabelTable({1: "muscle"}), provenance)
    files = files_of(root)
    del files["new/P001.nii.gz"], files["new/labels.json"]
    path = "out/prediction.json"
    files[path] = files[path].replace(str(root.resolve()).encode(), ROOT_MARK.encode())
    yield Seed("prediction", files, (*mutators.JSON, mutators.shuffle_files), refusing(judge_prediction))
    record = {"run_id": "abc", "wandb_project": "Trains", "channel_3d": False}
    run = {"abc_Trains/run.json": json.dumps(record).encode(), "abc_Trains/best.ckpt": b"x"}
    yield Seed("run.json", run, mutators.JSON, refusing(judge_run))


def make_seeds(folder: Path) -> list[Seed]:
    """Every seed, made in an empty folder."""
    seeds: list[Seed] = []
    for number, make in enumerate((dicom_seeds, nifti_seeds, json_seeds)):
        (folder / str(number)).mkdir()
        seeds += make(folder / str(number))
    return seeds
