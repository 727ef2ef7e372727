"""README's tables, made from the records under outputs/published/.

README.md has blocks that end with ``<!-- end -->``: from ``<!-- ablation: fer2013 -->`` Tables 4
and 5, ours beside the paper's; from ``<!-- rates: fer2013 -->`` rows at several learning rates;
from ``<!-- comparison: ferplus -->`` Tables 1-3, and from ``<!-- costs: all -->`` Table 1's counts;
``resolutions`` and ``sweeps`` likewise; from ``<!-- leaks: fer2013 -->`` what copies across splits
are worth.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from gmelib import paper
from gmelib.ablation import (
    Cell,
    complete,
    contrasts,
    rate_scores,
    rates_shown,
    scores,
    sweep_students,
    sweeps_shown,
)
from gmelib.comparison import comparison_lines, cost_lines, row_name
from gmelib.config import PROJECT_ROOT, Config
from gmelib.estimate import estimated_hours
from gmelib.grid import read_jobs
from gmelib.leaks import leak_scores, published_copies
from gmelib.listing import NAMES
from gmelib.record import PUBLISHED, Run
from gmelib.variants import ROWS, SWEEPS, row_of
from gmelib.wording import markdown, number, percent

PLAN = "params/grids/ablation.yaml"  # which rows and seeds the tables are to have
COMPARISON_PLAN = "params/grids/comparison.yaml"
RESOLUTIONS_PLAN = "params/grids/resolutions.yaml"
LEAKS_PLAN = "params/grids/duplicates.yaml"
KINDS = "ablation|resolutions|sweeps|rates|comparison|costs|leaks"
MARK = re.compile(rf"(<!-- ({KINDS}): ([\w, ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
REQUESTED = ("rafdb", "expw")  # their owners must be asked for the faces
SHOWN = {"KD": "KD", "branch 2": "Branch 2"}  # the contrasts whose gains 4.3 states


# -- Tables 4 and 5 -------------------------------------------------------------------------------


def _students(plan: str, dataset: str) -> Iterable[Config]:
    """The students of a grid, as they would be published."""
    for job in read_jobs(plan, out_root=str(PUBLISHED), device="cpu"):
        if job.run and job.run.stage == "student" and job.cfg.dataset == dataset:
            yield job.cfg


def planned(dataset: str) -> dict[tuple[str, int], Config]:
    """(row, seed) -> student, for all that the plan asks for, in the order of the rows."""
    students = {
        (row_of(cfg.model_dump(), "student"), cfg.seed): cfg for cfg in _students(PLAN, dataset)
    }
    rows = list(ROWS)
    return dict(sorted(students.items(), key=lambda item: (rows.index(item[0][0]), item[0][1])))


def ablation_table(dataset: str) -> str:
    """A line a row of Table 4 or 5, a line a teacher, and what KD and branch 2 bring."""
    students = planned(dataset)
    if not students:
        return "No run of this data set is planned.\n"
    cells = complete(students, train=False)
    teachers = {
        (f"teacher of {row}, {cfg.input_size} px", seed): _teacher(cfg)
        for (row, seed), cfg in students.items()
        if cfg.kd_weight
    }
    lines = [markdown([*_rows(cells), *_rows(teachers)])]
    added = contrasts(cells)
    lines += [_gain(SHOWN[name], row) for name, row in added.iterrows() if name in SHOWN]
    return "\n".join(lines) + "\n"


def _teacher(cfg: Config) -> Cell:
    run = Run.open(cfg.teacher(), "teacher")
    return Cell(run, None if run.is_done else estimated_hours(run.cfg, "teacher"))


def _rows(cells: Mapping[tuple[str, int], Cell]) -> Iterable[dict[str, str]]:
    table, clean = scores(cells), scores(cells, "without_duplicates")
    has_copies = any(c.run.facts()["data"]["duplicates"] for c in cells.values() if c.is_done)
    for name, row in table.iterrows():
        own = {seed: cell.run for (r, seed), cell in cells.items() if r == name}
        done = {seed: run for seed, run in own.items() if run.is_done}
        first = next(iter(own.values()))
        hours = sum(run.facts()["wall_seconds"] for run in done.values()) / 3600
        records = (f"[seed {seed}]({_place(run.folder)}/run.json)" for seed, run in done.items())
        found = f"{_score(row)} {row['over']}".strip()
        theirs = row[["paper", "difference"]] if first.stage == "student" else {}
        yield {
            "row": name,
            "ours": "; ".join(filter(None, [found, row["missing"]])),
            "n": str(row["n"] or ""),
            "without copies": _score(clean.loc[name]) if has_copies else "",
            "paper": number(theirs.get("paper"), "{:.2f}") or "–",
            "ours - paper": number(theirs.get("difference"), "{:+.1f}"),
            "epochs": str(first.cfg.epochs),
            "hours": f"{hours:.1f}" if done else "",
            "records": " ".join(records),
        }


def _score(row: pd.Series) -> str:
    if pd.isna(row["accuracy"]):
        return ""
    return f"{row['accuracy']:.2f} [{row['low']:.1f}, {row['high']:.1f}]"


def _place(folder: Path) -> str:
    return folder.relative_to(PROJECT_ROOT).as_posix()


def _gain(name: str, row: pd.Series) -> str:
    """What a part brings, in points, ours beside the paper's."""
    theirs = number(row["paper"], "the paper: {:+.2f}")
    what = f"- {name} ({row['first']} minus {row['second']})"
    if not row["n"]:
        return "; ".join(filter(None, [f"{what}: not run", theirs])) + "."
    tests = ", ".join(f"{p:.2g} (seed {seed})" for seed, p in row["faces_p"].items())
    parts = [
        f"{what}: {row['value']:+.1f} points [{row['low']:+.1f}, {row['high']:+.1f}] "
        f"over {row['over']}; {row['verdict']}",
        f"McNemar p, Holm-adjusted: {tests}",
        number(row["seeds_p"], "paired t over the seeds: p = {:.2g}"),
        number(row["clean"], "without copies {:+.1f}"),
        theirs,
    ]
    return "; ".join(filter(None, parts)) + "."


