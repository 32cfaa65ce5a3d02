"""Validation: every reason, counted and stated by the suites; sets without sense are refused."""

import io
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facewright.datasets.importing import import_dataset
from facewright.errors import DatasetError
from facewright.files import directory_digest
from tests.unit.datasets.validation.photos import (
    GOOD,
    PAIRS,
    VERIFY,
    Build,
    flat,
    photo,
    reasons,
    scenes,
    validate,
    write_photos,
)


def test_good_sets_pass_whole(build: Build) -> None:
    data = build(GOOD, licence="CC0", consent="asked")
    metrics, train, verify = validate(data)
    assert reasons(train) == reasons(verify) == {}
    assert metrics["train.ok"] == len(GOOD)
    assert metrics["train.ok_identities"] == 3
    assert metrics["verify.ok"] == len(VERIFY)
    assert metrics["pairs"] == len(PAIRS)
    assert metrics["expectations_failed"] == 0
    output = data.parent / "validate"
    assert json.loads(json.dumps(metrics)) == metrics
    pairs = pd.read_parquet(output / "pairs.parquet")
    assert set(pairs["a"]) | set(pairs["b"]) <= set(verify["id"])
    assert (output / "overlap.txt").read_text() == ""
    assert all((data / shard).is_file() for shard in [*train["shard"], *verify["shard"]])


def test_every_fault_of_a_training_photo_has_its_reason(build: Build) -> None:
    faults = {
        "Ann/text.jpg": b"a text file",
        "Ann/cut.png": photo(90)[:-300],
        "Ann/small.png": photo(91, height=39),
        "Ann/strip.png": photo(92, height=101),
        "Ann/blurred.png": flat(128),
        "Ann/dark.png": photo(93, low=0, high=30),
        "Ann/bright.png": photo(94, low=230, high=256),
        "Bea/copy.png": GOOD["Bea/0.png"],
        "Bea/other.png": photo(95),
        "Cyd/other.png": photo(95),
        "Cyd/leaked.png": VERIFY["Xia/0.png"],
        "Yva/1.png": photo(96),
        "Yva/2.png": photo(97),
        "Dot/single.png": photo(98),
        "Eve/1.png": photo(99),
        "Eve/2.png": flat(128),
    }
    metrics, train, _ = validate(build(GOOD | faults))
    expected = {
        "Ann/text": "undecodable",
        "Ann/cut": "undecodable",
        "Ann/small": "too_small",
        "Ann/strip": "aspect",
        "Ann/blurred": "blurred",
        "Ann/dark": "dark",
        "Ann/bright": "bright",
        "Bea/copy": "duplicate",
        "Bea/other": "label_conflict",
        "Cyd/other": "label_conflict",
        "Cyd/leaked": "content_overlap",
        "Yva/1": "identity_overlap",
        "Yva/2": "identity_overlap",
        "Dot/single": "few_images",
        "Eve/1": "few_images",  # its other photo was rejected first
        "Eve/2": "blurred",
    }
    assert reasons(train) == expected
    for reason in set(expected.values()):
        count = list(expected.values()).count(reason)
        assert metrics[f"train.rejected.{reason}"] == count, reason
    assert metrics["train.rejected"] == len(expected)
    assert metrics["identities_dropped_for_overlap"] == 1


def test_limits_belong_to_the_range(build: Build) -> None:
    data = build(GOOD | {"Ann/edge.png": photo(1, height=40, width=80)})
    assert reasons(validate(data)[1]) == {}
    assert reasons(validate(data, min_side=41)[1]) == {"Ann/edge": "too_small"}
    assert reasons(validate(data, max_aspect=1.99)[1]) == {"Ann/edge": "aspect"}


