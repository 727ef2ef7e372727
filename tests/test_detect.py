"""Detectors on photographs that lie in scikit-image's wheel: what is found, and where."""

import sys

import numpy as np
import pytest
from PIL import Image
from tiny import refusal

from gmelib.faces import Face, align, find_faces, make_detector

data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
TURNED = np.deg2rad(20)
GREY = np.zeros((200, 300), np.uint8)


@pytest.fixture(scope="module")
def mtcnn():
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    return make_detector("mtcnn")


@pytest.fixture(scope="module")
def astronaut():
    return data.astronaut()[:300, 80:380]


@pytest.fixture(scope="module")
def patches():
    """25 x 25 px, grey: 100 faces, then 100 without one."""
    return [np.uint8(255 * patch) for patch in data.lfw_subset()]


def eyes_apart(face):
    return np.hypot(*(face.landmarks[1] - face.landmarks[0]))


def test_landmarks_are_eyes_nose_and_mouth_from_left_to_right(mtcnn, astronaut):
    face = mtcnn(astronaut)[0]
    left, right, nose, mouth_left, mouth_right = face.landmarks
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert face.box[0] < left[0] and face.box[2] > right[0] and face.confidence > 0.9
    dark = Image.fromarray(astronaut).convert("L")  # pupils are darker than the cheeks below
    for x, y in (left, right):
        assert dark.getpixel((x, y)) < dark.getpixel((x, y + 18)) - 40


def test_a_turned_photograph_has_its_landmarks_turned(mtcnn, astronaut):
    centre = np.array(astronaut.shape[1::-1]) / 2
    turned = Image.fromarray(astronaut).rotate(np.rad2deg(TURNED), Image.Resampling.BICUBIC)
    face, expected = mtcnn(np.asarray(turned))[0], mtcnn(astronaut)[0]
    cos, sin = np.cos(TURNED), np.sin(TURNED)
    moved = (expected.landmarks - centre) @ np.array([[cos, -sin], [sin, cos]]) + centre
    assert np.abs(face.landmarks - moved).max() < 0.12 * eyes_apart(expected)
    one, other = align(astronaut, expected.landmarks), align(np.asarray(turned), face.landmarks)
    middle = np.s_[30:100, 30:82]
    assert np.abs(one[middle].astype(float) - other[middle]).mean() < 15


@pytest.mark.parametrize("name", ["mtcnn", "cascade"])
def test_a_shrunk_photograph_has_its_faces_shrunk(name, astronaut, request):
    detector = request.getfixturevalue("mtcnn") if name == "mtcnn" else make_detector(name)
    small = Image.fromarray(astronaut).resize((100, 100), Image.Resampling.BICUBIC)
    face, expected = detector(np.asarray(small))[0], detector(astronaut)[0]
    assert np.abs(np.array(face.box) * 3 - expected.box).max() < 0.2 * expected.side
    if name == "mtcnn":
        assert np.abs(face.landmarks * 3 - expected.landmarks).max() < 0.1 * eyes_apart(expected)
    else:
        assert face.landmarks is None and expected.landmarks is None


def test_tiny_grey_faces_are_found_and_other_patches_are_not(mtcnn, patches):
    found = mtcnn.many(patches[:12] + patches[100:112])
    assert [bool(faces) for faces in found] == [True] * 12 + [False] * 12
    assert all(0 < face.side < 35 for faces in found for face in faces)


def test_cascade_finds_most_tiny_faces(patches):
    found = make_detector("cascade").many(patches[:12] + patches[100:112])
    assert sum(map(bool, found[:12])) >= 8 and sum(map(bool, found[12:])) <= 2


def test_images_of_several_sizes_keep_their_order(mtcnn, astronaut, patches):
    images = [patches[100], astronaut, patches[0], astronaut[:, ::-1].copy(), patches[1]]
    for faces, image in zip(mtcnn.many(images), images, strict=True):
        alone = mtcnn(image)
        assert len(faces) == len(alone)
        for face, expected in zip(faces, alone, strict=True):
            assert np.allclose(face.landmarks, expected.landmarks, atol=0.05)


def test_the_same_image_gives_the_same_faces(mtcnn, astronaut):
    one, other = make_detector("mtcnn")(astronaut), mtcnn(astronaut)
    assert [face.box for face in one] == [face.box for face in other]
    assert all(np.array_equal(a.landmarks, b.landmarks) for a, b in zip(one, other, strict=True))


def test_the_largest_face_comes_first(mtcnn, astronaut):
    small = np.asarray(Image.fromarray(astronaut).resize((150, 150), Image.Resampling.BICUBIC))
    both = np.concatenate([np.pad(small, ((75, 75), (0, 0), (0, 0))), astronaut], axis=1)
    faces = mtcnn(both)
    assert len(faces) == 2 and faces[0].side > 1.6 * faces[1].side
    assert faces[0].box[0] > 150 > faces[1].box[2]


def test_no_face_is_found_where_there_is_none(mtcnn):
    assert mtcnn(GREY) == [] and mtcnn.many([]) == []


@pytest.mark.parametrize("name", ["mtcnn", "cascade"])
@pytest.mark.parametrize("shape", [(20, 810), (8040, 200), (188, 7520), (1, 50)])
def test_none_is_found_in_an_image_narrower_than_the_least_face(name, shape, request):
    detector = request.getfixturevalue("mtcnn") if name == "mtcnn" else make_detector(name)
    assert detector(np.zeros(shape, np.uint8)) == []


@pytest.mark.parametrize(
    "name, package, line",
    [
        ("mtcnn", "facenet_pytorch", "run: pip install --no-deps facenet-pytorch==2.6.0"),
        ("cascade", "skimage.feature", "run: pip install 'scikit-image>=0.24'"),
    ],
)
def test_a_missing_package_is_answered_by_the_line_that_installs_it(
    name, package, line, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(make_detector, name).endswith(line)


def test_an_unknown_detector_is_refused():
    assert "expected one of mtcnn, cascade, got 'dlib'" in refusal(make_detector, "dlib")


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9), np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    assert "expected uint8 (H, W) grey or (H, W, 3) RGB" in refusal(find_faces, image)


def test_a_small_image_is_a_face_itself():
    whole = [Face((0, 0, 100, 112))]
    assert find_faces(np.zeros((112, 100, 3), np.uint8)) == whole
    assert find_faces(np.zeros((112, 100), np.uint8), assume_face=True) == whole
    assert find_faces(GREY, assume_face=True) == [Face((0, 0, 300, 200))]


def test_a_large_image_needs_a_detector(mtcnn, astronaut):
    assert "give a detector" in refusal(find_faces, GREY)
    small = np.zeros((100, 100), np.uint8)
    assert "give a detector" in refusal(find_faces, small, assume_face=False)
    assert find_faces(small, mtcnn, assume_face=False) == []
    assert find_faces(astronaut, mtcnn)[0].box == mtcnn(astronaut)[0].box
