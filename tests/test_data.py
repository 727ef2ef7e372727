"""FER2013, drawn faces, cache and check: on small made files, and on FER2013 where present."""

import re
import shutil

import numpy as np
import pytest
import real_data
from made_data import EMOTION, PIXELS, USAGE, config, csv_lines, damaged, same, write

from gmelib.config import EXPRESSIONS, InputError
from gmelib.data import DATASETS, SPLITS, check_dataset, fer2013, load_faces
from gmelib.data.faceset import find_duplicates, fingerprint

# FER2013


@pytest.mark.parametrize(
    "name, quote, newline",
    [("fer2013.csv", "", "\n"), ("fer2013.csv", '"', "\r\n"), ("icml_face_data.csv", "", "\n")],
)
def test_published_layouts_of_fer2013(tmp_path, name, quote, newline):
    write(tmp_path, csv_lines(name, quote), name, newline)
    faces = load_faces(config(tmp_path))
    assert np.array_equal(faces.images[:, 0].numpy(), PIXELS)
    assert faces.images.is_contiguous() and faces.classes == EXPRESSIONS[:7]
    published = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert [faces.classes[i] for i in faces.labels] == [published[e] for e in EMOTION]
    assert list(faces.split) == ["train"] * 14 + ["validation"] * 7 + ["test"] * 7
    assert list(faces.ids) == list(range(28))
    assert faces.indices("validation").tolist() == list(range(14, 21))
    assert (faces.counts() == [2, 1, 1]).all(axis=None)


def test_fer2013_is_found_in_data_root_itself(tmp_path):
    shutil.move(write(tmp_path, csv_lines()), tmp_path / "fer2013.csv")
    assert len(load_faces(config(tmp_path))) == 28


@pytest.mark.parametrize(
    "lines, message",
    [
        (damaged(28, lambda line: line[: len(line) // 2]), "row 28 .*2 columns.*incomplete"),
        (damaged(28, lambda line: re.sub(r" \d+,P", ",P", line)), "row 28 .*2303 pixels.*2304"),
        (damaged(3, lambda line: re.sub(r" \d+,T", " 256,T", line)), "row 3 .*256; .*0-255"),
        (damaged(3, lambda line: re.sub(r" \d+,T", " -1,T", line)), "row 3 .*-1.*0-255"),
        (damaged(3, lambda line: re.sub(r" \d+ ", " x ", line, count=1)), "row 3 .*not numbers"),
        (damaged(3, lambda line: re.sub(r" \d+,T", " 3x,T", line)), "row 3 .*not numbers"),
        (damaged(5, lambda line: "7" + line[1:]), "row 5 .*emotion '7'.*0-6"),
        (damaged(5, lambda line: line[1:]), "row 5 .*emotion ''.*0-6"),
        (damaged(5, lambda line: line.replace("Training", "Train")), "row 5 .*Usage 'Train'"),
        (damaged(0, lambda line: "emotion,pixels"), "no column Usage"),
        (csv_lines()[:1], "no row"),
    ],
)
def test_a_damaged_fer2013_names_file_and_row(tmp_path, lines, message):
    write(tmp_path, lines)
    with pytest.raises(InputError, match=f"(?s)fer2013.csv.*{message}") as error:
        load_faces(config(tmp_path))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "dataset, missing", [("fer2013", "fer2013.csv"), ("ferplus", "fer2013new.csv")]
)
def test_a_missing_file_is_named_with_its_places_and_its_source(tmp_path, dataset, missing):
    if dataset == "ferplus":
        write(tmp_path, csv_lines())
    with pytest.raises(InputError) as error:
        load_faces(config(tmp_path, dataset))
    source = {"fer2013": "challenges-in-representation", "ferplus": "github.com/microsoft/FERPlus"}
    for part in (tmp_path / "fer2013" / missing, tmp_path / missing, source[dataset]):
        assert str(part) in str(error.value)


def test_empty_split_and_empty_class_are_named(tmp_path):
    lines = csv_lines()
    write(tmp_path, lines[:22])
    with pytest.raises(InputError, match="the test split is empty"):
        load_faces(config(tmp_path))
    write(tmp_path, [line for i, line in enumerate(lines) if i not in (2, 9)])
    with pytest.raises(InputError, match="no train face of disgust"):
        load_faces(config(tmp_path))


# FaceSet


def test_duplicates_are_the_held_out_faces_that_equal_a_train_face():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 2, (60, 1, 2, 2), dtype=np.uint8)  # 16 different faces, many equal
    split = rng.choice(["train", "validation", "test"], 60)
    expected = [
        split[i] != "train"
        and any(split[j] == "train" and (images[i] == images[j]).all() for j in range(60))
        for i in range(60)
    ]
    assert find_duplicates(images, split).tolist() == expected
    assert 0 < sum(expected) < (split != "train").sum()


def test_fingerprint_sees_every_pixel_label_split_class_and_target():
    base = dict(images=PIXELS[:, None], labels=np.arange(28) % 7, split=np.array(USAGE))
    pixels, labels, split = PIXELS[:, None].copy(), base["labels"].copy(), base["split"].copy()
    pixels[20, 0, 47, 47] ^= 1
    labels[20] += 1
    split[20] = "Training"
    changed = [{}, {"images": pixels}, {"labels": labels}, {"split": split}]
    marks = [fingerprint(**(base | change), classes=EXPRESSIONS[:7]) for change in changed]
    marks.append(fingerprint(**base, classes=EXPRESSIONS))
    marks.append(fingerprint(**base | {"images": PIXELS.reshape(28, 1, 32, 72)}, classes=("a",)))
    targets = np.eye(7, dtype=np.float32)[base["labels"]]
    for shares in (targets, targets[::-1]):
        marks.append(fingerprint(**base, classes=EXPRESSIONS[:7], targets=shares))
    assert len(set(marks)) == len(marks)
    assert fingerprint(**base, classes=EXPRESSIONS[:7]) == marks[0]


# Cache


def stored(cfg):
    (folder,) = cfg.cache_dir.iterdir()
    return folder


def test_a_second_start_reads_the_cache_and_not_the_csv(tmp_path, monkeypatch):
    write(tmp_path, csv_lines())
    first = load_faces(config(tmp_path))
    monkeypatch.setattr(fer2013, "read_csv", None)
    second = load_faces(config(tmp_path))
    assert same(first, second)
    second.images.zero_()  # a tensor is the reader's own: the stored faces stay
    assert same(first, load_faces(config(tmp_path)))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no meta", "empty meta", "no images"])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    write(tmp_path, csv_lines())
    cfg = config(tmp_path)
    mark = load_faces(cfg).fingerprint
    images, meta = stored(cfg) / "images.npy", stored(cfg) / "meta.json"
    content = images.read_bytes()
    match damage:
        case "truncated":
            images.write_bytes(content[:-100])
        case "flipped":
            images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "no meta":
            meta.unlink()
        case "empty meta":
            meta.write_text("{}")
        case "no images":
            images.unlink()
    faces = load_faces(cfg)
    assert np.array_equal(faces.images[:, 0].numpy(), PIXELS) and faces.fingerprint == mark
    assert images.read_bytes() == content  # and stored again


def test_a_changed_source_is_read_again(tmp_path):
    write(tmp_path, csv_lines())
    first = load_faces(config(tmp_path))
    write(tmp_path, damaged(1, lambda line: re.sub(r" \d+,T", " 0,T", line)))
    assert load_faces(config(tmp_path)).fingerprint != first.fingerprint


def test_without_a_writable_cache_all_works(tmp_path):
    write(tmp_path, csv_lines())
    (tmp_path / "outputs").write_text("a file where the folder should be")
    assert np.array_equal(load_faces(config(tmp_path)).images[:, 0].numpy(), PIXELS)


# Drawn faces


def test_drawn_faces_do_not_depend_on_the_training_seed(tmp_path):
    sizes = dict(drawn_train=28, drawn_validation=14, drawn_test=14, drawn_size=32)
    faces = load_faces(config(tmp_path, "synthetic", **sizes))
    assert faces.images.shape == (56, 3, 32, 32) and faces.classes == EXPRESSIONS[:7]
    assert faces.counts().sum().tolist() == [28, 14, 14]
    assert not faces.duplicate.any()
    assert len(faces.extras["action_units"]) == 56
    again = load_faces(config(tmp_path, "synthetic", seed=5, **sizes))
    assert same(again, faces)
    assert np.array_equal(again.extras["action_units"], faces.extras["action_units"])
    shutil.rmtree(config(tmp_path).cache_dir)
    assert same(load_faces(config(tmp_path, "synthetic", seed=5, **sizes)), faces)


def test_contempt_is_drawn_when_asked_for(tmp_path):
    sizes = dict(drawn_train=32, drawn_validation=8, drawn_test=8, drawn_size=32)
    faces = load_faces(config(tmp_path, "synthetic", drawn_contempt=True, **sizes))
    assert faces.classes == EXPRESSIONS


# The check


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "synthetic"])
def test_check_reports_missing_data_and_never_raises(tmp_path, dataset):
    report = check_dataset(config(tmp_path / "nowhere", dataset))
    assert not report.usable and len(report.problems) == 1 and report.counts.empty
    for text in (str(report), report._repr_html_()):
        assert "nowhere" in text and "expected" in text and "ask for the data" in text


