"""The learning rate of every step (paper 4.1, and what a short run on a CPU needs)."""

import math

from gmelib.config import Config


def learning_rate_at(cfg: Config, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0); a pure function, so resuming needs no state.

    ``step``: x decay every decay_every epochs (4.1); an epoch on both resolutions counts as two,
    for it presents every face twice. ``cosine``: to 0 over all epochs.
    ``onecycle``: from a 25th up to ``learning_rate`` over the first 30 %, then down to 0, both
    along a cosine (Smith and Topin 2018).
    """
    if cfg.schedule == "step":
        views = 2 if cfg.train_on == "lr+hr" else 1
        return cfg.learning_rate * cfg.decay ** (views * step // steps_per_epoch // cfg.decay_every)
    progress = step / (cfg.epochs * steps_per_epoch)
    if cfg.schedule == "cosine":
        return cfg.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    if progress < 0.3:
        start = cfg.learning_rate / 25
        return start + (cfg.learning_rate - start) * (1 - math.cos(math.pi * progress / 0.3)) / 2
    return cfg.learning_rate * (1 + math.cos(math.pi * (progress - 0.3) / 0.7)) / 2
