"""A series through a network: slices are read ahead, and brought back behind it, while it works."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.body import Body, find_body
from sarco.core.options import DataOptions
from sarco.crop import Placement
from sarco.engines import Engine, Images, Logits, Network
from sarco.io.images import read_hu
from sarco.scan.geometry import spacing_mm
from sarco.scan.label_volume import LabelVolume
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, SliceHeader, find_neighbours, pick_evenly

SAMPLE_SLICES = 12  # to the network first, evenly spread, so that it can choose its engine
BATCHES_BESIDE = 2  # in the making, besides those that the network works on: one before it, one behind


@dataclass(frozen=True)
class PreparedSlice:
    """A slice on its way to the network.

    Attributes:
        plane: its place in the series.
        hu: (row, column) Hounsfield units.
        image: (C, S, S) in [0, 1], what the network sees.
        placement: where that lies on the slice.
        body: what was found of the body in it.
    """

    plane: int
    hu: NDArray[np.float32]
    image: Images
    placement: Placement
    body: Body


@dataclass(frozen=True)
class RestoredSlice:
    """A prediction on the grid of its slice.

    Attributes:
        slice_index: its plane in the series.
        label_map: (row, column) uint8 label ids.
        confidence: mean probability of the winning label over the body, 0..1; 0 where there is no body.
    """

    slice_index: int
    label_map: NDArray[np.uint8]
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """A series that was predicted.

    Attributes:
        label_map: (row, column, plane) uint8 label ids on the grid of the series.
        confidence: by plane, as of `RestoredSlice`.
        engine: the name of what predicted it.
    """

    label_map: NDArray[np.uint8]
    confidence: dict[int, float]
    engine: str


OnSlice = Callable[[PreparedSlice, RestoredSlice], object]


class SlicePreparer:
    """Reads, crops and windows slices: the same numbers that `SarcoInfDataModule` gives, without MONAI."""

    def __init__(self, series: Series, options: DataOptions) -> None:
        """Reads nothing yet.

        Args:
            series: the slices.
            options: crop, window and 2D/3-slice as in training: those of the checkpoint.
        """
        self.series = series
        self.options = options
        self._neighbours = dict(find_neighbours(series.slices)) if options.channel_3d else {}
        self._read = lru_cache(maxsize=4)(self._read_slice)  # neighbours are decoded once

    def __call__(self, place: int) -> PreparedSlice:
        """The slice at this place among the slices of the series.

        Raises:
            InputError: it cannot be read.
        """
        header = self.series.slices[place]
        plane = self.series.plane_index[place]
        below, above = self._neighbours.get(header, (header, header))
        headers = [below, header, above] if self.options.channel_3d else [header]
        channels, bodies = zip(*map(self._read, headers), strict=True)
        placement = Placement.around(bodies, self.series.plane_affine_lps(plane), self.options.image_size)
        image = placement.crop_image(np.stack(channels) if self.options.channel_3d else channels[0][None])
        low, high = np.float32(self.options.hu_min), np.float32(self.options.hu_max)
        np.clip(image, low, high, out=image)
        image -= low
        image /= np.float32(self.options.hu_max - self.options.hu_min)
        middle = len(headers) // 2
        return PreparedSlice(plane, channels[middle], image, placement, bodies[middle])

    def _read_slice(self, header: SliceHeader) -> tuple[NDArray[np.float32], Body]:
        hu = read_hu(header)
        row_mm, column_mm, _ = spacing_mm(self.series.affine_lps)
        return hu, find_body(hu, (row_mm, column_mm))


class SliceRestorer:
    """Brings logits back onto the grid of their slice: softmax, warp, the likeliest label of each pixel."""

    def __init__(self, labels: LabelTable) -> None:
        """Remembers what each channel of the network means."""
        self._id_of_channel = np.zeros(256, dtype=np.uint8)
        self._id_of_channel[1 : 1 + len(labels.ids)] = labels.ids

    def __call__(self, prepared: PreparedSlice, logits: Logits) -> RestoredSlice:
        """The label map of one slice, from logits (K, S, S)."""
        probability, winning = softmax(logits)
        channels = prepared.placement.restore_channels(probability)
        in_body = (prepared.image[len(prepared.image) // 2] > 0).astype(np.uint8)
        confidence = float(cv2.mean(winning, mask=in_body)[0])
        return RestoredSlice(
            prepared.plane, np.asarray(cv2.LUT(channels, self._id_of_channel), dtype=np.uint8), confidence
        )


def softmax(logits: Logits) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (K, S, S) of logits (K, S, S), and the largest of them for each pixel (S, S)."""
    logits = np.ascontiguousarray(logits, dtype=np.float32)
    largest = reduce(cv2.max, logits)
    probability = np.empty_like(logits)
    for channel, its in zip(probability, logits, strict=True):
        cv2.subtract(its, largest, dst=channel)
        cv2.exp(channel, dst=channel)
    total = reduce(cv2.add, probability)
    for channel in probability:
        cv2.divide(channel, total, dst=channel)
    return probability, 1 / total


