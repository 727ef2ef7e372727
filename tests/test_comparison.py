"""Tables 1-3: which runs stand in them, what they were allowed, and what is said of them."""

import itertools
import json
import re

import made_runs
import pandas as pd
import pytest
import tiny
from made_runs import first
from test_figures import drawn_texts

from gmelib import comparison, figures, paper
from gmelib.comparison.costs import COUNTED_AT
from gmelib.config import Config, InputError
from gmelib.experiment import budget
from gmelib.grid import read_jobs
from gmelib.methods import title_of
from gmelib.variants import COMPARED, ENTRIES, compared_config, modes_of

FACES = 120  # training faces of a made run


def smoke(root="outputs", **values) -> Config:
    return tiny.config(root, peers="smoke", modes=["lr+hr"], **values)


def finish(cfg: Config, right, **values):
    run = made_runs.finish(cfg, right)
    facts = json.loads((run.folder / "run.json").read_text())
    facts |= {"budget": budget(cfg, "student", FACES)} | values
    (run.folder / "run.json").write_text(json.dumps(facts))
    return run


def table_of(root, right: dict, **values):
    """The cells of a comparison in which the rows named in ``right`` are finished."""
    students = comparison.compared_students(smoke(root, **values))
    for key, faces in right.items():
        finish(students[key], faces)
    return made_runs.cells(students, {})


# -- which runs -----------------------------------------------------------------------------------


def test_every_method_has_the_modes_of_tables_1_to_3():
    rows = [row for row, _ in comparison.compared_students(tiny.config(peers="cpu"))]
    for title in ("GME-Net-cpu", "MA-Net", "Ada-CM", "EAC-cpu", "POSTER-cpu", "Heidari et al."):
        assert {f"{title}, {mode}" for mode in ("lr", "hr", "lr+hr")} <= {*rows}
    assert "Ada-CM (4,000 labels), lr+hr" in rows
    distilled = {row.removesuffix(", kd") for row in rows if row.endswith(", kd")}
    assert distilled == {"GME-Net-cpu", "ResNet-18", "MobileNetV3-small"}


@pytest.mark.parametrize("peers", ["cpu", "paper", "smoke"])
def test_every_preset_has_every_method_and_one_budget(peers):
    students = comparison.compared_students(tiny.config(peers=peers, dataset="ferplus"))
    presented = {
        row: budget(cfg, "student", 1000)["passes"]
        for (row, _), cfg in students.items()
    }  # fmt: skip
    if peers != "paper":  # there every author's own
        assert len(set(presented.values())) == 1
    assert all(passes >= (2 if peers == "smoke" else 3) for passes in presented.values())


def test_the_full_presets_are_not_called_reduced_and_the_reduced_are():
    for method in ("gmenet", *COMPARED):  # whatever network the overlays before it make
        full = compared_config(tiny.config(peers="paper"), method, "lr")
        assert "-cpu" not in title_of(full)
    small = {m for m in COMPARED if "-cpu" in title_of(compared_config(tiny.config(), m, "lr"))}
    assert small == {"eac", "poster"}


def test_the_notebook_and_the_grid_mean_the_same_runs():
    overlays = ["params/base.yaml", "params/ferplus.yaml", "params/cpu.yaml"]
    shown = comparison.compared_students(Config.load(*overlays))
    jobs = read_jobs("params/grids/comparison.yaml", dataset="ferplus")
    made = {job.run.id for job in jobs if job.run.stage == "student"}
    from_notebook = {made_runs.Run.open(cfg, "student").id for cfg in shown.values()}
    assert made <= from_notebook
    assert {"ma_net", "ada_cm", "eac", "poster", "diversified"} <= {
        job.cfg.method for job in jobs if job.cfg.train_on == "lr+hr"
    }


@pytest.mark.parametrize(
    "values, said",
    [
        ({"methods": ["manet"]}, "method 'manet': expected one of gmenet"),
        ({"modes": ["both"]}, "mode 'both': expected one of lr, hr, lr+hr, kd"),
        ({"methods": ["ma_net"], "modes": ["kd"]}, "have none of the modes"),
    ],
)
def test_a_wrong_choice_is_refused_in_a_line(values, said):
    with pytest.raises(InputError, match=re.escape(said)) as error:
        comparison.compared_students(tiny.config(**values))
    assert "\n" not in str(error.value)


