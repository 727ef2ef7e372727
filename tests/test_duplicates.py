"""Copies across splits: found where they were made, and nowhere else."""

import numpy as np
import pytest
import real_data
import torch
from made_data import config, csv_lines, same, write
from PIL import Image, ImageEnhance

from gmelib.data import load_faces
from gmelib.data.duplicates import (
    copies_between,
    find_copies,
    find_pairs,
    leaked,
    perceptual_hashes,
    take,
    without_training_copies,
)
from gmelib.data.faceset import make_faces
from gmelib.synthetic import draw_faces


@pytest.fixture(scope="module")
def drawn():
    return draw_faces(60, size=64, seed=5).images.numpy()


def changed(pixels, how):
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    if how == "contrast":
        image = ImageEnhance.Contrast(image).enhance(0.7)
    elif how == "brightness":
        image = ImageEnhance.Brightness(image).enhance(0.8)
    elif how == "crop":
        image = image.crop((1, 0, 63, 62)).resize((64, 64), Image.Resampling.BICUBIC)
    elif how == "mirror":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif how == "compression":
        image = image.resize((40, 40)).resize((64, 64), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("how", ["same", "contrast", "brightness", "crop", "mirror", "compression"])
def test_a_changed_copy_is_found(drawn, how):
    images = np.concatenate([drawn, changed(drawn[7], how)[None]])
    pairs = find_pairs(torch.from_numpy(images))
    (row,) = pairs[(pairs["first"] == 7) & (pairs["second"] == 60)].to_dict("records")
    assert row["exact"] == (how == "same")
    assert row["mirrored"] == (how == "mirror")


def test_noise_has_no_copies_and_constant_images_are_copies_of_equal_ones_alone():
    noise = np.random.default_rng(0).integers(0, 256, (300, 1, 20, 20), dtype=np.uint8)
    noise[[3, 9, 200]] = 128
    pairs = find_pairs(torch.from_numpy(noise))
    assert pairs[["first", "second"]].to_numpy().tolist() == [[3, 9], [3, 200], [9, 200]]
    assert pairs["exact"].all()
    noise[[3, 9, 200]] += np.arange(3, dtype=np.uint8)[:, None, None, None]
    assert find_pairs(torch.from_numpy(noise)).empty
    assert find_pairs(torch.zeros(0, 1, 8, 8, dtype=torch.uint8)).empty


def test_contrast_changes_no_bit_of_a_hash():
    images = np.random.default_rng(1).uniform(0, 255, (5, 32, 32))
    assert np.array_equal(perceptual_hashes(images), perceptual_hashes(0.5 * images + 20))
    assert len(set(perceptual_hashes(images).tolist())) == 5


@pytest.fixture
def faces():
    """Noise, with copies at places that are known."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (12, 1, 24, 24), dtype=np.uint8)
    split = np.array(["train"] * 6 + ["validation"] * 3 + ["test"] * 3)
    expressions = np.array(["anger", "fear"] * 6)
    images[9] = images[0]  # test face 9, labelled fear, is train face 0, labelled anger
    images[10] = np.clip(images[2] * 0.9 + 5, 0, 255).astype(np.uint8)  # near, both anger
    images[6] = images[1, :, :, ::-1]  # validation: mirrored; anger, train has fear
    images[4] = images[3]  # both in train
    return make_faces(
        name="made",
        images=images,
        expressions=expressions,
        split=split,
        ids=np.array([f"i{i}" for i in range(12)]),
        extras={"targets": np.eye(12, dtype=np.float32)},
    )


def test_copies_are_counted_by_split(faces):
    table = copies_between(find_copies(faces))
    assert table.loc[("test", "train")].tolist() == [1, 2, 1]
    assert table.loc[("validation", "train")].tolist() == [0, 1, 1]
    assert table.loc[("train", "train")].tolist() == [2, 2, 2]
    assert table.loc[("test", "validation")].sum() == 0


def test_leaked_faces_are_those_with_a_copy_in_train(faces):
    copies = find_copies(faces)
    assert leaked(copies, near=False).to_numpy().tolist() == [[9, "i9", "test"]]
    near = leaked(copies, near=True)
    assert near["position"].tolist() == [6, 9, 10]
    assert near["split"].tolist() == ["validation", "test", "test"]
    assert np.flatnonzero(faces.duplicate).tolist() == [9]


@pytest.mark.parametrize("kind, gone", [("exact", [0]), ("near", [0, 1, 2])])
def test_training_copies_are_dropped_and_all_else_stays(faces, kind, gone):
    clean = without_training_copies(faces, kind)
    kept = [i for i in range(12) if i not in gone]
    assert clean.ids.tolist() == [f"i{i}" for i in kept]
    assert torch.equal(clean.images, faces.images[kept])
    assert torch.equal(clean.labels, faces.labels[kept])
    assert np.array_equal(clean.extras["targets"], faces.extras["targets"][kept])
    assert clean.extras["dropped"] == {f"training_copies_{kind}": len(gone)}
    assert clean.fingerprint != faces.fingerprint and not clean.duplicate.any()
    assert leaked(find_copies(clean), near=kind == "near").empty


def test_a_part_that_is_the_whole_has_the_same_fingerprint(faces):
    whole = take(faces, np.ones(12, dtype=bool), dropped="nothing")
    assert whole.fingerprint == faces.fingerprint


def test_a_run_can_be_told_to_train_without_copies(tmp_path):
    lines = csv_lines()
    lines[22] = lines[1].rsplit(",", 1)[0] + ",PrivateTest"  # the first test face; same emotion
    write(tmp_path, lines)
    whole = load_faces(config(tmp_path))
    for kind in ("exact", "near"):
        cfg = config(tmp_path, drop_duplicates=kind)
        faces = load_faces(cfg)
        assert faces.ids.tolist() == [i for i in whole.ids.tolist() if i != 0]
        assert same(load_faces(cfg), faces)  # from the cache
        assert cfg.digest("teacher") != config(tmp_path).digest("teacher")
        assert cfg.data().drop_duplicates == kind


@pytest.mark.slow
def test_the_real_fer2013_has_its_known_exact_copies(tmp_path):
    faces = load_faces(config(real_data.write_csv(tmp_path)))
    copies = find_copies(faces)
    table = copies_between(copies)
    assert table.loc[("validation", "train"), "exact"] == 280
    assert table.loc[("test", "train"), "exact"] == 288
    positions = leaked(copies, near=False)["position"]
    assert np.array_equal(positions, np.flatnonzero(faces.duplicate))
    assert table.loc[("test", "train"), "exact or near"] > 288
