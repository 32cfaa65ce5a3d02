from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation.intervals import wilson
from facewright.evaluation.ratios import largest_ratio
from facewright.evaluation.slices import (
    MIXED,
    slice_table,
    sliceable,
    with_derived,
)


@pytest.fixture(scope="module")
def made(make_scores: Callable) -> tuple[pd.DataFrame, pd.DataFrame]:
    """2,000 pairs of 30 people with a site, a quality and a turn; some of them unknown."""
    scores, identities = make_scores(per_fold=200, gap=2.0, failures=0.03, seed=5)
    rng = np.random.default_rng(5)
    images = pd.DataFrame({"id": list(identities), "identity": list(identities.values())})
    images["site"] = rng.choice(["north", "south", "west"], len(images)).astype(object)
    images.loc[rng.random(len(images)) < 0.05, "site"] = None
    images["quality"] = np.where(rng.random(len(images)) < 0.05, np.nan, rng.random(len(images)))
    images["turn"] = rng.random(len(images)).round(1)
    images["indoors"] = rng.random(len(images)) < 0.5
    return scores, images.sample(frac=1, random_state=1)


def slow_rates(scores: pd.DataFrame, keep: Callable[[str, str], bool], threshold: float) -> dict:
    counts = dict.fromkeys(
        ("genuine", "compared", "failures", "false_matches", "false_non_matches"), 0
    )
    for row in scores.itertuples():
        if keep(row.a, row.b):
            ok = row.status == "ok"
            accepted = ok and row.similarity >= threshold
            counts["failures"] += not ok
            counts["genuine"] += row.label == 1
            counts["compared"] += row.label == 0 and ok
            counts["false_matches"] += row.label == 0 and accepted
            counts["false_non_matches"] += row.label == 1 and not accepted
    return counts


def assert_row(row: pd.Series, expected: dict) -> None:
    assert {name: row[name] for name in expected} == expected
    for rate, errors, trials in (
        ("fmr", "false_matches", "compared"),
        ("fnmr", "false_non_matches", "genuine"),
    ):
        share = expected[errors] / expected[trials]
        assert row[rate] == pytest.approx(share)
        assert (row[f"{rate}_low"], row[f"{rate}_high"]) == wilson(share, expected[trials])


def test_a_category_holds_pairs_of_which_both_images_have_it(made: tuple) -> None:
    scores, images = made
    table = slice_table(scores, images=images, columns=["site", "indoors"], threshold=0.25)
    assert table["column"].tolist() == ["all", *["site"] * 4, *["indoors"] * 3]
    values = ["all", "north", "south", "west", MIXED, "False", "True", MIXED]
    assert table["value"].tolist() == values
    assert_row(table.iloc[0], slow_rates(scores, lambda a, b: True, 0.25))
    site = dict(zip(images["id"], images["site"], strict=True))
    for k, value in enumerate(("north", "south", "west"), 1):
        expected = slow_rates(scores, lambda a, b, v=value: site[a] == v and site[b] == v, 0.25)
        assert_row(table.iloc[k], expected)
    expected = slow_rates(scores, lambda a, b: site[a] is None or site[a] != site[b], 0.25)
    assert_row(table.iloc[4], expected)


