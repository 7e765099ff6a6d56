"""A bar over slices, for people who watch; nothing where output goes to a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def slices_bar(total: int) -> Iterator[Callable[[int, int], object] | None]:
    """What to call with (done, total) slices; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # hundredths of a second to import

    with tqdm(total=total, unit=" slices", leave=False) as bar:
        yield lambda done, _: bar.update(done - bar.n)
