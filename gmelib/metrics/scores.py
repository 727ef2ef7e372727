"""Metrics of a table of predictions, with 95 % bootstrap intervals.

scikit-learn computes the values; the intervals come from resampled faces.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from gmelib.metrics.predictions import checked, class_names, probabilities_of

LEVEL = 95.0  # per cent, of every interval
BINS = 15  # of the calibration error, as Guo et al. 2017
CHUNK = 2**21  # faces x resamples held at once: 16 MB of weights


# -- confusion ------------------------------------------------------------------------------------


def confusion_counts(predictions: pd.DataFrame) -> pd.DataFrame:
    """Faces of each true class (rows) by predicted class (columns), named and in class order."""
    classes = class_names(checked(predictions))
    counts = confusion_matrix(
        predictions["label"], predictions["predicted"], labels=range(len(classes))
    )
    return pd.DataFrame(counts, pd.Index(classes, name="true"), pd.Index(classes, name="predicted"))


def row_normalized(counts: pd.DataFrame) -> pd.DataFrame:
    """Shares of each true class: the diagonal holds the recalls. A class without faces is NaN."""
    return counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)


# -- metrics --------------------------------------------------------------------------------------


def _confidence_bins(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Bin number (N,) of each face's top probability, and (right - top probability) (N,)."""
    top = probabilities_of(predictions).max(1)
    right = (predictions["label"] == predictions["predicted"]).to_numpy(float)
    bins = np.clip(np.ceil(top * BINS).astype(int) - 1, 0, BINS - 1)  # (0, 1/15], (1/15, 2/15] ...
    return bins, right - top


def expected_calibration_error(predictions: pd.DataFrame) -> float:
    """Mean gap between top probability and accuracy, in [0, 1].

    15 equal-width bins of the top probability, each weighted by its share of the faces (Guo et al.
    2017, "On Calibration of Modern Neural Networks", eq. 3). 0 means that, of the faces given 70 %,
    70 % are right.
    """
    bins, gap = _confidence_bins(checked(predictions))
    return float(np.abs(np.bincount(bins, gap, BINS)).sum() / len(predictions))


def _values(predictions: pd.DataFrame) -> np.ndarray:
    """Accuracy, balanced accuracy, macro-F1, calibration error, recall of each class: (4 + K,)."""
    label, predicted = predictions["label"], predictions["predicted"]
    classes = range(len(class_names(predictions)))
    recalls = recall_score(label, predicted, labels=classes, average=None, zero_division=np.nan)
    present = sorted(label.unique())
    f1 = f1_score(label, predicted, labels=present, average="macro", zero_division=0.0)
    return np.array(
        [
            accuracy_score(label, predicted),
            np.nanmean(recalls),
            f1,
            expected_calibration_error(predictions),
            *recalls,
        ]
    )


