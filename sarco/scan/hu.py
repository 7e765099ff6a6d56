"""Hounsfield units that mean something everywhere: air, what values can be HU at all, and the window of abdomens.

Whether values are HU shows in the air around a body: it is the lowest great heap of them, and lies at -1000. A heap is
a narrow peak of the histogram; padding is none, for it is one value alone, and lungs are hardly ever: they spread.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AIR_HU = -1024.0  # what stands where a scanner saw nothing; the lowest HU of a 12-bit scale
WINDOW_HU = (-160.0, 240.0)  # the soft-tissue window that radiologists read abdomens with
FLOOR_HU = -200.0  # below lies air, which every slice holds, above fat and all else of a body
OFF_SCALE = "off the scale of HU"  # how a doubt about the scale begins
AIR_TOLERANCE_HU = 60.0  # public series have their air between -1010 and -965
_AIR_BAND_HU = (-1150.0, -800.0)  # air of a scale that is off by less than what else would look like air
_PADDING_HU = -1200.0  # air has -1000, and noise around it; what is lower stands where a scanner saw nothing
_BONE_HU, _MOST_BONE = 500.0, 0.2  # bones never fill more of a slice than this
_METAL_HU = 2500.0  # even less of a slice
_SPONGY_HU, _DENSE_HU = (300.0, 850.0), (850.0, 1250.0)  # tissue that lost an intercept of -1024 looks like dense bone
_FAT_HU, _SURE_FAT_HU = (-150.0, -40.0), (-150.0, -70.0)  # noise of air at 0 reaches to -60
_NO_FAT_HU = (-300.0, -140.0)  # between fat and lungs no heap lies
_LUNG_HU = (-1000.0 + AIR_TOLERANCE_HU, -700.0)
_RANGE = (-32768.0, 65536.0)
_LOWEST_SPREAD = -4000.0  # below lies padding, which is one value; values that spread there are no HU
_TISSUE_HU = (-200.0, 300.0)
_LEAST_TISSUE = 0.01  # of the pixels of a slice through a body
_MUCH_TISSUE, _LITTLE_TISSUE = 0.5, 0.4  # of what is no air; in public series it is 0.88 and more
_BODY = 0.05  # of a picture that holds a body
_BIN_HU, _BINS, _FIRST_BIN_HU = 10, 600, -4000
_GREAT, _NARROW = 0.03, 0.55  # share of all values within 50 HU, and of those within 150 HU around
_CLIPPED = 0.03  # share of one lowest value: noise spreads wider, so what was lower has been cut off
_WALL_HU = 4.0  # noise spreads the lowest twentieth of values wider, whatever tissue that is
_FEW = 0.005
_AIR_STEP_HU, _TISSUE_STEP_HU = 12.0, 20.0  # as medians; those of neighbouring slices lie within 4 and 7
_MOST_VALUES = 2**16  # more do not change a histogram


@dataclass(frozen=True)
class Scale:
    """What the histogram of a slice or a volume says of its scale.

    Attributes:
        air_hu: where air lies; None where no heap of values can be air.
        fault: why the values are no HU; empty where they may be.
        doubt: why they may be off, beginning with `OFF_SCALE`; empty where nothing speaks against them.
    """

    air_hu: float | None = None
    fault: str = ""
    doubt: str = ""


def raise_to_air(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """A slice without what lies below air: padding of -3024 would outweigh its neighbours where pixels are averaged."""
    return np.maximum(hu, np.float32(AIR_HU)) if hu.min() < AIR_HU else hu


def describe_no_hu(values: NDArray[Any]) -> str:
    """Why values of a slice or a volume are no HU; empty where they may be. The one rule for DICOM and NIfTI."""
    return judge_scale(values).fault


def judge_scale(values: NDArray[Any]) -> Scale:
    """Looks at where air and tissue of a slice or a volume lie. The one rule for DICOM and NIfTI.

    Where an intercept was lost, air is 0 and tissue about 1000. A field of view inside the body has no air; then most
    of it has to be tissue. Values are refused where neither air nor tissue lies where it should, and doubted where air
    alone does not.
    """
    lowest, highest = float(values.min()), float(values.max())
    told = f"values run from {lowest:g} to {highest:g}, which is no CT in HU (air is -1000)"
    if lowest < _RANGE[0] or highest > _RANGE[1] or highest < _PADDING_HU:
        return Scale(fault=told)
    seen = _without_padding(_sample(values))
    if _share(seen, -np.inf, _LOWEST_SPREAD) > _GREAT or _share(seen, _METAL_HU, np.inf) > _MOST_BONE:
        return Scale(fault=told)
    heaps = _heaps(seen)
    if heaps and heaps[0] < _AIR_BAND_HU[0] and _is_air_of_no_tissue(seen, heaps[0]):
        return Scale(fault=f"{told}: air lies at {heaps[0]:.0f}")
    air = next((heap for heap in heaps if _AIR_BAND_HU[0] <= heap <= _AIR_BAND_HU[1]), heaps[0] if heaps else np.inf)
    if air > FLOOR_HU:
        return _judge_without_air(seen, lowest < _PADDING_HU, told)
    return _judge_air(seen, heaps, air, told)


def _judge_air(seen: NDArray[Any], heaps: list[float], air: float, told: str) -> Scale:
    """The same of values without padding whose air, or what looks like it, lies there."""
    body = seen[seen > air + (300 if air < _AIR_BAND_HU[1] else 50)]  # without lungs, where air may be air
    share = _share(body, *_TISSUE_HU) if body.size else 0.0
    if abs(air + 1000) <= AIR_TOLERANCE_HU:
        fat = next((heap for heap in heaps if _NO_FAT_HU[0] < heap < _NO_FAT_HU[1]), None)
        if body.size > _BODY * seen.size and share < _LITTLE_TISSUE:
            return Scale(air, doubt=f"{OFF_SCALE}: most of what is no air lies outside of -200 to 300 HU")
        return Scale(air, doubt="" if fat is None else f"{OFF_SCALE}: fat lies at {fat:.0f} HU and not at -100")
    if _LUNG_HU[0] < air < _LUNG_HU[1] and any(_FAT_HU[0] < heap < _FAT_HU[1] for heap in heaps):
        return Scale()  # a lung without air around the body: fat lies where it should
    if share < _MUCH_TISSUE and not _AIR_BAND_HU[0] <= air <= _AIR_BAND_HU[1]:
        return Scale(fault=f"{told}: air lies at {air:.0f}")
    return Scale(air, doubt=f"{OFF_SCALE}: air lies at {air:.0f} HU and not at -1000, or was cut off there")


def describe_difference(hu: NDArray[np.float32], neighbour: NDArray[np.float32]) -> str:
    """How far air or tissue of a slice lies from that of its neighbour, where scales differ; empty where they agree.

    Pixel by pixel: where the neighbour is air, most of the slice is air too, and the same of tissue.
    """
    if hu.shape != neighbour.shape:
        return ""
    for what, (least, most), limit in (("air", _AIR_BAND_HU, _AIR_STEP_HU), ("tissue", _TISSUE_HU, _TISSUE_STEP_HU)):
        there = (neighbour > least) & (neighbour < most)
        if np.count_nonzero(there) >= _GREAT * hu.size:
            difference = float(np.median(neighbour[there] - hu[there]))
            if abs(difference) > limit:
                return f"{what} lies {abs(difference):.0f} HU {'above' if difference > 0 else 'below'}"
    return ""


def _judge_without_air(seen: NDArray[Any], padded: bool, told: str) -> Scale:
    """The same of values without padding whose lowest heap, if there is any, may be tissue."""
    lowest = float(seen.min())
    is_full = _share(seen, -np.inf, FLOOR_HU) <= _FEW  # hardly a value that may be air
    clipped = not padded and is_full and np.count_nonzero(seen == lowest) >= max(10.0, _CLIPPED * seen.size)
    low, twentieth = (float(value) for value in np.quantile(seen, (_FEW, 0.05)))
    dense = _share(seen, *_DENSE_HU)
    is_moved = dense > max(_share(seen, *_SPONGY_HU), _share(seen, *_SURE_FAT_HU), _FEW)
    if is_full and (
        is_moved
        or low >= 0
        or (padded and _share(seen, _BONE_HU, np.inf) > _MOST_BONE)
        or (not padded and _share(seen, *_TISSUE_HU) < _MUCH_TISSUE)
        or (not padded and lowest > FLOOR_HU and (clipped or twentieth - low < _WALL_HU))
    ):
        return Scale(fault=f"{told}: without padding they begin at {lowest:g}" if padded else told)
    return Scale(doubt=f"{OFF_SCALE}: nothing lies below {lowest:g} HU, so air was cut off" if clipped else "")


def _is_air_of_no_tissue(seen: NDArray[Any], air: float) -> bool:
    """Whether a heap far below air is air, because fat lies 900 above it, and no tissue where it should."""
    moved = (_FAT_HU[0] + 1000 + air, _FAT_HU[1] + 1000 + air)
    return _share(seen, *_TISSUE_HU) < _LEAST_TISSUE and _share(seen, *moved) > _GREAT


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    """Values in a row, evenly picked where they are very many."""
    flat = values.reshape(-1, order="A")
    picked: NDArray[Any] = flat[:: flat.size // _MOST_VALUES | 1]
    return np.ascontiguousarray(picked)


def _without_padding(seen: NDArray[Any]) -> NDArray[Any]:
    """Without the values that stand where a scanner saw nothing: one or two single ones, far below air."""
    for _ in range(2):
        lowest = seen.min()
        if lowest >= _PADDING_HU:
            break
        inner = seen[seen > lowest]
        if not inner.size or np.count_nonzero(inner <= lowest + _BIN_HU) > 0.2 * (seen.size - inner.size):
            break
        seen = inner
    return seen


def _heaps(seen: NDArray[Any]) -> list[float]:
    """Where the great and narrow heaps of values lie, from below."""
    counts = _counts(seen)
    near, around = (np.convolve(counts, np.ones(width), "same") for width in (5, 15))
    found: list[float] = []
    for place in np.flatnonzero((near >= _GREAT * seen.size) & (near >= _NARROW * around)):
        if near[place] == near[max(0, place - 7) : place + 8].max():
            middle = _FIRST_BIN_HU + _BIN_HU * (int(place) + 0.5)
            of_heap = seen[np.abs(seen.astype(np.float32) - middle) <= 2.5 * _BIN_HU]
            if of_heap.size and not (found and middle - found[-1] < 7 * _BIN_HU):
                found.append(float(np.median(of_heap)))
    return found


def _counts(seen: NDArray[Any]) -> NDArray[np.int64]:
    """The histogram; its ends take what lies beyond."""
    places = ((seen.astype(np.float32) - _FIRST_BIN_HU) / _BIN_HU).clip(0, _BINS - 1).astype(np.int32)
    return np.bincount(places, minlength=_BINS)


def _share(values: NDArray[Any], above: float, up_to: float) -> float:
    return float(np.count_nonzero((values > above) & (values <= up_to))) / values.size


def holds_tissue(hu: NDArray[Any]) -> bool:
    """Whether a slice (row, column) holds soft tissue, as one through a body does."""
    tissue = (hu > _TISSUE_HU[0]) & (hu < _TISSUE_HU[1])
    return float(np.count_nonzero(tissue)) >= _LEAST_TISSUE * hu.size
