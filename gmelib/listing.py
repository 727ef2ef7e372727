"""outputs/published/README.md: every published run, one a line, made from the records beside it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gmelib import paper
from gmelib.config import Config, InputError, resolve
from gmelib.fields import DATASET_ONLY
from gmelib.record import PUBLISHED, read_facts
from gmelib.variants import ENTRIES, KD, ROWS, compared_config, mode_of, row_config, row_of
from gmelib.wording import markdown, percent

PRESETS = ("cpu", "paper")  # in params/, of published runs
NAMES = {"fer2013": "FER2013", "ferplus": "FERPlus", "rafdb": "RAF-DB", "expw": "ExpW"}
# a run that changes more was judged on validation faces
ON_TEST = {"lr_size", "epochs", "drop_duplicates"}
TEACHERS, ROWS_MADE, COMPARED_MADE, RESOLUTIONS, CHOICES = TRAINED = (
    "Teachers", "Students: rows of the ablation", "Students: compared methods and modes",
    "Students: resolutions, lengths and other training faces",
    "Students: choices of the preset, judged on validation faces",
)  # fmt: skip
OTHERS = {  # by stage
    "ablation": "Ablation tables", "comparison": "Comparison tables", "attention": "Attention",
    "robustness": "Face sizes", "data": "Data",
}  # fmt: skip
SECTIONS = (*TRAINED, *OTHERS.values())
LIST_HEAD = """\
# Published runs

Made by `python -m gmelib.published --write` from the records beside this file. Accuracy, macro-F1
and validation accuracy in per cent; the first two on the test faces, with 95 % bootstrap intervals.
*Without copies* leaves out test faces that are pixel-equal to a training face. A run that tries a
choice of the preset is judged on validation faces: its test figures decide nothing and stand in its
record only. What the preset itself reaches in as many epochs stands under *resolutions,
lengths and other training faces*.
"""

Row = dict[str, str]


def published_runs(dataset: str | None = None) -> list[Path]:
    """Folders of the published runs, teachers before students."""
    folders = [path.parent for path in PUBLISHED.glob(f"{dataset or '*'}/*/*/run.json")]
    return sorted(folders, key=lambda f: (f.parts[-3], f.parts[-2] != "teacher", *f.parts[-2:]))


def preset_and_changes(config: Mapping[str, Any], stage: str) -> tuple[str, dict[str, Any]]:
    """The preset in params/ that a run is nearest to, and what else it changes.

    What makes it a row of the ablation, or a compared method in its mode, and the seed are no
    changes. Presets of compared methods are called ``peers/cpu`` and so on.
    """
    cfg, found = Config.make(**config), {}
    for name, base in _bases(cfg, stage):
        ours, theirs = cfg.scientific(), base.scientific()
        names = [n for n in {**theirs, **ours} if ours.get(n) != theirs.get(n)]
        changes = {n: getattr(cfg, n) for n in sorted(names)}
        if name not in found or len(changes) < len(found[name]):
            found[name] = changes
    best = min(found, key=lambda name: (len(found[name]), name.startswith("peers/")))
    return best, found[best]


def _bases(cfg: Config, stage: str) -> Iterable[tuple[str, Config]]:
    """What a run would be with nothing changed, for each preset that it may come from."""
    data = {name: getattr(cfg, name) for name in ("dataset", *DATASET_ONLY.get(cfg.dataset, ()))}
    data["lr_size"] = paper.LR_SIZES.get(cfg.dataset, cfg.lr_size)
    row, own = row_of(cfg.model_dump(), stage), f"params/{cfg.dataset}.yaml"
    overlays = ["params/base.yaml", *([own] if resolve(own).is_file() else [])]
    for name in PRESETS:
        base = Config.load(*overlays, f"params/{name}.yaml", **data, seed=cfg.seed, peers=name)
        for entry in (e for e in ENTRIES if e.startswith(cfg.method)):
            mode = KD if stage == "teacher" else mode_of(cfg.model_dump())
            try:
                compared = compared_config(base, entry, mode)
            except InputError:  # not distilled
                continue
            yield f"peers/{name}", compared.teacher() if stage == "teacher" else compared
        if row in ROWS:
            base = row_config(base, row)
        elif stage == "teacher":
            kept = {"attention": cfg.attention, "global_branch": cfg.global_branch}
            base = base.teacher().replace(**kept)
        yield name, base


def listing() -> str:
    """outputs/published/README.md: every published run, one a line."""
    parts = [LIST_HEAD]
    for dataset in sorted({folder.parts[-3] for folder in published_runs()}):
        parts.append(f"## {NAMES.get(dataset, dataset)}\n")
        lines = [_listed(folder) for folder in published_runs(dataset)]
        for section in SECTIONS:
            rows = sorted((row for title, row in lines if title == section), key=_order)
            parts += [f"### {section}\n\n{markdown(rows)}"] if rows else []
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
    if preset.startswith("peers/") and not is_high:
        section = COMPARED_MADE if is_tested else CHOICES
    elif changes and not is_high:
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
