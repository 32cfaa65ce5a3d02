"""Pairs: labels that fit the identities, and folds of one size."""

import pandas as pd
import pytest

from facewright.datasets.pairs import PAIR_COLUMNS, check_labels, fold_of
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
