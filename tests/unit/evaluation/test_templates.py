"""Templates: pooled embeddings, and a row for each, against a walk through them one by one."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import pairs_digest, score_pairs
from facewright.evaluation import templates as module
from facewright.evaluation.slices import with_derived
from facewright.evaluation.templates import Subjects, pool_templates, template_table

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


IMAGES = pd.DataFrame(
    {
        "id": ["A/1", "A/2", "A/3", "B/1", "B/2"],
        "identity": ["A", "A", "A", "B", "B"],
        "status": ["ok", "no_face", "ok", "rejected", "no_face"],
        "reason": ["", "no face was found", "", "undecodable", "no face was found"],
        "photo_sha256": ["d1", "d2", "d3", "d4", "d5"],
        "quality": [0.25, np.nan, 0.75, np.nan, np.nan],
        "age": pd.array([20, 99, 30, None, 40], "Int64"),
        "tone": ["dark", "dark", "dark", "light", None],
        "camera": ["c1", "c1", "c2", None, None],
        "indoors": [True, True, True, False, True],
        "landmarks": [
            [30, 40, 70, 40, 50, 60, 35, 80, 65, 80],
            None,
            [30, 40, 70, 40, 60, 60, 35, 80, 65, 80],
            None,
            None,
        ],
        "words": [["x"], None, None, None, None],
    }
)
HELD = pd.DataFrame(
    [("B/1", "t", "m"), ("A/3", "s", "n"), ("A/2", "s", "m"), ("A/1", "s", "m"), ("A/1", "u", "m"),
     ("B/2", "t", "k")],
    columns=["id", "template", "media"],
)  # fmt: skip


def test_a_row_per_template() -> None:
    table = template_table(IMAGES, HELD)
    turn = with_derived(IMAGES)["turn"]
    assert table["id"].tolist() == ["t", "s", "u"]
    assert table["identity"].tolist() == ["B", "A", "A"]
    assert table["status"].tolist() == ["failure", "ok", "ok"]
    assert table["photos"].tolist() == [2, 3, 1]
    means = {"quality": [np.nan, 0.5, 0.25], "age": [np.nan, 25.0, 20.0]}
    means["turn"] = [np.nan, (turn[0] + turn[2]) / 2, turn[0]]
    for name, expected in means.items():
        np.testing.assert_allclose(table[name], expected)
    known = {name: table[name].tolist() for name in ("tone", "camera", "indoors")}
    assert known["tone"][1:] == ["dark", "dark"]
    assert known["camera"][2] == "c1"
    assert known["indoors"][1:] == [True, True]
    assert [pd.isna(known["tone"][0]), pd.isna(known["camera"][1])] == [True, True]
    assert pd.isna(known["indoors"][0])
    assert not {"reason", "landmarks", "words"} & set(table.columns)


def test_a_templates_digest_changes_with_what_is_pooled_alone() -> None:
    digests = template_table(IMAGES, HELD).set_index("id")["photo_sha256"]
    assert digests["s"] == hashlib.sha256(b"d1 d2\nd3").hexdigest()
    assert digests["t"] == hashlib.sha256(b"d4\nd5").hexdigest()
    shuffled = template_table(IMAGES[::-1], HELD[::-1]).set_index("id")["photo_sha256"]
    assert shuffled[digests.index].equals(digests)
    renamed = template_table(IMAGES, HELD.replace("s", "z")).set_index("id")["photo_sha256"]
    assert renamed["z"] == digests["s"]
    media = template_table(IMAGES, HELD.replace({"media": {"m": "z"}})).set_index("id")
    assert media["photo_sha256"].equals(digests)
    for changed in (HELD.replace("n", "m"), HELD.drop(index=2)):
        assert template_table(IMAGES, changed).set_index("id")["photo_sha256"]["s"] != digests["s"]


def test_an_image_that_is_not_there_is_named() -> None:
    with pytest.raises(EvaluationError, match="image 'A/9' of a template is not among the images"):
        template_table(IMAGES, HELD.replace("A/1", "A/9"))


def test_subjects_are_images_or_templates() -> None:
    ids = ["A/1", "A/3"]
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    crops = np.arange(2 * 4).reshape(2, 2, 2, 1).astype(np.uint8)
    own, pooled = Subjects(IMAGES, None), Subjects(IMAGES, HELD)
    assert own.table is IMAGES
    assert own.embeddings(ids, vectors) == (ids, vectors)
    assert pooled.table.equals(template_table(IMAGES, HELD))
    for subjects in (own, pooled):
        rows = subjects.table.to_dict("records")
        assert subjects.identities == {row["id"]: row["identity"] for row in rows}
        assert subjects.of({"A"}) == {row["id"] for row in rows if row["identity"] == "A"} != set()
        pairs = pd.DataFrame({"fold": 0, "label": 0, "a": [rows[0]["id"]], "b": [rows[1]["id"]]})
        photos = {row["id"]: row["photo_sha256"] for row in rows}
        assert subjects.digest(pairs) == pairs_digest(pairs, photos=photos)
    names, means = pooled.embeddings(ids, vectors)
    assert list(names) == ["s", "u"]
    np.testing.assert_allclose(means, [[np.sqrt(0.5)] * 2, [1, 0]], atol=1e-7)
    # The first image of the list that has a crop is shown.
    for subjects, shown in ((own, {"A/1": 0, "A/3": 1}), (pooled, {"s": 1, "u": 0})):
        faces = subjects.faces(ids, lambda rows: crops[rows])
        for name, place in shown.items():
            assert (faces(name) == crops[place]).all()
