"""Model cards: every figure from the record, and a changed one is noticed."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from made_published import as_committed, change, facts_of

from gmelib import published
from gmelib.card import FILES, card_of, markdown_of, problems_of, write_card
from gmelib.card.__main__ import main
from gmelib.config import PROJECT_ROOT, Config, InputError
from gmelib.evaluate import load_predictions
from gmelib.record import PUBLISHED

CARDS = sorted(PUBLISHED.glob("*/*/*/model_card.json"))


@pytest.fixture
def student(root: Path) -> Path:
    """A finished student on faces that pass for drawn ones."""
    return tiny.run_of(root).folder


def limits(folder: Path) -> str:
    return "\n".join(card_of(folder)["limits"])


def as_fer2013(folder: Path, **metrics: dict) -> None:
    """The record as if its faces were FER2013's, with some figures of all test faces changed."""
    facts = facts_of(folder)
    facts["config"]["dataset"] = "fer2013"
    facts["metrics"]["all"] |= metrics
    change(folder, **facts)


# -- figures --------------------------------------------------------------------------------------


def test_figures_come_out_again_from_the_predictions(student: Path) -> None:
    card, table = card_of(student), load_predictions(student)
    right = (table["label"] == table["predicted"]).to_numpy()
    assert math.isclose(card["metrics"]["all"]["accuracy"]["value"], right.mean())
    for label, name in enumerate(card["classes"]):
        told = card["metrics"]["all"][f"recall_{name}"]
        of_class = right[(table["label"] == label).to_numpy()]
        assert (told["n"], told["value"]) == (len(of_class), pytest.approx(of_class.mean()))
    page = markdown_of(card)
    assert f"| accuracy | {100 * right.mean():.2f} [" in page
    wrong = f"{1 - right.mean():.0%} of the test faces are read wrongly"
    assert wrong in page
    clean = right[~table["duplicate"].to_numpy()]
    assert f"Without the copies among the test faces the accuracy is {clean.mean():.2%}" in page


def test_data_and_training_are_the_records(student: Path) -> None:
    card, facts, faces = card_of(student), facts_of(student), tiny.faces()
    assert card["data"]["fingerprint"] == faces.fingerprint
    page = markdown_of(card)
    for name, row in faces.counts().iterrows():
        assert f"| {name} | {row['train']} | {row['validation']} | {row['test']} |" in page
    assert f"{facts['wall_seconds'] / 3600:.2f} hours on {facts['sessions'][0]['device']}" in page
    assert f"{facts['budget']['presentations']} presentations" in page
    assert facts["distillation"]["teacher"] in page
    assert f"{facts['complexity']['parameters']:,} parameters" in page


def test_weights_are_named_by_their_content(student: Path) -> None:
    path = student / "model.safetensors"
    told = card_of(student)["weights"]
    assert told["bytes"] == path.stat().st_size and told["sha256"] in markdown_of(card_of(student))
    write_card(student)
    path.write_bytes(path.read_bytes() + b"\0")
    assert len(problems_of(student)) == len(FILES)


# -- what it warns of -----------------------------------------------------------------------------


def test_drawn_faces_are_no_results(student: Path) -> None:
    assert "ARE NO RESULTS" in markdown_of(card_of(student)).upper()
    as_fer2013(student)
    page = markdown_of(card_of(student))
    assert "NO RESULTS" not in page.upper() and "Kaggle" in page


def test_a_class_that_is_never_recognized_is_named(student: Path) -> None:
    def recall(value: float) -> dict:
        return {"value": value, "low": value, "high": value, "n": 5}

    as_fer2013(student, recall_anger=recall(0.04), recall_surprise=recall(0.5))
    count = facts_of(student)["data"]["counts"]["train"]["anger"]
    assert f"anger is hardly ever recognized: recall 4.0% of 5 test faces; {count} of 32" in limits(
        student
    )
    assert "surprise is hardly" not in limits(student)
    assert "anger" in card_of(student)["near_zero_recall"]


def test_a_class_without_test_faces_has_no_recall(student: Path) -> None:
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    as_fer2013(student, recall_anger=nothing)
    assert "anger is hardly" not in limits(student)
    assert "| recall anger |  | 0 |" in markdown_of(card_of(student))


def test_an_epoch_chosen_on_test_faces_is_said(student: Path) -> None:
    assert "chosen on the test faces" not in limits(student)
    change(student, config=facts_of(student)["config"] | {"select": "test"})
    assert "chosen on the test faces" in limits(student)


