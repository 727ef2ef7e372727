"""How long a run would take, from how long finished runs took.

A training step costs a forward and a backward pass, about three times the forward's
multiply-accumulates (MACs), for every view of a face that its method takes, and one more forward
pass of the teacher where there is one. Finished runs say how many MACs a second were reached.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gmelib.batches import presentations
from gmelib.compute import pick_device
from gmelib.config import Config, InputError
from gmelib.fields import ARCHITECTURE
from gmelib.methods import build_model, passes_of
from gmelib.record import read_facts, record_paths

# Training faces before a run has counted them
TRAIN_FACES = {"fer2013": 28_709, "ferplus": 26_940, "rafdb": 11_045}


def estimated_hours(run_cfg: Config, stage: str) -> float | None:
    """Expected training time of a run, in hours; None where no finished run tells.

    Told by the finished runs (own and published) on the kind of device that this run would use; the
    number of training faces is that of a finished run of the same data set.

    Args:
        run_cfg: the run's own configuration.
        stage: ``teacher`` or ``student``.
    """
    kind = pick_device(run_cfg.device).type
    speeds, faces = _experience(tuple(record_paths(run_cfg.out_root)), kind)
    if run_cfg.dataset == "synthetic":
        faces = {"synthetic": run_cfg.drawn_train}
    count = run_cfg.limit_train or (TRAIN_FACES | faces).get(run_cfg.dataset)
    if not speeds or not count:
        return None
    macs = passes(run_cfg, stage) * _forward_macs(run_cfg)
    return count * run_cfg.epochs * macs / speeds / 3600


def passes(cfg: Config, stage: str) -> float:
    """What training on a face of the data set costs in an epoch, in forward passes."""
    teacher = 1 if stage == "student" and cfg.kd_weight else 0
    return presentations(cfg, stage, 1) * (3 * passes_of(cfg) + teacher)


def _forward_macs(cfg: Config) -> int:
    return _counted(json.dumps(cfg.model_dump(mode="json", include=set(ARCHITECTURE))))


@lru_cache(maxsize=64)
def _counted(architecture: str) -> int:
    cfg = Config.make(**json.loads(architecture))
    with torch.random.fork_rng(), torch.device("meta"):
        model = build_model(cfg, 7).eval()
        face = torch.empty(1, 3, cfg.input_size, cfg.input_size)
        with FlopCounterMode(display=False) as counter:
            model(face)
    return counter.get_total_flops() // 2


@lru_cache(maxsize=4)
def _experience(paths: tuple, kind: str) -> tuple[float, dict[str, int]]:
    """MACs a second (median; 0 if unknown) and training faces of every data set."""
    speeds, faces = [], {}
    for path in paths:
        # a damaged record tells nothing here; whoever needs its run says so
        with suppress(InputError, LookupError, TypeError, AttributeError):
            facts = read_facts(path.parent)
            if facts["stage"] not in ("teacher", "student") or "sessions" not in facts:
                continue
            cfg = Config.make(**facts["config"])
            count, speed = _told(facts, cfg, kind)
            faces[cfg.dataset] = count
            speeds += [speed] if speed else []
    return (median(speeds) if speeds else 0.0), faces


def _told(facts: Mapping[str, Any], cfg: Config, kind: str) -> tuple[int, float | None]:
    """A record's training faces, and its MACs a second if it ran on that kind of device."""
    count = sum(facts["data"]["counts"]["train"].values())
    on_gpu = all(" threads" not in session["device"] for session in facts["sessions"])
    if on_gpu != (kind != "cpu") or facts["wall_seconds"] <= 0:
        return count, None
    seen = min(count, cfg.limit_train or count) * cfg.epochs
    macs = passes(cfg, facts["stage"]) * facts["complexity"]["macs"]
    shared = facts["sessions"][-1].get("processes", 1)
    return count, seen * macs / facts["wall_seconds"] / shared
