"""The published tables, made from the records under outputs/published/.

README.md has blocks that end with ``<!-- end -->``: from ``<!-- ablation: fer2013 -->`` Tables 4
and 5, ours beside the paper's; from ``<!-- rates: fer2013 -->`` rows at several learning rates.
outputs/published/README.md lists every published run, one a line.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gmelib import paper
from gmelib.ablation import Cell, complete, contrasts, rate_scores, rates_shown, scores
from gmelib.config import PROJECT_ROOT, Config, resolve
from gmelib.estimate import estimated_hours
from gmelib.fields import DATASET_ONLY
from gmelib.grid import read_jobs
from gmelib.record import PUBLISHED, Run, read_facts
from gmelib.variants import ROWS, row_config, row_of
from gmelib.wording import number, percent

PLAN = "params/grids/ablation.yaml"  # which rows and seeds the tables are to have
PRESETS = ("cpu", "paper")  # in params/, of published runs
MARK = re.compile(r"(<!-- (ablation|rates): ([\w, ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES = {"fer2013": "FER2013", "ferplus": "FERPlus", "rafdb": "RAF-DB", "expw": "ExpW"}
REQUESTED = ("rafdb", "expw")  # their owners must be asked for the faces
SHOWN = {"KD": "KD", "branch 2": "Branch 2"}  # the contrasts whose gains 4.3 states
ON_TEST = {"lr_size", "epochs"}  # a run that changes more was judged on validation faces
TEACHERS, ROWS_MADE, RESOLUTIONS, CHOICES = TRAINED = (
    "Teachers", "Students: rows of the ablation", "Students: resolutions and lengths",
    "Students: choices of the preset, judged on validation faces",
)  # fmt: skip
OTHERS = {"ablation": "Ablation tables", "attention": "Attention", "data": "Data"}  # by stage
SECTIONS = (*TRAINED, *OTHERS.values())
LIST_HEAD = """\
# Published runs

