"""What benchmarks tell of several measurements of one thing."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """The median, and the least and the most."""
    figures = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in figures.items()}
