"""A bar over slices, for people who watch; nothing where output goes to a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def slices_bar(total: int) -> Iterator[Callable[[int, int], object] | None]:
    """What to call with (done, total) slices; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # hundredths of a second to import

    bars: list[Any] = []

    def advance(done: int, _: int) -> None:
        if not bars:  # only now, so that lines about the engine come before the bar, not into it
            bars.append(tqdm(total=total, unit=" slices", leave=False, dynamic_ncols=True))
        bars[0].update(done - bars[0].n)

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()
