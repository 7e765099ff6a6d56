"""What lies inside a label map: areas, volumes and densities of one slice at a time. Never reads files."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import GeometryError, InputError, OptionError
from sarco.scan.geometry import plane_affine, voxel_volume_mm3

HuRange = tuple[int, int]

_MOST_BINS = 65536  # of a histogram of HU


@dataclass(frozen=True)
class HuRanges:
    """The one table of HU ranges; both ends belong to a range.

    Values are rounded to whole HU before they are looked up (half up), so that none falls between two ranges.

    Attributes:
        muscle: skeletal muscle.
        lama: low-attenuation muscle, rich in fat.
        nama: normal-attenuation muscle.
        imat: fat inside the mask (intermuscular adipose tissue).

    Raises:
        OptionError: a range is empty.

    Source:
        Aubrey et al. 2014, PMID 24393306.
    """

    muscle: HuRange = (-29, 150)
    lama: HuRange = (-29, 29)
    nama: HuRange = (30, 150)
    imat: HuRange = (-190, -30)

    def __post_init__(self) -> None:
        for name, (low, high) in self.to_builtins().items():
            if low > high:
                raise OptionError(f"--hu_ranges={name}={low}:{high}: the first number has to be the smaller one")

    def to_builtins(self) -> dict[str, list[int]]:
        """The table as a JSON file holds it."""
        return {name: list(limits) for name, limits in asdict(self).items()}

    @classmethod
    def parse(cls, text: str) -> "HuRanges":
        """The table with the ranges of a text such as ``muscle=-29:150,imat=-190:-30``; others keep their default.

        Raises:
            OptionError: a name is unknown, comes twice, or its limits are no two whole numbers.
        """
        known = [item.name for item in fields(cls)]
        found: dict[str, HuRange] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, limits = part.partition("=")
            try:
                low, high = (int(limit) for limit in limits.split(":"))
            except ValueError:
                raise OptionError(f"--hu_ranges={text}: {part!r} is no range; write NAME=LOW:HIGH in HU") from None
            if name not in known or name in found:
                raise OptionError(f"--hu_ranges={text}: {name!r} is unknown or comes twice; known: {', '.join(known)}")
            found[name] = (low, high)
        return cls(**found)


STANDARD_RANGES = HuRanges()


@dataclass(frozen=True)
class SliceMeasurement:
    """One label on one slice. A density is None where there is nothing to take it of.

    Attributes:
        slice_index: plane of the series, from 0, as in the label map.
        z_mm: z of the slice's first pixel (ImagePositionPatient), LPS mm.
        label_id, label: the label and its name.
        n_pixels: pixels of the label.
        area_cm2: their area across the table axis.
        volume_ml: their volume.
        mean_hu, median_hu, sd_hu: over all of these pixels (SD of the population, not of a sample).
        area_in_range_cm2: area of those in the muscle range.
        share_in_range: their share, 0..1.
        mean_hu_in_range: their mean: the muscle density that papers report.
        lama_cm2, nama_cm2, fat_cm2: areas of low- and normal-attenuation muscle and of fat.
    """

    slice_index: int
    z_mm: float
    label_id: int
    label: str
    n_pixels: int
    area_cm2: float
    volume_ml: float
    mean_hu: float | None
    median_hu: float | None
    sd_hu: float | None
    area_in_range_cm2: float
    share_in_range: float | None
    mean_hu_in_range: float | None
    lama_cm2: float
    nama_cm2: float
    fat_cm2: float


def pixel_area_cm2(affine_lps: ArrayLike) -> float:
    """Area that a pixel stands for in a cross-section of the body.

    It is the volume of a voxel over the length of the step between slices. With a tilted gantry the slices are
    sheared against the table axis, and this is the pixel's own area x cos(tilt). Any grid without shear, an oblique
    one too, keeps the pixel's own area.

    >>> tilted = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0.75, 0, 5, 0], [0, 0, 0, 1]])  # rows run down the body too
    >>> round(pixel_area_cm2(tilted), 6), round(float(np.hypot(1, 0.75) * np.cos(np.arctan(0.75))) / 100, 6)
    (0.01, 0.01)
    """
    step_mm = float(np.linalg.norm(np.asarray(affine_lps, dtype=np.float64)[:3, 2]))
    return voxel_volume_mm3(affine_lps) / step_mm / 100


def measure_slice(
    hu: NDArray[np.float32],
    label_map: NDArray[np.uint8],
    affine_lps: ArrayLike,
    slice_index: int,
    labels: Mapping[int, str],
    ranges: HuRanges = STANDARD_RANGES,
) -> tuple[SliceMeasurement, ...]:
    """One measurement a label, in the order of ``labels``, also of those that the slice does not hold.

    Args:
        hu: (row, column) Hounsfield units on the original grid.
        label_map: (row, column) label ids on the same grid.
        affine_lps: of the whole series, (row, column, slice, 1) to LPS mm: only neighbouring slices know the tilt.
        slice_index: plane of the slice in it.
        labels: names by label id; ids that are not in it count for nothing.
        ranges: the HU table.

    Raises:
        GeometryError: the two arrays differ in shape.
        InputError: a pixel inside the mask is no number.
    """
    if hu.shape != label_map.shape:
        raise GeometryError(
            f"slice {slice_index}: the image is {hu.shape}, the label map {label_map.shape}; bring them onto one grid"
        )
    pixel_cm2, voxel_ml = pixel_area_cm2(affine_lps), voxel_volume_mm3(affine_lps) / 1000
    z_mm = float(plane_affine(affine_lps, slice_index)[2, 3])
    ids, values = _inside(label_map, hu)
    if not np.isfinite(values).all():
        raise InputError(f"slice {slice_index}: a pixel inside the mask is no number; export the image again")
    whole = np.floor(values + np.float32(0.5))
    within = {name: (whole >= low) & (whole <= high) for name, (low, high) in asdict(ranges).items()}
    measured = []
    for label_id, name in labels.items():
        own = slice(*np.searchsorted(ids, [label_id, label_id + 1]))
        pixels, in_range = values[own], within["muscle"][own]
        count, n_in_range = pixels.size, int(np.count_nonzero(in_range))
        measured.append(
            SliceMeasurement(
                slice_index=slice_index,
                z_mm=z_mm,
                label_id=label_id,
                label=name,
                n_pixels=count,
                area_cm2=count * pixel_cm2,
                volume_ml=count * voxel_ml,
                mean_hu=float(pixels.mean(dtype=np.float64)) if count else None,
                median_hu=_median(pixels, whole[own]) if count else None,
                sd_hu=float(pixels.std(dtype=np.float64)) if count else None,
                area_in_range_cm2=n_in_range * pixel_cm2,
                share_in_range=n_in_range / count if count else None,
                mean_hu_in_range=float(pixels[in_range].mean(dtype=np.float64)) if n_in_range else None,
                lama_cm2=int(np.count_nonzero(within["lama"][own])) * pixel_cm2,
                nama_cm2=int(np.count_nonzero(within["nama"][own])) * pixel_cm2,
                fat_cm2=int(np.count_nonzero(within["imat"][own])) * pixel_cm2,
            )
        )
    return tuple(measured)


def _inside(label_map: NDArray[np.uint8], hu: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Ids, ascending, and HU of all labelled pixels; only their bounding box is looked at closely: that takes time."""
    rows = np.flatnonzero(label_map.any(axis=1))
    if not rows.size:
        return np.zeros(0, np.uint8), np.zeros(0, np.float32)
    band = slice(rows[0], rows[-1] + 1)
    columns = np.flatnonzero(label_map[band].any(axis=0))
    box = (band, slice(columns[0], columns[-1] + 1))
    labelled = label_map[box] != 0
    ids, values = label_map[box][labelled], np.asarray(hu[box][labelled], dtype=np.float32)
    if ids.min() == ids.max():
        return ids, values
    order = np.argsort(ids, kind="stable")  # once, instead of a mask a label
    return ids[order], values[order]


