"""What a face costs each network: Table 1's columns by its own count, and times measured here."""

from collections.abc import Iterable
from math import nan
from statistics import median

import pandas as pd
import torch
from tqdm.auto import tqdm

from gmelib import paper
from gmelib.compute import pick_device
from gmelib.config import Config
from gmelib.evaluate import complexity, throughput
from gmelib.methods import METHODS, build_model, title_of
from gmelib.variants import ENTRIES, FEW_LABELS, compared_config

# Table 1's counts come out at the authors' own input, but for Ada-CM, whose authors use 224.
COUNTED_AT = {"gmenet": 112, "ma_net": 224, "ada_cm": 112, "eac": 224, "poster": 224,
              "diversified": 224}  # fmt: skip
TABLE_1_CLASSES = 7


def full_size_costs() -> pd.DataFrame:
    """Parameters and MACs of the full networks, by thop as in Table 1, and the true ones beside.

    The true parameters are all of the network's; thop leaves out those that are not in a module
    which ``forward`` calls, as POSTER's position embedding and its trunk's unused output layer.

    Returns:
        indexed by method's title, in millions and billions: input (px), parameters (thop),
        parameters (paper), MACs (thop), MACs (paper), parameters (true), MACs (torch). Thop's are
        NaN where it is not installed (the extra ``complexity``).
    """
    lines = {}
    for method, side in COUNTED_AT.items():
        cfg = Config.make(method=method, input_size=side)
        with torch.random.fork_rng(devices=[]):
            costs = complexity(build_model(cfg, TABLE_1_CLASSES), side)
        parameters, macs = paper.COSTS[method]
        lines[METHODS[method].title] = {
            "input": side,
            "parameters (thop)": costs.get("parameters_thop", nan) / 1e6,
            "parameters (paper)": parameters,
            "MACs (thop)": costs.get("macs_thop", nan) / 1e9,
            "MACs (paper)": macs,
            "parameters (true)": costs["parameters"] / 1e6,
            "MACs (torch)": costs["macs"] / 1e9,
        }
    return pd.DataFrame(lines).T.rename_axis("method").astype({"input": int})


def measured_speed(
    students: Iterable[Config], classes: int, *, batch_size: int = 64, rounds: int = 3
) -> pd.DataFrame:
    """How fast the networks are on this machine: the network alone, random weights.

    All are measured in turn, several times over, so that what else the machine does meets all.

    Args:
        students: configurations; one of each network counts.
        classes: number of expressions.
        batch_size: faces of a batch, for the throughput.

    Returns:
        indexed by title: "input" (px), "parameters, M", "MACs, G" (torch's count), "faces/s" (of a
        batch), "latency, ms" (of a single face); the last two are medians over the rounds.
    """
    chosen = {title_of(cfg): cfg for cfg in students}
    device = pick_device(next(iter(chosen.values())).device)
    seen: dict[str, list[tuple[float, float]]] = {title: [] for title in chosen}
    lines = {}
    for _ in tqdm(range(rounds), desc="rounds", unit="round"):
        for title, cfg in chosen.items():
            with torch.random.fork_rng(devices=[]):
                model = build_model(cfg, classes).eval().to(device)
            if title not in lines:
                costs = complexity(model, cfg.input_size)
                lines[title] = {"input": cfg.input_size, "parameters, M": costs["parameters"] / 1e6,
                                "MACs, G": costs["macs"] / 1e9}  # fmt: skip
            batch = throughput(model, cfg.input_size, batch_size=batch_size, repeats=1)
            single = throughput(model, cfg.input_size, batch_size=1, repeats=5)
            seen[title].append((batch, 1000 / single))
    for title, pairs in seen.items():
        batches, singles = zip(*pairs, strict=True)
        lines[title] |= {"faces/s": median(batches), "latency, ms": median(singles)}
    return pd.DataFrame(lines).T.rename_axis("method").astype({"input": int})


def preset_networks(cfg: Config) -> list[Config]:
    """One student of every method of ``cfg.methods`` (all where empty), in its preset's size."""
    asked = [method for method in cfg.methods or ENTRIES if method != FEW_LABELS]
    return [compared_config(cfg, method, "lr") for method in asked]
