"""What the command lines take: YAML files by ``-f``, names with values by ``-p``."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gmelib.config import read_yaml, resolve


def read_parameters(overlays: Sequence[str], pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Merges YAML files (later wins) and ``-p`` pairs (over all; values read as YAML would).

    Raises:
        InputError: a file is missing or is no mapping.
    """
    merged: dict[str, Any] = {}
    for overlay in overlays:
        merged |= read_yaml(existing(overlay))
    return merged | {name: _value(text) for name, text in pairs}


def _value(text: str) -> Any:
    try:
        return float(text) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text) else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def existing(path: str) -> Path:
    """Paths count from the working folder, else from the project root."""
    return Path(path).resolve() if Path(path).exists() else resolve(path)
