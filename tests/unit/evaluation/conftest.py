"""Made-up scores of made-up people."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Made = tuple[pd.DataFrame, dict[str, str]]


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., Made]:
    """A function that draws scores: genuine similarities are higher by `gap` deviations."""

    def make(
        *,
        seed: int = 0,
        people: int = 30,
        folds: int = 5,
        per_fold: int = 20,
        gap: float = 2.0,
        failures: float = 0.0,
        decimals: int | None = None,
    ) -> Made:
        rng = np.random.default_rng(seed)
        count = folds * per_fold  # of each kind
        one = rng.integers(0, people, count)
        i = rng.integers(0, people, count)
        j = (i + rng.integers(1, people, count)) % people
        similarity = rng.normal(0.1, 0.12, 2 * count)
        similarity[:count] += 0.12 * gap
        if decimals is not None:
            similarity = similarity.round(decimals)
        failed = rng.random(2 * count) < failures
        scores = pd.DataFrame(
            {
                "fold": np.tile(np.repeat(np.arange(folds), per_fold), 2),
                "label": np.repeat([1, 0], count),
                # Photos of its own for each pair: none is there twice.
                "a": [f"p{k}/{n}a" for n, k in enumerate(np.concatenate((one, i)))],
                "b": [f"p{k}/{n}b" for n, k in enumerate(np.concatenate((one, j)))],
                "similarity": np.where(failed, np.nan, similarity),
                "status": np.where(failed, "failure", "ok"),
            }
        )
        identities = {x: x.partition("/")[0] for x in (*scores["a"], *scores["b"])}
        return scores.sample(frac=1, random_state=seed).reset_index(drop=True), identities

    return make
