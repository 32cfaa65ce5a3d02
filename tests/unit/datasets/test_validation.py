"""Validation: every reason, counted and stated by the suites; sets without sense are refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from facewright.datasets.importing import import_dataset
from facewright.datasets.validation import validate_datasets
from facewright.errors import DatasetError
from facewright.files import directory_digest

LIMITS: dict[str, Any] = {
    "min_side": 40,
    "max_aspect": 2.0,
    "min_sharpness": 5.0,
    "min_brightness": 16.0,
    "max_brightness": 240.0,
    "min_images_per_identity": 2,
    "max_overlap": 1.0,
}


def photo(seed: int, *, height: int = 60, width: int = 50, low: int = 60, high: int = 200) -> bytes:
    pixels = np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def flat(grey: int) -> bytes:
    return cv2.imencode(".png", np.full((60, 50, 3), grey, np.uint8))[1].tobytes()


GOOD = {f"{who}/{k}.png": photo(10 * i + k) for i, who in enumerate("ABC") for k in range(3)}
VERIFY = {f"{who}/{k}.png": photo(500 + 10 * i + k) for i, who in enumerate("XY") for k in range(2)}
PAIRS = ("0\t1\tX/0.png\tX/1.png", "0\t0\tX/0.png\tY/0.png", "1\t1\tY/0.png\tY/1.png")

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Imports training photos (one mapping per dataset) and verification photos into `data/`."""

    def make(
        *train: dict[str, bytes],
        verify: dict[str, bytes] = VERIFY,
        pairs: tuple[str, ...] = PAIRS,
        **card: str,
    ) -> Path:
        data = tmp_path / "data"
        (tmp_path / "pairs.tsv").write_text("\n".join(pairs))
        for number, photos in enumerate(train):
            source = _folder(tmp_path / f"train{number}", photos)
            import_dataset(source, data / "train" / f"set{number}", **card)
        source = _folder(tmp_path / "verify", verify)
        import_dataset(source, data / "verify" / "test", pairs=tmp_path / "pairs.tsv", **card)
        return data

    return make


def _folder(path: Path, photos: dict[str, bytes]) -> Path:
    for name, content in photos.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def validate(data: Path, **limits: Any) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    output = data.parent / "validate"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    metrics = validate_datasets(data, output, **LIMITS | limits)
    train, verify = (pd.read_parquet(output / f"{half}.parquet") for half in ("train", "verify"))
    return metrics, train, verify


def reasons(table: pd.DataFrame) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in table[table["status"] != "ok"].to_dict("records")}


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
        "A/text.jpg": b"a text file",
        "A/cut.png": photo(90)[:-300],
        "A/small.png": photo(91, height=39),
        "A/strip.png": photo(92, height=101),
        "A/blurred.png": flat(128),
        "A/dark.png": photo(93, low=0, high=30),
        "A/bright.png": photo(94, low=230, high=256),
        "B/copy.png": GOOD["B/0.png"],
        "B/other.png": photo(95),
        "C/other.png": photo(95),
        "C/leaked.png": VERIFY["X/0.png"],
        "Y/1.png": photo(96),
        "Y/2.png": photo(97),
        "D/single.png": photo(98),
        "E/1.png": photo(99),
        "E/2.png": flat(128),
    }
    metrics, train, _ = validate(build(GOOD | faults))
    expected = {
        "A/text": "undecodable",
        "A/cut": "undecodable",
        "A/small": "too_small",
        "A/strip": "aspect",
        "A/blurred": "blurred",
        "A/dark": "dark",
        "A/bright": "bright",
        "B/copy": "duplicate",
        "B/other": "label_conflict",
        "C/other": "label_conflict",
        "C/leaked": "content_overlap",
        "Y/1": "identity_overlap",
        "Y/2": "identity_overlap",
        "D/single": "few_images",
        "E/1": "few_images",  # its other photo was rejected first
        "E/2": "blurred",
    }
    assert reasons(train) == expected
    for reason in set(expected.values()):
        count = list(expected.values()).count(reason)
        assert metrics[f"train.rejected.{reason}"] == count, reason
    assert metrics["train.rejected"] == len(expected)
    assert metrics["identities_dropped_for_overlap"] == 1


def test_limits_belong_to_the_range(build: Build) -> None:
    data = build(GOOD | {"A/edge.png": photo(1, height=40, width=80)})
    assert reasons(validate(data)[1]) == {}
    assert reasons(validate(data, min_side=41)[1]) == {"A/edge": "too_small"}
    assert reasons(validate(data, max_aspect=1.99)[1]) == {"A/edge": "aspect"}


