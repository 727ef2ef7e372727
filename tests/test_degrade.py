"""The degradation against Pillow and torchvision, and the low-resolution export."""

import json

import numpy as np
import pytest
import real_data
import torch
from PIL import Image
from torchvision.transforms.v2.functional import gaussian_blur

from gmelib.config import InputError
from gmelib.data.faceset import make_faces
from gmelib.degrade import (
    export_low_resolution,
    high_resolution_view,
    low_resolution_view,
    normalize,
    resize,
    restore,
    to_low_resolution,
)
from gmelib.filters import KERNELS

PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
SIZES = [(48, 12), (48, 13), (48, 112), (100, 12), (112, 13), (112, 48), (37, 48), (12, 48)]


def natural(count, height, width, seed=0):
    """(count, height, width) uint8: smooth shapes, hard edges to black and white, and noise."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(count, 1, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0].numpy()
    return (128 + 110 * smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)


def by_pillow(images, size, kernel):
    faces = [Image.fromarray(face).resize((size, size), PILLOW[kernel]) for face in images]
    return np.stack([np.asarray(face) for face in faces])


def as_batch(images):
    return torch.from_numpy(np.ascontiguousarray(images))[:, None]


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return request.param


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("source, target", SIZES)
def test_resize_equals_pillow(source, target, kernel, device):
    images = natural(4, source, source)
    ours = resize(as_batch(images).to(device), target, kernel)
    assert ours.dtype == torch.uint8
    assert np.array_equal(ours[:, 0].cpu().numpy(), by_pillow(images, target, kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", [8, 12, 13, 24, 112])
def test_resize_equals_pillow_on_real_faces(target, kernel):
    images = real_data.some_faces()
    ours = resize(as_batch(images), target, kernel)[:, 0].numpy()
    assert np.array_equal(ours, by_pillow(images, target, kernel))


def test_resize_equals_pillow_on_colour_and_oblong_images():
    rgb = natural(3, 60, 90).transpose(1, 2, 0)  # one picture of 60 x 90 px
    image = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
    expected = np.asarray(Image.fromarray(rgb).resize((12, 12), PILLOW["bicubic"]))
    assert np.array_equal(resize(image, 12)[0].permute(1, 2, 0).numpy(), expected)


def test_resize_is_the_same_under_autocast_and_in_every_batch_size():
    images = as_batch(natural(9, 48, 48))
    expected = resize(images, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resize(images, 12), expected)
        assert restore(expected, 48).dtype == torch.float32
        assert torch.equal(restore(expected, 48)[:3], restore(expected[:3], 48))
    assert torch.equal(torch.cat([resize(part, 12) for part in images.split(2)]), expected)


def test_native_size_is_left_alone():
    images = as_batch(natural(2, 48, 48))
    assert torch.equal(resize(images, 48), images)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "lanczos", "box"])
def test_restore_enlarges_as_pillow_does_in_floating_point(kernel):
    low = natural(4, 12, 12)
    expected = [
        np.asarray(Image.fromarray(face.astype(np.float32)).resize((48, 48), PILLOW[kernel]))
        for face in low
    ]
    ours = restore(as_batch(low), 48, kernel=kernel, blur_sigma=0)[:, 0].numpy()
    np.testing.assert_allclose(ours, np.clip(np.stack(expected), 0, 255), atol=1e-3)
    assert ours.min() >= 0 and ours.max() <= 255


@pytest.mark.parametrize("size", [32, 48, 112])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_restore_blurs_as_torchvision_does(size, sigma, device):
    low = as_batch(natural(4, 12, 12)).to(device)
    sharp = restore(low, size, blur_sigma=0)
    expected = gaussian_blur(sharp, [5, 5], [sigma, sigma])
    torch.testing.assert_close(restore(low, size, blur_sigma=sigma), expected, atol=2e-3, rtol=0)


def test_flat_faces_stay_flat_and_mirrored_faces_give_mirrored_results():
    flat = torch.full((1, 1, 48, 48), 77, dtype=torch.uint8)
    restored = restore(to_low_resolution(flat, 12), 48)
    torch.testing.assert_close(restored, torch.full_like(restored, 77.0), atol=1e-3, rtol=0)
    images = as_batch(natural(4, 48, 48))
    mirrored = low_resolution_view(images.flip(-1), 48, 12).flip(-1)
    torch.testing.assert_close(mirrored, low_resolution_view(images, 48, 12), atol=1e-5, rtol=0)


def test_views_are_what_the_networks_expect():
    images = as_batch(natural(4, 100, 100))
    teacher, student = high_resolution_view(images, 48), low_resolution_view(images, 48, 12)
    assert teacher.shape == student.shape == (4, 3, 48, 48)
    grey = resize(images, 48).float()
    torch.testing.assert_close(teacher, ((grey / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1))
    assert teacher.stride(1) == 0  # three channels, one copy
    assert (student[:, 0] == student[:, 1]).all() and (student[:, 0] == student[:, 2]).all()
    assert student.abs().max() <= 1
    assert normalize(images, dtype=torch.bfloat16).dtype == torch.bfloat16
    colour = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(normalize(colour), (colour / 255 - 0.5) / 0.5)


def test_low_resolution_is_made_from_the_native_face_not_from_the_enlarged_one():
    images = as_batch(natural(4, 48, 48))
    expected = normalize(restore(as_batch(by_pillow(images[:, 0].numpy(), 12, "bicubic")), 112))
    torch.testing.assert_close(low_resolution_view(images, 112, 12), expected)


def test_matrices_first_made_in_inference_mode_serve_a_pass_with_gradients():
    low = as_batch(natural(1, 17, 17))
    with torch.inference_mode():
        restore(low, 51, blur_sigma=0.77)
    weight = torch.ones(1, requires_grad=True)
    (restore(low, 51, blur_sigma=0.77) * weight).sum().backward()
    assert weight.grad.item() > 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: resize(x.float(), 12), "uint8"),
        (lambda x: resize(x[0], 12), "N, C, H, W"),
        (lambda x: resize(x, 12, "cubic"), "bicubic.*'cubic'"),
        (lambda x: resize(x, 0), "at least 1 px"),
        (lambda x: to_low_resolution(x, 49), "lr_size = 49.*at most 48"),
        (lambda x: restore(x, 48, blur_sigma=-1), "blur_sigma"),
        (lambda x: restore(x, 48, blur_sigma=float("nan")), "blur_sigma"),
        (lambda x: restore(x, 2), "at least 3 px"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(as_batch(natural(1, 48, 48)))


def face_set(channels=1, seed=0):
    images = natural(8 * channels, 48, 48, seed).reshape(8, channels, 48, 48)
    return make_faces(
        name="toy",
        images=images,
        expressions=np.array(["anger", "happiness"] * 4),
        split=np.array(["train"] * 4 + ["validation"] * 2 + ["test"] * 2),
        ids=np.arange(5, 13),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_export_as_png_can_be_read_back(tmp_path, channels):
    faces = face_set(channels)
    manifest = export_low_resolution(faces, tmp_path / "low", 12, fmt="png")
    content = json.loads(manifest.read_text())
    assert len(content["files"]) == len(faces)
    assert content["counts"]["train"] == {"anger": 2, "happiness": 2}
    assert content["fingerprint"] == faces.fingerprint and content["lr_size"] == 12
    low = to_low_resolution(faces.images, 12)
    face = np.asarray(Image.open(tmp_path / "low" / "validation" / "happiness" / "10.png"))
    assert np.array_equal(face.reshape(12, 12, -1).transpose(2, 0, 1), low[5].numpy())


def test_export_as_npz_can_be_read_back(tmp_path):
    faces = face_set()
    export_low_resolution(faces, tmp_path / "low", 12, kernel="box", fmt="npz")
    content = np.load(tmp_path / "low" / "faces.npz")
    expected = by_pillow(faces.images[:, 0].numpy(), 12, "box")
    assert np.array_equal(content["images"][:, 0], expected)
    assert np.array_equal(content["labels"], faces.labels.numpy())
    assert np.array_equal(content["split"], faces.split)
    assert np.array_equal(content["ids"], faces.ids)


def test_the_same_finished_export_is_kept(tmp_path):
    faces = face_set()
    first = export_low_resolution(faces, tmp_path / "low", 12)
    written = first.stat().st_mtime_ns
    assert export_low_resolution(faces, tmp_path / "low", 12) == first
    assert first.stat().st_mtime_ns == written


def test_export_refuses_a_folder_that_holds_anything_else(tmp_path):
    faces, target = face_set(), tmp_path / "low"
    target.mkdir()
    export_low_resolution(faces, target, 12)  # an empty folder is free
    for change in ({"lr_size": 13}, {"kernel": "box"}, {"fmt": "png"}):
        with pytest.raises(InputError, match="another (lr_size|kernel|format)"):
            export_low_resolution(faces, target, **({"lr_size": 12} | change))
    with pytest.raises(InputError, match="another fingerprint"):
        export_low_resolution(face_set(seed=1), target, 12)
    (target / "faces.npz").write_bytes(b"other")
    with pytest.raises(InputError, match="faces.npz.*changed"):
        export_low_resolution(faces, target, 12)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no finished export"):
        export_low_resolution(faces, foreign, 12)
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_a_broken_export_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(KeyboardInterrupt):
        export_low_resolution(face_set(), tmp_path / "low", 12)
    assert list(tmp_path.iterdir()) == []
