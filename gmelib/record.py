"""The record of a run: its folder, its lock, where it came from, and the index of all runs.

A run lies in ``<out_root>/<dataset>/<stage>/<name>-s<seed>-<hash>/`` or, once published, in
``outputs/published/<dataset>/<stage>/...``. ``run.json`` is written last and atomically: a folder
without it is an unfinished run, whatever else it holds.
"""

import io
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from gmelib import lock
from gmelib.config import PROJECT_ROOT, Config, InputError, resolve
from gmelib.fields import PRIVATE

PUBLISHED = PROJECT_ROOT / "outputs" / "published"
MIME = "application/vnd.gmelib.run+json"  # tells gmelib.run which folder a notebook worked on
PACKAGES = (
    "gmelib", "torch", "torchvision", "numpy", "pandas", "scikit-learn", "captum", "pillow",
    "papermill", "pydantic",
)  # fmt: skip


# -- files ----------------------------------------------------------------------------------------


KEPT = "set out_root to another folder, then start again: finished epochs are kept"


def write_atomic(path: Path, data: bytes, *, advice: str = KEPT) -> None:
    """Writes a file so that it is either whole or not there; :class:`InputError` if it cannot,
    with the advice what to do besides freeing space."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error, advice=advice) from error


def unwritable(path: Path, error: OSError, *, advice: str = KEPT) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); expected a writable folder with "
        f"free space; free some or {advice}"
    )


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined figure is null."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# -- provenance -----------------------------------------------------------------------------------


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def code_revision() -> dict[str, Any]:
    """Git commit and whether the code differs from it; nulls where git or its folder is absent."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *args], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--", "gmelib", "notebooks", "params")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


