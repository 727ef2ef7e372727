"""What is exported: the workbook's own preprocessing and probabilities, for faces of one size."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from gmelib import degrade
from gmelib.batches import make_view
from gmelib.checkpoint import load_model
from gmelib.evaluate import predict
from gmelib.export import Deployable, Signature, deployable, signature
from gmelib.export.checks import (
    TOLERANCE,
    by_torch,
    cost_of_eight_bits,
    greatest_differences,
    noise,
)
from gmelib.export.graphs import to_program
from gmelib.export.latency import COLUMNS, latency
from gmelib.export.sample import CALIBRATION, find_faces, take
from gmelib.model import Output
from gmelib.predict import predict_images
from gmelib.record import Run

FACES = tiny.faces()
TEST = FACES.images[FACES.indices("test")]


class Pixels(nn.Module):
    """Stands for a network whose logits are its input's pixels, so that one grey level shows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Output:
        return Output(self.scale * x[:, :1].flatten(1))


def probabilities(run: Run, images: Tensor) -> np.ndarray:
    return by_torch(deployable(run)[0])(images)


def recorded(run: Run) -> np.ndarray:
    table = predict(load_model(run), FACES, run.cfg, run.stage)
    return table.filter(like="p_").to_numpy()


# -- module ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip_average", [True, False])
def test_a_student_reads_small_and_native_faces_alike(root: Path, flip_average: bool) -> None:
    run = tiny.run_of(root)
    cfg = run.cfg.replace(flip_average=flip_average)
    module, classes = deployable(run, flip_average=flip_average)
    table = predict(load_model(run), FACES, cfg, "student").filter(like="p_")
    assert [f"p_{name}" for name in classes] == list(table)
    low = degrade.to_low_resolution(TEST, run.cfg.lr_size)
    for images in (TEST, low):
        found = by_torch(module)(images)
        np.testing.assert_allclose(found, table.to_numpy(), atol=1e-6)
    other = by_torch(deployable(run, flip_average=not flip_average)[0])(TEST)
    assert np.abs(other - found).max() > 1e-4


def test_a_network_of_grey_faces_sees_colour_as_the_predictor_shows_it(root: Path) -> None:
    run = tiny.run_of(root)
    colour = noise(9, Signature(3, 31))
    module, _ = deployable(run, grey=True)
    pictures = [face.permute(1, 2, 0).numpy() for face in colour]
    expected = predict_images(run, pictures).filter(like="p_")
    np.testing.assert_allclose(by_torch(module)(colour), expected, atol=1e-6)
    unlike = by_torch(deployable(run)[0])(colour)
    assert np.abs(unlike - expected.to_numpy()).max() > 1e-4
    program = to_program(module, colour[:2]).module()
    np.testing.assert_allclose(by_torch(program)(colour), expected, atol=1e-6)


def test_a_teacher_reads_native_faces(root: Path) -> None:
    run = tiny.run_of(root, "teacher")
    np.testing.assert_allclose(probabilities(run, TEST), recorded(run), atol=1e-6)


@pytest.mark.parametrize("kernel", ["bicubic", "box"])
@pytest.mark.parametrize("stage, size", [("student", 8), ("student", 25), ("teacher", 40)])
def test_resizing_in_the_graph_is_the_workbooks(kernel: str, stage: str, size: int) -> None:
    """Of the largest size the graph shrinks (student) or enlarges (teacher) with 8-bit rounding."""
    cfg = tiny.config(kernel=kernel, blur_sigma=0.7)
    module = Deployable(Pixels(), make_view(cfg, stage), flip_average=False)
    faces = noise(64, Signature(1, size))
    program = to_program(module, faces[:3]).module()
    for part in (faces, faces[:1], faces[:17]):
        view = make_view(cfg, stage)(part)
        expected = (4 * view[:, :1].flatten(1)).softmax(1)
        assert torch.equal(program(part), expected)


def test_a_program_takes_any_number_of_faces_of_one_size(root: Path) -> None:
    module, _ = deployable(tiny.run_of(root))
    program = to_program(module, noise(2, Signature(1, 8))).module()
    for n in (1, 2, 13):
        assert program(noise(n, Signature(1, 8))).shape == (n, len(tiny.CLASSES))
    with pytest.raises((RuntimeError, AssertionError)):
        program(noise(2, Signature(1, 9)))


def test_exporting_leaves_the_workbooks_matrices_usable() -> None:
    """They are cached: one made while a graph is traced would be no data afterwards."""
    cfg = tiny.config(lr_size=9)  # a size that no other test has
    view = make_view(cfg, "student")
    to_program(Deployable(Pixels(), view, flip_average=False), noise(2, Signature(1, 31)))
    found = view(noise(1, Signature(1, 31)))
    assert type(found) is Tensor and 0.01 < found.std() < 1


