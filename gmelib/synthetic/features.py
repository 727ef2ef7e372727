"""The features that carry expression: each is drawn from its resting shape plus what the action
units do to it. Descriptions of the units: Ekman, Friesen and Hager, FACS Manual, 2002.
"""

from types import SimpleNamespace

import torch
from torch import Tensor

from gmelib.synthetic.canvas import Canvas, Window, spot


def _toward(x: Tensor, start: float, stop: float) -> Tensor:
    """0 at start, 1 at stop, linear and clamped."""
    return ((x - start) / (stop - start)).clamp(0, 1)


def draw_forehead(canvas: Canvas, au: SimpleNamespace) -> None:
    """Horizontal lines of the raised brow (AU1 the middle, AU2 the sides) and of age."""
    face = canvas.face
    w = canvas.window(0.0, face.eye_height - 0.50, 0.46, 0.17)
    middle = (1 - (w.x / 0.24).square()).clamp_(min=0)
    sides = (w.x.abs() / 0.26).clamp_(max=1) * (1 - (w.x / 0.46).square()).clamp_(min=0)
    depth = 0.62 * au.AU1 * middle + 0.62 * au.AU2 * sides
    depth = depth + 0.16 * face.age * (1 - (w.x / 0.4).square()).clamp_(min=0)
    bow = 0.10 * w.x.square()
    for y in (-0.11, -0.01, 0.09):
        w.crease(w.y - y - bow, 0.018, depth)
    w.close()


def draw_brow(canvas: Canvas, au: SimpleNamespace, side: float) -> None:
    """AU1 raises the inner end, AU2 the outer, AU4 lowers all and draws the inner ends together."""
    face = canvas.face
    w = canvas.window(side * face.eye_gap, face.eye_height - face.brow_height + 0.02, 0.31, 0.23,
                      side=side)  # fmt: skip
    inner, outer = _toward(w.x, 0.14, -0.16), _toward(w.x, -0.08, 0.20)
    raised = 0.095 * au.AU1 * inner + 0.095 * au.AU2 * outer + 0.022 * au.AU5
    lowered = au.AU4 * (0.035 + 0.060 * inner) + 0.03 * au.AU9
    arch = face.brow_arch * (1 - ((w.x - 0.06) / 0.2).square())
    middle = lowered - raised - arch - face.brow_tilt * w.x
    thick = face.brow_thick * (0.45 + 0.55 * _toward(w.x, 0.24, -0.08))
    start = -0.19 - 0.045 * au.AU4
    cover = w.line(w.y - middle, thick) * w.edge(w.x - start) * w.edge(0.24 - w.x)
    # The shadow of the brow ridge deepens as the brow comes down over the eye.
    shadow = spot(w.x + 0.05, w.y - middle - 0.06, 0.2, 0.07)
    w.paint(face.colour["fold"], shadow * (0.20 + 0.15 * au.AU4))
    w.paint(face.colour["hair"] * 0.8, cover * 0.92)
    w.close()


def draw_furrow(canvas: Canvas, au: SimpleNamespace) -> None:
    """The two upright lines between lowered brows (AU4)."""
    face = canvas.face
    w = canvas.window(0.0, face.eye_height - 0.17, 0.12, 0.16)
    depth = 0.8 * au.AU4 + 0.22 * face.age
    reach = (1 - (w.y / 0.14).square()).clamp_(min=0)
    for side in (-1.0, 1.0):
        w.crease(w.x * side - 0.042 - 0.1 * w.y, 0.019, reach * depth)
    w.close()


def _eye_lines(
    w: Window, face: SimpleNamespace, au: SimpleNamespace, x: Tensor, y: Tensor, across: Tensor
) -> None:
    """Below the lower lid (y = 0): the bag of AU7 and the pouch of AU6; beside it crow's feet."""
    reach = across.clamp(min=0)
    w.crease(y - 0.034, 0.018, reach * 0.85 * au.AU7)
    pouch = 0.16 * face.age + 0.65 * au.AU6
    w.crease(y - 0.075 - 0.02 * reach, 0.019, reach * pouch)
    out = x - face.eye_width
    feet = _toward(out, 0.02, 0.05) * _toward(out, 0.145, 0.09) * (0.10 * face.age + 0.8 * au.AU6)
    for slope in (-0.55, 0.0, 0.55):
        w.crease(y - slope * out, 0.017, feet)


