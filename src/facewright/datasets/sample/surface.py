"""Grids of points as lit, turnable surfaces.

Every surface is a grid in the frame of the head or of the room: x to the right of the image, y up,
z towards the camera, in units of 100 mm, the origin between the eyes at the axis of the head.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache

import numpy as np
import numpy.typing as npt

from facewright.datasets.sample.exact import F32, sine_cosine


class Material(IntEnum):
    SKIN = 0
    FACE = 1
    HAIR = 2
    CLOTH = 3
    KNIT = 4
    FRAME = 5
    LENS = 6


@dataclass(frozen=True)
class Surface:
    """Points, unit normals, two surface coordinates and openness to the sky; all flat (V,)."""

    material: Material
    x: F32
    y: F32
    z: F32
    nx: F32
    ny: F32
    nz: F32
    u: F32
    v: F32
    open: F32
    triangles: npt.NDArray[np.intp]  # (T, 3)


@cache
def _grid_triangles(rows: int, columns: int) -> npt.NDArray[np.intp]:
    index = np.arange(rows * columns, dtype=np.intp).reshape(rows, columns)
    a, b = index[:-1, :-1].reshape(-1), index[:-1, 1:].reshape(-1)
    c, d = index[1:, :-1].reshape(-1), index[1:, 1:].reshape(-1)
    # The two triangles of a cell lie side by side, so that a draw order by index stays local.
    return np.stack([a, d, b, a, c, d], axis=1).reshape(-1, 3)


def grid_surface(
    material: Material, x: F32, y: F32, z: F32, u: F32, v: F32, shade: F32, *, closed: bool = True
) -> Surface:
    """A surface from (rows, columns) grids; `closed`: the last column repeats the first."""

    def along(a: F32) -> F32:
        wide: F32
        if closed:
            wide = np.concatenate([a[:, -2:-1], a, a[:, 1:2]], axis=1)
        else:
            wide = np.concatenate([a[:, :1], a, a[:, -1:]], axis=1)
        return wide[:, 2:] - wide[:, :-2]

    def down(a: F32) -> F32:
        tall: F32 = np.concatenate([a[:1], a, a[-1:]], axis=0)
        return tall[2:] - tall[:-2]

    ax, ay, az, bx, by, bz = along(x), along(y), along(z), down(x), down(y), down(z)
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    scale = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    return Surface(
        material=material,
        x=_flat(x),
        y=_flat(y),
        z=_flat(z),
        nx=_flat(nx),
        ny=_flat(ny),
        nz=_flat(nz),
        u=_flat(u),
        v=_flat(v),
        open=_flat(shade),
        triangles=_grid_triangles(*x.shape),
    )


def _flat(a: F32) -> F32:
    return np.asarray(a, np.float32).reshape(-1)


@cache
def around(columns: int, crowd: float) -> tuple[F32, F32, F32]:
    """(turns, sine, cosine) of the columns, from behind over the front to behind again.

    `crowd` < 1 draws columns towards the front.
    """
    s = np.arange(columns, dtype=np.float32) * np.float32(2 / (columns - 1)) - 1
    turns = np.float32(0.5) * s * (np.float32(crowd) + np.float32(1 - crowd) * s * s)
    sine, cosine = sine_cosine(turns)
    return turns, sine, cosine


def tube(material: Material, path: F32, radius: F32 | float, sides: int = 8) -> Surface:
    """A tube along `path` (3, N); its cross-section stays upright in y."""
    x, y, z = path
    step = np.concatenate([path[:, 1:2] - path[:, :1], path[:, 2:] - path[:, :-2],
                           path[:, -1:] - path[:, -2:-1]], axis=1)  # fmt: skip
    length = np.sqrt(step[0] * step[0] + step[1] * step[1] + step[2] * step[2]) + np.float32(1e-9)
    dx, dy, dz = step / length
    # First side: perpendicular to the path and to z where that is possible, else to x.
    ax, ay = -dy, dx
    flat = np.sqrt(ax * ax + ay * ay)
    upright = flat < np.float32(0.2)
    ax, ay = np.where(upright, 0, ax / (flat + 1e-9)), np.where(upright, 1, ay / (flat + 1e-9))
    bx, by, bz = -dz * ay, dz * ax, dx * ay - dy * ax
    _, s, c = around(sides + 1, 1.0)
    s, c = s[:, None], c[:, None]
    gx = x + radius * (ax * c + bx * s)
    gy = y + radius * (ay * c + by * s)
    gz = z + radius * (bz * s)
    order = (gx.T, gy.T, gz.T)
    return grid_surface(material, *order, (x + 0 * gx).T, (y + 0 * gy).T, np.ones_like(order[0]))


def turned(surface: Surface, rows: tuple[tuple[float, float, float], ...], pivot_y: float,
           pivot_z: float) -> Surface:  # fmt: skip
    """The surface rotated about (0, pivot_y, pivot_z) by the matrix `rows`."""

    def apply(x: F32, y: F32, z: F32) -> list[F32]:
        return [np.float32(a) * x + np.float32(b) * y + np.float32(c) * z for a, b, c in rows]

    x, y, z = apply(surface.x, surface.y - np.float32(pivot_y), surface.z - np.float32(pivot_z))
    nx, ny, nz = apply(surface.nx, surface.ny, surface.nz)
    return replace(
        surface, x=x, y=y + np.float32(pivot_y), z=z + np.float32(pivot_z), nx=nx, ny=ny, nz=nz
    )
