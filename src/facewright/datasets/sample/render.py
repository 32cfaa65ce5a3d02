"""One photo from a person and a take: build, turn, project, shade, set before a background."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facewright.datasets.sample import head, props, shade
from facewright.datasets.sample.exact import (
    F32,
    pixel_noise,
    ramp,
    rotation,
    square,
    value_noise,
)
from facewright.datasets.sample.people import Person
from facewright.datasets.sample.raster import visible
from facewright.datasets.sample.surface import Material, Surface, turned
from facewright.datasets.sample.takes import Take, scenery

SIZE = 224
_FINE = 2  # samples per pixel along each side
_CAMERA = 9.0  # distance of the camera, in units of 100 mm
_PIVOT_Y, _PIVOT_Z = -0.55, -0.15  # where the head turns on the neck

Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Rendered:
    """A photo and where its five points truly are.

    `image`: (224, 224, 3) uint8 RGB. `points`: (5, 2) float32, x and y in pixels: the eye on the
    image's left, the eye on its right, the tip of the nose, the corners of the mouth likewise.
    """

    image: npt.NDArray[np.uint8]
    points: F32


def _turn(yaw: float, pitch: float, roll: float) -> Matrix:
    cy, sy = rotation(yaw)
    cp, sp = rotation(pitch)
    cr, sr = rotation(roll)
    # Roll after pitch after yaw.
    rows = ((cy, 0.0, sy), (sp * sy, cp, -sp * cy), (-cp * sy, sp, cp * cy))
    (a, b, c), (d, e, f), last = rows
    return (
        (cr * a - sr * d, cr * b - sr * e, cr * c - sr * f),
        (sr * a + cr * d, sr * b + cr * e, sr * c + cr * f),
        last,
    )


def render(p: Person, t: Take) -> Rendered:
    """Render one photo; a pure function, the same bytes on every machine."""
    turn = _turn(t.yaw, t.pitch, t.roll)
    body = _turn(t.body_yaw, 0.0, t.roll * 0.25)
    face = head.head(p, t)
    on_head = [face, head.hair(p, t), *head.ears(p)]
    if t.hat:
        on_head.append(head.hat(p, t))
    if t.glasses:
        on_head += props.glasses(p, t)
    if t.hand:
        on_head += props.hand(t)
    surfaces = [turned(s, turn, _PIVOT_Y, _PIVOT_Z) for s in on_head]
    around = [props.shoulders(p, t)] + ([props.scarf(t)] if t.scarf else [])
    surfaces += [turned(s, body, _PIVOT_Y, _PIVOT_Z) for s in around]

    joined = {
        name: np.concatenate([getattr(s, name) for s in surfaces])
        for name in ("x", "y", "z", "nx", "ny", "nz", "u", "v", "open")
    }
    starts, triangles, materials = 0, [], []
    for s in surfaces:
        triangles.append(s.triangles + starts)
        materials.append(np.full(len(s.triangles), s.material, np.int8))
        starts += len(s.x)
    size = SIZE * _FINE
    px, py = _project(t, joined["x"], joined["y"], joined["z"])
    seen = visible(px * _FINE, py * _FINE, joined["z"], np.concatenate(triangles), size)
    material = np.concatenate(materials)[seen.triangle]
    wanted = ("nx", "ny", "nz", "u", "v", "open")
    values = [seen.values(joined[name]) for name in wanted]
    nx, ny, nz = values[:3]
    inverse = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-9))
    values[:3] = [nx * inverse, ny * inverse, nz * inverse]

    layer = np.zeros((4, size * size), np.float32)
    layer[3, seen.sample] = 1
    for kind in Material:
        at = np.flatnonzero(material == kind)
        if len(at) == 0:
            continue
        samples = shade.Samples(*(v[at] for v in values))
        for channel, c in enumerate(_shaded(kind, p, samples, t)):
            layer[channel, seen.sample[at]] = c
    fine = layer.reshape(4, SIZE, 2, SIZE, 2)
    small = ((fine[:, :, 0, :, 0] + fine[:, :, 0, :, 1])
             + (fine[:, :, 1, :, 0] + fine[:, :, 1, :, 1])) * np.float32(0.25)  # fmt: skip
    picture = small[:3] + (1 - small[3]) * background(t)
    points = _points(p, t, face, surfaces[0])
    return Rendered(_developed(picture, t), points)


def _shaded(kind: Material, p: Person, at: shade.Samples, t: Take) -> shade.Channels:
    match kind:
        case Material.FACE:
            return shade.face(p, at, t)
        case Material.SKIN:
            return shade.skin(p, at, t)
        case Material.HAIR:
            return shade.hair(p, at, t)
        case Material.CLOTH:
            return shade.cloth(p, at, t)
        case Material.KNIT:
            return shade.knit(at, t)
        case Material.FRAME:
            return shade.frame(at, t)
        case Material.LENS:
            return shade.lens(at, t)


def _project(t: Take, x: F32, y: F32, z: F32) -> tuple[F32, F32]:
    """Pixels from points in the room."""
    near = np.float32(t.scale * SIZE) * (1 / (1 - z * np.float32(1 / _CAMERA)))
    return np.float32(t.centre_x * SIZE) + x * near, np.float32(t.centre_y * SIZE) - y * near


def _points(p: Person, t: Take, face: Surface, moved: Surface) -> F32:
    m = p.mouth_width * (1 + 0.17 * t.smile - 0.10 * t.jaw)
    corner = p.mouth_y + 0.055 * t.smile
    marks = [(-p.eye_apart, p.eye_y), (p.eye_apart, p.eye_y), (0.0, p.nose_y), (-m, corner),
             (m, corner)]  # fmt: skip
    out = []
    for fx, fy in marks:
        off = square(face.u - fx) + square(face.v - fy) + 100 * (face.z < 0)
        i = int(np.argmin(off))
        x, y = _project(t, moved.x[i : i + 1], moved.y[i : i + 1], moved.z[i : i + 1])
        out.append((float(x[0]), float(y[0])))
    return np.array(out, np.float32)


def background(t: Take) -> F32:
    """(3, 224, 224) linear: a wall or a view out of focus, soft shapes, no hint of the person."""
    half = SIZE // 2
    row, column = np.indices((half, half), np.int32)
    y, x = row.astype(np.float32) * (1 / half), column.astype(np.float32) * (1 / half)
    draws = scenery(t)
    first, second = draws.colour("wall"), draws.colour("floor")
    slope = draws.between("slope", -0.6, 0.6)
    t01 = ramp(y + slope * (x - 0.5), 0.05, 0.95)
    picture = [a + (b - a) * t01 for a, b in zip(first, second, strict=True)]
    for k in range(draws.index("shapes", (1, 1, 2, 2, 2, 1))):
        shape = draws.colour(f"shape{k}")
        cx, cy = draws.between(f"cx{k}", 0, 1), draws.between(f"cy{k}", 0, 1)
        if draws.chance(f"round{k}", 0.5):
            r = draws.between(f"r{k}", 0.05, 0.28)
            off = np.sqrt(square(x - cx) + square(y - cy))
            cover = ramp(off, r + 0.04, r - 0.04)
        else:
            rx, ry = draws.between(f"rx{k}", 0.04, 0.3), draws.between(f"ry{k}", 0.06, 0.5)
            cover = ramp(np.abs(x - cx), rx + 0.03, rx - 0.03)
            cover = cover * ramp(np.abs(y - cy), ry + 0.03, ry - 0.03)
        cover = cover * draws.between(f"cover{k}", 0.3, 0.95)
        picture = [a + (b - a) * cover for a, b in zip(picture, shape, strict=True)]
    cloud = 0.8 + 0.4 * value_noise(x * 5, y * 5, t.seed)
    return _doubled(_doubled(np.stack([a * cloud for a in picture]), 1), 2)


def _doubled(a: F32, axis: int) -> F32:
    """(C, H, W) with twice the samples along one axis, interpolated."""
    n = a.shape[axis]
    before = np.take(a, [0, *range(n - 1)], axis=axis) * np.float32(0.25) + a * np.float32(0.75)
    after = np.take(a, [*range(1, n), n - 1], axis=axis) * np.float32(0.25) + a * np.float32(0.75)
    shape = [3, a.shape[1] * (2 if axis == 1 else 1), a.shape[2] * (2 if axis == 2 else 1)]
    return np.stack([before, after], axis=axis + 1).reshape(shape)


def _soften(a: F32, axis: int) -> F32:
    """Three taps 1/4, 1/2, 1/4 along one axis of (C, H, W), edges repeated."""
    if axis == 1:
        wide: F32 = np.concatenate([a[:, :1], a, a[:, -1:]], axis=1)
        return (wide[:, :-2] + wide[:, 2:]) * np.float32(0.25) + a * np.float32(0.5)
    wide = np.concatenate([a[:, :, :1], a, a[:, :, -1:]], axis=2)
    return (wide[:, :, :-2] + wide[:, :, 2:]) * np.float32(0.25) + a * np.float32(0.5)


def _developed(picture: F32, t: Take) -> npt.NDArray[np.uint8]:
    """From linear light to bytes: foreground blob, lens blur, exposure, tone, sensor noise."""
    if t.blob:
        row, column = np.indices((SIZE, SIZE), np.int32)
        off = np.sqrt(square(column * np.float32(1 / SIZE) - np.float32(t.blob_x))
                      + square(row * np.float32(1 / SIZE) - np.float32(t.blob_y)))  # fmt: skip
        cover = ramp(off, t.blob_radius + 0.05, t.blob_radius - 0.05)
        blob = np.array(t.blob_colour, np.float32)[:, None, None]
        picture = picture + (blob - picture) * cover
    for _ in range(t.blur):
        picture = _soften(_soften(picture, 1), 2)
    gain = np.array([t.exposure * b for b in t.balance], np.float32)[:, None, None]
    lightness = np.maximum(picture, 0) * gain
    # A film-like shoulder, then gamma 2: the highlights bend instead of clipping.
    lightness = lightness * (1 + 0.12 * lightness) / (1 + 0.45 * lightness)
    tone = np.sqrt(lightness * np.float32(1.25))
    grain = pixel_noise(SIZE, SIZE, t.seed)
    tone = tone + grain * np.float32(t.noise)
    level = np.floor(np.minimum(np.maximum(tone, 0), 1) * np.float32(255) + np.float32(0.5))
    return np.ascontiguousarray(level.astype(np.uint8).transpose(1, 2, 0))
