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

from sarco.core.training_options import DataOptions
from sarco.crop.grid import CropGrid, Placement
from sarco.scan.view import View

LINEAR = "bilinear"
NEAREST = "nearest-exact"


class Cropd(MapTransform, InvertibleTransform):
    """Crops each key to a square around the body, on pixels of its own; `inverse` puts it back onto the slice.

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
        pixel_mm: float | None = None,
    ) -> None:
        """Sets up the crop.

        Args:
            keys: keys to crop, each a tensor (C, R, C).
            image_size: pixels a side of the result.
            mode: for each key ``bilinear`` (HU, probabilities) or ``nearest-exact`` (label ids).
            box_key: the key with the image in HU.
            allow_missing_keys: as everywhere in MONAI.
            pixel_mm: size of a pixel of the result, where the body fits in; else larger. None: the square is the
                smallest around the body, whatever its size.
        """
        super().__init__(keys, allow_missing_keys)
        self.image_size = image_size
        self.pixel_mm = pixel_mm
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.box_key = box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crops; ``data[box_key]`` has to be in HU with an affine in mm."""
        d = dict(data)
        source = d[self.box_key]
        if len(source) != self.n_slices:
            raise ValueError(f"{type(self).__name__} takes images of {self.n_slices} channels, got {len(source)}")
        affine = source.affine.numpy()
        placement = Placement.around_body(_as_numpy(source), affine, self.image_size, self.pixel_mm)
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self._crop(d[key], placement, mode)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Puts each key that is present back onto the grid it was cropped from, with that grid's affine."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._restore(d[key])
        return d

    def _crop(self, tensor: MetaTensor, placement: Placement, mode: str) -> MetaTensor:
        view, grid = placement.view, placement.grid
        warp = placement.crop_label_map if mode.startswith("nearest") else placement.crop_image
        cropped = torch.from_numpy(warp(_as_numpy(tensor)))
        result = MetaTensor(cropped, meta=tensor.meta, applied_operations=tensor.applied_operations)
        self.push_transform(
            result,
            affine=torch.from_numpy(placement.matrix),
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
        placement = placement_of(trace, tensor.shape[-1])
        view, grid, shape = placement.view, placement.grid, placement.turned_shape
        nearest = trace["extra_info"]["mode"].startswith("nearest")
        warp = grid.restore_label_map if nearest else grid.restore_probability
        restored = view.turn_back(np.stack([warp(channel, shape) for channel in _as_numpy(tensor)]))
        result = MetaTensor(torch.from_numpy(restored), meta=tensor.meta, applied_operations=tensor.applied_operations)
        result.affine = trace["extra_info"]["affine"]
        return result


def placement_of(trace: Mapping[str, Any], size: int) -> Placement:
    """Where the crop lies that a trace of `Cropd` tells of.

    Args:
        trace: one entry of a tensor's ``applied_operations``.
        size: pixels a side of the crop.
    """
    info = trace["extra_info"]
    start, scale = info["start"].tolist(), info["scale"].tolist()
    rows, columns = (int(side) for side in trace["orig_size"])
    grid = CropGrid((start[0], start[1]), (scale[0], scale[1]), size)
    return Placement(View(*(bool(turn) for turn in info["view"].tolist())), grid, (rows, columns))


class Cropd_3D(Cropd):  # noqa: N801 - the name that users of the predecessor know
    """`Cropd` for an image of three neighbouring slices: one box for all, the union of their bodies."""

    n_slices = 3


def make_crop(options: DataOptions, keys: Sequence[str]) -> Compose:
    """The deterministic pipeline of a run: crop to the body.

    The same object has to run forward and to invert, because MONAI knows transforms by their identity.
    """
    crop = Cropd_3D if options.channel_3d else Cropd
    modes = [NEAREST if key == "label" else LINEAR for key in keys]
    size, pixel_mm = options.crop_size
    return Compose([crop(keys=keys, image_size=size, mode=modes, pixel_mm=pixel_mm)], lazy=False)


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
