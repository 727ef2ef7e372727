"""Tables and sentences of the notebooks, made from run records, none typed by hand."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gmelib import paper
from gmelib.config import Config
from gmelib.data import DataReport
from gmelib.evaluate import load_predictions
from gmelib.gallery import Gallery
from gmelib.metrics import Difference, from_report, paired_difference
from gmelib.record import Run
from gmelib.variants import row_of
from gmelib.wording import count, percent

SCOPES = {"all": "all test faces", "without_duplicates": "without copies of training faces"}


def metrics_table(run: Run) -> pd.DataFrame:
    """Every metric of a finished run in per cent with its 95 % interval: all faces, and without
    those whose pixels also stand in the training split."""
    columns = {}
    has_copies = load_predictions(run.folder)["duplicate"].any()
    for scope, title in SCOPES.items():
        part = run.facts()["metrics"][scope]
        if not part or (columns and not has_copies):
            continue
        table = from_report(part)
        columns[f"{title} (n = {table['n'].iloc[0]})"] = [
            percent(*row) if row[0] == row[0] else "no faces"
            for row in table[["value", "low", "high"]].to_numpy()
        ]
    names = table.index.str.replace("_", " ")
    return pd.DataFrame(columns, index=pd.Index(names, name="per cent"))


def provenance(run: Run) -> pd.DataFrame:
    """Where a finished run's figures come from."""
    facts = run.facts()
    session = facts["sessions"][-1]
    revision = facts["revision"]
    code = (revision["commit"] or "unknown")[:12] + (" + changes" if revision["dirty"] else "")
    rows = {
        "run": facts["run"],
        "code revision": code,
        "data fingerprint": facts["data"]["fingerprint"][:12],
        "device": session["device"],
        "precision": session["precision"],
        "epochs": f"{facts['config']['epochs']}, evaluated: {facts['selection']['epoch']} "
        f"(by {facts['selection']['by']})",
        "seed": facts["config"]["seed"],
        "training time": f"{facts['wall_seconds'] / 60:.1f} min in {len(facts['sessions'])} "
        "session(s)",
        "parameters, MACs": f"{facts['complexity']['parameters'] / 1e6:.2f} M, "
        f"{facts['complexity']['macs'] / 1e9:.3f} G a face",
        "versions": ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v),
    }
    if session.get("processes", 1) > 1:
        rows["processes"] = session["processes"]
    if facts["distillation"]["teacher"]:
        rows["teacher"] = facts["distillation"]["teacher"]
        rows["KD weight x blocks"] = f"{facts['distillation']['kd_weight_x_blocks']:g}"
    return pd.DataFrame({"value": rows.values()}, index=rows.keys())


def comparisons(beside: Mapping[str, Run]) -> pd.DataFrame:
    """The first finished run minus each of the others, paired on the same test faces."""
    (name, first), *others = beside.items()
    rows = {}
    for other_name, other in others:
        a, b = load_predictions(first.folder), load_predictions(other.folder)
        for scope, title in SCOPES.items():
            if scope == "without_duplicates":
                if not a.duplicate.any() or a.duplicate.all():
                    continue
                a, b = a[~a.duplicate], b[~b.duplicate]
            found = paired_difference(a, b, names=(name, other_name))
            rows[f"{name} minus {other_name}", title] = _described(found)
    return pd.DataFrame(rows).T


def _described(difference: Difference) -> dict[str, str]:
    return {
        "points": percent(difference.value, difference.low, difference.high),
        "McNemar p": f"{difference.p_value:.2g}",
        "only first right": str(difference.only_a),
        "only second right": str(difference.only_b),
        "verdict": difference.verdict.rsplit(": ", 1)[-1],
    }


def _extremes(recalls: Mapping[str, float]) -> str:
    """The classes of the best and of the worst recall, all of them."""
    best, worst = max(recalls.values()), min(recalls.values())
    if best == worst:
        return f"Recall of every class: {100 * best:.0f} %."
    names = {r: ", ".join(n for n, v in recalls.items() if v == r) for r in (best, worst)}
    return (
        f"Best recall: {names[best]} ({100 * best:.0f} %); worst: {names[worst]} "
        f"({100 * worst:.0f} %)."
    )