def test_hard_verification_photos_are_noticed_and_stay(build: Build) -> None:
    hard = VERIFY | {"X/0.png": flat(128), "X/1.png": flat(3), "Y/0.png": b"no"}
    metrics, _, verify = validate(build(GOOD, verify=hard))
    assert reasons(verify) == {"Y/0": "undecodable"}
    assert metrics["verify.noticed.blurred"] == 2
    assert metrics["verify.noticed.dark"] == 1
    assert len(verify) == len(VERIFY)
    assert metrics["pairs"] == len(PAIRS)


def test_shared_people_are_named_and_said(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    shared = {f"{who}/{k}.png": photo(700 + k) for who in ("Y",) for k in range(4, 6)}
    data = build(GOOD | shared)
    metrics, train, _ = validate(data)
    assert metrics["identities_dropped_for_overlap"] == 1
    assert (data.parent / "validate" / "overlap.txt").read_text() == "Y\n"
    assert set(train.loc[train["reason"] == "identity_overlap", "identity"]) == {"Y"}
    assert "1 training identities are in the verification set too" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"0\.25, needed at most 0\.1"):
        validate(data, max_overlap=0.1)


def test_names_are_compared_in_one_spelling(build: Build) -> None:
    decomposed, composed = "Rene\u0301", "Ren\u00e9"
    verify = {name.replace("Y/", f"{composed}/"): data for name, data in VERIFY.items()}
    pairs = tuple(line.replace("Y/", f"{composed}/") for line in PAIRS)
    train = GOOD | {f"{decomposed}/{k}.png": photo(800 + k) for k in range(2)}
    metrics, _, _ = validate(build(train, verify=verify, pairs=pairs))
    assert metrics["identities_dropped_for_overlap"] == 1


def test_two_training_sets_share_people_and_keep_ids_apart(build: Build) -> None:
    other = {"A/0.png": photo(900), "A/9.png": photo(901), "D/0.png": GOOD["B/1.png"]}
    metrics, train, _ = validate(build(GOOD, other, licence="CC0", consent="asked"))
    assert train["id"].is_unique
    assert {"set0/A/0", "set1/A/0"} <= set(train["id"])
    assert set(train["dataset"]) == {"set0", "set1"}
    assert metrics["identities_in_several_datasets"] == 1
    assert metrics["train.identities"] == 4
    # One photo under two names, one in each set: neither label can be trusted.
    conflicts = train.loc[train["reason"] == "label_conflict", "id"]
    assert set(conflicts) == {"set0/B/1", "set1/D/0"}
    row = train[train["id"] == "set1/A/0"].iloc[0]
    assert row["shard"] == "train/set1/shards/00000.tar"


def test_one_identity_is_refused(build: Build) -> None:
    data = build({name: data for name, data in GOOD.items() if name.startswith("A/")})
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
    data = build(GOOD | {"A/small.png": photo(91, height=39), "A/blurred.png": flat(128)})
    metrics, _, _ = validate(data)
    docs = data.parent / "validate" / "data_docs"
    table = _index(docs)
    broken = {(row[0], row[2]): int(row[6].split(" ")[0]) for row in table}
    assert broken["train images", "too_small"] == metrics["train.rejected.too_small"] == 1
    assert broken["train images", "blurred"] == metrics["train.rejected.blurred"] == 1
    assert broken["cards", "missing"] == 2  # neither set states its licence
    limits = {(row[0], row[2]): (row[4], row[5]) for row in table}
    assert limits["train images", "too_small"] == ("40", "")
    assert limits["verify images", "bright"] == ("", "240")
    assert limits["train identities", "few_images"] == ("2", "")
    assert metrics["expectations_failed"] == sum(row[7] == "broken" for row in table)


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


def test_measuring_over_processes_equals_measuring_alone(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facewright.datasets import measuring

    data = build(GOOD | {"A/text.jpg": b"a text file"})
    table = pd.read_parquet(data / "train" / "set0" / "manifest.parquet")
    root = data / "train" / "set0"
    alone = measuring.measure_images(root, table, label="alone")
    monkeypatch.setattr(measuring, "ALONE", 0)
    monkeypatch.setattr(measuring, "CHUNK", 3)
    spread = measuring.measure_images(root, table, label="spread")
    pd.testing.assert_frame_equal(alone, spread)


def test_measures_against_their_definitions() -> None:
    from facewright.datasets.measuring import measure

    grey = np.random.default_rng(0).integers(0, 256, (30, 45), dtype=np.uint8)
    rgb = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    decodable, side, aspect, sharpness, brightness = measure(cv2.imencode(".png", rgb)[1].tobytes())
    padded = np.pad(grey.astype(float), 1, mode="reflect")
    up, down, left, right = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    laplacian = up + down + left + right - 4 * padded[1:-1, 1:-1]
    assert (decodable, side, aspect) == (1, 30, 1.5)
    assert sharpness == pytest.approx(laplacian.var(), rel=1e-9)
    assert brightness == pytest.approx(grey.mean(), rel=1e-9)
