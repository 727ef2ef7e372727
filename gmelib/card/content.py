"""What a model card says: every figure from run.json, texts for what no figure tells."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gmelib.config import Config, InputError
from gmelib.data import native_faces
from gmelib.data.faceset import shown
from gmelib.methods import METHODS, title_of
from gmelib.record import read_facts

WEIGHTS = "model.safetensors"
NEAR_ZERO = 0.1  # a class of less recall is named among the limits
DATA = {  # name, and what holds for weights that were learnt from it
    "synthetic": ("drawn faces", "The faces are drawn by gmelib; no one else has rights in them."),
    "fer2013": (
        "FER2013",
        "FER2013's photographs were found by web search and are given out through Kaggle for "
        "research. Weights learnt from them stand under the terms that came with your copy: read "
        "them before you pass weights on or use them commercially.",
    ),
    "ferplus": (
        "FERPlus",
        "The photographs are FER2013's, found by web search and given out through Kaggle for "
        "research; the votes have a licence of their own. Read the terms of both before you pass "
        "weights on or use them commercially.",
    ),
    "rafdb": (
        "RAF-DB",
        "RAF-DB is given out on a signed request, for research that is not commercial; weights "
        "learnt from it are bound by what was signed.",
    ),
    "expw": (
        "ExpW",
        "ExpW is given out for research that is not commercial; weights learnt from it are bound "
        "by its terms.",
    ),
    "folder": (
        "a folder of images",
        "The terms and the consent under which its images were collected hold for the weights too.",
    ),
}
USES = (
    "Research on and teaching of low-resolution facial expression recognition.",
    "A baseline on the same data and split.",
    "Studies of what a network looks at, with faces whose owners agreed to it.",
)
MISUSES = (
    "Inferring what people feel. An expression is no feeling: people smile without joy and grieve "
    "without a frown. The network names what annotators would have called a picture.",
    "Judging people who have not agreed to it, or any decision about a person: hiring, grading, "
    "policing, insurance, credit, diagnosis, border control.",
    "Surveillance: that it reads small faces does not make it reliable on them.",
    "Workplaces and schools, where law may forbid it: Article 5(1)(f) of the European Union's AI "
    "Act (2024/1689) prohibits inferring emotions there but for medical and safety reasons. Other "
    "places have limits of their own.",
)
CITATION = (
    "Jingyi Shi: Global Multiple Extraction Network for Low-Resolution Facial Expression "
    "Recognition. arXiv:2511.05938."
)
OWN_REMARK = "This network is a reproduction, not the author's."
PEER_REMARK = "It compares with {}, which this network reproduces: cite its authors too."
DRAWN = (
    "TRAINED AND TESTED ON DRAWN FACES. The figures below show that the code works; they are no "
    "results and say nothing about photographs. Do not use this network on people."
)


def facts_of_network(folder: Path) -> dict[str, Any]:
    """The record of a finished teacher or student.

    Raises:
        InputError: the run is not finished, or trained no network.
    """
    facts = read_facts(folder)
    if facts["stage"] not in ("teacher", "student"):
        raise InputError(
            f"{shown(folder)}: is a record of {facts['stage']}, which trains no network; expected "
            "the folder of a teacher or a student"
        )
    return facts


def card_of(folder: Path) -> dict[str, Any]:
    """The card of a finished teacher or student, as model_card.json holds it.

    Raises:
        InputError: as :func:`facts_of_network`.
    """
    facts = facts_of_network(folder)
    cfg = Config.make(**facts["config"])
    title, licence = DATA[cfg.dataset]
    everything = facts["metrics"]["all"]
    is_peer = cfg.method != "gmenet"
    remark = PEER_REMARK.format(METHODS[cfg.method].title) if is_peer else OWN_REMARK
    return {
        "schema": 1,
        "run": facts["run"],
        "model": f"{title_of(cfg)}, {facts['stage']}",
        "warning": DRAWN if cfg.dataset == "synthetic" else None,
        "weights": _weights(folder),
        "input": input_text(cfg, facts["stage"], native_faces(cfg, facts)[0]) + _answer_text(cfg),
        "classes": facts["classes"],
        "complexity": facts["complexity"],
        "data": {"name": title} | facts["data"],
        "metrics": facts["metrics"],
        "near_zero_recall": {
            name: everything[f"recall_{name}"] for name in _near_zero(everything, facts["classes"])
        },
        "training": _training(cfg, facts),
        "limits": list(_limits(cfg, facts)),
        "intended_use": list(USES),
        "misuse": list(MISUSES),
        "licence": licence,
        "citation": f"{CITATION} {remark}",
        "revision": facts["revision"],
        "versions": facts["versions"],
    }


def input_text(cfg: Config, stage: str, channels: int) -> str:
    """What a network expects, and what is done with a face before it gets there.

    Args:
        channels: of the faces that it was trained on, 1 (grey) or 3.
    """
    side = f"{cfg.input_size} x {cfg.input_size} px"
    faces = "8-bit faces, cropped to the face, square and upright"
    if channels == 1:
        faces += ", grey: it was trained on no others, so colour is turned to grey (luma) first"
    scaled = "scaled to [-1, 1]; a grey face is repeated to three channels"
    if stage == "teacher":
        return f"{faces}. They are resized to {side} (antialiased bicubic) and {scaled}."
    blur = f"blurred (Gaussian, sigma {cfg.blur_sigma:g} px), " if cfg.blur_sigma else ""
    return (
        f"{faces}. Larger ones are shrunk to {cfg.lr_size} x {cfg.lr_size} px (antialiased "
        f"{cfg.kernel}, rounded to 8 bit). Then they are enlarged to {side} ({cfg.kernel}), {blur}"
        f"and {scaled}."
    )


def _answer_text(cfg: Config) -> str:
    """What the figures' answers were, besides the network's."""
    if not cfg.flip_average:
        return ""
    return " The figures are of answers averaged with the mirrored face's."


def _weights(folder: Path) -> dict[str, Any] | None:
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"file": WEIGHTS, "bytes": len(content), "sha256": digest}


def _near_zero(metrics: Mapping[str, Any], classes: list[str]) -> list[str]:
    recalls = {name: metrics.get(f"recall_{name}", {}).get("value") for name in classes}
    return [name for name, value in recalls.items() if value is not None and value < NEAR_ZERO]


def _training(cfg: Config, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Budget, machine and choice of the epoch; a record of older code lacks some of it."""
    sessions = facts["sessions"]
    return {
        "preset": {name: getattr(cfg, name) for name in ("epochs", "batch_size", "seed")},
        "trained_on": "hr" if facts["stage"] == "teacher" else cfg.train_on,
        "faces": _trained_on(cfg, facts),
        "labelled": _labelled(cfg, facts),
        "devices": sorted({session["device"] for session in sessions}),
        "precision": sorted({session.get("precision") or cfg.precision for session in sessions}),
        "hours": facts["wall_seconds"] / 3600,
        "budget": facts.get("budget"),
        "selection": facts.get("selection"),
        "validation": facts["validation"],
        "distillation": facts.get("distillation"),
        "finished": facts["finished"],
    }


