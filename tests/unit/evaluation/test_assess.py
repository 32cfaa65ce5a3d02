from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import verification_metrics
from facewright.evaluation.assess import Answers, Questions, assess, opaque
from facewright.evaluation.card import told_not_measured
from facewright.evaluation.pairs import score_pairs
from facewright.evaluation.report import write_report

from ...generated_answers import embeddings, generated, questions, without

NOISE = 1.0


def ask(asked: Questions) -> Answers:
    ids, vectors = embeddings(asked, NOISE)
    return assess(asked, ids=ids, embeddings=vectors)


@pytest.fixture(scope="module")
def asked() -> Questions:
    return questions(people=30)


@pytest.fixture(scope="module")
def answer(asked: Questions) -> Answers:
    return ask(asked)


def of_pairs(asked: Questions, pairs: pd.DataFrame) -> dict[str, float]:
    ids, vectors = embeddings(asked, NOISE)
    people = dict(zip(asked.images["id"], asked.images["identity"], strict=True))
    return verification_metrics(
        score_pairs(pairs, ids=ids, embeddings=vectors),
        identities=people,
        fmr_targets=asked.fmr_targets,
        bootstrap=asked.bootstrap,
        seed=asked.seed,
    )


def test_figures_are_those_of_all_pairs_and_of_those_without_overlap(
    asked: Questions, answer: Answers
) -> None:
    metrics = answer.metrics
    for key, value in of_pairs(asked, asked.pairs).items():
        assert metrics[key] == value, key
    known = asked.pairs["a"].isin(asked.trained) | asked.pairs["b"].isin(asked.trained)
    assert metrics["overlap_pairs"] == known.sum() > 0
    rest = of_pairs(asked, asked.pairs[~known])
    told = {k.removesuffix("_without_overlap"): v for k, v in metrics.items() if "_without" in k}
    assert told == rest
    assert rest["pairs"] == metrics["pairs"] - known.sum()


def test_ranks_are_those_of_looking_at_everybody(asked: Questions, answer: Answers) -> None:
    """The photo that comes first by id is enrolled; people are left out as the split says."""
    ids, vectors = embeddings(asked, NOISE)
    at = dict(zip(ids, vectors, strict=True))
    images = asked.images.sort_values("id").groupby("identity")["id"].apply(list)
    people = answer.metrics["gallery_people"]
    assert people == 30 - round(0.3 * 30) - answer.metrics["failures_gallery"]
    assert answer.sizes["people"].tolist() == [10, people]  # a gallery of 25 is larger than all
    # Who is enrolled, only the split knows; with nobody left out the ranks can be counted here.
    found = ask(replace(asked, unenrolled_share=0.0))
    first = 0
    probes = [(who, name) for who, names in images.items() for name in names[1:]]
    for who, name in probes:
        if name in at and images[who][0] in at:
            scores = {p: at[name] @ at[names[0]] for p, names in images.items() if names[0] in at}
            first += max(scores, key=lambda p: scores[p]) == who
    assert found.metrics["rank_1"] == pytest.approx(first / len(probes))
    assert found.metrics["probes_mated"] == len(probes)


def test_the_threshold_of_slices_is_that_of_the_finest_target(
    asked: Questions, answer: Answers
) -> None:
    assert set(answer.slices["column"]) == {"all", "quality", "photos", "group"}
    assert (answer.slices["threshold"] == answer.metrics["threshold_at_fmr_0.1"]).all()
    assert answer.slices["fmr"][0] <= 0.1
    coarse = ask(replace(asked, fmr_targets=[0.001]))  # not supported
    assert (coarse.slices["threshold"] == coarse.metrics["threshold_accuracy"]).all()


def test_nothing_is_missing_where_the_set_supports_all(answer: Answers) -> None:
    assert answer.not_measured == {}
    assert answer.calibration is not None
    assert answer.metrics["calibration_error"] < 0.1


def written(path: Path, answer: Answers) -> str:
    write_report(path, title="x", notice="", answers={"student": answer})
    return path.read_text().replace("\u00a0", " ")


