"""Neck, shoulders and what may hide a part of the face: scarf, glasses, a hand."""

import numpy as np

from facewright.datasets.sample.exact import F32, ramp, spline, square, value_noise
from facewright.datasets.sample.people import Person
from facewright.datasets.sample.surface import Material, Surface, around, grid_surface, tube
from facewright.datasets.sample.takes import Take


def shoulders(p: Person, take: Take) -> Surface:
    """Neck and shoulders, in the frame of the room."""
    build = take.build
    y = [-0.45, -1.00, -1.32, -1.47, -1.58, -1.72, -2.1, -3.4]
    wide = [0.44, 0.45, 0.50, 0.74, 1.15, 1.48, 1.66, 1.70]
    deep = [0.40, 0.41, 0.44, 0.52, 0.56, 0.60, 0.68, 0.72]
    w = [a * p.neck if k < 3 else a * (0.7 * p.neck + 0.3) * build for k, a in enumerate(wide)]
    rows = (np.arange(36, dtype=np.float32) * np.float32(7 / 35))[:, None][::-1]
    _, s, c = around(49, 1.0)
    y0, w0, d0 = spline(y, rows), spline(w, rows), spline(deep, rows)
    x, z = w0 * s[None, :], d0 * c[None, :] - np.float32(0.22)
    x, z = x + 0 * z, z + 0 * x
    shade = 1 - 0.70 * ramp(y0, -1.50, -1.08) * ramp(c[None, :], -0.2, 0.8)
    return grid_surface(Material.CLOTH, x, y0 + 0 * x, z, x, y0 + 0 * x, shade + 0 * x)


def scarf(take: Take) -> Surface:
    _, s, c = around(49, 1.0)
    _, s2, c2 = around(17, 1.0)
    lump = value_noise(s[None, :] * 2 + 8, c[None, :] * 2 + s2[:, None] * 1.5 + 8, take.seed) - 0.5
    fat = 1 + 0.5 * lump
    ring = np.float32(0.60) + np.float32(0.20) * fat * c2[:, None] - 0.07 * s2[:, None]
    x, z = ring * s[None, :] * 1.04, ring * c[None, :] * 1.05 - np.float32(0.10)
    y = np.float32(-1.36 + take.scarf_up) + np.float32(0.30) * fat * s2[:, None]
    y = y - 0.10 * c[None, :]
    shade = (0.80 + 0.6 * lump) * (0.75 + 0.25 * c2[:, None])
    return grid_surface(Material.KNIT, x, y, z, s[None, :] * 2 + 0 * x, c2[:, None] + 0 * x, shade)


def glasses(p: Person, take: Take) -> list[Surface]:
    """Two rims, a bridge, two temples, and dark lenses on some."""
    _, s, c = around(33, 1.0)
    square_off = 1 + np.float32(take.frame_square) * 4 * s * s * c * c
    rx, ry = 0.235, 0.185 * take.frame_tall
    y0, z0 = p.eye_y - 0.02, 1.0
    radius = take.frame_thick
    out = []

    def wrap(x: F32) -> F32:
        return np.float32(z0) - 0.22 * x * x

    for side in (1, -1):
        x = side * (p.eye_apart + 0.005) + rx * s * square_off
        y = np.float32(y0) + ry * c * square_off
        out.append(tube(Material.FRAME, np.stack([x, y, wrap(x)]), radius))
        if take.dark_lenses:
            rings = np.array([0.0, 0.5, 1.0], np.float32)[:, None]
            cx = np.float32(side * (p.eye_apart + 0.005))
            gx, gy = cx + (x - cx) * rings, np.float32(y0) + (y - np.float32(y0)) * rings
            out.append(grid_surface(Material.LENS, gx, gy, wrap(gx), gx, gy, np.ones_like(gx)))
        ramp01 = np.arange(5, dtype=np.float32) * np.float32(0.25)
        x = side * (p.eye_apart + rx + (0.79 * p.width - p.eye_apart - rx) * np.minimum(
            ramp01 * 3, 1))  # fmt: skip
        z = wrap(x) * (1 - ramp01) + ramp01 * np.float32(-0.05) + np.minimum(ramp01, 0.25) * 0.15
        y = np.float32(y0 + 0.05) + 0 * x
        out.append(tube(Material.FRAME, np.stack([x, y, z]), radius))
    across = (np.arange(5, dtype=np.float32) * np.float32(0.5) - 1) * np.float32(
        max(p.eye_apart - rx + 0.02, 0.04)
    )
    arch = np.float32(y0 + 0.05) + 0.02 * (1 - square(across / across[0]))
    out.append(tube(Material.FRAME, np.stack([across, arch, wrap(across)]), radius))
    return out


def hand(take: Take) -> list[Surface]:
    """Four fingers and a palm held to the chin or the cheek, in the frame of the head."""
    out = []
    side = np.float32(take.hand_side)
    t = np.arange(11, dtype=np.float32) * np.float32(0.1)
    tip = np.sqrt(np.maximum(1 - square(t * t), np.float32(1e-3)))
    girth = np.float32(0.078) * (1 - 0.25 * t * t) * tip
    for k, longer in enumerate((0.0, 0.07, 0.05, -0.06)):
        low = np.float32(-1.22)
        reach = np.float32(take.hand_up + longer) - low
        x = side * (np.float32(0.12 + 0.145 * k) + t * np.float32(0.06 + 0.02 * k))
        z = np.float32(1.04 - 0.10 * k) - np.float32(0.10 + 0.04 * k) * t * t
        out.append(tube(Material.SKIN, np.stack([x, low + t * reach, z]), girth, sides=10))
    x = side * (0.34 + 0.10 * t)
    palm = np.stack([x, -1.08 - 1.1 * t, 0.86 - 0.25 * t]).astype(np.float32)
    girth = np.float32(0.29) * np.sqrt(np.maximum(1 - square(np.maximum(0.35 - t, 0) / 0.36), 0.0))
    out.append(tube(Material.SKIN, palm, girth * (1 - 0.25 * t), sides=14))
    return out