def _trained_on(cfg: Config, facts: Mapping[str, Any]) -> int:
    """Training faces that were used, which may be fewer than there are."""
    present = sum(facts["data"]["counts"]["train"].values())
    return min(cfg.limit_train or present, present)


def _labelled(cfg: Config, facts: Mapping[str, Any]) -> int:
    """Those of them whose labels were used (Ada-CM may take the others without)."""
    used = _trained_on(cfg, facts)
    return min(cfg.method_options.get("labels") or used, used)


def _limits(cfg: Config, facts: Mapping[str, Any]) -> Iterable[str]:
    """Sentences, each with the figures that it rests on."""
    everything, clean = facts["metrics"]["all"], facts["metrics"].get("without_duplicates")
    size = f"{cfg.lr_size} px"
    if facts["stage"] == "teacher":
        yield "Trained and tested on high-resolution faces; on low resolution it was not tested."
    else:
        trained = {"lr": size, "hr": "high resolution", "lr+hr": f"high resolution and {size}"}
        yield (
            f"Trained on faces of {trained[cfg.train_on]}, tested on {size}. Other sizes, and "
            "faces that a camera rather than a filter made small, were not tested here."
        )
    yield f"{1 - everything['accuracy']['value']:.0%} of the test faces are read wrongly."
    counts = facts["data"]["counts"]["train"]
    total = sum(counts.values())
    for name in _near_zero(everything, facts["classes"]):
        recall = everything[f"recall_{name}"]
        yield (
            f"{name} is hardly ever recognized: recall {recall['value']:.1%} of {recall['n']} test "
            f"faces; {counts.get(name, 0):,} of {total:,} training faces show it."
        )
    used, labelled = _trained_on(cfg, facts), _labelled(cfg, facts)
    if used < total:
        yield f"Only {used:,} of the {total:,} training faces were used."
    if labelled < used:
        yield f"The labels of only {labelled:,} training faces were used."
    if facts["data"]["duplicates"] and clean:
        yield (
            "Some validation or test faces stand in training too, pixel for pixel: "
            f"{facts['data']['duplicates']} in all. Without the copies among the test faces the "
            f"accuracy is {clean['accuracy']['value']:.2%}."
        )
    yield (
        "Its probabilities are off by "
        f"{everything['expected_calibration_error']['value']:.1%} on average (expected calibration "
        "error)."
    )
    if cfg.select == "test":
        yield "The epoch was chosen on the test faces, so the test figures flatter it."
    yield f"One training, with seed {cfg.seed}: the intervals are over faces, not over trainings."
    yield (
        "No demographic evaluation was done: how its errors are spread over age, gender, skin "
        "colour or culture is unknown."
    )
