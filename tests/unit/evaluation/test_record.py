import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import pairs_digest, verification_metrics
from facewright.evaluation.comparison import compare
from facewright.evaluation.ratios import largest_ratio
from facewright.evaluation.record import (
    FACTS,
    SCORES,
    people_of,
    read_facts,
    read_scores,
    read_slices,
    write_record,
)
from facewright.files import file_digest

from ...generated_answers import NAMES, generated, questions

NEEDED = {
    **{"pairs_digest": "p", "weights": {}, "rows": [], "flip": True, "notice": ""},
    **{"training_set": {}, "verification_set": {}, "licences": {}, "collected": {}},
    **{"engines_not_run": {}, "slices": [], "bootstrap": 100},
}


@pytest.fixture(scope="module")
def people() -> dict[str, str]:
    images = questions().images
    return dict(zip(images["id"], images["identity"], strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, people: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("record")
    write_record(folder, generated()[0], identities=people, facts=NEEDED)
    return folder


def scores_of(folder: Path) -> dict[str, pd.DataFrame]:
    return read_scores(folder / SCORES, digest=read_facts(folder)["scores_digest"])


def test_no_file_of_the_record_names_a_photo_or_a_person(
    folder: Path, people: dict[str, str]
) -> None:
    """Ids hold names of people, and the record goes to the registry."""
    names = {*people, *people.values()}
    assert {file.suffix for file in folder.iterdir()} == {".parquet", ".csv", ".json"}
    for file in folder.iterdir():
        if file.suffix == ".parquet":
            text = pd.read_parquet(file).astype(str).to_csv()
            # Nor in what pandas writes beside the rows, such as categories of no row.
            text += file.read_bytes().decode("latin-1")
        else:
            text = file.read_text()
        assert not [name for name in names if name in text], file


def test_images_are_the_digests_of_their_photos(folder: Path) -> None:
    images = questions().images
    digests = dict(zip(images["id"], images["photo_sha256"], strict=True))
    written = scores_of(folder)
    assert tuple(written) == NAMES
    for name, found in written.items():
        scores = generated()[0][name].scores
        for side in ("a", "b"):
            assert found[side].tolist() == [digests[id] for id in scores[side]]
        np.testing.assert_array_equal(found["similarity"], scores["similarity"])
        assert found["status"].tolist() == scores["status"].tolist()


def test_figures_can_be_computed_again_from_the_record(folder: Path) -> None:
    for name, scores in scores_of(folder).items():
        again = verification_metrics(
            scores,
            identities=people_of(scores),
            fmr_targets=questions().fmr_targets,
            bootstrap=questions().bootstrap,
            seed=0,
        )
        metrics = generated()[0][name].metrics
        assert again == {key: metrics[key] for key in again}


def test_people_are_told_apart_and_not_named(folder: Path, people: dict[str, str]) -> None:
    scores = scores_of(folder)["student"]
    found = people_of(scores)
    digests = dict(zip(questions().images["photo_sha256"], people, strict=True))
    pairs = {(number, people[digests[key]]) for key, number in found.items()}
    assert len(pairs) == len({number for number, _ in pairs}) == len({who for _, who in pairs})
    assert all(number.isdigit() for number, _ in pairs)
    # Their order is that of digests: it says nothing about names.
    in_order = [who for _, who in sorted(pairs, key=lambda pair: int(pair[0]))]
    assert in_order != sorted(in_order)


def test_another_evaluation_of_renamed_photos_is_compared_photo_by_photo(
    folder: Path, tmp_path: Path, people: dict[str, str]
) -> None:
    """The digest of the pairs does not know ids or their order; nor may the comparison."""
    asked, answer = questions(), generated()[0]["student"]
    new = {id: f"{k:05d}" for k, id in enumerate(sorted(people, key=lambda id: id[::-1]))}
    turned = answer.scores.rename(columns={"a": "b", "b": "a"}).sample(frac=1, random_state=1)
    renamed = turned.assign(**{side: turned[side].astype(str).map(new) for side in ("a", "b")})
    other = replace(
        answer, scores=renamed, photos={new[id]: name for id, name in answer.photos.items()}
    )
    write_record(
        tmp_path,
        {"student": other},
        identities={new[id]: who for id, who in people.items()},
        facts=NEEDED,
    )
    photos = dict(zip(asked.images["id"], asked.images["photo_sha256"], strict=True))
    one = pairs_digest(answer.scores, photos=photos)
    assert one == pairs_digest(renamed, photos={new[id]: photo for id, photo in photos.items()})
    mine, theirs = scores_of(folder), scores_of(tmp_path)
    settings = {"fmr_target": 0.1, "bootstrap": 20, "seed": 0}
    same = compare(
        theirs["student"],
        mine["student"],
        identities=people_of(theirs["student"]),
        **settings,  # type: ignore[arg-type]
    )
    assert same.accuracy is not None
    assert (same.accuracy.gain, same.accuracy.won, same.accuracy.lost) == (0, 0, 0)
    # And as the same scores under their own names would be.
    alike = compare(
        generated()[0]["teacher"].scores,
        answer.scores,
        identities=people,
        **settings,  # type: ignore[arg-type]
    )
    apart = compare(
        mine["teacher"],
        theirs["student"],
        identities=people_of(mine["teacher"]),
        **settings,  # type: ignore[arg-type]
    )
    assert apart.accuracy is not None
    assert alike.accuracy is not None
    for key in ("challenger", "champion", "won", "lost"):
        assert getattr(apart.accuracy, key) == getattr(alike.accuracy, key)


def test_photos_without_a_digest_are_not_written_under_their_names(
    tmp_path: Path, people: dict[str, str]
) -> None:
    answer = replace(generated()[0]["student"], photos={})
    with pytest.raises(EvaluationError, match=r"^the digest of the photo of 'Name\d+/photo\d' is"):
        write_record(tmp_path, {"student": answer}, identities=people, facts=NEEDED)
    assert not list(tmp_path.iterdir())


def test_two_copies_of_a_photo_stay_two_images(tmp_path: Path, people: dict[str, str]) -> None:
    answer = generated()[0]["student"]
    first, second = answer.scores["a"].iloc[0], answer.scores["b"].iloc[0]
    photos = {**answer.photos, second: f"{answer.photos[first]}-2"}
    write_record(
        tmp_path, {"student": replace(answer, photos=photos)}, identities=people, facts=NEEDED
    )
    row = scores_of(tmp_path)["student"].iloc[0]
    assert row["b"] == f"{row['a']}-2"


def test_what_was_not_measured_is_in_the_facts(tmp_path: Path, people: dict[str, str]) -> None:
    told = {"identification": "nobody can be enrolled"}
    answers = {"student": replace(generated()[0]["student"], not_measured=told)}
    write_record(tmp_path, answers, identities=people, facts=NEEDED)
    facts = read_facts(tmp_path)
    assert facts["not_measured"] == {"student": told}
    assert facts["scores_digest"] == file_digest(tmp_path / SCORES)
    kept = {key: value for key, value in NEEDED.items() if key != "rows"}
    assert {key: facts[key] for key in kept} == kept
    assert facts["rows"] == [{"recognizer": "student", **answers["student"].metrics}]


@pytest.mark.parametrize("odd", ["NA", "None", "null", "nan", "007", " x "])
def test_a_group_may_have_any_name(tmp_path: Path, people: dict[str, str], odd: str) -> None:
    answer = generated()[0]["student"]
    renamed = answer.slices.assign(value=answer.slices["value"].replace({"north": odd}))
    changed = replace(answer, slices=renamed)
    write_record(tmp_path, {"student": changed}, identities=people, facts=NEEDED)
    read = read_slices(tmp_path / "slices.csv")
    assert odd in read["value"].tolist()
    expected = renamed.assign(recognizer="student")
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)
    for rate in ("fnmr", "fmr"):
        assert largest_ratio(read, rate) == largest_ratio(expected, rate)
    ratio = largest_ratio(read, "fnmr")["group"]
    assert ratio is not None
    assert odd in (ratio.highest, ratio.lowest)


def test_a_rate_over_no_pair_is_read_as_none(tmp_path: Path) -> None:
    path = tmp_path / "slices.csv"
    path.write_text("column,value,genuine,fnmr,recognizer\ngroup,NA,0,,student\n")
    (row,) = read_slices(path).to_dict("records")
    assert (row["value"], row["genuine"]) == ("NA", 0)
    assert np.isnan(row["fnmr"])


def test_edited_missing_and_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    facts = read_facts(folder)
    path = tmp_path / SCORES
    with pytest.raises(EvaluationError, match="is missing: run evaluate first"):
        read_scores(path, digest=facts["scores_digest"])
    frame = pd.read_parquet(folder / SCORES)
    frame.loc[0, "similarity"] = 0.99
    frame.to_parquet(path, index=False)
    with pytest.raises(EvaluationError, match="was changed after it was written"):
        read_scores(path, digest=facts["scores_digest"])
    path.write_text("no parquet")
    with pytest.raises(EvaluationError, match="holds no scores"):
        read_scores(path, digest=file_digest(path))


def test_facts_that_are_missing_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is missing: run evaluate first"):
        read_facts(tmp_path)
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    del facts["rows"], facts["flip"]
    (tmp_path / FACTS).write_text(json.dumps(facts))
    with pytest.raises(EvaluationError, match="lacks rows, flip: run evaluate again"):
        read_facts(tmp_path)
    for text in ("", "[1", "3"):
        (tmp_path / FACTS).write_text(text)
        with pytest.raises(EvaluationError, match="holds no evaluation"):
            read_facts(tmp_path)