def _resampled(predictions: pd.DataFrame, resamples: int, seed: int) -> np.ndarray:
    """:func:`_values` of faces drawn with replacement, (resamples, 4 + K).

    All of them are functions of weighted sums over faces, so a resample is a row of weights and a
    block of resamples one matrix product.
    """
    n, k = len(predictions), len(class_names(predictions))
    cell = predictions["label"].to_numpy(int) * k + predictions["predicted"].to_numpy(int)
    bins, gap = _confidence_bins(predictions)
    features = np.zeros((n, k * k + BINS))
    features[np.arange(n), cell] = 1  # sums to the confusion matrix
    features[np.arange(n), k * k + bins] = gap

    rng = np.random.default_rng(seed)
    block = max(1, CHUNK // n)
    sums = np.empty((resamples, features.shape[1]))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = weights.astype(float) @ features
    return _from_sums(sums[:, : k * k].reshape(-1, k, k), sums[:, k * k :], n)


def _from_sums(confusion: np.ndarray, gaps: np.ndarray, n: int) -> np.ndarray:
    """Confusion matrices (R, K, K) and summed gaps (R, 15) of n faces -> metrics (R, 4 + K)."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, guessed = confusion.sum(2), confusion.sum(1)
    absent = true == 0
    with np.errstate(invalid="ignore"):
        recalls = hits / true  # NaN where a resample holds no face of the class
    f1 = 2 * hits / np.where(absent, np.inf, true + guessed)
    present = (~absent).sum(1)
    summary = [
        hits.sum(1) / n,
        np.where(absent, 0, recalls).sum(1) / present,
        f1.sum(1) / present,
        np.abs(gaps).sum(1) / n,
    ]
    return np.column_stack([*summary, recalls])


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values; NaN ones, undefined in their resample, are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share, which has a width where all n are alike."""
    found = binomtest(hits, n).proportion_ci(LEVEL / 100, method="exact")
    return float(found.low), float(found.high)


def metrics(predictions: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every metric with its 95 % percentile bootstrap interval, over the faces given.

    The interval answers "other faces of this kind", not "another training seed". A recall of 0 or 1
    has Clopper and Pearson's interval instead.

    Args:
        predictions: see the module; one split. Select rows beforehand for a subset.
        resamples: bootstrap resamples of the faces.
        seed: of the resampling; equal seeds give equal intervals.

    Returns:
        A table indexed by ``metric`` with the columns value, low, high (all in [0, 1]) and n, the
        faces behind the value: accuracy, balanced_accuracy (mean recall), macro_f1,
        expected_calibration_error, and recall_<class> for every class. A class without faces has
        recall NaN and n = 0, and the means are over the classes that have some.

    Raises:
        InputError: the table lacks columns or rows, mixes splits, or contradicts itself.
    """
    classes = class_names(checked(predictions))
    values = _values(predictions)
    draws = _resampled(predictions, resamples, seed)
    # A resample carries the bins' noise twice, so its calibration error is too large on average;
    # centred on the value, the interval cannot leave it out.
    draws[:, 3] = np.maximum(draws[:, 3] - draws[:, 3].mean() + values[3], 0)
    intervals = np.array([percentile_interval(column) for column in draws.T])
    counts = np.bincount(predictions["label"], minlength=len(classes))
    for row, (recall, n) in enumerate(zip(values[-len(classes) :], counts, strict=True)):
        if recall in (0, 1):  # equal faces give equal resamples, however few they are
            intervals[row - len(classes)] = exact_interval(int(recall * n), n)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "expected_calibration_error"]
    return pd.DataFrame(
        {
            "value": values,
            "low": intervals[:, 0],
            "high": intervals[:, 1],
            "n": [len(predictions)] * len(names) + counts.tolist(),
        },
        index=pd.Index([*names, *(f"recall_{name}" for name in classes)], name="metric"),
    )


def report(
    predictions: pd.DataFrame, *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """:func:`metrics` on all faces and without those whose pixels stand in training, for run.json.

    Returns:
        ``{"all": {metric: {"value", "low", "high", "n"}}, "without_duplicates": ...}``; an
        undefined value is None; ``without_duplicates`` is empty where no face would remain.
        :func:`from_report` turns either part back into a table.
    """

    def plain(table: pd.DataFrame) -> dict[str, Any]:
        return table.astype(object).where(table.notna(), None).to_dict("index")

    clean = predictions[~checked(predictions)["duplicate"].astype(bool)]
    everything = plain(metrics(predictions, resamples=resamples, seed=seed))
    if clean.empty:
        return {"all": everything, "without_duplicates": {}}
    rest = plain(metrics(clean, resamples=resamples, seed=seed))
    return {"all": everything, "without_duplicates": rest}


def from_report(part: dict[str, dict[str, float | int | None]]) -> pd.DataFrame:
    """The table that :func:`metrics` gave, from one part of a :func:`report`."""
    table = pd.DataFrame.from_dict(part, orient="index", columns=["value", "low", "high", "n"])
    table = table.astype({"value": float, "low": float, "high": float, "n": int})
    return table.rename_axis("metric")
