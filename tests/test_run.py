"""gmelib.run and gmelib.report on tiny notebooks: parameters, filing, reports, failures."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gmelib import filing, record, run
from gmelib.config import PROJECT_ROOT, InputError
from gmelib.index import NOTEBOOK_NAME
from gmelib.launch import configuration
from gmelib.report import draw_formula, to_html

PARAMETERS = """\
seed: int = 0  # of everything
out_root: str = "outputs"  # folder of the runs
batch: bool = False  # set by gmelib.run
global_blocks: list = [1, 2]  # numbers
"""
ANNOUNCE = f"""\
from IPython.display import display
folder = out_root + "/synthetic/teacher/run-a"
told = {{"text/plain": "run folder", "{record.MIME}": {{"run_dir": folder}}}}
display(told, raw=True)
"""
SHOW = "import os, gmelib\nprint('saw', seed, batch, global_blocks, os.getcwd())"


def write_notebook(path: Path, *code: str, title: str = "# A question") -> Path:
    cells = [new_markdown_cell(title)]
    cells.append(new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    cells += map(new_code_cell, code)
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return path


def text_of(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    return "\n".join(out.get("text", "") for out in outputs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One notebook run through the command: exit status, root folder and run folder."""
    root = tmp_path_factory.mktemp("run")
    overlay, later = root / "a.yaml", root / "b.yaml"
    overlay.write_text(f"seed: 1\nglobal_blocks: [3, 4]\nout_root: {root}/out\n")
    later.write_text("seed: 2\n")
    notebook = write_notebook(root / "01_tiny.ipynb", ANNOUNCE, SHOW)
    argv = [str(notebook), "-f", str(overlay), "-f", str(later), "-p", "seed", "3"]
    return run.main(argv), root, root / "out" / "synthetic" / "teacher" / "run-a"


def test_a_finished_notebook_lies_in_its_run_folder(finished):
    status, root, folder = finished
    assert status == 0
    assert {p.name for p in folder.iterdir()} == {"01_tiny.ipynb", "report.html"}
    assert not list((root / "out" / run.UNFINISHED).iterdir())


def test_later_overlays_win_and_p_wins_over_all(finished):
    assert f"saw 3 True [3, 4] {PROJECT_ROOT}" in text_of(finished[2] / "01_tiny.ipynb")


def test_filed_notebook_names_no_path_of_the_project(finished):
    text = (finished[2] / "01_tiny.ipynb").read_text()
    assert f"{PROJECT_ROOT}/" not in text


def test_report_has_no_code_and_needs_no_network(finished):
    page = (finished[2] / "report.html").read_text()
    assert "saw 3 True" in page and "<title>A question</title>" in page
    assert "os.getcwd" not in page and "seed: int" not in page
    assert "<script" not in page
    assert not re.findall(r"<(?:link|img|iframe)[^>]*(?:src|href)=[\"']?https?:", page)


def test_second_notebook_of_a_run_keeps_the_first_ones_report(finished, tmp_path):
    _, root, folder = finished
    executed = tmp_path / "06_maps.ipynb"
    executed.write_text((folder / "01_tiny.ipynb").read_text())
    before = (folder / "report.html").read_bytes()
    assert run.main(["--report", str(executed)]) == 0
    assert (folder / "06_maps.html").is_file() and (folder / "06_maps.ipynb").is_file()
    assert (folder / "report.html").read_bytes() == before


def test_what_shows_a_published_run_is_not_written_there(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    folder = tmp_path / "published" / "fer2013" / "teacher" / "run-a"
    output = new_output("display_data", {record.MIME: {"run_dir": str(folder)}, "text/plain": "x"})
    cell = new_code_cell("show()", execution_count=1, outputs=[output])
    executed = tmp_path / "02_teacher.ipynb"
    nbformat.write(new_notebook(cells=[cell]), executed)
    report = filing.file_away(executed, "02_teacher", out_root=tmp_path / "out", keep=True)
    assert report == tmp_path / "out" / "fer2013" / "teacher" / "run-a" / "report.html"
    assert not folder.exists() and executed.exists()


def test_a_notebook_is_filed_after_its_report(tmp_path, monkeypatch):
    """A batch takes the job for done where it lies: a process killed between has to go on."""
    executed = tmp_path / "02_teacher.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A question")]), executed)
    written = []
    monkeypatch.setattr(record, "write_atomic", lambda path, data: written.append(path.name))
    filing.file_away(executed, "02_teacher", out_root=tmp_path / "out", keep=True)
    assert written == ["report.html", "02_teacher.ipynb"]