def test_what_no_figure_tells(root: Path, student: Path) -> None:
    for folder in (student, tiny.run_of(root, "teacher").folder):
        page = markdown_of(card_of(folder))
        for text in ("demographic", "is no feeling", "Workplaces and schools", "2511.05938"):
            assert text in page
    assert "shrunk to 8 x 8 px" in markdown_of(card_of(student))
    teacher = card_of(tiny.run_of(root, "teacher").folder)
    assert "8 x 8 px" not in teacher["input"] and "32 x 32 px" in teacher["input"]


def test_a_compared_method_is_its_authors(student: Path) -> None:
    config = facts_of(student)["config"] | {"method": "ma_net"}
    change(student, config=Config.make(**config).model_dump(mode="json"))
    assert "MA-Net" in card_of(student)["citation"]


# -- files ----------------------------------------------------------------------------------------


def test_a_changed_figure_is_noticed(student: Path) -> None:
    assert problems_of(student) == []  # no card
    write_card(student)
    assert problems_of(student) == []
    page, told = student / FILES[1], student / FILES[0]
    text = page.read_text()
    page.write_text(text.replace("| accuracy | ", "| accuracy | 1"))
    assert [p.split()[0] for p in problems_of(student)] == ["MODEL_CARD.md"]
    page.unlink()
    assert "cannot be read" in problems_of(student)[0]
    page.write_text(text)
    card = json.loads(told.read_text())
    card["metrics"]["all"]["accuracy"]["value"] += 0.01
    told.write_text(json.dumps(card))
    assert [p.split()[0] for p in problems_of(student)] == ["model_card.json"]


def test_verifying_published_runs_reads_their_cards(student: Path) -> None:
    write_card(student)
    assert not [p for p in published.problems_of(student) if "run.json gives" in p]
    page = student / FILES[1]
    page.write_text(page.read_text() + "It reads minds.\n")
    assert [p for p in published.problems_of(student) if "MODEL_CARD.md is not what" in p]


@pytest.mark.parametrize("weights", [True, False])
def test_a_card_is_published_with_its_weights(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bool
) -> None:
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    as_committed(student)
    write_card(student)
    (student / "export").mkdir()
    place = published.add(student, weights=weights)
    present = {path.name for path in place.iterdir()}
    assert (set(FILES) <= present) == weights and "export" not in present
    assert problems_of(place) == []


def test_what_was_not_used_of_the_training_faces_is_told(student: Path) -> None:
    facts = facts_of(student)
    assert card_of(student)["training"]["faces"] == 32
    change(student, config=facts["config"] | {"limit_train": 20})
    assert card_of(student)["training"]["faces"] == 20
    assert "Only 20 of the 32 training faces were used." in limits(student)
    options = {"method": "ada_cm", "attention": "none", "method_options": {"labels": 10}}
    change(student, config=facts["config"] | options | {"kd_weight": 0.0})
    assert "The labels of only 10 training faces were used." in limits(student)


def test_grey_networks_and_mirrored_answers_are_told(student: Path) -> None:
    facts = facts_of(student)
    assert facts["data"]["channels"] == 1
    assert "colour is turned to grey" in card_of(student)["input"]
    change(student, data=facts["data"] | {"channels": 3})
    assert "grey:" not in card_of(student)["input"]
    for flips in (True, False):
        change(student, config=facts["config"] | {"flip_average": flips})
        assert ("averaged with the mirrored" in card_of(student)["input"]) == flips


def test_the_command_writes_beside_the_weights(student: Path, capsys) -> None:
    assert main([str(student)]) == 0
    assert (student / FILES[1]).is_file() and str(student / FILES[1]) in capsys.readouterr().out
    (student / "run.json").unlink()
    assert main([str(student)]) == 2
    assert "no run.json" in capsys.readouterr().err


def test_what_trains_no_network_has_no_card(student: Path) -> None:
    change(student, stage="attention")
    with pytest.raises(InputError, match="expected the folder of a teacher or a student"):
        write_card(student)
    assert not (student / FILES[0]).exists()


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_published_cards_agree_with_their_records(path: Path, tmp_path: Path) -> None:
    assert problems_of(path.parent) == []
    copied = shutil.copytree(path.parent, tmp_path / path.parent.name)
    metrics = facts_of(copied)["metrics"]
    metrics["all"]["accuracy"]["value"] = np.nextafter(metrics["all"]["accuracy"]["value"], 1)
    change(copied, metrics=metrics)
    assert problems_of(copied) != []


def test_both_main_runs_have_cards() -> None:
    assert {path.parent.parent.name for path in CARDS} == {"teacher", "student"}
    tracked = [str(path.relative_to(PROJECT_ROOT)) for path in CARDS]
    assert any("gmenet-12px-kd5-s0-7912f4ca" in name for name in tracked)
