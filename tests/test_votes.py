"""What FERPlus's votes mean under every rule: labels, targets, counts, and what is refused."""

from itertools import product

import numpy as np
import pytest
import real_data
import torch
from made_data import config, csv_lines, write
from test_ferplus import votes_for_all_classes, write_votes

from gmelib.config import EXPRESSIONS
from gmelib.data import check_dataset, load_faces
from gmelib.data.ferplus import count_labels, read_votes
from gmelib.data.votes import EMOTIONS, KEEP, Rule, count_rules, decide, targets

VOTES = np.random.default_rng(2).multinomial(10, np.ones(10) / 10, size=2000)
# half of the rows have a clear favourite
VOTES[::2] = np.random.default_rng(3).multinomial(6, np.ones(10) / 10, size=1000)
VOTES[np.arange(0, 2000, 2), np.random.default_rng(4).integers(0, 10, 1000)] += 4
VOTES[1::400, :8], VOTES[1::400, 8:] = 0, (3, 7)
RULES = [Rule(*values) for values in product(
    ("majority", "over_half", "soft"), ("drop", "keep"), ("drop", "ignore"), (True, False)
)]  # fmt: skip


def slow_label(votes, rule):
    """A row's column and reason, by hand."""
    votes = list(votes)
    if rule.unknown == "ignore" and sum(votes[:8]):
        votes[8:] = [0, 0]
    if rule.name == "over_half":
        votes = [count if count > 1 else 0 for count in votes]
    best = [column for column, count in enumerate(votes) if count == max(votes)]
    if rule.name == "over_half":
        if 2 * max(votes) <= sum(votes):
            return best[0], "none_over_half"
    elif len(best) > 1 and rule.ties == "drop":
        return best[0], "tie"
    if best[0] >= 8:
        return best[0], {8: "unknown", 9: "not_a_face"}[best[0]]
    if EMOTIONS[best[0]] == "contempt" and not rule.contempt:
        return best[0], "contempt"
    return best[0], KEEP


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_against_a_slow_reference(rule):
    winner, reasons = decide(VOTES, rule)
    expected = [slow_label(row, rule) for row in VOTES.tolist()]
    assert reasons.tolist() == [reason for _, reason in expected]
    assert winner.tolist() == [column for column, _ in expected]
    assert {KEEP} < set(reasons) <= {KEEP, *rule.reasons}


