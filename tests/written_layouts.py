"""The same invented patients in every layout that sarco recognises: for tests, and for a look at them by hand.

python tests/written_layouts.py FOLDER
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from sarco.io.nifti import write_label_map
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_series

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPTIONS = PhantomOptions(n_slices=5, rows=96, columns=104, spacing_mm=(4.0, 3.5, 6.0), labels="groups")
SEEDS = {"P1": 21, "P2": 22, "P3": 23}
UNSEEN = 255


def patients() -> dict[str, Phantom]:
    """By name."""
    return {name: make_phantom(seed, OPTIONS) for name, seed in SEEDS.items()}


def save_image(
    path: Path, hu: NDArray[np.int16], affine_lps: NDArray[np.float64], order: tuple[int, ...] = (1, 0, 2)
) -> None:
    """HU (row, column, slice) as NIfTI whose axes are these of (row, column, slice)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ascontiguousarray(hu.transpose(order)), LPS_TO_RAS @ affine_lps[:, [*order, 3]])
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def save_labels(path: Path, phantom: Phantom, ids: NDArray[np.uint8] | None = None) -> None:
    """A label map of the phantom's own grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, phantom.label_map if ids is None else ids, phantom.affine_lps)


def names_of(phantom: Phantom) -> dict[int, str]:
    """Label names without the background."""
    return {label_id: name for label_id, name in phantom.label_names.items() if label_id}


def write_names(root: Path, phantom: Phantom) -> None:
    """``labels.json``."""
    table = {str(label_id): name for label_id, name in names_of(phantom).items()}
    (root / "labels.json").write_text(json.dumps(table))


def write_dicom_series(root: Path) -> None:
    """``CASE/`` with a DICOM series beside ``CASE.nii.gz``."""
    for name, phantom in patients().items():
        write_series(phantom, root / name, patient_id=name, seed=SEEDS[name])
        save_labels(root / f"{name}.nii.gz", phantom)
    write_names(root, phantom)


def write_dicom_slices(root: Path) -> None:
    """``NAME.dcm`` beside ``NAME.nii.gz`` for each slice."""
    for name, phantom in patients().items():
        for index, path in enumerate(write_series(phantom, root / "tmp", patient_id=name, seed=SEEDS[name])):
            path.rename(root / f"{name}_{index}.dcm")
            affine = phantom.affine_lps.copy()
            affine[:3, 3] += index * affine[:3, 2]
            write_label_map(root / f"{name}_{index}.nii.gz", phantom.label_map[:, :, index : index + 1], affine)
        (root / "tmp").rmdir()
    write_names(root, phantom)


def write_folders(root: Path) -> None:
    """``CASE/ct.nii.gz`` beside ``CASE/label.nii.gz``."""
    for name, phantom in patients().items():
        save_image(root / name / "ct.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(root / name / "label.nii.gz", phantom)
    write_names(root, phantom)


def write_plain_volumes(root: Path) -> None:
    """``CASE/`` with an unpacked volume beside ``CASE.nii.gz``."""
    for name, phantom in patients().items():
        save_image(root / name / "anything.nii", phantom.hu, phantom.affine_lps)
        save_labels(root / f"{name}.nii.gz", phantom)
    write_names(root, phantom)


def write_endings(root: Path) -> None:
    """``CASE_image.nii.gz`` beside ``CASE_label.nii.gz``."""
    for name, phantom in patients().items():
        save_image(root / f"{name}_image.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(root / f"{name}_label.nii.gz", phantom)
    write_names(root, phantom)


def write_turned(root: Path) -> None:
    """``CASE/ct.nii.gz`` in sagittal and coronal planes."""
    for name, phantom in patients().items():
        order = {"P1": (2, 0, 1), "P2": (1, 2, 0), "P3": (0, 2, 1)}[name]
        save_image(root / name / "ct.nii.gz", phantom.hu, phantom.affine_lps, order)
        save_labels(root / name / "label.nii.gz", phantom)
    write_names(root, phantom)


def write_nnunet(root: Path) -> None:
    """``imagesTr/CASE_0000.nii.gz`` beside ``labelsTr/CASE.nii.gz``."""
    for name, phantom in patients().items():
        save_image(root / "imagesTr" / f"{name}_0000.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(root / "labelsTr" / f"{name}.nii.gz", phantom)
    labels = {"background": 0, **{name: label_id for label_id, name in names_of(phantom).items()}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": len(SEEDS), "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))


def write_decathlon(root: Path) -> None:
    """``imagesTr/CASE.nii.gz`` beside ``labelsTr/CASE.nii.gz``."""
    for name, phantom in patients().items():
        save_image(root / "imagesTr" / f"{name}.nii.gz", phantom.hu, phantom.affine_lps)
        save_labels(root / "labelsTr" / f"{name}.nii.gz", phantom)
    labels = {"0": "background", **{str(label_id): name for label_id, name in names_of(phantom).items()}}
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in SEEDS]
    content = {"modality": {"0": "CT"}, "labels": labels, "numTraining": len(SEEDS), "training": listed, "test": []}
    (root / "dataset.json").write_text(json.dumps(content))


def write_totalsegmentator(root: Path) -> None:
    """``CASE/ct.nii.gz`` beside a mask for each structure; ``labels.json`` keeps the phantom's numbers."""
    for name, phantom in patients().items():
        save_image(root / name / "ct.nii.gz", phantom.hu, phantom.affine_lps)
        for label_id, structure in names_of(phantom).items():
            mask = (phantom.label_map == label_id).astype(np.uint8)
            save_labels(root / name / "segmentations" / f"{structure}.nii.gz", phantom, mask)
    write_names(root, phantom)