def test_hard_verification_photos_are_noticed_and_stay(build: Build) -> None:
    hard = VERIFY | {"Xia/0.png": flat(128), "Xia/1.png": flat(3), "Yva/0.png": b"no"}
    metrics, _, verify = validate(build(GOOD, verify=hard))
    assert reasons(verify) == {"Yva/0": "undecodable"}
    assert metrics["verify.noticed.blurred"] == 2
    assert metrics["verify.noticed.dark"] == 1
    assert len(verify) == len(VERIFY)
    assert metrics["pairs"] == len(PAIRS)


def test_shared_people_are_named_and_said(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    shared = {f"{who}/{k}.png": photo(700 + k) for who in ("Yva",) for k in range(4, 6)}
    data = build(GOOD | shared)
    metrics, train, _ = validate(data)
    assert metrics["identities_dropped_for_overlap"] == 1
    assert (data.parent / "validate" / "overlap.txt").read_text() == "Yva\n"
    assert set(train.loc[train["reason"] == "identity_overlap", "identity"]) == {"Yva"}
    assert "1 training identities are in the verification set too" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"0\.25, needed at most 0\.1"):
        validate(data, max_overlap=0.1)


def test_names_are_compared_in_one_spelling(build: Build) -> None:
    decomposed, composed = "Rene\u0301", "Ren\u00e9"
    verify = {name.replace("Yva/", f"{composed}/"): data for name, data in VERIFY.items()}
    pairs = tuple(line.replace("Yva/", f"{composed}/") for line in PAIRS)
    train = GOOD | {f"{decomposed}/{k}.png": photo(800 + k) for k in range(2)}
    metrics, _, _ = validate(build(train, verify=verify, pairs=pairs))
    assert metrics["identities_dropped_for_overlap"] == 1


def test_two_training_sets_share_people_and_keep_ids_apart(build: Build) -> None:
    other = {"Ann/0.png": photo(900), "Ann/9.png": photo(901), "Dot/0.png": GOOD["Bea/1.png"]}
    metrics, train, _ = validate(build(GOOD, other, licence="CC0", consent="asked"))
    assert train["id"].is_unique
    assert {"set0/Ann/0", "set1/Ann/0"} <= set(train["id"])
    assert set(train["dataset"]) == {"set0", "set1"}
    assert metrics["identities_in_several_datasets"] == 1
    assert metrics["train.identities"] == 4
    # One photo under two names, one in each set: neither label can be trusted.
    conflicts = train.loc[train["reason"] == "label_conflict", "id"]
    assert set(conflicts) == {"set0/Bea/1", "set1/Dot/0"}
    row = train[train["id"] == "set1/Ann/0"].iloc[0]
    assert row["shard"] == "train/set1/shards/00000.tar"


def test_one_identity_is_refused(build: Build) -> None:
    data = build({name: data for name, data in GOOD.items() if name.startswith("Ann/")})
    with pytest.raises(DatasetError) as caught:
        validate(data)
    assert "the train set: identities with usable photos: 1, needed at least 2" in str(caught.value)


def test_sets_that_are_missing_or_too_many_are_refused(build: Build) -> None:
    data = build(GOOD)
    shutil.copytree(data / "verify" / "test", data / "verify" / "more")
    with pytest.raises(DatasetError, match="holds 2 datasets"):
        validate(data)
    shutil.rmtree(data / "verify" / "more")
    pairs = data / "verify" / "test" / "pairs.parquet"
    pd.read_parquet(pairs).iloc[:0].to_parquet(pairs)
    with pytest.raises(DatasetError, match="no verification pair was found"):
        validate(data)
    pairs.unlink()
    with pytest.raises(DatasetError, match="has no pairs: import it with --pairs"):
        validate(data)
    shutil.rmtree(data / "train")
    with pytest.raises(DatasetError, match=r"no dataset in .*train"):
        validate(data)


