"""Drift: a set beside its previous version, by the distributions of what was measured.

A profile is what remains of a set: counts, and for each measure the deciles and the share of the
images in each bin between them. The population stability index compares shares bin by bin,
PSI = Σ (now − then) · ln(now ÷ then); below 0.1 nothing has changed, above 0.25 the population has
(Siddiqi, Credit Risk Scorecards, Wiley 2006).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import DatasetError

MEASURED = ("side", "sharpness", "brightness", "colour")
COUNTS = ("images", "identities", "ok")
PER_IDENTITY = "images_per_identity"
DECILES = np.arange(1, 10) / 10
LEAST = 1e-4  # share that an empty bin counts as: its logarithm must stay a number
DIGITS = 6  # of what is written; an index below that is nothing

Profile = dict[str, dict[str, Any]]  # "train" and "verify" → counts and measures


def profile(table: pd.DataFrame) -> dict[str, Any]:
    """Counts and distributions of one set, of all its images that can be decoded.

    `table` has identity, status and the measures. Returns what JSON can hold, sorted by name.
    """
    values = _values(table)
    counts = (len(table), table["identity"].nunique(), int((table["status"] == "ok").sum()))
    summary: dict[str, Any] = dict(zip(COUNTS, counts, strict=True))
    for name, of in values.items():
        # A decile that repeats would make a bin that nothing can fall into.
        deciles = np.quantile(of, DECILES).tolist() if len(of) else []
        edges = np.unique([_rounded(decile) for decile in deciles])
        summary[name] = {
            "edges": edges.tolist(),
            "shares": [_rounded(share) for share in _shares(of, edges)],
            "mean": _rounded(float(of.mean())) if len(of) else None,
        }
    return dict(sorted(summary.items()))


def compare(tables: dict[str, pd.DataFrame], reference: Profile) -> pd.DataFrame:
    """The sets beside the profile of their previous versions.

    Returns one row per set and measure: measure (`train brightness`), drift (the stability
    index; of a count its relative change), then and now (counts, or means).
    """
    rows = []
    for half, table in tables.items():
        old, now = reference[half], profile(table)
        for name in COUNTS:
            change = now[name] / max(old[name], 1) - 1
            rows.append((f"{half} {name}", round(change, DIGITS), old[name], now[name]))
        for name, values in _values(table).items():
            shares = _shares(values, np.array(old[name]["edges"]))
            index = round(stability_index(np.array(old[name]["shares"]), shares), DIGITS)
            rows.append((f"{half} {name}", index, old[name]["mean"], now[name]["mean"]))
    table = pd.DataFrame(rows, columns=["measure", "drift", "then", "now"])
    return table.astype({"drift": float, "then": float, "now": float})


def stability_index(then: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares, each summing to 1; 0 if they agree."""
    then, now = np.maximum(then, LEAST), np.maximum(now, LEAST)
    return float(((now - then) * np.log(now / then)).sum())


def read_reference(path: Path) -> Profile | None:
    """The profile at `path`, None if there is no file.

    Raises:
        DatasetError: it is no profile, or has not what is measured today.
    """
    if not path.exists():
        return None
    try:
        found: Profile = json.loads(path.read_text(encoding="utf-8"))
        for half in ("train", "verify"):
            for name in COUNTS:
                float(found[half][name])
            for name in (*MEASURED, PER_IDENTITY):
                edges, shares = (
                    np.array(found[half][name][key], float) for key in ("edges", "shares")
                )
                if edges.ndim != 1 or shares.shape != (len(edges) + 1,) or any(np.diff(edges) <= 0):
                    raise ValueError(f"the bins of {half} {name} are none")
                float(found[half][name]["mean"] or 0)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is no profile of this version ({error}): copy artifacts/validate/profile.json "
            "of the previous set there, or remove it"
        ) from error
    return found


def _values(table: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    whole = table[table["decodable"] == 1]
    values = {name: whole[name].to_numpy(np.float64) for name in MEASURED}
    values[PER_IDENTITY] = table["identity"].value_counts().to_numpy(np.float64)
    return values


def _shares(
    values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shares of `values` below the first edge, between each two, and from the last on."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    shares: npt.NDArray[np.float64] = counts / max(len(values), 1)
    return shares


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
