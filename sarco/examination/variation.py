"""How a property of an invented patient, room or scanner is drawn: how often it is there, and in which range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variation:
    """One drawn number. Ranges are wider than hospitals are, so that what is real lies inside.

    Attributes:
        low: least value where the property is there.
        high: largest one.
        chance: how often it is there, 0..1.
        absent: the value where it is not.
        log: whether equal ratios are equally likely, instead of equal differences.
        among: the only values, equally likely; `low` and `high` are their ends.
        source: where the numbers come from.
    """

    low: float
    high: float
    chance: float = 1.0
    absent: float = 0.0
    log: bool = False
    among: tuple[float, ...] = ()
    source: str = ""

    def draw(self, rng: np.random.Generator) -> float:
        """A value; uses up two numbers of `rng` whatever comes out, so that one range never shifts the next draw."""
        there, place = rng.random(2)
        if there >= self.chance:
            return self.absent
        if self.among:
            return self.among[int(place * len(self.among))]
        if self.log:
            return math.exp(math.log(self.low) + place * math.log(self.high / self.low))
        return float(self.low + place * (self.high - self.low))


def among(*values: float, chance: float = 1.0, absent: float = 0.0, source: str = "") -> Variation:
    """A choice between values; naming one twice makes it twice as likely."""
    return Variation(min(values), max(values), chance, absent, among=values, source=source)


def draw_all(table: Mapping[str, Variation], rng: np.random.Generator) -> dict[str, float]:
    """A value for every name of a table, in the table's order."""
    return {name: variation.draw(rng) for name, variation in table.items()}
