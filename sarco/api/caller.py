"""The process of whoever calls the Python interface: it is left as it was found."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sarco.core.command import name_the_user
from sarco.core.processes import NUMBERS

LOGGER = "pytorch_lightning"
# What a training tells the processes that it starts, and the libraries that it uses.
VARIABLES = (
    "SARCO_RUN_ID", "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG", "WANDB_SILENT", "MASTER_ADDR",
    "LOGNAME", *NUMBERS,
)  # fmt: skip


@contextmanager
def left_as_found() -> Iterator[None]:
    """Brings warning filters, the level of Lightning's logger and environment variables back.

    The tuned allocator stays, because nothing brings it back; see `sarco.core.command.tune_allocator`.
    """
    logger = logging.getLogger(LOGGER)
    level, before = logger.level, {name: os.environ.get(name) for name in VARIABLES}
    with warnings.catch_warnings():
        try:
            name_the_user()
            yield
        finally:
            logger.setLevel(level)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
