"""What belongs to another run, or to nobody, is not taken for a run's own.

Checkpoints of other runs and data: tests/test_checkpoint.py, tests/test_resume.py, and by a whole
batch in test_killed.py.
"""

import json
import shutil

import pytest
import tiny

from gmelib.experiment import find_teacher, run_student, run_teacher
from gmelib.jobs import STUDENT, TEACHER, jobs_of
from gmelib.overview import results
from gmelib.worker import Outcome


@pytest.fixture
def exchanged(root):
    """A student and a teacher whose record is that of the student without distillation."""
    plain = tiny.run_of(root, kd_weight=0)
    for stage in ("student", "teacher"):
        shutil.copy(plain.folder / "run.json", tiny.run_of(root, stage).folder / "run.json")
    return plain


def test_a_record_of_other_parameters_is_refused(root, exchanged, no_training):
    cfg, faces = tiny.config(root), tiny.faces()
    for stage, call in (("teacher", run_teacher), ("teacher", find_teacher)):
        text = tiny.refusal(call, cfg, faces)
        expected = tiny.run_of(root, stage).id
        assert f"is the record of run {exchanged.id}, expected {expected}" in text
    teacher = tiny.run_of(root, "teacher")
    record = json.loads((teacher.folder / "run.json").read_text()) | {"run": teacher.id}
    (teacher.folder / "run.json").write_text(json.dumps(record))  # only the student's is wrong now
    text = tiny.refusal(run_student, cfg, faces)
    assert f"is the record of run {exchanged.id}, expected {tiny.run_of(root).id}" in text


def test_a_whole_folder_under_another_name_is_refused(root, no_training):
    plain, other = tiny.run_of(root, kd_weight=0), tiny.run_of(root, kd_weight=0, seed=1)
    shutil.copytree(plain.folder, other.folder)
    text = tiny.refusal(run_student, other.cfg, tiny.faces())
    assert f"is the record of run {plain.id}, expected {other.id}" in text


@pytest.mark.parametrize("damage", ["foreign", "truncated"])
def test_a_batch_counts_no_record_that_is_not_the_runs_own(root, exchanged, damage):
    """Though the notebook lies beside it, the job is not done, its figure not in the table."""
    teacher, student = jobs_of(tiny.config(root), [STUDENT])
    (plain,) = jobs_of(exchanged.cfg, [STUDENT])
    for job, stem in ((teacher, TEACHER), (student, STUDENT), (plain, STUDENT)):
        (job.run.folder / f"{stem}.ipynb").write_text("{}")
        if damage == "truncated" and job is not plain:
            (job.run.folder / "run.json").write_text('{"run": ')
    assert [job.state for job in (teacher, student, plain)] == ["unreadable", "unreadable", "done"]
    told = {job.key: Outcome(job.key, "failed") for job in (teacher, student)}
    figures = results([teacher, student, plain], told)["accuracy"].notna()
    assert list(figures) == [False, False, True]
