"""What changes from photo to photo of one person: pose, light, mood, surroundings."""

from dataclasses import dataclass

from facewright.datasets.sample.exact import Dice

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Take:
    """One photo's circumstances. Angles in turns, lengths in units of 100 mm, linear colours."""

    yaw: float
    pitch: float
    roll: float
    body_yaw: float
    scale: float  # fraction of the image's height per unit
    centre_x: float  # of the head, fraction of the image
    centre_y: float
    smile: float
    jaw: float
    lid: float  # factor on the opening of the eyes
    gaze_x: float
    gaze_y: float
    brow: float
    light_x: float
    light_y: float
    light: float
    light_colour: RGB
    ambient_colour: RGB
    ambient: float
    rim: float
    exposure: float
    balance: RGB
    build: float
    hair_volume: float
    cloth: RGB
    cloth_second: RGB
    stripes: float
    collar: float
    collar_deep: float
    knit: RGB
    knit_second: RGB
    hat: bool
    hat_tilt: float
    scarf: bool
    scarf_up: float
    glasses: bool
    dark_lenses: bool
    frame: RGB
    frame_thick: float
    frame_tall: float
    frame_square: float
    hand: bool
    hand_side: float
    hand_up: float
    blob: bool  # something out of focus before the camera
    blob_x: float
    blob_y: float
    blob_radius: float
    blob_colour: RGB
    blur: int  # passes of a three-tap blur
    noise: float
    seed: int


def _colour(d: Dice, name: str, low: float, high: float, dull: float = 0.35) -> RGB:
    """A colour between two lightnesses, `dull` of the way to grey."""
    r, g, b = (d.between(f"{name}/{k}", low, high) for k in "rgb")
    grey = (r + g + b) / 3
    r, g, b = (c + (grey - c) * dull for c in (r, g, b))
    return (r * r, g * g, b * b)


def take(name: str, photo: int) -> Take:
    """The circumstances of photo number `photo` of the person called `name`."""
    d = Dice(f"facewright sample photo 1/{name}/{photo}")
    yaw = d.between("yaw", -0.080, 0.080)
    cover = d.unit("cover")
    warm = d.between("warm", -1.0, 1.0)
    tint = d.between("tint", -0.05, 0.05)
    hat, scarf = 0.00 <= cover < 0.10, 0.10 <= cover < 0.15
    hand, blob = 0.15 <= cover < 0.20, 0.20 <= cover < 0.25
    glasses = d.chance("glasses", 0.16)
    open_mouth = d.chance("mouth open", 0.28)
    return Take(
        yaw=yaw,
        pitch=d.between("pitch", -0.034, 0.034),
        roll=d.between("roll", -0.05, 0.05),
        body_yaw=yaw * d.between("body", 0.0, 0.8) + d.between("body yaw", -0.05, 0.05),
        scale=d.between("scale", 0.228, 0.292),
        centre_x=0.5 + d.between("x", -0.10, 0.10),
        centre_y=0.46 + d.between("y", -0.07, 0.07),
        smile=d.between("smile", -0.30, 0.90),
        jaw=d.between("jaw", 0.1, 1.0) if open_mouth else 0.0,
        lid=d.between("lid", 0.72, 1.12),
        gaze_x=d.bell("gaze x", -0.28, 0.28) - yaw * 1.6,
        gaze_y=d.bell("gaze y", -0.10, 0.10),
        brow=d.between("brow", -0.02, 0.035),
        light_x=d.between("light x", -1.4, 1.4),
        light_y=d.between("light y", -0.1, 1.2),
        light=d.between("light", 0.55, 1.25),
        light_colour=(1 + 0.15 * warm, 1.0, 1 - 0.18 * warm),
        ambient_colour=(1 - 0.12 * warm, 1.0, 1 + 0.16 * warm),
        ambient=d.between("ambient", 0.26, 0.60),
        rim=d.between("rim", 0.0, 0.5) if d.chance("rimmed", 0.4) else 0.0,
        exposure=d.between("exposure", 0.72, 1.30),
        balance=(
            1 + 0.13 * d.between("red", -1, 1) + tint,
            1.0,
            1 + 0.17 * d.between("blue", -1, 1),
        ),
        build=d.between("build", 0.92, 1.1),
        hair_volume=d.between("volume", 0.7, 1.3),
        cloth=_colour(d, "cloth", 0.05, 0.95),
        cloth_second=_colour(d, "cloth second", 0.05, 0.95),
        stripes=d.between("stripe width", 3.0, 8.0) if d.chance("striped", 0.3) else 0.0,
        collar=d.between("collar", -1.52, -1.28),
        collar_deep=d.between("collar deep", 0.0, 0.5),
        knit=_colour(d, "knit", 0.1, 0.9),
        knit_second=_colour(d, "knit second", 0.1, 0.9),
        hat=hat,
        hat_tilt=d.between("hat tilt", -0.06, 0.10),
        scarf=scarf,
        scarf_up=d.between("scarf up", 0.0, 0.22),
        glasses=glasses,
        dark_lenses=glasses and d.chance("dark lenses", 0.15),
        frame=_colour(d, "frame", 0.05, 0.45),
        frame_thick=d.between("frame thick", 0.011, 0.022),
        frame_tall=d.between("frame tall", 0.75, 1.1),
        frame_square=d.between("frame square", 0.0, 0.22),
        hand=hand,
        hand_side=1.0 if d.chance("hand side", 0.5) else -1.0,
        hand_up=d.between("hand up", -0.85, -0.55),
        blob=blob,
        blob_x=d.between("blob x", -0.02, 0.28)
        if d.chance("blob left", 0.5)
        else d.between("blob x", 0.72, 1.02),
        blob_y=d.between("blob y", 0.55, 1.0),
        blob_radius=d.between("blob radius", 0.14, 0.24),
        blob_colour=_colour(d, "blob", 0.1, 0.8),
        blur=d.index("blur", (6, 3, 1, 0.3)),
        noise=d.between("noise", 0.004, 0.015),
        seed=d.seed("seed"),
    )


class Scenery(Dice):
    """Draws for what stands behind a person."""

    def colour(self, name: str) -> RGB:
        return _colour(self, name, 0.12, 0.95, dull=0.35 + 0.6 * self.unit(name + "/dull"))


def scenery(t: Take) -> Scenery:
    return Scenery(f"facewright sample scenery 1/{t.seed}")
