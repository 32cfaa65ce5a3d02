"""The head: skull with its features, ears, hair, and a hat over it.

A grid around the head runs over an angle about its upright axis (turns, 0 in front, positive
towards the right of the image) and over height.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from facewright.datasets.sample.exact import (
    F32,
    bump,
    ramp,
    sine_cosine,
    spline,
    square,
    value_noise,
)
from facewright.datasets.sample.people import Person
from facewright.datasets.sample.surface import Material, Surface, around, grid_surface
from facewright.datasets.sample.takes import Take

# Heights of the head's profile from the inside of the neck up to the crown, and the rows spent
# between one and the next: most of them where the features are.
_ROWS = (2, 3, 5, 7, 9, 11, 11, 11, 10, 6, 4, 3, 2)


@cache
def _row_marks() -> F32:
    marks = [k + i / n for k, n in enumerate(_ROWS) for i in range(n)] + [float(len(_ROWS))]
    return np.array(marks, np.float32)


@dataclass(frozen=True)
class Profile:
    """Height, half breadth, depth in front and depth behind at each knot of the head."""

    y: list[float]
    breadth: list[float]
    front: list[float]
    back: list[float]


def head_profile(p: Person) -> Profile:
    chin, top = p.chin_length, p.forehead
    f = 0.5 * (p.chin_forward + abs(p.chin_forward)) + p.chin_forward
    knots = (
        # height, half breadth, depth in front, depth behind
        (-0.93, 0.28, 0.10, 0.45),
        (-1.06 - chin, 0.31, 0.45, 0.45),
        (-1.12 - chin, 0.30 * p.chin_width, 0.70 + f, 0.45),
        (-1.02 - chin, 0.39 * p.chin_width, 0.80 + f, 0.48),
        (-0.86 - 0.5 * chin, 0.545 * p.jaw, 0.81 + 0.5 * f, 0.55),
        (-0.62, 0.645 * p.jaw, 0.855, 0.68),
        (-0.38, 0.705 * (0.5 * p.jaw + 0.5 * p.cheek), 0.875, 0.82),
        (-0.12, 0.745 * p.cheek, 0.88, 0.92),
        (0.12, 0.755, 0.87, 0.97),
        (0.40 * top, 0.765, 0.885, 0.97),
        (0.68 * top, 0.72, 0.825, 0.90),
        (0.92 * top, 0.575, 0.63, 0.70),
        (1.08 * top, 0.33, 0.34, 0.40),
        (1.13 * top, 0.0, 0.0, 0.0),
    )
    y, breadth, front, back = ([knot[k] for knot in knots] for k in range(4))
    return Profile(y, [b * p.width for b in breadth], front, back)


def head(p: Person, take: Take) -> Surface:
    """The head without ears; u, v are its frontal coordinates at rest, where features are drawn."""
    profile = head_profile(p)
    marks = _row_marks()[:, None]
    y0, w = spline(profile.y, marks), spline(profile.breadth, marks)
    f, b = spline(profile.front, marks), spline(profile.back, marks)
    _, s, c = around(113, 0.62)
    s, c = s[None, :], c[None, :]
    front = ramp(c, -0.1, 0.35)
    box = 1 + np.float32(4 * p.boxy) * (s * s * c * c) * ramp(y0, 1.1, 0.5)
    x = w * s * box
    z = np.where(c > 0, f, b) * c * box
    # The edge of the jaw climbs towards the ear.
    y = y0 + ramp(y0, -0.55, -1.05) * (1 - c) * np.float32(0.26)
    fx, fy = x, y
    ax = np.abs(fx)
    z = z + front * _relief(p, take, fx, fy, ax)

    socket = bump(square((ax - p.eye_apart) / 0.24) + square((fy - p.eye_y - 0.03) / 0.17))
    beside = bump(square((ax - 0.16) / 0.11) + square((fy - p.nose_y - 0.04) / 0.22))
    under_lip = bump(square(fx / 0.25) + square((fy - p.mouth_y + 0.155) / 0.07))
    under_nose = bump(square(fx / 0.2) + square((fy - p.nose_y + 0.13) / 0.07))
    shade = 1 - 0.30 * socket - 0.22 * beside - 0.18 * under_lip - 0.25 * under_nose
    shade = shade * (1 - 0.75 * ramp(marks, 2.7, 1.4))

    y = y - np.float32(0.13 * take.jaw) * front * ramp(fy, p.mouth_y + 0.03, p.mouth_y - 0.12)
    return grid_surface(Material.FACE, x, y, z, fx, fy, shade)


def _relief(p: Person, take: Take, fx: F32, fy: F32, ax: F32) -> F32:
    """How far the features stand out of the plain head, towards the camera."""
    ex, ey, my, ny = p.eye_apart, p.eye_y, p.mouth_y, p.nose_y
    z = p.brow_ridge * bump(square((ax - 0.24) / 0.36) + square((fy - ey - p.brow_y + 0.02) / 0.16))
    z = z - p.eye_deep * bump(square((ax - ex) / 0.26) + square((fy - ey) / 0.20))
    z = z + 0.050 * bump(square((ax - ex) / 0.19) + square((fy - ey) / 0.13))
    cheek = bump(square((ax - 0.43) / 0.32) + square((fy + 0.25) / 0.30))
    z = z + (0.04 + p.cheek_fat) * cheek
    lift = max(take.smile, 0.0)
    z = z + 0.05 * lift * bump(square((ax - 0.38) / 0.22) + square((fy + 0.36) / 0.2))
    z = z - 0.03 * bump(square((ax - 0.70) / 0.2) + square((fy - 0.25) / 0.3))
    # The nose: a ridge that grows from the root to the tip, a ball at the tip, two wings.
    root = ey + 0.06
    along = (root - fy) / (root - ny)
    grow = np.minimum(np.maximum(along, 0), 1)
    height = 0.03 + (p.nose_out - 0.05) * grow * (0.55 + 0.45 * grow)
    height = height + p.nose_hump * bump(square((along - 0.45) / 0.45))
    height = height * ramp(along, -0.35, 0.1) * ramp(fy, ny - 0.15, ny - 0.03)
    breadth = p.nose_bridge + (0.85 * p.nose_width - p.nose_bridge + 0.04) * grow * grow
    ridge = np.maximum(1 - square(fx / breadth), 0)
    z = z + height * ridge * ridge
    z = z + 0.055 * bump(square(fx / 0.13) + square((fy - ny) / 0.12))
    wing = square((ax - 0.66 * p.nose_width) / 0.085) + square((fy - ny + 0.035) / 0.10)
    z = z + 0.095 * bump(wing)
    # The mouth stands on a gentle swelling; lips, the furrow below and the chin.
    m = p.mouth_width * (1 + 0.15 * take.smile)
    z = z + 0.055 * bump(square(fx / 0.46) + square((fy - my) / 0.30))
    across = np.maximum(1 - square(fx / m), 0)
    z = z + 0.036 * across * bump(square((fy - my - 0.45 * p.lip_upper) / 0.065))
    z = z + 0.042 * across * bump(square((fy - my + 0.55 * p.lip_lower) / 0.075))
    z = z - 0.030 * bump(square(fx / (1.3 * m)) + square((fy - my) / 0.030))
    z = z - 0.015 * bump(square(fx / 0.05) + square((fy - 0.5 * (my + ny) + 0.03) / 0.09))
    z = z - 0.035 * bump(square(fx / 0.30) + square((fy - my + 0.17) / 0.09))
    chin_y = -1.0 - p.chin_length
    z = z + 0.045 * bump(square(fx / 0.26) + square((fy - chin_y) / 0.16))
    # The fold from nose to mouth deepens with age and with a smile.
    fold_x = 0.17 + (ny - fy) * 0.50
    fold = bump(square((ax - fold_x) / 0.05)) * ramp(fy, my - 0.06, my + 0.05)
    fold = fold * ramp(fy, ny + 0.04, ny - 0.06)
    z = z - (0.010 + 0.014 * p.age + 0.025 * lift) * fold
    return np.asarray(z)


def ears(p: Person) -> list[Surface]:
    """Two shells that stand off the sides of the head."""
    _, sine, cosine = around(19, 1.0)
    radius = np.array([1.0, 0.98, 0.80, 0.55, 0.30, 0.02], np.float32)[:, None]
    lift = np.array([-0.10, 0.0, 0.035, -0.01, -0.03, -0.03], np.float32)[:, None]
    tall, deep = 0.30 * p.ear_size, 0.17 * p.ear_size
    up = radius * cosine[None, :] * tall
    back = radius * sine[None, :] * deep * (1 + 0.25 * cosine[None, :])
    edge = spline(head_profile(p).breadth, np.array([7.2], np.float32))[0]
    out = []
    for side in (1, -1):
        stand = 0.045 + lift + (back + deep) * np.float32(0.35 * p.ear_out)
        x = side * (edge + stand)
        z = -0.04 - back
        y = np.float32(p.eye_y - 0.12) + up + 0 * back
        shade = 0.55 + 0.45 * np.minimum(radius * 1.3, 1) + 0 * up
        if side > 0:
            x, y, z, shade = x[:, ::-1], y[:, ::-1], z[:, ::-1], shade[:, ::-1]
        out.append(grid_surface(Material.SKIN, x, y, z, x, y, shade))
    return out


def _shell(
    p: Person,
    *,
    thick: float,
    down: float,
    edge: F32,
    turns: F32,
    rows: F32,
    noise: F32,
    thin: float,
    taper: float,
) -> tuple[F32, F32, F32, F32]:
    """A layer around the head that ducks below the skin wherever it lies under `edge`."""
    profile = head_profile(p)
    head_knots = 8  # from the crown down to the height of the nose
    grow = [0.55, 0.8, 1.0, 1.0, 1.0, 0.9, 0.75, 0.65]
    y = [a + (thick if k < 2 else thick * 0.5 if k == 2 else 0.0) for k, a in
         enumerate(profile.y[:-head_knots - 1:-1])]  # fmt: skip
    w = [a + thick * g for a, g in zip(profile.breadth[: -head_knots - 1 : -1], grow, strict=True)]
    f = [a + thick * g for a, g in zip(profile.front[: -head_knots - 1 : -1], grow, strict=True)]
    b = [a + thick for a in profile.back[: -head_knots - 1 : -1]]
    w[0] = f[0] = b[0] = 0.0
    inner = [1.0] * head_knots
    side = w[-1]
    for step, (wide, fore, aft, keep) in enumerate(
        ((0.97, 0.60, 0.80, 0.36), (0.96, 0.34, 0.66, 0.16), (0.97, 0.24, 0.60, 0.10)), start=1
    ):
        y.append(-0.38 + (down + 0.38) * step / 3)
        w.append(side * wide)
        f.append(fore)
        b.append(aft)
        inner.append(keep)
    y0, keep_rows = spline(y, rows)[:, None], spline(inner, rows)[:, None]
    w0, f0, b0 = (spline(a, rows)[:, None] for a in (w, f, b))
    sine, cosine = sine_cosine(turns)
    s, c = sine[None, :], cosine[None, :]
    shown = ramp(y0 - edge, -0.045, 0.035)
    # Thin at its edge, so that hair grows out of the skin instead of lying on it like a cap.
    full = 1 - thin * ramp(y0 - edge, taper, 0.0)
    scale = (full + noise) * shown
    box = 1 + np.float32(4 * p.boxy) * (s * s * c * c) * ramp(y0, 1.1, 0.5)
    hide = keep_rows * np.float32(0.80 / (1 + thick * 1.6)) * (1 - shown)
    x = w0 * s * (scale + hide) * box
    z = np.where(c > 0, f0, b0) * c * (scale + hide) * box
    return x, y0 + 0 * x, z, shown


def hair(p: Person, take: Take) -> Surface:
    turns, _, _ = around(89, 0.85)
    rows = np.arange(61, dtype=np.float32) * np.float32(10 / 60)
    rows = rows[::-1]
    at = np.abs(turns)[None, :]
    part = turns[None, :] * 6
    line = p.hairline + p.hair_part * np.minimum(np.maximum(part, -1), 1)
    line = line + p.hair_recede * bump(square((at - 0.11) / 0.09))
    side = 0.02 + 0.5 * max(p.hair_length + 0.5, -0.1)
    opening = p.hair_open
    if p.hair_length < -0.76:
        edge = line + (p.hair_length - line) * ramp(at, opening - 0.035, opening + 0.045)
    else:
        edge = line + (side - line) * ramp(at, opening - 0.06, opening + 0.03)
        edge = edge + (p.hair_length - side) * ramp(at, 0.27, 0.33)
    fray = value_noise(turns[None, :] * 60 + 31, rows[:, None] * 2, p.mark)
    edge = edge + (fray - 0.5) * (0.05 + 0.06 * p.hair_curl)
    thick = p.hair_thick * take.hair_volume
    if take.hat:
        thick = min(thick, 0.06)
    curls = value_noise(turns[None, :] * 34 + 9, rows[:, None] * 2.2, p.mark + 1) - 0.5
    waves = value_noise(turns[None, :] * 22 + 9, rows[:, None] * 0.9, p.mark + 2) - 0.5
    rough = curls * (0.16 * p.hair_curl) * min(1.0, p.hair_thick * 6) + waves * 0.05
    x, y, z, shown = _shell(
        p,
        thick=thick,
        down=min(p.hair_length, -0.5) - 0.06,
        edge=edge,
        turns=turns,
        rows=rows,
        noise=rough,
        thin=0.75 * thick / (0.9 + thick),
        taper=0.10 + thick,
    )
    shade = (0.62 + 0.38 * ramp(y, -1.2, 0.4)) * (0.72 + 0.6 * (fray - 0.2)) * (0.6 + 0.4 * shown)
    return grid_surface(Material.HAIR, x, y, z, turns[None, :] + 0 * x, y, shade)


def hat(p: Person, take: Take) -> Surface:
    turns, _, _ = around(61, 1.0)
    rows = np.arange(37, dtype=np.float32) * np.float32(10 / 36)
    rows = rows[::-1]
    edge = np.float32(0.42 + take.hat_tilt) + 0 * turns[None, :]
    x, y, z, _ = _shell(
        p,
        thick=0.13,
        down=-0.6,
        edge=edge,
        turns=turns,
        rows=rows,
        noise=edge * 0,
        thin=0.0,
        taper=0.1,
    )
    cuff = 1 + 0.045 * ramp(y, 0.66, 0.60)
    return grid_surface(Material.KNIT, x * cuff, y, z * cuff, turns[None, :] + 0 * x, y, 1 + 0 * x)