# -- a run's folder -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run's configuration, stage (``teacher``, ``student``, ...) and folder."""

    cfg: Config
    stage: str
    folder: Path

    @classmethod
    def open(cls, cfg: Config, stage: str, **parents: str) -> "Run":
        """The run that these parameters mean: finished, broken or not yet begun.

        A finished one is also looked for under outputs/published/. ``parents`` (such as an
        explicitly named teacher) count into the hash.
        """
        name = f"{_readable_name(cfg, stage)}-s{cfg.seed}-{cfg.digest(stage, **parents)}"
        place = Path(cfg.dataset) / stage / name
        own = cls(cfg, stage, cfg.path("out_root") / place)
        published = cls(cfg, stage, PUBLISHED / place)
        return published if published.is_done and not own.is_done and not cfg.force else own

    @property
    def workplace(self) -> Path:
        """Where a notebook about this run may write; see :func:`workplace_of`."""
        return workplace_of(self.folder, self.cfg.path("out_root"))

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def is_done(self) -> bool:
        return (self.folder / "run.json").is_file()

    @property
    def is_begun(self) -> bool:
        return (self.folder / "last.pt").is_file()

    @property
    def state(self) -> str:
        return "done" if self.is_done else "broken" if self.is_begun else "missing"

    @property
    def _lock(self) -> Path:
        return self.folder / "lock.json"

    @property
    def holder(self) -> str | None:
        """Who works in the folder, if a living process does."""
        return lock.holder(self._lock)

    @property
    def label(self) -> str:
        """The folder as a person would type it: relative to the project where it lies inside."""
        try:
            return str(self.folder.relative_to(PROJECT_ROOT))
        except ValueError:
            return str(self.folder)

    def facts(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            InputError: the run is not finished, or another run's record lies in its folder.
        """
        facts = read_facts(self.folder)
        if facts["run"] != self.id:
            raise InputError(
                f"{self.folder / 'run.json'}: is the record of run {facts['run']}, expected "
                f"{self.id}; put it back where it belongs or delete it"
            )
        return facts

    def finish(self, **facts: Any) -> None:
        """Writes run.json, the only sign that a run is finished."""
        write_json(
            self.workplace / "run.json",
            {
                "run": self.id,
                "dataset": self.cfg.dataset,
                "stage": self.stage,
                "config": self.cfg.model_dump(mode="json", exclude=PRIVATE),
                "finished": now(),
                "revision": code_revision(),
                "versions": versions(),
            }
            | facts,
        )

    def note_other_code(self) -> None:
        """Says so when the code that made a finished run is not the code that reads it."""
        made, here = self.facts()["revision"]["commit"], code_revision()["commit"]
        if made and here and made != here:
            print(
                f"note: {self.id} was made by code revision {made[:8]}, this is {here[:8]}; "
                "force = True makes it again"
            )

    def save_figure(self, figure: Any, name: str) -> Any:
        """Writes a figure to ``figures/<name>.png`` and gives it back, for a cell to show."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write_atomic(self.workplace / "figures" / f"{name}.png", buffer.getvalue())
        return figure

    def announce(self) -> None:
        """Shows the run's folder in a notebook and leaves it there for ``gmelib.run`` to read."""
        from IPython.display import display

        text = f"run folder: {self.label}"
        display({"text/plain": text, MIME: {"run_dir": str(self.folder)}}, raw=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process (JupyterLab, papermill, a batch) out of the folder meanwhile.

        Raises:
            InputError: if a living process holds it, or if the folder cannot be written.
        """
        try:
            lock.take(self._lock)  # counts, so that a caller further up may hold it
        except OSError as error:
            raise unwritable(self._lock, error) from error
        try:
            yield
        finally:
            lock.release(self._lock)


def _readable_name(cfg: Config, stage: str) -> str:
    parts = [cfg.method]
    if cfg.attention != "dbam":
        parts.append(cfg.attention)
    if not cfg.global_branch:
        parts.append("local")
    if stage == "student":
        parts += [f"{cfg.lr_size}px", f"kd{cfg.kd_weight:g}" if cfg.kd_weight else "nokd"]
        if cfg.train_on != "lr":
            parts.append(cfg.train_on.replace("+", ""))  # a plus means a blank in links
    elif stage == "ablation":
        parts.append(f"{cfg.lr_size}px")
    elif stage == "data":
        parts = [f"{cfg.lr_size}px", cfg.kernel]
    return "-".join(parts)


FACTS = {"run", "dataset", "stage", "config"}  # what every record holds


def workplace_of(folder: Path, out_root: Path) -> Path:
    """Where what shows a run is written: its folder, but a published run is only read.

    What is published was looked at (it holds no photograph that may not be handed on), so what
    shows it lands at the same place under ``out_root``.
    """
    return out_root / folder.relative_to(PUBLISHED) if PUBLISHED in folder.parents else folder


def read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        facts = json.loads(path.read_text())
        if not isinstance(facts, dict) or not FACTS <= facts.keys():
            raise ValueError(f"expected the facts {', '.join(sorted(FACTS))}")
        return facts
    except FileNotFoundError:
        raise InputError(
            f"{folder}: holds no run.json, so it is no finished run; start its notebook again"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable as a run record ({error}); restore it or delete the folder"
        ) from None


# -- all runs -------------------------------------------------------------------------------------


def record_paths(out_root: str | Path = "outputs") -> list[Path]:
    """The run.json of every finished run: own ones first, then the published."""
    own = [p for p in resolve(out_root).glob("*/*/*/run.json") if PUBLISHED not in p.parents]
    return sorted(own) + sorted(PUBLISHED.glob("*/*/*/run.json"))


def load_runs(out_root: str | Path = "outputs") -> pd.DataFrame:
    """Every finished run under ``out_root`` and outputs/published/, one a row.

    Columns: run, dataset, stage, folder, published, every parameter, and the test metrics as
    ``accuracy``, ... (all test faces) and ``accuracy_without_duplicates``, ... A run that lies in
    both places is listed once, as published.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path in record_paths(out_root):
        facts = read_facts(path.parent)
        row = {"run": facts["run"], "dataset": facts["dataset"], "stage": facts["stage"]}
        key = (row["dataset"], row["stage"], row["run"])
        row |= {"folder": path.parent, "published": PUBLISHED in path.parents} | facts["config"]
        for scope, suffix in (("all", ""), ("without_duplicates", "_without_duplicates")):
            for metric, value in facts.get("metrics", {}).get(scope, {}).items():
                row[metric + suffix] = value["value"]
        rows[key] = row
    return pd.DataFrame(list(rows.values()))
