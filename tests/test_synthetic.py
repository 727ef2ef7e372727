"""Drawn faces: the same seed gives the same bytes, and each action unit shows where it should."""

import pytest
import torch

from gmelib.config import EXPRESSIONS, InputError
from gmelib.synthetic import (
    ACTION_UNITS,
    AU_NAMES,
    AU_REGION,
    PROTOTYPES,
    REGIONS,
    draw_faces,
    drawn_landmarks,
)

# No glasses, beard, occlusion or noise, and a high hairline: nothing hides a feature.
BARE = {"glasses": 1, "beard": 1, "moustache": 1, "occlusion": 1, "noise": 0, "hair_line": 0.84}


def one_unit(unit: str, level: float, count: int) -> torch.Tensor:
    units = torch.zeros(count, len(ACTION_UNITS))
    units[:, ACTION_UNITS.index(unit)] = level
    return units


def grown(masks: torch.Tensor, pixels: int) -> torch.Tensor:
    side = 2 * pixels + 1
    pooled = torch.nn.functional.max_pool2d(masks[:, None].float(), side, stride=1, padding=pixels)
    return pooled[:, 0] > 0


def centre(masks: torch.Tensor) -> torch.Tensor:
    """Mean (x, y) of masks (N, S, S), in pixels: (N, 2)."""
    steps = torch.arange(masks.shape[-1]).float()
    weight = masks.float() / masks.sum((1, 2))[:, None, None]
    return torch.stack([(weight.sum(1) * steps).sum(1), (weight.sum(2) * steps).sum(1)], 1)


@pytest.fixture(scope="module")
def faces():
    return draw_faces(150, seed=3, masks=True)


def test_shapes_and_ranges(faces):
    assert faces.images.shape == (150, 3, 112, 112) and faces.images.dtype == torch.uint8
    assert faces.labels.shape == (150,) and faces.labels.dtype == torch.int64
    assert faces.action_units.shape == (150, len(ACTION_UNITS))
    assert faces.action_units.dtype == torch.float32
    assert 0 <= faces.action_units.min() and faces.action_units.max() <= 1
    assert faces.masks.shape == (150, len(REGIONS), 112, 112) and faces.masks.dtype == torch.bool
    assert faces.classes == EXPRESSIONS[:7] and len(faces) == 150
    assert draw_faces(2, size=32).masks is None


def test_a_smaller_count_is_a_prefix(faces):
    few = draw_faces(70, seed=3)
    assert torch.equal(few.images, faces.images[:70])
    assert torch.equal(few.labels, faces.labels[:70])
    assert torch.equal(few.action_units, faces.action_units[:70])


def test_bytes_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        drawn = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            drawn.append(draw_faces(64, size=48, seed=3).images)
        assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    finally:
        torch.set_num_threads(threads)


def test_no_two_faces_are_alike(faces):
    other = draw_faces(64, seed=4).images
    everyone = torch.cat([faces.images, other]).flatten(1)
    assert len(torch.unique(everyone, dim=0)) == len(everyone)
    assert not torch.equal(draw_faces(64, seed=4).labels, faces.labels[:64])


@pytest.mark.parametrize("contempt", [False, True])
def test_classes_are_balanced_to_within_one_face(contempt):
    faces = draw_faces(60, size=32, contempt=contempt)
    counts = torch.bincount(faces.labels, minlength=7 + contempt)
    assert len(counts) == len(faces.classes) == 7 + contempt
    assert counts.max() - counts.min() <= 1


def test_action_units_follow_the_prototypes():
    faces = draw_faces(640, size=32, contempt=True, seed=1)
    for label, name in enumerate(EXPRESSIONS):
        units = faces.action_units[faces.labels == label]
        strong = (units > 0.36).float().mean(0)  # stray units stay at or below 0.35
        for column, unit in enumerate(ACTION_UNITS):
            chance = PROTOTYPES[name].get(unit, 0.0)
            if chance == 0:
                assert strong[column] == 0, (name, unit)
            elif chance == 1:
                assert (units[:, column] > 0.15).all(), (name, unit)
            elif chance >= 0.4:
                assert strong[column] > 0.1, (name, unit)


def test_given_action_units_change_nothing_else():
    drawn = draw_faces(20, seed=5)
    again = draw_faces(20, seed=5, action_units=drawn.action_units)
    assert torch.equal(again.images, drawn.images)
    assert torch.equal(again.labels, torch.full((20,), -1))


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_a_unit_changes_its_own_regions_and_hardly_any_other_pixel(unit):
    rest, shown = (
        draw_faces(64, size=84, seed=7, identity=BARE, masks=True,
                   action_units=one_unit(unit, level, 64))  # fmt: skip
        for level in (0.0, 1.0)
    )
    change = (rest.images.float() - shown.images.float()).abs().mean(1)
    own = torch.zeros(64, 84, 84, dtype=torch.bool)
    for region in AU_REGION[unit]:
        mask = shown.masks[:, REGIONS.index(region)]
        assert (change * mask).flatten(1).sum(1).gt(0).float().mean() > 0.9, region
        own |= mask
    own = grown(own, 2)
    inside = (change * own).flatten(1).sum(1) / change.flatten(1).sum(1)
    assert inside.min() > 0.93, inside
    assert inside.mean() > 0.98
    assert (change > 8).flatten(1).sum(1).float().median() > 12  # seen, yet local
    assert (change > 8).flatten(1).float().mean() < 0.15


