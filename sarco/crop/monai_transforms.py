"""What a MONAI bundle of sarco carries besides its network: its images, and the crop of their slices as a transform.

`sarco.prediction.monai_bundle` copies this module and those that it imports into a bundle's ``scripts/``, so that a
bundle runs where MONAI is installed and sarco is not. Images are what MONAI's ``LoadImaged`` gives: (1, i, j, k)
HU whose affine maps (i, j, k, 1) to RAS mm.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from numpy.typing import NDArray

from sarco.crop.body import find_body
from sarco.crop.grid import CropGrid, Placement
from sarco.scan.geometry import Affine, plane_affine, ras_to_lps, spacing_mm
from sarco.scan.hu import AIR_HU
from sarco.scan.view import View

_DICOM_MARK = b"DICM"  # after 128 bytes (PS3.10 7.1)


def list_bundle_images(path: str) -> list[dict[str, str]]:
    """The images of a folder, as a data list of MONAI: NIfTI files, and folders that hold a DICOM series.

    Args:
        path: the folder; it may be such a series itself, or one NIfTI file.

    Raises:
        ValueError: there is no image.
    """
    places = [Path(path), *(sorted(Path(path).iterdir()) if Path(path).is_dir() else [])]
    found = [str(place) for place in places if _is_nifti(place) or _is_series(place)]
    if not found:
        raise ValueError(f"{path}: holds no NIfTI volume and no folder with a DICOM series; give another dataset_dir")
    return [{"image": place} for place in found]


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file()


def _is_series(folder: Path) -> bool:
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.is_file():
            with open(file, "rb") as opened:
                if opened.read(132)[128:] == _DICOM_MARK:
                    return True
    return False


class CropSlicesd(MapTransform, InvertibleTransform):
    """Crops each axial slice of a volume to a square around its body; `inverse` brings label ids back onto the volume.

    (1, i, j, k) in HU becomes (C, S, S, number of slices), C slices each (neighbours where there are three), seen as
    radiologists see them, whichever way the volume is stored. Each slice has a crop of its own, so the result has no
    affine of its own.

    `inverse` takes probabilities (K, S, S, number of slices) and gives (1, i, j, k) label ids: probabilities are warped
    onto each slice, then the likeliest label of each pixel counts.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_size: int,
        pixel_mm: float | None,
        n_neighbours: int,
        label_ids: Sequence[int],
        allow_missing_keys: bool = False,
    ) -> None:
        """Sets up the crop.

        Args:
            keys: keys to crop.
            image_size: pixels a side of the result.
            pixel_mm: size of a pixel of the result, where the body fits in; else larger. None: the square is the
                smallest around the body.
            n_neighbours: slices that make up an image: 1, or 3 for a slice with those below and above it.
            label_ids: of each channel of the network, background first.
            allow_missing_keys: as everywhere in MONAI.
        """
        super().__init__(keys, allow_missing_keys)
        self.image_size = image_size
        self.pixel_mm = pixel_mm
        self.n_neighbours = n_neighbours
        self.label_ids = tuple(label_ids)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crops."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._crop(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Label ids on the grid of the volume, from probabilities."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._restore(d[key])
        return d

    def _crop(self, tensor: MetaTensor) -> MetaTensor:
        if tensor.ndim != 4 or len(tensor) != 1:
            raise ValueError(f"CropSlicesd takes one volume (1, i, j, k), got {tuple(tensor.shape)}")
        order, affine_lps = _axial_axes(tensor.affine.numpy())
        volume = tensor.as_tensor().detach().cpu().numpy()[0].transpose(order)  # (row, column, slice)
        n_slices = volume.shape[2]
        hu = [_plain_hu(volume[:, :, plane]) for plane in range(n_slices)]
        row_mm, column_mm, _ = spacing_mm(affine_lps)
        bodies = [find_body(one, (row_mm, column_mm)) for one in hu]
        up = 1 if affine_lps[2, 2] > 0 else -1
        beside = (-up, 0, up) if self.n_neighbours == 3 else (0,)
        images, grids = [], []
        for plane in range(n_slices):
            places = [plane + step if 0 <= plane + step < n_slices else plane for step in beside]
            placement = Placement.around(
                [bodies[place] for place in places], plane_affine(affine_lps, plane), self.image_size, self.pixel_mm
            )
            images.append(placement.crop_image(np.stack([hu[place] for place in places])))
            grids.append(placement.grid)
        result = MetaTensor(torch.from_numpy(np.stack(images, axis=-1)), meta=tensor.meta)
        result.affine = torch.eye(4, dtype=torch.float64)
        self.push_transform(
            result,
            orig_size=tuple(tensor.shape[1:]),
            extra_info={
                "start": torch.tensor([grid.start for grid in grids], dtype=torch.float64),
                "scale": torch.tensor([grid.scale for grid in grids], dtype=torch.float64),
                "affine": tensor.affine.to(torch.float64).clone(),
            },
        )
        return result

    def _restore(self, tensor: MetaTensor) -> MetaTensor:
        trace = self.pop_transform(tensor)
        info = trace["extra_info"]
        order, affine_lps = _axial_axes(info["affine"].numpy())
        size = [int(length) for length in trace["orig_size"]]
        rows, columns, n_slices = (size[axis] for axis in order)
        view = View.of(affine_lps)
        probability = tensor.as_tensor().detach().cpu().float().numpy()
        ids = np.array(self.label_ids, dtype=np.uint8)
        found = np.empty((rows, columns, n_slices), dtype=np.uint8)
        for plane, (start, scale) in enumerate(zip(info["start"].tolist(), info["scale"].tolist(), strict=True)):
            grid = CropGrid((start[0], start[1]), (scale[0], scale[1]), self.image_size)
            placement = Placement(view, grid, (rows, columns))
            found[:, :, plane] = ids[placement.restore_channels(np.ascontiguousarray(probability[..., plane]))]
        label_map = np.ascontiguousarray(found.transpose(np.argsort(order)))
        result = MetaTensor(torch.from_numpy(label_map)[None], meta=tensor.meta)
        result.affine = info["affine"]
        return result


def _plain_hu(plane: NDArray[Any]) -> NDArray[np.float32]:
    """HU of a slice; what is no number counts as air."""
    hu = np.ascontiguousarray(plane, dtype=np.float32)
    return np.where(np.isfinite(hu), hu, np.float32(AIR_HU))


def _axial_axes(affine_ras: NDArray[Any]) -> tuple[tuple[int, int, int], Affine]:
    """Which axes of a volume are row, column and slice, and the affine of (row, column, slice, 1) to LPS mm."""
    affine = np.asarray(affine_ras, dtype=np.float64)
    slices = int((np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    column, row = (axis for axis in range(3) if axis != slices)
    order = (row, column, slices)
    return order, ras_to_lps(affine)[:, [*order, 3]]
