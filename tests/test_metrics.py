"""Metrics against plain loops and scikit-learn; intervals; the paired comparison."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from gmelib.config import EXPRESSIONS, InputError
from gmelib.metrics import (
    confusion_counts,
    expected_calibration_error,
    from_report,
    metrics,
    paired_difference,
    report,
    row_normalized,
)
from gmelib.metrics.scores import _resampled, _values


def table(count=400, *, classes=EXPRESSIONS[:7], skill=1.5, seed=0, labels=None):
    """Random predictions: logits of unit noise plus ``skill`` for the true class."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    label = rng.integers(k, size=count) if labels is None else np.asarray(labels)
    logits = rng.normal(size=(len(label), k))
    logits[np.arange(len(label)), label] += skill
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame(
        {
            "id": np.arange(len(label)) + 1000,
            "split": "test",
            "label": label,
            "predicted": p.argmax(1),
            "duplicate": rng.random(len(label)) < 0.1,
        }
    )
    for i, name in enumerate(classes):
        frame[f"p_{name}"] = p[:, i].astype(np.float32)
    return frame


def slow_calibration_error(frame, bins=15):
    """Guo et al. 2017, eq. 3, face by face."""
    members = {b: [] for b in range(bins)}
    p = frame[[c for c in frame if c.startswith("p_")]].to_numpy(float)
    for row, label, predicted in zip(p, frame.label, frame.predicted, strict=True):
        for b in range(bins):
            if b / bins < max(row) <= (b + 1) / bins:
                members[b].append((label == predicted, max(row)))
    error = 0.0
    for inside in members.values():
        if inside:
            accuracy = sum(right for right, _ in inside) / len(inside)
            confidence = sum(top for _, top in inside) / len(inside)
            error += len(inside) / len(frame) * abs(accuracy - confidence)
    return error


def test_values_equal_plain_loops_and_scikit_learn():
    frame = table()
    result = metrics(frame, resamples=100)["value"]
    pairs = list(zip(frame.label, frame.predicted, strict=True))
    assert result["accuracy"] == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
    recalls = []
    for k, name in enumerate(EXPRESSIONS[:7]):
        of_class = [p for t, p in pairs if t == k]
        recalls.append(sum(p == k for p in of_class) / len(of_class))
        assert result[f"recall_{name}"] == pytest.approx(recalls[-1])
    assert result["balanced_accuracy"] == pytest.approx(sum(recalls) / 7)
    assert result["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(frame.label, frame.predicted)
    )
    assert result["macro_f1"] == pytest.approx(
        f1_score(frame.label, frame.predicted, average="macro")
    )
    assert result["expected_calibration_error"] == pytest.approx(slow_calibration_error(frame))


def test_calibration_error_of_extreme_forecasts():
    sure = table(200, skill=1.5)
    columns = [f"p_{name}" for name in EXPRESSIONS[:7]]
    sure[columns] = np.eye(7)[sure.predicted]  # certain always: the error is the error rate
    wrong = (sure.label != sure.predicted).mean()
    assert wrong > 0.1
    assert expected_calibration_error(sure) == pytest.approx(wrong)
    honest = sure[sure.label == sure.predicted]
    assert expected_calibration_error(honest) == 0


def test_a_resample_equals_the_metrics_of_its_rows():
    frame = table(150)
    draws = _resampled(frame, 20, seed=3)
    rows = np.random.default_rng(3).integers(len(frame), size=(20, len(frame)))
    for drawn, chosen in zip(draws, rows, strict=True):
        again = frame.iloc[chosen]
        np.testing.assert_allclose(drawn, _values(again), rtol=1e-12)


def test_resamples_without_a_class_agree_too():
    frame = table(labels=[0] * 30 + [1] * 30 + [2] * 2)
    draws = _resampled(frame, 40, seed=1)
    rows = np.random.default_rng(1).integers(len(frame), size=(40, len(frame)))
    missing = 0
    for drawn, chosen in zip(draws, rows, strict=True):
        again = frame.iloc[chosen]
        missing += 2 not in set(again.label)
        np.testing.assert_allclose(drawn, _values(again), rtol=1e-12)
    assert missing > 0


