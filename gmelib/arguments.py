"""What the command lines take: YAML files by ``-f``, names with values by ``-p``."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from gmelib.config import InputError, read_yaml, resolve

PLAIN_VALUES = {"True": True, "true": True, "False": False, "false": False, "None": None}


def read_parameters(overlays: Sequence[str], pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Merges YAML files (later wins) and ``-p`` pairs (over all, values read as papermill would).

    Raises:
        InputError: a file is missing or is no mapping, or a list or mapping is not readable.
    """
    merged: dict[str, Any] = {}
    for overlay in overlays:
        merged |= read_yaml(existing(overlay))
    return merged | {name: _value(name, text) for name, text in pairs}


def _value(name: str, text: str) -> Any:
    """As plain papermill reads ``-p``, and besides true, false, lists and mappings as YAML does.

    All else stays as it is typed: YAML would cut "faces #2", and make 8 of 010.
    """
    if text in PLAIN_VALUES:
        return PLAIN_VALUES[text]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter: a date that there is not
        reason = " ".join(str(error).split())
        raise InputError(
            f"-p {name} {text!r}: not readable ({reason}); expected a list, as [a, b], or a "
            "mapping, as {name: value}"
        ) from None


def existing(path: str) -> Path:
    """Paths count from the working folder, else from the project root."""
    return Path(path).resolve() if Path(path).exists() else resolve(path)