Made by `python -m gmelib.published --write` from the records beside this file. Accuracy, macro-F1
and validation accuracy in per cent; the first two on the test faces, with 95 % bootstrap intervals.
*Without copies* leaves out test faces that are pixel-equal to a training face. A run that tries a
choice of the preset is judged on validation faces: its test figures decide nothing and stand in its
record only. What the preset itself reaches in as many epochs stands under *resolutions and
lengths*.
"""

Row = dict[str, str]


def _markdown(rows: Iterable[Row]) -> str:
    """A Markdown table, without the columns that are empty in every row."""
    table = list(rows)
    names = [name for name in table[0] if any(row[name] for row in table)]
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in table)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# -- Tables 4 and 5 -------------------------------------------------------------------------------


def planned(dataset: str) -> dict[tuple[str, int], Config]:
    """(row, seed) -> student, for all that the plan asks for, in the order of the rows."""
    students = {}
    for job in read_jobs(PLAN, out_root=str(PUBLISHED), device="cpu"):
        if job.run and job.run.stage == "student" and job.cfg.dataset == dataset:
            students[row_of(job.cfg.model_dump(), "student"), job.cfg.seed] = job.cfg
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
    lines = [_markdown([*_rows(cells), *_rows(teachers)])]
    added = contrasts(cells)
    lines += [_gain(SHOWN[name], row) for name, row in added.iterrows() if name in SHOWN]
    return "\n".join(lines) + "\n"


def _teacher(cfg: Config) -> Cell:
    run = Run.open(cfg.teacher(), "teacher")
    return Cell(run, None if run.is_done else estimated_hours(run.cfg, "teacher"))


def _rows(cells: Mapping[tuple[str, int], Cell]) -> Iterable[Row]:
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
    return _markdown(rows)


def rates_table(datasets: list[str]) -> str:
    """Rows at several learning rates, in per cent of the validation faces."""
    tables = {}
    for dataset in datasets:
        preset = max(planned(dataset).values(), key=lambda cfg: cfg.kd_weight)  # a distilled row
        tables[NAMES[dataset]] = rates_shown(rate_scores(preset))
    joined = pd.concat(tables, names=["data set"]).fillna("")
    joined = joined[sorted(joined.columns, key=float)]
    lines = joined.reset_index().to_dict("records")
    return _markdown(lines) if lines else "No such run is published.\n"


def filled(text: str) -> str:
    """README's text with every ``<!-- ablation: ... -->`` and ``<!-- rates: ... -->`` block made
    from the records."""

    def block(match: re.Match[str]) -> str:
        names = [name.strip() for name in match[3].split(",")]
        is_ours = len(names) == 1 and names[0] not in REQUESTED
        if match[2] == "rates":
            table = rates_table(names)
        else:
            table = ablation_table(names[0]) if is_ours else requested_table(names)
        return match[1] + table + match[4]

    return MARK.sub(block, text)


# -- the list of all published runs ---------------------------------------------------------------


def published_runs(dataset: str | None = None) -> list[Path]:
    """Folders of the published runs, teachers before students."""
    folders = [path.parent for path in PUBLISHED.glob(f"{dataset or '*'}/*/*/run.json")]
    return sorted(folders, key=lambda f: (f.parts[-3], f.parts[-2] != "teacher", *f.parts[-2:]))


def preset_and_changes(config: Mapping[str, Any], stage: str) -> tuple[str, dict[str, Any]]:
    """The preset in params/ that a run is nearest to, and what else it changes.

    What makes it a row of the ablation, and the seed, are no changes.
    """
    cfg, found = Config.make(**config), {}
    data = {name: getattr(cfg, name) for name in ("dataset", *DATASET_ONLY.get(cfg.dataset, ()))}
    data["lr_size"] = paper.LR_SIZES.get(cfg.dataset, cfg.lr_size)
    row, own = row_of(config, stage), f"params/{cfg.dataset}.yaml"
    overlays = ["params/base.yaml", *([own] if resolve(own).is_file() else [])]
    for name in PRESETS:
        base = Config.load(*overlays, f"params/{name}.yaml", **data, seed=cfg.seed)
        if row in ROWS:
            base = row_config(base, row)
        elif stage == "teacher":
            kept = {"attention": cfg.attention, "global_branch": cfg.global_branch}
            base = base.teacher().replace(**kept)
        ours, theirs = cfg.scientific(), base.scientific()
        names = [n for n in {**theirs, **ours} if ours.get(n) != theirs.get(n)]
        found[name] = {n: getattr(cfg, n) for n in sorted(names)}
    best = min(found, key=lambda name: len(found[name]))
    return best, found[best]


def listing() -> str:
    """outputs/published/README.md: every published run, one a line."""
    parts = [LIST_HEAD]
    for dataset in sorted({folder.parts[-3] for folder in published_runs()}):
        parts.append(f"## {NAMES.get(dataset, dataset)}\n")
        lines = [_listed(folder) for folder in published_runs(dataset)]
        for section in SECTIONS:
            rows = sorted((row for title, row in lines if title == section), key=_order)
            parts += [f"### {section}\n\n{_markdown(rows)}"] if rows else []
    return "\n".join(parts)


def _order(row: Row) -> tuple[Any, ...]:
    """By resolution, then as the rows of the ablation, then by seed."""
    if "row" not in row:
        return (row["run"],)
    rank = list(ROWS).index(row["row"]) if row["row"] in ROWS else len(ROWS)
    return int(row["faces"].removesuffix(" px")), rank, int(row["seed"]), row["preset"]


def _listed(folder: Path) -> tuple[str, Row]:
    facts = read_facts(folder)
    place = "/".join(folder.parts[-3:])
    links = [f"[record]({place}/run.json)"]
    links += [f"[report]({place}/report.html)"] if (folder / "report.html").is_file() else []
    line = {
        "run": facts["run"],
        "finished": facts["finished"][:10],
        "code": (facts["revision"]["commit"] or "unknown")[:8],
        "open": " ".join(links),
    }
    if facts["stage"] in OTHERS:
        return OTHERS[facts["stage"]], line
    section, figures = _trained(facts)
    return section, {"run": line["run"]} | figures | line


def _trained(facts: Mapping[str, Any]) -> tuple[str, Row]:
    """Section and figures of a teacher or a student."""
    config, stage = facts["config"], facts["stage"]
    preset, changes = preset_and_changes(config, stage)
    is_tested = changes.keys() <= ON_TEST
    is_high = stage == "teacher"
    section = TEACHERS if is_high else ROWS_MADE
    if changes and not is_high:
        section = RESOLUTIONS if is_tested else CHOICES
    everything, clean = facts["metrics"]["all"], facts["metrics"]["without_duplicates"]
    return section, {
        "row": row_of(config, stage),
        "faces": f"{config['input_size'] if is_high else config['lr_size']} px",
        "seed": str(config["seed"]),
        "preset": ", ".join([preset, *(f"{name} = {value}" for name, value in changes.items())]),
        "accuracy": _interval(everything["accuracy"]) if is_tested else "–",
        "without copies": _interval(clean["accuracy"]) if is_tested and clean else "–",
        "macro-F1": _interval(everything["macro_f1"]) if is_tested else "–",
        "validation": f"{100 * facts['validation']['best_accuracy']:.2f}",
        "epochs": str(config["epochs"]),
        "hours": f"{facts['wall_seconds'] / 3600:.2f}",
        "device": facts["sessions"][-1]["device"],
    }


def _interval(figure: Mapping[str, float]) -> str:
    return percent(figure["value"], figure["low"], figure["high"], digits=2)
