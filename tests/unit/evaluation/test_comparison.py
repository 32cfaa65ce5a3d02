import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facewright.errors import EvaluationError
from facewright.evaluation import verification_metrics
from facewright.evaluation.comparison import Difference, compare
from facewright.evaluation.folds import Folds, fold_accuracies
from facewright.evaluation.intervals import lower_bound, upper_bound
from facewright.evaluation.pairs import checked, with_categories

SETTINGS = {"fmr_target": 0.1, "bootstrap": 300, "seed": 0}
Made = tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]


@pytest.fixture
def make_two(make_scores: Callable) -> Callable[..., Made]:
    """A function that draws challenger and champion on the same pairs."""

    def make(*, better: float = 0.0, noise: float = 0.05, **settings: object) -> Made:
        """The challenger's genuine similarities are higher by `better`; each has its own noise."""
        scores, identities = make_scores(**settings)
        mine, theirs = np.random.default_rng(9).normal(0, noise, (2, len(scores)))
        challenger = scores["similarity"] + mine + better * scores["label"]
        champion = scores["similarity"] + theirs
        return scores.assign(similarity=challenger), scores.assign(similarity=champion), identities

    return make


def of(found: Difference | None) -> Difference:
    assert found is not None
    return found


def test_gains_are_the_differences_of_the_figures(make_two: Callable) -> None:
    challenger, champion, identities = make_two(better=0.05, failures=0.02, decimals=2, per_fold=40)
    found = compare(challenger, champion, identities=identities, **SETTINGS)
    settings = {"identities": identities, "fmr_targets": [0.1], "bootstrap": 0, "seed": 0}
    new, old = (verification_metrics(s, **settings) for s in (challenger, champion))
    accuracy, fnmr = of(found.accuracy), of(found.fnmr)
    assert (accuracy.challenger, accuracy.champion) == (new["accuracy"], old["accuracy"])
    assert accuracy.gain == pytest.approx(new["accuracy"] - old["accuracy"])
    assert (fnmr.challenger, fnmr.champion) == (new["fnmr_at_fmr_0.1"], old["fnmr_at_fmr_0.1"])
    assert fnmr.gain == pytest.approx(old["fnmr_at_fmr_0.1"] - new["fnmr_at_fmr_0.1"])
    for figure in (accuracy, fnmr):
        assert figure.low < figure.lower < figure.gain < figure.upper < figure.high
    json.dumps(asdict(found), allow_nan=False)


def slow_decisions(scores: pd.DataFrame) -> dict[tuple[str, str], bool]:
    """Whether each pair is decided rightly at its fold's threshold, pair by pair."""
    scored, _ = checked(scores)
    thresholds = fold_accuracies(Folds.of(scored), np.ones((1, scored.pairs), np.int32))[1][0]
    by_fold = dict(zip(scored.fold_names, thresholds, strict=True))
    return {
        (row.a, row.b): row.status == "ok"
        and (row.similarity >= by_fold[str(row.fold)]) == (row.label == 1)
        for row in scores.itertuples()
    }


def test_won_and_lost_agree_with_counting_pair_by_pair(make_two: Callable) -> None:
    challenger, champion, identities = make_two(noise=0.1, failures=0.02, decimals=2, per_fold=40)
    found = compare(challenger, champion, identities=identities, **SETTINGS)
    mine, theirs = slow_decisions(challenger), slow_decisions(champion)
    accuracy, fnmr = of(found.accuracy), of(found.fnmr)
    assert accuracy.won == sum(mine[pair] and not theirs[pair] for pair in mine) > 0
    assert accuracy.lost == sum(theirs[pair] and not mine[pair] for pair in mine) > 0
    expected = stats.binomtest(accuracy.won, accuracy.won + accuracy.lost).pvalue
    assert accuracy.mcnemar_p == pytest.approx(expected)
    # The FNMRs differ by just the genuine pairs that one of the two accepts.
    assert fnmr.gain == pytest.approx((fnmr.won - fnmr.lost) / fnmr.trials)
    assert fnmr.trials == (champion["label"] == 1).sum()
    assert accuracy.trials == len(champion)


def test_the_other_way_round_gains_are_losses(make_two: Callable) -> None:
    challenger, champion, identities = make_two(noise=0.1, better=0.03)
    one = compare(challenger, champion, identities=identities, **SETTINGS)
    other = compare(champion, challenger, identities=identities, **SETTINGS)
    for key in ("accuracy", "fnmr"):
        a, b = of(getattr(one, key)), of(getattr(other, key))
        assert (a.gain, a.won, a.lost) == (pytest.approx(-b.gain), b.lost, b.won)
        assert (a.low, a.lower) == pytest.approx((-b.high, -b.upper))


def test_the_order_of_the_pairs_does_not_matter(make_two: Callable) -> None:
    challenger, champion, identities = make_two(better=0.03)
    mixed = champion.sample(frac=1, random_state=3)
    turned = mixed.copy()
    turned.loc[turned.index[::2], ["a", "b"]] = mixed.loc[mixed.index[::2], ["b", "a"]].to_numpy()
    one, *others = (
        compare(new, old, identities=identities, **SETTINGS)
        for new, old in (
            (challenger, champion),
            (challenger, mixed),
            (challenger.iloc[::-1], mixed),
            (challenger, turned),
            (with_categories(challenger), with_categories(turned)),
        )
    )
    assert all(other == one for other in others)