def test_the_dimple_is_on_one_side():
    fixed = BARE | {"yaw": 0, "angle": 0, "pitch": 0, "shift_x": 0, "light_x": 0}
    sides = []
    for smirk in (-1, 1):
        rest, shown = (
            draw_faces(8, action_units=one_unit("AU14", x, 8), identity=fixed | {"smirk": smirk})
            for x in (0.0, 1.0)
        )
        change = (rest.images.float() - shown.images.float()).abs().mean((0, 1))
        sides.append(change[:, 60:].sum() / (change[:, :52].sum() + 1e-6))
    assert sides[0] < 0.02 and sides[1] > 50


def test_masks_are_disjoint_and_fill_much_of_the_picture(faces):
    assert faces.masks.sum(1).max() == 1
    assert faces.masks.flatten(2).any(2).all()
    covered = faces.masks.any(1).float().mean((1, 2))
    assert 0.25 < covered.min() and covered.max() < 0.8


def test_masks_follow_the_pose():
    nose, eyes, mouth = (REGIONS.index(name) for name in ("nose", "eyes", "mouth"))
    level = BARE | {"yaw": 0, "angle": 0, "pitch": 0, "shift_x": 0, "shift_y": 0, "scale": 0.44}

    def masks(**pose):
        return draw_faces(16, identity=level | pose, masks=True).masks

    straight = masks()
    yawed = centre(masks(yaw=0.18)[:, nose]) - centre(straight[:, nose])
    assert (yawed[:, 0] > 3).all() and (yawed[:, 1].abs() < 1).all()
    moved = centre(masks(shift_x=0.018)[:, mouth]) - centre(straight[:, mouth])
    torch.testing.assert_close(moved[:, 0], torch.full((16,), 0.018 * 112), atol=0.6, rtol=0)
    turned = masks(angle=0.07)
    axis = centre(turned[:, mouth]) - centre(turned[:, eyes])
    angle = torch.atan2(-axis[:, 0], axis[:, 1])
    torch.testing.assert_close(angle, torch.full((16,), 0.07), atol=0.02, rtol=0)


def test_the_eyes_lie_in_the_mask_of_the_eyes():
    """Found without the drawing's own geometry: the iris is what a change of gaze moves."""
    left, right = (
        draw_faces(64, seed=2, identity=BARE | {"gaze_x": x}, masks=True) for x in (-0.04, 0.04)
    )
    change = (left.images.float() - right.images.float()).abs().sum(1)
    inside = (change * left.masks[:, REGIONS.index("eyes")]).sum((1, 2)) / change.sum((1, 2))
    assert inside.min() > 0.97


def test_a_picture_of_another_size_is_the_same_picture():
    small, large = (draw_faces(32, size=size, identity=BARE).images.float() for size in (56, 112))
    difference = (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean((1, 2, 3))
    assert difference.max() < 4  # grey levels of 255


def test_every_unit_has_a_name_and_regions():
    assert set(AU_NAMES) == set(AU_REGION) == set(ACTION_UNITS)
    assert set().union(*AU_REGION.values()) == set(REGIONS)
    assert set(PROTOTYPES) == set(EXPRESSIONS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"count": 0}, "count=0"),
        ({"count": 4, "size": 16}, "size=16"),
        ({"count": 4, "seed": -1}, "seed=-1"),
        ({"count": 4, "action_units": torch.zeros(3, len(ACTION_UNITS))}, "shape (3, 18)"),
        ({"count": 4, "action_units": torch.full((4, len(ACTION_UNITS)), 1.5)}, "[0, 1]"),
        ({"count": 4, "action_units": torch.full((4, len(ACTION_UNITS)), torch.nan)}, "[0, 1]"),
        ({"count": 4, "identity": {"glases": 1}}, "'glases'"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments, named):
    with pytest.raises(InputError) as error:
        draw_faces(**arguments)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_landmarks_lie_in_their_regions():
    masks = draw_faces(80, size=96, seed=4, masks=True).masks
    landmarks = drawn_landmarks(80, size=96, seed=4)
    assert landmarks.shape == (80, 5, 2)
    assert torch.equal(drawn_landmarks(3, size=96, seed=4), landmarks[:3])
    x, y = landmarks.long().unbind(-1)
    for point, region in enumerate(("eyes", "eyes", "nose", "mouth", "mouth")):
        inside = masks[torch.arange(80), REGIONS.index(region), y[:, point], x[:, point]]
        assert inside.all(), region
    assert (x[:, 0] + 5 < x[:, 2]).all() and (x[:, 2] + 5 < x[:, 1]).all()
