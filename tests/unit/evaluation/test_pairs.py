from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import pairs as pairs_module
from facewright.evaluation import pairs_digest, score_pairs
from facewright.evaluation.pairs import checked, identity_codes, image_codes, with_categories

PAIRS = pd.DataFrame(
    {
        "fold": [0, 0, 1, 1],
        "label": [1, 0, 1, 0],
        "a": ["x/1", "x/1", "y/1", "x/2"],
        "b": ["x/2", "y/1", "y/2", "y/1"],
    }
)
IDS = ["y/1", "x/2", "x/1"]
EMBEDDINGS = np.array([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]], np.float32)


def test_similarity_is_the_cosine_and_a_missing_face_is_a_failure() -> None:
    scores = score_pairs(PAIRS, ids=IDS, embeddings=EMBEDDINGS)
    assert list(scores.columns) == ["fold", "label", "a", "b", "similarity", "status"]
    assert scores["status"].tolist() == ["ok", "ok", "failure", "ok"]
    np.testing.assert_allclose(scores["similarity"], [0.6, 0.0, np.nan, 0.8], atol=1e-7)


PHOTOS = {"x/1": "e1", "x/2": "e2", "y/1": "f1", "y/2": "f2"}  # sha256 by id


def test_the_digest_of_the_pairs_is_of_what_they_ask_and_of_nothing_else() -> None:
    digest = pairs_digest(PAIRS, photos=PHOTOS)
    assert len(digest) == 64
    assert pairs_digest(PAIRS.iloc[[2, 0, 3, 1]], photos=PHOTOS) == digest
    shuffled = PAIRS[["b", "label", "a", "fold"]].astype({"fold": "int8"}).assign(note="other file")
    assert pairs_digest(shuffled, photos=PHOTOS | {"z/1": "not in a pair"}) == digest
    renamed = PAIRS.replace({"x/1": "people/x/1"})
    assert pairs_digest(renamed, photos=PHOTOS | {"people/x/1": "e1"}) == digest
    turned = PAIRS.copy()
    turned.loc[[0, 3], ["a", "b"]] = PAIRS.loc[[0, 3], ["b", "a"]].to_numpy()
    assert pairs_digest(turned, photos=PHOTOS) == digest
    assert pairs_digest(with_categories(turned), photos=PHOTOS) == digest


@pytest.mark.parametrize(
    ("column", "row", "value"), [("label", 0, 0), ("fold", 3, 0), ("b", 1, "y/2")]
)
def test_other_pairs_have_another_digest(column: str, row: int, value: object) -> None:
    other = PAIRS.copy()
    other.loc[row, column] = value
    assert pairs_digest(other, photos=PHOTOS) != pairs_digest(PAIRS, photos=PHOTOS)


def test_another_photo_under_the_same_name_is_another_digest() -> None:
    mended = PHOTOS | {"y/2": "another photo"}
    assert pairs_digest(PAIRS, photos=mended) != pairs_digest(PAIRS, photos=PHOTOS)
    # Nor does it help that the pairs are more or fewer.
    assert pairs_digest(PAIRS.iloc[:3], photos=PHOTOS) != pairs_digest(PAIRS, photos=PHOTOS)
    with pytest.raises(EvaluationError, match="image 'y/2' of a pair has no digest"):
        pairs_digest(PAIRS, photos={"x/1": "e1", "x/2": "e2", "y/1": "f1"})


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids = [str(i) for i in range(40)]
    draws = np.array(list(combinations(range(40), 2)))[rng.permutation(780)[:101]].T.astype(str)
    pairs = pd.DataFrame({"fold": 0, "label": 0, "a": draws[0], "b": draws[1]})
    whole = score_pairs(pairs, ids=ids, embeddings=embeddings)
    monkeypatch.setattr(pairs_module, "CHUNK", 7)
    pd.testing.assert_frame_equal(whole, score_pairs(pairs, ids=ids, embeddings=embeddings))
    slow = [embeddings[int(a)].astype(float) @ embeddings[int(b)] for a, b in draws.T]
    np.testing.assert_allclose(whole["similarity"], slow, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "not of length 1"), (0.0, "with 0"), (3.0, "with 3")]
)
def test_embeddings_that_are_not_normalized_are_refused(value: float, words: str) -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[2] = [value, 0.0]
    with pytest.raises(EvaluationError, match=words):
        score_pairs(PAIRS, ids=IDS, embeddings=embeddings)