def test_data_docs_state_the_same_limits_and_counts(build: Build) -> None:
    """What the pages say is broken is what the verdicts count, reason by reason."""
    data = build(GOOD | {"Ann/small.png": photo(91, height=39), "Ann/blurred.png": flat(128)})
    metrics, _, _ = validate(data)
    docs = data.parent / "validate" / "data_docs"
    table = _index(docs)
    broken = {(row[0], row[2]): int(row[6].split(" ")[0]) for row in table}
    assert broken["train_images", "too_small"] == metrics["train.rejected.too_small"] == 1
    assert broken["train_images", "blurred"] == metrics["train.rejected.blurred"] == 1
    assert broken["cards", "missing"] == 2  # neither set states its licence
    limits = {(row[0], row[2]): (row[4], row[5]) for row in table}
    assert limits["train_images", "too_small"] == ("40", "")
    assert limits["verify_images", "bright"] == ("", "240")
    assert limits["train_identities", "few_images"] == ("2", "")
    assert metrics["expectations_failed"] == sum(row[8] == "broken" for row in table)
    named = {(row[0], row[2]): row[7] for row in table}
    assert named["train_images", "too_small"] == "Ann/small"
    assert named["train_images", "undecodable"] == ""
    assert named["cards", "missing"] == "train/set0, verify/test"


def _index(docs: Path) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", (docs / "index.html").read_text())[1:]
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows
    ]


def test_data_docs_need_no_network_and_repeat_byte_for_byte(build: Build) -> None:
    data = build(GOOD)
    validate(data)
    output = data.parent / "validate"
    first = directory_digest(output)
    pages = list((output / "data_docs").rglob("*.html"))
    assert len(pages) >= 11  # the index, a page per suite, a page per result
    for page in pages:
        text = page.read_text()
        assert not re.search(r"(src|url\(|<link)[^>]*https?://", text), page
        assert str(data.parent) not in text
    for link in re.findall(r'href="([^"]+)"', (output / "data_docs" / "index.html").read_text()):
        assert (output / "data_docs" / link).is_file()
    validate(data)
    assert directory_digest(output) == first


def test_near_copies_of_verification_photos_are_rejected(build: Build) -> None:
    """The photo is; that all of the identity goes is only proposed, where some is left of it."""
    train = GOOD | scenes("Dot", 7, 8, 9, side=90, quality=60) | scenes("Eve", 3, 4)
    data = build(train, verify=VERIFY | scenes("Xia", 7, side=64))
    metrics, table, _ = validate(data, near_distance=40)
    assert reasons(table) == {"Dot/7": "near_overlap"}
    assert metrics["proposed.near_overlap_identity"] == 1
    assert metrics["train.rejected.near_overlap"] == 1
    assert reasons(validate(data)[1]) == {}


def test_colour_sources_and_numbers_are_limited_where_asked(build: Build) -> None:
    """Two of three photos of Bea come from a film; of Cyd's with a source half; of Ann's none."""
    grey = cv2.imencode(".png", np.random.default_rng(1).integers(50, 200, (60, 50), np.uint8))[1]
    more = {"Ann/grey.png": grey.tobytes(), "Ann/more.png": photo(60)}
    more |= {f"Dot/{k}.png": photo(70 + k) for k in range(2)}
    data = build(GOOD | more)
    path = data / "train" / "set0" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    film = {"Bea/0": "film", "Bea/1": "film", "Bea/2": "site", "Cyd/0": "site", "Cyd/1": "film"}
    manifest["source"] = manifest["id"].map(film)
    manifest.to_parquet(path)
    assert reasons(validate(data)[1]) == {}
    limits = {"min_colour": 5.0, "max_source_share": 0.6, "max_images_per_identity": 3}
    _, train, _ = validate(data, **limits)
    assert reasons(train) == (
        {f"Bea/{k}": "one_source" for k in range(3)}
        | {f"Ann/{k}": "many_images" for k in (0, 1, 2, "more")}
        | {"Ann/grey": "grey"}
    )


