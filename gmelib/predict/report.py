"""What the prediction notebook shows: which network, which pictures, and what it answered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from gmelib.config import Config, resolve
from gmelib.data import load_faces
from gmelib.data.faceset import shown
from gmelib.experiment import run_student, run_teacher
from gmelib.faces import crop
from gmelib.predict.network import Predictor
from gmelib.predict.pictures import count_pictures, given_pictures, read
from gmelib.predict.stream import BOX
from gmelib.record import Run, write_atomic
from gmelib.synthetic import draw_faces
from gmelib.wording import count

DRAWING_SEED = 3  # none of the drawn data set's, nor of the galleries
DRAWN = ("happiness", "surprise", "anger")  # expressions of the drawn pictures
MOST = 24  # faces in the figure

Pictures = list[str] | dict[str, np.ndarray]


def student_of(cfg: Config) -> Run:
    """The finished student that ``cfg`` means, own or published; trained where it is missing.

    The data set is read only where there is something to train.
    """
    run = Run.open(cfg, "student")
    if run.is_done and not cfg.force and not cfg.teacher_run:
        return run
    faces = load_faces(cfg)
    if cfg.kd_weight and not cfg.teacher_run:
        run_teacher(cfg, faces)
    return run_student(cfg, faces)


def predict_run(student_run: Run) -> Run:
    """Where the prediction report of a student lies."""
    cfg = student_run.cfg
    folder = cfg.path("out_root") / cfg.dataset / "predict" / student_run.id
    return Run(cfg, "predict", folder)


def pictures_of(cfg: Config) -> Pictures:
    """The places in ``predict_paths``; where there are none, name -> drawn face (H, W, 3).

    A drawn face stands there in four sizes, from far above the student's low resolution to below.
    Raises InputError for a place that is not there, or where there is no picture in any.
    """
    if cfg.predict_paths:
        places = [str(resolve(path)) for path in cfg.predict_paths]
        count_pictures(places)
        return places
    size = cfg.lr_size
    drawn = draw_faces(21, size=256, seed=DRAWING_SEED)
    names = [drawn.classes[label] for label in drawn.labels]
    pictures = {}
    for name in DRAWN:
        face = Image.fromarray(drawn.images[names.index(name)].permute(1, 2, 0).numpy())
        for side in (8 * size, 2 * size, size, max(3, size * 2 // 3)):
            small = face.resize((side, side), Image.Resampling.BICUBIC)
            pictures[f"{name}-{side}"] = np.asarray(small)
    return pictures


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A table of predictions as a person reads it: the two likeliest classes, the measured size."""
    lines = []
    for row in table.to_dict("records"):
        line = {"picture": shown(Path(row["path"])), "face": row["face"]}
        likeliest = _likeliest(row)[:2]
        line["size, px"] = f"{row['size']:.3g}" if likeliest else ""
        for title, (name, share) in zip(("expression", "or"), likeliest, strict=False):
            line[title] = f"{name} {share:.0%}"
        lines.append(line | {"remark": row["error"] or row["warning"]})
    return pd.DataFrame(lines).fillna("").set_index("picture")


def _likeliest(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(class, probability), the likeliest first; empty for a picture without an answer."""
    shares = [(n.removeprefix("p_"), p) for n, p in row.items() if n.startswith("p_") and p == p]
    return sorted(shares, key=lambda pair: -pair[1])


def faces_of(pictures: Pictures, table: pd.DataFrame) -> tuple[list[np.ndarray], pd.DataFrame]:
    """The first MOST faces that were answered, as they stand in their pictures, and their rows.

    table: of these pictures, in their order.
    """
    number = (table["face"] <= 1).cumsum()  # a picture's rows begin with face 0 or 1
    found, rows = [], [table.head(0)]
    for picture, (_, all_rows) in zip(given_pictures(pictures), table.groupby(number), strict=True):
        part = all_rows[all_rows["expression"].notna()].head(MOST - len(found))
        if len(part):
            pixels, _ = read(picture.source)
            found += [crop(pixels, box) for box in part[[*BOX]].values]
            rows.append(part)
        if len(found) == MOST:
            break
    return found, pd.concat(rows)


def command(run: Run) -> str:
    """How the same is done for a folder from the command line."""
    return f"python -m gmelib.predict {run.label} FOLDER --out results.csv"


def conclusion(predictor: Predictor, table: pd.DataFrame, *, drawn: bool) -> str:
    """What the table says, in sentences made from it. drawn: the pictures show no real faces."""
    answered = table[table["expression"].notna()]
    counts = answered["expression"].value_counts()
    warned = answered["warning"] != ""
    broken = int((table["error"] != "").sum())
    kind = "at low resolution" if predictor.view == "lr" else "at high resolution"
    sentences = [
        f"{predictor.name} reads faces {kind}, {predictor.size} px: "
        f"{count(len(answered), 'face')} in {count(table['path'].nunique(), 'picture')}"
        + (f", {broken} of which could not be read." if broken else "."),
    ]
    if len(answered):
        told = ", ".join(f"{name} ({n})" for name, n in counts.items())
        sentences.append(f"Answers: {told}.")
    top = answered.filter(regex="^p_").max(axis=1)
    if warned.any():
        others = "" if warned.all() else f", the others with {top[~warned].mean():.0%}"
        sentences.append(
            f"Smaller than the network was trained for: {warned.sum()}, answered with a mean "
            f"confidence of {top[warned].mean():.0%}{others}. Go by the remark, not by the "
            "confidence."
        )
    if drawn or predictor.cfg.dataset == "synthetic":
        sentences.append("Drawn faces only show that everything works: this is not a result.")
    return "\n".join(sentences)


def finish(run: Run, predictor: Predictor, table: pd.DataFrame) -> None:
    """Writes predictions.csv and the record, which names no picture."""
    write_atomic(run.workplace / "predictions.csv", table.to_csv(index=False).encode())
    run.finish(
        student=predictor.name,
        weights=predictor.weights,
        view=predictor.view,
        pictures=table["path"].nunique(),
        faces=int(table["expression"].notna().sum()),
        warnings=int((table["warning"] != "").sum()),
        errors=int((table["error"] != "").sum()),
    )
