"""The published tables say what the records say, and README.md's examples what it says of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from made_published import (
    SMOKE,
    facts_of,
    publish_like,
    publish_smoke,
    published_student,
    table_after,
    write_tables,
)
from scipy import stats

from gmelib import listing, paper, published, readme
from gmelib.config import PROJECT_ROOT, Config
from gmelib.fields import PRIVATE


@pytest.fixture
def place(tmp_path: Path, smoke_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return publish_smoke(tmp_path, smoke_root, monkeypatch)


# -- README.md ------------------------------------------------------------------------------------


def test_a_row_gives_its_figure_its_record_and_what_is_missing(place: Path) -> None:
    text = (place / "README.md").read_text()
    assert text.startswith("# Results\n\n<!-- ablation: synthetic -->\n| row |")
    rows = table_after(text, "ablation: synthetic")
    assert list(rows) == [
        "Baseline", "DBAM+GM without KD", "GME-Net", "teacher of GME-Net, 32 px",
    ]  # fmt: skip
    folder = published_student(place, "kd5")
    facts, row = facts_of(folder), rows["GME-Net"]
    a = {name: 100 * value for name, value in facts["metrics"]["all"]["accuracy"].items()}
    told = f"{a['value']:.2f} [{a['low']:.1f}, {a['high']:.1f}] faces; not run"
    assert row["ours"].startswith(told) and row["ours"].endswith(": seed 1")
    link = f"outputs/published/synthetic/student/{folder.name}/run.json"
    assert row["records"] == f"[seed 0]({link})" and (place / link).is_file()
    assert "without copies" not in row  # drawn faces have none
    assert (row["n"], row["epochs"]) == ("1", str(facts["config"]["epochs"]))
    assert rows["Baseline"]["ours"].startswith("not run (est. ") and not rows["Baseline"]["n"]
    assert "- KD (GME-Net minus DBAM+GM without KD): " in text and "McNemar p" in text


def test_the_interval_of_several_seeds_is_students_t(place: Path) -> None:
    cfg = Config.load(*SMOKE, seed=1)
    folder = published_student(place, "kd5")
    other = publish_like(folder, cfg, shift=1)
    publish_like(published_student(place, "nokd"), cfg.replace(kd_weight=0.0))
    write_tables()
    assert published.verify() == []
    text = (place / "README.md").read_text()
    row = table_after(text, "ablation: synthetic")["GME-Net"]
    pair = [100 * facts_of(f)["metrics"]["all"]["accuracy"]["value"] for f in (folder, other)]
    assert pair[0] != pair[1]
    reach = stats.t.ppf(0.975, 1) * np.std(pair, ddof=1) / np.sqrt(2)
    mean = np.mean(pair)
    low, high = max(0, mean - reach), min(100, mean + reach)
    assert row["ours"] == f"{mean:.2f} [{low:.1f}, {high:.1f}] seeds"
    assert row["n"] == "2" and row["records"].count("/run.json") == 2
    hours = 2 * facts_of(folder)["wall_seconds"] / 3600
    assert row["hours"] == f"{hours:.1f}"
    (gain,) = [line for line in text.splitlines() if line.startswith("- KD")]
    assert "over seeds" in gain and "(seed 0)" in gain and "(seed 1)" in gain


def test_data_sets_on_request_show_the_papers_figures(place: Path) -> None:
    text = (place / "README.md").read_text()
    rows = table_after(text, "ablation: rafdb, expw")
    assert "stale" not in text and list(rows) == list(paper.ABLATION)
    row = rows["GME-Net"]
    assert row["RAF-DB, 14 x 14"] == row["ExpW, 14 x 14"] == "ready, data by request"
    assert (row["paper, RAF-DB"], row["paper, ExpW"]) == ("75.52", "67.45")


@pytest.mark.parametrize(("dataset", "branch"), [("fer2013", "+1.87"), ("ferplus", "+0.68")])
def test_what_is_not_run_stands_beside_the_paper(place, monkeypatch, dataset, branch) -> None:
    monkeypatch.setattr(readme, "PLAN", "params/grids/ablation.yaml")
    text = readme.ablation_table(dataset)
    rows = table_after(text)
    assert list(rows)[:2] == ["Baseline", "Baseline+CBAM"]
    assert len([name for name in rows if name.startswith("teacher of")]) == 3
    assert all(row["ours"].startswith("not run (est. ") for row in rows.values())
    assert rows["GME-Net"]["paper"] == f"{paper.ABLATION['GME-Net'][dataset]:.2f}"
    assert rows["DBAM without KD"]["paper"] == "–"
    assert f"Branch 2 (GME-Net minus Baseline+DBAM): not run; the paper: {branch}." in text


def test_a_data_set_that_is_not_planned_says_so(place: Path) -> None:
    assert readme.ablation_table("folder") == "No run of this data set is planned.\n"


def test_the_projects_own_tables_have_every_block() -> None:
    text = (PROJECT_ROOT / "README.md").read_text()
    assert [match.group(2, 3) for match in readme.MARK.finditer(text)] == [
        ("ablation", "fer2013"), ("leaks", "fer2013"), ("ablation", "ferplus"), ("costs", "all"),
        ("comparison", "ferplus"), ("rates", "fer2013, ferplus"), ("resolutions", "fer2013"),
        ("sweeps", "fer2013"), ("ablation", "rafdb, expw"),
    ]  # fmt: skip


def test_what_copies_are_worth_is_told_of_teacher_and_student_with_and_without_them() -> None:
    head, _, *lines = readme.leaks_table("fer2013").splitlines()
    assert "without exact copies (n = 3,301)" in head and "copy alone (n = 541)" in head
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert names == [
        "teacher, 48 px", "student, 12 px",
        "teacher, 48 px, trained without copies", "student, 12 px, trained without copies",
    ]  # fmt: skip
    assert "not published" in readme.leaks_table("rafdb")


# -- the list -------------------------------------------------------------------------------------


def test_every_published_run_is_listed_with_links_that_lead_to_it(place: Path) -> None:
    text = (place / "outputs/published/README.md").read_text()
    for folder in listing.published_runs():
        part = "/".join(folder.parts[-3:])
        assert text.count(f"[record]({part}/run.json)") == 1
        assert text.count(f"[report]({part}/report.html)") == 1
    rows = table_after(text, f"### {listing.ROWS_MADE}")
    facts = facts_of(published_student(place, "kd5"))
    row = rows[facts["run"]]
    assert (row["row"], row["seed"], row["preset"]) == ("GME-Net", "0", "smoke")
    accuracy = facts["metrics"]["all"]["accuracy"]["value"]
    assert row["accuracy"].startswith(f"{100 * accuracy:.2f} [") and row["code"] == "0" * 8


def test_what_tries_a_choice_shows_no_test_figure(place: Path) -> None:
    folder, cfg = published_student(place, "kd5"), Config.load(*SMOKE)
    choice = publish_like(folder, cfg.replace(kd_weight=1.0, epochs=1))
    other_size = publish_like(folder, cfg.replace(lr_size=8, epochs=1))
    text = listing.listing()
    row = table_after(text, f"### {listing.CHOICES}")[choice.name]
    assert {row[name] for name in ("accuracy", "macro-F1", "without copies")} <= {"–"}
    best = facts_of(folder)["validation"]["best_accuracy"]
    assert row["validation"] == f"{100 * best:.2f}"
    assert row["preset"] == "smoke, epochs = 1, kd_weight = 1.0"
    row = table_after(text, f"### {listing.RESOLUTIONS}")[other_size.name]
    assert row["accuracy"] != "–" and row["faces"] == "8 px"


@pytest.mark.parametrize(
    ("overlay", "changes", "stage", "found"),
    [
        ("cpu", {}, "student", ("cpu", {})),
        ("cpu", {"kd_weight": 0.0, "seed": 7}, "student", ("cpu", {})),
        ("cpu", {"kd_weight": 0.0, "attention": "none"}, "student", ("cpu", {})),
        ("cpu", {"attention": "cbam", "global_branch": False}, "student", ("cpu", {})),
        ("cpu", {"epochs": 9}, "student", ("cpu", {"epochs": 9})),
        ("cpu", {"kd_weight": 1.0}, "student", ("cpu", {"kd_weight": 1.0})),
        ("cpu", {"lr_size": 8, "kernel": "box"}, "teacher", ("cpu", {})),
        ("cpu", {"attention": "none"}, "teacher", ("cpu", {})),
        ("paper", {"device": "cpu"}, "student", ("paper", {})),
    ],
)
def test_a_run_is_told_by_its_preset_and_what_it_changes(overlay, changes, stage, found) -> None:
    cfg = Config.load(f"params/{overlay}.yaml", dataset="fer2013", **changes)
    cfg = cfg.teacher() if stage == "teacher" else cfg
    config = cfg.model_dump(mode="json", exclude=PRIVATE)
    assert listing.preset_and_changes(config, stage) == found


def test_a_run_on_a_folder_of_ones_own_can_be_listed() -> None:
    cfg = Config.load("params/cpu.yaml", dataset="folder", folder_name="mine", lr_size=14)
    config = cfg.model_dump(mode="json", exclude=PRIVATE)
    assert listing.preset_and_changes(config, "student") == ("cpu", {})


@pytest.mark.filterwarnings("ignore:Port 8787")  # of a dashboard, which others may have
def test_the_readmes_slurm_cluster_asks_for_what_it_says(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(tmp_path)  # where dask-jobqueue would write its logs
    text = published.README.read_text()
    (block,) = re.findall(r"```python\n(from dask_jobqueue .*?)```", text, re.S)
    values: dict = {}
    exec(block.split("cluster.scale")[0], values)
    with values["cluster"] as cluster:
        script = cluster.job_script()
    for asked in ("--gres=gpu:1", "--cpus-per-task=8", "-t 12:00:00", "--nthreads 1"):
        assert asked in script
