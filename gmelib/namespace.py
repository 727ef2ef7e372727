"""A notebook's ``globals()`` as parameters: what was given, what can only be a misspelling, and how
what cannot be used is answered.
"""

import ast
import difflib
import os
from collections.abc import Collection, Mapping
from typing import Any

import yaml


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


# -- values and answers ---------------------------------------------------------------------------


def as_list(value: Any) -> Any:
    """Plain papermill hands on ``-p seeds "[0, 1]"`` as text, and ``-p seeds 0`` as a number."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError("expected a list, as [a, b]") from None
    return [value] if isinstance(value, str | int) else value


def as_files(value: Any) -> Any:
    """One file may stand alone, and `overlays:` without any, or ``-p overlays ""``, mean none."""
    return [] if value is None or value == "" else as_list(value)


def as_mapping(value: Any) -> Any:
    """Plain papermill hands on ``-p method_options "{depth: 18}"`` as text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError("expected a mapping, as {name: value}") from None
    return value


def unknown(name: str, known: Collection[str]) -> str:
    """The answer to a parameter that there is not."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return (
        f"unknown parameter {name!r}: did you mean {near!r}? "
        "(papermill --help-notebook notebooks/02_teacher.ipynb lists all)"
    )


def refusal(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in a line that names the parameter and its value."""
    where = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":  # the last entries of a list
        return f"parameter {error['loc'][0]} = {list(error['input'])!r}: has too few values"
    if not where:
        return message
    return f"parameter {where} = {error['input']!r}: {message[0].lower()}{message[1:]}"