def test_what_is_hard_for_both_cancels_out(make_two: Callable) -> None:
    challenger, champion, identities = make_two(noise=0.01, per_fold=100)
    found = of(compare(challenger, champion, identities=identities, **SETTINGS).accuracy)
    settings = {"identities": identities, "fmr_targets": [0.1], "bootstrap": 300, "seed": 0}
    alone = [verification_metrics(s, **settings) for s in (challenger, champion)]
    apart = np.hypot(*(m["accuracy_high"] - m["accuracy_low"] for m in alone))
    assert found.high - found.low < 0.6 * apart


@pytest.mark.parametrize(
    ("better", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "unclear")]
)
def test_verdicts(make_two: Callable, better: float, verdict: str) -> None:
    challenger, champion, identities = make_two(better=better, noise=0.05, per_fold=100)
    found = compare(challenger, champion, identities=identities, **SETTINGS)
    assert [of(found.accuracy).verdict, of(found.fnmr).verdict] == [verdict] * 2


def test_a_margin_asks_for_less_and_calls_fewer_worse(make_two: Callable) -> None:
    challenger, champion, identities = make_two(better=-0.02, noise=0.03, per_fold=100)
    plain = of(compare(challenger, champion, identities=identities, **SETTINGS).accuracy)
    loss = -plain.gain
    assert 0 < loss < -plain.lower
    for margin, verdict in ((loss / 2, "unclear"), (1.01 * -plain.lower, "not_worse")):
        found = compare(challenger, champion, identities=identities, margin=margin, **SETTINGS)
        assert of(found.accuracy).verdict == verdict
    # A stricter level asks for more.
    strict = compare(challenger, champion, identities=identities, level=0.001, **SETTINGS)
    assert of(strict.accuracy).lower < plain.lower


def test_a_recognizer_is_not_better_than_itself(make_two: Callable) -> None:
    _, champion, identities = make_two(per_fold=100)
    for margin, verdict in ((0.0, "unclear"), (0.001, "unclear"), (0.02, "not_worse")):
        found = compare(champion, champion, identities=identities, margin=margin, **SETTINGS)
        for figure in (of(found.accuracy), of(found.fnmr)):
            assert (figure.gain, figure.won, figure.lost, figure.mcnemar_p) == (0.0, 0, 0, 1.0)
            assert figure.verdict == verdict
            assert figure.upper == -figure.lower == upper_bound(0, figure.trials, confidence=0.975)


def test_a_few_pairs_prove_nothing(make_two: Callable) -> None:
    """All right but three, which the challenger mends: luck may do that one time in eight."""
    _, champion, identities = make_two(gap=40.0, per_fold=100)
    wrong = champion.index[champion["label"] == 1][:3]
    bad = champion.copy()
    bad.loc[wrong, "similarity"] = -0.9
    found = of(compare(champion, bad, identities=identities, **SETTINGS).accuracy)
    assert (found.won, found.lost) == (3, 0)
    assert found.gain == pytest.approx(0.003)
    assert found.lower <= lower_bound(3, 1000, confidence=0.975) - 0.003 < 0
    assert found.verdict == "unclear"


def test_what_the_pairs_cannot_tell_is_left_out(make_two: Callable) -> None:
    challenger, champion, identities = make_two()
    fine = compare(challenger, champion, identities=identities, **SETTINGS | {"fmr_target": 0.01})
    assert fine.fnmr is None
    assert fine.accuracy is not None
    flat = [frame.assign(fold=0) for frame in (challenger, champion)]
    plain = compare(*flat, identities=identities, **SETTINGS)
    assert plain.accuracy is None
    assert plain.fnmr is not None
    empty = compare(*flat, identities=identities, **SETTINGS | {"fmr_target": 0.01})
    assert empty.accuracy is empty.fnmr is None


def test_other_pairs_are_refused(make_two: Callable) -> None:
    challenger, champion, identities = make_two()
    moved = champion.assign(fold=(champion["fold"] + 1) % 5)
    for other, words in (
        (champion.iloc[1:], r"\(1 and 0 are in one alone\)"),
        (moved, r"\(200 and 200 are in one alone\)"),
        (champion.drop(columns="fold"), "no column 'fold'"),
    ):
        with pytest.raises(EvaluationError, match=words):
            compare(challenger, other, identities=identities, **SETTINGS)
    twice = [pd.concat([frame, frame.iloc[:1]]) for frame in (challenger, champion)]
    with pytest.raises(EvaluationError, match="is there twice"):
        compare(*twice, identities=identities, **SETTINGS)
    alike = [frame[frame["label"] == 1] for frame in (challenger, champion)]
    with pytest.raises(EvaluationError, match="are genuine"):
        compare(*alike, identities=identities, **SETTINGS)


def test_a_surer_bound_on_few_people_is_stretched_more(make_two: Callable) -> None:
    """At 0.5 % Student's quantile is farther from the normal one than at 2.5 %."""
    challenger, champion, identities = make_two(people=5, per_fold=60)
    usual, half, surer = (
        of(compare(challenger, champion, identities=identities, level=level, **SETTINGS).accuracy)
        for level in (0.05, 0.025, 0.005)
    )
    assert usual.won + usual.lost > 10  # so that the resamples decide, not the exact bounds
    assert (usual.low, usual.high) == (half.low, half.high)
    ratio = {tail: stats.t.ppf(1 - tail, 4) / stats.norm.ppf(1 - tail) for tail in (0.025, 0.005)}
    wider = (surer.gain - surer.low) / (usual.gain - usual.low)
    assert wider == pytest.approx(ratio[0.005] / ratio[0.025])
