"""Grid files: how they expand into jobs, in which order, and how mistakes in them are told."""

from pathlib import Path

import pytest
import tiny
import yaml

from gmelib.config import PROJECT_ROOT, Config
from gmelib.grid import read_grids, read_jobs
from gmelib.jobs import ATTENTION, DATA, STUDENT, TEACHER, Job, jobs_of
from gmelib.lock import release, take
from gmelib.variants import ROWS

GRIDS = sorted((PROJECT_ROOT / "params" / "grids").glob("*.yaml"))
PLAIN = {"overlays": ["params/base.yaml", "params/smoke.yaml"], "datasets": ["synthetic"]}


def write(tmp_path: Path, **values) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def jobs_in(tmp_path: Path, **values) -> list[Job]:
    return read_jobs(write(tmp_path, **(PLAIN | values)), out_root=str(tmp_path / "out"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_grid_of_the_project_is_whole(path):
    jobs = read_jobs(path)
    seen: set[str] = set()
    for job in jobs:
        assert job.key not in seen and set(job.needs) <= seen, "what it needs stands before it"
        seen.add(job.key)
        assert Config.make(**job.parameters) == job.cfg


def test_the_ablation_grid_is_the_papers_table_on_both_data_sets():
    jobs = read_jobs("params/grids/ablation.yaml")
    for dataset in ("fer2013", "ferplus"):
        students = [j for j in jobs if j.notebook == STUDENT and j.cfg.dataset == dataset]
        first = [j.what.split(",")[0] for j in students if j.cfg.seed == 0]
        assert first == list(ROWS)


def test_a_plain_grid_is_the_preset_with_its_teacher(tmp_path):
    teacher, student = jobs_in(tmp_path, seeds=[3])
    assert (teacher.notebook, student.notebook) == (TEACHER, STUDENT)
    assert student.needs == (teacher.key,) and teacher.needs == ()
    assert student.cfg.seed == teacher.cfg.seed == 3


def test_rows_seeds_and_values_multiply(tmp_path):
    jobs = jobs_in(tmp_path, rows=["Baseline", "GME-Net"], seeds=[0, 1], vary={"lr_size": [8, 12]})
    students = [j for j in jobs if j.notebook == STUDENT]
    assert len(students) == 8 and len(jobs) == 8 + 2  # one teacher a seed, whatever the size
    found = {(j.cfg.seed, j.cfg.lr_size, j.what.split(",")[0]) for j in students}
    assert found == {(s, p, r) for s in (0, 1) for p in (8, 12) for r in ("Baseline", "GME-Net")}


def test_each_attention_has_its_own_teacher(tmp_path):
    jobs = jobs_in(tmp_path, rows="all")
    teachers = {j.key: j for j in jobs if j.notebook == TEACHER}
    assert len(teachers) == 3
    for job in jobs:
        if job.notebook == STUDENT and job.cfg.kd_weight:
            (teacher,) = job.needs
            kind = ("attention", "global_branch")
            assert all(getattr(job.cfg, n) == getattr(teachers[teacher].cfg, n) for n in kind)
        elif job.notebook == STUDENT:
            assert job.needs == ()


def test_sweeps_change_one_parameter_at_a_time(tmp_path):
    jobs = jobs_in(tmp_path, sweeps=["kd_maps", "mcb_order"], parameters={"sweep_epochs": 1})
    students = [j for j in jobs if j.notebook == STUDENT]
    assert {j.cfg.epochs for j in students} == {1}
    found = {(j.cfg.kd_maps, j.cfg.mcb_order) for j in students}
    assert found == {("logit", "equation"), ("sigmoid", "equation"), ("logit", "prose")}
    assert any(j.what == "GME-Net, 12 px, kd_maps sigmoid" for j in students)
    assert not any("kd_maps" in j.what for j in jobs if j.notebook == TEACHER)


def test_notebooks_bring_what_they_need(tmp_path):
    cfg = tiny.config(tmp_path)
    jobs = {j.notebook: j for j in jobs_of(cfg, [DATA, ATTENTION])}
    assert set(jobs) == {DATA, TEACHER, STUDENT, ATTENTION}
    assert set(jobs[ATTENTION].needs) == {jobs[TEACHER].key, jobs[STUDENT].key}
    assert jobs[DATA].needs == ()
    assert jobs_of(cfg.replace(kd_weight=0), [STUDENT])[0].needs == ()


def test_what_comes_last_waits_for_all_of_its_grid(tmp_path):
    jobs = jobs_in(tmp_path, rows=["Baseline", "GME-Net"], then=["05_ablations"])
    *runs, last = jobs
    assert set(last.needs) >= {j.key for j in runs if j.notebook == STUDENT}
    assert not last.cfg.train_missing and last.cfg.rows == ["Baseline", "GME-Net"]


def test_tables_of_two_grids_with_one_title_are_both_made(tmp_path):
    one = PLAIN | {"title": "rows", "rows": ["Baseline"], "then": ["05_ablations"]}
    others = ({"rows": ["Baseline+GM"]}, {"seeds": [1]}, {"parameters": {"lr_size": 8}})
    for other in others:
        jobs = read_jobs(write(tmp_path, grids=[one, one | other, one]))
        assert [job.notebook for job in jobs].count("05_ablations") == 2, other


def test_what_the_command_line_gives_wins(tmp_path):
    path = write(tmp_path, **PLAIN, rows=["GME-Net"], seeds=[0], parameters={"epochs": 3})
    jobs = read_jobs(path, seeds=[5], rows=["Baseline"], epochs=7)
    assert [(j.cfg.seed, j.cfg.epochs, j.what) for j in jobs] == [(5, 7, "Baseline, 12 px")]


def test_several_files_share_equal_runs(tmp_path):
    one = write(tmp_path, **PLAIN)
    both = read_jobs(one, one, out_root=str(tmp_path))
    assert both == read_jobs(one, out_root=str(tmp_path))


def test_states(root, smoke_root):
    cfg = tiny.config(root)
    teacher, student = jobs_of(cfg, [STUDENT])
    assert student.state == "report missing"  # trained by a function, no notebook was run
    (student.run.folder / "run.json").unlink()
    assert student.state == "broken"
    take(student.run.folder / "lock.json")
    try:
        assert student.state == "running"
    finally:
        release(student.run.folder / "lock.json")
    assert jobs_of(cfg.replace(seed=77), [STUDENT])[1].state == "missing"
    overlays = [f"params/{n}.yaml" for n in ("base", "synthetic", "smoke")]
    made = Config.load(*overlays, out_root=str(smoke_root))
    assert {job.state for job in jobs_of(made, [DATA, STUDENT, ATTENTION])} == {"done"}


@pytest.mark.parametrize(
    "values, told",
    [
        ({"sedes": [1]}, "unknown key 'sedes': did you mean 'seeds'?"),
        ({"rows": ["Basline"]}, "row 'Basline': expected one of Baseline"),
        ({"sweeps": ["momentum"]}, "sweep 'momentum': expected one of kd_weight"),
        ({"vary": {"lr_sise": [8]}}, "unknown parameter 'lr_sise': did you mean 'lr_size'?"),
        ({"vary": {"lr_size": [-8]}}, "parameter lr_size = -8"),
        ({"seeds": []}, "seeds = []"),
        ({"seeds": "0"}, "seeds = '0'"),
        ({"notebooks": ["03_student"]}, "notebooks = '03_student'"),
        ({"then": ["99_end"]}, "99_end: no such notebook"),
        ({"overlays": ["params/none.yaml"]}, "params/none.yaml: no such YAML file"),
        ({"datasets": ["fer2014"]}, "parameter dataset = 'fer2014'"),
        ({"overlays": ["params/{data}.yaml"]}, "overlays: 'params/{data}.yaml': expected a YAML"),
        ({"overlays": ["params/{0}.yaml"]}, "with nothing in braces but {dataset}"),
        ({"overlays": ["params/{.yaml"]}, "with nothing in braces but {dataset}"),
        ({"methods": ["gmenet"], "parameters": {"kd_weight": 2}}, "parameter kd_weight = 2: of a"),
        ({"methods": ["gmenet"], "vary": {"train_on": ["hr"]}}, "parameter train_on = 'hr': of a"),
        ({"vary": {"lr_size": []}}, "vary.lr_size = []: list should have at least 1 item"),
        ({"modes": ["lr", "lr+h"]}, "mode 'lr+h': expected one of lr, hr, lr+hr, kd"),
        ({"methods": ["manet"], "modes": ["kd"]}, "method 'manet': expected one of gmenet"),
        ({"methods": ["ma_net"], "modes": ["kd"]}, "nothing to run, for no method has any of the"),
        ({"grids": [PLAIN]}, "beside `grids` stands"),
        (
            {"methods": ["eac"], "parameters": {"method_options": {"deph": 18}}},
            "grid 1: parameter method_options: eac has no 'deph'; expected of: ",
        ),
    ],
)
def test_mistakes_are_told_with_file_and_key(tmp_path, values, told):
    line = tiny.refusal(read_jobs, write(tmp_path, **(PLAIN | values)))
    assert "grid.yaml" in line and told in line, line


@pytest.mark.parametrize(
    "given, told",
    [
        ({"seed": 1}, "parameter seed: a grid's runs get theirs from its key 'seeds', a list"),
        ({"train_missing": True}, "parameter train_missing: a grid's jobs train what is missing"),
        ({"force": True}, "force = True would train every run again"),
        ({"teacher_run": "outputs/a"}, "teacher_run = outputs/a: the runs have several teachers"),
    ],
)
def test_what_would_change_nothing_is_refused_wherever_it_stands(tmp_path, given, told):
    plain = write(tmp_path, **PLAIN)
    assert told in tiny.refusal(read_jobs, plain, **given)
    for key, values in (("parameters", given), ("vary", {n: [v] for n, v in given.items()})):
        path = write(tmp_path, **PLAIN, **{key: values})
        assert f"grid.yaml, grid 1: {told}" in tiny.refusal(read_jobs, path)


def test_a_parameter_over_one_that_the_grid_varies_is_refused_with_the_way_to_choose(tmp_path):
    path = write(tmp_path, **PLAIN, vary={"lr_size": [8, 12]})
    line = tiny.refusal(read_jobs, path, lr_size=8)
    assert "parameter lr_size = 8: the grid varies it, over [8, 12]" in line
    assert line.endswith('-p vary "{lr_size: [...]}"')
    chosen = read_jobs(path, vary={"lr_size": [8]})
    assert [job.cfg.lr_size for job in chosen if job.notebook == STUDENT] == [8]


def test_a_list_of_grids_names_the_wrong_one(tmp_path):
    path = write(tmp_path, grids=[PLAIN, PLAIN | {"rows": ["x"]}])
    assert "grid 2: row 'x'" in tiny.refusal(read_jobs, path)
    assert len(read_grids(write(tmp_path, grids=[PLAIN, PLAIN]))) == 2
    assert "expected a list" in tiny.refusal(read_jobs, write(tmp_path, grids=PLAIN))
    assert "datasets is missing" in tiny.refusal(read_jobs, write(tmp_path, overlays=["a"]))
    assert "grid 1: expected `name: value` lines" in tiny.refusal(
        read_jobs, write(tmp_path, grids=["x"])
    )
