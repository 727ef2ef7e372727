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


@pytest.mark.parametrize("train_on", ["hr", "lr+hr"])
def test_a_distilled_student_of_other_faces_is_no_row_and_has_no_figure_of_the_paper(train_on):
    plain = tiny.config(dataset="ferplus", lr_size=paper.LR_SIZES["ferplus"])
    cfg = plain.replace(train_on=train_on)
    assert row_of(cfg.model_dump(), "student") == f"GME-Net, {train_on}, kd"
    assert paper.accuracy_of(plain.model_dump(), "student") == 70.5725
    assert paper.accuracy_of(cfg.model_dump(), "student") is None
    peer = cfg.replace(method="ma_net", kd="logits")
    assert row_of(peer.model_dump(), "student") == f"MA-Net, {train_on}, kd"
    for one in (peer, peer.replace(train_on="lr")):
        assert paper.accuracy_of(one.model_dump(), "student") is None


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
