"""The ablation's runs: what is trained in which order, what fails, sweeps, and the record."""

import json

import made_runs
import pandas as pd
import pytest
import tiny
from made_runs import finish, first
from scipy.stats import norm

from gmelib import ablation
from gmelib.ablation import runs as ablation_runs
from gmelib.ablation.sweeps import sweep_sentences
from gmelib.config import Config
from gmelib.explore import student_runs
from gmelib.record import Run, load_runs, read_facts
from gmelib.train import DivergedError
from gmelib.variants import ROWS, SWEEPS


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by writing records; the stage, attention and seed of each run, in order."""
    done = []

    def pretend(stage):
        def train(cfg, faces):
            assert faces == "faces"
            done.append((stage, cfg.attention, cfg.global_branch, cfg.kd_weight > 0, cfg.seed))
            return finish(cfg, first(100), stage=stage)

        return train

    monkeypatch.setattr(ablation_runs, "load_faces", lambda cfg: "faces")
    monkeypatch.setattr(ablation_runs, "run_teacher", pretend("teacher"))
    monkeypatch.setattr(ablation_runs, "run_student", pretend("student"))
    return done


# -- training -------------------------------------------------------------------------------------


def test_each_missing_run_is_trained_once_and_after_its_own_teacher(tmp_path, trained):
    students = ablation.row_students(tiny.config(tmp_path, seeds=[0, 1]))
    finish(students["Baseline", 0], first(90))
    cells = ablation.complete(students, train=True)
    assert all(cell.is_done for cell in cells.values())
    assert len(trained) == len(set(trained)) == 13 + 6
    for stage, attention, branch_2, distilled, seed in trained:
        if distilled and stage == "student":
            teacher = ("teacher", attention, branch_2, True, seed)
            assert trained.index(teacher) < trained.index(("student", *teacher[1:]))
    trained.clear()
    ablation.complete(students, train=True)
    assert not trained


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, trained, monkeypatch, capsys):
    train_teacher, train_student = ablation_runs.run_teacher, ablation_runs.run_student

    def teacher(cfg, faces):
        if cfg.attention == "cbam":
            raise DivergedError("the loss is not finite")
        return train_teacher(cfg, faces)

    def student(cfg, faces):
        assert cfg.attention != "cbam", "without its teacher"
        return train_student(cfg, faces)

    monkeypatch.setattr(ablation_runs, "run_teacher", teacher)
    monkeypatch.setattr(ablation_runs, "run_student", student)
    students = ablation.row_students(tiny.config(tmp_path))
    cells = ablation.complete(students, train=True)
    failed = cells.pop(("Baseline+CBAM", 0))
    assert all(cell.is_done for cell in cells.values())
    assert failed.state == "failed" and "its teacher gmenet-cbam-local-s0" in failed.failure
    assert "the loss is not finite" in capsys.readouterr().out
    cells["Baseline+CBAM", 0] = failed
    assert ablation.scores(cells).loc["Baseline+CBAM", "missing"] == "failed"
    text = tiny.refusal(ablation.raise_failures, cells, {})
    assert failed.run.id in text and text.startswith("1 of the table's runs failed")
    del cells["Baseline+CBAM", 0]
    ablation.raise_failures(cells, {})


def test_without_the_data_set_what_is_missing_is_not_run_and_nothing_fails(tmp_path, capsys):
    values = {"dataset": "fer2013", "data_root": str(tmp_path / "nothing")}
    students = ablation.row_students(tiny.config(tmp_path, **values))
    finish(students["GME-Net", 0], first(90))
    cells = ablation.complete(students, train=True)
    assert [key for key, cell in cells.items() if cell.is_done] == [("GME-Net", 0)]
    assert "nothing is trained" in capsys.readouterr().out
    ablation.raise_failures(cells)


def test_runs_of_different_data_do_not_stand_in_one_table(tmp_path):
    students = ablation.row_students(tiny.config(tmp_path))
    finish(students["GME-Net", 0], first(90), fingerprint="a" * 32)
    finish(students["Baseline", 0], first(90), fingerprint="b" * 32)
    text = tiny.refusal(ablation.complete, students, train=False)
    assert "other data" in text and students["GME-Net", 0].dataset == "synthetic"


def test_the_published_rows_are_there_on_a_fresh_clone(tmp_path):
    """With neither data set nor own runs."""
    paths = [f"params/{name}.yaml" for name in ("base", "fer2013", "cpu")]
    places = {"out_root": str(tmp_path / "outputs"), "data_root": str(tmp_path)}
    cfg = Config.load(*paths, **places, train_missing=False)
    cells = ablation.complete(ablation.row_students(cfg), train=cfg.train_missing)
    for row in ("GME-Net", "DBAM+GM without KD"):
        told = cells[row, 0].run.facts()["metrics"]["all"]["accuracy"]["value"]
        assert ablation.scores(cells).loc[row, "accuracy"] == pytest.approx(100 * told)
    assert not (tmp_path / "outputs").exists()


# -- sweeps ---------------------------------------------------------------------------------------


def test_a_sweep_is_trained_and_judged_on_validation_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_runs, "load_faces", lambda cfg: tiny.faces())
    cfg = tiny.config(tmp_path, sweeps=["head", "kd_reduction"], sweep_epochs=1, seeds=[3, 4])
    choices = ablation.sweep_students(cfg)
    assert {c.epochs for c in choices.values()} == {1} and {c.seed for c in choices.values()} == {3}
    cells = ablation.complete(choices, train=True)
    table = ablation.sweep_scores(cells, cfg)
    for key, line in table.iterrows():
        facts = cells[key].run.facts()
        assert line["accuracy"] == pytest.approx(100 * facts["validation"]["best_accuracy"])
        assert line["n"] == tiny.SIZES["validation"]
        assert line["hours"] == pytest.approx(facts["wall_seconds"] / 3600)
    assert table["default"].to_dict() == {
        ("head", "flatten"): True, ("head", "gap"): False,
        ("kd_reduction", "mean"): False, ("kd_reduction", "sum"): True,
    }  # fmt: skip
    assert list(ablation.sweeps_shown(cells, cfg)["from the preset's"])[0] == "preset"


def sweep(tmp_path, **accuracies):
    """A sweep of kd_weight over {0, 1, 5, 15}, 200 validation faces, 5 is the preset's."""
    cfg = tiny.config(tmp_path, sweeps=["kd_weight"], sweep_epochs=1)
    choices = ablation.sweep_students(cfg)
    for (_, value), student in choices.items():
        if f"kd{value:g}" in accuracies:
            finish(student, first(9), validation=accuracies[f"kd{value:g}"])
    return ablation.sweep_scores(ablation.complete(choices, train=False), cfg)


