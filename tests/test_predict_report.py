"""What 08_predict shows: which network and pictures, and the table as a person reads it."""

import numpy as np
import pandas as pd
import tiny
from made_network import face, network, write_faces

from gmelib import figures, predict
from gmelib.config import Config
from gmelib.faces import Face
from gmelib.record import PUBLISHED, Run


def published(tmp_path, **values):
    overlays = ["params/base.yaml", "params/fer2013.yaml", "params/cpu.yaml"]
    places = {"data_root": str(tmp_path / "no data"), "out_root": str(tmp_path)}
    return Config.load(*overlays, **places, **values)


def test_a_finished_network_is_used_where_no_data_set_is(tmp_path):
    run = predict.student_of(published(tmp_path))
    assert PUBLISHED in run.folder.parents
    assert predict.command(run).split()[3] == run.label
    assert predict.predict_run(run).workplace.is_relative_to(tmp_path)


def test_a_missing_network_needs_its_data_set(tmp_path):
    assert "fer2013" in tiny.refusal(predict.student_of, published(tmp_path, width=8))


def test_drawn_pictures_stand_in_sizes_around_that_of_the_student():
    pictures = predict.pictures_of(tiny.config(lr_size=12))
    assert len(pictures) == 12
    assert {picture.shape for picture in pictures.values()} == {
        (side, side, 3) for side in (96, 24, 12, 8)
    }


def test_places_without_pictures_are_named(tmp_path):
    for place, said in ((tmp_path, "no picture found"), (tmp_path / "x", "no such file")):
        cfg = tiny.config(predict_paths=[str(place)])
        assert said in tiny.refusal(predict.pictures_of, cfg)


def test_a_picture_that_is_given_twice_is_shown_under_its_own_name(tmp_path):
    run = network(tmp_path / "run")
    paths = write_faces(tmp_path / "pictures", [20, 9])
    pictures = [str(tmp_path / "pictures"), str(paths[0])]
    shown, rows = predict.faces_of(pictures, predict.predict_images(run, pictures))
    assert rows["path"].tolist() == [str(paths[0]), str(paths[1]), str(paths[0])]
    assert [len(face) for face in shown] == [20, 9, 20]


def test_without_any_readable_picture_the_report_says_so(tmp_path):
    run = network(tmp_path / "run")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    pictures, predictor = [str(tmp_path / "broken.png")], predict.load_predictor(run)
    table = predict.predict_images(predictor, pictures)
    shown, rows = predict.faces_of(pictures, table)
    (text,) = figures.predicted_faces(shown, rows).texts
    assert text.get_text() == "no face was answered" and not shown
    assert "0 faces in 1 picture, 1 of which" in predict.conclusion(predictor, table, drawn=False)


def test_own_pictures_are_answered_shown_and_counted(tmp_path):
    run = network(tmp_path / "run")
    paths = write_faces(tmp_path / "pictures", [20, 5, 9])
    (tmp_path / "pictures" / "001b.png").write_bytes(b"no picture")
    cfg = run.cfg.replace(predict_paths=[str(tmp_path / "pictures")], out_root=str(tmp_path))
    pictures, predictor = predict.pictures_of(cfg), predict.load_predictor(run)
    table = predict.predict_images(predictor, pictures)

    shown = predict.summary(table)
    assert shown["size, px"].tolist() == ["20", "5", "", "9"]
    assert shown["remark"].tolist()[:2] == ["", "face of 5 px, enlarged to 8 px"]
    assert shown["remark"].iloc[2].startswith("cannot be read")
    likeliest, share = shown["expression"].iloc[0].split()
    assert likeliest == table["expression"][0]
    assert share == f"{table[f'p_{likeliest}'][0]:.0%}" and shown["or"].iloc[0]

    faces, rows = predict.faces_of(pictures, table)
    assert [f.shape for f in faces] == [(20, 20, 3), (5, 5, 3), (9, 9, 3)]
    assert rows["path"].tolist() == [str(p) for p in paths]
    titles = [axes.get_title() for axes in figures.predicted_faces(faces, rows).axes]
    assert [t for t in titles if t] == [
        "000.png\n20 px",
        "001.png\n5 px, too small",
        "002.png\n9 px",
    ]

    said = predict.conclusion(predictor, table, drawn=False)
    assert "3 faces in 4 pictures, 1 of which could not be read" in said
    assert "trained for: 1, answered" in said and "not a result" not in said
    assert "not a result" in predict.conclusion(predictor, table, drawn=True)

    report = predict.predict_run(Run(cfg, "student", run.folder))
    predict.finish(report, predictor, table)
    facts = report.facts()
    assert (facts["faces"], facts["warnings"], facts["errors"]) == (3, 1, 1)
    assert str(tmp_path) not in (report.folder / "run.json").read_text()


def test_every_face_of_a_photograph_is_shown_from_its_box(tmp_path):
    run = network(tmp_path / "run")
    photograph = np.concatenate([face(40, 1), face(40, 2)], axis=1)

    def detect(image):
        return [Face((left, 0, left + 40, 40)) for left in (0, 40)]

    table = predict.predict_images(run, {"two": photograph}, detector=detect)
    faces, _ = predict.faces_of({"two": photograph}, table)
    np.testing.assert_array_equal(np.concatenate(faces, axis=1), photograph)


def test_a_figure_needs_a_row_for_every_face():
    assert "expected one row a face" in tiny.refusal(
        figures.predicted_faces, [], pd.DataFrame(index=[0])
    )