def draw_eye(canvas: Canvas, au: SimpleNamespace, side: float) -> None:
    """AU5 lifts the upper lid, AU7 tightens both, AU6 pushes the lower one up from the cheek."""
    face, colour = canvas.face, canvas.face.colour
    w = canvas.window(side * face.eye_gap, face.eye_height, 0.32, 0.19, side=side)
    x, y = w.x, w.y + face.eye_tilt * w.x
    across = 1 - (x / face.eye_width).square()
    droop = 0.03 * au.AU4 * _toward(x, 0.1, -0.12)
    upper = face.eye_open * (1 + 0.60 * au.AU5 - 0.30 * au.AU7 - 0.22 * au.AU6 - 0.30 * au.AU9)
    lower = face.eye_open * (0.62 - 0.42 * au.AU7 - 0.36 * au.AU6 - 0.25 * au.AU9)
    top = droop - upper * across * (1.1 - 0.1 * across)
    bottom = lower * across
    inside = w.edge(y - top) * w.edge(bottom - y)

    w.paint(colour["fold"], spot(x, y + 0.02, 0.27, 0.17) * 0.30)
    w.paint(colour["white"] * (0.72 + 0.28 * ((y - top) / 0.05).clamp(0, 1))[:, None], inside)
    radius = ((x - side * face.gaze_x).square() + (y - face.gaze_y + 0.008).square()).sqrt()
    w.paint(colour["iris"] * 0.45, w.edge(face.iris_size - radius) * inside)
    w.paint(colour["iris"] * 1.15, w.edge(face.iris_size * 0.80 - radius) * inside)
    w.paint(colour["dark"], w.edge(face.iris_size * 0.45 - radius) * inside)
    shine = ((x - side * (face.gaze_x - 0.026)).square() + (y + 0.032).square()).sqrt()
    w.paint(colour["white"], w.edge(0.020 - shine) * inside * 0.9)

    lid = w.edge(across * 0.1 + 0.004)
    w.paint(colour["dark"], w.line(y - top, 0.012 + 0.010 * face.lash) * lid * 0.9)
    crease = top - 0.050 + 0.018 * au.AU5 + 0.015 * au.AU7
    w.paint(colour["fold"], w.line(y - crease, 0.010) * lid * 0.55)
    w.paint(colour["fold"], w.line(y - bottom, 0.009) * lid * 0.6)
    _eye_lines(w, face, au, x, y - bottom, across)
    w.close()


def draw_nose(canvas: Canvas, au: SimpleNamespace) -> None:
    """AU9 wrinkles the root and sides and lifts the wings; AU10 lifts them a little."""
    face, colour = canvas.face, canvas.face.colour
    tip = face.nose_length - 0.02 * au.AU9
    w = canvas.window(0.0, 0.12, 0.24, 0.34, raised=0.10)
    x, y = w.x, w.y + 0.12 - tip
    shade = torch.where(face.light_x > 0, -1.0, 1.0)
    ridge = (w.edge(0.30 + y) * w.edge(-0.02 - y)).mul_(0.5)
    w.paint(colour["fold"], spot(x * shade - 0.075, y + 0.12, 0.055, 0.30) * 0.55)
    w.paint(colour["bright"], spot(x * shade + 0.005, y + 0.12, 0.04, 0.24) * ridge)
    w.paint(colour["bright"], spot(x * shade + 0.01, y + 0.02, 0.06, 0.05) * 0.6)
    wing = face.nose_width * (1 + 0.12 * au.AU9) + 0.012
    lift = 0.030 * au.AU9 + 0.012 * au.AU10
    beside = x.abs()
    w.paint(colour["fold"], spot(beside - 0.052, y - 0.052 + lift * 0.5, 0.038, 0.022))
    around = ((beside - wing + 0.045).square() + (y - 0.025 + lift).square()).sqrt()
    arc = w.line(around - 0.055, 0.011) * w.edge(beside - wing + 0.035)
    w.paint(colour["fold"], arc * (0.55 + 0.3 * au.AU9))
    base = w.line(y - 0.075 + 0.3 * x.square(), 0.010) * w.edge(0.06 - beside)
    w.paint(colour["fold"], base * 0.5)
    for k in range(3):
        reach = w.edge(beside - 0.018) * w.edge(0.10 - beside)
        w.crease(y + 0.19 + 0.075 * k - 0.9 * (beside - 0.05), 0.017, reach * au.AU9)
    w.close()


