"""SarcoDataModule: labelled slices -> split by patient -> loaders of 2D batches."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm

from sarco.cache import PreparedSlice, SliceCache, make_key, open_cache
from sarco.cases import Case, LabelledSlice, Split, find_cases, make_label_table, split_by_patient
from sarco.config import DataOptions
from sarco.dicom import SliceHeader, read_slice
from sarco.labels import LabelTable
from transforms import as_meta_tensor, make_crop, scale_window


class SarcoDataModule(pl.LightningDataModule):
    """Labelled slices for training and validation.

    A batch is a dict: ``image`` (B, C, S, S) float32 in [0, 1]; ``label`` (B, S, S) int64 channel numbers;
    ``index`` (B,) place in the data set.

    Attributes:
        labels: the labels found in the data; known after `setup`.
        split: who trains, who validates; known after `setup`.
    """

    channels = 1  # slices that make up an image

    def __init__(self, options: DataOptions, cache_root: Path) -> None:
        """Remembers where the data is; `setup` reads it.

        Args:
            options: what the data is and how it is prepared.
            cache_root: folder for decoded and cropped slices.
        """
        super().__init__()
        if options.channel_3d != (self.channels == 3):
            raise ValueError(f"{type(self).__name__} does not fit channel_3d={options.channel_3d}")
        self.options = options
        self.cache_root = cache_root
        self.slices: tuple[LabelledSlice, ...] = ()
        self.labels: LabelTable
        self.split: Split
        self.cache: SliceCache

    def setup(self, stage: str | None = None) -> None:
        """Finds, reads, crops and splits the data; the second call does nothing.

        Raises:
            InputError, GeometryError: see `sarco.cases`.
        """
        if self.slices:
            return
        dataset = find_cases(self.options.data_dir)
        self.split = split_by_patient(dataset.slices, self.options.val_fraction, self.options.seed)
        self.cache = self._open_cache(dataset.slices)
        self.labels = make_label_table(self.cache.label_ids, dataset.label_names, self.options.data_dir)
        self.slices = dataset.slices

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of the training slices, in an order that depends on seed and epoch alone."""
        n, size = len(self.split.train), self.options.batch_size
        # Batch normalisation cannot learn from a batch of one.
        return self._loader(self.split.train, EpochSampler(n, self.options.seed), drop_last=n > size and n % size == 1)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of the validation slices, in a fixed order."""
        return self._loader(self.split.val, None)

    def describe_split(self, in_full: bool) -> dict[str, Any]:
        """The split for people and for the checkpoint.

        Args:
            in_full: with PatientIDs and files, to lie beside the data; otherwise patients are pseudonyms, because
                checkpoints travel.
        """
        sides = {}
        for name, indices in (("train", self.split.train), ("val", self.split.val)):
            counts = Counter(self.slices[i].header.patient_id for i in indices)
            side: dict[str, Any] = {"slices": len(indices)}
            if in_full:
                side["patients"] = dict(sorted(counts.items()))
                side["images"] = [str(self.slices[i].header.path.relative_to(self.options.data_dir)) for i in indices]
            else:
                side["patients"] = {_pseudonym(patient): n for patient, n in sorted(counts.items())}
            sides[name] = side
        return {
            "by_patient": self.split.by_patient,
            "val_fraction": self.options.val_fraction,
            "seed": self.options.seed,
            **sides,
        }

    def _loader(
        self, indices: Sequence[int], sampler: "EpochSampler | None", drop_last: bool = False
    ) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            SliceDataset(self.cache, indices, self.labels, self.options),
            batch_size=self.options.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.options.num_workers,
            persistent_workers=self.options.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _headers(self, item: LabelledSlice) -> tuple[SliceHeader, ...]:
        """The slices that make up the image, one a channel."""
        return (item.header,)

    def _open_cache(self, slices: Sequence[LabelledSlice]) -> SliceCache:
        side = self.options.image_size
        inputs = [[h.path for h in self._headers(s)] + [s.case.label_path] for s in slices]
        key = make_key(
            dict.fromkeys(path for paths in inputs for path in paths),
            {
                "crop": [self.channels, side],
                "slices": [[str(p.relative_to(self.options.data_dir)) for p in paths] for paths in inputs],
            },
        )
        return open_cache(self.cache_root, key, len(slices), (self.channels, side, side), lambda: self._prepare(slices))

    def _prepare(self, slices: Sequence[LabelledSlice]) -> Iterator[PreparedSlice]:
        """Decodes and crops slices; neighbours and volume label maps are read once, not once a slice."""
        crop = make_crop(self.options, keys=("image", "label"))
        read = lru_cache(maxsize=4)(lambda path: read_slice(path)[0])
        read_labels = lru_cache(maxsize=1)(Case.read_label_maps)
        for item in tqdm(slices, desc="reading slices", unit="slice", leave=False):
            affine = item.header.affine_lps
            hu = np.stack([read(header.path) for header in self._headers(item)])
            label_map = read_labels(item.case)[item.place]
            cropped = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label_map[None], affine)})
            image = cropped["image"].numpy().round().clip(-32768, 32767).astype(np.int16)
            yield image, cropped["label"].numpy()[0]


class SliceDataset(Dataset[dict[str, Any]]):
    """Prepared slices as the network takes them."""

    def __init__(self, cache: SliceCache, indices: Sequence[int], labels: LabelTable, options: DataOptions) -> None:
        """A view of some slices of the cache.

        Args:
            cache: all prepared slices.
            indices: which of them this data set shows, in order.
            labels: the table whose k-th label is channel k + 1.
            options: the HU window.
        """
        self.cache = cache
        self.indices = indices
        self.options = options
        self.channel_of_id = np.zeros(256, dtype=np.int64)
        self.channel_of_id[list(labels.ids)] = np.arange(1, labels.n_channels)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.indices)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """One sample: ``image`` (C, S, S) in [0, 1], ``label`` (S, S) channel numbers, ``index`` in the data set."""
        index = self.indices[place]
        hu = torch.from_numpy(self.cache.images[index].astype(np.float32))
        label: NDArray[np.int64] = self.channel_of_id[self.cache.label_maps[index]]
        return {
            "image": scale_window(hu, self.options.hu_min, self.options.hu_max),
            "label": torch.from_numpy(label),
            "index": index,
        }


class EpochSampler(Sampler[int]):
    """A random order that is a function of seed and epoch, so that a resumed run goes on as if never stopped."""

    def __init__(self, n: int, seed: int) -> None:
        """An order of ``n`` samples."""
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; Lightning calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The order of the current epoch."""
        return iter(np.random.default_rng((self.seed, self.epoch)).permutation(self.n).tolist())

    def __len__(self) -> int:
        """Number of samples."""
        return self.n


def _pseudonym(patient_id: str) -> str:
    return hashlib.blake2b(patient_id.encode(), digest_size=6).hexdigest()