def test_intervals_and_differences_of_a_sweep(tmp_path):
    table = sweep(tmp_path, kd1=0.4, kd5=0.3).loc["kd_weight"]
    z, p, n = norm.ppf(0.975), 0.4, 200
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)  # Wilson 1927
    reach = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    line = table.loc[1.0]
    assert (line["low"], line["high"]) == pytest.approx(
        (100 * (middle - reach), 100 * (middle + reach))
    )
    assert line["difference"] == pytest.approx(10)
    assert line["noise"] == pytest.approx(100 * z * ((0.24 + 0.21) / 200) ** 0.5)
    assert pd.isna(table.loc[5.0, "difference"]) and pd.isna(table.loc[0.0, "accuracy"])
    assert table.loc[0.0, "missing"].startswith("not run")
    assert len(table) == len(SWEEPS["kd_weight"]) + 1


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ({"kd0": 0.1, "kd1": 0.2, "kd5": 0.5, "kd15": 0.3}, "5 (50.0 %) is best."),
        ({"kd0": 0.1, "kd1": 0.52, "kd5": 0.5, "kd15": 0.3}, "within noise of the best, 1 (+2.0 ±"),
        ({"kd0": 0.8, "kd1": 0.52, "kd5": 0.5, "kd15": 0.3}, "is beaten by 0 (+30.0 ±"),
        ({"kd0": 0.1, "kd5": 0.5}, "is best; not run: 1, 15."),
        ({"kd0": 0.1, "kd1": 0.2}, "no verdict, for not run: 5, 15."),
        ({"kd5": 0.1}, "no verdict, for not run: 0, 1, 15."),
    ],
)
def test_a_sweep_says_whether_the_presets_value_holds(tmp_path, accuracies, said):
    (sentence,) = sweep_sentences(sweep(tmp_path, **accuracies))
    assert sentence.startswith("kd_weight: ") and said in sentence


