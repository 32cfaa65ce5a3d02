from collections.abc import Callable
from typing import Any

import pytest

from facewright.evaluation import verification_metrics
from facewright.evaluation.table import (
    bound_text,
    estimate,
    finest_fmr,
    fmr_targets,
    number,
    percent,
    table,
    upward,
)

from ...generated_answers import NAMES


@pytest.fixture(scope="module")
def rows(make_scores: Callable) -> list[dict[str, Any]]:
    rows = []
    for seed, name in enumerate(NAMES):
        scores, identities = make_scores(seed=seed, failures=0.02, per_fold=220)
        figures = verification_metrics(
            scores,
            identities=identities,
            fmr_targets=[0.1, 0.01, 0.001],
            bootstrap=100,
            seed=0,
        )
        rows.append({"recognizer": name, "megabytes": 10.44, "latency_ms": 3.219, **figures})
    return rows


def test_table_is_aligned_and_fits_the_terminal(rows: list) -> None:
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines}) == 1
    assert "FNMR @ FMR 1 %" in lines[0]
    assert f"{percent(rows[0]['accuracy'])} % [{percent(rows[0]['accuracy_low'])}, " in lines[2]
    assert lines[2].split()[-2:] == ["10.4", "3.22"]


def test_table_reports_the_finest_fmr_that_all_rows_have(rows: list) -> None:
    coarse = {key: value for key, value in rows[1].items() if "0.01" not in key}
    assert "FNMR @ FMR 10 %" in table([rows[0], coarse])
    none = {key: value for key, value in coarse.items() if not key.startswith("fnmr")}
    assert "FNMR" not in table([rows[0], none])
    assert table([{**none, "megabytes": None}]).split()[-2] == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.91234, "91.2"),
        (1.0, "100.0"),
        (0.9996, "99.96"),
        (0.99996, "99.996"),
        (1 - 1 / 3e7, "99.999997"),
        (0.0004, "0.04"),
        (0.00004, "0.004"),
        (1 / 3e7, "0.000003"),
        (1e-17, "0.0"),
        (1 - 1e-16, "100.0"),
    ],
)
def test_per_cent_does_not_round_an_error_away(value: float, text: str) -> None:
    assert percent(value) == text


def test_numbers_have_three_digits() -> None:
    assert [number(v) for v in (None, 0.01234, 8.213, 143.6)] == ["–", "0.0123", "8.21", "144"]


@pytest.mark.parametrize(
    ("impostors", "text"), [(1500, "2e-3"), (3000, "1e-3"), (2900, "1.1e-3"), (29, "0.099")]
)
def test_a_bound_is_rounded_up(impostors: int, text: str) -> None:
    bound = 1 - 0.05 ** (1 / impostors)
    assert upward(bound) == text
    assert bound <= float(text) < 1.1 * bound
    row = {"impostor": impostors + 7, "failures_impostor": 7, "fmr_bound": bound}
    assert bound_text(row) == (
        f"FMR ≤ {text} at 95 %: {impostors:,} impostors, none accepted, pairs taken as independent"
    )


def test_what_cannot_be_told_is_one() -> None:
    assert upward(1.0) == "1"


def test_a_figure_without_an_interval_and_one_that_is_missing() -> None:
    row = {"eer": 0.05, "eer_low": 0.04, "eer_high": 0.06, "fnmr": 0.5}
    assert estimate(row, "eer") == ("5.0 %", "[4.0, 6.0]")
    assert estimate(row, "fnmr") == ("50.0 %", "")
    assert estimate(row, "fmr") == ("–", "")


def test_targets_are_neither_bounds_nor_ends_nor_parts_of_the_pairs() -> None:
    keys = ("0.1", "0.1_low", "bound", "bound_low", "0.01", "0.01_without_overlap", "1e-05")
    row = {f"fnmr_at_fmr_{key}": 0.0 for key in keys}
    assert fmr_targets([row]) == ["0.1", "0.01", "1e-05"]
    assert finest_fmr([row]) == "1e-05"
