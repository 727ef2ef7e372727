"""Estimated hours: from the speed of finished runs, in proportion to faces, epochs and MACs."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from gmelib import estimate, record
from gmelib.estimate import estimated_hours
from gmelib.methods import build_model


def about(hours: float):
    return pytest.approx(hours, rel=0.01)  # the estimate counts a network of 7 classes


@pytest.fixture
def only(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An outputs folder with one finished teacher that took exactly an hour, nothing published."""
    monkeypatch.setattr(record, "PUBLISHED", root / "published")
    estimate._experience.cache_clear()
    shutil.rmtree(root / "synthetic" / "student")
    (path,) = root.glob("synthetic/teacher/*/run.json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"wall_seconds": 3600.0}))
    return root


def test_the_same_run_again_takes_as_long(only):
    cfg = tiny.config(only, drawn_train=tiny.SIZES["train"])
    assert estimated_hours(cfg.teacher(), "teacher") == about(1.0)


def test_hours_grow_with_epochs_faces_and_the_teachers_pass(only):
    cfg = tiny.config(only, drawn_train=tiny.SIZES["train"])
    assert estimated_hours(cfg.replace(epochs=6).teacher(), "teacher") == about(3.0)
    assert estimated_hours(cfg.replace(limit_train=16).teacher(), "teacher") == about(0.5)
    assert estimated_hours(cfg, "student") == about(4 / 3)
    assert estimated_hours(cfg.replace(kd_weight=0), "student") == about(1.0)


def test_hours_grow_with_the_networks_cost(only):
    cfg = tiny.config(only, drawn_train=tiny.SIZES["train"]).teacher()
    local = cfg.replace(global_branch=False)

    def macs(one):
        with FlopCounterMode(display=False) as counter:
            build_model(one, len(tiny.CLASSES)).eval()(torch.zeros(1, 3, 32, 32))
        return counter.get_total_flops() // 2

    ratio = estimated_hours(local, "teacher") / estimated_hours(cfg, "teacher")
    assert ratio == pytest.approx(macs(local) / macs(cfg), rel=0.01)
    assert ratio < 1


def test_nothing_is_told_without_experience(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    estimate._experience.cache_clear()
    assert estimated_hours(tiny.config(tmp_path), "student") is None
    assert estimated_hours(tiny.config(tmp_path, dataset="folder"), "student") is None


def test_a_damaged_record_tells_nothing_and_stops_nothing(only):
    cfg = tiny.config(only, drawn_train=tiny.SIZES["train"])
    before = estimated_hours(cfg, "student")
    (path,) = only.glob("synthetic/teacher/*/run.json")
    facts = json.loads(path.read_text())
    for change in ({"data": {}}, {"data": None}, {"sessions": 1}, {"config": {"x": 1}}, {}):
        damaged = path.parent.with_name("run-b") / "run.json"
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_text(json.dumps(facts | change) if change else "{")
        estimate._experience.cache_clear()
        assert estimated_hours(cfg, "student") == before
