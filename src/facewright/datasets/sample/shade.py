"""The colour of every visible sample: skin and features, hair, cloth, and the light on them."""

import math
from dataclasses import dataclass

import numpy as np

from facewright.datasets.sample.exact import F32, bump, ramp, square, value_noise
from facewright.datasets.sample.people import Person
from facewright.datasets.sample.takes import Take

RGB = tuple[float, float, float]
Channels = list[F32]  # red, green, blue, each (S,), linear


@dataclass(frozen=True)
class Samples:
    """Unit normals towards the camera's frame, surface coordinates, openness; all (S,)."""

    nx: F32
    ny: F32
    nz: F32
    u: F32
    v: F32
    open: F32


def _flat(colour: RGB, like: F32) -> Channels:
    return [np.full_like(like, c) for c in colour]


def _blend(channels: Channels, colour: RGB | Channels, t: F32) -> Channels:
    return [a + (b - a) * t for a, b in zip(channels, colour, strict=True)]


def lit(
    albedo: Channels, at: Samples, take: Take, *, wrap: RGB, shine: F32 | float, tight: int
) -> Channels:
    """Light the colours: one lamp, a sky brighter above than below, a highlight and a rim.

    `wrap` lets the lamp's light creep around the edge of its shadow, most in red for skin;
    `tight` doublings sharpen the highlight.
    """
    lx, ly, lz = take.light_x, take.light_y, 1.0
    inverse = 1 / math.sqrt(lx * lx + ly * ly + lz * lz)
    lx, ly, lz = lx * inverse, ly * inverse, lz * inverse
    facing = at.nx * lx + at.ny * ly + at.nz * lz
    sky = (0.62 + 0.30 * at.ny + 0.08 * at.nz) * take.ambient * at.open
    hx, hy, hz = lx, ly, lz + 1.0
    inverse = 1 / math.sqrt(hx * hx + hy * hy + hz * hz)
    glint = np.maximum((at.nx * hx + at.ny * hy + at.nz * hz) * inverse, 0)
    for _ in range(tight):
        glint = glint * glint
    glint = glint * shine * (take.light * 0.30)
    edge = square(np.maximum(1 - at.nz, 0)) * (take.rim * 0.5) * np.maximum(0.3 + at.ny, 0)
    shadow = 0.35 + 0.65 * at.open
    out = []
    for colour, w, lamp, air in zip(
        albedo, wrap, take.light_colour, take.ambient_colour, strict=True
    ):
        direct = np.maximum((facing + w) * (1 / (1 + w)), 0) * shadow
        out.append(colour * (direct * (take.light * lamp) + sky * air) + glint * lamp + edge * air)
    return out


def skin(p: Person, at: Samples, take: Take) -> Channels:
    """Bare skin: neck, ears, hands."""
    mottle = 0.95 + 0.10 * value_noise(at.u * 9 + 20, at.v * 9 + 20, p.mark)
    albedo = [c * mottle for c in p.skin]
    return lit(albedo, at, take, wrap=(0.30, 0.20, 0.16), shine=0.10, tight=4)


