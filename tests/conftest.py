"""One thread for every test (bit-exact claims need a fixed number), and the smoke runs."""

import shutil
from pathlib import Path

import pytest
import tiny
import torch

from gmelib import experiment, run
from gmelib.experiment import run_student, run_teacher

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smoke_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder in which the batch notebooks ran on smoke.yaml, 03 with and without KD.

    05 makes its table of those two students.
    """
    root = tmp_path_factory.mktemp("outputs")
    assert run_smoke(root, "01_data_generation", "02_teacher") == 0
    assert run_smoke(root, "03_student_distillation", kd_weight="0") == 0
    assert run_smoke(root, "03_student_distillation", "06_attention_visualization") == 0
    assert run_smoke(root, "08_predict", "09_robustness") == 0
    table = {"rows": '["GME-Net", "DBAM+GM without KD"]', "sweeps": "[]"}
    assert run_smoke(root, "05_ablations", **table) == 0
    return root


def run_smoke(root: Path, *stems: str, **parameters: str) -> int:
    """Runs notebooks as the command line does, on drawn faces into ``root``; the exit status."""
    overlays = [x for name in ("base", "synthetic", "smoke") for x in ("-f", f"params/{name}.yaml")]
    pairs = {"out_root": str(root), "num_threads": "1"} | parameters
    given = [x for name, value in pairs.items() for x in ("-p", name, value)]
    return run.main([*(f"notebooks/{stem}.ipynb" for stem in stems), *overlays, *given])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder with a teacher, its student, and a student without distillation."""
    root = tmp_path_factory.mktemp("finished")
    faces = tiny.faces()
    run_teacher(tiny.config(root), faces)
    run_student(tiny.config(root), faces)
    run_student(tiny.config(root, kd_weight=0), faces)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return shutil.copytree(finished, tmp_path / "outputs")


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if anything is trained."""

    def fail(*args, **kwargs):
        raise AssertionError("trained although it is done")

    monkeypatch.setattr(experiment, "fit", fail)