def _length(config: Mapping[str, Any]) -> str:
    """How long a run was, and how large a GME-Net."""
    faces = f" of {count(config['limit_train'], 'face')}" if config["limit_train"] else ""
    width = f" at width {config['width']}" if config.get("method", "gmenet") == "gmenet" else ""
    return f"{count(config['epochs'], 'epoch')}{faces}{width}"


def conclusion(run: Run) -> str:
    """What a finished run shows, in sentences made from its figures."""
    facts = run.facts()
    config, part = facts["config"], facts["metrics"]["all"]
    recalls = {n.removeprefix("recall_"): v for n, v in part.items() if n.startswith("recall_")}
    accuracy = part["accuracy"]
    largest = max(recalls, key=lambda name: recalls[name]["n"])
    sentences = [
        f"Test accuracy {percent(accuracy['value'], accuracy['low'], accuracy['high'])} % on "
        f"{accuracy['n']} faces; who always says {largest} is right on "
        f"{recalls[largest]['n'] / accuracy['n']:.1%}.",
        _extremes({name: v["value"] for name, v in recalls.items() if v["value"] is not None}),
    ]
    theirs = paper.accuracy_of(config, facts["stage"])
    if theirs:
        gap = 100 * accuracy["value"] - theirs
        sentences.append(
            f"The paper reports {theirs:.2f} % for this row ({row_of(config, 'student')}), at full "
            f"size; this run, {_length(config)}, is {gap:+.1f} points from it."
        )
    if config["dataset"] == "synthetic":
        sentences.append("Drawn faces only show that everything works: this is not a result.")
    if config["select"] == "test":
        sentences.append("The epoch was picked on the test set: not comparable with others.")
    return "\n".join(sentences)


def _balance(train: pd.Series) -> str:
    ratio = train.max() / train.min()
    if ratio < 1.05:
        return f"The classes are equally frequent in training ({train.min():,} faces or more each)."
    return (
        f"Most frequent in training: {train.idxmax()} ({train.max():,}), rarest: "
        f"{train.idxmin()} ({train.min():,}), {ratio:.1f} times fewer."
    )


def data_conclusion(report: DataReport, loss: pd.DataFrame, cfg: Config) -> str:
    """What the data notebook shows."""
    counts = report.faces.counts()
    train = counts["train"]
    at_lr = loss.loc[cfg.lr_size]
    state = f"{len(report.problems)} problem(s) found" if report.problems else "no problem found"
    return "\n".join(
        [
            f"{cfg.dataset}: {len(report.faces):,} faces of {report.faces.images.shape[-1]} px, "
            f"{len(counts)} classes; {state}.",
            _balance(train),
            f"At {cfg.lr_size} px {cfg.kernel} keeps {at_lr[cfg.kernel]:.1f} dB; the best kernel "
            f"by this measure is {at_lr.idxmax()} ({at_lr.max():.1f} dB), the worst "
            f"{at_lr.idxmin()} ({at_lr.min():.1f} dB).",
        ]
    )


def attention_conclusion(alike: pd.DataFrame, student_run: Run, shown: Gallery) -> str:
    """What the attention notebook shows."""
    stages = alike.groupby("stage")[["channel", "spatial"]].mean()
    spatial = stages["spatial"]
    kd = student_run.cfg.kd_weight
    how = f"with distillation (weight {kd:g})" if kd else "without distillation"
    sentences = [
        f"A student {how}: mean similarity to the teacher's maps {alike['channel'].mean():.2f} "
        f"(channel) and {alike['spatial'].mean():.2f} (spatial).",
        f"Spatial maps agree most in stage {spatial.idxmax()} ({spatial.max():.2f}) and least in "
        f"stage {spatial.idxmin()} ({spatial.min():.2f}).",
    ]
    silent = [
        f"{kind} of block {row.block} ({1 - getattr(row, f'{kind}_compared'):.0%} of the faces)"
        for row in alike.itertuples()
        for kind in ("channel", "spatial")
        if getattr(row, f"{kind}_compared") < 1
    ]
    if silent:
        sentences.append(f"Left out, for a map is zero everywhere: {', '.join(silent)}.")
    if shown.drawn and student_run.cfg.dataset != "synthetic":
        sentences.append("The panels show drawn faces: the photographs may not be handed on.")
    if student_run.cfg.dataset == "synthetic":
        sentences.append("Drawn faces only show that everything works: this is not a result.")
    return "\n".join(sentences)
