import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import score_pairs
from facewright.evaluation import templates as module
from facewright.evaluation.templates import pool_templates

Rows = list[tuple[str, str, str]]


def pool(embeddings: np.ndarray, ids: list[str], rows: Rows) -> tuple[list[str], np.ndarray]:
    image, template, media = (list(column) for column in zip(*rows, strict=True))
    return pool_templates(
        embeddings, ids=ids, image=image, image_template=template, image_media=media
    )


def slow(embeddings: np.ndarray, ids: list[str], rows: Rows) -> dict[str, list[float]]:
    by_template: dict[str, dict[str, list[np.ndarray]]] = {}
    for image, template, media in rows:
        if image in ids:
            found = by_template.setdefault(template, {}).setdefault(media, [])
            found.append(embeddings[ids.index(image)].astype(np.float64))
    pooled = {}
    for template, media in by_template.items():
        total = sum(sum(frames) / len(frames) for frames in media.values())
        pooled[template] = (total / np.sqrt((total**2).sum())).tolist()
    return pooled


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, list[str], Rows]:
    """Images of which a tenth has no embedding, some of them in several templates."""
    rng = np.random.default_rng(0)
    rows = [
        (f"i{rng.integers(200)}", f"t{rng.integers(60)}", f"m{rng.integers(4)}") for _ in range(400)
    ]
    rows = [*dict.fromkeys(rows), ("lost", "gone", "m0")]
    ids = [f"i{k}" for k in rng.permutation(200)[:180]]
    return rng.normal(size=(180, 6)).astype(np.float32), ids, rows


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 10**6])
def test_agrees_with_averaging_one_by_one(
    made: tuple, monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int
) -> None:
    monkeypatch.setattr(module, "ROWS", rows_at_a_time)
    names, pooled = pool(*made)
    expected = slow(*made)
    assert sorted(names) == sorted(expected)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [expected[name] for name in names], atol=1e-6)


def test_a_video_counts_as_much_as_a_still() -> None:
    # Ten frames along x, one still along y: the diagonal, not nearly x.
    embeddings = np.array([[1, 0]] * 10 + [[0, 1]], np.float32)
    ids = [f"{k}" for k in range(11)]
    rows = [(id, "t", "video" if id != "10" else "still") for id in ids]
    _, pooled = pool(embeddings, ids, rows)
    np.testing.assert_allclose(pooled, [[np.sqrt(0.5)] * 2], atol=1e-7)
    # The same medium in another template is another one.
    names, pooled = pool(embeddings, ids, [*rows, ("10", "u", "video")])
    assert names == ["t", "u"]
    np.testing.assert_allclose(pooled, [[np.sqrt(0.5)] * 2, [0, 1]], atol=1e-7)


def test_one_image_is_its_own_template() -> None:
    embeddings = np.array([[0.6, 0.8], [0.0, 1.0]], np.float32)
    names, pooled = pool(embeddings, ["a", "b"], [("b", "2", "x"), ("a", "1", "x")])
    assert names == ["2", "1"]  # in the order of the list
    np.testing.assert_array_equal(pooled, embeddings[::-1])


def test_the_order_of_rows_and_embeddings_does_not_matter(made: tuple) -> None:
    embeddings, ids, rows = made
    names, pooled = pool(*made)
    turned_names, turned = pool(embeddings[::-1], ids[::-1], rows[::-1])
    at = [turned_names.index(name) for name in names]
    np.testing.assert_allclose(turned[at], pooled, atol=1e-7)


def test_a_template_without_a_face_makes_its_pairs_failures(made: tuple) -> None:
    names, pooled = pool(*made)
    assert "gone" not in names
    pairs = pd.DataFrame({"fold": [0, 0], "label": [1, 0], "a": ["gone", "t1"], "b": ["t1", "t2"]})
    assert score_pairs(pairs, ids=names, embeddings=pooled)["status"].tolist() == ["failure", "ok"]


def test_refusals(made: tuple) -> None:
    embeddings, ids, rows = made
    with pytest.raises(EvaluationError, match="none of the 1 images of the templates"):
        pool(embeddings, ids, [("elsewhere", "t", "m")])
    with pytest.raises(EvaluationError, match="two embeddings for image 'a'"):
        pool(embeddings[:2], ["a", "a"], [("a", "t", "m")])
    broken = embeddings.copy()
    used = next(image for image, _, _ in rows if image in ids)
    broken[ids.index(used)] = np.nan
    with pytest.raises(EvaluationError, match=f"image '{used}' is not finite"):
        pool(broken, ids, rows)
    opposite = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    with pytest.raises(EvaluationError, match="template 'u' cancel out"):
        pool(opposite, ["a", "b", "c"], [("c", "t", "m"), ("a", "u", "m"), ("b", "u", "n")])
    with pytest.raises(EvaluationError, match="template 't' cancel out, or have length 0"):
        pool(np.zeros((1, 2), np.float32), ["a"], [("a", "t", "m")])
    with pytest.raises(ValueError, match="ids for"):
        pool(embeddings, ids[1:], rows)
