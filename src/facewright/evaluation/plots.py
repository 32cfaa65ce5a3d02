"""Two plots as inline SVG. Colours come from the page's CSS, so that they suit light and dark."""

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd

LEFT, RIGHT, TOP, BOTTOM = 58, 26, 14, 46  # px around the axes
SERIES = 8  # colours that the page defines; further lines start over, dashed


def roc_plot(curves: Mapping[str, pd.DataFrame], *, finest: float, supported: float) -> str:
    """1 - FNMR over FMR on a logarithmic axis.

    Args:
        curves: frames from `curves.roc`, by recognizer.
        finest: left end of the axis, the FMR of one accepted impostor pair.
        supported: the lowest FMR that is reported; to the left of it the plot is hatched.
    """
    width, height = 720, 400
    decades = max(1, int(np.ceil(-np.log10(finest) - 1e-9)))

    def x(fmr: float) -> float:
        place = 1 + np.log10(max(fmr, 10.0**-decades)) / decades
        return float(LEFT + place * (width - LEFT - RIGHT))

    def y(match: float) -> float:
        return TOP + (1 - match) * (height - TOP - BOTTOM)

    parts = [_open(width, height, "ROC: 1 - FNMR over FMR")]
    parts.append(
        '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line y2="7" class="hatch"/></pattern></defs>'
    )
    edge = x(min(supported, 1.0))
    parts.append(
        f'<rect x="{LEFT}" y="{TOP}" width="{edge - LEFT:.1f}" height="{height - TOP - BOTTOM}" '
        'fill="url(#hatch)"><title>too few impostor pairs</title></rect>'
    )
    for tick in range(-decades, 1):
        label = f"{100 * 10.0**tick:g} %"
        parts.append(_vertical(x(10.0**tick), height, label))
    for tick in range(0, 11, 2):
        parts.append(_horizontal(y(tick / 10), width, f"{10 * tick} %"))
    if edge - LEFT > 150:
        parts.append(
            f'<text x="{LEFT + 8}" y="{height - BOTTOM - 10}" class="aside">'
            "too few impostor pairs to report</text>"
        )
    for number, (name, curve) in enumerate(curves.items()):
        # A step: FNMR holds until the next impostor pair is accepted.
        points = [(x(curve["fmr"].iloc[0]), y(1 - curve["fnmr"].iloc[0]))]
        for fmr, fnmr in zip(curve["fmr"], curve["fnmr"], strict=True):
            points += [(x(fmr), points[-1][1]), (x(fmr), y(1 - fnmr))]
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        dash = ' stroke-dasharray="6 4"' if number >= SERIES else ""
        parts.append(
            f'<path d="{path}" class="line s{number % SERIES}"{dash}>'
            f"<title>{escape(name)}</title></path>"
        )
    parts.append(_axis_titles(width, height, "FMR", "1 - FNMR"))
    return "".join(parts) + "</svg>"


def histogram_plot(name: str, histogram: pd.DataFrame, *, threshold: float, tallest: float) -> str:
    """Share of genuine and of impostor pairs per bin of similarity, with the threshold.

    Args:
        histogram: from `curves.score_histogram`.
        tallest: top of the vertical axis, a share, the same for all recognizers.
    """
    width, height = 350, 220
    low, high = histogram["low"].iloc[0], histogram["high"].iloc[-1]

    def x(similarity: float) -> float:
        return float(LEFT + (similarity - low) / (high - low) * (width - LEFT - RIGHT))

    def y(part: float) -> float:
        return TOP + (1 - part / tallest) * (height - TOP - BOTTOM)

    parts = [_open(width, height, f"Similarities of {name}")]
    step = 0.25 if high - low <= 1.5 else 0.5
    for tick in np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step:
        parts.append(_vertical(x(tick), height, f"{tick:g}"))
    for part in (0.0, tallest / 2, tallest):
        parts.append(_horizontal(y(part), width, f"{100 * part:g} %"))
    for kind in ("impostor", "genuine"):
        shares = histogram[kind] / max(int(histogram[kind].sum()), 1)
        path = f"M{x(low):.1f} {y(0):.1f}"
        for start, end, part in zip(histogram["low"], histogram["high"], shares, strict=True):
            path += f"L{x(start):.1f} {y(part):.1f}L{x(end):.1f} {y(part):.1f}"
        parts.append(f'<path d="{path}L{x(high):.1f} {y(0):.1f}Z" class="area {kind}"/>')
    if low <= threshold <= high:
        parts.append(
            f'<line x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="{TOP}" '
            f'y2="{height - BOTTOM}" class="threshold"><title>threshold {threshold:.3f}</title>'
            "</line>"
        )
    parts.append(_axis_titles(width, height, "similarity", "share of pairs"))
    return "".join(parts) + "</svg>"


def _open(width: int, height: int, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _vertical(x: float, height: int, label: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}" class="grid"/>'
        f'<text x="{x:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{label}</text>'
    )


def _horizontal(y: float, width: int, label: str) -> str:
    return (
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _axis_titles(width: int, height: int, below: str, beside: str) -> str:
    middle_x, middle_y = (LEFT + width - RIGHT) / 2, (TOP + height - BOTTOM) / 2
    return (
        f'<text x="{middle_x}" y="{height - 8}" text-anchor="middle" class="title">{below}</text>'
        f'<text transform="translate(13 {middle_y}) rotate(-90)" text-anchor="middle" '
        f'class="title">{beside}</text>'
    )
