"""The sentences that 02 and 03 end with, from a record alone."""

import json
from pathlib import Path

import pytest
import tiny

from gmelib import tables
from gmelib.record import Run


def told(run: Run, **facts) -> list[str]:
    """The sentences of a record with some facts changed."""
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return tables.conclusion(run).splitlines()


def recalls(run: Run, *values: float) -> dict:
    """The record's metrics with these recalls, of 10, 20, 30, ... faces."""
    metrics = run.facts()["metrics"]
    for i, (name, value) in enumerate(zip(run.facts()["classes"], values, strict=True)):
        metrics["all"][f"recall_{name}"] |= {"value": value, "n": 10 * (i + 1)}
    metrics["all"]["accuracy"] |= {"value": 0.5, "n": 100}
    return {"metrics": metrics}


def test_an_accuracy_stands_beside_that_of_the_largest_class(root: Path) -> None:
    run = tiny.run_of(root)
    last = run.facts()["classes"][-1]
    first, *_ = told(run, **recalls(run, 0.1, 0.2, 0.3, 0.4))
    assert first.endswith(f"on 100 faces; who always says {last} is right on 40.0%.")


@pytest.mark.parametrize(
    "values, said",
    [((0.5, 0.0, 0.0, 0.2), "Best recall: {0} (50 %); worst: {1}, {2} (0 %)."),
     ((1.0, 0.1, 1.0, 0.2), "Best recall: {0}, {2} (100 %); worst: {1} (10 %)."),
     ((0.3,) * 4, "Recall of every class: 30 %.")],
)  # fmt: skip
def test_all_classes_of_best_and_worst_recall_are_named(root: Path, values, said) -> None:
    run = tiny.run_of(root)
    assert told(run, **recalls(run, *values))[1] == said.format(*run.facts()["classes"])


@pytest.mark.parametrize(
    "changes, said",
    [({"epochs": 1}, "1 epoch at width"),
     ({"limit_train": 8000}, "2 epochs of 8,000 faces at width"),
     ({"method": "ma_net", "train_on": "hr"}, "this run, 2 epochs, is")],
)  # fmt: skip
def test_a_run_beside_the_papers_figure_tells_its_length(root: Path, changes, said) -> None:
    run = tiny.run_of(root, kd_weight=0.0)
    config = run.facts()["config"] | {"dataset": "ferplus", "lr_size": 12, "epochs": 2} | changes
    text = "\n".join(told(run, config=config, **recalls(run, 0.1, 0.2, 0.3, 0.4)))
    assert said in text and "points from it" in text
