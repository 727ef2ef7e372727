"""Rows at several learning rates: which runs stand side by side, and what is said of them."""

import pytest
import tiny
from made_runs import finish, first

from gmelib import ablation, listing, readme
from gmelib.variants import row_config

ROWS = ("Baseline", "DBAM without KD")


def trained(cfg, row, rate, accuracy, **values):
    student = row_config(cfg, row, seed=values.pop("seed", 0))
    finish(student.replace(learning_rate=rate, **values), first(90), validation=accuracy)


@pytest.fixture
def cfg(tmp_path):
    """Two rows at two rates with two seeds, 2 epochs long; attention is better at the low rate."""
    cfg = tiny.config(tmp_path, learning_rate=0.1)
    for seed in (0, 1):
        for row, low, high in zip(ROWS, (0.5, 0.62), (0.6, 0.4), strict=True):
            trained(cfg, row, 0.01, low + seed / 50, seed=seed)
            trained(cfg, row, 0.1, high + seed / 50, seed=seed)
    return cfg


def test_runs_that_differ_in_rate_row_and_seed_are_averaged_over_the_seeds(cfg):
    table = ablation.rate_scores(cfg)
    assert set(table.index.get_level_values("training")) == {"all faces, 2 epochs"}
    found = table.droplevel("training")
    assert found["accuracy"].to_dict() == pytest.approx(
        {(ROWS[0], 0.01): 51, (ROWS[0], 0.1): 61, (ROWS[1], 0.01): 63, (ROWS[1], 0.1): 41}
    )
    assert set(found["seeds"]) == {(0, 1)}


def test_each_length_of_training_is_compared_in_itself(cfg):
    for row in ROWS:
        for rate in (0.01, 0.1):
            trained(cfg, row, rate, 0.3, limit_train=8000, epochs=1)
    trainings = ablation.rate_scores(cfg).index.get_level_values("training")
    assert set(trainings) == {"8,000 faces, 1 epoch", "all faces, 2 epochs"}


@pytest.mark.parametrize(
    "row, changes",
    [
        ("Baseline", {"label_smoothing": 0.1}),  # another preset
        ("Baseline", {"lr_size": 10}),  # another task
        ("Baseline", {"dataset": "fer2013"}),
        ("GME-Net", {"kd_weight": 3.0}),  # not the row: another weight
        ("GME-Net", {}),  # one rate only
        ("Baseline", {"learning_rate": 0.5}),  # one row only has this rate
    ],
)
def test_what_cannot_be_compared_is_left_out(cfg, row, changes):
    before = ablation.rate_scores(cfg)
    trained(cfg, row, changes.pop("learning_rate", 0.01), 0.9, **changes)
    assert ablation.rate_scores(cfg).equals(before)


def test_a_seed_that_a_cell_lacks_is_in_no_cell(cfg):
    before = ablation.rate_scores(cfg)
    trained(cfg, ROWS[0], 0.01, 0.9, seed=2)
    assert ablation.rate_scores(cfg).equals(before)


def test_the_sentences_tell_best_rate_order_and_gains(cfg):
    best, cost, low, high = ablation.rate_sentences(ablation.rate_scores(cfg), cfg)
    assert best.endswith("seed 0, 1: best learning rate: Baseline 0.1, DBAM without KD 0.01.")
    assert cost == "The preset's 0.1 costs, in points: Baseline 0.0, DBAM without KD 22.0."
    assert low == "At 0.01: DBAM without KD (63.0), Baseline (51.0); attention alone +12.0."
    assert high == "At 0.1: Baseline (61.0), DBAM without KD (41.0); attention alone -20.0."


def test_without_such_runs_there_is_nothing_to_say(tmp_path):
    cfg = tiny.config(tmp_path)
    table = ablation.rate_scores(cfg)
    assert table.empty
    assert ablation.rate_sentences(table, cfg) == []


def test_readme_has_a_line_a_row_and_a_column_a_rate(cfg, monkeypatch):
    rows = {("Baseline", 0): row_config(cfg, "Baseline"), ("GME-Net", 0): cfg}
    monkeypatch.setattr(readme, "planned", lambda dataset: rows)
    for rate in (0.01, 0.1):
        for seed in (0, 1):
            trained(cfg, "GME-Net", rate, 0.8, seed=seed)
    monkeypatch.setitem(listing.NAMES, "synthetic", "drawn faces")
    text = readme.filled("<!-- rates: synthetic -->\nold\n<!-- end -->")
    lines = text.splitlines()
    assert lines[1] == "| data set | training | row | 0.01 | 0.1 |"
    assert lines[3] == "| drawn faces | all faces, 2 epochs | Baseline | 51.0 | 61.0 |"
    assert lines[5] == "| drawn faces | all faces, 2 epochs | GME-Net | 80.0 | 80.0 |"
    assert len(lines) == 7 and lines[-1] == "<!-- end -->"
    empty = tiny.config(cfg.path("out_root") / "none")
    monkeypatch.setattr(readme, "planned", lambda dataset: {("Baseline", 0): empty})
    assert "No such run is published." in readme.filled(text)