def test_intervals_hold_the_true_accuracy_about_95_times_in_100():
    hits = {"accuracy": 0, "recall_fear": 0}
    population = table(100_000, seed=7)
    right = population.label == population.predicted
    truth = {"accuracy": right.mean(), "recall_fear": right[population.label == 2].mean()}
    for trial in range(100):
        sample = population.iloc[trial * 500 : (trial + 1) * 500]
        result = metrics(sample, resamples=300, seed=trial)
        for name in hits:
            hits[name] += result.low[name] <= truth[name] <= result.high[name]
    assert all(87 <= count <= 100 for count in hits.values()), hits


def test_intervals_hold_their_values_and_narrow_with_more_faces():
    small, large = (metrics(table(count), resamples=500) for count in (300, 4800))
    for result in (small, large):
        assert (result.low <= result.value).all() and (result.value <= result.high).all()
    ratio = (small.high - small.low) / (large.high - large.low)
    assert ratio["accuracy"] == pytest.approx(4, rel=0.25)  # faces x 16


def test_the_calibration_error_of_a_calibrated_network_stays_in_its_interval():
    frame = table(3000, seed=2)
    p = frame[[f"p_{name}" for name in EXPRESSIONS[:7]]].to_numpy(float)
    rng = np.random.default_rng(0)
    cumulated = (p / p.sum(1, keepdims=True)).cumsum(1)
    frame["label"] = (cumulated < rng.random((len(p), 1))).sum(1).clip(0, 6)
    result = metrics(frame, resamples=500).loc["expected_calibration_error"]
    assert result.value < 0.04
    assert 0 <= result.low <= result.value <= result.high


def test_equal_seeds_give_equal_intervals():
    frame = table()
    first, again = metrics(frame, resamples=200, seed=5), metrics(frame, resamples=200, seed=5)
    other = metrics(frame, resamples=200, seed=6)
    pd.testing.assert_frame_equal(first, again)
    assert (first.low != other.low).any() and (first.value == other.value).all()