# -- record ---------------------------------------------------------------------------------------


def test_the_record_holds_figures_sources_and_gaps_and_is_written_anew(tmp_path):
    cfg = tiny.config(tmp_path, rows=["Baseline", "GME-Net"], sweeps=["head"], train_missing=False)
    students, choices = ablation.row_students(cfg), ablation.sweep_students(cfg)
    run = ablation.ablation_run(cfg)
    for n, (row, seed) in enumerate(students, 1):
        finish(students[row, seed], first(100))
        cells, swept = (ablation.complete(c, train=False) for c in (students, choices))
        ablation.finish(run, cells, swept)
        facts = read_facts(run.folder)
        assert (facts["stage"], facts["dataset"], facts["run"]) == ("ablation", "synthetic", run.id)
        assert len(facts["runs"]) == n and facts["runs"][f"{row}, seed 0"] == cells[row, 0].run.id
        assert [line["row"] for line in facts["rows"]] == ["Baseline", "GME-Net"]
        assert facts["rows"][n - 1]["accuracy"] == 50.0
        assert len(facts["missing"]) == 2 - n + 2
        assert facts["tables"]["rows"] == cfg.rows and facts["tables"]["seeds"] == [0]
    assert facts["rows"][0]["by_seed"] == {"0": 50.0}
    assert facts["sweeps"][0]["parameter"] == "head" and facts["sweeps"][0]["accuracy"] is None
    assert ablation.conclusion(cells, swept, cfg).endswith("this is not a result.")
    assert str(tmp_path) not in json.dumps(facts)


def test_a_table_is_named_by_its_preset_and_by_what_stands_in_it(tmp_path):
    cfg = tiny.config(tmp_path)
    same = [cfg, cfg.replace(rows=list(ROWS)), cfg.replace(rows=[*ROWS][::-1], train_missing=False),
            cfg.replace(attention="cbam")]  # fmt: skip
    assert len({ablation.ablation_run(c).folder for c in same}) == 1
    other = [{"rows": ["Baseline"]}, {"seeds": [0, 1]}, {"sweeps": []}, {"sweep_epochs": 2},
             {"width": 8}]  # fmt: skip
    assert len({ablation.ablation_run(cfg.replace(**o)).folder for o in other} | {
        ablation.ablation_run(cfg).folder}) == 6  # fmt: skip


def test_other_readers_of_runs_pass_the_record_over(tmp_path):
    cfg = tiny.config(tmp_path, sweeps=[])
    students = ablation.row_students(cfg)
    cells = made_runs.cells(students, {("GME-Net", 0): first(100)})
    run = ablation.ablation_run(cfg)
    ablation.finish(run, cells, {})
    table = load_runs(cfg.out_root).query("~published").set_index("stage")
    assert pd.isna(table.loc["ablation", "accuracy"]) and table.loc["student", "accuracy"] == 0.5
    assert not set(student_runs(cfg, tiny.CLASSES)) & {run.id}
    assert Run.open(cfg, "student").is_done
    hours = [cell.hours for cell in ablation.complete(students, train=False).values()]
    assert all(h is None or h >= 0 for h in hours)
