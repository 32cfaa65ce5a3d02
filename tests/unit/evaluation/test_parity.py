from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from facewright.evaluation.assess import assess
from facewright.evaluation.parity import compare_forms, paired_change, parity_of

from ...generated_answers import NOISE, embeddings, generated, questions, without


def test_a_form_is_itself() -> None:
    answers, _, _ = generated()
    teacher = answers["teacher"]
    _, vectors = embeddings(questions(), NOISE[0])
    same = compare_forms(("a", "b"), teacher, teacher, embeddings=(vectors, vectors))
    assert same.cosine == pytest.approx(1)
    assert same.cosine_lowest == pytest.approx(1)
    assert same.threshold_shift == same.fnmr_change == 0
    assert same.fnmr_change_low < 0 < same.fnmr_change_high
    assert same.metrics().keys() == {"cosine", "cosine_lowest", "threshold_shift"}


def test_every_form_is_compared_with_the_reference_and_that_with_what_it_was_made_of() -> None:
    asked = questions(people=20)
    noise = dict(zip(("t", "s", "s-int8", "s-sm86"), (*NOISE, 1.3), strict=True))
    made = {name: embeddings(asked, each) for name, each in noise.items()}
    answers = {name: assess(asked, ids=ids, embeddings=v) for name, (ids, v) in made.items()}
    vectors = {name: v for name, (_, v) in made.items()}
    found = parity_of(answers, vectors, reference="s", made_of="t")
    against = [(one.form, one.reference) for one in found]
    assert against == [("s", "t"), *((name, "s") for name in noise if name not in "st")]
    for one in found:
        pair = vectors[one.form], vectors[one.reference]
        names, both = (one.form, one.reference), (answers[one.form], answers[one.reference])
        assert one == compare_forms(names, *both, embeddings=pair)
        assert answers[one.form].metrics["cosine"] == one.cosine < 1
    assert "cosine" not in answers["t"].metrics


def test_figures_are_those_of_the_answers() -> None:
    answers, _, parity = generated()
    student, teacher = answers["student"].metrics, answers["teacher"].metrics
    found = parity[0]
    assert (found.form, found.reference, found.fmr) == ("student", "teacher", 0.01)
    key = "fnmr_at_fmr_0.01"
    assert found.fnmr_reference == teacher[key]
    assert found.fnmr_change == pytest.approx(student[key] - teacher[key])
    assert found.fnmr_change_low < found.fnmr_change < found.fnmr_change_high
    key = "threshold_accuracy"
    assert found.threshold_shift == pytest.approx(abs(student[key] - teacher[key]))
    one, other = (embeddings(questions(), noise)[1] for noise in NOISE[:2])
    cosines = np.diag(cosine_similarity(one, other))
    assert found.cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert found.cosine_lowest == pytest.approx(cosines.min(), abs=1e-6)


def test_a_set_without_folds_has_a_threshold_shift_too() -> None:
    asked = questions(people=20, folds=1)
    one, other = (embeddings(asked, noise) for noise in NOISE[:2])
    form, reference = (assess(asked, ids=ids, embeddings=v) for ids, v in (one, other))
    assert "accuracy" not in form.metrics
    found = compare_forms(("a", "b"), form, reference, embeddings=(one[1], other[1]))
    key = "threshold_accuracy"
    shift = abs(form.metrics[key] - reference.metrics[key])
    assert found.metrics()["threshold_shift"] == pytest.approx(shift) != 0


def test_what_neither_measured_is_not_compared() -> None:
    answers, _, _ = generated()
    bare = without(answers["teacher"], "threshold", "fnmr")
    _, vectors = embeddings(questions(), NOISE[0])
    found = compare_forms(("a", "b"), answers["student"], bare, embeddings=(vectors, vectors))
    assert found.fmr is found.fnmr_change is found.threshold_shift is None
    assert found.metrics().keys() == {"cosine", "cosine_lowest"}
    assert replace(found, threshold_shift=0.1).metrics()["threshold_shift"] == 0.1


def test_the_interval_of_a_paired_change_covers_it() -> None:
    """As often as it says, with the correlation that two forms of one recognizer have."""
    rng = np.random.default_rng(0)
    trials, both, new_only, old_only, covered = 400, 0.10, 0.03, 0.01, 0
    runs = 1500
    for _ in range(runs):
        kind = rng.random(trials)
        new = kind < both + new_only
        old = (kind < both) | ((kind >= both + new_only) & (kind < both + new_only + old_only))
        change, low, high = paired_change(new, old)
        assert low <= change <= high
        covered += low <= new_only - old_only <= high
    assert 0.935 <= covered / runs <= 0.97


def test_a_paired_change_by_hand() -> None:
    new, old = np.zeros((2, 98), bool)
    new[:10], old[8:12] = True, True  # 8 gained, 2 lost
    change, low, high = paired_change(new, old)
    assert change == pytest.approx(6 / 98)
    middle, spread = 6 / 100, 1.96 * np.sqrt(8.5 + 2.5 - 36 / 100) / 100
    assert (low, high) == pytest.approx((middle - spread, middle + spread), abs=1e-5)
