"""Rows of the ablation and sweeps: what each changes, and that runs are called by their rows."""

import pytest
import tiny

from gmelib import paper
from gmelib.config import Config
from gmelib.variants import ROWS, SWEEPS, row_config, row_of, sweep_configs


def test_rows_are_those_of_the_paper_and_one_more():
    assert set(ROWS) - set(paper.ABLATION) == {"DBAM without KD"}
    assert set(paper.ABLATION) <= set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_run_is_called_by_its_row(row):
    cfg = row_config(tiny.config(), row)
    assert row_of(cfg.model_dump(), "student") == row
    assert row_of(cfg.model_dump(), "teacher") == "teacher"


def test_what_is_no_row_is_described():
    cfg = tiny.config(attention="cbam", kd_weight=0)
    assert row_of(cfg.model_dump(), "student") == "CBAM+GM without KD"


def test_a_row_changes_only_what_it_says():
    cfg = tiny.config(kd_weight=3.0, seed=4)
    for row, changes in ROWS.items():
        made = row_config(cfg, row, seed=9).model_dump()
        assert made == cfg.model_dump() | changes | {"seed": 9}


def test_rows_have_teachers_of_their_own_attention():
    cfg = Config.load("params/base.yaml", "params/fer2013.yaml", "params/cpu.yaml")
    distilled = [row for row, changes in ROWS.items() if "kd_weight" not in changes]
    digests = {row: row_config(cfg, row).teacher().digest("teacher") for row in distilled}
    assert len(set(digests.values())) == len(distilled) == 3
    assert digests["GME-Net"] == cfg.teacher().digest("teacher")


def test_rows_refuse_what_they_cannot_mean():
    assert "expected one of Baseline, " in tiny.refusal(row_config, tiny.config(), "Basline")
    line = tiny.refusal(row_config, tiny.config(kd_weight=0), "Baseline+CBAM")
    assert "'Baseline+CBAM' is distilled" in line


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_holds_the_presets_own_value(name):
    cfg = Config.load("params/base.yaml", "params/fer2013.yaml", "params/cpu.yaml")
    made = sweep_configs(cfg, name, epochs=3)
    own = getattr(cfg, name)
    assert own in made and len(made) >= 2
    assert made[own] == cfg.replace(epochs=3)
    for value, one in made.items():
        assert one == cfg.replace(**{name: value}, epochs=3)


def test_a_parameter_that_is_not_swept_is_refused():
    line = tiny.refusal(sweep_configs, tiny.config(), "momentum", epochs=1)
    assert "'momentum'" in line and "kd_weight" in line
