"""The processes that a launcher (accelerate launch, torchrun) started for one command.

Launchers tell each process its number in the environment. The first process alone writes; the
others compute their share and barrier. Without a launcher there is one process and nothing to do.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

from neuroclips_cli.errors import UserError

Value = TypeVar("Value")

PROCESS_GROUP_TIMEOUT = timedelta(days=2)
"""How long a process waits for another one, which may compute targets of all films meanwhile.

A process that dies is noticed at once: its connections close, and the launcher ends the others.
"""


class AbortedByMainProcess(Exception):
    """Raised in the other processes when the first one has refused to begin and said why."""


def world_size() -> int:
    """Return how many processes work on this command."""
    return _number("WORLD_SIZE", 1)


def get_rank() -> int:
    """Return the number of this process, 0 for the first one."""
    return _number("RANK", 0) if world_size() > 1 else 0


def is_main_process() -> bool:
    """Tell whether this process is the one that writes."""
    return get_rank() == 0


def require_single_process(command: str) -> None:
    """Refuse several processes for a command that would do its work as often as there are.

    Raises
    ------
    UserError
        If a launcher started more than one, or asks for shards that nothing here writes.
    """
    if world_size() > 1:
        raise UserError(
            f"neuroclips was started as {world_size()} processes (WORLD_SIZE), but {command} runs "
            "in one: start it without accelerate launch or torchrun (docs/how-to/cluster.md)"
        )


def reject_sharded_launchers() -> None:
    """Refuse launchers' options that split one network between processes.

    Raises
    ------
    UserError
        If FSDP or DeepSpeed is asked for.
    """
    for name, what in (("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("1", "true", "yes"):
            raise UserError(
                f"the launcher asks for {what}, and checkpoints are not written from parts: start "
                "it with accelerate launch --multi_gpu, and choose profile compact where a "
                "network does not fit one GPU (docs/how-to/low-memory.md)"
            )


def init_process_group() -> None:
    """Connect this process with the others, once; every process has to call it."""
    if world_size() == 1:
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PROCESS_GROUP_TIMEOUT)


def destroy_process_group() -> None:
    """Part from the others before the process ends, so that none sees a broken connection."""
    if world_size() == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def broadcast_object(value: Value) -> Value:
    """Return the first process's value in every process."""
    if world_size() == 1:
        return value
    import torch.distributed as dist

    init_process_group()
    shared: list[Any] = [value if is_main_process() else None]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def gather_objects(value: Value) -> list[Value]:
    """Return the values of all processes in the first one, in their order; elsewhere nothing."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    init_process_group()
    values: list[Any] | None = [None] * world_size() if is_main_process() else None
    dist.gather_object(value, values, dst=0)
    return values or []


def barrier() -> None:
    """Wait until every process gets here."""
    broadcast_object(None)
    gather_objects(None)


def is_peer_lost(problem: BaseException) -> bool:
    """Tell whether an exception means that another process has gone."""
    if world_size() == 1 or not isinstance(problem, RuntimeError):
        return False
    text = str(problem).lower()
    return type(problem).__name__.startswith("Dist") or any(
        words in text for words in ("connection closed by peer", "connection reset", "gloo", "nccl")
    )


def _number(name: str, default: int) -> int:
    """Read a whole number from the environment."""
    text = os.environ.get(name, "").strip()
    try:
        return int(text) if text else default
    except ValueError:
        raise UserError(f"{name} is '{text}' in the environment, not a number") from None