def draw_cheek(canvas: Canvas, au: SimpleNamespace, side: float) -> None:
    """The apple that AU6 and AU12 raise, and the fold from the nose to the mouth's corner."""
    face, colour = canvas.face, canvas.face.colour
    w = canvas.window(side * 0.36, 0.34, 0.28, 0.36, side=side)
    x, y = w.x, w.y
    apple = 0.55 * au.AU6 + 0.40 * au.AU12
    w.paint(colour["blush"], spot(x - 0.02, y + 0.10, 0.22, 0.19) * (0.35 + 0.5 * apple))
    w.paint(colour["bright"], spot(x - 0.0, y + 0.15, 0.13, 0.09) * 0.6 * apple)
    w.paint(colour["fold"], spot(x - 0.02, y - 0.06, 0.17, 0.09) * 0.40 * apple)
    one = au.AU14 * (side * face.smirk > 0)
    pull = 0.06 * au.AU12 + 0.03 * au.AU20
    reach = (y + 0.11).clamp_(min=0)
    path = -0.185 + (0.62 + 0.3 * au.AU12) * reach - 0.55 * reach.square() + pull
    ends = _toward(y, -0.13, -0.07) * _toward(y, 0.25, 0.14)
    depth = (
        0.10 + 0.30 * face.age + 0.55 * au.AU12 + 0.30 * au.AU9 + 0.55 * au.AU10
        + 0.18 * au.AU6 + 0.12 * au.AU20 + 0.2 * one
    ).clamp(max=0.9)  # fmt: skip
    w.crease(x - path, 0.021, ends * depth)
    # AU9 bunches the skin beside the nose.
    for k in range(2):
        reach = _toward(x, -0.24, -0.20) * _toward(x, -0.08, -0.14)
        w.crease(y + 0.14 + 0.07 * k - 0.7 * (x + 0.20), 0.017, reach * 0.7 * au.AU9)
    w.close()


def _lip_curves(face: SimpleNamespace, au: SimpleNamespace, x: Tensor) -> SimpleNamespace:
    """Heights of the lips' four edges and of the seam over x (down is positive), and their width.

    t is 1 in the middle of the mouth and 0 from its corners on; gap is how far the lips part.
    """
    one = au.AU14 * (x * face.smirk > 0)
    press = (au.AU23 * 0.6 + au.AU24).clamp(max=1)
    wide = face.mouth_width + 0.075 * au.AU12 + 0.070 * au.AU20 - 0.035 * au.AU23
    wide = wide - 0.030 * au.AU24 - 0.045 * au.AU26 - 0.020 * au.AU17 + 0.030 * one
    s2 = (x / wide).square()
    t = (1 - s2).clamp_(min=0)
    square = s2.clamp(max=1.3)
    rise = face.mouth_curve + 0.105 * au.AU12 - 0.015 * au.AU20 + 0.045 * one
    seam = 0.035 * au.AU12 - rise * square + 0.085 * au.AU15 * square * square
    seam = seam - 0.035 * au.AU17 * t
    parted = (1 - 0.85 * au.AU24) * (1 - 0.3 * au.AU17)
    up = (0.018 * au.AU25 + 0.045 * au.AU10 + 0.020 * au.AU9 + 0.020 * au.AU26) * parted
    down = (0.050 * au.AU25 + 0.190 * au.AU26 + 0.055 * au.AU16) * parted
    top = seam - up * t
    bottom = seam + down * t * (1.3 - 0.3 * t)
    thin = 1 - 0.62 * press - 0.22 * au.AU12 - 0.22 * au.AU20
    bow = 1 - 0.30 * (1 - (x / 0.09).square()).clamp_(min=0).square_()
    full = t * (1.6 - 0.6 * t) * thin
    return SimpleNamespace(
        wide=wide, seam=seam, top=top, bottom=bottom, outer_top=top - face.lip_upper * full * bow,
        outer_bottom=bottom + face.lip_lower * full, gap=up + down, one=one, press=press, t=t,
    )  # fmt: skip


def _open_mouth(
    w: Window, au: SimpleNamespace, x: Tensor, y: Tensor, lip: SimpleNamespace, inside: Tensor
) -> None:
    """What shows between the lips: tongue, upper and lower teeth."""
    colour = w.canvas.face.colour
    w.paint(colour["mouth"], inside)
    w.paint(colour["tongue"] * 0.75, spot(x, y - lip.bottom, 0.17, 0.11) * inside * au.AU26)
    show = (0.25 + au.AU12 + au.AU10 + 0.6 * au.AU20 + 0.4 * au.AU25).clamp(max=1)
    w.paint(colour["white"], inside * w.edge(lip.top + 0.055 - y) * show)
    low = (au.AU16 + 0.5 * au.AU20).clamp(max=1)
    w.paint(colour["white"] * 0.9, inside * w.edge(y - lip.bottom + 0.035) * low)


