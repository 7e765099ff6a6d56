"""Which processes train together: what the environment says of it, checked before any of them waits for another."""

import os
import socket
from collections.abc import Mapping

from sarco.core.errors import OptionError

# What launchers tell the processes that they start (torchrun, Lightning, SLURM, IBM's jsrun); all are numbers.
NUMBERS = (
    "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID", "JSM_NAMESPACE_RANK",
)  # fmt: skip
NEEDED = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")  # for the processes of a launcher to find each other


def check_processes(devices: int, num_nodes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Looks at the variables by which processes that train together find each other.

    Without ``LOCAL_RANK`` sarco starts the processes of this machine itself; with it, another program has.

    Args:
        devices: processes of each machine.
        num_nodes: machines.
        environment: variables.

    Raises:
        OptionError: they are no numbers, contradict the options, or would let this process wait for ever for others.
    """
    for name in NUMBERS:
        text = environment.get(name, "0")
        if not (text.isascii() and text.isdecimal()):
            raise OptionError(f"{name}={text} in the environment is no number; unset {name}")
    numbers = {name: int(environment.get(name, "0")) for name in NUMBERS}
    for name, option, count in (
        ("LOCAL_RANK", "devices", devices),
        ("NODE_RANK", "num_nodes", num_nodes),
        ("GROUP_RANK", "num_nodes", num_nodes),
    ):
        if numbers[name] >= count:
            raise OptionError(
                f"--{option}={count}: {name}={numbers[name]} in the environment counts on more; unset {name}, or give "
                f"--{option}={numbers[name] + 1} or more"
            )
    if "LOCAL_RANK" in environment:
        _check_launched(devices * num_nodes, environment)
    elif num_nodes > 1:
        _check_machine(num_nodes, environment)
    else:
        copies = [name for name in ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK") if numbers[name]]
        if copies:
            raise OptionError(
                f"--devices={devices}: {copies[0]}={numbers[copies[0]]} in the environment says that this is one of "
                f"several copies of this program; start one (with SLURM: --ntasks=1), it starts the others itself, or "
                f"unset {copies[0]}"
            )


def _check_launched(processes: int, environment: Mapping[str, str]) -> None:
    """Processes that another program has started."""
    missing = [name for name in NEEDED if name not in environment]
    if processes > 1 and missing:
        raise OptionError(
            f"--devices: LOCAL_RANK is set in the environment, as if another program had started the processes, but "
            f"{missing[0]} is not; unset LOCAL_RANK"
        )
    started = environment.get("WORLD_SIZE", str(processes))
    if int(started) != processes:
        raise OptionError(
            f"--devices: WORLD_SIZE={started} in the environment, but {processes} process(es) are to train together; "
            "give --devices and --num_nodes to fit, or unset LOCAL_RANK and WORLD_SIZE"
        )


def _check_machine(num_nodes: int, environment: Mapping[str, str]) -> None:
    """One of several machines, on which sarco starts the processes."""
    missing = [name for name in NEEDED[:2] if name not in environment]
    if "NODE_RANK" not in environment and "GROUP_RANK" not in environment:
        missing.append("NODE_RANK")
    if missing:
        raise OptionError(
            f"--num_nodes={num_nodes}: {missing[0]} is not set; set MASTER_ADDR (of the first machine), MASTER_PORT (a "
            "free one there) and NODE_RANK (from 0) in the environment of each machine"
        )
    if environment.get("NODE_RANK", environment.get("GROUP_RANK")) == "0":
        port = int(environment["MASTER_PORT"])
        try:
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("", port))
        except (OSError, OverflowError):
            raise OptionError(f"MASTER_PORT={port} cannot be used on this machine; set another one") from None


def forget_strange_processes(num_nodes: int) -> None:
    """Removes what an earlier job left in the environment, so that it does not lead this run astray.

    Args:
        num_nodes: machines of the run.
    """
    if "LOCAL_RANK" in os.environ:
        return
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        os.environ.pop(name, None)
    if num_nodes == 1:  # sarco finds a free port itself
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
