"""Published results: records under outputs/published/, checked and printed into README.

    python -m gmelib.published                  verify: every figure from its record, README too
    python -m gmelib.published --write          write README's tables from the records
    python -m gmelib.published --add RUN ...    copy finished runs (without training state)

Verifying needs no data set: metrics are recomputed from predictions.parquet.
"""

import argparse
import math
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from gmelib import paper
from gmelib.config import PRIVATE, PROJECT_ROOT, InputError, read_yaml, resolve
from gmelib.evaluate import load_predictions
from gmelib.metrics import paired_difference, report
from gmelib.record import PUBLISHED, read_facts

README = PROJECT_ROOT / "README.md"
LEFT_OUT = {"last.pt", "next.pt", "previous.pt", "lock.json", "training.json"}
MARK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TOLERANCE = 1e-9  # of a recomputed figure


def published_runs(dataset: str | None = None) -> list[Path]:
    """Folders of the published runs, teachers before students."""
    folders = [path.parent for path in PUBLISHED.glob(f"{dataset or '*'}/*/*/run.json")]
    return sorted(folders, key=lambda f: (f.parts[-3], f.parts[-2] != "teacher", f.name))


# -- verifying ------------------------------------------------------------------------------------


def problems_of(folder: Path) -> list[str]:
    """What is wrong with one published run; empty if every figure comes out again."""
    facts = read_facts(folder)
    name = f"{facts['dataset']}/{facts['run']}"
    missing = [f for f in ("history.jsonl", "predictions.parquet") if not (folder / f).is_file()]
    if "metrics" not in facts:
        return []  # a data or attention report has no test figures
    if missing:
        return [f"{name}: {', '.join(missing)} is missing; publish the run again"]
    found = report(load_predictions(folder), resamples=facts["config"]["resamples"])
    wrong = [
        f"{name}: {scope} {metric} is {there} in run.json, recomputed {here}"
        for scope, metric, here, there in _pairs(found, facts["metrics"])
        if not _equal(here, there)
    ]
    if facts["revision"]["commit"] is None or facts["revision"]["dirty"]:
        wrong.append(f"{name}: was not made by a committed revision of the code")
    return wrong


def _pairs(found: dict[str, Any], told: dict[str, Any]) -> Iterable[tuple[str, str, Any, Any]]:
    for scope, metrics in found.items():
        for metric, figures in (metrics or {}).items():
            there = (told.get(scope) or {}).get(metric, {})
            for part, value in figures.items():
                yield scope, f"{metric}.{part}", value, there.get(part)


def _equal(here: float | None, there: float | None) -> bool:
    if here is None or there is None:
        return here is there
    return math.isclose(here, there, abs_tol=TOLERANCE)


def verify() -> list[str]:
    """Problems of all published runs and of README's tables."""
    wrong = [problem for folder in published_runs() for problem in problems_of(folder)]
    text = README.read_text()
    try:
        if filled(text) != text:
            wrong.append("README.md: a table differs from the records; run this with --write")
    except InputError as error:  # records that contradict each other
        wrong.append(f"README.md: its tables cannot be made: {error}")
    return wrong


# -- tables ---------------------------------------------------------------------------------------


def results_table(dataset: str) -> str:
    """The results of a data set as a Markdown table, one row a published run."""
    rows = [_row(folder) for folder in published_runs(dataset) if "metrics" in read_facts(folder)]
    if not rows:
        return "No run is published yet.\n"
    lines = [_markdown(pd.DataFrame(rows))]
    lines += [f"- {sentence}" for sentence in differences(dataset)]
    return "\n".join(lines) + "\n"