def _lip_lines(w: Window, au: SimpleNamespace, x: Tensor, y: Tensor, lip: SimpleNamespace) -> None:
    """Corner marks and the skin around the lips."""
    face = w.canvas.face
    beyond = x.abs() - lip.wide
    at_corner = y - lip.seam
    # AU12 and, on one side, AU14 press a short upright dent into the corner.
    dent = (0.65 * au.AU12 + 0.15 * face.age + lip.one).clamp(max=1)
    reach = w.edge(0.055 - at_corner.abs())
    w.crease(beyond - 0.022 + 1.2 * at_corner.square(), 0.019, reach * dent)
    # AU15 drags a fold down and out from the corner.
    reach = w.edge(at_corner - 0.005) * _toward(at_corner, 0.13, 0.05)
    w.crease(beyond - 0.012 - 0.25 * at_corner, 0.019, reach * 0.9 * au.AU15)
    # AU20: upright folds beside the stretched mouth.
    reach = w.edge(0.07 - at_corner.abs())
    for away in (0.035, 0.11):
        w.crease(beyond - away - 0.8 * at_corner.square(), 0.017, reach * 0.75 * au.AU20)
    # AU23 and AU24: the skin bulges above and below the pressed lips.
    for away in (lip.outer_top - 0.028 - y, y - lip.outer_bottom - 0.028):
        w.crease(away, 0.018, lip.t * 0.75 * lip.press)


def draw_mouth(canvas: Canvas, au: SimpleNamespace) -> None:
    """Lips, teeth and tongue; nearly every lower-face unit bends, parts or thins them."""
    face, colour = canvas.face, canvas.face.colour
    w = canvas.window(0.0, face.mouth_height + 0.06, 0.46, 0.34)
    x, y = w.x, w.y + 0.06
    lip = _lip_curves(face, au, x)
    within = w.edge(lip.wide - x.abs())
    lips = w.edge(y - lip.outer_top) * w.edge(lip.outer_bottom - y) * within
    shine = spot(x, y - lip.bottom - 0.45 * face.lip_lower, 0.12, 0.03)
    w.paint(colour["fold"], spot(x, y - lip.outer_bottom - 0.045, 0.17, 0.05) * 0.45)
    w.paint(colour["lips"], lips)
    w.paint(colour["lips"] * 0.82, lips * w.edge(lip.seam - y) * 0.8)
    w.paint(colour["bright"], shine * lips * 0.5)
    _open_mouth(w, au, x, y, lip, w.edge(y - lip.top) * w.edge(lip.bottom - y) * within)
    seam = w.line(y - lip.seam, 0.012 + 0.007 * lip.press) * w.edge(lip.wide + 0.01 - x.abs())
    w.paint(colour["fold"] * 0.6, seam * (1 - lip.gap * 25).clamp(min=0) * 0.85)
    _lip_lines(w, au, x, y, lip)
    w.close()


def draw_chin(canvas: Canvas, au: SimpleNamespace) -> None:
    """AU17 bunches the chin: an arch below the lip and dimples on the boss."""
    face, fold = canvas.face, canvas.face.colour["fold"]
    drop = 0.13 * au.AU26 + 0.02 * au.AU25 + 0.04 * au.AU16
    w = canvas.window(0.0, face.chin - 0.17 + drop, 0.24, 0.14)
    reach = (1 - (w.x / 0.2).square()).clamp_(min=0)
    w.crease(w.y + 0.085 - 1.6 * w.x.square(), 0.018, reach * 0.8 * au.AU17)
    for x, y in ((-0.06, 0.0), (0.05, -0.015), (0.0, 0.035), (-0.02, -0.03), (0.085, 0.03)):
        w.paint(fold, spot(w.x - x, w.y - y, 0.026, 0.024) * 0.75 * au.AU17)
    w.close()


def draw_features(canvas: Canvas, au: SimpleNamespace) -> None:
    """All features, in the order in which they cover one another."""
    draw_forehead(canvas, au)
    draw_furrow(canvas, au)
    for side in (-1.0, 1.0):
        draw_cheek(canvas, au, side)
    draw_nose(canvas, au)
    for side in (-1.0, 1.0):
        draw_eye(canvas, au, side)
        draw_brow(canvas, au, side)
    draw_chin(canvas, au)
    draw_mouth(canvas, au)
