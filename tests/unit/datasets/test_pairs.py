"""Pairs: labels that fit the identities, and folds of one size."""

import pandas as pd
import pytest

from facewright.datasets.pairs import PAIR_COLUMNS, check_labels, check_pairs, fold_of
from facewright.errors import DatasetError


def test_labels_must_fit_the_identities() -> None:
    pairs = pd.DataFrame([(0, 1, "A/1", "A/2"), (0, 0, "A/1", "B/1")], columns=PAIR_COLUMNS)
    check_labels(pairs, lambda id: id[0], where="pairs.txt")
    for label, said in ((0, "two identities"), (1, "one identity")):
        with pytest.raises(DatasetError, match=rf"^pairs.txt: .* called {said}.*\(1 such pairs\)"):
            check_labels(pairs.assign(label=label), lambda id: id[0], where="pairs.txt")


def test_a_pair_of_an_image_with_itself_is_refused() -> None:
    """Any recognizer gets it right."""
    rows = [(0, 1, "A/1", "A/2"), (0, 1, "A/2", "A/2"), (0, 0, "A/1", "B/1"), (1, 1, "B/1", "B/1")]
    pairs = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    images = pd.DataFrame({"id": ["A/1", "A/2", "B/1"], "identity": ["A", "A", "B"]})
    check_pairs(pairs.iloc[[0, 2]], images=images, where="pairs.txt")
    said = r"^pairs.txt: pair 2 is of 'A/2' with itself \(2 such pairs\): take it out"
    with pytest.raises(DatasetError, match=said):
        check_pairs(pairs, images=images, where="pairs.txt")


def test_ten_folds_of_one_size_in_the_order_given() -> None:
    folds = [fold_of(k, 40) for k in range(40)]
    assert folds == sorted(folds)
    assert [folds.count(fold) for fold in range(10)] == [4] * 10
    assert {fold_of(k, 3) for k in range(3)} <= set(range(10))
