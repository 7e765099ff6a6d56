"""A series through a network: slices are read ahead, and brought back behind it, while it works."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.core.training_options import DataOptions
from sarco.crop.slices import Logits, PreparedSlice, RestoredSlice, SlicePreparer, SliceRestorer
from sarco.prediction.engine import Engine, Network
from sarco.prediction.islands import IslandFilter, OnSlice
from sarco.scan.label_volume import LabelVolume
from sarco.scan.labels import LabelTable
from sarco.scan.series import Series, pick_evenly

SAMPLE_SLICES = 12  # to the network first, evenly spread, so that it can choose its engine
BATCHES_BESIDE = 2  # in the making, besides those that the network works on: one before it, one behind


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


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """The network has all cores; more threads in OpenCV would only get in its way."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@_one_opencv_thread()
def predict_series(
    network: Network,
    series: Series,
    options: DataOptions,
    labels: LabelTable,
    on_slice: OnSlice = lambda prepared, restored: None,
    drop_islands: bool = False,
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
        drop_islands: leave out parts of a label that no neighbouring slice supports.

    Raises:
        SarcoError: a slice could not be read or brought back; nothing is half done then.
    """
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

    islands = IslandFilter(series.plane_index, on_slice) if drop_islands else None

    def restore_all(prepared: Sequence[PreparedSlice], logits: Logits) -> list[RestoredSlice]:
        restored = [restore(one, its) for one, its in zip(prepared, logits, strict=True)]
        pairs = list(zip(prepared, restored, strict=True))
        if islands:
            return [clean for pair in pairs for clean in islands.put(*pair)]
        for pair in pairs:
            on_slice(*pair)
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
