"""What copies of test faces in the training set are worth: accuracy with and without them.

The copies of a data set (:mod:`gmelib.data.duplicates`) lie as copies.parquet beside the record of
01_data_generation; a run's predictions name its test faces. Neither needs the data set again.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gmelib.config import InputError
from gmelib.data.duplicates import copies_between, leaked
from gmelib.evaluate import load_predictions, read_table
from gmelib.metrics import metrics
from gmelib.record import PUBLISHED, Run, read_facts, write_atomic

FILE = "copies.parquet"


def save_copies(run: Run, copies: pd.DataFrame) -> pd.DataFrame:
    """Writes the pairs beside a data run's record; returns how many faces that are, by split."""
    write_atomic(run.workplace / FILE, copies.to_parquet(index=False))
    return copies_between(copies)


def load_copies(folder: Path) -> pd.DataFrame:
    """The pairs that a data run found; :class:`InputError` if they are not readable."""
    return read_table(folder / FILE, "copies", "run 01_data_generation again")


def published_copies(dataset: str) -> pd.DataFrame | None:
    """The copies of a data set as published; None if they are not."""
    found = sorted(PUBLISHED.glob(f"{dataset}/data/*/{FILE}"))
    return load_copies(found[0].parent) if found else None


def leak_scores(runs: Mapping[str, Run], copies: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of finished runs on all faces, without those that leaked, and on them alone.

    Args:
        runs: by what they are called.
        copies: as :func:`gmelib.data.duplicates.find_copies`, of the data set of all runs.

    Returns:
        A row a run and kind of faces: value, low, high (in [0, 1], 95 % over faces) and n.
    """
    exact, near = (set(leaked(copies, near=kind)["id"]) for kind in (False, True))
    rows = {}
    for name, run in runs.items():
        predictions = load_predictions(run.folder)
        has_exact, has_near = (predictions["id"].isin(ids) for ids in (exact, near))
        parts = {
            "all faces": predictions,
            "without exact copies": predictions[~has_exact],
            "without exact and near ones": predictions[~has_near],
            "faces with a copy alone": predictions[has_near],
        }
        for kind, part in parts.items():
            if len(part):
                rows[name, kind] = metrics(part, resamples=run.cfg.resamples).loc["accuracy"]
    index = pd.MultiIndex.from_tuples(rows, names=["network", "faces"])
    return pd.DataFrame(list(rows.values()), index=index)


def problems_of(folder: Path) -> list[str]:
    """Counts of a data record that its copies.parquet does not give; empty if all come out."""
    told = read_facts(folder).get("copies")
    if told is None:
        return []
    try:
        found = counts(load_copies(folder))
    except (InputError, KeyError) as error:
        return [f"its copies cannot be counted again: {error}"]
    return [] if found == told else ["the copies in run.json are not those of copies.parquet"]


def counts(copies: pd.DataFrame) -> dict[str, dict[str, int]]:
    """:func:`~gmelib.data.duplicates.copies_between` as a record holds it."""
    table = copies_between(copies)
    return {
        f"{of} in {where}": {name: int(value) for name, value in row.items()}
        for (of, where), row in table.iterrows()
    }
