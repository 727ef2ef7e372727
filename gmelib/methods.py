"""The registry of methods: from a configuration to a network and what it minimizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from gmelib import namespace as ns
from gmelib.batches import See
from gmelib.config import Config, InputError
from gmelib.model import GMENet, Output
from gmelib.objective import Objective, Options
from gmelib.peers.ada_cm import AdaCMObjective, AdaCMOptions, build_ada_cm
from gmelib.peers.diversified import DiversifiedObjective, DiversifiedOptions, build_diversified
from gmelib.peers.eac import EACObjective, EACOptions, build_eac
from gmelib.peers.ma_net import MANetObjective, MANetOptions, build_ma_net
from gmelib.peers.plain import build_mobilenet_v3_small, build_resnet18
from gmelib.peers.poster import POSTERObjective, POSTEROptions, build_poster


class GMENetOptions(Options):
    """GME-Net has none: its choices are parameters of their own."""


def build_gmenet(cfg: Config, options: GMENetOptions, classes: int) -> GMENet:
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


@dataclass(frozen=True)
class Method:
    """A network, how it is trained, and what people call it."""

    title: str
    build: Callable[[Config, Any, int], nn.Module]
    options: type[Options] = Options
    objective: type[Objective] = Objective


METHODS: dict[str, Method] = {
    "gmenet": Method("GME-Net", build_gmenet, GMENetOptions),
    "ma_net": Method("MA-Net", build_ma_net, MANetOptions, MANetObjective),
    "ada_cm": Method("Ada-CM", build_ada_cm, AdaCMOptions, AdaCMObjective),
    "eac": Method("EAC", build_eac, EACOptions, EACObjective),
    "poster": Method("POSTER", build_poster, POSTEROptions, POSTERObjective),
    "diversified": Method(
        "Heidari et al.", build_diversified, DiversifiedOptions, DiversifiedObjective
    ),
    "resnet18": Method("ResNet-18", build_resnet18),
    "mobilenet_v3_small": Method("MobileNetV3-small", build_mobilenet_v3_small),
}
FULL_WIDTH, FULL_BLOCKS = 32, (3, 4, 14, 3)  # GME-Net's (4.1)


def options_of(cfg: Config) -> Any:
    """The method's own options, checked.

    Raises:
        InputError: naming the option and what was expected.
    """
    kind = METHODS[cfg.method].options
    unknown = [name for name in cfg.method_options if name not in kind.model_fields]
    if unknown:
        known = ", ".join(kind.model_fields) or "none"
        raise InputError(
            f"parameter method_options: {cfg.method} has no {unknown[0]!r}; expected of: {known}"
        )
    try:
        return kind(**cfg.method_options)
    except ValidationError as error:
        refused = "; ".join(map(ns.refusal, error.errors()))
        raise InputError(f"method_options of {cfg.method}: {refused}") from None


def title_of(cfg: Config) -> str:
    """The method's name; a network smaller than its authors' bears "-cpu"."""
    if cfg.method == "gmenet":
        reduced, note = (cfg.width, cfg.blocks) != (FULL_WIDTH, FULL_BLOCKS), ""
    else:
        options = options_of(cfg)
        reduced, note = getattr(options, "is_reduced", False), getattr(options, "note", "")
    name = METHODS[cfg.method].title + ("-cpu" if reduced else "")
    return f"{name} ({note})" if note else name


def build_model(cfg: Config, classes: int) -> nn.Module:
    """The network that ``cfg`` describes, for so many classes, with fresh random weights.

    Its ``forward`` takes (N, 3, input_size, input_size) in [-1, 1] and returns a
    :class:`gmelib.model.Output`.
    """
    return METHODS[cfg.method].build(cfg, options_of(cfg), classes)


def make_objective(
    cfg: Config,
    classes: int,
    see: See,
    *,
    teacher: Callable[[Tensor], Output] | None = None,
) -> Objective:
    """What ``cfg``'s method minimizes; see :class:`gmelib.objective.Objective`."""
    kind = METHODS[cfg.method].objective
    return kind(cfg, options_of(cfg), classes, see, teacher=teacher)


def passes_of(cfg: Config) -> float:
    """Forward-backward passes of the network for a face that is presented."""
    return METHODS[cfg.method].objective.views * (2 if cfg.sam_rho else 1)
