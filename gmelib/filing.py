"""Files an executed notebook and its report in the folder of the run that it announced."""

import os
import re
from pathlib import Path
from typing import Any

import nbformat

from gmelib import record
from gmelib.config import PROJECT_ROOT, InputError, resolve
from gmelib.report import to_html

# the project's folder where a path begins with it (after a colour of the terminal, too), not where
# it stands in the middle of another path
ROOT_AT_START = re.compile(rf"(\x1b\[[\d;]*m|(?<![\w.~/-])){re.escape(f'{PROJECT_ROOT}{os.sep}')}")


def run_folder(executed: nbformat.NotebookNode) -> Path | None:
    """The run folder that an executed notebook announced last, or None."""
    outputs = [out for cell in executed.cells for out in cell.get("outputs", ())]
    told = [out.data[record.MIME] for out in outputs if record.MIME in out.get("data", ())]
    return resolve(told[-1]["run_dir"]) if told else None


def file_away(executed: Path, stem: str, *, out_root: Path, keep: bool) -> Path:
    """Moves (``keep``: copies) an executed notebook into its run folder, and its report beside it.

    A published run is only read, so what shows it lands at the same place under ``out_root``. A
    notebook that announced no run gets ``out_root/<stem>/``.

    Returns:
        the report's path: ``report.html``, or ``<stem>.html`` in the folder of another notebook.

    Raises:
        InputError: the notebook is not readable or not executed to its end, or the folder cannot
            be written.
    """
    notebook = _read(executed)
    _require_finished(notebook, executed)
    folder = record.workplace_of(run_folder(notebook) or out_root / stem, out_root)
    notebook = nbformat.from_dict(_without_root(notebook))
    report, html = _report_path(folder, stem), to_html(notebook, source=stem)
    if "papermill" in notebook.metadata:
        notebook.metadata.papermill.output_path = f"{stem}.ipynb"
    record.write_atomic(report, html.encode())
    # last: where it lies, a batch takes the job for done
    record.write_atomic(folder / f"{stem}.ipynb", nbformat.writes(notebook).encode())
    if not keep:
        executed.unlink()
    return report


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        notebook = nbformat.reads(path.read_text(), as_version=4)
        if not {"cells", "metadata"} <= notebook.keys():  # of which nbformat only complains
            raise ValueError("it has no cells or no metadata")
        return notebook
    except Exception as error:  # the system, json and nbformat each have their own
        reason = str(error).strip() or type(error).__name__
        raise InputError(
            f"{path}: not readable as a notebook ({reason.splitlines()[0]}); expected an executed "
            "one: run it again"
        ) from None


def _without_root(value: Any) -> Any:
    """Every path of the project relative to it, in all strings: the same on any machine."""
    if isinstance(value, str):
        return ROOT_AT_START.sub(r"\1", value)
    if isinstance(value, dict):
        return {name: _without_root(one) for name, one in value.items()}
    return [_without_root(one) for one in value] if isinstance(value, list) else value


def _require_finished(notebook: nbformat.NotebookNode, path: Path) -> None:
    about = notebook.metadata.get("papermill", {})
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    is_whole = all(cell.get("execution_count") and _was_answered(cell) for cell in code)
    has_error = any(out.output_type == "error" for out in outputs) or about.get("exception")
    if has_error or not is_whole or (about and not about.get("end_time")):
        raise InputError(f"{path}: not executed to its end; expected a finished notebook: run it")


def _was_answered(cell: nbformat.NotebookNode) -> bool:
    """False for the cell in which a kernel died: papermill counts it as completed."""
    times = cell.metadata.get("execution", {})
    return not times or "shell.execute_reply" in times


def _report_path(folder: Path, stem: str) -> Path:
    report = folder / "report.html"
    if report.is_file() and f'name="notebook" content="{stem}"' not in report.read_text():
        return folder / f"{stem}.html"
    return report
