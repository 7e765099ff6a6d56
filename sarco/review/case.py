"""Makes a training case of a corrected prediction: the scan beside a label map that a person stands for."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import InputError
from sarco.core.files import atomic_folder, write_json
from sarco.io.nifti import is_nifti, nifti_stem, read_label_map, write_label_map
from sarco.scan.labels import IGNORE_ID, LabelTable, read_label_names
from sarco.scan.series import Series


def case_name(series_uid: str) -> str:
    """The name of the case of a series: the same each time, and free of names."""
    return f"corrected_{hashlib.blake2b(series_uid.encode(), digest_size=6).hexdigest()}"


def add_case(
    data_dir: Path, series: Series, label_map: NDArray[np.uint8], seen: Iterable[int], labels: LabelTable
) -> Path:
    """Writes ``CASE/`` with the slices and ``CASE.nii.gz`` into a data folder; of a NIfTI volume both into ``CASE/``.

    Slices that nobody corrected or checked get the id 255, "nobody looked", so that a network never learns its own
    faults as truth. Where the case is there already, slices that were seen then and not now keep their labels.

    Args:
        data_dir: what ``--data_dir`` of the training is; made if it is not there.
        series: the scan. Its files are linked where the disk allows it, else copied.
        label_map: (row, column, plane) label ids.
        seen: planes that a person stands for.
        labels: names of the ids.

    Returns:
        The path of the label map.

    Raises:
        InputError: nobody looked at any slice, the folder names ids differently, or it cannot be written.
    """
    planes = sorted(set(seen))
    if not planes:
        raise InputError("no slice was corrected or checked, so there is nothing to learn from; check slices first")
    _check_names(data_dir, labels)
    folder, files = data_dir / case_name(series.uid), _names_in_case(series)
    is_volume = is_nifti(series.slices[0].path)
    target = folder / "label.nii.gz" if is_volume else data_dir / f"{folder.name}.nii.gz"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        truth = _earlier_labels(target, label_map.shape)
        truth[:, :, planes] = label_map[:, :, planes]
        _put_slices(folder, files)
        if not (data_dir / "labels.json").exists():
            write_json(data_dir / "labels.json", labels.to_builtins())
        write_label_map(target, truth, series.affine_lps)
    except OSError as error:
        raise InputError(f"{data_dir}: cannot be written ({error.strerror}); choose another --add_to") from None
    return target


def _check_names(data_dir: Path, labels: LabelTable) -> None:
    known = read_label_names(data_dir / "labels.json")
    for label_id, name in labels.names.items():
        if known.get(label_id, name) != name:
            raise InputError(
                f"{data_dir / 'labels.json'}: label id {label_id} is {known[label_id]!r} there and {name!r} here; "
                "choose another --add_to"
            )


def _earlier_labels(target: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if target.exists():
        earlier = read_label_map(target).ids
        if earlier.shape != shape:
            raise InputError(f"{target}: is there already with another shape; move it away")
        return earlier.copy()
    return np.full(shape, IGNORE_ID, dtype=np.uint8)


def _names_in_case(series: Series) -> dict[str, Path]:
    """The files of a scan by their names in the case; their own may hold a patient's."""
    files = dict.fromkeys(header.path for header in series.slices)  # one may hold many slices
    if is_nifti(series.slices[0].path):
        return {f"ct{path.name[len(nifti_stem(path)) :].lower()}": path for path in files}
    return {f"{number:04d}.dcm": path for number, path in enumerate(files)}


def _put_slices(folder: Path, files: dict[str, Path]) -> None:
    if all((folder / name).exists() for name in files):
        return
    with atomic_folder(folder, replace=True) as building:
        for name, path in files.items():
            try:
                os.link(path.resolve(), building / name)
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, building / name)