def requested_table(datasets: list[str]) -> str:
    """The paper's figures of data sets that are given on request only."""
    rows = []
    for row, theirs in paper.ABLATION.items():
        line = {"row": row}
        for dataset in datasets:
            size = paper.LR_SIZES[dataset]
            line[f"{NAMES[dataset]}, {size} x {size}"] = "ready, data by request"
            line[f"paper, {NAMES[dataset]}"] = f"{theirs[dataset]:.2f}"
        rows.append(line)
    return markdown(rows)


def rates_table(datasets: list[str]) -> str:
    """Rows at several learning rates, in per cent of the validation faces."""
    tables = {}
    for dataset in datasets:
        preset = max(planned(dataset).values(), key=lambda cfg: cfg.kd_weight)  # a distilled row
        tables[NAMES[dataset]] = rates_shown(rate_scores(preset))
    joined = pd.concat(tables, names=["data set"]).fillna("")
    joined = joined[sorted(joined.columns, key=float)]
    lines = joined.reset_index().to_dict("records")
    return markdown(lines) if lines else "No such run is published.\n"


def resolutions_table(dataset: str) -> str:
    """A line a resolution and row, as many epochs as the grid says."""
    students = {}
    for cfg in _students(RESOLUTIONS_PLAN, dataset):
        row = row_of(cfg.model_dump(), "student")
        students[f"{row}, {cfg.lr_size} px, {cfg.epochs} epochs", cfg.seed] = cfg
    return markdown(_rows(complete(students, train=False)))


def sweeps_table(dataset: str) -> str:
    """A line a value of every free choice, in per cent of the validation faces."""
    preset = max(planned(dataset).values(), key=lambda cfg: cfg.kd_weight)
    cfg = preset.replace(sweeps=list(SWEEPS), seeds=[0], attention="dbam", global_branch=True)
    shown = sweeps_shown(complete(sweep_students(cfg), train=False), cfg)
    lines = shown.reset_index().astype(str).to_dict("records")
    return markdown(lines)


def comparison_table(dataset: str) -> str:
    """A line a compared method and mode of Tables 1-3 that is planned."""
    students = {(row_name(cfg), cfg.seed): cfg for cfg in _students(COMPARISON_PLAN, dataset)}
    if not students:
        return "No run of this data set is planned.\n"
    return markdown(comparison_lines(complete(students, train=False), _place))


def leaks_table(dataset: str) -> str:
    """Accuracy with and without test faces that have a copy in train, a line a network."""
    copies = published_copies(dataset)
    if copies is None:
        return "The copies of this data set are not published.\n"
    runs = {}
    for cfg in _students(LEAKS_PLAN, dataset):
        how = "" if cfg.drop_duplicates == "none" else ", trained without copies"
        runs[f"teacher, {cfg.input_size} px{how}"] = Run.open(cfg.teacher(), "teacher")
        runs[f"student, {cfg.lr_size} px{how}"] = Run.open(cfg, "student")
    scores_of = leak_scores({name: run for name, run in runs.items() if run.is_done}, copies)
    lines = []
    for name, run in runs.items():
        line = dict.fromkeys(["network", *scores_of.index.unique("faces"), "records"], "")
        line["network"] = name
        if run.is_done:
            for faces, row in scores_of.loc[name].iterrows():
                line[faces] = percent(row["value"], row["low"], row["high"], digits=2)
            line["records"] = f"[seed {run.cfg.seed}]({_place(run.folder)}/run.json)"
        else:
            line["records"] = f"not run (est. {estimated_hours(run.cfg, run.stage):.1f} h)"
        lines.append(line)
    numbers = scores_of.groupby("faces", sort=False)["n"].first()
    head = {faces: f"{faces} (n = {int(n):,})" for faces, n in numbers.items()}
    return markdown([{head.get(k, k): v for k, v in line.items()} for line in lines])


def filled(text: str) -> str:
    """README's text with every block made anew: from the records, and Table 1's from the code."""

    def block(match: re.Match[str]) -> str:
        names = [name.strip() for name in match[3].split(",")]
        is_ours = len(names) == 1 and names[0] not in REQUESTED
        make = {
            "rates": lambda: rates_table(names),
            "resolutions": lambda: resolutions_table(names[0]),
            "sweeps": lambda: sweeps_table(names[0]),
            "comparison": lambda: comparison_table(names[0]),
            "leaks": lambda: leaks_table(names[0]),
            "costs": lambda: markdown(cost_lines()),
            "ablation": lambda: ablation_table(names[0]) if is_ours else requested_table(names),
        }
        table = make[match[2]]()
        return match[1] + table + match[4]

    return MARK.sub(block, text)