# -- what it is given -----------------------------------------------------------------------------


def test_defaults_of_the_faces() -> None:
    cfg = tiny.config(dataset="fer2013")
    assert signature(cfg, "student") == (1, 8)
    assert signature(cfg, "teacher") == (1, 48)
    assert signature(tiny.config(dataset="rafdb"), "teacher") == (3, 100)
    assert signature(tiny.config(dataset="expw"), "teacher") == (3, 112)
    assert signature(tiny.config(dataset="expw", face_size=64), "teacher") == (3, 64)
    assert signature(tiny.config(drawn_size=64), "teacher") == (3, 64)
    assert signature(tiny.config(dataset="folder", face_size=70), "teacher") == (3, 70)
    assert signature(tiny.config(dataset="folder"), "teacher", native=(1, 55)) == (1, 55)
    assert signature(cfg, "student", size=48, channels=3) == (3, 48)


def test_a_size_that_is_not_known_or_too_small_is_refused() -> None:
    cfg = tiny.config(dataset="folder")
    assert "--size" in tiny.refusal(signature, cfg, "teacher")
    assert signature(cfg, "student") == (3, 8)
    text = tiny.refusal(signature, cfg, "student", size=7)
    assert text.startswith("--size 7: ") and "8 px" in text


# -- sample ---------------------------------------------------------------------------------------


def test_faces_of_the_data_set_are_taken_as_the_network_wants_them() -> None:
    cfg = tiny.config(kernel="box")
    sample = take(FACES, cfg, Signature(1, 8))
    assert torch.equal(sample.test, degrade.to_low_resolution(TEST, 8, kernel="box"))
    assert sample.labels.tolist() == FACES.labels[FACES.indices("test")].tolist()
    training = degrade.to_low_resolution(FACES.images[FACES.indices("train")], 8, kernel="box")
    taken = {face.numpy().tobytes() for face in sample.calibration}
    assert taken <= {face.numpy().tobytes() for face in training}
    assert len(sample.calibration) == min(CALIBRATION, tiny.SIZES["train"])
    colour = take(FACES, cfg, Signature(3, 8))
    assert torch.equal(colour.test, sample.test.expand(-1, 3, -1, -1))
    assert torch.equal(take(FACES, cfg, Signature(1, 32)).test, TEST)


def test_drawn_faces_stand_in_for_a_missing_data_set(root: Path) -> None:
    run = tiny.run_of(root)
    small = run.cfg.replace(drawn_train=8, drawn_validation=8, drawn_test=8, drawn_size=32)
    run = Run(small, run.stage, run.folder)
    assert find_faces(run, None) is None  # other faces than those that it was made from
    sample = take(None, run.cfg, Signature(1, 8))
    assert sample.labels is None and "drawn" in sample.told
    assert sample.test.shape[1:] == (1, 8, 8) and not torch.equal(sample.test, sample.calibration)
    assert "was made from other data" in tiny.refusal(find_faces, run, "data")


# -- checks ---------------------------------------------------------------------------------------


def test_a_backend_that_differs_is_refused(root: Path) -> None:
    module, _ = deployable(tiny.run_of(root))
    right = by_torch(module)
    faces = noise(64, Signature(1, 8))
    found = greatest_differences(module, {"right": right}, faces)
    assert 0 <= found["right"] <= TOLERANCE

    def wrong_in_large_batches(faces: Tensor) -> np.ndarray:
        return right(faces) + (2 * TOLERANCE if len(faces) > 7 else 0)

    backends = {"right": right, "other": wrong_in_large_batches}
    assert "other differs" in tiny.refusal(greatest_differences, module, backends, faces)
    nothing = {"nan": lambda faces: right(faces) * np.nan}
    assert "nan differs" in tiny.refusal(greatest_differences, module, nothing, faces)


def test_cost_of_eight_bits() -> None:
    full = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    small = np.array([[0.8, 0.2], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    cost = cost_of_eight_bits(full, small, np.array([0, 0, 1, 0]))
    assert cost["agreement"] == 0.75 and cost["greatest_difference"] == pytest.approx(0.2)
    assert (cost["accuracy_float32"], cost["accuracy_int8"]) == (0.75, 0.5)
    assert cost["accuracy_loss"] == 0.25
    assert "accuracy_loss" not in cost_of_eight_bits(full, small, None)


def test_latency_has_a_row_for_each_backend_and_batch() -> None:
    seen = []
    table = latency({"a": lambda faces: seen.append(faces.shape)}, noise(3, Signature(1, 8)))
    assert list(table) == COLUMNS and table["batch"].tolist() == [1, 8, 64]
    assert {shape[0] for shape in seen} == {1, 8, 64}
    assert (table["faces_per_second"] * table["milliseconds"] / 1000).round(6).tolist() == [
        1,
        8,
        64,
    ]
