"""SarcoDataModule: labelled slices -> split by patient -> loaders of 2D batches."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm

from sarco.anatomy.labels import meaning_of, with_invented, without_others
from sarco.augmentation.warp import warp_batch
from sarco.batches.invented import InventedCrops
from sarco.batches.mixed import FIRST_INVENTED, MixedDataset, MixedSampler, invented_in_batch
from sarco.batches.samples import ALL_NUMBERS, SliceDataset, scale_window
from sarco.batches.style import Style, find_styles
from sarco.core.errors import InputError
from sarco.core.messages import count_of
from sarco.core.training_options import (
    SHARE_OF_INVENTED,
    AugmentOptions,
    DataOptions,
    InventedOptions,
    PredictedOptions,
)
from sarco.crop.size import describe_crop, measure_bodies, note_wide_bodies, settle_crop
from sarco.io.images import read_hu
from sarco.layouts.case import Case
from sarco.quality.likeness import measure_training
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID, LabelTable
from sarco.scan.series import SliceHeader
from sarco.training.cache import CachedSlice, SliceCache, make_key, open_cache
from sarco.training.cases import Dataset as FoundCases
from sarco.training.cases import LabelledSlice, find_cases, make_label_table, name_in
from sarco.training.distillation import FoundPredictions, assign_sides, find_predictions
from sarco.training.doubts import (
    check_label_maps,
    describe_mirror,
    describe_sides,
    warn_of_namesakes,
    warn_of_sides,
    warn_of_values,
)
from sarco.training.sampling import Draw, EpochSampler, ShardSampler, repeat_factors
from sarco.training.split import Split, describe_side, find_copies, name_people, split_as_asked
from transforms import as_meta_tensor, make_crop

VALIDATION_FACTOR = 2  # slices that validate at once, in batches of training: without gradients they take less memory
CALIBRATION_SLICES = 64  # enough for means and variances of a network


class SarcoDataModule(pl.LightningDataModule):
    """Labelled slices for training and validation.

    A batch is a dict: ``image`` (B, C, S, S) float32 in [0, 1]; ``label`` (B, S, S) int64 channel numbers, IGNORED
    where nobody looked; ``weight`` (B,) of each sample in the loss; ``index`` (B,) place in ``slices``, or number of
    an invented slice from FIRST_INVENTED on; ``known`` (B, K) of each sample where some are invented.

    Attributes:
        options: as they were given; after `setup` the data has chosen what they left to it.
        slices: every slice with a label map, predicted ones after human ones; known after `setup`.
        drawn: the labels found in the data; known after `setup`.
        labels: those of the run: beside invented slices also what was asked to be kept; known after `setup`.
        known: (N, K) bool, which channels each of the slices can tell anything about; known after `setup`.
        split: who trains, who validates; known after `setup`.
        notes: what a person should know about the data, a line each.
    """

    channels = 1  # slices that make up an image

    def __init__(
        self,
        options: DataOptions,
        cache_root: Path | None,
        augment: AugmentOptions | None = None,
        predicted: PredictedOptions | None = None,
        bar: bool = False,
        invented: InventedOptions | None = None,
        kept: Sequence[str] = (),
    ) -> None:
        """Remembers where the data is; `setup` reads it.

        Args:
            options: what the data is and how it is prepared.
            cache_root: folder for decoded and cropped slices; None keeps them in memory.
            augment: how training slices are varied; not at all by default.
            predicted: predictions to learn from; none by default.
            bar: whether a bar is drawn while slices are read.
            invented: how much of each batch is invented; nothing by default.
            kept: labels of the built-in network where the run starts from it, else none. The run has them beside those
                of the data where somebody chose a share of invented patients, and not where that was left open.
        """
        super().__init__()
        if options.channel_3d != (self.channels == 3):
            raise ValueError(f"{type(self).__name__} does not fit channel_3d={options.channel_3d}")
        self.options = options
        self.cache_root = cache_root
        self.augment = augment or AugmentOptions(augment="no")
        self.predicted = predicted or PredictedOptions()
        self.bar = bar
        self.invented = invented or InventedOptions(0.0)
        self.starts_built_in = bool(kept)
        self.kept = kept if self.invented.invented else ()
        self.style_from = self.invented.style_from
        self.styles: tuple[Style, ...] = ()  # what that folder lends to invented slices
        self.slices: tuple[LabelledSlice, ...] = ()
        self.bodies_mm: list[float] = []  # see `sarco.crop.size.measure_bodies`
        self.notes: list[str] = []
        self.drawn: LabelTable
        self.labels: LabelTable
        self.known: NDArray[np.bool_]
        self.split: Split
        self.cache: SliceCache

    def setup(self, stage: str | None = None) -> None:
        """Finds, reads, crops and splits the data; the second call does nothing.

        Raises:
            InputError, GeometryError: see `sarco.training.cases` and `sarco.training.distillation`.
        """
        if self.slices:
            return
        options = self.options
        dataset = find_cases(options.data_dir, options.labels, options.missing_labels)
        human, self.notes = dataset.slices, [*dataset.notes]
        found = FoundPredictions((), 0, 0)
        if self.predicted.add_predicted_data:
            found = find_predictions(self.predicted, options.data_dir, human, dataset.label_names)
        slices = (*human, *found.slices)
        self._settle_crop(slices)
        self._borrow_styles()
        self.cache = self._open_cache(slices, sorted(dataset.label_names))
        occurs: NDArray[np.bool_] = self.cache.occurs
        looked_at = np.asarray(occurs[:, :IGNORE_ID].any(axis=1))
        self._settle_labels(dataset, len(human))
        warn_of_values(human, occurs[: len(human)], dataset.label_names)
        if self.augment.do_flips:
            warn_of_sides(self.labels)
        elif self.augment.augment == "strong":
            self.notes += describe_mirror(self.labels)
        kept = [i for i in range(len(human)) if looked_at[i]]
        if len(kept) < len(human):
            left = count_of(len(human) - len(kept), "slice")
            self.notes.append(f"{left} left out, unlabelled ({IGNORE_ID} throughout)")
        if partly := int(np.count_nonzero(looked_at[: len(human)] & occurs[: len(human), IGNORE_ID])):
            told = count_of(partly, "slice holds", "slices hold")
            self.notes.append(f"{told} {IGNORE_ID} (nobody looked) beside other values; those pixels count nowhere")
        slices = name_people(slices, find_copies(slices, self.cache.images))
        warn_of_namesakes(slices)
        split = split_as_asked([slices[i] for i in kept], self.options, occurs[np.ix_(kept, self.labels.ids)])
        self.split = Split(tuple(kept[i] for i in split.train), tuple(kept[i] for i in split.val), split.by_patient)
        self._add_predicted(slices[len(human) :], found, slices)
        train, val = (np.asarray(occurs[list(side)].any(axis=0)) for side in (self.split.train, self.split.val))
        self.notes += describe_sides(self.drawn, train, val)
        self.slices = slices

    def _settle_crop(self, slices: Sequence[LabelledSlice]) -> None:
        """Gives the crop its size, and notes bodies that are wider than a field of view that was typed."""
        images = [self._headers(item) for item in slices]
        if self.options.crop == "field":
            self.bodies_mm = measure_bodies(images, lru_cache(maxsize=4)(read_hu))
        self.options = settle_crop(self.options, images, self.bodies_mm)
        self.notes += note_wide_bodies(self.options, self.bodies_mm)

    def _borrow_styles(self) -> None:
        """Measures the styles that invented slices are to have, and notes how many there are."""
        if self.style_from is not None:
            self.styles, line = find_styles(self.style_from, self.options.crop_size)
            self.notes.append(line)

    def _training_crops(self) -> InventedCrops:
        """The invented slices that train."""
        return InventedCrops(self.options, self.labels, self.options.seed, styles=self.styles)

    def _settle_labels(self, dataset: FoundCases, n_human: int) -> None:
        """Which labels there are, and who knows them: a person what a person drew, a network of this run's kind all."""
        occurs: NDArray[np.bool_] = self.cache.occurs
        ids = np.flatnonzero(occurs[:n_human].any(axis=0)).tolist()
        self.drawn = make_label_table(ids, dataset.label_names, self.options.data_dir)
        if self.invented.invented is None:
            known = self.starts_built_in and any(meaning_of(name) for name in self.drawn.names.values())
            self.invented = replace(self.invented, invented=SHARE_OF_INVENTED if known else 0.0)
        self.labels = with_invented(self.drawn, self.kept) if self.kept else self.drawn
        predicted = set(np.flatnonzero(occurs[n_human:].any(axis=0)).tolist()) - {0, IGNORE_ID, *self.drawn.ids}
        if strange := predicted - set(self.labels.ids):
            raise InputError(
                f"predictions hold label {min(strange)}, which no human label map in {self.options.data_dir} has; "
                "leave out predictions of runs with other labels"
            )
        by_person = [True, *(label in self.drawn.names for label in self.labels.ids)]
        self.known = np.tile(np.array(by_person), (len(occurs), 1))
        self.known[n_human:] |= bool(predicted)
        if share := self.invented.invented:
            size = self.options.batch_size
            added = [name for label, name in self.labels.names.items() if label not in self.drawn.names]
            kept = f"; labels kept beside those of the data: {', '.join(added)}" if added else ""
            if not self.kept and self.starts_built_in:
                kept = ", so that nothing of the built-in network is forgotten (--invented=0 leaves them out)"
            self.notes.append(f"invented patients: {invented_in_batch(size, share)} of {size} slices per batch{kept}")

    def _add_predicted(
        self, predicted: Sequence[LabelledSlice], found: FoundPredictions, slices: Sequence[LabelledSlice]
    ) -> None:
        """Puts predicted slices on a side of the split, and notes what became of them."""
        if not self.predicted.add_predicted_data:
            return
        n_human = len(slices) - len(predicted)
        human_sides = {slices[i].patient: "train" for i in self.split.train}
        human_sides |= {slices[i].patient: "val" for i in self.split.val}
        sides, barred = assign_sides(predicted, human_sides, self.predicted.predicted_data_to)
        added = {name: tuple(n_human + i for i, side in enumerate(sides) if side == name) for name in ("train", "val")}
        self.split = Split(self.split.train + added["train"], self.split.val + added["val"], self.split.by_patient)
        self.notes.append(
            f"predicted slices: {len(added['train'])} train, {len(added['val'])} validate (weight "
            f"{self.predicted.predicted_weight:g}); left out: {found.unsure} below confidence "
            f"{self.predicted.min_confidence:g}, {found.labelled} with human labels, "
            f"{barred} of patients of the other side"
        )

    @property
    def draws_per_pass(self) -> int:
        """How many slices a pass over the training slices draws; rare labels are drawn more often."""
        return len(self._mixed_order(EpochSampler(self._repeats(), self.options.seed)))

    def _repeats(self) -> NDArray[np.float64]:
        return repeat_factors(self.cache.occurs[list(self.split.train)][:, list(self.labels.ids)])

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of the training slices; which ones and in what order depends on seed and epoch alone."""
        factors = self._repeats() * (self.options.passes_per_epoch or 1)
        sampler = self._mixed_order(EpochSampler(factors, self.options.seed, *self._rank()))
        n, size = len(sampler), self.options.batch_size
        # Batch normalisation cannot learn from a batch of one.
        return self._loader(self.split.train, sampler, size, self.augment, drop_last=n > size and n % size == 1)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of the validation slices, in a fixed order, each slice once over all processes."""
        size = VALIDATION_FACTOR * self.options.batch_size
        return self._loader(self.split.val, ShardSampler(len(self.split.val), *self._rank()), size)

    def calibration_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of some training slices as they are, evenly spread over all of them, the same in each epoch."""
        n = len(self.split.train)
        size = min(self.options.batch_size, n)
        count = min(n, max(CALIBRATION_SLICES, size)) // size * size  # whole batches, for all count the same
        places = np.linspace(0, n - 1, count).round().astype(int)
        # Neighbouring slices look alike, so each batch takes slices from all over.
        order = [Draw(int(place)) for place in places.reshape(size, -1).T.ravel()]
        if self.invented.invented:
            n_invented = invented_in_batch(size, self.invented.invented)
            for place in range(len(order)):
                if place % size < n_invented:
                    order[place] = Draw(FIRST_INVENTED + place)
        return DataLoader(self._dataset(self.split.train), batch_size=size, sampler=order)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """On a GPU the warp and the HU window of a batch are done there."""
        if "coordinates" in batch:
            image, label = warp_batch(batch["image"], batch["label"], batch.pop("coordinates"))
            batch = {**batch, "image": scale_window(image, self.options.hu_min, self.options.hu_max), "label": label}
        return batch

    def describe(self) -> list[str]:
        """What the data folder held, a line each."""
        split, cache, options = self.split, self.cache, self.options
        names = ", ".join(f"{label_id} {name}" for label_id, name in self.labels.names.items())
        n_train = count_of(len(split.train), "slice")
        how = "by patient" if split.by_patient else "of one patient, no independent test"
        how = f"fold {options.fold} of {options.folds}, {how}" if options.folds else how
        where = f"in {cache.folder}{' (found there)' if cache.reused else ''}" if cache.folder else "in memory"
        lines = [
            f"data: {n_train} for training, {len(split.val)} for validation ({how}); labels: {names}",
            describe_crop(options, self.bodies_mm),
            f"prepared slices: {cache.size_mb:.1f} MB {where}",
            *self.notes,
        ]
        if options.batch_size & (options.batch_size - 1):
            lines.append(f"hint: --batch_size={options.batch_size} is no power of 2; those are often faster")
        return lines

    def describe_split(self, in_full: bool) -> dict[str, Any]:
        """The split for people and for the checkpoint.

        Args:
            in_full: with PatientIDs and files, to lie beside the data; otherwise patients are pseudonyms, because
                checkpoints travel.
        """
        split, options, data_dir = self.split, self.options, self.options.data_dir if in_full else None
        train, val = (describe_side([self.slices[i] for i in side], data_dir) for side in (split.train, split.val))
        how: dict[str, Any] = {"val_fraction": options.val_fraction}
        if options.folds:
            how = {"folds": options.folds, "fold": int(options.fold)}
        return {"by_patient": split.by_patient, **how, "seed": options.seed, "train": train, "val": val}

    def training_statistics(self) -> dict[str, Any]:
        """What the training slices look like, for the checkpoint (see `sarco.quality.likeness`)."""
        _, pixel_mm = self.options.crop_size
        judged = without_others(self.drawn.names)
        return measure_training(self.cache.images, self.cache.label_maps, self.split.train, pixel_mm, judged)

    def validation_patients(self) -> dict[int, str]:
        """The patient of each validation slice that a person labelled, by its place in ``slices``.

        Empty where the validation slices are of a training patient, because their errors tell nothing of others.
        """
        if not self.split.by_patient:
            return {}
        return {i: self.slices[i].patient for i in self.split.val if not self.slices[i].case.predicted}

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def _loader(
        self,
        indices: Sequence[int],
        sampler: Sampler[Draw],
        batch_size: int,
        augment: AugmentOptions | None = None,
        drop_last: bool = False,
    ) -> DataLoader[dict[str, Any]]:
        on_device = bool(self.trainer and self.trainer.strategy.root_device.type == "cuda")
        return DataLoader(
            self._dataset(indices, augment, on_device),
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.options.num_workers,
            persistent_workers=self.options.num_workers > 0,
            pin_memory=on_device,
        )

    def _dataset(
        self, indices: Sequence[int], augment: AugmentOptions | None = None, on_device: bool = False
    ) -> Dataset[dict[str, Any]]:
        """These slices, with invented ones beside them where those were asked for."""
        weights = [self.predicted.predicted_weight if self.slices[i].case.predicted else 1.0 for i in indices]
        real = SliceDataset(self.cache, indices, weights, self.labels, self.options, augment, on_device)
        if not self.invented.invented:
            return real
        crops = self._training_crops()
        invented = SliceDataset(crops, ALL_NUMBERS, None, self.labels, self.options, augment, on_device)
        return MixedDataset(real, self.known, invented, crops.known)

    def _mixed_order(self, order: EpochSampler) -> EpochSampler | MixedSampler:
        share = self.invented.invented
        return MixedSampler(order, self.options.batch_size, share, *self._rank()) if share else order

    def _headers(self, item: LabelledSlice) -> tuple[SliceHeader, ...]:
        """The slices that make up the image, one a channel."""
        return (item.header,)

    def _open_cache(self, slices: Sequence[LabelledSlice], named: Sequence[int]) -> SliceCache:
        side, pixel_mm = self.options.crop_size
        inputs = [[*(h.path for h in self._headers(s)), *s.case.source.paths] for s in slices]
        key = make_key(
            dict.fromkeys(path for paths in inputs for path in paths),
            {
                "crop": [self.channels, side, pixel_mm],
                "slices": [[name_in(p, self.options.data_dir) for p in paths] for paths in inputs],
                "named": named,  # they decide whether a label map is refused
                "labels": [s.case.source.settings for s in slices],
                "frames": [[h.frame for h in self._headers(s)] for s in slices],
            },
        )
        return open_cache(
            self.cache_root, key, len(slices), (self.channels, side, side), lambda: self._prepare(slices, named)
        )

    def _prepare(self, slices: Sequence[LabelledSlice], named: Sequence[int]) -> Iterator[CachedSlice]:
        """Decodes and crops slices; neighbours and volume label maps are read once, not once a slice."""
        check_label_maps((item.case for item in slices if not item.case.predicted), named)
        crop = make_crop(self.options, keys=("image", "label"))
        read = lru_cache(maxsize=4)(read_hu)
        read_labels = lru_cache(maxsize=1)(Case.read_labels)
        for item in tqdm(slices, desc="reading slices", unit=" slices", leave=False, disable=not self.bar):
            affine = item.header.affine_lps
            hu = np.stack([read(header) for header in self._headers(item)])
            label_map = item.case.lay(read_labels(item.case), item.place)
            cropped = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label_map[None], affine)})
            image = cropped["image"].numpy().round().clip(-32768, 32767).astype(np.int16)
            on_crop = cropped["label"].numpy()[0]
            # Beyond the slice there is background, whatever the slice holds.
            ids = [i for i in np.unique(on_crop).tolist() if i != BACKGROUND_ID or (label_map == i).any()]
            yield image, on_crop, ids