def test_an_absent_class_is_undefined_and_left_out_of_the_means():
    frame = table(labels=np.arange(300) % 6)  # no neutral
    result = metrics(frame, resamples=200)
    assert result.n["recall_neutral"] == 0
    assert result.loc["recall_neutral", ["value", "low", "high"]].isna().all()
    recalls = [result.value[f"recall_{name}"] for name in EXPRESSIONS[:6]]
    assert result.value["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    present = f1_score(frame.label, frame.predicted, labels=range(6), average="macro")
    assert result.value["macro_f1"] == pytest.approx(present)
    assert not result.drop("recall_neutral").isna().any().any()
    assert row_normalized(confusion_counts(frame)).loc["neutral"].isna().all()


def test_report_gives_all_faces_and_those_not_in_training():
    frame = table()
    result = report(frame, resamples=100)
    clean = frame[~frame.duplicate]
    assert 0 < len(clean) < len(frame)
    assert result["all"]["accuracy"]["n"] == len(frame)
    assert result["without_duplicates"]["accuracy"]["n"] == len(clean)
    expected = (clean.label == clean.predicted).mean()
    assert result["without_duplicates"]["accuracy"]["value"] == pytest.approx(expected)
    again = from_report(json.loads(json.dumps(result, allow_nan=False))["all"])
    pd.testing.assert_frame_equal(again, metrics(frame, resamples=100))


def test_report_is_strict_json_where_values_are_undefined():
    frame = table(labels=[0, 1] * 20)
    frame["duplicate"] = True
    result = report(frame, resamples=100)
    assert result["without_duplicates"] == {}
    assert result["all"]["recall_fear"] == {"n": 0, "value": None, "low": None, "high": None}
    again = from_report(json.loads(json.dumps(result, allow_nan=False))["all"])
    assert math.isnan(again.value["recall_fear"])


def test_confusion_counts_and_shares():
    frame = table()
    counts = confusion_counts(frame)
    assert list(counts.index) == list(counts.columns) == list(EXPRESSIONS[:7])
    for i, true in enumerate(EXPRESSIONS[:7]):
        for j, predicted in enumerate(EXPRESSIONS[:7]):
            cell = ((frame.label == i) & (frame.predicted == j)).sum()
            assert counts.loc[true, predicted] == cell
    shares = row_normalized(counts)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.loc["fear", "fear"] == metrics(frame, resamples=100).value["recall_fear"]


def test_paired_difference_matches_rows_by_id():
    good, poor = table(600, skill=3.0), table(600, skill=0.5)
    poor = poor.sample(frac=1, random_state=0)
    result = paired_difference(good, poor, names=("KD", "no KD"))
    expected = (good.label == good.predicted).mean() - (poor.label == poor.predicted).mean()
    assert result.value == pytest.approx(expected)
    assert result.low < result.value < result.high and result.low > 0
    assert result.verdict.startswith("KD minus no KD: +")
    assert result.verdict.endswith(": KD is more accurate")
    mirrored = paired_difference(poor, good, names=("no KD", "KD"))
    assert mirrored.value == pytest.approx(-result.value)
    assert (mirrored.only_a, mirrored.only_b) == (result.only_b, result.only_a)
    assert mirrored.p_value == pytest.approx(result.p_value)
    assert mirrored.verdict.endswith("KD is more accurate")


def test_paired_interval_and_test_against_slow_versions():
    a, b = table(200, skill=1.8), table(200, skill=1.2)
    right_a, right_b = a.label == a.predicted, b.label == b.predicted
    result = paired_difference(a, b, resamples=4000)
    rng = np.random.default_rng(1)
    gap = (right_a.astype(int) - right_b.astype(int)).to_numpy()
    slow = [gap[rng.integers(200, size=200)].mean() for _ in range(4000)]
    expected = np.percentile(slow, [2.5, 97.5])
    np.testing.assert_allclose((result.low, result.high), expected, atol=0.01)
    only_a, only_b = (right_a & ~right_b).sum(), (right_b & ~right_a).sum()
    assert result.p_value == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    tail = sum(math.comb(only_a + only_b, i) for i in range(min(only_a, only_b) + 1))
    assert result.p_value == pytest.approx(min(1, 2 * tail / 2 ** (only_a + only_b)))


def test_no_difference_is_shown_where_the_interval_spans_zero():
    same = table(300)
    result = paired_difference(same, same)
    assert result[:7] == (0, 0, 0, 1.0, 0, 0, 300)
    assert result.verdict.endswith("no difference shown")
    other = table(300, seed=1, labels=same.label)
    close = paired_difference(same, other)
    assert close.low <= 0 <= close.high and close.verdict.endswith("no difference shown")


def test_paired_difference_refuses_other_faces_and_other_labels():
    a = table(50)
    with pytest.raises(InputError, match="not evaluated on the same faces: 10 ids"):
        paired_difference(a, table(40, labels=a.label[:40]))
    relabelled = a.assign(label=(a.label + 1) % 7)
    with pytest.raises(InputError, match="labels differ for 50 faces, such as id 1000"):
        paired_difference(a, relabelled)
    twice = a.assign(id=[1000, *a.id[:-1]])
    with pytest.raises(InputError, match="first predictions: id 1000 stands twice"):
        paired_difference(twice, a)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="label"), "no column label"),
        (lambda t: t[["id", "split", "label", "predicted", "duplicate"]], "no column p_<class>"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(split=["test", "validation"] * 25), "hold the splits test, validation"),
        (lambda t: t.assign(label=t.label.replace(3, 9)), "label: expected a class number from 0"),
        (lambda t: t.assign(p_fear=np.nan), "id 1000 .and 49 more.: p_<class>"),
        (lambda t: t.assign(predicted=(t.predicted + 1) % 7), "not the most probable class"),
    ],
)
def test_malformed_predictions_are_refused_in_one_line(spoil, message):
    with pytest.raises(InputError, match=message) as error:
        metrics(spoil(table(50)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("recall", [0, 1])
def test_a_class_that_is_always_or_never_recognized_has_an_interval_all_the_same(recall):
    frame = table(labels=np.repeat(np.arange(7), 30))
    of_fear = frame["label"] == 2
    frame.loc[of_fear, "predicted"] = 2 if recall else 3
    shares = [f"p_{name}" for name in EXPRESSIONS[:7]]
    frame.loc[of_fear, shares] = np.eye(7, dtype=np.float32)[2 if recall else 3]
    found = metrics(frame, resamples=50).loc["recall_" + EXPRESSIONS[2]]
    expected = binomtest(30 * recall, 30).proportion_ci(method="exact")
    assert (found["value"], found["n"]) == (recall, 30)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert found["high"] - found["low"] > 0.1