def test_what_is_far_from_other_identities_is_noticed_without_a_limit(build: Build) -> None:
    """Ann has 11 times the median of two; all but one photo of Bea come from a film."""
    photos = {f"Ann/{k}.png": photo(100 + k) for k in range(22)}
    photos |= {
        f"{who}/{k}.png": photo(130 + 2 * i + k) for i, who in enumerate("CDEFG") for k in (0, 1)
    }
    photos |= {f"Bea/{k}.png": photo(150 + k) for k in range(12)} | {"Hal/0.png": photo(170)}
    data = build(photos)
    path = data / "train" / "set0" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    film = {f"Bea/{k}": "film" if k else "site" for k in range(12)}
    film |= {"C/0": "film", "C/1": "film"}  # too few to say anything
    manifest.assign(source=manifest["id"].map(film)).to_parquet(path)
    metrics, train, _ = validate(data, thumbnails=4)
    assert reasons(train) == {"Hal/0": "few_images"}
    assert metrics["train.noticed.many_images"] == 22
    assert metrics["train.noticed.one_source"] == 12
    broken = {row[2]: row[6] for row in _index(data.parent / "validate" / "data_docs")}
    assert broken["many_images"].startswith("1 ")
    assert broken["one_source"].startswith("1 ")
    pages = {path.name for path in (data.parent / "validate" / "data_docs").rglob("*.html")}
    assert any("many_images" in name for name in pages)
    metrics, _, _ = validate(data, max_images_per_identity=22, max_source_share=1.0)
    assert metrics["train.rejected.many_images"] == metrics["train.rejected.one_source"] == 0
    manifest.assign(source="web").to_parquet(path)  # one for all says nothing of anybody
    assert validate(data)[0]["train.noticed.one_source"] == 0


def test_files_of_several_pictures_are_noticed_and_stay(build: Build) -> None:
    file = io.BytesIO()
    frames = [Image.open(io.BytesIO(photo(k))) for k in (60, 61)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    metrics, train, _ = validate(build(GOOD | {"Ann/two.webp": file.getvalue()}))
    assert metrics["train.noticed.animated"] == 1
    assert metrics["verify.noticed.animated"] == 0
    assert reasons(train) == {}


def test_drift_is_measured_against_the_previous_set(build: Build) -> None:
    data = build(GOOD)
    metrics, _, _ = validate(data)
    assert not [key for key in metrics if key.startswith("drift.")]
    shutil.copy(data.parent / "validate" / "profile.json", data / "reference.json")
    metrics, _, _ = validate(data)
    assert metrics["drift.train.brightness"] == metrics["drift.verify.images"] == 0
    darker = {
        f"{who}/{k}.png": photo(40 + 3 * i + k, low=20, high=90)
        for i, who in enumerate(("Dot", "Eve"))
        for k in range(3)
    }
    shutil.rmtree(data / "train")
    import_dataset(write_photos(data.parent / "darker", GOOD | darker), data / "train" / "set0")
    metrics, _, _ = validate(data, max_drift=0.25)
    assert metrics["drift.train.brightness"] > 0.25
    assert metrics["drift.train.images"] == pytest.approx(6 / 9, abs=1e-5)
    assert metrics["drift.verify.brightness"] == 0
    broken = {(row[0], row[2]): row[8] for row in _index(data.parent / "validate" / "data_docs")}
    assert broken["drift", "drift"] == "broken"
    assert metrics["train.rejected"] == 0


def test_what_a_manifest_brings_is_passed_on(build: Build) -> None:
    data = build(GOOD)
    path = data / "train" / "set0" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    more = {
        "landmarks": [[float(k)] * 10 for k in range(len(manifest))],
        "aligned": True,
        "source": "film",
        "camera": "left",
        "status": "theirs",  # ours is another
    }
    manifest.assign(**more).to_parquet(path)
    _, train, _ = validate(data)
    assert [list(points) for points in train["landmarks"]] == more["landmarks"]
    assert set(train["camera"]) == {"left"}
    assert train["aligned"].all()
    assert set(train["status"]) == {"ok"}
