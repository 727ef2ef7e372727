"""``outputs/index.html``: every run on one page that is opened from disk, with no server.

    python -m gmelib.index [OUT_ROOT]

Finished, running and broken runs under ``OUT_ROOT`` and outputs/published/, and the notebooks that
failed, with their key figures and links to what they left. Reads records only: no model, no data.
"""

import argparse
import json
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from jinja2 import Environment

from gmelib import lock
from gmelib.config import PROJECT_ROOT, InputError, resolve
from gmelib.record import PUBLISHED, now, read_facts, write_atomic
from gmelib.variants import row_of

TEMPLATE = Path(__file__).with_name("index.html")
STATES = ("running", "failed", "damaged", "broken", "unfinished", "done")  # what needs a look first
OF_ONE_NETWORK = ("teacher", "student", "attention", "predict", "robustness")  # stages
NAMES = {"report.html": "report", "run.json": "record"}  # of links
FIGURES = (
    "px", "seed", "epochs", "accuracy", "macro-F1", "validation", "hours", "finished",
)  # fmt: skip
RUN_NAME = re.compile(r"-s\d+-[0-9a-f]{8}$")
NOTEBOOK_NAME = re.compile(  # gmelib.run's; earlier ones name no host
    r"(?P<stem>.+)-(?P<stamp>\d{8}-\d{6})-(?P<pid>\d+)(-(?P<host>.+))?"
)
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # a record of odd content

Line = dict[str, Any]  # what the template shows of a run
Figure = tuple[Any, str, str]  # to sort by, to read, and small print


# -- figures --------------------------------------------------------------------------------------


def _figures(**given: Figure | None) -> list[Figure]:
    return [given.get(re.sub(r"\W+", "_", name)) or ("", "", "") for name in FIGURES]


def _plain(value: Any) -> Figure | None:
    return None if value is None else (value, str(value), "")


def _percent(figure: dict[str, float | None] | None) -> Figure | None:
    if not figure or figure["value"] is None:
        return None
    interval = ""
    if figure.get("low") is not None:
        interval = f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}"
    return figure["value"], f"{100 * figure['value']:.2f}", interval


def _time(stamp: str) -> Figure:
    moment = datetime.fromisoformat(stamp).astimezone(UTC)
    return moment.isoformat(), f"{moment:%Y-%m-%d}", f"{moment:%H:%M}"


def _hours(seconds: float | None) -> Figure | None:
    return None if seconds is None else (seconds, f"{seconds / 3600:.2f}", "")


def _config_figures(config: dict[str, Any], stage: str) -> dict[str, Figure | None]:
    is_high = stage == "teacher"
    return {
        "px": _plain(config["input_size"] if is_high else config["lr_size"]),
        "seed": _plain(config["seed"]),
    }


def _of_record(facts: dict[str, Any]) -> Line:
    """What a finished run's record tells."""
    config, stage = facts["config"], facts["stage"]
    scores = facts.get("metrics", {}).get("all", {})
    best = facts.get("validation", {}).get("best_accuracy")
    is_trained = "sessions" in facts
    marks = ["epoch picked on the test set"] * (is_trained and config["select"] == "test")
    marks += ["code with changes"] * bool(facts.get("revision", {}).get("dirty"))
    return {
        "state": "done",
        "detail": ", ".join(marks),
        "row": row_of(config, stage) if stage in OF_ONE_NETWORK else "",
        "figures": _figures(
            **_config_figures(config, stage),
            epochs=_plain(config["epochs"]) if is_trained else None,
            accuracy=_percent(scores.get("accuracy")),
            macro_F1=_percent(scores.get("macro_f1")),
            validation=_percent({"value": best}),
            hours=_hours(facts.get("wall_seconds")),
            finished=_time(facts["finished"]),
        ),
    }