@pytest.mark.parametrize(("column", "worse"), [("quality", min), ("turn", max)])
@pytest.mark.parametrize("text", [False, True])
def test_a_pair_is_in_the_bin_of_its_worse_image(
    made: tuple, column: str, worse: Callable, text: bool
) -> None:
    """Whether the numbers are numbers or, as a list brings them, text."""
    scores, images = made
    values = dict(zip(images["id"], images[column], strict=True))
    if text:
        images = images.assign(
            **{column: [None if np.isnan(v) else repr(float(v)) for v in images[column]]}
        )
    table = slice_table(scores, images=images, columns=[column], threshold=0.25, bins=3)
    known = np.sort([value for value in values.values() if not np.isnan(value)])
    inner = [known[k * len(known) // 3] for k in (1, 2)]
    assert table["value"].tolist()[1:4] == [
        f"below {inner[0]:.3g}",
        f"{inner[0]:.3g} to {inner[1]:.3g}",
        f"{inner[1]:.3g} and more",
    ]
    for k, (low, high) in enumerate(((-1, inner[0]), inner, (inner[1], 2)), 1):

        def inside(a: str, b: str, low: float = low, high: float = high) -> bool:
            known = not (np.isnan(values[a]) or np.isnan(values[b]))
            return known and low <= worse(values[a], values[b]) < high

        assert_row(table.iloc[k], slow_rates(scores, inside, 0.25))
    unknown = [id for id, value in values.items() if np.isnan(value)]
    assert (MIXED in table["value"].tolist()) == bool(unknown)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["1", "2.5", None, ""], [1.0, 2.5, np.nan, np.nan]),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        (["1", "2", "x", None], ["1", "2", "x", None]),  # one word, and all are words
        (["tone 1", "tone 2", "NA", "1"], ["tone 1", "tone 2", "NA", "1"]),
        ([True, False, None, True], [True, False, None, True]),
        ([1.0, np.inf, np.nan, -np.inf], [1.0, np.nan, np.nan, np.nan]),
        (["1", "inf", "3", "4"], [1.0, np.nan, 3.0, 4.0]),
    ],
)
def test_numbers_are_numbers_whatever_brought_them(given: list, kept: list) -> None:
    images = pd.DataFrame({"id": list("abcd"), "x": pd.Series(given)})
    found = sliceable(images, columns=["x"])["x"]
    numbers = isinstance(kept[0], (int, float)) and not isinstance(kept[0], bool)
    assert pd.api.types.is_numeric_dtype(found) == numbers
    assert [None if pd.isna(v) else v for v in found] == [None if pd.isna(v) else v for v in kept]


def test_columns_that_cannot_be_sliced_by_are_refused() -> None:
    images = pd.DataFrame(
        {"id": ["a", "b"], "identity": ["Ada", "Bo"], "person": "x", "site": "n", "quality": 1.0}
    )
    images["landmarks"] = [[1.0, 2.0], None]
    for columns, said in (
        (["sit"], "the photos have no column 'sit', they have site, quality, landmarks: correct"),
        (["site", "quality", "site"], "names the column 'site' twice: name it once"),
        (["landmarks"], "the column 'landmarks' holds lists, must hold one word or number"),
        *(([name], f"'{name}' names people or photos") for name in ("id", "identity", "person")),
    ):
        with pytest.raises(EvaluationError, match=f"^evaluate.slices:? {said}") as caught:
            sliceable(images, columns=columns)
        assert "\n" not in str(caught.value)


def test_every_pair_is_in_one_row_of_each_column(made: tuple) -> None:
    scores, images = made
    names = ["site", "quality", "turn", "indoors"]
    table = slice_table(scores, images=images, columns=names, threshold=0.2, bins=5)
    counts = ["genuine", "compared", "failures", "false_matches", "false_non_matches"]
    for name in names:
        sums = table.loc[table["column"] == name, counts].sum()
        assert sums.tolist() == table.loc[0, counts].tolist()
    # Neither the order of pairs nor that of images matters.
    turned = slice_table(scores[::-1], images=images[::-1], columns=names, threshold=0.2, bins=5)
    pd.testing.assert_frame_equal(table, turned)


@pytest.mark.parametrize(
    ("edges", "shown"),
    [
        ([0.735218, 0.8], ["0.735", "0.8"]),
        ([0.735218, 0.735499], ["0.7352", "0.7355"]),  # three digits would make them one
        ([0.7, np.nextafter(0.7, 1)], ["0.7", "0.7000000000000001"]),
        ([-12.3456, 2, 1234.56], ["-12.3", "2", "1235"]),
        ([12345, 1234567], ["12345", "1234567"]),
        ([1e-7, 0.00123456], ["1e-07", "0.00123"]),
    ],
)
def test_edges_of_bins_are_short_and_differ(edges: list[float], shown: list[str]) -> None:
    numbers = [edges[0] - 1, *edges]
    ids = [f"i{k}" for k in range(len(numbers))]
    images = pd.DataFrame({"id": ids, "quality": numbers})
    pairs = pd.DataFrame({"a": ids, "b": ids, "fold": 0, "label": [0, 1, 0, 1][: len(ids)]})
    table = slice_table(
        pairs.assign(similarity=0.5, status="ok"),
        images=images,
        columns=["quality"],
        threshold=0.5,
        bins=len(numbers),
    )
    between = [f"{low} to {high}" for low, high in pairwise(shown)]
    expected = [f"below {shown[0]}", *between, f"{shown[-1]} and more"]
    assert table["value"].tolist()[1:] == expected


