"""What benchmarks tell of several measurements of one thing, and of the CPU."""

import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """The median, and the least and the most."""
    figures = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in figures.items()}


def cpu() -> dict[str, Any]:
    """What this machine has for bf16, on which rates of networks hang."""
    import torch  # which not every benchmark needs

    can = torch.cpu.get_capabilities()
    units = {name: bool(can.get(name)) for name in ("amx_bf16", "avx512_bf16")}
    about = {"cpu": can.get("cpu_name"), "torch_cpu": torch.backends.cpu.get_cpu_capability()}
    return about | units | {"threads": torch.get_num_threads()}
