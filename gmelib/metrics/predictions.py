"""The table of predictions, checked before anything is computed from it.

One row a face: ``id``, ``split``, ``label`` and ``predicted`` (class numbers), ``duplicate`` (the
same pixels stand in the training split), and ``p_<class>`` for every class, in class order.
"""

import numpy as np
import pandas as pd

from gmelib.config import InputError

COLUMNS = ("id", "split", "label", "predicted", "duplicate")


def class_names(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The classes in order, read off the ``p_<class>`` columns."""
    return tuple(str(c).removeprefix("p_") for c in predictions.columns if str(c).startswith("p_"))


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same table, or :class:`InputError` saying which column or row cannot be right."""
    missing = [name for name in COLUMNS if name not in predictions.columns]
    classes = class_names(predictions)
    if missing or len(classes) < 2:
        missing += [] if len(classes) >= 2 else ["p_<class> (two at least)"]
        raise InputError(f"predictions: no column {', '.join(missing)}; evaluate the run again")
    if predictions.empty:
        raise InputError("predictions: no rows; expected one for every face of the split")
    splits = sorted(map(str, predictions["split"].unique()))
    if len(splits) > 1:
        raise InputError(
            f"predictions: hold the splits {', '.join(splits)}; expected one, as in"
            f" predictions[predictions.split == {splits[0]!r}]"
        )
    probabilities = probabilities_of(predictions)
    for column in ("label", "predicted"):
        _no_bad_row(
            ~predictions[column].isin(range(len(classes))).to_numpy(),
            predictions,
            f"{column}: expected a class number from 0 to {len(classes) - 1}",
        )
    total = probabilities.sum(1)
    _no_bad_row(
        ~((probabilities.min(1) >= 0) & (np.abs(total - 1) < 1e-2)),
        predictions,
        "p_<class>: expected probabilities that sum to 1",
    )
    chosen = probabilities[np.arange(len(predictions)), predictions["predicted"].to_numpy(int)]
    _no_bad_row(
        chosen < probabilities.max(1) - 1e-3, predictions, "predicted: not the most probable class"
    )
    return predictions


def _no_bad_row(bad: np.ndarray, predictions: pd.DataFrame, message: str) -> None:
    if bad.any():
        first = predictions["id"].iloc[int(bad.argmax())]
        raise InputError(f"predictions, id {first} (and {bad.sum() - 1} more): {message}")


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """The ``p_<class>`` columns as one float64 array."""
    columns = [f"p_{name}" for name in class_names(predictions)]
    return predictions[columns].to_numpy(np.float64)  # (N, K)