def face(p: Person, at: Samples, take: Take) -> Channels:
    """The head's skin with brows, eyes, lips and beard; u, v are frontal coordinates."""
    x, y = at.u, at.v
    ax = np.abs(x)
    ex, ey, my, ny = p.eye_apart, p.eye_y, p.mouth_y, p.nose_y
    mottle = 0.94 + 0.12 * value_noise(x * 7 + 20, y * 7 + 20, p.mark)
    fine = value_noise(x * 34 + 32, y * 34 + 32, p.mark + 1)
    mottle = mottle * (0.98 + 0.04 * fine)
    red = p.blush * bump(square((ax - 0.40) / 0.30) + square((y + 0.27) / 0.26))
    red = red + (0.12 + 0.5 * p.blush) * bump(square(x / 0.16) + square((y - ny) / 0.15))
    bag = (0.10 + 0.16 * p.age) * bump(square((ax - ex) / 0.2) + square((y - ey + 0.13) / 0.085))
    fold_x = 0.17 + (ny - y) * 0.50
    fold = bump(square((ax - fold_x) / 0.035)) * ramp(y, my - 0.06, my + 0.05)
    fold = fold * ramp(y, ny + 0.02, ny - 0.08) * (0.04 + 0.20 * p.age + 0.10 * max(take.smile, 0))
    dim = mottle * (1 - fold)
    albedo = [
        p.skin[0] * dim * (1 - 0.6 * bag),
        p.skin[1] * dim * (1 - 0.42 * red - bag),
        p.skin[2] * dim * (1 - 0.42 * red - 0.8 * bag),
    ]
    if p.freckles > 0:
        spots = ramp(value_noise(x * 26 + 32, y * 26 + 32, p.mark + 2), 0.70, 0.86)
        spots = spots * p.freckles * bump(square(x / 0.75) + square((y + 0.18) / 0.45))
        albedo = _blend(albedo, (0.30, 0.13, 0.06), spots)
    for mx, mole_y, radius in p.moles:
        outer, inner = radius * 1.3, radius * 0.6
        spot = ramp(square(x - mx) + square(y - mole_y), outer * outer, inner * inner)
        albedo = _blend(albedo, (0.10, 0.045, 0.03), 0.8 * spot)
    if p.age > 0.55:
        lines = value_noise(x * 2.2 + 20, y * 17 + 20, p.mark + 3)
        lines = ramp(np.abs(lines - 0.5), 0.07, 0.0) * ramp(y, 0.34, 0.46) * ramp(ax, 0.5, 0.2)
        albedo = [c * (1 - (p.age - 0.55) * 0.45 * lines) for c in albedo]
    if p.beard > 0:
        albedo = _blend(albedo, p.hair, _beard(p, x, y, ax, fine))
    nostril = bump(square((ax - 0.42 * p.nose_width) / 0.055) + square((y - ny + 0.085) / 0.032))
    albedo = [c * (1 - 0.85 * nostril) for c in albedo]
    albedo = _brows(p, take, albedo, x, y, ax)
    gloss = 0.16 * (0.6 + 0.8 * bump(square(x / 0.35) + square((y - 0.1) / 0.9)))
    colour, lips = _mouth(p, take, albedo, x, y)
    colour = lit(colour, at, take, wrap=(0.30, 0.20, 0.16), shine=gloss + 0.22 * lips, tight=4)
    return _eyes(p, take, colour, at)


def _beard(p: Person, x: F32, y: F32, ax: F32, fine: F32) -> F32:
    my = p.mouth_y
    cheek_line = -0.50 + 0.9 * np.maximum(ax - 0.38, 0)
    below = ramp(y, cheek_line + 0.05, cheek_line - 0.12)
    lips = square(x / (p.mouth_width * 1.12)) + square((y - my + 0.01) / 0.13)
    around = ramp(lips, 0.75, 1.25)
    moustache = bump(square(x / 0.36) + square((y - 0.5 * (my + p.nose_y) + 0.03) / 0.12))
    cover = np.maximum(below * (0.75 + 0.25 * ramp(ax, 0.5, 0.2)), ramp(moustache, 0.1, 0.5))
    return cover * around * p.beard * (0.70 + 0.35 * fine)


def _brows(p: Person, take: Take, albedo: Channels, x: F32, y: F32, ax: F32) -> Channels:
    along = (ax - p.eye_apart + 0.02) / 0.215  # −1 at the nose, +1 at the temple
    centre = p.eye_y + p.brow_y + take.brow + p.brow_slope * along
    centre = centre + p.brow_arch * (0.4 - square(along - 0.25))
    taper = 1 - 0.55 * ramp(along, -0.2, 1.0)
    thick = p.brow_thick * taper
    hairs = value_noise(x * 60 + y * 25 + 32, y * 14 - x * 8 + 32, p.mark + 4)
    away = np.abs(y - centre) / thick
    cover = ramp(away, 1.35, 0.45) * ramp(np.abs(along), 1.08, 0.86)
    cover = cover * (0.62 + 0.5 * hairs) * p.brow_dark
    dark = (p.hair[0] * 0.55 + 0.01, p.hair[1] * 0.5 + 0.008, p.hair[2] * 0.5 + 0.006)
    return _blend(albedo, dark, np.minimum(cover, 1))