def _median(values: NDArray[np.float32], whole: NDArray[np.float32]) -> float:
    """The median, by counting where HU are whole numbers: that takes a tenth of the time, which is half of it all."""
    lowest, highest = float(whole.min()), float(whole.max())
    if highest - lowest > _MOST_BINS or not np.array_equal(values, whole):
        return float(np.median(values))
    up_to = np.cumsum(np.bincount((whole - lowest).astype(np.intp)))
    middle = np.searchsorted(up_to, [(values.size - 1) // 2, values.size // 2], side="right")
    return lowest + float(middle.mean())


@dataclass(frozen=True)
class PooledMeasurement:
    """Several measurements as one: labels of a slice, or slices of a label. Areas and volumes are sums.

    There is no median, because medians do not add up. Other attributes as in `SliceMeasurement`.
    """

    n_pixels: int
    area_cm2: float
    volume_ml: float
    mean_hu: float | None
    sd_hu: float | None
    area_in_range_cm2: float
    share_in_range: float | None
    mean_hu_in_range: float | None
    lama_cm2: float
    nama_cm2: float
    fat_cm2: float


def pool(measurements: Iterable[SliceMeasurement]) -> PooledMeasurement:
    """Adds measurements of one series up; means are those of all pixels together."""
    rows = list(measurements)
    n_pixels = sum(row.n_pixels for row in rows)
    area, in_range = sum(row.area_cm2 for row in rows), sum(row.area_in_range_cm2 for row in rows)
    mean = sd = None
    if n_pixels:
        mean = sum(row.n_pixels * (row.mean_hu or 0.0) for row in rows) / n_pixels
        scatter = sum(row.n_pixels * ((row.sd_hu or 0.0) ** 2 + ((row.mean_hu or 0.0) - mean) ** 2) for row in rows)
        sd = float(np.sqrt(scatter / n_pixels))
    # Pixels of a series are all of one size, so areas weigh as pixels do.
    density = sum(row.area_in_range_cm2 * (row.mean_hu_in_range or 0.0) for row in rows)
    return PooledMeasurement(
        n_pixels=n_pixels,
        area_cm2=area,
        volume_ml=sum(row.volume_ml for row in rows),
        mean_hu=mean,
        sd_hu=sd,
        area_in_range_cm2=in_range,
        share_in_range=in_range / area if area else None,
        mean_hu_in_range=density / in_range if in_range else None,
        lama_cm2=sum(row.lama_cm2 for row in rows),
        nama_cm2=sum(row.nama_cm2 for row in rows),
        fat_cm2=sum(row.fat_cm2 for row in rows),
    )