@pytest.mark.parametrize("name", ["{out_root}/a-{seed}.ipynb", "{out_root}/{{a}}-{seed}.ipynb"])
def test_braces_in_the_output_are_filled_once(tmp_path, monkeypatch, name):
    notebook = write_notebook(tmp_path / "01_tiny.ipynb", "1")
    out = tmp_path / "{out}"
    argv = [str(notebook), "-o", name, "-p", "seed", "3", "-p", "out_root", str(out)]
    assert run.main(argv) == 0
    assert (out / Path(name.format(out_root=out, seed=3)).name).is_file()
    assert (out / notebook.stem / "report.html").is_file()


@pytest.mark.parametrize(
    "output", ["{lr_size}.ipynb", "{}.ipynb", "{seed.x}", "{seed[0]}", "{seed", "{seed:x y}"]
)
def test_braces_that_cannot_be_filled_stop_before_anything_starts(
    tmp_path, capsys, monkeypatch, output
):
    monkeypatch.setattr(run, "execute", lambda *a, **k: pytest.fail("something was started"))
    notebook = write_notebook(tmp_path / "x.ipynb", "1")
    assert run.main([str(notebook), "-o", output, "-p", "seed", "3"]) == 2
    error = capsys.readouterr().err
    assert f"-o {output}: cannot be filled in (" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b'{"cells": [', b"", b"{}", b"[]", b'{"nbformat": 4}', b"\xff"], ids=repr
)
def test_the_report_of_a_damaged_notebook_is_refused_in_one_line(tmp_path, capsys, content):
    executed = tmp_path / "cut.ipynb"
    executed.write_bytes(content)
    assert run.main(["--report", str(executed)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {executed}: not readable as a notebook (")
    assert error.count("\n") == 1 and error.endswith("run it again\n")


def test_the_project_folder_is_cut_off_only_where_a_path_begins(tmp_path):
    """A copy of the project's path may stand in the middle of another one, as on a scratch disk."""
    scratch = f"{tmp_path}{PROJECT_ROOT}"
    folder = Path(scratch) / "runs" / "fer2013" / "teacher" / "run-a"
    text = f"{PROJECT_ROOT}/a\n'{PROJECT_ROOT}/b'\n\x1b[32m{PROJECT_ROOT}/c\x1b[0m\n{scratch}/d\n"
    outputs = [
        new_output("display_data", {record.MIME: {"run_dir": str(folder)}, "text/plain": "x"}),
        new_output("stream", name="stdout", text=text),
    ]
    executed = tmp_path / "02_teacher.ipynb"
    cell = new_code_cell("show()", execution_count=1, outputs=outputs)
    nbformat.write(new_notebook(cells=[cell]), executed)
    report = filing.file_away(executed, "02_teacher", out_root=tmp_path / "out", keep=True)
    assert report == folder / "report.html"
    assert text_of(folder / "02_teacher.ipynb").strip() == (
        f"a\n'b'\n\x1b[32mc\x1b[0m\n{scratch}/d"
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-p", "sed", "1"], "unknown parameter 'sed': did you mean 'seed'?"),
        (["-p", "seed", "-1"], "parameter seed = -1"),
        (["-f", "params/none.yaml"], "params/none.yaml: no such YAML file"),
        (["--kernel", "cobol"], "Jupyter knows no such kernel; expected python3"),
    ],
)
def test_wrong_arguments_stop_before_anything_starts(tmp_path, capsys, monkeypatch, argv, said):
    started = []
    monkeypatch.setattr(run, "execute", lambda *a, **k: started.append(a))
    notebook = write_notebook(tmp_path / "x.ipynb", SHOW)
    assert run.main([str(notebook), *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not started


def test_an_option_that_a_method_does_not_have_stops_before_anything_starts(capsys, monkeypatch):
    monkeypatch.setattr(run, "execute", lambda *a, **k: pytest.fail("something was started"))
    argv = ["notebooks/02_teacher.ipynb", "-p", "method", "eac", "-p", "method_options"]
    assert run.main([*argv, "{deph: 18}"]) == 2
    error = capsys.readouterr().err
    assert "method_options: eac has no 'deph'" in error and error.count("\n") == 1


@pytest.mark.parametrize("text", ["params/smoke.yaml", "[params/smoke.yaml]", ""])
def test_overlays_may_be_one_file_or_none(text):
    given = run.read_parameters([], [("overlays", text)])
    run.check_parameters(PROJECT_ROOT / "notebooks" / "02_teacher.ipynb", given)
    assert configuration([], [("overlays", text)]).epochs == (2 if text else 100)


def test_a_misspelt_name_in_the_second_notebook_stops_the_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "execute", lambda *a, **k: pytest.fail("something was started"))
    first = write_notebook(tmp_path / "a.ipynb")
    second = tmp_path / "b.ipynb"
    second.write_text("{}")
    assert run.main([str(first), str(second), "-p", "seed", "1"]) == 2
    assert "b.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('first\\nlast line')", "ValueError: last line"),
        ("import os; os._exit(1)", "DeadKernelError"),
    ],
)
def test_failure_keeps_the_half_notebook_and_no_report(tmp_path, capsys, code, said):
    notebook = write_notebook(tmp_path / "bad.ipynb", ANNOUNCE, code)
    out = tmp_path / "out"
    assert run.main([str(notebook), "-p", "out_root", str(out)]) == 1
    (half,) = (out / run.UNFINISHED).iterdir()
    named = NOTEBOOK_NAME.fullmatch(half.stem)
    assert (named["stem"], named["host"]) == ("bad", socket.gethostname())
    assert named["pid"] == str(os.getpid())
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: bad.ipynb failed") and said in last and str(half) in last
    assert not list(out.rglob("*.html"))
    assert run.main(["--report", str(half)]) == 2
    assert not list(out.rglob("*.html"))


