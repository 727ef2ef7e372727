"""Where and how a run computes: device, precision, threads, deterministic algorithms."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gmelib.config import Config, InputError


def pick_device(name: str) -> torch.device:
    """``auto`` is the first GPU, else the CPU; :class:`InputError` for one that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"parameter device = {name!r}: not usable here ({str(error).splitlines()[0]}); "
            "expected auto, cpu, cuda, cuda:<n> or mps"
        ) from None


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU (mps)"
    try:
        with open("/proc/cpuinfo") as file:
            models = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
    except OSError:
        models = []
    return f"{models[0] if models else 'CPU'}, {torch.get_num_threads()} threads"


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        name = "bfloat16" if has_bfloat16 else "float32"
    return getattr(torch, name)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def reproducible(cfg: Config) -> Iterator[None]:
    """Threads and deterministic algorithms as the configuration says; restored afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_num_threads(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, and costs time
    torch.use_deterministic_algorithms(cfg.deterministic, warn_only=True)
    if cfg.num_threads:
        torch.set_num_threads(cfg.num_threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_num_threads(before[2])
        torch.utils.deterministic.fill_uninitialized_memory = before[3]
