"""The registry of methods: from a configuration to a network."""

from collections.abc import Callable

from torch import nn

from gmelib.config import Config
from gmelib.model import GMENet


def build_gmenet(cfg: Config, classes: int) -> GMENet:
    return GMENet(
        classes=classes,
        input_size=cfg.input_size,
        width=cfg.width,
        blocks=cfg.blocks,
        global_blocks=cfg.global_blocks,
        attention=cfg.attention,
        global_branch=cfg.global_branch,
        head=cfg.head,
        reduction=cfg.reduction,
        dbam_kernel=cfg.dbam_kernel,
        mcb_order=cfg.mcb_order,
        dropout=cfg.dropout,
    )


METHODS: dict[str, Callable[[Config, int], nn.Module]] = {"gmenet": build_gmenet}


def build_model(cfg: Config, classes: int) -> nn.Module:
    """The network that ``cfg`` describes, for so many classes, with fresh random weights.

    Its ``forward`` takes (N, 3, input_size, input_size) in [-1, 1] and returns a
    :class:`gmelib.model.Output`.
    """
    return METHODS[cfg.method](cfg, classes)
