"""What the drawings say is where it should be."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from facewright.evaluation.curves import roc, score_histogram
from facewright.evaluation.plots import (
    cmc_plot,
    det_plot,
    histogram_plot,
    reliability_plot,
    roc_plot,
)
from facewright.evaluation.slice_plots import MOST_SLICES, most_pairs, slice_plot
from facewright.evaluation.svg import Axis, Frame, decade_below, round_up, series, tick_step

from ...generated_answers import generated


def numbers(svg: str, tag: str, kind: str, *names: str) -> np.ndarray:
    """Attributes of all tags of a class."""
    found = re.findall(rf'<{tag} [^>]*class="{kind}(?: [^"]*)?"[^>]*>', svg)
    return np.array([[float(re.search(rf' {n}="([^"]+)"', t)[1]) for n in names] for t in found])


def points(svg: str, kind: str) -> list[np.ndarray]:
    paths = re.findall(rf'<path d="M([^"Z]+)Z?" class="{kind}', svg)
    return [np.array([step.split() for step in path.split("L")], float) for path in paths]


@pytest.mark.parametrize(
    ("span", "step"),
    [(1.0, 0.2), (0.5, 0.1), (3.0, 1.0), (49.0, 10.0), (0.011, 0.0025), (2.0, 0.5)],
)
def test_ticks_are_round_and_few(span: float, step: float) -> None:
    assert tick_step(span) == pytest.approx(step)
    assert span / tick_step(span) <= 5 + 1e-9


def test_an_axis_ends_at_a_tick_and_starts_at_a_power_of_ten() -> None:
    assert round_up(0.137) == pytest.approx(0.15)
    assert [decade_below(v) for v in (1 / 3000, 1e-3, 0.5)] == pytest.approx([1e-4, 1e-3, 0.1])
    assert [label for _, label in Axis(1e-4, 1.0, logarithmic=True).ticks()] == [
        "0.01 %", "0.1 %", "1 %", "10 %", "100 %"
    ]  # fmt: skip
    assert [label for _, label in Axis(-0.4, 1.0, share=False).ticks()] == ["0", "0.5", "1"]


def test_a_scale_keeps_order_and_ratios_and_holds_what_is_beyond() -> None:
    axis = Axis(1e-3, 1.0, logarithmic=True)
    assert [axis.place(v) for v in (0.0, 1e-3, 1e-2, 1e-1, 1.0, 2.0)] == pytest.approx(
        [0, 0, 1 / 3, 2 / 3, 1, 1]
    )
    frame = Frame(across=axis, up=Axis(0.0, 1.0), width=460, height=400)
    assert (frame.x(1e-3), frame.x(1.0)) == (frame.left, frame.width - frame.right)
    assert (frame.y(0.0), frame.y(1.0)) == (frame.height - frame.bottom, frame.top)


def test_many_recognizers_are_told_apart_by_dashes() -> None:
    assert len({series(n, "line") for n in range(16)}) == 16


def test_det_draws_the_curve_the_marks_and_the_part_that_is_not_supported() -> None:
    answers, _, _ = generated()
    curves = {name: roc(answer.scores) for name, answer in answers.items()}
    marks = {name: [] for name in answers}
    marks["student"] = [
        {"fmr": 0.1, "fnmr": 0.2, "low": 0.1, "high": 0.3, "bound": False},
        {"fmr": 1e-3, "fnmr": 0.8, "low": 0.7, "high": 0.9, "bound": True},
    ]
    svg = det_plot(curves, marks, finest=5e-4, supported=5e-3, smallest=1 / 360)
    frame = Frame(
        across=Axis(1e-4, 1.0, logarithmic=True),
        up=Axis(1e-3, 1.0, logarithmic=True),
        width=460,
        height=400,
    )
    shaded = numbers(svg, "rect", "unsupported", "x", "width")[0]
    assert shaded.sum() == pytest.approx(frame.x(5e-3), abs=0.1)
    lines = points(svg, "line")
    assert len(lines) == 3
    for line, curve in zip(lines, curves.values(), strict=True):
        assert (np.diff(line[:, 0]) >= 0).all()  # a step to the right …
        assert (np.diff(line[:, 1]) >= 0).all()  # … and FNMR falls, downwards
        assert ((np.diff(line[:, 0]) == 0) | (np.diff(line[:, 1]) == 0)).all()
        middle = curve.iloc[len(curve) // 2]
        place = frame.x(middle["fmr"]), frame.y(middle["fnmr"])
        assert np.abs(line - place).sum(axis=1).min() < 0.2
    dot = numbers(svg, "circle", "dot", "cx", "cy")
    assert dot == pytest.approx(np.array([[frame.x(0.1), frame.y(0.2)]]), abs=0.1)
    whisker = numbers(svg, "line", "whisker", "y1", "y2")
    assert whisker[0] == pytest.approx([frame.y(0.1), frame.y(0.3)], abs=0.1)
    assert len(numbers(svg, "circle", "bound", "cx")) == 1


def test_roc_is_the_mirror_of_the_error_rates() -> None:
    answers, _, _ = generated()
    curve = roc(answers["teacher"].scores)
    (line,) = points(roc_plot({"teacher": curve}, finest=5e-4, supported=5e-3), "line")
    assert (np.diff(line[:, 1]) <= 0).all()
    top, floor = 12, 400 - 46
    last = 1 - curve["fnmr"].iloc[-1]
    assert line[-1, 1] == pytest.approx(floor - last * (floor - top), abs=0.1)


def test_histograms_have_the_area_of_their_shares_and_thresholds_in_place() -> None:
    answers, _, _ = generated()
    histogram = score_histogram(answers["teacher"].scores)
    svg = histogram_plot(
        "teacher", histogram, thresholds=[("folds", 0.5), ("target", 7.0)], tallest=0.3
    )
    areas = [np.abs(np.trapezoid(a[:, 1].max() - a[:, 1], a[:, 0])) for a in points(svg, "area")]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)  # each is all of its pairs
    (threshold,) = numbers(svg, "line", "threshold", "x1", "x2")
    assert threshold == pytest.approx(56 + 0.75 * (320 - 56 - 22), abs=0.1)


def test_reliability_puts_true_probabilities_on_the_diagonal() -> None:
    table = pd.DataFrame(
        {
            "predicted": [0.25, 0.75],
            "genuine": [0.25, 0.5],
            "genuine_low": [0.2, 0.4],
            "genuine_high": [0.3, 0.6],
            "pairs": [100, 25],
        }
    )
    svg = reliability_plot("teacher", table)
    x, y, radius = numbers(svg, "circle", "dot", "cx", "cy", "r").T
    width, height = 320 - 56 - 22, 290 - 12 - 46
    assert (x - 56) / width == pytest.approx([0.25, 0.75], abs=1e-3)
    assert (290 - 46 - y) / height == pytest.approx([0.25, 0.5], abs=1e-3)
    assert radius[0] > radius[1]


def test_cmc_rises_inside_its_band() -> None:
    answers, _, _ = generated()
    svg = cmc_plot({name: answer.cmc for name, answer in answers.items()})
    lines, bands = points(svg, "line"), points(svg, "band")
    assert len(lines) == len(bands) == 3
    for line, band in zip(lines, bands, strict=True):
        upper, lower = band[: len(line)], band[len(line) :][::-1]
        assert (np.diff(line[:, 1]) <= 0).all()
        assert (upper[:, 1] <= line[:, 1]).all()
        assert (line[:, 1] <= lower[:, 1]).all()


def test_slices_have_a_row_each_and_dots_at_their_rates() -> None:
    answers, _, _ = generated()
    tables = {name: answer.slices for name, answer in answers.items()}
    svg = slice_plot(tables, "group", "fnmr")
    x, y = numbers(svg, "circle", "dot", "cx", "cy").T
    rates = [
        rate for table in tables.values() for rate in table.loc[table["column"] == "group", "fnmr"]
    ]
    assert len(x) == len(rates) == 9
    assert np.corrcoef(x, rates)[0, 1] > 0.99999
    assert len(set(np.round(y, 1))) == 9  # none covers another
    for word in ("north", "south", "mixed or unknown"):
        assert f">{word}</text>" in svg
    overall = numbers(svg, "line", "overall", "x1")[:, 0]
    assert (np.sort(overall) == overall).all()  # teacher is the best


def test_a_slice_of_few_pairs_does_not_squeeze_the_others() -> None:
    answers, _, _ = generated()
    table = answers["teacher"].slices.copy()
    rows = table.index[table["column"] == "group"]
    table.loc[rows, "fnmr"], table.loc[rows, "fnmr_high"] = 0.01, 0.02
    table.loc[rows[-1], ["genuine", "fnmr_high"]] = 3, 0.9
    svg = slice_plot({"teacher": table}, "group", "fnmr")
    ticks = [float(t) for t in re.findall(r">([0-9.]+) %</text>", svg)]
    assert max(ticks) <= 3
    assert svg.count('class="beyond') == 1


def test_of_many_slices_those_with_the_most_pairs_are_shown_in_order() -> None:
    count = 60
    table = pd.DataFrame(
        {
            "column": "camera",
            "value": [f"c{n:02d}" for n in range(count)],
            "genuine": np.arange(count),
            "compared": 0,
        }
    )
    assert most_pairs(table, "camera") == [f"c{n}" for n in range(count - MOST_SLICES, count)]


def test_a_rate_over_no_pair_is_left_out() -> None:
    answers, _, _ = generated()
    table = answers["teacher"].slices.copy()
    rows = table["value"] == "north"
    table.loc[rows, ["fnmr", "fnmr_low", "fnmr_high"]] = np.nan
    svg = slice_plot({"t": replace(answers["teacher"], slices=table).slices}, "group", "fnmr")
    assert "nan" not in svg
    assert len(numbers(svg, "circle", "dot", "cx")) == 2