def _row(folder: Path) -> dict[str, str]:
    facts = read_facts(folder)
    config, stage = facts["config"], facts["stage"]
    theirs = paper.accuracy_of(config, stage)
    side = f"{config['lr_size']} px" if stage == "student" else f"{config['input_size']} px (HR)"
    clean = facts["metrics"]["without_duplicates"]
    return {
        "network": paper.row_of(config, stage),
        "faces": side,
        "seed": str(config["seed"]),
        "accuracy": _percent(facts["metrics"]["all"]["accuracy"]),
        "without copies": _percent(clean["accuracy"]) if clean else "",
        "macro-F1": _percent(facts["metrics"]["all"]["macro_f1"]),
        "paper": f"{theirs:.2f}" if theirs else "–",
        "preset": preset_of(config),
        "epochs": str(config["epochs"]),
        "hours": f"{facts['wall_seconds'] / 3600:.2f}",
        "device": facts["sessions"][-1]["device"],
        "record": f"[{facts['run']}]({folder.relative_to(PROJECT_ROOT)}/run.json)",
    }


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['value']:.2f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def preset_of(config: dict[str, Any]) -> str:
    """The preset in params/ that a run follows in every key, or ``own``."""
    for name in ("cpu", "paper"):
        values = read_yaml(f"params/{name}.yaml")
        followed = set(values) - PRIVATE - {"kd_weight"}  # no distillation is a row of its own
        if all(config[key] == values[key] for key in followed):
            return name
    return "own"


def differences(dataset: str) -> list[str]:
    """KD minus no KD, for every pair of published students that differ in nothing else."""
    students = [
        (folder, read_facts(folder)["config"])
        for folder in published_runs(dataset)
        if folder.parts[-2] == "student"
    ]
    sentences = []
    for folder, config in students:
        for other, plain in students:
            if config["kd_weight"] and plain == config | {"kd_weight": 0.0}:
                sentences += _difference(folder, other, config)
    return sentences


def _difference(distilled: Path, plain: Path, config: dict[str, Any]) -> list[str]:
    names = (f"{paper.row_of(config, 'student')} with KD", "without KD")
    a, b = load_predictions(distilled), load_predictions(plain)
    everything = paired_difference(a, b, names=names)
    clean = paired_difference(a[~a.duplicate], b[~b.duplicate], names=names)
    where = f"seed {config['seed']}, {config['lr_size']} px"
    return [
        f"{everything.verdict} ({where}; McNemar p = {everything.p_value:.2g}); "
        f"without copies {100 * clean.value:+.1f} "
        f"[{100 * clean.low:+.1f}, {100 * clean.high:+.1f}]."
    ]


def filled(text: str) -> str:
    """README's text with every ``<!-- results: ... -->`` block made from the records."""
    return MARK.sub(lambda m: m[1] + results_table(m[2]) + m[3], text)


# -- publishing -----------------------------------------------------------------------------------


def add(folder: Path) -> Path:
    """Copies a finished run into outputs/published/, whole or not at all; returns its place."""
    facts = read_facts(folder)
    place = PUBLISHED / facts["dataset"] / facts["stage"] / facts["run"]
    temporary = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)

    def left_out(_: str, names: list[str]) -> set[str]:
        return {n for n in names if n in LEFT_OUT or n.startswith(".")}

    shutil.copytree(folder, temporary, ignore=left_out)
    shutil.rmtree(place, ignore_errors=True)
    temporary.rename(place)
    return place


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.published",
        description="Verify the published results, or publish finished runs.",
    )
    parser.add_argument("--write", action="store_true", help="write README's tables")
    parser.add_argument("--add", nargs="+", metavar="RUN", help="folders of finished runs")
    options = parser.parse_args()
    try:
        for folder in options.add or ():
            print(f"published {add(resolve(folder)).relative_to(PROJECT_ROOT)}")
        if options.write or options.add:
            README.write_text(filled(README.read_text()))
        wrong = verify()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    for problem in wrong:
        print(problem, file=sys.stderr)
    runs = len(published_runs())
    if not wrong:
        print(f"{runs} published runs: every figure comes out again from its record, README agrees")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
