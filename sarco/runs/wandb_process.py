"""The process that speaks with Weights & Biases, so that nothing that W&B does, or waits for, can reach a run.

`sarco.runs.tracking` starts it by this file's path and sends pickled pairs on stdin: first what the run is, then what
is to be recorded, last how it ended. Answers are lines on stdout. Nothing of sarco is imported here.
"""

import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, TextIO


def main() -> None:
    """Records what it is sent, until there is no more."""
    requests, answers = sys.stdin.buffer, _take_stdout()
    try:
        run = _start(_next(requests)[1])
        answers.write("ready\n")
        while True:
            kind, content = _next(requests)
            if kind == "finish":
                break
            _record(run, kind, content)
        run.finish(exit_code=content)
    except BaseException as error:
        text = str(error).strip().splitlines()
        answers.write(f"{text[0][:200] if text else type(error).__name__}\n")
        answers.flush()
        os._exit(1)  # hooks of W&B may wait for ever for a process of theirs that is gone


def _take_stdout() -> TextIO:
    """The pipe for answers; whatever libraries and their processes print from now on goes nowhere."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8", errors="replace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    return answers


def _next(requests: BinaryIO) -> tuple[str, Any]:
    """What comes next; the end of the run where whoever sends is gone."""
    try:
        kind, content = pickle.load(requests)  # noqa: S301 - from the process that started this one
    except EOFError:
        return "finish", 1
    return kind, content


def _start(init: Mapping[str, Any]) -> Any:
    """A W&B run."""
    import wandb

    if not os.access(init["dir"], os.W_OK):  # W&B would take a temporary folder instead, without a word
        raise PermissionError(f"{init['dir']} cannot be written")
    settings = wandb.Settings(
        init_timeout=init["timeout_s"], console="off", silent=True, x_stats_pid=os.getppid(), symlink=False
    )
    run = wandb.init(**{name: value for name, value in init.items() if name != "timeout_s"}, settings=settings)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def _record(run: Any, kind: str, content: Any) -> None:
    """One thing that was sent."""
    import wandb

    if kind == "config":
        run.config.update(content, allow_val_change=True)
    elif kind == "figures":
        run.log(content)
    elif kind == "pictures":
        run.log({name: [_picture(wandb, **each) for each in pictures] for name, pictures in content.items()})
    elif kind == "table":
        name, columns, rows = content
        run.log({name: wandb.Table(columns=columns, data=rows)})


def _picture(wandb: Any, grey: Any, masks: Mapping[str, Any], classes: Mapping[int, str], text: str) -> Any:
    drawn = {name: {"mask_data": mask, "class_labels": dict(classes)} for name, mask in masks.items()}
    return wandb.Image(grey, masks=drawn, caption=text)


if __name__ == "__main__":
    main()
