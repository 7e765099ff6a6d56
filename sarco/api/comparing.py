"""Label maps against label maps: `compare` from Python, and what ``sarco compare`` prints."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sarco.comparison.agreement import BlandAltman, Summary, bland_altman, summarise_patients
from sarco.comparison.maps import LabelComparison, compare_label_maps, find_pairs, with_absent
from sarco.comparison.names import compare_names, names_of
from sarco.core.errors import DataWarning, SarcoError
from sarco.core.parser import path_of
from sarco.scan.labels import read_label_names


@dataclass(frozen=True)
class Comparison:
    """How label maps agree.

    Attributes:
        rows: a label of a patient each; a label that only others hold counts as absent in both. Where all label maps
            are empty, a row of label 0 each.
        names: of the labels, where a ``labels.json`` beside the truth gives them.
        n_pairs: how many pairs there are.
        alone: files without a partner of the same name.
        failed: why pairs could not be compared.
    """

    rows: Sequence[LabelComparison]
    names: Mapping[int, str]
    n_pairs: int
    alone: Sequence[Path] = ()
    failed: Sequence[SarcoError] = field(default=())

    @property
    def summary(self) -> Sequence[Summary]:
        """Means over patients with intervals, a row for each label and measure."""
        return summarise_patients(self.rows)

    @property
    def agreement(self) -> Sequence[BlandAltman]:
        """Bland-Altman limits, a row for each label and measure."""
        return bland_altman(self.rows)


def compare(truth: str | Path, prediction: str | Path) -> Comparison:
    """Compares two label maps, or two folders of them that pair by name.

    Args:
        truth: a NIfTI label map, or a folder with several.
        prediction: a NIfTI label map, a results folder, or a folder with several of either.

    A `DataWarning` tells of numbers that the two sides name differently.

    Raises:
        SarcoError: there is nothing to compare, or the only pair cannot be compared.
    """
    truth, prediction = path_of(truth), path_of(prediction)
    found = find_pairs(truth, prediction)
    names = read_label_names((truth if truth.is_dir() else truth.parent) / "labels.json")
    told: dict[str, Path] = {}
    rows: list[LabelComparison] = []
    patients: list[str] = []
    failed: list[SarcoError] = []
    for name, one, other in found.pairs:
        try:
            known = names or names_of(one, truth)
            for remark in compare_names(known, names_of(other, prediction), other):
                told.setdefault(remark, other)
            rows += compare_label_maps(one, other, name, known)
            patients.append(name)
        except SarcoError as error:
            if len(found.pairs) == 1:
                raise
            failed.append(error)
    for remark, path in told.items():
        warnings.warn(f"{path}: {remark}", DataWarning, 2)
    return Comparison(with_absent(rows, patients), names, len(found.pairs), tuple(found.alone), tuple(failed))
