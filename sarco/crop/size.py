"""How large the crop of a run is, where the data is to choose it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarco.core.errors import OptionError
from sarco.core.messages import count_of
from sarco.core.training_options import CROP_MULTIPLE, LARGEST_IMAGE, DataOptions
from sarco.crop.body import find_body
from sarco.crop.grid import box_around, box_side_mm, widen_field
from sarco.scan.series import SliceHeader, pick_evenly

FINEST_MM, COARSEST_MM = 0.75, 3.0  # of a pixel that the data chooses: finer ones show noise, coarser ones no muscle
SMALLEST_FIELD_MM, LARGEST_FIELD_MM = 50.0, 1000.0  # likewise; a scanner's bore is 800 mm wide
BOX_SIZE = 512  # pixels a side with --crop=box
MOST_LOOKED_AT = 256  # slices whose bodies are measured: more would take long and hardly be wider

Headers = Sequence[SliceHeader]  # the slices that make up an image, in order
ReadHu = Callable[[SliceHeader], NDArray[np.float32]]


def measure_bodies(images: Sequence[Headers], read: ReadHu) -> list[float]:
    """The longer side of the body's box, in mm, in each image that holds a body.

    No more than `MOST_LOOKED_AT` images, evenly spread, are looked at, so that large data is not decoded twice. A wider
    body in another one is no fault: the field of that slice is widened (`sarco.crop.grid.widen_field`).

    Args:
        images: the slices that make up each image.
        read: gives HU of a slice.
    """
    sides = []
    for place in pick_evenly(range(len(images)), MOST_LOOKED_AT):
        bodies = [find_body(read(header), header.spacing_mm) for header in images[place]]
        if any(body.trunk.any() for body in bodies):
            sides.append(box_side_mm(box_around(bodies), bodies[0].spacing_mm))
    return sides


def settle_crop(options: DataOptions, images: Sequence[Headers], bodies_mm: Sequence[float]) -> DataOptions:
    """The options with the size of the crop as numbers; what was typed stays.

    A pixel is as large as the median pixel of the slices, within bounds. The field holds the largest body, and is
    rounded up to whole multiples of 32 pixels. A typed image size keeps the field and sets the pixel.

    Args:
        options: as they were typed, or stored by a run.
        images: the slices that make up each image of the data.
        bodies_mm: of `measure_bodies`; where it is empty the largest slice counts.

    Raises:
        OptionError: the field would take more than `LARGEST_IMAGE` pixels a side.
    """
    if options.crop == "box":
        return replace(options, image_size=options.image_size or BOX_SIZE)
    size, pixel_mm, field_mm = options.image_size, options.pixel_mm, options.field_mm
    if field_mm is None:
        largest = max(bodies_mm) if bodies_mm else max(_side_mm(header) for headers in images for header in headers)
        field_mm = min(max(largest, SMALLEST_FIELD_MM), LARGEST_FIELD_MM)
    if size is None:
        pixel_mm = pixel_mm or _median_pixel_mm(images)
        size = CROP_MULTIPLE * math.ceil(field_mm / pixel_mm / CROP_MULTIPLE - 1e-9)
        if size > LARGEST_IMAGE:
            raise OptionError(
                f"--pixel_mm={pixel_mm:g}: a field of {field_mm:.0f} mm would take {size} pixels a side, and "
                f"{LARGEST_IMAGE} are the most; give a larger --pixel_mm or a smaller --field_mm"
            )
    pixel_mm = pixel_mm or field_mm / size
    return replace(options, image_size=size, pixel_mm=pixel_mm, field_mm=size * pixel_mm)


def note_wide_bodies(options: DataOptions, bodies_mm: Sequence[float]) -> list[str]:
    """A line for a person where bodies are wider than the field of view; none where all fit in.

    Args:
        options: with the size as numbers.
        bodies_mm: of `measure_bodies`.
    """
    field_mm = options.field_mm
    wide = sum(widen_field(field_mm, side) > 1 for side in bodies_mm) if field_mm else 0
    told = f"{wide} of {count_of(len(bodies_mm), 'body', 'bodies')} looked at are wider than the field of view"
    return [f"{told}: their slices are seen smaller, and nothing is cut"] if wide else []


def describe_crop(options: DataOptions, bodies_mm: Sequence[float]) -> str:
    """The crop of a run in a line.

    Args:
        options: with the size as numbers.
        bodies_mm: of `measure_bodies`.
    """
    size, pixel_mm = options.crop_size
    if pixel_mm is None:
        return f"crop: the body's box on {size} x {size} pixels"
    largest = f"the largest body is {max(bodies_mm):.0f} mm" if bodies_mm else "no body was found"
    return f"crop: {size} x {size} pixels of {pixel_mm:.3g} mm, a field of {size * pixel_mm:.0f} mm ({largest})"


def _median_pixel_mm(images: Sequence[Headers]) -> float:
    sides = [math.sqrt(math.prod(headers[0].spacing_mm)) for headers in images]
    return float(np.clip(np.median(sides), FINEST_MM, COARSEST_MM))


def _side_mm(header: SliceHeader) -> float:
    return max(pixels * mm for pixels, mm in zip(header.shape, header.spacing_mm, strict=True))
