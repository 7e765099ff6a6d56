"""An endless stream of invented labelled slices, each of a patient of its own, painted when it is asked for.

A slice is a function of the stream and its number alone, so it is the same whichever process draws it, and in whatever
order. Nothing is written to disk.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco.phantom.patient import PhantomOptions, make_phantom

TRAINING, VALIDATION = 0, 1  # streams of one seed that share no patient
LOWEST_MM, HIGHEST_MM = -230.0, 230.0  # above mid-L3: how far an invented patient reaches
FIELD_MM = 480.0  # about what an image shows
FINEST, COARSEST = 0.6, 1.15  # pixel of an image, relative to what is asked for
ORDINARY = 0.5  # share of examinations as hospitals make them; the others vary more widely than those do
LEAST_PIXELS, MOST_PIXELS = 64, 512  # a side


@dataclass(frozen=True)
class InventedSlice:
    """One slice of an invented patient.

    Attributes:
        hu: (C, row, column) int16, attenuation in HU: the slice, or the slice between its two neighbours.
        label_map: (row, column) uint8 of the slice, ids of `sarco.anatomy.labels.INVENTED_LABELS`.
        affine_lps: 4x4, (row, column, 0, 1) of the slice to LPS mm.
        z_mm: height above mid-L3, in mm of a patient of average size.
    """

    hu: NDArray[np.int16]
    label_map: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    z_mm: float


@dataclass(frozen=True)
class InventedStream:
    """Slices by number, without end.

    Attributes:
        seed: of all patients.
        part: `TRAINING` or `VALIDATION`, so that nobody in one is in the other.
        pixel_mm: about the size of an image's pixels; a network that looks at larger ones needs no finer paint.
        channels: 1, or 3 for a slice between its neighbours.
    """

    seed: int
    part: int = TRAINING
    pixel_mm: float = 1.5
    channels: int = 1

    def draw(self, number: int) -> InventedSlice:
        """The slice with a number from 0 up."""
        chance = np.random.SeedSequence([self.seed, self.part, number])
        rng = np.random.default_rng(chance)
        patient_seed = int(chance.generate_state(1, np.uint64)[0])
        z_mm = float(rng.uniform(LOWEST_MM, HIGHEST_MM))
        side = round(FIELD_MM / (self.pixel_mm * float(rng.uniform(FINEST, COARSEST))))
        side = min(max(side, LEAST_PIXELS), MOST_PIXELS)
        ordinary = bool(rng.random() < ORDINARY)
        options = PhantomOptions(
            n_slices=self.channels, rows=side, columns=side, labels="all", z_mm=z_mm, ordinary=ordinary
        )
        phantom = make_phantom(patient_seed, options)
        middle = self.channels // 2
        affine_lps = phantom.affine_lps.copy()
        affine_lps[:3, 3] += middle * affine_lps[:3, 2]
        hu = np.ascontiguousarray(phantom.hu.transpose(2, 0, 1))
        return InventedSlice(hu, np.ascontiguousarray(phantom.label_map[..., middle]), affine_lps, z_mm)