def told(answer: Answers, page: str, what: str, why: str) -> None:
    """One thing is not measured, and the page and the card's caveats say so."""
    assert why in answer.not_measured[what]
    assert f"Not measured for student: {what}: " in page
    assert any(
        line.startswith(f"Not measured: {what}: ")
        for line in told_not_measured(answer.not_measured)
    )


def test_an_overlap_that_leaves_one_kind_of_pair_is_told(asked: Questions, tmp_path: Path) -> None:
    genuine = asked.pairs[asked.pairs["label"] == 1]
    every = replace(
        asked, trained=frozenset({*genuine["a"], *genuine["b"]} - {asked.pairs["a"].iloc[-1]})
    )
    known = every.pairs["a"].isin(every.trained) | every.pairs["b"].isin(every.trained)
    pairs = pd.concat([every.pairs[known], every.pairs[~known & (every.pairs["label"] == 0)]])
    loner = pd.DataFrame(
        {"id": ["Lone/1", "Lone/2"], "identity": ["Lone1", "Lone2"], "status": "ok"}
    )
    more = pd.DataFrame({"fold": [0], "label": [0], "a": ["Lone/1"], "b": ["Lone/2"]})
    images = pd.concat([every.images, loner], ignore_index=True)
    found = ask(replace(every, pairs=pd.concat([pairs, more], ignore_index=True), images=images))
    assert found.metrics["overlap_pairs"] == len(pairs)
    assert not [key for key in found.metrics if key.endswith("_without_overlap")]
    page = written(tmp_path / "r", found)
    told(found, page, "figures without overlap", "all 1 pairs are impostor")
    assert f"{len(pairs):,} of {len(pairs) + 1:,} pairs show somebody" in page
    assert "accuracy" in found.metrics
    assert "rank_1" in found.metrics


def test_whom_an_earlier_training_saw_is_unknown_and_told(asked: Questions, tmp_path: Path) -> None:
    start = "models:/facewright@champion (weights 0123456789ab)"
    found = ask(replace(asked, began_from=start))
    page = written(tmp_path / "r", found)
    what = "overlap with the people of an earlier training"
    told(found, page, what, f"unknown, since training began from {start}, and whom that has seen")
    assert what not in ask(asked).not_measured


def test_a_set_in_which_nobody_can_be_searched_for_is_told(
    asked: Questions, tmp_path: Path
) -> None:
    """All are left out of the gallery; or there is no face in any photo that is enrolled."""
    found = ask(replace(asked, unenrolled_share=0.99))
    page = written(tmp_path / "r", found)
    told(found, page, "identification", "nobody can be enrolled")
    assert not [key for key in found.metrics if key.startswith(("rank_", "fnir_"))]
    first = asked.images.sort_values("id").drop_duplicates("identity")["id"]
    ids, vectors = embeddings(asked, NOISE)
    kept = [k for k, name in enumerate(ids) if name not in set(first)]
    found = assess(asked, ids=[ids[k] for k in kept], embeddings=vectors[kept])
    assert "nobody is enrolled" in found.not_measured["identification"]
    assert found.metrics["failures"] > 0


def test_a_column_without_any_value_is_told(asked: Questions, tmp_path: Path) -> None:
    images = asked.images.assign(quality=np.nan, light="")
    found = ask(replace(asked, images=images, slices=["quality", "group"]))
    page = written(tmp_path / "r", found)
    told(found, page, "slices by quality", "no photo of the pairs has a value")
    assert set(found.slices["column"]) == {"all", "group"}
    alone = ask(replace(asked, images=images, slices=["quality"]))
    assert alone.slices.empty
    told(alone, written(tmp_path / "r", alone), "slices by quality", "no photo of the pairs")


def test_a_slice_without_genuine_pairs_is_no_error(asked: Questions, tmp_path: Path) -> None:
    """Photos of a group that are in impostor pairs alone."""
    lone = [name for _, name in asked.images.groupby("identity")["id"].first().items()]
    genuine = asked.pairs["label"] == 1
    pairs = asked.pairs[~(genuine & (asked.pairs["a"].isin(lone) | asked.pairs["b"].isin(lone)))]
    images = asked.images.assign(group=np.where(asked.images["id"].isin(lone), "first", "later"))
    found = ask(replace(asked, pairs=pairs, images=images, slices=["group"]))
    rows = found.slices.set_index("value")
    assert rows.loc["first", "genuine"] == 0 < rows.loc["first", "compared"]
    assert np.isnan(rows.loc["first", "fnmr"])
    assert "nan" not in written(tmp_path / "r", found).lower()


