"""Model cards: what a network was made from, how well it does, what it must not be used for.

A card is a function of run.json and model.safetensors alone; every figure in it comes from there,
so :mod:`gmelib.published` makes it again and compares.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from gmelib.card.content import WEIGHTS, card_of, facts_of_network, input_text
from gmelib.card.page import markdown_of
from gmelib.record import write_atomic, write_json

__all__ = [
    "FILES", "WEIGHTS", "card_of", "facts_of_network", "input_text", "markdown_of", "problems_of",
    "write_card",
]  # fmt: skip

JSON, MARKDOWN = FILES = ("model_card.json", "MODEL_CARD.md")


def write_card(run: Path, place: Path | None = None, *, remarks: Iterable[str] = ()) -> Path:
    """Writes both files of a run's card into ``place`` (the run's folder); returns the Markdown.

    Args:
        remarks: sentences to put before the limits, about what lies in ``place``.
    """
    place, card = place or run, card_of(run)
    card["limits"] = [*remarks, *card["limits"]]
    write_json(place / JSON, card)
    write_atomic(place / MARKDOWN, markdown_of(card).encode())
    return place / MARKDOWN


def problems_of(folder: Path) -> list[str]:
    """What is wrong with a run's card; empty where run.json gives it again, or there is none."""
    present = [name for name in FILES if (folder / name).exists()]
    if not present:
        return []
    advice = "write it again: python -m gmelib.card"
    card = card_of(folder)
    try:
        agrees = {
            JSON: json.loads((folder / JSON).read_text()) == json.loads(json.dumps(card)),
            MARKDOWN: (folder / MARKDOWN).read_text(encoding="utf-8") == markdown_of(card),
        }
    except (OSError, ValueError) as error:
        return [f"its model card cannot be read ({type(error).__name__}); {advice}"]
    return [f"{name} is not what run.json gives; {advice}" for name in FILES if not agrees[name]]