def test_bins_hold_as_many_images_each() -> None:
    ids = [f"i{k}" for k in range(40)]
    images = pd.DataFrame({"id": [*ids, "elsewhere"], "quality": [*range(40), 1e9]})
    pairs = pd.DataFrame({"a": ids, "b": ids, "fold": 0, "label": [0, 1] * 20})  # one image a pair
    scores = pairs.assign(similarity=0.5, status="ok")
    table = slice_table(scores, images=images, columns=["quality"], threshold=0.5, bins=4)
    assert (table["genuine"] + table["compared"]).tolist()[1:] == [10] * 4
    # Most have the same number: fewer bins, none of them empty.
    images["quality"] = [1, 1, 2, *[3] * 38]
    table = slice_table(scores, images=images, columns=["quality"], threshold=0.5, bins=4)
    assert table["value"].tolist()[1:] == ["below 3", "3 and more"]
    images["quality"] = 7
    table = slice_table(scores, images=images, columns=["quality"], threshold=0.5)
    assert table["value"].tolist() == ["all", "7"]
    assert table["fmr"].tolist() == [1, 1]  # at the threshold is accepted
    assert slice_table(scores, images=images, columns=[], threshold=0.51)["fnmr"].tolist() == [1]


def test_a_recognizer_that_fails_one_group_is_found_out(made: tuple) -> None:
    scores, images = made
    alike = slice_table(scores, images=images, columns=["site"], threshold=0.25)
    site = images.set_index("id")["site"]
    before = largest_ratio(alike, "fnmr")["site"]
    assert before is not None
    assert before.highest != "north"  # so that it is named for what is done to it
    north = (site[scores["a"]] == "north").to_numpy() & (scores["label"] == 1).to_numpy()
    worse = scores.assign(similarity=scores["similarity"] - 0.15 * north)
    apart = slice_table(worse, images=images, columns=["site"], threshold=0.25)
    after = largest_ratio(apart, "fnmr")["site"]
    assert after is not None
    assert after.highest == "north"
    assert after.ratio > 1.5 * before.ratio
    pd.testing.assert_series_equal(alike["fmr"], apart["fmr"])


def test_derived_columns() -> None:
    level = [30, 40, 70, 40, 50, 60, 35, 80, 65, 80]  # eyes, nose midway, mouth
    turned = [30, 40, 70, 40, 32.5, 60, 35, 80, 65, 80]  # the nose above the left side
    images = pd.DataFrame(
        {
            "id": list("abcd"),
            "identity": ["x", "x", "y", "x"],
            "landmarks": [level, np.array(turned), None, (np.array(turned) * 3 + 7).tolist()],
        }
    )
    derived = with_derived(images)
    assert derived["photos"].tolist() == [3, 3, 1, 3]
    np.testing.assert_allclose(derived["turn"], [0, 1, np.nan, 1], atol=1e-9)
    # A mirrored face is turned as far.
    mirrored = [100 - level[2], 40, 100 - level[0], 40, 100 - 45, 60, 35, 80, 65, 80]
    looking = [30, 40, 70, 40, 45, 60, 35, 80, 65, 80]
    both = with_derived(pd.DataFrame({"id": list("ab"), "landmarks": [mirrored, looking]}))
    assert both["turn"][0] == pytest.approx(both["turn"][1])
    assert "landmarks" not in with_derived(images[["id"]]).columns
    assert with_derived(images.assign(photos=9))["photos"].tolist() == [9] * 4
    assert "photos" not in images.columns


def test_refusals(made: tuple) -> None:
    scores, images = made

    def refused(match: str, **changed: object) -> None:
        settings = {"images": images, "columns": ["site"], "threshold": 0.2} | changed
        with pytest.raises(EvaluationError, match=match):
            slice_table(scores, **settings)

    refused("no column 'age', they have site, quality", columns=["age"])
    refused("the threshold is nan", threshold=np.nan)
    refused("is not among the images", images=images[images["id"] != scores["b"].iloc[7]])
    refused("is there twice", images=pd.concat([images, images.iloc[:1]]))
    refused("column 'site' has 0 different values", images=images.assign(site=None))
    refused("no number for any image", images=images.assign(site=np.nan))
    with pytest.raises(EvaluationError, match="pairs are genuine: add impostor pairs"):
        slice_table(scores[scores["label"] == 1], images=images, columns=[], threshold=0.2)
