"""Arithmetic that gives the same bits on every machine.

IEEE 754 fixes the result of one addition, subtraction, multiplication, division or square root,
and numpy applies each of them element by element. Sums, dot products, matrix products, `exp`,
`pow` and the library sine depend on the vector unit, so none of them decides a pixel here.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

# Arrays of float32. The type is wider, because numpy's own stubs take float32 times a Python float
# for float64 (it stays float32).
F32 = npt.NDArray[Any]
I32 = npt.NDArray[np.int32]


class Dice:
    """Named uniform draws: the same key and name always give the same number.

    A draw depends on no other draw, so a new parameter leaves the old ones where they were.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def unit(self, name: str) -> float:
        """Uniform in [0, 1), a multiple of 2**-32."""
        digest = hashlib.sha256(f"{self.key}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 4294967296.0

    def between(self, name: str, low: float, high: float) -> float:
        return low + (high - low) * self.unit(name)

    def bell(self, name: str, low: float, high: float) -> float:
        """Mean of two uniforms: a triangle that peaks halfway between low and high."""
        half = (self.unit(name + "/a") + self.unit(name + "/b")) * 0.5
        return low + (high - low) * half

    def chance(self, name: str, probability: float) -> bool:
        return self.unit(name) < probability

    def index(self, name: str, weights: tuple[float, ...]) -> int:
        """An index drawn in proportion to the weights."""
        total = 0.0
        for weight in weights:
            total += weight
        mark = self.unit(name) * total
        for i, weight in enumerate(weights):
            mark -= weight
            if mark < 0.0:
                return i
        return len(weights) - 1

    def seed(self, name: str) -> int:
        """A 32-bit integer for `value_noise` and `pixel_noise`."""
        digest = hashlib.sha256(f"{self.key}/{name}".encode()).digest()
        return int.from_bytes(digest[4:8], "big")


def sine_cosine(turns: F32) -> tuple[F32, F32]:
    """Sine and cosine of an angle in turns, by polynomials; |error| < 2e-5, s² + c² = 1."""
    turns = np.asarray(turns, np.float32)
    turns = turns - np.floor(turns + np.float32(0.5))
    half = turns * np.float32(3.14159265)  # half the angle, in [-π/2, π/2]
    q = half * half
    s = half * (1 - q * (0.16666667 - q * (0.0083333333 - q * (0.00019841270 - q * 2.6e-6))))
    c = 1 - q * (0.5 - q * (0.041666667 - q * (0.0013888889 - q * (2.4801e-5 - q * 2.6e-7))))
    length = np.sqrt(s * s + c * c)
    s, c = s / length, c / length
    return (s * c) * np.float32(2), c * c - s * s


def rotation(turns: float) -> tuple[float, float]:
    """(cosine, sine) of one angle in turns."""
    s, c = sine_cosine(np.array([turns], np.float32))
    return float(c[0]), float(s[0])


def ramp(x: F32, low: float | F32, high: float | F32) -> F32:
    """Smoothstep: 0 up to `low`, 1 from `high` on; `low` > `high` gives the falling ramp."""
    t: F32 = np.minimum(np.maximum((x - low) / (high - low), 0), 1)
    smooth: F32 = t * t * (3 - 2 * t)
    return smooth


def bump(d2: F32) -> F32:
    """A hill of height 1 over the unit disc, from the squared distance to its centre."""
    k: F32 = np.maximum(1 - d2, 0)
    return k * k * k


def square(x: F32) -> F32:
    return x * x


def spline(knots: list[float], at: F32) -> F32:
    """Catmull–Rom through `knots`, spaced evenly over [0, len(knots) - 1]."""
    values: F32 = np.array([knots[0], *knots, knots[-1]], np.float32)
    i = np.minimum(np.floor(at).astype(np.int64), len(knots) - 2)
    u = at - i
    a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
    curve: F32 = b + 0.5 * u * (
        (c - a) + u * ((2 * a - 5 * b + 4 * c - d) + u * (3 * (b - c) + d - a))
    )
    return curve


def _hash(x: I32, y: I32, seed: int) -> npt.NDArray[np.uint32]:
    h = x.astype(np.uint32) * np.uint32(0x9E3779B1) + y.astype(np.uint32) * np.uint32(0x85EBCA77)
    h ^= np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def pixel_noise(height: int, width: int, seed: int) -> F32:
    """(height, width) float32 white noise in [-1, 1), triangular."""
    y, x = np.indices((height, width), np.int32)
    h = _hash(x, y, seed)
    low = (h & np.uint32(0xFFFF)).astype(np.float32)
    return ((h >> np.uint32(16)).astype(np.float32) + low) * np.float32(1 / 65536) - 1


def value_noise(x: F32, y: F32, seed: int) -> F32:
    """Smooth noise in [0, 1) with one lattice cell per unit of x and y.

    The lattice wraps every 64 cells; it is drawn once and looked up.
    """
    table = _lattice(seed)
    xf, yf = np.floor(x), np.floor(y)
    u, v = x - xf, y - yf
    xi, yi = xf.astype(np.int32) & 63, yf.astype(np.int32) & 63
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    at = yi * 65 + xi
    a, b = table[at], table[at + 65]
    a = a + u * (table[at + 1] - a)
    b = b + u * (table[at + 66] - b)
    noise: F32 = a + v * (b - a)
    return noise


def _lattice(seed: int) -> F32:
    y, x = np.indices((65, 65), np.int32)
    h = _hash(x & 63, y & 63, seed)
    return ((h >> np.uint32(8)).astype(np.float32) * np.float32(1 / 16777216)).reshape(-1)