def test_a_mode_that_only_some_methods_have_is_left_out_of_the_others():
    rows = comparison.compared_students(tiny.config(modes=["kd"]))
    assert len(rows) == sum("kd" in modes_of(method) for method in ENTRIES) == 3


# -- what is said ---------------------------------------------------------------------------------


def test_a_row_tells_its_figure_its_cost_and_what_it_was_allowed(tmp_path):
    cells = table_of(tmp_path, {("EAC-cpu, lr+hr", 0): first(150)})
    table = comparison.comparison(cells)
    row = table.loc["EAC-cpu, lr+hr"]
    assert row["accuracy"] == 75 and row["low"] < 75 < row["high"]
    assert (row["title"], row["mode"], row["method"]) == ("EAC-cpu", "lr+hr", "eac")
    assert (row["passes"], row["forward_backward"], row["hours"]) == (2, 4, 0.1)
    assert table.drop(index="EAC-cpu, lr+hr")["accuracy"].isna().all()
    shown = comparison.comparison_shown(cells)
    assert shown.loc["EAC-cpu, lr+hr", "network passes"] == "4"
    assert shown.loc["MA-Net, lr+hr", "missing"].startswith("not run")


def test_the_papers_figures_stand_beside_theirs_and_fer2013_has_none():
    overlays = ["params/base.yaml", "params/{}.yaml", "params/cpu.yaml"]
    for dataset, theirs in (("ferplus", paper.COMPARED["ferplus"]), ("fer2013", {})):
        cfg = Config.load(*[path.format(dataset) for path in overlays], out_root="nowhere")
        table = comparison.comparison(made_runs.cells(comparison.compared_students(cfg), {}))
        for method in COMPARED:
            own = table[(table["method"] == method) & (table.index.str.startswith(
                title_of(compared_config(cfg, method, "lr")) + ","))]  # fmt: skip
            found = tuple(own.set_index("mode").loc[["lr", "hr", "lr+hr"], "paper"].dropna())
            assert found == theirs.get(method, ())
    assert theirs == {}


def test_gmenet_is_compared_pair_by_pair_with_every_other_row(tmp_path):
    right = {("GME-Net-cpu, lr+hr", 0): first(120), ("MA-Net, lr+hr", 0): first(150),
             ("ResNet-18, lr+hr", 0): first(60)}  # fmt: skip
    cells = table_of(tmp_path, right)
    assert comparison.best_rows(cells) == ("GME-Net-cpu, lr+hr", "MA-Net, lr+hr")
    assert comparison.peer_of(cells) == "MA-Net, lr+hr"
    table = comparison.differences(cells)
    assert table["value"].to_dict() == {"MA-Net, lr+hr": -15, "ResNet-18, lr+hr": 30}
    text = comparison.conclusion(cells, smoke(tmp_path))
    assert "Best: MA-Net, lr+hr, 75.0" in text
    assert "is number 2 of 3" in text
    assert "is shown to be above: ResNet-18, lr+hr (+30.0 points)." in text
    assert "is shown to be below: MA-Net, lr+hr (-15.0 points)." in text
    assert "shown 2 faces for each training face" in text
    assert "this is not a result" in text


def test_the_distilled_gmenet_is_the_one_to_compare(tmp_path):
    cfg = tiny.config(tmp_path, peers="smoke", modes=["lr+hr", "kd"], methods=["gmenet"])
    students = comparison.compared_students(cfg)
    finish(students["GME-Net-cpu, lr+hr", 0], first(150))
    finish(students["GME-Net-cpu, kd", 0], first(100))
    cells = made_runs.cells(students, {})
    assert comparison.best_rows(cells) == ("GME-Net-cpu, kd", None)
    assert "The teachers of the distilled rows" in comparison.conclusion(cells, cfg)


def test_unequal_budgets_are_said(tmp_path):
    cells = table_of(tmp_path, {("MA-Net, lr+hr", 0): first(90)})
    (long,) = (c.run.cfg for (row, _), c in cells.items() if row == "ResNet-18, lr+hr")
    finish(long, first(90), budget={"presentations": 9 * FACES, "passes": 9.0,
                                    "forward_backward": 9 * FACES})  # fmt: skip
    text = comparison.conclusion(cells, smoke(tmp_path))
    assert "ResNet-18, lr+hr 9 times" in text and "The budgets differ" in text


