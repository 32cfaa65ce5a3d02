"""What the plots share: axes, their ticks, and a frame that places values on a drawing.

Plots are SVG inside the page. Colours come from the page's CSS, so that they suit light and dark.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

SERIES = 8  # colours that the page defines; further lines start over, dashed
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # of ticks, times a power of ten
MOST_TICKS = 6
TEXT = 7.3  # px, the width of a letter on average


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`; values beyond are drawn at its end."""

    low: float
    high: float
    logarithmic: bool = False
    share: bool = True  # its ticks are read as per cent

    def place(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`."""
        ends = np.array([self.low, self.high, min(max(value, self.low), self.high)])
        low, high, at = np.log10(ends) if self.logarithmic else ends
        return float((at - low) / (high - low))

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, and how they are written."""
        if self.logarithmic:
            first, last = np.ceil(np.log10(self.low) - 1e-9), np.floor(np.log10(self.high) + 1e-9)
            values = 10.0 ** np.arange(first, last + 1)
        else:
            step = tick_step(self.high - self.low)
            first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
            values = np.arange(first, last + 1) * step + 0.0  # no -0
        return [(float(v), f"{100 * v:.6g} %" if self.share else f"{v:.6g}") for v in values]


def tick_step(span: float) -> float:
    """A round step that puts at most MOST_TICKS ticks on `span`."""
    rough = span / (MOST_TICKS - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9)))


def round_up(value: float) -> float:
    """The next tick at or above `value`, as the end of an axis from 0."""
    step = tick_step(value)
    return float(np.ceil(value / step - 1e-9) * step)


def decade_below(value: float) -> float:
    """The power of ten at or below `value`, and at most 0.1: the low end of a logarithmic axis."""
    return float(min(0.1, 10.0 ** np.floor(np.log10(value) + 1e-9)))


@dataclass(frozen=True)
class Frame:
    """A drawing of `width` × `height` units with two axes; the edges are left to their words."""

    across: Axis
    up: Axis
    width: int
    height: int
    left: int = 56
    right: int = 22
    top: int = 12
    bottom: int = 46

    def x(self, value: float) -> float:
        return self.left + self.across.place(value) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        return (
            self.height
            - self.bottom
            - self.up.place(value) * (self.height - self.top - self.bottom)
        )

    def grid(self, below: str, beside: str) -> str:
        """Grid lines with their labels, and the titles of both axes."""
        end, floor = self.width - self.right, self.height - self.bottom
        parts = []
        for value, label in self.across.ticks():
            at = self.x(value)
            parts.append(line(at, self.top, at, floor, "grid"))
            parts.append(text(at, floor + 17, label, anchor="middle"))
        for value, label in self.up.ticks():
            at = self.y(value)
            parts.append(line(self.left, at, end, at, "grid"))
            parts.append(text(self.left - 7, at + 4, label, anchor="end"))
        middle_x, middle_y = (self.left + end) / 2, (self.top + floor) / 2
        parts.append(text(middle_x, self.height - 7, below, anchor="middle", kind="title"))
        parts.append(
            f'<text transform="translate(12 {middle_y:.1f}) rotate(-90)" text-anchor="middle" '
            f'class="title">{escape(beside)}</text>'
        )
        return "".join(parts)

    def area(self, x_low: float, x_high: float, kind: str, *, told: str) -> str:
        """All of the height between two places on the axis across."""
        start, end = self.x(x_low), self.x(x_high)
        return (
            f'<rect x="{start:.1f}" y="{self.top}" width="{max(end - start, 0):.1f}" '
            f'height="{self.height - self.top - self.bottom}" class="{kind}">'
            f"<title>{escape(told)}</title></rect>"
        )

    def drawing(self, label: str, parts: Sequence[str]) -> str:
        return drawing(self.width, self.height, label, parts)


def drawing(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """The whole SVG; `label` is read aloud in its place."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label, quote=True)}" xmlns="http://www.w3.org/2000/svg">'
        + "".join(parts)
        + "</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>'
        f"{escape(words, quote=False)}</text>"
    )


def path(points: Sequence[tuple[float, float]], kind: str, *, told: str = "", end: str = "") -> str:
    """A line through points of the drawing; `end` may be Z, to close it."""
    title = f"<title>{escape(told)}</title>" if told else ""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}{end}" class="{kind}">{title}</path>'


def dot(x: float, y: float, kind: str, *, radius: float = 3.6, told: str = "") -> str:
    title = f"<title>{escape(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">{title}</circle>'


def series(number: int, kind: str) -> str:
    """Class names of what belongs to the recognizer of that number."""
    return f"{kind} s{number % SERIES}" + (" dashed" if number >= SERIES else "")


def legend(entries: Mapping[str, str]) -> str:
    """A list below plots: kind of the key → words, which are escaped here."""
    items = "".join(
        f'<li><i class="key {kind}"></i>{escape(words)}</li>' for kind, words in entries.items()
    )
    return f'<ul class="legend">{items}</ul>'


def legend_of(names: Sequence[str], more: Mapping[str, str] | None = None) -> str:
    """The legend of plots with a colour for each of `names`."""
    return legend({series(n, "line"): name for n, name in enumerate(names)} | dict(more or {}))


def staircase(
    x: Callable[[float], float], y: Callable[[float], float], rates: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Points of a curve that holds its value until the next one begins."""
    points: list[tuple[float, float]] = []
    for across, up in rates:
        if points:
            points.append((x(across), points[-1][1]))
        points.append((x(across), y(up)))
    return points


def shortened(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