def test_without_folds_only_what_needs_them_is_missing(asked: Questions, tmp_path: Path) -> None:
    flat = ask(replace(asked, pairs=asked.pairs.assign(fold=0)))
    page = written(tmp_path / "r", flat)
    told(flat, page, "probabilities on unseen folds", "all pairs are in one fold")
    assert flat.calibration is not None
    assert "threshold_accuracy" in flat.metrics


def test_no_compared_genuine_pair_is_no_calibration_and_still_an_answer(asked: Questions) -> None:
    ids, vectors = embeddings(asked, NOISE)
    first = asked.images.drop_duplicates("identity")["id"]
    kept = [k for k, name in enumerate(ids) if name in set(first)]
    found = assess(asked, ids=[ids[k] for k in kept], embeddings=vectors[kept])
    assert found.calibration is None
    assert "is genuine" in found.not_measured["probabilities on unseen folds"]
    assert found.metrics["failures_genuine"] == found.metrics["genuine"]


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        (["quality", "qualty"], "the photos have no column 'qualty', they have status, .*quality"),
        (["group", "group"], "names the column 'group' twice"),
        (["identity"], "'identity' names people"),
    ],
)
def test_wrong_slices_are_refused_before_anything_is_embedded(
    asked: Questions, slices: list[str], said: str
) -> None:
    with pytest.raises(EvaluationError, match=f"^evaluate.slices:? {said}"):
        replace(asked, slices=slices)


def test_all_pairs_of_one_kind_stay_an_error(asked: Questions) -> None:
    with pytest.raises(EvaluationError, match="pairs are genuine: add impostor pairs"):
        ask(replace(asked, pairs=asked.pairs[asked.pairs["label"] == 1]))


def test_opaque_names_are_the_digests_of_the_photos_and_all_different() -> None:
    images = pd.DataFrame({"id": ["b", "c", "a", "d"], "photo_sha256": ["1f", "2f", "1f", "1f"]})
    names = opaque(images)
    assert names == {"a": "1f", "b": "1f-2", "c": "2f", "d": "1f-3"}
    assert opaque(images[::-1]) == names
    assert opaque(images[["id"]]) == {}


def test_another_order_of_pairs_gives_the_same_figures(asked: Questions, answer: Answers) -> None:
    turned = asked.pairs.sample(frac=1, random_state=0).rename(columns={"a": "b", "b": "a"})
    found = ask(replace(asked, pairs=turned))
    for key, value in found.metrics.items():
        if not {"low", "high"} & set(key.split("_")):  # people are drawn in the order of the pairs
            assert value == pytest.approx(answer.metrics[key], abs=1e-12), key


def test_generated_answers_hold_real_figures() -> None:
    """What reports and cards are tested on is what the computation gives, bound included."""
    answers, _, _ = generated()
    for answer in answers.values():
        scores = answer.scores
        impostor = scores.loc[scores["label"] == 0, "similarity"].max()
        assert answer.metrics["threshold_at_fmr_bound"] == np.nextafter(impostor, np.inf)
        missed = ~(scores.loc[scores["label"] == 1, "similarity"] > impostor)
        assert answer.metrics["fnmr_at_fmr_bound"] == pytest.approx(missed.mean())
    assert "eer" not in without(answers["teacher"], "eer").metrics


def test_pairs_of_many_people_need_no_more_than_their_names(asked: Questions) -> None:
    """Names become numbers once, when the questions are made, and stay the same names."""
    plain = questions(people=30).pairs
    assert plain["a"].astype(str).tolist() == asked.pairs["a"].astype(str).tolist()
    again = replace(asked, seed=1)
    assert again.pairs is asked.pairs
    assert len(list(combinations(range(4), 2))) * 30 == (asked.pairs["label"] == 1).sum()
