"""Optimizers by name, and the sharpness-aware step (SAM)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from gmelib.config import Config

T = TypeVar("T")


def make_optimizer(cfg: Config, model: nn.Module) -> Optimizer:
    """``sgd`` (4.1, no nesterov), ``adam`` (L2 penalty in the gradient), ``adamw`` (decoupled)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if cfg.optimizer == "sgd":
        return SGD(parameters, cfg.learning_rate, cfg.momentum, weight_decay=cfg.weight_decay)
    kind = {"adam": Adam, "adamw": AdamW}[cfg.optimizer]
    # fused: twice as fast on a CPU; SGD's copies channels_last weights first and gains nothing
    return kind(parameters, cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True)


def descend(optimizer: Optimizer, backward: Callable[[], T], *, sam_rho: float = 0.0) -> T:
    """One update of the weights.

    Args:
        backward: a forward and a backward pass that adds to the gradients; called twice with SAM.
        sam_rho: radius of the ball in which the loss is to be flat (Foret et al. 2021, eq. 2):
            the gradient is taken at w + rho g / |g|; 0 is a plain step.

    Returns:
        What ``backward`` gave at the weights themselves.
    """
    optimizer.zero_grad(set_to_none=True)
    told = backward()
    if sam_rho:
        with _climbed(optimizer, sam_rho):
            optimizer.zero_grad(set_to_none=True)
            backward()
    optimizer.step()
    return told


@contextmanager
@torch.no_grad()
def _climbed(optimizer: Optimizer, rho: float) -> Iterator[None]:
    """Within, the weights stand rho higher along the gradient; afterwards where they stood."""
    weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    before: list[Tensor] = [p.clone() for p in weights]
    gradients = [p.grad for p in weights]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_add_(weights, torch._foreach_mul(gradients, rho / (norm + 1e-12)))
    try:
        with torch.enable_grad():
            yield
    finally:
        for p, value in zip(weights, before, strict=True):
            p.copy_(value)  # exactly: adding and subtracting would leave a rounding error
