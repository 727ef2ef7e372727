"""The ablation's tables: rows from finished runs, paired contrasts, order, what is missing."""

import itertools

import made_runs
import numpy as np
import pandas as pd
import pytest
import tiny
from made_runs import finish, first
from scipy import stats

from gmelib import ablation
from gmelib.ablation import runs as ablation_runs
from gmelib.config import Config, parameters_cell
from gmelib.metrics import holm, paired_difference, paired_t, seed_interval
from gmelib.variants import ROWS

PAPER_ROWS = [row for row in ROWS if row != "DBAM without KD"]


def fer2013(root, **values) -> Config:
    """Beside the paper's figures; there is no such data set here."""
    own = {"dataset": "fer2013", "lr_size": 12, "data_root": str(root / "no-data")}
    return tiny.config(root / "outputs", **(own | values))


@pytest.fixture
def no_faces(monkeypatch):
    monkeypatch.setattr(ablation_runs, "load_faces", lambda cfg: pytest.fail("loads the data set"))


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ("seeds", [0, 1], [0, 1]),
        ("seeds", "[0, 1]", [0, 1]),
        ("seeds", 2, [2]),
        ("rows", '["GME-Net", "Baseline+GM"]', ["GME-Net", "Baseline+GM"]),
        ("rows", "[GME-Net, Baseline+GM]", ["GME-Net", "Baseline+GM"]),
        ("rows", "DBAM+GM without KD", ["DBAM+GM without KD"]),
        ("sweeps", "[]", []),
    ],
)
def test_a_list_can_be_given_in_one_word(field, given, value):
    """As plain papermill hands on what stands after -p."""
    namespace = {"In": [""], "Out": {}}
    exec(parameters_cell(), namespace)
    cfg = Config.from_namespace(namespace | {"overlays": [], "batch": True, field: given})
    assert getattr(cfg, field) == value


def test_wrong_tables_are_refused_in_a_line(tmp_path):
    cfg = tiny.config(tmp_path)
    assert "at least 1 item" in tiny.refusal(cfg.replace, seeds=[])
    assert "expected a list, as [a, b]" in tiny.refusal(cfg.replace, seeds="[0, 1")
    assert "'Basline'" in tiny.refusal(ablation.row_students, cfg.replace(rows=["Basline"]))
    assert "seed = -1" in tiny.refusal(ablation.row_students, cfg.replace(seeds=[-1]))
    assert "kd_weight is 0" in tiny.refusal(ablation.row_students, cfg.replace(kd_weight=0))
    assert "'width'" in tiny.refusal(ablation.sweep_students, cfg.replace(sweeps=["width"]))
    for wrong in ({"force": True}, {"teacher_run": "outputs/x"}):
        students = ablation.row_students(cfg.replace(**wrong))
        assert next(iter(wrong)) in tiny.refusal(ablation.complete, students, train=True)


def test_rows_stand_in_the_papers_order_whatever_order_they_are_given_in(tmp_path):
    cfg = tiny.config(tmp_path, rows=["GME-Net", "Baseline", "GME-Net"], seeds=[1, 0, 1])
    expected = [("Baseline", 1), ("Baseline", 0), ("GME-Net", 1), ("GME-Net", 0)]
    assert list(ablation.row_students(cfg)) == expected
    assert len(ablation.row_students(tiny.config(tmp_path))) == len(ROWS) == 7


# -- statistics -----------------------------------------------------------------------------------


def test_the_interval_over_seeds_is_students():
    values = [53.0, 51.5, 52.2]
    mean, low, high = seed_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(values), *expected))
    with pytest.raises(ValueError, match="two"):
        seed_interval([1.0])


def test_the_test_over_seeds_is_the_paired_t():
    a, b = [53.0, 51.5, 52.2], [51.0, 51.2, 50.0]
    assert paired_t(np.subtract(a, b)) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_t([1.0]) is None and paired_t([0.1 + 0.2, 0.3]) is None


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferroni(seed):
    """p adjusted: the largest of |S| min(S) over all sets of tests that hold this one."""
    p_values = list(np.random.default_rng(seed).uniform(0, 0.4, 6))
    sets = [s for k in range(1, 7) for s in itertools.combinations(range(6), k)]
    slow = [max(min(1, len(s) * min(p_values[j] for j in s)) for s in sets if i in s)
            for i in range(6)]  # fmt: skip
    assert holm(p_values) == pytest.approx(slow)
    assert holm([0.04, None, 0.01]) == [0.04, None, 0.02] and holm([]) == []


