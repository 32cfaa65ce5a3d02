"""The figures of several recognizers as text: one line each, for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDEST_NAME = 22
MOST_DECIMALS = 12
FNMR = "fnmr_at_fmr_"


def finest_fmr(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The smallest FMR target that every row reports, as it stands in its key; None for none."""
    reported = [{key[len(FNMR) :] for key in row if _is_fnmr(key)} for row in rows]
    common = set.intersection(*reported) if reported else set()
    return min(common, key=float) if common else None


def fmr_targets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The FMR targets that any row reports, falling."""
    found = {key[len(FNMR) :] for row in rows for key in row if _is_fnmr(key)}
    return sorted(found, key=float, reverse=True)


def _is_fnmr(key: str) -> bool:
    """Not an end of an interval, the bound, or a figure of a part of the pairs."""
    return key.startswith(FNMR) and is_number(key[len(FNMR) :])


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """An aligned table, at most 100 columns wide, without a final newline.

    Args:
        rows: one per recognizer: `recognizer` (its name), the figures of `verification_metrics`,
            and where they are known `megabytes` (10⁶ bytes) and `latency_ms`.
    """
    fmr = finest_fmr(rows)
    header = ["recognizer", "accuracy [95 %]"]
    header += [f"FNMR @ FMR {share(fmr)} [95 %]"] if fmr else []
    header += ["EER", "not found", "MB", "ms/face"]
    lines = [header]
    for row in rows:
        name = str(row["recognizer"])
        line = [name if len(name) <= WIDEST_NAME else name[: WIDEST_NAME - 1] + "…"]
        line.append(joined(estimate(row, "accuracy")))
        line += [joined(estimate(row, FNMR + fmr))] if fmr else []
        line += [percent(row["eer"]) + " %", f"{row['failures']:.0f}"]
        line += [number(row.get("megabytes")), number(row.get("latency_ms"))]
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "─" * max(map(len, texts)), *texts[1:]])


def joined(figure: tuple[str, str]) -> str:
    """`93.1 % [91.8, 94.3]`, of a figure and its interval."""
    return " ".join(figure).rstrip()


def percent(value: float) -> str:
    """A share as per cent with one decimal, more where those would round an error away."""
    return decimals(100 * round(value, 12), 1, whole=100)  # ends of intervals may be nearly 0 or 1


def decimals(value: float, digits: int, *, whole: float = 1.0) -> str:
    """So many decimals, and more where nearly nothing would look like 0, or nearly all like all."""
    text = f"{value:.{digits}f}"
    if value not in (0, whole) and float(text) in (0, whole) and digits < MOST_DECIMALS:
        return decimals(value, digits + 1, whole=whole)
    return text


def share(key: str) -> str:
    """`0.001` as `0.1 %`"""
    return f"{100 * float(key):g} %"


def number(value: float | None) -> str:
    """Three significant digits, or a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def estimate(row: Mapping[str, Any], key: str) -> tuple[str, str]:
    """A share and its 95 % interval, `93.1 %` and `[91.8, 94.3]`; empty where there is none."""
    if key not in row:
        return "–", ""
    if f"{key}_low" not in row:
        return f"{percent(row[key])} %", ""
    low, high = percent(row[f"{key}_low"]), percent(row[f"{key}_high"])
    return f"{percent(row[key])} %", f"[{low}, {high}]"


def times(row: Mapping[str, Any], key: str) -> tuple[str, str]:
    """A ratio and its 95 % interval, `1.52 times` and `[1.10, 2.31]`; empty where there is none."""
    ends = [row.get(f"{key}_{end}") for end in ("low", "high")]
    return f"{row[key]:.2f} times", "" if None in ends else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def threshold_with_interval(value: float, low: float, high: float) -> tuple[str, str]:
    """`0.3127` and `[0.3002, 0.3251]`"""
    return f"{value:.4f}", f"[{low:.4f}, {high:.4f}]"


def upward(share: float) -> str:
    """Two digits, rounded up, since it is a bound: 0.0019952 as `2e-3`."""
    power = math.floor(math.log10(share))
    digits = math.ceil(share / 10.0 ** (power - 1) - 1e-9) / 10
    if digits >= 10:
        digits, power = digits / 10, power + 1
    return f"{digits * 10.0**power:.2g}" if power > -3 else f"{digits:g}e{power}"


def bound_text(row: Mapping[str, Any]) -> str:
    """What can be said of the FMR at a threshold that accepts no impostor pair.

    The bound holds for independent pairs. Those of few people are not, and show less.
    """
    impostors = row["impostor"] - row["failures_impostor"]
    return (
        f"FMR ≤ {upward(row['fmr_bound'])} at 95 %: {impostors:,.0f} impostors, none accepted, "
        "pairs taken as independent"
    )