def _of_unfinished(folder: Path, stage: str) -> Line:
    """What training.json, written after every epoch, tells of a run that is not finished."""
    try:
        progress = json.loads((folder / "training.json").read_text())
        config, epoch = progress.get("config", {}), progress["epoch"]
        seconds = sum(session["seconds"] for session in progress["sessions"])
        figures = _config_figures(config, stage) if config else {}
        row = row_of(config, stage) if config else ""
    except (OSError, *UNUSABLE):
        config, epoch, seconds, figures, row = {}, 0, None, {}, ""
    total = f" of {config['epochs']}" if config else ""
    resumable = any((folder / name).is_file() for name in ("last.pt", "next.pt", "previous.pt"))
    what = f"epoch {epoch}{total} is saved" if resumable and epoch else "no finished epoch"
    return {
        "state": "broken",
        "detail": f"{what}; start it again, it goes on" if resumable else f"{what}; start it again",
        "progress": f"epoch {epoch}{total}" if epoch else "first epoch",
        "row": row,
        "figures": _figures(
            **figures,
            epochs=(epoch, f"{epoch}{total}", "") if epoch else None,
            hours=_hours(seconds),
        ),
    }


# -- runs -----------------------------------------------------------------------------------------


def _run_folders(root: Path) -> Iterable[Path]:
    for folder in root.glob("[!.]*/*/*"):
        is_run = RUN_NAME.search(folder.name) or (folder / "run.json").is_file()
        if is_run and (root == PUBLISHED or PUBLISHED not in folder.parents):
            yield folder


def _line(folders: list[Path], out_root: Path) -> Line:
    """A run as the page shows it, from its own folder and its published one, or either."""
    decides = next((f for f in folders if (f / "run.json").is_file()), folders[0])
    dataset, stage, name = decides.parts[-3:]
    try:
        is_done = (decides / "run.json").is_file()
        line = _of_record(read_facts(decides)) if is_done else _of_unfinished(decides, stage)
    except InputError as error:
        line = _damaged(str(error).removeprefix(f"{decides}{os.sep}"))
    except UNUSABLE as error:
        line = _damaged(f"run.json lacks what a record holds ({type(error).__name__}: {error})")
    holder = lock.holder(folders[0] / "lock.json")
    if holder:
        who = holder.replace("+00:00", " UTC")
        line |= {"state": "running", "detail": f"{line.get('progress', 'again')}: {who}"}
    if line["state"] == "done" and PUBLISHED in decides.parents:
        line["detail"] = ", ".join(filter(None, ["published", line["detail"]]))
    links, pictures = _links(folders, out_root)
    about = {"dataset": dataset, "stage": stage, "name": name, "rank": STATES.index(line["state"])}
    return line | about | {"links": links, "pictures": pictures}


def _damaged(detail: str) -> Line:
    return {"state": "damaged", "detail": detail, "row": "", "figures": _figures()}


def _links(folders: list[Path], out_root: Path) -> tuple[list, list]:
    links, pictures = [], []
    for folder in folders:
        own = " (own)" if len(folders) > 1 and PUBLISHED not in folder.parents else ""
        files = [f for f in folder.glob("[!.]*") if f.suffix in (".html", ".ipynb")]
        files.sort(key=lambda f: (f.name != "report.html", f.suffix, f.name))
        files += [f for f in [folder / "run.json"] if f.is_file()]
        for file in files:
            links.append((_href(file, out_root), _link_text(file) + own))
        for picture in sorted(folder.glob("figures/*.png")):
            pictures.append((_href(picture, out_root), picture.stem + own))
    return links, pictures


def _link_text(file: Path) -> str:
    """``report``, ``record``, ``notebook 03``, ``report 06``: short, for there are many."""
    if file.name in NAMES:
        return NAMES[file.name]
    kind = "notebook" if file.suffix == ".ipynb" else "report"
    return f"{kind} {file.stem[:2] if file.stem[:2].isdigit() else file.stem}"


def _href(file: Path, out_root: Path) -> str:
    relative = os.path.relpath(file, out_root).replace(os.sep, "/")
    return quote(os.fsencode(relative))


# -- notebooks that did not end -------------------------------------------------------------------


