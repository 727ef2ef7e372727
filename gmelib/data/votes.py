"""From the votes of FERPlus's ten taggers to labels and class distributions.

Votes are (N, 10) whole numbers, columns EMOTIONS then OTHER.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from gmelib.data.faceset import SPLITS

EMOTIONS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
)  # columns of votes that name one of the eight classes  # fmt: skip
OTHER = {"unknown": "unknown", "NF": "not_a_face"}  # the other columns -> reason of dropping
CONTEMPT = "contempt"
KEEP, TIE, SPLIT_VOTE = "", "tie", "none_over_half"


class Rule(NamedTuple):
    """How votes become a label; the parameters ferplus_rule, _ties, _unknown and _contempt."""

    name: str = "majority"  # or over_half, soft
    ties: str = "drop"  # or keep: the class that stands first in EMOTIONS
    unknown: str = "drop"  # or ignore: votes of OTHER are not counted
    contempt: bool = True  # False drops its faces

    @property
    def is_published(self) -> bool:
        """Whether its faces, but for contempt's, are those that counts are published of."""
        return self.name != "over_half" and (self.ties, self.unknown) == ("drop", "drop")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why rows are dropped under this rule."""
        undecided = SPLIT_VOTE if self.name == "over_half" else TIE
        return (undecided, *OTHER.values(), *(() if self.contempt else (CONTEMPT,)))


def majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column of the single largest vote (N,), and why a row is dropped (N,): "" keeps it.

    Kept: one largest count among all ten columns, and it is one of the eight emotions. Dropped:
    "tie", and a majority for "unknown" or "not_a_face". The column of a tie is its first.
    """
    winner = votes.argmax(axis=1)
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return winner, np.where(tied, TIE, _reason_of(winner))


def over_half(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `majority`, by Barsoum et al.'s rule: single votes are outliers and are removed first.

    Kept: an emotion with more than half of what is left in the ten columns. Dropped: rows where
    nothing has, "none_over_half", and those where "unknown" or "not_a_face" has.
    """
    votes = np.where(votes > 1, votes, 0)
    winner = votes.argmax(axis=1)
    clear = 2 * votes.max(axis=1) > votes.sum(axis=1)
    return winner, np.where(clear, _reason_of(winner), SPLIT_VOTE)


def _reason_of(winner: np.ndarray) -> np.ndarray:
    return np.array([KEEP] * len(EMOTIONS) + list(OTHER.values()))[winner]


def decide(votes: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Column of the label (N,) and why a row is dropped (N,): one of rule.reasons, or "".

    `soft` keeps and labels the faces that `majority` does; only its targets differ. A row whose
    votes are all of OTHER is dropped under every rule.
    """
    counted = votes.copy()
    if rule.unknown == "ignore":
        counted[votes[:, : len(EMOTIONS)].any(axis=1), len(EMOTIONS) :] = 0
    winner, reasons = (over_half if rule.name == "over_half" else majority)(counted)
    if rule.ties == "keep":
        is_tie = (reasons == TIE) & counted.any(axis=1)  # without a vote there is no first of two
        reasons = np.where(is_tie, _reason_of(winner), reasons)
    if not rule.contempt:
        is_contempt = (reasons == KEEP) & (winner == EMOTIONS.index(CONTEMPT))
        reasons = np.where(is_contempt, CONTEMPT, reasons)
    return winner, reasons


def targets(votes: np.ndarray, columns: list[int]) -> np.ndarray:
    """(N, classes) float32: the share of the votes that each class has among the classes.

    columns: of EMOTIONS, in the order of the classes; every row must have a vote in one of them.
    """
    chosen = votes[:, columns].astype(np.float32)
    return chosen / chosen.sum(axis=1, keepdims=True)


def count_rules(votes: np.ndarray, split: np.ndarray) -> pd.DataFrame:
    """What every rule keeps and drops: rules in the rows, (split, outcome) in the columns.

    Outcomes are faces kept, contempt among them (which ferplus_contempt = False drops), ties, none
    over half, unknown, and not a face.
    """
    rows = {}
    for name, ties in (("majority", "drop"), ("majority", "keep"), ("over_half", "drop")):
        for unknown in ("drop", "ignore"):
            winner, reasons = decide(votes, Rule(name, ties, unknown))
            kept = reasons == KEEP
            outcomes = {"kept": kept}
            outcomes["contempt"] = kept & (winner == EMOTIONS.index(CONTEMPT))
            outcomes |= {r: reasons == r for r in (TIE, SPLIT_VOTE, *OTHER.values())}
            rule = ("majority, soft", ties) if name == "majority" else (name, "-")
            rows[*rule, unknown] = {
                (part, outcome.replace("_", " ")): int((where & (split == part)).sum())
                for part in SPLITS
                for outcome, where in outcomes.items()
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.names = ["ferplus_rule", "ferplus_ties", "ferplus_unknown"]
    return table
