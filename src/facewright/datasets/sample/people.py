"""Who the rendered people are: every number that tells one from another.

Lengths are in units of 100 mm: a head is about 2.25 units high, the pupils 0.63 apart. Colours are
linear RGB in [0, 1]. Shape, colouring and hair each narrow the choice; none of them settles it.
"""

from dataclasses import dataclass

from facewright.datasets.sample.exact import Dice

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """One identity. Lengths in units of 100 mm, factors without unit, colours linear RGB."""

    name: str
    # The head.
    width: float  # factor on the breadth of the whole head
    cheek: float  # factor on the breadth at the cheekbones
    jaw: float  # factor on the breadth at the mouth and the angle of the jaw
    chin_width: float  # factor on the breadth of the chin
    chin_length: float  # added below the mouth
    chin_forward: float
    forehead: float  # factor on the height above the brows
    brow_ridge: float
    cheek_fat: float
    boxy: float
    neck: float  # factor on the breadth of the neck
    ear_size: float
    ear_out: float
    # The features.
    eye_apart: float  # half the distance between the pupils
    eye_y: float
    eye_width: float  # half the width of the opening
    eye_height: float  # opening over half width
    eye_tilt: float
    eye_deep: float
    lid_crease: float
    brow_y: float  # above the eye
    brow_thick: float
    brow_arch: float
    brow_slope: float
    nose_y: float  # height of the tip
    nose_width: float
    nose_bridge: float  # width of the bridge
    nose_out: float
    nose_hump: float
    mouth_y: float
    mouth_width: float  # half the width
    lip_upper: float
    lip_lower: float
    lip_bow: float
    # The colouring.
    skin: RGB
    blush: float
    lips: RGB
    iris: RGB
    hair: RGB
    brow_dark: float
    beard: float  # 0 shaven … 1 full
    freckles: float
    age: float  # 0 … 1: folds and shadows
    moles: tuple[tuple[float, float, float], ...]  # (x, y, radius)
    mark: int  # seed of the skin's own mottling
    # The hair.
    hair_thick: float
    hair_length: float  # lower end at the back, as a height
    hairline: float  # height on the forehead
    hair_recede: float
    hair_open: float  # angle in turns at which the hair begins at the cheek
    hair_part: float  # asymmetry of the hairline
    hair_curl: float


