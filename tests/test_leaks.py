"""Accuracy with and without copies: from records alone, with figures computed by hand."""

import json

import pandas as pd
import pytest
import tiny
from tiny import refusal

from gmelib import leaks
from gmelib.record import Run

COPIES = pd.DataFrame(
    [  # test 10 equals train 0, labelled otherwise; test 11 is near train 1; test 12 near test 13
        (0, 10, 0, 10, "train", "test", False, True),
        (1, 11, 1, 11, "train", "test", True, False),
        (12, 13, 12, 13, "test", "test", True, False),
    ],
    columns=["first", "second", "first_id", "second_id", "first_split", "second_split",
             "same_label", "exact"],
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run with five test faces: 10 and 11 right, of the others one of three."""
    cfg = tiny.config(out_root=str(tmp_path), resamples=100)
    folder = tmp_path / "made"
    folder.mkdir()
    right = [True, True, True, False, False]
    pd.DataFrame(
        {
            "id": [10, 11, 12, 13, 14],
            "split": "test",
            "label": 0,
            "predicted": [0 if ok else 1 for ok in right],
            "duplicate": False,
            "p_anger": [0.9 if ok else 0.1 for ok in right],
            "p_fear": [0.1 if ok else 0.9 for ok in right],
        }
    ).to_parquet(folder / "predictions.parquet")
    return Run(cfg, "student", folder)


def test_accuracy_is_told_of_all_faces_and_of_those_without_copies(run):
    table = leaks.leak_scores({"student": run}, COPIES)
    found = {kind: (row["value"], row["n"]) for (_, kind), row in table.iterrows()}
    assert found == {
        "all faces": (3 / 5, 5),
        "without exact copies": (2 / 4, 4),
        "without exact and near ones": (pytest.approx(1 / 3), 3),
        "faces with a copy alone": (1, 2),
    }
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


def test_a_record_whose_copies_do_not_give_its_counts_is_found(run):
    leaks.save_copies(run, COPIES)
    facts = {"run": "made", "dataset": "x", "stage": "data", "config": {}}
    told = facts | {"copies": leaks.counts(leaks.load_copies(run.folder))}
    assert told["copies"]["test in train"] == {
        "exact": 1, "exact or near": 2, "labelled differently": 1,
    }  # fmt: skip
    assert told["copies"]["test in test"]["exact or near"] == 2
    record = run.folder / "run.json"
    record.write_text(json.dumps(told))
    assert leaks.problems_of(run.folder) == []
    told["copies"]["test in train"]["exact"] = 2
    record.write_text(json.dumps(told))
    assert "copies in run.json" in leaks.problems_of(run.folder)[0]
    record.write_text(json.dumps(facts))
    assert leaks.problems_of(run.folder) == []  # made before copies were looked for


def test_copies_that_cannot_be_read_are_named(tmp_path):
    assert "copies.parquet" in refusal(leaks.load_copies, tmp_path)
    (tmp_path / leaks.FILE).write_bytes(b"PAR1")
    assert "run 01_data_generation" in refusal(leaks.load_copies, tmp_path)
