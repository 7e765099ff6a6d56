"""Several runs that predict together: which ones a word such as ``a_fold*`` means, and what results say of them."""

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from sarco.core.errors import CheckpointError
from sarco.core.options import TOGETHER
from sarco.runs.store import Provenance, RunStore

_WILD = re.compile(r"[*?\[]")


def find_members(store: RunStore, run_ids: str, wandb_project: str | None, choice: str) -> dict[str, Path]:
    """The checkpoints of one run or several, by run id, in the order in which they were typed, each once.

    Args:
        store: where they are.
        run_ids: ids and patterns (``*``, ``?``, ``[...]``) with commas between them.
        wandb_project: needed only where an id stands for several runs.
        choice: ``best`` or ``last``.

    Raises:
        CheckpointError: there is no such run, none fits a pattern, or one has no such checkpoint yet.
    """
    found: dict[str, Path] = {}
    for word in filter(None, run_ids.split(",")):
        known = {run.run_id for run in store.runs() if run.recorded and wandb_project in (None, run.wandb_project)}
        fitting = sorted((one for one in known if fnmatchcase(one, word)), key=_by_number)
        for run_id in fitting if _WILD.search(word) and fitting else [word]:
            found[run_id] = store.checkpoint(run_id, wandb_project, choice)
    if not found:
        raise CheckpointError(f"--run_id={run_ids}: names no run; give one, or several with commas")
    return found


def _by_number(run_id: str) -> list[str | int]:
    """Puts fold 10 behind fold 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", run_id)]


def join_provenance(members: Sequence[Provenance]) -> Provenance:
    """Where a prediction comes from that several runs made together; one run's own stays as it is.

    The hash is the SHA-256 of the members' hashes, one behind the other.
    """
    if len(members) == 1:
        return members[0]
    sha256 = hashlib.sha256("".join(one.sha256 for one in members).encode()).hexdigest()
    projects = ", ".join(dict.fromkeys(one.wandb_project for one in members))
    run_ids = TOGETHER.join(one.run_id for one in members)
    return Provenance(run_ids, projects, members[0].checkpoint, sha256, members=tuple(members))