def _notebook_line(path: Path, out_root: Path) -> Line:
    """A half-executed notebook: failed with an error, still running, or killed."""
    state, detail, parameters = _end_of(path)
    named = NOTEBOOK_NAME.fullmatch(path.stem)
    stem = named["stem"] if named else path.stem
    is_here = named and named["host"] == socket.gethostname()  # a number means nothing elsewhere
    if state == "unfinished" and is_here and _lives(int(named["pid"]), named["stamp"]):
        state, detail = "running", f"process {named['pid']}"
    saved = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return {
        "state": state,
        "rank": STATES.index(state),
        "detail": detail,
        "dataset": str(parameters.get("dataset", "")),
        "stage": "notebook",
        "row": stem,
        "name": path.name,
        "figures": _figures(seed=_plain(parameters.get("seed")), finished=_time(saved.isoformat())),
        "links": [(_href(path, out_root), "notebook")],
        "pictures": [],
    }


def _end_of(path: Path) -> tuple[str, str, dict[str, Any]]:
    """State, reason and papermill's parameters of a half-executed notebook."""
    try:
        notebook = json.loads(path.read_text())
        about = notebook["metadata"].get("papermill", {})
        outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", ())]
        errors = [o for o in outputs if o.get("output_type") == "error"]
        parameters = dict(about.get("parameters") or {})
    except (OSError, *UNUSABLE):
        return "damaged", "not readable as a notebook", {}
    if errors:
        value = str(errors[-1].get("evalue", "")).strip().splitlines() or [""]
        return "failed", f"{errors[-1].get('ename', 'error')}: {value[-1][:400]}", parameters
    return "unfinished", "no error in it: killed, or running on another machine", parameters


def _lives(pid: int, stamp: str) -> bool:
    """Whether the process that began a notebook at that (local) time is alive on this machine."""
    try:
        began = psutil.Process(pid).create_time()
        return began <= datetime.strptime(stamp, "%Y%m%d-%H%M%S").timestamp() + 1
    except (psutil.Error, ValueError):
        return False


# -- the page -------------------------------------------------------------------------------------


def _lines(out_root: Path) -> list[Line]:
    runs: dict[tuple[str, ...], list[Path]] = {}
    for root in dict.fromkeys((out_root, PUBLISHED)):
        for folder in sorted(_run_folders(root)):
            runs.setdefault(folder.parts[-3:], []).append(folder)
    lines = [_line(folders, out_root) for folders in runs.values()]
    for path in sorted(out_root.glob(".unfinished/*.ipynb")):
        with suppress(FileNotFoundError):  # it has just come to its end
            lines.append(_notebook_line(path, out_root))
    lines.sort(key=lambda line: line["figures"][-1][0], reverse=True)  # the newest first
    return sorted(lines, key=lambda line: line["rank"])


def _summary(lines: list[Line]) -> str:
    if not lines:
        return "No run yet: make run trains teacher and student on drawn faces."
    counts = Counter(line["state"] for line in lines)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) + "."


def write_index(out_root: str | Path = "outputs") -> Path:
    """Writes ``<out_root>/index.html``, whole or not at all; returns its path.

    A record or notebook that cannot be read is a row that says so.

    Raises:
        InputError: the folder cannot be written.
    """
    root = resolve(out_root)
    lines = _lines(root)
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        runs=lines,
        summary=_summary(lines),
        written=now()[:16].replace("T", " "),
        columns=[(n, False) for n in ("run", "state", "data set", "stage")]
        + [(name, True) for name in FIGURES],
        filters=[
            (name, title, sorted({line[name] for line in lines} - {""}))
            for name, title in (("dataset", "data set"), ("stage", "stage"), ("state", "state"))
        ],
    )
    path = root / "index.html"
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.index", description="Write a page that lists every run."
    )
    parser.add_argument("out_root", nargs="?", default="outputs", help="folder of the runs")
    try:
        path = write_index(parser.parse_args().out_root)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path.relative_to(PROJECT_ROOT) if PROJECT_ROOT in path.parents else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