# -- the paper ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "branch_2", "kd"),
    [("rafdb", 1.23, 3.99), ("fer2013", 1.87, 5.66), ("expw", 0.86, 2.29), ("ferplus", 0.68, 4.06)],
)
def test_the_contrasts_are_those_that_the_paper_sums_up(dataset, branch_2, kd):
    found = [ablation.paper_difference(dataset, *ablation.CONTRASTS[n]) for n in ("branch 2", "KD")]
    assert found == pytest.approx([branch_2, kd], abs=0.01)


def test_what_the_paper_lacks_is_blank(tmp_path):
    assert ablation.paper_difference("fer2013", "DBAM without KD", "Baseline") is None
    for cfg in (tiny.config(tmp_path), fer2013(tmp_path, lr_size=16)):
        students = ablation.row_students(cfg)
        cells = made_runs.cells(students, {("GME-Net", 0): first(90)})
        assert ablation.scores(cells)["paper"].isna().all()
        assert "paper, %" not in ablation.scores_shown(cells)
        assert ablation.contrasts(cells)["paper"].isna().all()


# -- rows and contrasts ---------------------------------------------------------------------------


def test_one_seed_has_an_interval_over_faces_and_more_have_one_over_seeds(tmp_path):
    students = ablation.row_students(fer2013(tmp_path, seeds=[0, 1, 2]))
    right = {("GME-Net", s): first(n) for s, n in enumerate((100, 108, 110))}
    right |= {("Baseline", 1): first(80)}
    cells = made_runs.cells(students, right)
    table = ablation.scores(cells)
    several, one = table.loc["GME-Net"], table.loc["Baseline"]
    assert (several["accuracy"], several["low"], several["high"]) == pytest.approx(
        seed_interval([50, 54, 55])
    )
    assert (several["n"], several["over"], several["missing"]) == (3, "seeds", "")
    assert several["difference"] == pytest.approx(53 - 56.6174)
    told = cells["Baseline", 1].run.facts()["metrics"]["all"]["accuracy"]
    assert [one[n] for n in ("accuracy", "low", "high")] == pytest.approx(
        [100 * told[n] for n in ("value", "low", "high")]
    )
    assert (one["n"], one["over"], one["by_seed"]) == (1, "faces", {1: 40.0})
    assert one["missing"] == "not run: seed 0, 2"
    assert pd.isna(table.loc["Baseline+GM", "accuracy"])
    shown = ablation.scores_shown(cells)
    assert shown.loc["Baseline", "interval over"] == "faces (seed 1)"
    assert shown.loc["Baseline+GM"].tolist() == ["", "", "50.33", "", "not run"]


def test_copies_of_training_faces_are_left_out_beside(tmp_path):
    students = ablation.row_students(fer2013(tmp_path))
    right = {("GME-Net", 0): first(100), ("DBAM+GM without KD", 0): first(100) ^ first(30)}
    cells = made_runs.cells(students, right, copies=40)
    assert ablation.scores_shown(cells).loc["GME-Net", "without copies, %"].startswith("37.5 ")
    line = ablation.contrasts(cells).loc["KD"]
    assert line["value"] == pytest.approx(15) and line["clean"] == pytest.approx(0)


def test_a_contrast_is_paired_face_by_face_and_seed_by_seed(tmp_path):
    students = ablation.row_students(fer2013(tmp_path, seeds=[0, 1]))
    rng = np.random.default_rng(0)
    right = {(row, s): rng.random(200) < 0.4 + 0.2 * (row == "GME-Net")
             for row in ROWS for s in (0, 1)}  # fmt: skip
    table = ablation.contrasts(made_runs.cells(students, right))
    slow = {
        name: [paired_difference(*(made_runs.predictions(right[row, s]) for row in pair))
               for s in (0, 1)]
        for name, pair in ablation.CONTRASTS.items()
    }  # fmt: skip
    for name, line in table.iterrows():
        assert list(line["by_seed"].values()) == pytest.approx([100 * d.value for d in slow[name]])
        assert (line["value"], line["low"], line["high"]) == pytest.approx(
            seed_interval([100 * d.value for d in slow[name]])
        )
    for s in (0, 1):
        adjusted = holm([slow[name][s].p_value for name in table.index])
        assert [p[s] for p in table["faces_p"]] == pytest.approx(adjusted)
    over_seeds = holm([paired_t([d.value for d in slow[name]]) for name in table.index])
    assert table["seeds_p"].tolist() == pytest.approx(over_seeds)
    assert table.loc["KD", "paper"] == pytest.approx(5.6561)
    assert table.loc["KD", "verdict"].endswith("with each of 2 seeds")
    assert table.loc["branch 2 alone", "verdict"] == "not shown"


