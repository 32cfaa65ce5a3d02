"""Plots of error rates over thresholds, and of similarities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from facewright.evaluation.svg import (
    Axis,
    Frame,
    decade_below,
    dot,
    line,
    path,
    round_up,
    series,
    staircase,
    text,
)

APART = 6  # px between the marks of recognizers at one place, less where they are many
ASIDE = 24  # px that all of them may take
BANDS = 4  # more of them would hide each other


def det_plot(
    curves: Mapping[str, pd.DataFrame],
    points: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    finest: float,
    supported: float,
    smallest: float,
) -> str:
    """FNMR over FMR, both logarithmic (ISO/IEC 19795-1 on DET curves), with what is reported.

    Args:
        curves: frames from `curves.roc`, by recognizer.
        points: for each recognizer, the figures to mark: `fmr`, `fnmr`, `low`, `high`, and `bound`
            (the FMR is only known to be at most that).
        finest: the FMR of one accepted impostor pair.
        supported: the lowest FMR that is reported; to the left of it the plot is shaded.
        smallest: the FNMR of one genuine pair.
    """
    frame = Frame(
        across=Axis(decade_below(finest), 1.0, logarithmic=True),
        up=Axis(decade_below(smallest), 1.0, logarithmic=True),
        width=460,
        height=400,
    )
    parts = [_unsupported(frame, supported), frame.grid("FMR", "FNMR")]
    diagonal = max(supported, frame.up.low)
    parts.append(line(frame.x(diagonal), frame.y(diagonal), frame.x(1.0), frame.y(1.0), "diagonal"))
    for number, (name, curve) in enumerate(curves.items()):
        rates = list(zip(curve["fmr"], curve["fnmr"], strict=True))
        parts.append(path(staircase(frame.x, frame.y, rates), series(number, "line"), told=name))
    for number, (name, marks) in enumerate(points.items()):
        shift = (number - (len(points) - 1) / 2) * min(APART, ASIDE / len(points))
        for mark in marks:
            at, kind = frame.x(mark["fmr"]) + shift, "bound" if mark["bound"] else "dot"
            ends = frame.y(mark["low"]), frame.y(mark["high"])
            told = f"{name}: FNMR {mark['fnmr']:.4g} [{mark['low']:.4g}, {mark['high']:.4g}]"
            parts.append(line(at, ends[0], at, ends[1], series(number, "whisker")))
            parts.append(dot(at, frame.y(mark["fnmr"]), series(number, kind), told=told))
    return frame.drawing("DET: FNMR over FMR, both logarithmic", parts)


def roc_plot(curves: Mapping[str, pd.DataFrame], *, finest: float, supported: float) -> str:
    """1 - FNMR over FMR on a logarithmic axis; arguments as of `det_plot`."""
    frame = Frame(
        across=Axis(decade_below(finest), 1.0, logarithmic=True),
        up=Axis(0.0, 1.0),
        width=460,
        height=400,
    )
    told = "too few impostor pairs to report"
    parts = [frame.area(frame.across.low, supported, "unsupported", told=told)]
    parts.append(frame.grid("FMR", "1 - FNMR"))
    for number, (name, curve) in enumerate(curves.items()):
        rates = list(zip(curve["fmr"], 1 - curve["fnmr"], strict=True))
        parts.append(path(staircase(frame.x, frame.y, rates), series(number, "line"), told=name))
    return frame.drawing("ROC: 1 - FNMR over FMR", parts)


def _unsupported(frame: Frame, supported: float) -> str:
    """Shade where too few impostor pairs decide, with a word where there is room for it."""
    words = ("too few", "impostor pairs", "to report")
    area = frame.area(frame.across.low, supported, "unsupported", told=" ".join(words))
    middle = (frame.left + frame.x(supported)) / 2
    if middle - frame.left < 44:
        return area
    lowest = frame.height - frame.bottom - 10
    return area + "".join(
        text(middle, lowest - 15 * (len(words) - 1 - n), word, anchor="middle", kind="aside")
        for n, word in enumerate(words)
    )


def histogram_plot(
    name: str,
    histogram: pd.DataFrame,
    *,
    thresholds: Sequence[tuple[str, float]],
    tallest: float,
) -> str:
    """Share of genuine and of impostor pairs per bin of similarity, with thresholds.

    Args:
        histogram: from `curves.score_histogram`.
        thresholds: kind of line (a class of the page) and similarity.
        tallest: a share, that of the highest bin of all recognizers.
    """
    low, high = histogram["low"].iloc[0], histogram["high"].iloc[-1]
    frame = Frame(
        across=Axis(float(low), float(high), share=False),
        up=Axis(0.0, round_up(max(tallest, 0.02))),
        width=320,
        height=210,
    )
    parts = [frame.grid("similarity", "share of pairs")]
    for kind in ("impostor", "genuine"):
        shares = histogram[kind] / max(int(histogram[kind].sum()), 1)
        points = [(frame.x(low), frame.y(0.0))]
        for start, end, part in zip(histogram["low"], histogram["high"], shares, strict=True):
            points += [(frame.x(start), frame.y(part)), (frame.x(end), frame.y(part))]
        points.append((frame.x(high), frame.y(0.0)))
        parts.append(path(points, f"area {kind}", end="Z", told=f"{kind} pairs"))
    floor = frame.height - frame.bottom
    for kind, threshold in thresholds:
        if low <= threshold <= high:
            at = frame.x(threshold)
            parts.append(line(at, frame.top, at, floor, f"threshold {kind}"))
    return frame.drawing(f"Similarities of {name}", parts)


def reliability_plot(name: str, table: pd.DataFrame) -> str:
    """Share of genuine pairs over the probability that was predicted, with 95 % intervals.

    Args:
        table: from `calibration.reliability`. A dot's area says how many pairs it stands for.
    """
    frame = Frame(across=Axis(0.0, 1.0), up=Axis(0.0, 1.0), width=320, height=290)
    parts = [frame.grid("predicted probability", "share that is genuine")]
    parts.append(line(frame.x(0.0), frame.y(0.0), frame.x(1.0), frame.y(1.0), "diagonal"))
    largest = table["pairs"].max()
    for row in table.to_dict("records"):
        at = frame.x(row["predicted"])
        parts.append(
            line(at, frame.y(row["genuine_low"]), at, frame.y(row["genuine_high"]), "whisker s0")
        )
        told = (
            f"predicted {row['predicted']:.3f}, genuine {row['genuine']:.3f} "
            f"[{row['genuine_low']:.3f}, {row['genuine_high']:.3f}], {row['pairs']:,} pairs"
        )
        radius = 2.5 + 5.5 * np.sqrt(row["pairs"] / largest)
        parts.append(
            dot(at, frame.y(row["genuine"]), "dot s0", radius=round(float(radius), 1), told=told)
        )
    return frame.drawing(f"Reliability of the probabilities of {name}", parts)


def cmc_plot(curves: Mapping[str, pd.DataFrame]) -> str:
    """Share of searches whose person is within the first R, over R; of up to BANDS with 95 % bands.

    Args:
        curves: frames from `identification.cmc`, by recognizer.
    """
    ranks = max(int(curve["rank"].max()) for curve in curves.values())
    lowest = min(float(curve["low"].min()) for curve in curves.values())
    frame = Frame(
        across=Axis(1.0, max(ranks, 2), share=False),
        up=Axis(min(np.floor(lowest * 10) / 10, 0.9), 1.0),
        width=460,
        height=320,
    )
    parts = [frame.grid("rank", "found within that rank")]
    for number, (name, curve) in enumerate(curves.items()):
        across = [frame.x(rank) for rank in curve["rank"]]
        if len(curves) <= BANDS:
            upper = list(zip(across, map(frame.y, curve["high"]), strict=True))
            lower = list(zip(across, map(frame.y, curve["low"]), strict=True))
            parts.append(path(upper + lower[::-1], series(number, "band"), end="Z"))
        points = list(zip(across, map(frame.y, curve["rate"]), strict=True))
        parts.append(path(points, series(number, "line"), told=name))
    return frame.drawing("CMC: searches that find their person, by rank", parts)
