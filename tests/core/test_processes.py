"""Variables of launchers: what contradicts the options is said at once, instead of a wait for ever."""

import os
import socket
from collections.abc import Mapping

import pytest

from sarco.core.errors import OptionError
from sarco.core.processes import check_processes, forget_strange_processes

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
MACHINE = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}


@pytest.mark.parametrize(
    ("devices", "nodes", "environment"),
    [
        (1, 1, {}),
        (4, 1, {}),
        (1, 1, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0"}),
        (2, 1, {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "8"}),
        (1, 1, {"WORLD_SIZE": "2", "RANK": "0"}),
        (1, 1, {"MASTER_PORT": "29500", "MASTER_ADDR": "gone"}),
        (1, 1, {"LOCAL_RANK": "0", "NODE_RANK": "0"}),
        (2, 1, TORCHRUN),
        (1, 2, MACHINE),
        (1, 2, {**TORCHRUN, "LOCAL_RANK": "0", "GROUP_RANK": "1"}),
    ],
)
def test_what_fits_trains(devices: int, nodes: int, environment: Mapping[str, str]) -> None:
    """Catches a cluster on which nothing can be trained any more: leftovers that do no harm are none."""
    check_processes(devices, nodes, environment)


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "named"),
    [
        (1, 1, {"LOCAL_RANK": "abc"}, "LOCAL_RANK=abc"),
        (1, 1, {"RANK": "-1"}, "RANK=-1"),
        (1, 1, {"NODE_RANK": ""}, "NODE_RANK="),
        (2, 1, {"MASTER_PORT": "http"}, "MASTER_PORT=http"),
        (1, 1, {"SLURM_PROCID": "2"}, "--ntasks=1"),
        (1, 1, {"RANK": "1", "WORLD_SIZE": "2"}, "RANK=1"),
        (1, 1, {"LOCAL_RANK": "1"}, "LOCAL_RANK=1"),
        (2, 1, {"NODE_RANK": "1"}, "--num_nodes=2"),
        (2, 1, {"LOCAL_RANK": "0"}, "unset LOCAL_RANK"),
        (2, 1, {**TORCHRUN, "WORLD_SIZE": "4"}, "WORLD_SIZE=4"),
        (1, 1, {**TORCHRUN, "LOCAL_RANK": "0"}, "WORLD_SIZE=2"),
        (1, 2, {}, "MASTER_ADDR"),
        (1, 2, {"MASTER_ADDR": "a", "MASTER_PORT": "29500"}, "NODE_RANK"),
        (1, 2, {**MACHINE, "NODE_RANK": "0", "MASTER_PORT": "99999"}, "MASTER_PORT=99999"),
    ],
)
def test_what_contradicts_is_named(devices: int, nodes: int, environment: Mapping[str, str], named: str) -> None:
    """Catches a foreign ValueError, a silent run without a folder, and a wait for processes that never come."""
    with pytest.raises(OptionError) as caught:
        check_processes(devices, nodes, environment)
    assert named in str(caught.value)


def test_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback of torch on the first of several machines."""
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        with pytest.raises(OptionError, match=f"MASTER_PORT={port}"):
            check_processes(1, 2, {**MACHINE, "NODE_RANK": "0", "MASTER_PORT": port})
        check_processes(1, 2, {**MACHINE, "MASTER_PORT": port})


def test_leftovers_do_not_lead_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the address of an earlier job, which the processes of this one would wait for."""
    for name, value in {**MACHINE, "RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    forget_strange_processes(2)
    assert os.environ["MASTER_ADDR"] == "10.0.0.1" and "RANK" not in os.environ and "SLURM_PROCID" not in os.environ
    forget_strange_processes(1)
    assert "MASTER_ADDR" not in os.environ and "MASTER_PORT" not in os.environ
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    forget_strange_processes(1)
    assert all(os.environ[name] == value for name, value in TORCHRUN.items())
