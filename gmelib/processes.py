"""The processes of one run that torchrun started, one a GPU: who is first, sums, agreement.

With one process, which is the rule, every function here does nothing, so callers need not ask. The
processes of a run share every batch; what is written, one alone writes: the first.
"""

import copy
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gmelib.config import InputError

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # the others wait so long while the first evaluates
PREPARING = timedelta(days=7)  # and so long while it prepares faces; if it fails, torchrun ends all
TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}

_store: Any = None  # what all processes can read, even when one has ended
_turns = itertools.count()  # the calls of `first_then_others`, the same in all processes


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _is_joined() else 0


def world() -> int:
    """How many processes work on the run."""
    return dist.get_world_size() if _is_joined() else 1


def is_first() -> bool:
    return rank() == 0


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


# -- begin and end --------------------------------------------------------------------------------


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started, and leaves them at the end.

    Figures on the CPU are exchanged by gloo, those on GPUs by NCCL. After an error nothing is
    awaited: the process had better end, and torchrun ends the others.
    """
    global _store
    if not TORCHRUN <= os.environ.keys() or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    _store, number, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
        store=_store,
        rank=number,
        world_size=count,
        timeout=PATIENCE,
    )
    yield
    wait()
    dist.destroy_process_group()
    _store = None


def claim_device(name: str) -> None:
    """Gives this process a GPU of its own, where the run uses GPUs.

    Args:
        name: the parameter ``device``.

    Raises:
        InputError: if there are more processes than GPUs, or the device cannot be shared.
    """
    if world() == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return
    if name not in ("auto", "cuda"):
        raise InputError(
            f"parameter device = {name!r}: {world()} processes need a device each; "
            "expected auto, cuda (the GPUs in turn) or cpu"
        )
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', number + 1)} processes on a machine with {count} "
            f"GPU(s): expected one GPU a process; give torchrun --nproc-per-node {max(count, 1)}, "
            "or set device = cpu"
        )
    torch.cuda.set_device(number)


def is_first_to_fail() -> bool:
    """True in one process alone, the one that is to say why the run ends."""
    if _store is None:
        return True
    try:
        return _store.add("failed", 1) == 1
    except RuntimeError:
        return False  # whoever kept the store has ended, and has said why


# -- agreement ------------------------------------------------------------------------------------


def agree(value: T) -> T:
    """The first process's value, in all of them."""
    if world() == 1:
        return value
    box: list[Any] = [value if is_first() else None]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in all of them."""
    if world() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


def wait() -> None:
    """Goes on when every process has come here."""
    total(torch.zeros(()))


def held_by_first(context: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    """The context for the first process; the others enter nothing."""
    return context if is_first() else nullcontext()


def first_then_others(function: Callable[..., T], *args: Any) -> T:
    """Calls a function in the first process, then in the others, who find what it cached.

    They wait as long as a data set may take to prepare: a sum over all would give up before.
    """
    if world() == 1:
        return function(*args)
    turn = f"turn-{next(_turns)}"
    if not is_first():
        _store.wait([turn], PREPARING)
    result = function(*args)
    if is_first():
        _store.set(turn, "done")
    return result


# -- one network ----------------------------------------------------------------------------------


def share(count: int) -> tuple[slice, float]:
    """This process's rows of a batch of ``count`` faces, and the part of the batch they stand for.

    Shares differ by one face at most. Where they would be of less than two faces, which BatchNorm
    needs, every process takes the whole batch: the mean over the processes is the same.
    """
    processes, number = world(), rank()
    if count < 2 * processes:
        return slice(0, count), 1 / processes
    first, end = count * number // processes, count * (number + 1) // processes
    return slice(first, end), (end - first) / count


def with_joint_statistics(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, on GPUs with BatchNorm over the faces of all processes.

    On a CPU, where torch has no such BatchNorm, each process normalizes by its own faces, and the
    running statistics are the first one's.
    """
    return synchronized(model) if world() > 1 and device.type == "cuda" else model


def synchronized(model: nn.Module) -> nn.Module:
    """A copy with SyncBatchNorm in place of BatchNorm; its state dict has the same names."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))


def parallel(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over the processes; they start from the first's weights."""
    return DistributedDataParallel(model) if world() > 1 else model