def test_a_contrast_uses_the_seeds_that_both_rows_have(tmp_path):
    students = ablation.row_students(fer2013(tmp_path, seeds=[0, 1]))
    right = {("GME-Net", 0): first(100), ("GME-Net", 1): first(160)}
    right |= {("DBAM+GM without KD", 0): first(70), ("Baseline+DBAM", 1): first(159)}
    cells = made_runs.cells(students, right)
    table = ablation.contrasts(cells)
    assert table["n"].to_dict() == dict.fromkeys(ablation.CONTRASTS, 0) | {"branch 2": 1, "KD": 1}
    only = paired_difference(*(made_runs.predictions(first(n)) for n in (100, 70)))
    line = table.loc["KD"]
    assert [line["value"], line["low"], line["high"]] == pytest.approx(
        [100 * x for x in (only.value, only.low, only.high)]
    )
    assert line["verdict"] == "shown on the faces, with one seed (0)"
    shown = ablation.contrasts_shown(cells)
    assert shown.loc["KD", "paired t p (Holm)"] == "one seed"
    assert shown.loc["branch 2 alone", "verdict"] == "not run"


def test_three_seeds_that_agree_show_it_over_seeds(tmp_path):
    rows = ["GME-Net", "DBAM+GM without KD"]
    students = ablation.row_students(fer2013(tmp_path, seeds=[0, 1, 2], rows=rows))
    right = {(row, s): first(100 + 20 * (row == "GME-Net") + s * (row == "GME-Net"))
             for row in rows for s in range(3)}  # fmt: skip
    (line,) = ablation.contrasts(made_runs.cells(students, right)).itertuples()
    assert line.verdict == "shown over seeds"
    assert line.seeds_p == pytest.approx(stats.ttest_1samp([20, 21, 22], 0).pvalue)


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_compared_pair_by_pair(tmp_path, seed):
    students = ablation.row_students(fer2013(tmp_path))
    numbers = np.random.default_rng(seed).permutation(np.arange(60, 140, 12))
    right = {(row, 0): first(n) for row, n in zip(ROWS, numbers, strict=True)}
    cells = made_runs.cells(students, right)
    table = ablation.scores(cells).loc[PAPER_ROWS]
    tau = stats.kendalltau(table["accuracy"], table["paper"]).statistic
    text = "\n".join(ablation.order(cells))
    assert f"Kendall's tau {tau:.2f};" in text
    swaps = [line for line in text.splitlines() if line.startswith("Swapped")]
    assert len(swaps) == round(15 * (1 - tau) / 2)
    for line in swaps:  # 12 faces or more of 200, all one way: p < 0.001
        assert line.endswith("shown on the faces, with one seed (0).")


def test_a_swap_that_chance_explains_is_not_shown(tmp_path):
    students = ablation.row_students(fer2013(tmp_path, rows=["GME-Net", "Baseline"]))
    cells = made_runs.cells(students, {("GME-Net", 0): first(100), ("Baseline", 0): first(102)})
    assert ablation.order(cells)[-1] == (
        "Swapped: Baseline above GME-Net by 1.0 points: not shown."
    )


def test_without_the_papers_rows_there_is_no_order_to_compare(tmp_path):
    students = ablation.row_students(tiny.config(tmp_path))
    assert "no order to compare" in ablation.order(made_runs.cells(students, {}))[-1]


# -- what is there and what is missing ------------------------------------------------------------


def test_finished_runs_need_no_data_set(tmp_path, no_faces):
    cfg = fer2013(tmp_path, rows=["GME-Net", "Baseline"])
    students = ablation.row_students(cfg)
    made_runs.cells(students, dict.fromkeys(students, first(100)))
    assert all(cell.is_done for cell in ablation.complete(students, train=True).values())


def test_without_training_the_missing_ones_are_named_with_their_hours(
    tmp_path, no_faces, monkeypatch
):
    monkeypatch.setattr(ablation_runs, "estimated_hours",
                        lambda cfg, stage: 1.0 if stage == "teacher" else 0.5)  # fmt: skip
    students = ablation.row_students(fer2013(tmp_path, seeds=[0, 1]))
    finish(students["GME-Net", 1], first(100))
    cells = ablation.complete(students, train=False)
    assert ablation.scores(cells)["missing"].to_dict() == {
        "Baseline": "not run (est. 1.0 h)",
        "Baseline+CBAM": "not run (est. 3.0 h)",
        "DBAM without KD": "not run (est. 1.0 h)",
        "Baseline+DBAM": "not run (est. 3.0 h)",
        "Baseline+GM": "not run (est. 1.0 h)",
        "DBAM+GM without KD": "not run (est. 1.0 h)",
        "GME-Net": "not run (est. 1.5 h): seed 0",
    }
    assert list(ablation.overview(students)["state"]).count("done") == 1
