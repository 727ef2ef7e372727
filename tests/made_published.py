"""A small project with published runs, for the tests of what is published."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from gmelib import listing, published, readme, record
from gmelib.config import Config
from gmelib.evaluate import load_predictions
from gmelib.fields import PRIVATE
from gmelib.metrics import report

BLOCKS = """\
# Results

<!-- ablation: synthetic -->
<!-- end -->

<!-- ablation: rafdb, expw -->
stale
<!-- end -->
"""
SMOKE = [f"params/{name}.yaml" for name in ("base", "synthetic", "smoke")]


def publish_smoke(place: Path, smoke_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes ``place`` a project of its own in which the smoke runs are published."""
    for module in (listing, published, readme, record):
        monkeypatch.setattr(module, "PUBLISHED", place / "outputs" / "published")
    for module in (published, readme):
        monkeypatch.setattr(module, "PROJECT_ROOT", place)
    monkeypatch.setattr(published, "README", place / "README.md")
    monkeypatch.setattr(readme, "PLAN", "params/grids/smoke.yaml")
    monkeypatch.setattr(listing, "PRESETS", ("smoke",))
    for stage in ("teacher", "student", "attention"):
        for folder in (smoke_root / "synthetic" / stage).iterdir():
            published.add(committed_copy(folder, place / "made"))
    (place / "README.md").write_text(BLOCKS)
    write_tables()
    return place


def write_tables() -> None:
    for path, text in published.tables().items():
        path.write_text(text)


def as_committed(folder: Path) -> None:
    """Smoke runs are made from whatever lies in the working tree; published ones must not be."""
    revision = {"commit": "0" * 40, "dirty": False}
    sessions = [
        session | {"revision": revision} for session in facts_of(folder).get("sessions", ())
    ]
    change(folder, revision=revision, **({"sessions": sessions} if sessions else {}))


def committed_copy(folder: Path, place: Path) -> Path:
    """A copy of a smoke run that may be published."""
    copy = shutil.copytree(folder, place / folder.parent.name / folder.name)
    as_committed(copy)
    return copy


def change(folder: Path, **facts) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def published_student(place: Path, name: str) -> Path:
    (folder,) = (place / "outputs/published/synthetic/student").glob(f"*{name}*-s0-*")
    return folder


def facts_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def publish_like(folder: Path, cfg: Config, *, shift: int = 0) -> Path:
    """Another student that got the predictions of the ``shift``-th next face."""
    run = record.Run.open(cfg.replace(out_root=str(record.PUBLISHED)), "student")
    shutil.copytree(folder, run.folder)
    table = load_predictions(folder)
    guesses = ["predicted", *(name for name in table if name.startswith("p_"))]
    table[guesses] = np.roll(table[guesses].to_numpy(), shift, axis=0)
    table = table.astype({"predicted": int})
    table.to_parquet(run.folder / "predictions.parquet", index=False)
    change(
        run.folder,
        run=run.id,
        config=cfg.model_dump(mode="json", exclude=PRIVATE),
        metrics=report(table, resamples=cfg.resamples),
    )
    return run.folder


def table_after(text: str, heading: str = "") -> dict[str, dict[str, str]]:
    """The first Markdown table after a heading or mark: first column -> column -> text."""
    lines = iter(text[text.index(heading) :].splitlines())
    names = _cells(next(line for line in lines if line.startswith("|")))
    rows = [_cells(line) for line in _while_table(lines)][1:]
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _while_table(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line