def _mouth(p: Person, take: Take, albedo: Channels, x: F32, y: F32) -> tuple[Channels, F32]:
    smile = take.smile
    m = p.mouth_width * (1 + 0.17 * smile - 0.10 * take.jaw)
    u = x / m
    across = np.maximum(1 - u * u, 0)
    full = across * (2 - across)  # lips keep their height until near the corners
    middle = p.mouth_y + 0.055 * smile * u * u
    gap = across * (0.012 * max(smile, 0.0) + 0.055 * take.jaw)
    bow = 1 - p.lip_bow * 0.5 * bump(square(u / 0.22))
    bow = bow + 0.12 * bump(square((np.abs(u) - 0.3) / 0.3))
    tight = 1 - 0.22 * max(smile, 0.0)
    upper, lower = middle + 0.3 * gap, middle - 0.7 * gap
    top = upper + p.lip_upper * full * bow * tight
    bottom = lower - p.lip_lower * full * tight
    soft = np.float32(0.012)
    inside = ramp(np.abs(u), 1.03, 0.97)
    lips = ramp(y, top + soft, top - soft) * ramp(y, bottom - soft, bottom + soft) * inside
    albedo = _blend(albedo, p.lips, lips)
    opening = ramp(y, upper + 0.007, upper - 0.007) * ramp(y, lower - 0.007, lower + 0.007)
    opening = opening * ramp(np.abs(u), 1.0, 0.9)
    teeth_end = upper - np.minimum(0.045, 0.75 * gap)
    teeth = ramp(y, teeth_end - 0.008, teeth_end + 0.008) * ramp(np.abs(u), 0.85, 0.6)
    teeth = teeth * ramp(gap, 0.010, 0.03)
    hole = _blend(_flat((0.07, 0.018, 0.018), x), (0.62, 0.56, 0.48), teeth)
    albedo = _blend(albedo, hole, opening)
    # The line where the lips meet, darkest at the corners.
    line = ramp(np.abs(y - middle), 0.018, 0.004) * ramp(np.abs(u), 1.10, 1.0) * (1 - opening)
    line = line * (0.55 + 0.25 * u * u)
    return [c * (1 - line) for c in albedo], lips * (1 - opening)


def _eyes(p: Person, take: Take, colour: Channels, at: Samples) -> Channels:
    ax = np.abs(at.u)
    a = p.eye_width
    near = np.flatnonzero((np.abs(ax - p.eye_apart) < a * 1.5) & (np.abs(at.v - p.eye_y) < a * 1.3))
    if len(near) == 0:
        return colour
    side = np.where(at.u[near] > 0, np.float32(1), np.float32(-1))
    u = (ax[near] - p.eye_apart) / a  # −1 inner corner, +1 outer corner
    v = (at.v[near] - p.eye_y) / a - p.eye_tilt * u
    h = p.eye_height * take.lid * (1 - 0.14 * max(take.smile, 0.0))
    across = np.maximum(1 - u * u, 0)
    upper = h * 0.85 * across * (1 - 0.18 * u) + 0.08 * h * across * across
    lower = -0.50 * h * across * (1 + 0.22 * u)
    soft = np.float32(0.045)
    within = ramp(np.abs(u), 1.03, 0.97)
    opened = ramp(v, upper + soft, upper - soft) * ramp(v, lower - soft, lower + soft) * within
    out = [c[near] for c in colour]

    # Skin around the eye: the crease of the lid and the lashes.
    crease = upper + p.lid_crease / a * (0.55 + 0.45 * across)
    fold = ramp(np.abs(v - crease), 0.085, 0.0) * ramp(np.abs(u), 1.15, 0.85)
    lid = ramp(v, upper - 0.02, upper + 0.02) * ramp(v, crease + 0.03, crease - 0.03) * within
    out = [c * (1 - 0.40 * fold) * (1 - 0.14 * lid) for c in out]
    lash = ramp(np.abs(v - upper - 0.03), 0.085 + 0.04 * np.maximum(u, 0), 0.02)
    lash = np.maximum(lash * 0.85, ramp(np.abs(v - lower), 0.06, 0.01) * 0.35)
    lash = lash * ramp(np.abs(u), 1.12, 0.95)

    level = take.light * 0.62 + take.ambient * 0.55
    light = level * (0.55 + 0.45 * np.maximum(at.nz[near] + 0.4 * at.nx[near] * take.light_x, 0))
    cover = 0.55 + 0.45 * ramp(upper - v, 0.0, 0.35)  # the upper lid's shadow
    gx, gy = side * take.gaze_x, take.gaze_y + 0.10 * h
    radius = 0.053 / a
    r = np.sqrt(square(u - gx) + square(v - gy)) / radius
    iris = ramp(r, 1.08, 0.96)
    ring = 0.45 + 0.75 * ramp(r, 1.0, 0.75)
    ball = [np.full_like(u, c) for c in (0.78, 0.73, 0.70)]
    ball = [c * (1 - 0.30 * u * u) for c in ball]
    ball = _blend(ball, [np.float32(c) * ring for c in p.iris], iris)
    ball = [c * (1 - 0.96 * ramp(r, 0.48, 0.40)) for c in ball]
    ball = [c * light * cover for c in ball]
    sx, sy = side * 0.35 * take.light_x, 0.25 + 0.2 * take.light_y
    spark = ramp(square(u - gx - sx * radius) + square(v - gy - sy * radius), 0.018, 0.006)
    ball = [c + 0.55 * take.light * spark for c in ball]
    out = _blend(out, ball, opened)
    out = _blend(out, (0.012, 0.009, 0.008), lash)
    result = []
    for whole, part in zip(colour, out, strict=True):
        whole = whole.copy()
        whole[near] = part
        result.append(whole)
    return result