_SKIN: tuple[RGB, ...] = (
    (0.83, 0.61, 0.49),
    (0.73, 0.48, 0.36),
    (0.61, 0.365, 0.245),
    (0.42, 0.23, 0.142),
    (0.23, 0.118, 0.074),
)
_HAIR: tuple[RGB, ...] = (
    (0.012, 0.010, 0.010),
    (0.040, 0.024, 0.016),
    (0.120, 0.062, 0.030),
    (0.240, 0.070, 0.026),
    (0.400, 0.250, 0.110),
    (0.620, 0.440, 0.220),
    (0.380, 0.360, 0.340),
)
_IRIS: tuple[RGB, ...] = (
    (0.050, 0.022, 0.012),
    (0.140, 0.065, 0.025),
    (0.200, 0.150, 0.050),
    (0.110, 0.200, 0.110),
    (0.120, 0.240, 0.420),
    (0.230, 0.290, 0.330),
)


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """The colour a fraction `t` of the way from `a` to `b`."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _stop(stops: tuple[RGB, ...], at: float) -> RGB:
    i = min(int(at), len(stops) - 2)
    return mix(stops[i], stops[i + 1], at - i)


def person(name: str) -> Person:
    """The person called `name`: a pure function of the name."""
    d = Dice(f"facewright sample person 1/{name}")
    male = 1.0 if d.chance("sex", 0.5) else 0.0
    soft = 1.0 - male
    age = d.unit("age")
    tone = d.between("tone", 0.0, 3.999)
    skin = _stop(_SKIN, tone)
    dark = tone > 2.4
    hair_kind = d.index(
        "hair kind", (5, 3, 0.2, 0, 0, 0, 0.6) if dark else (2, 3, 3, 1.2, 2, 1.6, 1.2 * age)
    )
    hair = mix(_HAIR[hair_kind], _HAIR[d.index("hair tint", (1, 1, 1))], d.between("tint", 0, 0.3))
    iris = _IRIS[d.index("iris", (4, 2, 0.3, 0, 0, 0) if dark else (1, 2, 1.5, 1.2, 2, 1))]
    style = d.index("style", (2.0, 1.6, 1.2, 0.5, 0.5, 0.3) if male else (0.5, 0.2, 0, 2.4, 2.2, 1))
    short, buzz, bald, long, bob, curly = (style == i for i in range(6))
    thick = d.between("thick", 0.07, 0.20)
    length = d.between("nape", -0.75, -0.45)
    hairline = d.between("hairline", 0.56, 0.72)
    opening = d.between("open", 0.175, 0.205)
    if buzz or bald:
        thick = 0.03
    if long:
        length, opening = d.between("long", -1.9, -1.3), d.between("open long", 0.125, 0.18)
    if bob:
        length, opening = d.between("bob", -1.15, -0.75), d.between("open bob", 0.115, 0.17)
    if curly:
        thick, length = d.between("afro", 0.20, 0.36), d.between("afro end", -0.9, -0.5)
    if (long or bob or short) and d.chance("fringe", 0.33):
        hairline = d.between("fringe y", 0.36, 0.48)
    beard = d.index("beard", (3, 2, 2)) * 0.5 * d.between("beard full", 0.6, 1.0) * male
    lips = mix(
        (skin[0] * 0.80, skin[1] * 0.52, skin[2] * 0.55),
        (0.50, 0.10, 0.12),
        d.between("lip red", 0.0, 0.30) + 0.25 * soft * d.unit("lip paint"),
    )
    moles = tuple(
        (
            d.between(f"mole x{i}", -0.5, 0.5),
            d.between(f"mole y{i}", -0.9, 0.5),
            d.between(f"mole r{i}", 0.016, 0.030),
        )
        for i in range(d.index("moles", (2, 2, 1, 1)))
    )
    return Person(
        name=name,
        width=d.between("width", 0.89, 1.11),
        cheek=d.between("cheek", 0.93, 1.08),
        jaw=d.between("jaw", 0.83, 1.10) + 0.06 * male,
        chin_width=d.between("chin width", 0.72, 1.32) + 0.1 * male,
        chin_length=d.between("chin length", -0.11, 0.11) + 0.03 * male,
        chin_forward=d.between("chin forward", -0.05, 0.07),
        forehead=d.between("forehead", 0.90, 1.12),
        brow_ridge=d.between("brow ridge", 0.01, 0.06) + 0.03 * male,
        cheek_fat=d.between("cheek fat", -0.04, 0.09),
        boxy=d.between("boxy", 0.02, 0.10),
        neck=d.between("neck", 0.86, 1.0) + 0.18 * male,
        ear_size=d.between("ear size", 0.85, 1.2),
        ear_out=d.between("ear out", 0.5, 1.4),
        eye_apart=d.between("eye apart", 0.262, 0.362),
        eye_y=d.between("eye y", -0.035, 0.035),
        eye_width=d.between("eye width", 0.118, 0.174),
        eye_height=d.between("eye height", 0.38, 0.70),
        eye_tilt=d.between("eye tilt", -0.12, 0.24),
        eye_deep=d.between("eye deep", 0.05, 0.15),
        lid_crease=d.between("lid crease", 0.025, 0.065),
        brow_y=d.between("brow y", 0.130, 0.250) + 0.02 * soft,
        brow_thick=d.between("brow thick", 0.012, 0.052) + 0.010 * male,
        brow_arch=d.between("brow arch", -0.01, 0.095),
        brow_slope=d.between("brow slope", -0.065, 0.035),
        nose_y=d.between("nose y", -0.445, -0.295),
        nose_width=d.between("nose width", 0.112, 0.230),
        nose_bridge=d.between("nose bridge", 0.078, 0.150),
        nose_out=d.between("nose out", 0.15, 0.33),
        nose_hump=d.between("nose hump", -0.035, 0.055),
        mouth_y=d.between("mouth y", -0.740, -0.620),
        mouth_width=d.between("mouth width", 0.180, 0.305),
        lip_upper=d.between("lip upper", 0.020, 0.095),
        lip_lower=d.between("lip lower", 0.038, 0.125),
        lip_bow=d.between("lip bow", 0.0, 0.5),
        skin=skin,
        blush=d.between("blush", 0.0, 0.5),
        lips=lips,
        iris=iris,
        hair=hair,
        brow_dark=d.between("brow dark", 0.45, 0.98),
        beard=beard,
        freckles=d.between("freckles", 0.2, 0.8) if tone < 1.6 and d.chance("freckled", 0.3) else 0,
        age=age,
        moles=moles,
        mark=d.seed("mark"),
        hair_thick=thick,
        hair_length=length,
        hairline=1.22 if bald else hairline,
        hair_recede=d.between("recede", 0.0, 0.22) * male,
        hair_open=opening,
        hair_part=d.between("part", -0.13, 0.13),
        hair_curl=1.0 if curly else d.between("curl", 0.0, 0.45),
    )
