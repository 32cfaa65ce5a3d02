"""Pairs: labels that fit the identities, and folds of one size."""

import pandas as pd
import pytest

from facewright.datasets.pairs import PAIR_COLUMNS, check_labels, check_pairs, fold_of, pair_faults
from facewright.errors import DatasetError


def test_labels_must_fit_the_identities() -> None:
    pairs = pd.DataFrame([(0, 1, "A/1", "A/2"), (0, 0, "A/1", "B/1")], columns=PAIR_COLUMNS)
    check_labels(pairs, lambda id: id[0], where="pairs.txt")
    for label, said in ((0, "two identities"), (1, "one identity")):
        with pytest.raises(DatasetError, match=rf"^pairs.txt: .* called {said}.*\(1 such pairs\)"):
            check_labels(pairs.assign(label=label), lambda id: id[0], where="pairs.txt")


def test_ten_folds_of_one_size_in_the_order_given() -> None:
    folds = [fold_of(k, 40) for k in range(40)]
    assert folds == sorted(folds)
    assert [folds.count(fold) for fold in range(10)] == [4] * 10
    assert {fold_of(k, 3) for k in range(3)} <= set(range(10))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((0, 1, "B/1", "B/1"), "'B/1' is paired with itself (1 such pairs)"),
        ((3, 0, "A/1", "B/1"), "the pair 'A/1', 'B/1' is there twice"),
        ((3, 0, "B/1", "A/1"), "the pair 'B/1', 'A/1' is there twice"),
    ],
)
def test_senseless_pairs_are_refused(more: tuple[int, int, str, str], said: str) -> None:
    rows = [(0, 1, "A/1", "A/2"), (0, 0, "A/1", "B/1")]
    images = pd.DataFrame({"id": ["A/1", "A/2", "B/1"], "identity": list("AAB")})
    pairs = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    check_pairs(pairs, images=images, where="x")
    assert pair_faults(pairs) == []
    wrong = pd.DataFrame([*rows, more], columns=PAIR_COLUMNS)
    with pytest.raises(DatasetError) as caught:
        check_pairs(wrong, images=images, where="x")
    assert str(caught.value).startswith(f"x: {said}")
    assert len(pair_faults(wrong)) == 1
