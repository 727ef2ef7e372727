"""Pictures of every kind are found in order and read as what they show."""

import numpy as np
import pytest
import tiny
import torch
from made_network import face, network, write_faces
from PIL import Image

from gmelib.predict import predict_images
from gmelib.predict.pictures import as_picture, count_pictures, find_pictures, given_pictures, read

GREY, COLOUR = face(20, channels=1), face(20)


def written(path, image, **options):
    image.save(path, **options)
    return read(path)[0]


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


def test_usual_modes_are_read_as_they_look(tmp_path):
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    opaque = np.full((20, 20), 255, np.uint8)
    np.testing.assert_array_equal(written(tmp_path / "L.png", grey), GREY)
    np.testing.assert_array_equal(written(tmp_path / "RGB.png", colour), COLOUR)
    np.testing.assert_array_equal(written(tmp_path / "A.png", with_alpha(colour, opaque)), COLOUR)
    np.testing.assert_array_equal(
        written(tmp_path / "LA.png", with_alpha(grey, opaque)), np.repeat(GREY[..., None], 3, 2)
    )
    palette = colour.quantize(64)
    np.testing.assert_array_equal(
        written(tmp_path / "P.png", palette), np.asarray(palette.convert("RGB"))
    )
    bits = Image.fromarray(GREY > 99)
    np.testing.assert_array_equal(written(tmp_path / "1.png", bits), (GREY > 99) * np.uint8(255))
    cmyk = written(tmp_path / "CMYK.tif", colour.convert("CMYK"))
    np.testing.assert_array_equal(cmyk, COLOUR)


