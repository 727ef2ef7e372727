"""The robustness report's tables and sentences as the notebook shows them."""

from collections.abc import Sequence

import pandas as pd

from gmelib.ablation.report import NOT_A_RESULT
from gmelib.config import Config
from gmelib.fer_package import ORDER
from gmelib.record import Run
from gmelib.robustness.measure import FER, SIZES, Measured, differences, majority, trained_at
from gmelib.robustness.saved import unlike_record
from gmelib.wording import count

SHARED = ("fer2013", "ferplus")  # data sets of FER2013's faces


def shown(measured: Measured) -> pd.DataFrame:
    """A measured model's curve as text."""
    lines = measured.curve
    return pd.DataFrame(
        {
            "accuracy, % [95 %]": _intervals(lines["accuracy"], lines["low"], lines["high"]),
            "without copies, %": lines["without_copies"].map("{:.1f}".format),
            "macro-F1, % [95 %]": _intervals(
                lines["macro_f1"], lines["macro_f1_low"], lines["macro_f1_high"]
            ),
        }
    ).set_axis(_index(lines))


def differences_shown(student: Measured, fer: Measured) -> pd.DataFrame:
    """:func:`differences` as text."""
    lines = differences(student, fer)
    points = _intervals(lines["value"], lines["low"], lines["high"], "{:+.1f}")
    table = pd.DataFrame({f"{student.name} − {FER}, points [95 %]": points})
    table["McNemar p (Holm)"] = lines["holm"].map("{:.2g}".format)
    table["more accurate"] = lines["ahead"].replace("", "not shown")
    return table.set_axis(_index(lines))


def _index(lines: pd.DataFrame) -> pd.Index:
    return pd.Index([f"{size} px" for size in lines["size"]], name="face")


def _intervals(values: pd.Series, low: pd.Series, high: pd.Series, how: str = "{:.1f}") -> list:
    return [
        f"{how.format(value)} [{how.format(a)}, {how.format(b)}]"
        for value, a, b in zip(values, low, high, strict=True)
    ]


def conclusion(student_run: Run, student: Measured, fer: Measured) -> str:
    """What the notebook shows, in sentences made from its figures."""
    cfg, classes = student_run.cfg, student_run.facts()["classes"]
    answer, share = majority(student, classes)
    sizes = " and ".join(f"{size} px" for size in trained_at(cfg, student.native))
    sentences = [f"The student ({student.name}) was trained on faces of {sizes}."]
    for measured in (student, fer):
        if measured.missing:
            sentences.append(f"{measured.name}: not measured: {measured.missing}")
        else:
            sentences += _of_one(measured, answer, share)
    if not fer.missing:
        sentences += [*_between(student, fer, cfg.lr_size), *_caveats(cfg, student, classes)]
    if student.native < max(student.predictions):
        sentences.append(
            f"The faces have {student.native} px: from there up nothing was shrunk or enlarged."
        )
    other = unlike_record(student_run, student)
    if other:
        sentences.append(
            f"Here {student.name} answers {other} of the {cfg.lr_size} px faces otherwise than in "
            "its record, as another device or version may."
        )
    sentences.append("The intervals are over faces: another training would give another student.")
    if cfg.select == "test":
        sentences.append("The epoch was picked on the test set: not comparable with others.")
    if cfg.dataset == "synthetic":
        sentences.append(NOT_A_RESULT)
    return "\n".join(sentences)


def _of_one(measured: Measured, answer: str, share: float) -> list[str]:
    """How far a model falls, and where it is no better than one answer for all."""
    by_size = measured.curve.set_index("size")["accuracy"]
    best, worst = by_size.idxmax(), by_size.idxmin()
    sentences = [
        f"{measured.name}: {by_size[best]:.1f} % at its best size ({best} px) and "
        f"{by_size[worst]:.1f} % at its worst ({worst} px): it falls by "
        f"{by_size[best] - by_size[worst]:.1f} points."
    ]
    lost = [f"{size} px" for size, accuracy in by_size.items() if accuracy <= share]
    if lost:
        sentences.append(
            f"At {', '.join(lost)} it is not above the {share:.1f} % of always saying {answer}."
        )
    return sentences


def _between(student: Measured, fer: Measured, lr_size: int) -> list[str]:
    """Where the student overtakes `fer`, and by how much at its own size."""
    lines = differences(student, fer)
    is_ahead = (lines["ahead"] == student.name).to_list()
    behind = [i for i, ahead in enumerate(is_ahead) if not ahead]
    sizes = lines["size"].to_list()
    if not behind:
        where = f"{student.name} is shown to be the more accurate at every size."
    elif behind[-1] == len(sizes) - 1:
        where = f"At {sizes[-1]} px {student.name} is not shown to be more accurate than {FER}."
    else:
        first = sizes[behind[-1] + 1]
        where = f"{student.name} overtakes {FER} between {sizes[behind[-1]]} and {first} px."
    groups = [
        f"{name or 'neither'} at {', '.join(f'{s} px' for s in part['size'])}"
        for name, part in lines.groupby("ahead", sort=False)
    ]
    own = lines[lines["size"] == lr_size]
    (text,) = _intervals(own["value"], own["low"], own["high"], "{:+.1f}")
    return [
        where,
        f"Shown to be the more accurate (McNemar, Holm-adjusted): {'; '.join(groups)}.",
        f"At {lr_size} px {student.name} minus {FER}: {text} points.",
    ]


def _caveats(cfg: Config, student: Measured, classes: Sequence[str]) -> list[str]:
    sentences = []
    if cfg.dataset in SHARED:
        labelled = " (which labels them anew)" * (cfg.dataset == "ferplus")
        sentences.append(
            f"The weights of {FER} were chosen on FER2013's test faces, which FERPlus{labelled} "
            f"shares: its figure at {SIZES[0]} px flatters it."
        )
    labels = next(iter(student.predictions.values()))["label"]
    for name in (c for c in classes if c not in ORDER):
        number = int((labels == classes.index(name)).sum())
        if number:
            sentences.append(
                f"{FER} does not know {name}: it has all {count(number, 'such face')} of "
                f"{len(labels):,} wrong."
            )
    return sentences