def hair(p: Person, at: Samples, take: Take) -> Channels:
    """Strands run down the head: fine noise across, slow noise along."""
    strand = value_noise(at.u * 190 + 32, at.v * 1.7 + 32, p.mark + 5)
    lock = value_noise(at.u * 44 + 32, at.v * 1.1 + 32, p.mark + 6)
    dim = (0.60 + 0.45 * strand) * (0.70 + 0.6 * lock)
    albedo = [c * dim for c in p.hair]
    band = bump(square((at.ny - 0.45) / 0.5)) * (0.25 + 0.75 * strand)
    shine = band * (0.10 + 0.22 * (1 - p.hair_curl))
    return lit(albedo, at, take, wrap=(0.25, 0.25, 0.25), shine=shine, tight=2)


def cloth(p: Person, at: Samples, take: Take) -> Channels:
    """Neck above the collar, garment below it."""
    collar = take.collar - take.collar_deep * ramp(np.abs(at.u), 0.42, 0.0)
    worn = ramp(at.v, collar + 0.012, collar - 0.012)
    fabric = _flat(take.cloth, at.u)
    if take.stripes > 0:
        phase = at.v * take.stripes
        fabric = _blend(
            fabric, take.cloth_second, ramp(np.abs(phase - np.floor(phase) - 0.5), 0.22, 0.28)
        )
    wrinkle = value_noise(at.u * 2.3 + 20, at.v * 2.0 + 20, take.seed)
    hem = 1 - 0.35 * ramp(np.abs(at.v - collar + 0.03), 0.03, 0.01)
    fabric = [c * (0.75 + 0.5 * wrinkle) * hem for c in fabric]
    mottle = 0.95 + 0.10 * value_noise(at.u * 9 + 20, at.v * 9 + 20, p.mark)
    albedo = _blend([c * mottle for c in p.skin], fabric, worn)
    return lit(albedo, at, take, wrap=(0.22, 0.18, 0.15), shine=0.06 * (1 - worn), tight=3)


def knit(at: Samples, take: Take) -> Channels:
    """Hat or scarf."""
    rib = at.u * 40
    rib = np.abs(rib - np.floor(rib) - 0.5) * 2
    band = at.v * 2.2
    band = ramp(np.abs(band - np.floor(band) - 0.5), 0.12, 0.16)
    albedo = _blend(_flat(take.knit_second, at.u), take.knit, band)
    albedo = [c * (0.70 + 0.40 * rib) for c in albedo]
    return lit(albedo, at, take, wrap=(0.2, 0.2, 0.2), shine=0.0, tight=1)


def frame(at: Samples, take: Take) -> Channels:
    return lit(_flat(take.frame, at.u), at, take, wrap=(0.1, 0.1, 0.1), shine=0.9, tight=4)


def lens(at: Samples, take: Take) -> Channels:
    dark = [c * (0.7 + 0.8 * at.v) for c in _flat((0.05, 0.045, 0.045), at.u)]
    return lit(dark, at, take, wrap=(0.5, 0.5, 0.5), shine=0.15, tight=3)