@pytest.mark.parametrize("seed", range(3))
def test_names_are_numbers_that_stand_for_the_same_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = np.array(list(combinations(range(12), 2)))[rng.permutation(66)[:30]].T.astype(str)
    pairs = pd.DataFrame({"fold": 0, "label": 0, "a": draws[0], "b": draws[1]})
    named = with_categories(pairs)
    assert with_categories(named) is named
    apart = pairs.astype({"a": "category", "b": "category"})  # each side with categories of its own
    for frame in (pairs, named, named.iloc[7:], apart, apart.iloc[7:]):
        codes, ids = image_codes(frame)
        for side, code in zip(("a", "b"), codes, strict=True):
            assert ids[code].tolist() == frame[side].tolist()
    embeddings = rng.normal(size=(10, 8)).astype(np.float32)  # two images have none
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids = [*map(str, rng.permutation(12)[:9]), "in no pair"]
    one, other = (score_pairs(f, ids=ids, embeddings=embeddings) for f in (pairs, apart))
    pd.testing.assert_frame_equal(one, other, check_categorical=False)
    people = {name: f"person {int(name) % 3}" for name in draws.ravel()}
    labels = [int(people[a] == people[b]) for a, b in draws.T]
    first, second, count = identity_codes(one.iloc[5:].assign(label=labels[5:]), identities=people)
    seen: dict[str, int] = {}
    for name in (*draws[0][5:], *draws[1][5:]):
        seen.setdefault(people[name], len(seen))
    assert first.tolist() == [seen[people[name]] for name in draws[0][5:]]
    assert second.tolist() == [seen[people[name]] for name in draws[1][5:]]
    assert count == len(seen)


def test_a_pair_of_an_image_with_itself_is_refused() -> None:
    """Any recognizer gets it right."""
    wrong = PAIRS.copy()
    wrong.loc[2, "b"] = "y/1"
    said = r"^pair 3 is of 'y/1' with itself \(1 such pairs\): take it out"
    with pytest.raises(EvaluationError, match=said):
        score_pairs(wrong, ids=IDS, embeddings=EMBEDDINGS)
    with pytest.raises(EvaluationError, match=said):
        identity_codes(wrong, identities={name: name[0] for name in PHOTOS})
    wrong.loc[2, "b"] = None
    with pytest.raises(EvaluationError, match="pair 3 names no image"):
        score_pairs(wrong, ids=IDS, embeddings=EMBEDDINGS)


def test_no_pairs_missing_columns_and_repeated_images_are_refused() -> None:
    with pytest.raises(EvaluationError, match="not one pair"):
        score_pairs(PAIRS.iloc[:0], ids=IDS, embeddings=EMBEDDINGS)
    with pytest.raises(EvaluationError, match="no column 'fold'"):
        score_pairs(PAIRS.drop(columns="fold"), ids=IDS, embeddings=EMBEDDINGS)
    with pytest.raises(EvaluationError, match="two embeddings for image 'x/1'"):
        score_pairs(PAIRS, ids=["x/1", "x/2", "x/1"], embeddings=EMBEDDINGS)


def test_checked_sorts_failures_last_and_cuts_between_different_similarities() -> None:
    scores = score_pairs(PAIRS, ids=IDS, embeddings=EMBEDDINGS)
    scores["similarity"] = [0.5, 0.5, np.nan, 0.8]
    scored, rows = checked(scores)
    assert scored.similarity.tolist() == [0.8, 0.5, 0.5, -np.inf]
    assert scored.compared == 3
    assert scored.cuts.tolist() == [1, 3]
    assert rows.tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label", 1, "all 4 pairs are genuine"),
        ("label", 0, "all 4 pairs are impostor"),
        ("label", 2, "neither 0"),
        ("similarity", np.nan, "although both faces were found"),
        ("similarity", np.inf, "although both faces were found"),
        ("status", "lost", "neither ok nor failure"),
    ],
)
def test_scores_that_say_nothing_are_refused(column: str, value: object, words: str) -> None:
    scores = score_pairs(PAIRS, ids=IDS, embeddings=EMBEDDINGS)
    scores[column] = value
    with pytest.raises(EvaluationError, match=words):
        checked(scores)


def test_identities_must_be_known_and_agree_with_the_labels() -> None:
    scores = score_pairs(PAIRS, ids=IDS, embeddings=EMBEDDINGS)
    people = {name: name[0] for name in ("x/1", "x/2", "y/1", "y/2")}
    first, second, count = identity_codes(scores, identities=people)
    assert count == 2
    assert (first == second).tolist() == scores["label"].astype(bool).tolist()
    with pytest.raises(EvaluationError, match="'y/1' of a pair has no identity"):
        identity_codes(scores, identities={"x/1": "x", "x/2": "x", "y/2": "y"})
    with pytest.raises(EvaluationError, match="'x/1', 'x/2' is labelled genuine"):
        identity_codes(scores, identities=people | {"x/2": "z"})


@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_that_is_there_twice_is_refused_in_either_order(turned: bool) -> None:
    again = PAIRS.iloc[[1]].rename(columns={"a": "b", "b": "a"} if turned else {})
    twice = pd.concat([PAIRS, again.assign(fold=1)], ignore_index=True)
    with pytest.raises(EvaluationError, match=r"the pair 'x/1', 'y/1' is there twice \(1 repeat"):
        score_pairs(twice, ids=IDS, embeddings=EMBEDDINGS)
    scores = score_pairs(PAIRS, ids=IDS, embeddings=EMBEDDINGS)
    with pytest.raises(EvaluationError, match="is there twice"):
        identity_codes(pd.concat([scores, scores.iloc[[2]]]), identities={})