def test_a_notebook_stopped_in_mid_cell_is_no_finished_one(tmp_path):
    notebook = write_notebook(tmp_path / "slow.ipynb", "open(out_root, 'x')", "while True: pass")
    mark, out = tmp_path / "mark", tmp_path / "half.ipynb"
    command = [sys.executable, "-m", "gmelib.run", str(notebook), "-o", str(out)]
    process = subprocess.Popen(
        [*command, "-p", "out_root", str(mark)], cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 90
    while not mark.exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert any(line.startswith("stopped") for line in error.splitlines()), error
    assert run.main(["--report", str(out)]) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("none", "none"),
        ("[3, 4]", [3, 4]), ("12x12", "12x12"), ("a: b: c", "a: b: c"), ("", ""), ("None", None),
        ("{a: 0.5}", {"a": 0.5}), ("faces #2", "faces #2"), ("010", 10), ("2026-13-45",) * 2,
    ],
)  # fmt: skip
def test_values_on_the_command_line(text, value):
    assert run.read_parameters([], [("x", text)]) == {"x": value}


@pytest.mark.parametrize("text", ["[3, 4", "{a: [}", "[2026-13-45]"])
def test_a_list_that_cannot_be_read_is_one_line(text):
    with pytest.raises(InputError) as error:
        run.read_parameters([], [("x", text)])
    line = str(error.value)
    assert line.startswith(f"-p x {text!r}: not readable (") and "\n" not in line


def test_unwritable_out_root_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    notebook = write_notebook(tmp_path / "x.ipynb")
    with pytest.raises(InputError, match="cannot be written"):
        run.run(notebook, {"out_root": str(tmp_path / "file" / "out")})


def test_progress_bars_and_widgets_are_left_out_of_reports():
    bar = "epochs:  50%|#####     | 1/2 [00:01<00:01]\repochs: 100%|##########| 2/2 [00:02]\nlast"
    outputs = [
        new_output("stream", name="stderr", text=bar),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}),
        new_output("execute_result", {"text/plain": "42"}, execution_count=1),
    ]
    cell = new_code_cell("x", execution_count=1, outputs=outputs)
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"application/x": {}}})
    before = json.dumps(notebook)
    page = to_html(notebook, source="x")
    assert "last" in page and "42" in page and "epochs" not in page and "widget-view" not in page
    assert json.dumps(notebook) == before  # the notebook itself is not changed


def test_formulas_are_drawn_and_prices_are_not():
    text = r"with $\lambda = 5$ and `$x$` at 5$ to 6$" + "\n\n" + r"$$\frac{a}{b}$$"
    page = to_html(new_notebook(cells=[new_markdown_cell(text)]), source="x")
    images = re.findall(r'<img alt="([^"]+)"[^>]*base64,([^"]+)"', page)
    assert [alt for alt, _ in images] == [r"\lambda = 5", r"\frac{a}{b}"]
    assert b"<svg" in base64.b64decode(images[0][1]) and "at 5$ to 6$" in page
    assert draw_formula(r"\nosuchcommand") == r"<code>\nosuchcommand</code>"