def test_check_counts_beside_the_published_numbers(tmp_path):
    write(tmp_path, csv_lines())
    report = check_dataset(config(tmp_path))
    assert report.usable  # a subset can be trained on, but it is called one
    assert len(report.problems) == 3 and "28709" in report.problems[0]
    assert report.counts.loc["anger", ("train", "found")] == 2
    assert report.counts.loc["anger", ("train", "published")] == 3995
    assert report.counts.loc["all", ("test", "published")] == 3589


def test_check_counts_constant_images(tmp_path):
    lines = csv_lines()
    for row in (4, 20):
        emotion, _, usage = lines[row].split(",")
        lines[row] = f"{emotion},{' '.join(['9'] * 2304)},{usage}"
    write(tmp_path, lines)
    notes = check_dataset(config(tmp_path)).notes
    assert "constant images (one grey level): 2" in notes
    assert "validation faces that equal a train face pixel by pixel: 1" in notes


# The published files


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return real_data.write_csv(tmp_path_factory.mktemp("data"))


def test_complete_fer2013_is_what_was_published(published):
    report = check_dataset(config(published))
    assert report.usable and report.problems == []
    assert "constant images (one grey level): 12" in report.notes
    faces = report.faces
    copies = [faces.duplicate[faces.split == split].sum() for split in SPLITS]
    assert copies == [0, 280, 288]
    assert np.array_equal(faces.images[:64, 0].numpy(), real_data.some_faces())


def test_complete_ferplus_is_what_was_published(published):
    report = check_dataset(config(published, "ferplus"))
    assert report.usable and report.problems == []
    assert report.faces.counts().sum().tolist() == [26940, 3396, 3376]
    assert sum(report.faces.extras["dropped"].values()) == 35887 - 33712