def test_transparency_becomes_white(tmp_path):
    half = np.full((20, 20), 255, np.uint8)
    half[:, 10:] = 0
    pixels = written(tmp_path / "half.png", with_alpha(Image.fromarray(COLOUR), half))
    np.testing.assert_array_equal(pixels[:, :10], COLOUR[:, :10])
    assert (pixels[:, 10:] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_becomes_eight(tmp_path, suffix):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(written(tmp_path / f"deep.{suffix}", deep), GREY)


def test_eight_bits_kept_in_thirty_two_are_no_black_picture(tmp_path):
    long = Image.fromarray(GREY.astype(np.int32))
    np.testing.assert_array_equal(written(tmp_path / "long.tif", long), GREY)
    deep = Image.fromarray(GREY.astype(np.int32) * 257)
    np.testing.assert_array_equal(written(tmp_path / "deep.tif", deep), GREY)


def test_values_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(GREY.astype(np.int32) * 100_000).save(tmp_path / "long.tif")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    table = predict_images(network(tmp_path / "run"), tmp_path)
    assert "floating-point" in table["error"][0] and "exceed 16 bit" in table["error"][1]


@pytest.mark.parametrize("orientation, turn", [(3, 2), (6, 3), (8, 1)])
def test_a_photograph_is_turned_upright(tmp_path, orientation, turn):
    wide = Image.fromarray(face(20, width=30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = written(tmp_path / "turned.png", wide, exif=exif)
    np.testing.assert_array_equal(pixels, np.rot90(np.asarray(wide), turn))


# -- finding --------------------------------------------------------------------------------------


def names(places):
    return [picture.name for picture in find_pictures(places)]


def test_folders_are_walked_by_name_and_other_files_passed_over(tmp_path):
    write_faces(tmp_path / "b", [8, 8])
    write_faces(tmp_path / "b" / "001x ü\n", [8], suffix=".JPG")
    for other in ("notes.txt", ".hidden.png", ".cache/x.png"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"")
    (tmp_path / "b" / "back").symlink_to(tmp_path, target_is_directory=True)
    write_faces(tmp_path / "a", [8])
    found = [name.removeprefix(f"{tmp_path}/") for name in names([tmp_path])]
    assert found == ["a/000.png", "b/000.png", "b/001.png", "b/001x ü\n/000.JPG"]
    assert count_pictures([tmp_path, tmp_path / "a"]) == 5


def test_places_without_pictures_are_refused(tmp_path):
    assert f"{tmp_path}/x: no such file" in tiny.refusal(names, [tmp_path / "x"])
    assert "no picture found" in tiny.refusal(count_pictures, [tmp_path])


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_an_archive_gives_what_its_array_holds(tmp_path, layout):
    images = np.stack([face(9, seed) for seed in range(4)])
    images = images[..., 0] if layout == "NHW" else images
    expected = list(images)
    if layout == "NCHW":
        images = images.transpose(0, 3, 1, 2).copy()
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", images=images, labels=np.arange(4))
        found = list(find_pictures([tmp_path / "x.npz"]))
        assert [p.name for p in found] == [f"{tmp_path / 'x.npz'}#{i}" for i in range(4)]
        for picture, pixels in zip(found, expected, strict=True):
            np.testing.assert_array_equal(picture.source, pixels)
    assert count_pictures([tmp_path / "x.npz"]) == 4


@pytest.mark.parametrize(
    "arrays, said",
    [({"faces": GREY}, "no array `images`"), ({"images": GREY}, "shape (20, 20)"),
     ({"images": GREY[None] / 255}, "float64"), ({"images": COLOUR}, "shape (20, 20, 3)"),
     ({"images": np.array([None])}, "object")],
)  # fmt: skip
def test_other_archives_are_refused_before_anything_is_read(tmp_path, arrays, said):
    np.savez(tmp_path / "x.npz", **arrays)
    message = tiny.refusal(count_pictures, [tmp_path / "x.npz"])
    assert str(tmp_path / "x.npz") in message and said in message


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK nothing")
    assert str(path) in tiny.refusal(names, [path])
    np.savez(path, images=np.stack([GREY] * 40))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    table = predict_images(network(tmp_path / "run"), path)
    assert len(table) == 40 and table["path"].tolist() == names([path])
    is_broken = (table["error"] != "").tolist()
    assert is_broken[-1] and is_broken == sorted(is_broken)  # from the damage on
    assert "cannot be read" in table["error"].iloc[-1]


def test_a_broken_image_in_memory_is_a_row(tmp_path):
    (path,) = write_faces(tmp_path, [64], suffix=".jpg")
    path.write_bytes(path.read_bytes()[:-200])
    images = [Image.open(path), Image.fromarray(GREY / np.float32(255)), Image.fromarray(GREY)]
    table = predict_images(network(tmp_path / "run"), images)
    assert (table["error"] != "").tolist() == [True, True, False]


def test_python_gives_paths_arrays_tensors_and_images(tmp_path):
    (path,) = write_faces(tmp_path, [20])
    given = [path, GREY, COLOUR, torch.from_numpy(COLOUR).permute(2, 0, 1), GREY[None],
             Image.fromarray(COLOUR).quantize(8)]  # fmt: skip
    found = list(given_pictures(given))
    assert [p.name for p in found] == [str(path), "1", "2", "3", "4", "5"]
    for picture, expected in zip(found[1:5], (GREY, COLOUR, COLOUR, GREY), strict=True):
        np.testing.assert_array_equal(picture.source, expected)
    assert [p.name for p in given_pictures({"me": GREY})] == ["me"]
    assert len(list(given_pictures(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)))) == 3
    for single in (
        COLOUR,
        np.zeros((20, 20, 4), np.uint8),
        torch.from_numpy(COLOUR).permute(2, 0, 1),
    ):
        assert "put a single picture into a list" in tiny.refusal(list, given_pictures(single))
    (single,) = given_pictures(Image.fromarray(COLOUR))
    np.testing.assert_array_equal(single.source, COLOUR)
    assert "expected uint8" in tiny.refusal(as_picture, COLOUR / 255)
    assert "1 or 3 channels" in tiny.refusal(as_picture, np.zeros((5, 8, 8), np.uint8))
