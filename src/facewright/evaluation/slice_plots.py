"""A plot of error rates by slice: a dot and its interval for each slice and recognizer."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from facewright.evaluation.svg import (
    TEXT,
    Axis,
    Frame,
    dot,
    line,
    round_up,
    series,
    shortened,
    text,
)

TRIALS = {"fnmr": "genuine", "fmr": "compared"}
MOST_SLICES = 24
LONGEST = 20  # letters of a slice's name
ENOUGH = 30  # pairs of a slice whose interval may widen the axis


def most_pairs(table: pd.DataFrame, column: str) -> list[str]:
    """The values of a column, in order; of many those MOST_SLICES with the most pairs."""
    part = table[table["column"] == column]
    pairs = part["genuine"] + part["compared"]
    kept = pairs.nlargest(MOST_SLICES).index
    return [str(value) for value in part.loc[part.index.isin(kept), "value"]]


def slice_plot(tables: Mapping[str, pd.DataFrame], column: str, rate: str) -> str:
    """`rate` of each slice along a column, and the rate of all pairs as a line.

    Args:
        tables: from `slice_table`, by recognizer; all of the same slices.
        rate: `fnmr` or `fmr`.
    """
    first = next(iter(tables.values()))
    names = most_pairs(first, column)
    parts_of = {
        name: table[table["column"] == column].set_index("value").loc[names]
        for name, table in tables.items()
    }
    rows = max(22, 9 * len(tables) + 10)
    left = round(min(LONGEST, max(map(len, names))) * TEXT) + 15
    frame = Frame(
        across=Axis(0.0, _top(parts_of, rate)),
        up=Axis(0.0, len(names), share=False),
        width=420,
        height=rows * len(names) + 58,
        left=left,
        right=58,
    )
    floor = frame.height - frame.bottom
    parts = []
    for value, label in frame.across.ticks():
        at = frame.x(value)
        parts.append(line(at, frame.top, at, floor, "grid"))
        parts.append(text(at, floor + 17, label, anchor="middle"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(text(middle, frame.height - 7, rate.upper(), anchor="middle", kind="title"))
    parts.append(text(frame.width - 4, floor + 17, "pairs", anchor="end"))
    for row, name in enumerate(names):
        y = frame.top + rows * (row + 0.5)
        if row:
            parts.append(
                line(0, frame.top + rows * row, frame.width, frame.top + rows * row, "grid")
            )
        parts.append(text(left - 11, y + 4, shortened(name, LONGEST), anchor="end", kind="title"))
        pairs = next(iter(parts_of.values()))[TRIALS[rate]].loc[name]
        parts.append(text(frame.width - 4, y + 4, f"{pairs:,}", anchor="end"))
    for number, (recognizer, part) in enumerate(parts_of.items()):
        overall = float(tables[recognizer][rate].iloc[0])
        if np.isfinite(overall):
            at = frame.x(overall)
            parts.append(line(at, frame.top, at, floor, series(number, "overall")))
        shift = (number - (len(parts_of) - 1) / 2) * 9
        for row, found in enumerate(part[[rate, f"{rate}_low", f"{rate}_high"]].to_numpy()):
            value, low, high = map(float, found)
            if not np.isfinite(value):
                continue
            y = frame.top + rows * (row + 0.5) + shift
            parts.append(line(frame.x(low), y, frame.x(high), y, series(number, "whisker")))
            if high > frame.across.high:
                parts.append(text(frame.x(high) + 1, y + 4, "›", kind=series(number, "beyond")))
            told = f"{recognizer}, {names[row]}: {value:.4g} [{low:.4g}, {high:.4g}]"
            parts.append(dot(frame.x(value), y, series(number, "dot"), told=told))
    return frame.drawing(f"{rate.upper()} by {column}", parts)


def _top(parts: Mapping[str, pd.DataFrame], rate: str) -> float:
    """The end of the axis: all rates, and the intervals of slices that have pairs enough."""
    ends = [0.001]
    for part in parts.values():
        enough = part[TRIALS[rate]] >= ENOUGH
        ends += [*part[rate].dropna(), *part.loc[enough, f"{rate}_high"].dropna()]
    return min(1.0, round_up(max(ends)))
