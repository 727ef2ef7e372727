"""A notebook's ``globals()`` as parameters: what was given, and what can only be a misspelling."""

import ast
import os
from collections.abc import Collection, Mapping
from typing import Any


def injected(namespace: Mapping[str, Any]) -> set[str]:
    """The names that papermill's cell, which it puts after `parameters`, has assigned."""
    cells = [source for source in namespace.get("In", ()) if source.startswith("# Parameters\n")]
    nodes = [node for source in cells for node in ast.parse(source).body]
    return {t.id for n in nodes if isinstance(n, ast.Assign) for t in n.targets if hasattr(t, "id")}


def strays(namespace: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Names of plain values that are no parameter; in a fresh kernel each is a misspelt one."""
    return [name for name, value in namespace.items() if _is_stray(name, value, known)]


def _is_stray(name: str, value: Any, known: Collection[str]) -> bool:
    if name.startswith("_") or name in ("In", "Out") or name.startswith("PAPERMILL_"):
        return False
    plain = isinstance(value, str | int | float | bool | list | dict | tuple | None)
    return plain and name not in known


def is_interactive(namespace: Mapping[str, Any]) -> bool:
    """A Jupyter session, or a kernel in which more cells ran than the two or three before this."""
    return "JPY_SESSION_NAME" in os.environ or len(namespace.get("In", ())) > 5