def predict_series(
    network: Network, series: Series, options: DataOptions, labels: LabelTable, on_slice: OnSlice | None = None
) -> Prediction:
    """Predicts all slices of a series.

    A few slices from all over it come first: by them the network chooses its engine. From then on one thread reads
    and crops, as many as the engine likes compute, and one brings label maps back. Only a few batches are in the making
    at a time, so memory does not grow with the series, but for the label map.

    Args:
        network: a trained one.
        series: what to predict.
        options: crop, window and 2D/3-slice: those of the checkpoint.
        labels: what each channel of the network means.
        on_slice: called for each slice when it is done, one at a time, in no certain order. For whoever needs pixels
            and label map of the same slice: they are at hand here and need not be read again.

    Raises:
        SarcoError: a slice could not be read or brought back; nothing is half done then.
    """
    cv2.setNumThreads(1)  # the network has all cores; more threads in here would only get in its way
    prepare, restore = SlicePreparer(series, options), SliceRestorer(labels)
    places = range(len(series.slices))
    shown = pick_evenly(places, SAMPLE_SLICES)
    ready = {place: prepare(place) for place in shown}
    engine, seen = network.engine_for(np.stack([one.image for one in ready.values()]))
    done = [(ready.pop(shown[k]), logits) for k, logits in seen.items()]
    todo = [place for place in places if place in ready or place not in shown]
    batches = [todo[start : start + engine.batch_size] for start in range(0, len(todo), engine.batch_size)]
    volume = LabelVolume(series.shape, series.plane_index)
    confidence: dict[int, float] = {}

    def prepare_all(batch: Sequence[int]) -> list[PreparedSlice]:
        return [ready.pop(place) if place in ready else prepare(place) for place in batch]

    def restore_all(prepared: Sequence[PreparedSlice], logits: Logits) -> list[RestoredSlice]:
        restored = [restore(one, its) for one, its in zip(prepared, logits, strict=True)]
        if on_slice:
            for one, it in zip(prepared, restored, strict=True):
                on_slice(one, it)
        return restored

    def collect(restored: Sequence[RestoredSlice]) -> None:
        for one in restored:
            volume.put(one.slice_index, one.label_map)
            confidence[one.slice_index] = one.confidence

    _run_batches(done, batches, prepare_all, engine, restore_all, collect)
    return Prediction(volume.finish(), confidence, engine.name)


def _run_batches(
    done: Sequence[tuple[PreparedSlice, Logits]],
    batches: Sequence[Sequence[int]],
    prepare: Callable[[Sequence[int]], list[PreparedSlice]],
    engine: Engine,
    restore: Callable[[Sequence[PreparedSlice], Logits], list[RestoredSlice]],
    collect: Callable[[Sequence[RestoredSlice]], None],
) -> None:
    """Runs batches through the three stages, and what is computed already through the last of them.

    The first error of any thread is raised here, and the rest is dropped.
    """
    pools = [ThreadPoolExecutor(n_threads) for n_threads in (1, engine.n_parallel, 1)]
    reading, computing, restoring = pools

    def compute(prepared: Future[list[PreparedSlice]]) -> Future[list[RestoredSlice]]:
        batch = prepared.result()
        images = np.stack([one.image for one in batch]) if len(batch) > 1 else batch[0].image[None]
        return restoring.submit(restore, batch, engine(images))

    waiting: deque[Future[Future[list[RestoredSlice]]]] = deque()
    at_once = [restoring.submit(restore, [prepared], logits[None]) for prepared, logits in done]
    try:
        for batch in batches:
            waiting.append(computing.submit(compute, reading.submit(prepare, batch)))
            if len(waiting) >= engine.n_parallel + BATCHES_BESIDE:
                collect(waiting.popleft().result().result())
        while waiting:
            collect(waiting.popleft().result().result())
        for restored in at_once:
            collect(restored.result())
    finally:
        for pool in pools:  # from the first to the last, so that nothing new comes
            pool.shutdown(wait=True, cancel_futures=True)
