"""Drift: the index by its definition, profiles that compare with themselves, bad references."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facewright.datasets.validation.drift import compare, profile, read_reference, stability_index
from facewright.datasets.validation.rules import Limits, all_rules
from facewright.errors import DatasetError
from facewright.files import write_json
from tests.unit.datasets.validation.photos import LIMITS


def table(*, shift: float = 0.0, count: int = 4000) -> pd.DataFrame:
    random = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "identity": [f"id{k // 8}" for k in range(count)],
            "status": "ok",
            "decodable": 1,
            "side": 250.0,
            "sharpness": random.gamma(2, 50, count),
            "brightness": random.normal(120 + shift, 20, count),
            "colour": random.normal(40, 8, count),
        }
    )


def test_the_index_by_hand() -> None:
    """Three bins: (0.3−0.5) ln 0.6 + (0.3−0.3) ln 1 + (0.4−0.2) ln 2."""
    index = stability_index(np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4]))
    assert index == pytest.approx(0.2 * np.log(1 / 0.6) + 0.2 * np.log(2))
    assert stability_index(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    assert np.isfinite(stability_index(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_a_set_does_not_drift_from_itself() -> None:
    half = table()
    reference = {"train": profile(half), "verify": profile(half)}
    drift = compare({"train": half, "verify": half}, reference).set_index("measure")
    assert drift["drift"].dropna().abs().max() < 1e-9
    assert (drift["then"] == drift["now"]).all()
    assert {"train brightness", "train images_per_identity", "verify side"} <= set(drift.index)
    assert drift.loc[["train images", "train identities", "train ok"], "now"].tolist() == [
        4000,
        500,
        4000,
    ]


def test_only_what_changed_drifts_and_more_the_more() -> None:
    reference = {"train": profile(table()), "verify": profile(table())}
    indices = []
    for shift in (2, 10, 30):
        drift = compare({"train": table(shift=shift)}, reference).set_index("measure")["drift"]
        indices.append(drift["train brightness"])
        assert drift["train colour"] == pytest.approx(0, abs=1e-9)
    assert indices == sorted(indices)
    # A normal distribution that moves by d standard deviations has PSI d² (twice half of d²).
    assert indices[0] == pytest.approx(0.1**2, rel=0.3)
    assert indices[1] == pytest.approx(0.5**2, rel=0.3)


@pytest.mark.parametrize(("left", "broken"), [(3200, False), (2000, True), (6000, True)])
def test_a_count_that_changed_much_breaks_the_rule(left: int, broken: bool) -> None:
    """Fewer or more photos of the same kind: no distribution moves."""
    (rule,) = all_rules(Limits(**LIMITS | {"max_drift": 0.25})).drift
    reference = {"train": profile(table()), "verify": profile(table())}
    drift = compare({"train": table(count=left)}, reference).set_index("measure")
    assert drift.loc["train images", "drift"] == pytest.approx(left / 4000 - 1)
    assert rule.broken(drift)["train images"] == broken
    assert not rule.broken(drift)["train brightness"]


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = {"train": profile(table()), "verify": profile(table(count=8))}
    write_json(tmp_path / "reference.json", written)
    assert read_reference(tmp_path / "reference.json") == written
    assert read_reference(tmp_path / "none.json") is None
    assert sum(written["train"]["sharpness"]["shares"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"colour"', '"hue"'),
        lambda text: text.replace('"shares": [', '"shares": [0.5, '),
        lambda text: text.replace('"images":', '"image":'),
    ],
)
def test_other_references_are_refused(tmp_path: Path, damage: object) -> None:
    text = json.dumps({"train": profile(table()), "verify": profile(table())})
    path = tmp_path / "reference.json"
    path.write_text(damage(text))  # type: ignore[operator]
    with pytest.raises(DatasetError, match=r"reference\.json is no profile of this version"):
        read_reference(path)
