"""Suites: the rules as Great Expectations' own JSON, and a user's suites beside them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from facewright.datasets.validation.expectations import Expectations, Suite, read_own_suites
from facewright.errors import DatasetError
from tests.unit.datasets.validation.photos import (
    GOOD,
    Build,
    builder,
    flat,
    photo,
    reasons,
    validate,
)

SHARP: dict[str, Any] = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "side", "max_value": 55},
}
SKIP = {"ignore_row_if": "either_value_is_missing"}
ROWS = {"type": "expect_table_row_count_to_be_between", "kwargs": {"max_value": 2}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    build: Build = builder(tmp_path)
    return build(GOOD | {"Ann/large.png": photo(40, height=80, width=80), "Bea/flat.png": flat(9)})


def own(data: Path, table: str, *expectations: Any, **more: Any) -> None:
    (data / "expectations").mkdir(exist_ok=True)
    text = json.dumps({"name": "mine", "expectations": list(expectations)} | more)
    (data / "expectations" / f"{table}.json").write_text(text)


def test_the_rules_can_be_opened_as_suites(data: Path) -> None:
    import great_expectations as gx

    validate(data, max_source_share=0.5)
    folder = data.parent / "validate" / "expectations"
    assert {path.stem for path in folder.iterdir()} == {
        "train_images",
        "train_identities",
        "verify_images",
        "sets",
        "cards",
    }
    for path in folder.iterdir():
        values = json.loads(path.read_text())
        suite = gx.ExpectationSuite(**values)
        assert suite.name == path.stem
        assert len(suite.expectations) == len(values["expectations"]) > 0
    limits = {
        one["meta"]["reason"]: one["kwargs"]
        for one in json.loads((folder / "train_images.json").read_text())["expectations"]
    }
    assert limits["too_small"] == {"column": "side", "min_value": 40.0}
    assert limits["bright"] == {"column": "brightness", "max_value": 240.0}


def test_ones_own_suite_notices_and_rejects(data: Path) -> None:
    own(data, "train_images", SHARP)
    metrics, train, _ = validate(data)
    assert reasons(train) == {"Bea/flat": "blurred"}
    assert metrics["expectations_failed"] == 5  # blurred, dark, two cards, and the own one
    index = (data.parent / "validate" / "data_docs" / "index.html").read_text()
    assert "train_images_own" in index
    assert "<td>1 of 11</td><td>Ann/large</td><td>broken</td>" in index

    own(data, "train_images", SHARP | {"meta": {"reject": "too_large"}})
    metrics, train, _ = validate(data)
    assert reasons(train) == {"Bea/flat": "blurred", "Ann/large": "too_large"}
    assert metrics["train.rejected.too_large"] == 1


def test_ones_own_suite_rejects_identities_and_verification_photos(data: Path) -> None:
    few = {
        "type": "expect_column_values_to_not_be_in_set",
        "kwargs": {"column": "identity", "value_set": ["Cyd"]},
        "meta": {"reject": "left"},
    }
    own(data, "train_identities", few)
    own(data, "verify_images", SHARP | {"kwargs": {"column": "side", "min_value": 99}})
    own(data, "verify_images", few | {"kwargs": {"column": "id", "value_set": ["Xia/0"]}})
    _, train, verify = validate(data)
    assert {name for name, reason in reasons(train).items() if reason == "left"} == {
        "Cyd/0",
        "Cyd/1",
        "Cyd/2",
    }
    assert reasons(verify) == {"Xia/0": "left"}


def test_a_copy_of_a_built_in_suite_is_a_good_start(data: Path) -> None:
    before = validate(data)[0]
    written = data.parent / "validate" / "expectations" / "train_images.json"
    (data / "expectations").mkdir()
    (data / "expectations" / "train_images.json").write_bytes(written.read_bytes())
    after = validate(data)[0]
    assert after["train.ok"] == before["train.ok"]
    assert after["expectations_failed"] == before["expectations_failed"] + 2  # said twice


@pytest.mark.parametrize(
    ("table", "expectation", "said"),
    [
        ("photos", SHARP, "no table is named so: rename it to one of train_images"),
        ("train_images", 7, "has a list `expectations`: copy artifacts/validate/"),
        ("train_images", SHARP | {"meta": {"reject": "Too large"}}, "'Too large' is no reason"),
        ("train_images", SHARP | {"meta": {"reject": "dark"}}, "is a reason of `validate` itself"),
        ("train_images", SHARP | {"meta": "reject"}, 'meta must be {"reject": "REASON"} or absent'),
        ("sets", SHARP | {"meta": {"reject": "no"}}, "rows are rejected only in train_images"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    tmp_path: Path, table: str, expectation: Any, said: str
) -> None:
    own(tmp_path, table, expectation)
    with pytest.raises(DatasetError) as caught:
        read_own_suites(tmp_path / "expectations", taken={"dark"})
    assert said in str(caught.value)
    assert str(tmp_path / "expectations" / f"{table}.json") in str(caught.value)


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ({"type": "expect_wonders", "kwargs": {}}, "expect_wonders"),
        (
            SHARP | {"kwargs": {"column": "smile", "max_value": 1}},
            "no column 'smile', there are id, side",
        ),
        (SHARP | {"kwargs": {"column": "side"}}, "refuses the suite"),
        (SHARP | {"kwargs": {"column": "side", "max": 1}}, "refuses the suite"),
        (ROWS | {"meta": {"reject": "crowd"}}, "is not about rows: remove `reject`"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    tmp_path: Path, expectation: dict[str, Any], said: str
) -> None:
    own(tmp_path, "train_images", SHARP, expectation)
    suites = read_own_suites(tmp_path / "expectations", taken=set())
    table = pd.DataFrame({"id": ["a", "b", "c"], "side": [50.0, 60.0, 70.0]})
    suite = Suite("train_images", table, [], index="id")
    with pytest.raises(DatasetError) as caught:
        Expectations(tmp_path, tmp_path).run_own(suites["train_images"], suite)
    assert said in str(caught.value)
    assert str(tmp_path / "expectations" / "train_images.json") in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    if "reject" not in said:
        assert str(caught.value).endswith(": correct or remove that expectation")


def test_rows_are_rejected_by_whatever_is_about_rows(tmp_path: Path) -> None:
    """Two columns, a condition, a table as a whole; two expectations of one reason add up."""
    pair = {
        "type": "expect_column_pair_values_a_to_be_greater_than_b",
        "kwargs": {"column_A": "side", "column_B": "least", "or_equal": True, **SKIP},
        "meta": {"reject": "odd"},
    }
    blue = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "colour", "value_set": ["red"]},
        "meta": {"reject": "odd"},
    }
    own(tmp_path, "train_images", pair, blue, ROWS, SHARP | {"meta": {"reject": "large"}})
    suites = read_own_suites(tmp_path / "expectations", taken=set())
    table = pd.DataFrame(
        {
            "id": list("abcd"),
            "side": [50.0, 60.0, 70.0, None],
            "least": [51.0, 60.0, 10.0, 10.0],
            "colour": ["red", "red", "blue", None],
        },
        index=[7, 3, 5, 9],
    )
    expectations = Expectations(tmp_path, tmp_path)
    rejected = expectations.run_own(
        suites["train_images"], Suite("train_images", table, [], index="id")
    )
    assert {reason: rows.tolist() for reason, rows in rejected.items()} == {
        "odd": [True, False, True, False],
        "large": [False, True, True, False],
    }
    assert expectations.failed == 4


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cards.json").write_text("{")
    with pytest.raises(DatasetError, match=r"cards\.json cannot be read as JSON.*: copy .* anew"):
        read_own_suites(tmp_path, taken=set())


def test_drift_needs_a_reference(data: Path) -> None:
    own(data, "drift", SHARP)
    with pytest.raises(
        DatasetError, match=r"drift\.json: nothing drifts without .*reference\.json"
    ):
        validate(data)


@pytest.mark.parametrize("reason", ["no_pairs", "near_duplicate", "same_name", "cleaning", "drift"])
def test_reasons_of_sets_and_proposals_are_taken(data: Path, reason: str) -> None:
    own(data, "train_images", SHARP | {"meta": {"reject": reason}})
    with pytest.raises(DatasetError, match="is a reason of `validate` itself: use another word"):
        validate(data)