def test_with_no_run_everything_still_says_so(tmp_path):
    cells = table_of(tmp_path, {})
    assert comparison.differences_shown(cells).empty
    assert comparison.peer_of(cells) is None
    assert comparison.conclusion(cells, smoke(tmp_path)).startswith("Finished runs: 0 of 9 rows")
    run = comparison.comparison_run(smoke(tmp_path))
    comparison.finish(run, cells)
    facts = run.facts()
    assert facts["runs"] == {} and len(facts["missing"]) == 9


def test_the_record_is_named_by_what_is_asked_for(tmp_path):
    names = {
        comparison.comparison_run(smoke(tmp_path, **more)).id
        for more in ({}, {"methods": ["eac"]}, {"seeds": [1]}, {"seeds": [0, 1]})
    }
    assert len(names) == 4


# -- costs and Figure 1 ---------------------------------------------------------------------------


def test_every_network_of_table_1_is_counted():
    assert set(COUNTED_AT) == set(paper.COSTS) == {"gmenet", *COMPARED}


def test_speed_is_measured_of_each_network_once():
    students = comparison.preset_networks(smoke(methods=["gmenet", "resnet18", "ada_cm_4000"]))
    table = comparison.measured_speed(students, 7, batch_size=2, rounds=1)
    assert list(table.index) == ["GME-Net-cpu", "ResNet-18"]
    assert (table[["faces/s", "latency, ms"]] > 0).all(axis=None)
    assert table.loc["ResNet-18", "parameters, M"] == pytest.approx(11.18, abs=0.01)


COSTS = {"GME-Net-cpu": (0.047, 1.6), "MA-Net": (0.3, 50.5), "Ada-CM": (0.09, 11.2),
         "EAC-cpu": (0.15, 11.2), "POSTER-cpu": (0.17, 7), "Heidari et al.": (0.3, 50.5),
         "Ada-CM (4,000 labels)": (0.09, 11.2), "ResNet-18": (0.1, 11.2),
         "MobileNetV3-small": (0.004, 1.5)}  # fmt: skip


def figure_1(*titles: str, modes=("lr", "hr", "lr+hr", "kd")):
    lines = [
        {"title": title, "mode": mode, "accuracy": 50 + 3 * i + j, "low": 48 + 3 * i + j,
         "high": 52 + 3 * i + j, "macs": COSTS[title][0] * 1e9, "parameters": COSTS[title][1] * 1e6}
        for i, title in enumerate(titles) for j, mode in enumerate(modes)
    ]  # fmt: skip
    columns = ["title", "mode", "accuracy", "low", "high", "macs", "parameters"]
    return figures.accuracy_against_cost(pd.DataFrame(lines, columns=columns))


@pytest.mark.parametrize("titles", [tuple(COSTS), ("GME-Net-cpu", "MA-Net"), ("MA-Net",), ()])
def test_no_label_of_figure_1_overlaps_another_or_leaves_it(titles, monkeypatch):
    figure = figure_1(*titles)
    found = drawn_texts(figure, monkeypatch)
    for (one, a), (other, b) in itertools.combinations(found.items(), 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (one.get_text(), other.get_text())
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 for box in found.values())
    texts = {text.get_text() for text in found}
    assert set(titles) <= {text.split("  ")[-1] for text in texts}
    assert ("no finished run" in texts) == (not titles)
    numbers = [text for text in texts if text.isdigit() and int(text) <= len(titles)]
    assert len(numbers) == len(titles)  # beside their points


def test_figure_1_shows_every_row_at_its_cost():
    left, right = figure_1("GME-Net-cpu", "MA-Net").axes
    for axes, column in ((left, 0), (right, 1)):
        points = [tuple(line.get_xydata()[0]) for line in axes.get_lines()]
        assert points == [
            (pytest.approx(COSTS[title][column]), 50 + 3 * i + j)
            for i, title in enumerate(("GME-Net-cpu", "MA-Net")) for j in range(4)
        ]  # fmt: skip