def write_dicom_seg(root: Path) -> None:
    """A DICOM series in ``CASE/ct/`` and a segmentation of it in ``CASE/seg.dcm``."""
    from sarco.io.dicom import find_series
    from sarco.pacs.seg import write_segmentation
    from sarco.pacs.source import Origin, read_source
    from sarco.scan.labels import LabelTable

    for name, phantom in patients().items():
        write_series(phantom, root / name / "ct", patient_id=name, seed=SEEDS[name])
        series = find_series(root / name / "ct").series[0]
        source = read_source(series)
        write_segmentation(
            root / name / "seg.dcm", source, phantom.label_map, LabelTable(names_of(phantom)), Origin("run", "0" * 64)
        )
    write_names(root, phantom)


WRITERS: dict[str, Callable[[Path], None]] = {
    "DICOM series": write_dicom_series,
    "DICOM slices": write_dicom_slices,
    "folders": write_folders,
    "plain volumes": write_plain_volumes,
    "endings": write_endings,
    "turned": write_turned,
    "nnU-Net": write_nnunet,
    "Decathlon": write_decathlon,
    "TotalSegmentator": write_totalsegmentator,
    "DICOM SEG": write_dicom_seg,
}


def write_saros(root: Path, labelled: int = 2) -> None:
    """``CASE/image.nii.gz`` beside body regions and parts; every slice but each ``labelled``-th is 255; the table."""
    rows = "".join(f"{name},TCGA-KIRC,TCGA-{name},abdomen,1.2.{seed},fold-1\n" for name, seed in SEEDS.items())
    head = "id,tcia_collection,tcia_case_id,anatomic_region,tcia_series_instance_uid,split\n"
    (root / "Segmentation Info.csv").write_text(head + rows)
    for name, phantom in patients().items():
        save_image(root / name / "image.nii.gz", phantom.hu, phantom.affine_lps)
        for kind, ids in (
            ("body-regions", np.where(phantom.label_map > 0, 2, phantom.hu > -300).astype(np.uint8)),
            ("body-parts", (phantom.hu > -300).astype(np.uint8)),
        ):
            sparse = np.full_like(ids, UNSEEN)
            sparse[:, :, ::labelled] = ids[:, :, ::labelled]
            save_labels(root / name / f"{kind}.nii.gz", phantom, sparse)


if __name__ == "__main__":
    for layout, write in WRITERS.items():
        folder = Path(sys.argv[1]) / layout
        folder.mkdir(parents=True)
        write(folder)
    write_saros(Path(sys.argv[1]) / "SAROS")
