"""MONAI transforms of sarco: the invertible crop to the body, the HU window, and the pipelines made of them.

Images are MetaTensors (C, R, C) whose ``affine`` is ``affine_lps``: (row, column, slice, 1) to LPS mm.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, InvertibleTransform, MapTransform
from monai.utils import ensure_tuple_rep
from numpy.typing import ArrayLike, NDArray

from sarco.body import Box, find_body_box
from sarco.config import DataOptions
from sarco.crop import CropGrid, View
from sarco.geometry import spacing_mm

LINEAR = "bilinear"
NEAREST = "nearest-exact"


class Cropd(MapTransform, InvertibleTransform):
    """Crops each key to the square around the body and resizes it; `inverse` puts it back onto the slice.

    The crop is always seen as radiologists see a slice, the patient's right at the left edge and anterior at the top,
    whichever way rows and columns of the slice run: a network learns sides, so it must never meet a mirror image.
    The box is found on ``box_key`` and used for all keys. Every pixel of the result is square in mm. Nothing of a
    sample is kept on the object: box, scale and affine travel in the tensor's own trace, so that one object serves
    many samples and many workers. Inverted maps are 0 outside the crop.
    """

    n_slices = 1  # channels of the image: neighbouring slices

    def __init__(
        self,
        keys: KeysCollection,
        image_size: int,
        mode: str | Sequence[str] = LINEAR,
        box_key: Hashable = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        """Sets up the crop.

        Args:
            keys: keys to crop, each a tensor (C, R, C).
            image_size: pixels a side of the result.
            mode: for each key ``bilinear`` (HU, probabilities) or ``nearest-exact`` (label ids).
            box_key: the key with the image in HU.
            allow_missing_keys: as everywhere in MONAI.
        """
        super().__init__(keys, allow_missing_keys)
        self.image_size = image_size
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.box_key = box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crops; ``data[box_key]`` has to be in HU with an affine in mm."""
        d = dict(data)
        source = d[self.box_key]
        view = View.of(source.affine.numpy())
        row_mm, column_mm, _ = spacing_mm(source.affine.numpy())
        if view.transpose:
            row_mm, column_mm = column_mm, row_mm
        box = self._find_box(view.turn(_as_numpy(source)), (row_mm, column_mm))
        grid = CropGrid.around(box, (row_mm, column_mm), self.image_size)
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self._crop(d[key], view, grid, mode)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Puts each key that is present back onto the grid it was cropped from, with that grid's affine."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._restore(d[key])
        return d

    def _find_box(self, channels: NDArray[Any], spacing: tuple[float, float]) -> Box:
        boxes = [find_body_box(channel, spacing) for channel in channels]
        if len(boxes) != self.n_slices:
            raise ValueError(f"{type(self).__name__} takes images of {self.n_slices} channels, got {len(boxes)}")
        box = boxes[0]
        for other in boxes[1:]:
            box = box.union(other)
        return box

    def _crop(self, tensor: MetaTensor, view: View, grid: CropGrid, mode: str) -> MetaTensor:
        channels = view.turn(_as_numpy(tensor))
        if mode.startswith("nearest"):
            cropped = np.stack([grid.crop_label_map(channel) for channel in channels])
        else:
            cropped = np.stack([grid.crop_image(channel.astype(np.float32, copy=False)) for channel in channels])
        result = MetaTensor(torch.from_numpy(cropped), meta=tensor.meta, applied_operations=tensor.applied_operations)
        self.push_transform(
            result,
            affine=torch.from_numpy(view.matrix((tensor.shape[1], tensor.shape[2])) @ grid.matrix),
            orig_size=tuple(tensor.shape[1:]),
            extra_info={
                "start": torch.tensor(grid.start, dtype=torch.float64),
                "scale": torch.tensor(grid.scale, dtype=torch.float64),
                "view": torch.tensor([view.transpose, view.flip_rows, view.flip_columns], dtype=torch.uint8),
                "affine": tensor.affine.to(torch.float64).clone(),
                "mode": mode,
            },
        )
        return result

    def _restore(self, tensor: MetaTensor) -> MetaTensor:
        trace = self.pop_transform(tensor)
        info = trace["extra_info"]
        view = View(*(bool(turn) for turn in info["view"].tolist()))
        rows, columns = (int(side) for side in trace["orig_size"])
        turned = (columns, rows) if view.transpose else (rows, columns)
        start, scale = info["start"].tolist(), info["scale"].tolist()
        grid = CropGrid((start[0], start[1]), (scale[0], scale[1]), tensor.shape[-1])
        warp = grid.restore_label_map if info["mode"].startswith("nearest") else grid.restore_probability
        restored = view.turn_back(np.stack([warp(channel, turned) for channel in _as_numpy(tensor)]))
        result = MetaTensor(torch.from_numpy(restored), meta=tensor.meta, applied_operations=tensor.applied_operations)
        result.affine = info["affine"]
        return result


class Cropd_3D(Cropd):  # noqa: N801 - the name that users of the predecessor know
    """`Cropd` for an image of three neighbouring slices: one box for all, the union of their bodies."""

    n_slices = 3


def make_crop(options: DataOptions, keys: Sequence[str]) -> Compose:
    """The deterministic pipeline of a run: crop to the body.

    The same object has to run forward and to invert, because MONAI knows transforms by their identity.
    """
    crop = Cropd_3D if options.channel_3d else Cropd
    modes = [NEAREST if key == "label" else LINEAR for key in keys]
    return Compose([crop(keys=keys, image_size=options.image_size, mode=modes)], lazy=False)


def scale_window(hu: torch.Tensor, hu_min: float, hu_max: float) -> torch.Tensor:
    """Clips HU to a window and scales it to [0, 1]."""
    return hu.clamp(hu_min, hu_max).sub_(hu_min).div_(hu_max - hu_min)


def as_meta_tensor(array: ArrayLike, affine_lps: ArrayLike) -> MetaTensor:
    """A MetaTensor that carries ``affine_lps`` as its affine.

    Args:
        array: (C, R, C).
        affine_lps: 4x4, (row, column, slice, 1) to LPS mm.
    """
    return MetaTensor(torch.as_tensor(array), affine=torch.as_tensor(np.array(affine_lps, dtype=np.float64)))


def _as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return np.ascontiguousarray(plain.detach().cpu().numpy())