def test_over_half_removes_single_votes_before_it_counts():
    """Five of ten are not more than half, but five of nine are."""
    votes = np.array([
        [5, 4, 1, 0, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 5, 0, 0, 0, 2, 0, 0, 3, 0], [0, 5, 0, 0, 0, 2, 0, 0, 2, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ])  # fmt: skip
    none = "none_over_half"
    assert decide(votes, Rule("over_half"))[1].tolist() == [KEEP, none, none, KEEP, none]
    ignored = decide(votes, Rule("over_half", unknown="ignore"))[1].tolist()
    assert ignored == [KEEP, none, KEEP, KEEP, none]


def test_a_row_without_any_vote_is_dropped_whatever_the_rule():
    for rule in RULES:
        assert decide(np.zeros((1, 10), int), rule)[1].tolist() != [KEEP]


def test_targets_are_shares_among_the_classes_alone():
    votes = np.array([[6, 0, 1, 0, 0, 0, 0, 1, 2, 0], [0, 0, 3, 0, 5, 0, 0, 0, 1, 1]])
    eight = targets(votes, [4, 5, 6, 1, 3, 2, 0, 7])  # the columns of EXPRESSIONS
    assert np.allclose(eight, [[0, 0, 0, 0, 0, 1 / 8, 6 / 8, 1 / 8],
                               [5 / 8, 0, 0, 0, 0, 3 / 8, 0, 0]])  # fmt: skip
    seven = targets(votes, [4, 5, 6, 1, 3, 2, 0])
    assert np.allclose(seven[0], [0, 0, 0, 0, 0, 1 / 7, 6 / 7]) and seven.dtype == np.float32


# Loaded


def divided_votes():
    votes = votes_for_all_classes()
    for row in range(25):  # the largest stays so
        votes[row] = votes[row] * 6 // 10
        votes[row, (row + 3) % 8] += 3
        votes[row, 8] += 1
    return votes


def load(root, **values):
    return load_faces(config(root, "ferplus", **values))


def test_soft_keeps_faces_and_labels_of_majority_and_adds_targets(tmp_path):
    write(tmp_path, csv_lines())
    votes = divided_votes()
    write_votes(tmp_path, votes)
    hard, soft = load(tmp_path), load(tmp_path, ferplus_rule="soft")
    for name in ("images", "labels"):
        assert torch.equal(getattr(hard, name), getattr(soft, name))
    assert np.array_equal(hard.ids, soft.ids) and np.array_equal(hard.split, soft.split)
    assert "targets" not in hard.extras and hard.fingerprint != soft.fingerprint
    for face, row in enumerate(soft.ids):
        for label, expression in enumerate(EXPRESSIONS):
            share = votes[row, EMOTIONS.index(expression)] / 9
            assert soft.extras["targets"][face, label] == pytest.approx(share)
    again = load(tmp_path, ferplus_rule="soft")  # of the cache
    assert np.array_equal(again.extras["targets"], soft.extras["targets"])
    assert again.fingerprint == soft.fingerprint


def test_ties_unknown_and_contempt_are_parameters(tmp_path):
    write(tmp_path, csv_lines())
    votes = votes_for_all_classes()  # rows 25, 26 and 27: a tie, unknown, NF
    votes[26, 1] = 9
    write_votes(tmp_path, votes)
    assert load(tmp_path).ids.tolist() == list(range(25))
    kept = load(tmp_path, ferplus_ties="keep")
    assert kept.ids.tolist() == list(range(26))
    assert kept.classes[kept.labels[25]] == EMOTIONS[0]  # of happiness and neutral, the first
    ignored = load(tmp_path, ferplus_unknown="ignore")
    assert ignored.ids.tolist() == [*range(25), 26]
    assert ignored.classes[ignored.labels[25]] == "happiness"
    seven = load(tmp_path, ferplus_contempt=False, ferplus_rule="soft")
    assert seven.classes == EXPRESSIONS[:7] and 7 not in seven.ids
    assert seven.extras["targets"].shape == (24, 7)
    assert seven.extras["dropped"] == {"tie": 1, "unknown": 1, "not_a_face": 1, "contempt": 1}


def test_the_check_shows_what_every_rule_would_keep(tmp_path):
    write(tmp_path, csv_lines())
    write_votes(tmp_path, votes_for_all_classes())
    report = check_dataset(config(tmp_path, "ferplus"))
    (table,) = report.tables.values()
    table = table.T
    train = table["train"]
    assert train["kept"].tolist() == [14] * 6 and train["contempt"].tolist() == [1] * 6
    test = table["test"]
    assert test.loc[("majority, soft", "drop", "drop")].tolist() == [4, 0, 1, 0, 1, 1]
    assert test.loc[("majority, soft", "keep", "drop")].tolist() == [5, 0, 0, 0, 1, 1]
    assert test.loc[("over_half", "-", "drop")].tolist() == [4, 0, 0, 1, 1, 1]
    for text in (str(report), report._repr_html_()):
        assert "over_half" in text and "none over half" in text


def test_counts_are_those_of_the_faces_that_are_loaded(tmp_path):
    write(tmp_path, csv_lines())
    write_votes(tmp_path, divided_votes())
    table = count_labels(config(tmp_path, "ferplus"))
    for (rule, ties, unknown), row in table.iterrows():
        rule = {"rule": rule.split(",")[0], "ties": ties.replace("-", "drop"), "unknown": unknown}
        faces = load(tmp_path, **{f"ferplus_{name}": value for name, value in rule.items()})
        assert faces.counts().sum().tolist() == [row[s, "kept"] for s in faces.counts()]


def test_published_numbers_stand_beside_published_rules_alone(tmp_path):
    write(tmp_path, csv_lines())
    write_votes(tmp_path, votes_for_all_classes())
    cfg = config(tmp_path, "ferplus")
    for values, is_told in (
        ({}, True), ({"ferplus_rule": "soft"}, True), ({"ferplus_contempt": False}, True),
        ({"ferplus_rule": "over_half"}, False), ({"ferplus_ties": "keep"}, False),
        ({"ferplus_unknown": "ignore"}, False),
    ):  # fmt: skip
        report = check_dataset(cfg.replace(**values))
        assert any("published are" in problem for problem in report.problems) == is_told


def test_the_published_votes():
    usage, votes = read_votes(real_data.folder() / "fer2013new.csv")
    splits = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    table = count_rules(votes, np.array([splits[name] for name in usage]))
    majority = table.loc[("majority, soft", "drop", "drop")]
    assert [majority[s, "kept"] for s in splits.values()] == [26940, 3396, 3376]
    assert [majority[s, "contempt"] for s in splits.values()] == [162, 24, 26]
    outcomes = ["kept", "tie", "none over half", "unknown", "not a face"]
    for split, total in zip(splits.values(), (28709, 3589, 3589), strict=True):
        assert (table[split][outcomes].sum(axis=1) == total).all()
    over_half, least = table.loc[("over_half", "-", "drop")], table.loc[("over_half", "-")]
    assert (over_half.xs("kept", level=1) < majority.xs("kept", level=1)).all()
    assert (least.loc["ignore"].xs("kept", level=1) > over_half.xs("kept", level=1)).all()
