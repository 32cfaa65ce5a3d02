import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from facewright.datasets import form
from facewright.datasets.card import DatasetCard, joined_card
from facewright.datasets.pairs import PAIR_COLUMNS
from facewright.datasets.validation.measuring import MEASURES
from facewright.datasets.validation.tables import EXPECTED, HELD
from facewright.errors import DatasetError
from facewright.files import directory_digest

CARD = dict.fromkeys(("name", "kind", "source", "source_digest", "licence", "consent"), "-")

WRITE = """
import sys
from pathlib import Path
from facewright.datasets.form import DatasetWriter

root = Path(sys.argv[1])
root.mkdir()
with DatasetWriter(root) as writer:
    more = {"width": 1, "height": 2, "origin": "o"}
    writer.add(id="a/1", identity="a", data=b"x", suffix=".jpg", columns=more)
    more = {"status": "no_face", "reason": "none", "quality": None}
    writer.add(id="a/2", identity="a", data=None, columns=more)
    keys = ("name", "kind", "source", "source_digest", "licence", "consent")
    writer.finish(dict.fromkeys(keys, "-"))
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Python orders sets anew in each process; nothing of that may reach a file."""
    digests = set()
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, env=environment)
        digests.add(directory_digest(folder))
    assert len(digests) == 1


def test_an_image_lies_where_its_row_says(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    photos = [bytes([k]) * (k * 700 + 1) for k in range(5)]
    with form.DatasetWriter(root, shard_bytes=3000) as writer:
        for k, data in enumerate(photos):
            writer.add(id=f"a/{k}", identity="a", data=data, suffix=".jpg")
        writer.finish(CARD)
    rows = form.open_dataset(root).manifest
    assert rows["shard"].nunique() > 1
    for row, data in zip(rows.itertuples(), photos, strict=True):
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert form.read_bytes(root, shard=row.shard, offset=row.offset, length=row.length) == data


def test_rows_that_were_set_aside_join_with_columns_that_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "ROWS", 3)
    late: dict[int, dict[str, Any]] = {4: {"person": "P"}, 5: {"landmarks": [0.5] * 10}}
    with form.DatasetWriter(tmp_path) as writer:
        for k in range(8):
            age = k + 0.5 if k > 6 else k  # whole numbers at first
            more = {"age": age} | late.get(k, {})
            writer.add(id=f"a/{k}", identity="a", data=b"x", columns=more)
        writer.finish(CARD)
    table = form.open_dataset(tmp_path).manifest
    assert table["id"].tolist() == [f"a/{k}" for k in range(8)]
    assert table["age"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7.5]
    assert table["person"].notna().tolist() == [k == 4 for k in range(8)]
    assert table["landmarks"].map(lambda v: v is not None and len(v)).tolist()[5] == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset.yaml",
        "manifest.parquet",
        "shards",
    ]


def test_one_id_twice_is_refused_however_far_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "ROWS", 3)
    with form.DatasetWriter(tmp_path) as writer:
        for id in ("a/0", "a/1", "b/0", "b/1", "c/0", "c/1", "d/0", "a/0"):
            writer.add(id=id, identity=id[0], data=b"x")
        with pytest.raises(DatasetError, match="two images are named 'a/0'"):
            writer.finish(CARD)


def test_one_id_twice_in_a_run_of_one_identity_is_refused_at_once(tmp_path: Path) -> None:
    """As photos lie in sorted sources: millions of others need not be read first."""
    with form.DatasetWriter(tmp_path) as writer:
        for id in ("a/0", "b/0", "b/1"):
            writer.add(id=id, identity=id[0], data=b"x", columns={"origin": f"{id}.jpg"})
        with pytest.raises(DatasetError, match=r"'b/0' \('b/0.jpg' and 'b/0.png'\)"):
            writer.add(id="b/0", identity="b", data=b"y", columns={"origin": "b/0.png"})


def test_counts_are_those_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "ROWS", 3)
    with form.DatasetWriter(tmp_path) as writer:
        for k in range(8):
            writer.add(id=f"a{k // 3}/{k}", identity=f"a{k // 3}", data=b"x")
        writer.finish(CARD)
    assert form.open_dataset(tmp_path).counts() == (8, 3)


def test_one_id_twice_names_both_files(tmp_path: Path) -> None:
    with form.DatasetWriter(tmp_path) as writer:
        for name in ("a/1.jpg", "b/2.jpg", "a/1.png"):
            columns = {"origin": name}
            writer.add(id=name.partition(".")[0], identity=name[0], data=b"x", columns=columns)
        with pytest.raises(DatasetError, match=r"named 'a/1' \('a/1.jpg' and 'a/1.png'\): rename"):
            writer.finish(CARD)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, "x"], "holds numbers and text: give it one kind"),
        (["x", None, 1], "holds numbers and text: give it one kind"),
        ([True, 2.5], "holds numbers and truth values: give it one kind"),
        ([1, None, None, "x"], "holds numbers and text: give it one kind"),  # set aside in between
        ([[0.5], "x"], "holds lists and text: give it one kind"),
        ([2**70], "holds numbers that cannot be stored"),
        (["\udc80"], "holds text that cannot be stored"),
    ],
)
def test_a_column_of_several_kinds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], said: str
) -> None:
    monkeypatch.setattr(form, "ROWS", 3)

    def write() -> None:
        with form.DatasetWriter(tmp_path) as writer:
            for k, value in enumerate(values):
                writer.add(id=f"a/{k}", identity="a", data=b"x", columns={"age": value})
            writer.finish(CARD)

    with pytest.raises(DatasetError, match=f"the column 'age' {said}"):
        write()


def written(root: Path) -> Path:
    """A dataset of three images with two pairs."""
    root.mkdir()
    with form.DatasetWriter(root) as writer:
        for k in range(3):
            writer.add(id=f"a/{k}", identity="a", data=b"x", suffix=".jpg")
        pairs = [(0, 1, "a/0", "a/1"), (1, 1, "a/1", "a/2")]
        writer.finish(CARD, pairs=pd.DataFrame(pairs, columns=PAIR_COLUMNS))
    return root


@pytest.mark.parametrize(
    ("table", "column", "values", "said"),
    [
        ("manifest", "id", ["a/0", None, "a/2"], "row 2: its id is .* and must be text"),
        ("manifest", "identity", [1, 2, 3], "row 1: its identity is 1 and must be text"),
        ("manifest", "shard", ["", None, None], "row 2: its shard is .* and must be text"),
        ("manifest", "sha256", [b"x"] * 3, "row 1: its sha256 is b'x' and must be text"),
        ("manifest", "offset", [0, 0, -1], "row 3: its offset is -1 and must be a whole number"),
        ("manifest", "offset", [0, None, 1], "row 2: its offset is nan and must be a whole number"),
        ("manifest", "length", [0.5, 1, 1], "row 1: its length is 0.5 and must be a whole number"),
        ("manifest", "length", [1, 2**63 - 1, 1], "row 2: its length is 9223372036854775807 and"),
        ("manifest", "length", ["1"] * 3, "row 1: its length is '1' and must be a whole number"),
        ("manifest", "length", [True] * 3, "row 1: its length is True and must be a whole number"),
        ("manifest", "length", None, "lacks length"),
        ("pairs", "a", ["a/0", None], "row 2: its a is .* and must be text"),
        ("pairs", "label", [1, None], "row 2: its label is nan and must be a whole number from 0"),
        ("pairs", "fold", None, "lacks fold"),
    ],
)
def test_values_of_another_kind_are_one_line(
    tmp_path: Path, table: str, column: str, values: list[Any] | None, said: str
) -> None:
    root = written(tmp_path / "set")
    path = root / f"{table}.parquet"
    rows = pd.read_parquet(path).drop(columns=column)
    if values is not None:
        rows[column] = values
    rows.to_parquet(path, index=False)
    with pytest.raises(DatasetError, match=rf"{table}\.parquet.* {said}"):
        form.open_dataset(root)


def test_a_card_that_was_edited_by_hand(tmp_path: Path) -> None:
    root = written(tmp_path / "set")
    card = root / "dataset.yaml"
    text = card.read_text()
    card.write_text(text.replace("licence: '-'", "licence:"))
    assert form.open_dataset(root).card.licence == ""
    for value in ("2020-01-01", "4.0", "[CC0]", "yes"):
        card.write_text(text.replace("licence: '-'", f"licence: {value}"))
        with pytest.raises(DatasetError, match=r"yaml: licence must be text: put it into q"):
            form.open_dataset(root)


@pytest.mark.parametrize(
    "shard",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "../set/shards/00000.tar",
        "/x/shards/00000.tar",
        "shards/../00000.tar",
        "shards/0.tar",
        "shards/00000.tar\n",
        "",
    ],
)
def test_nothing_but_shards_is_opened(tmp_path: Path, shard: str) -> None:
    root = written(tmp_path / "set")
    with pytest.raises(DatasetError, match=r"no shards/NNNNN.tar|leads outside"):
        form.read_bytes(root, shard=shard, offset=0, length=1)
    form.read_bytes(tmp_path, shard="set/shards/00000.tar", offset=0, length=1)


def test_a_length_that_the_shard_has_not_takes_no_memory(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cut short at byte 512"):
        form.read_bytes(
            written(tmp_path / "set"), shard="shards/00000.tar", offset=512, length=2**50
        )


def test_what_stages_state_no_source_may_bring() -> None:
    measured = set(MEASURES.names or ())
    stated = {*form.MANIFEST_COLUMNS, *HELD, *EXPECTED, *measured}
    assert stated <= form.RESERVED
    assert not form.RESERVED & {"person", "landmarks", "aligned", "source", "age", "gender"}


def test_a_card_says_how_old_the_photos_are_or_nothing(tmp_path: Path) -> None:
    def written(folder: Path, **more: str) -> str:
        folder.mkdir()
        with form.DatasetWriter(folder) as writer:
            writer.add(id="a/1", identity="a", data=b"x", suffix=".jpg", columns={})
            writer.finish(CARD | {"kind": "identities"} | more)
        return (folder / "dataset.yaml").read_text()

    assert "collected" not in written(tmp_path / "unknown")
    assert form.open_dataset(tmp_path / "unknown").card.collected == ""
    text = written(tmp_path / "known", collected="2026-03-31")
    assert form.open_dataset(tmp_path / "known").card.collected == "2026-03-31"
    for other in ("2026-3-31", "2026-02-30", "last year", "20260331"):
        (tmp_path / "known" / "dataset.yaml").write_text(text.replace("2026-03-31", other))
        with pytest.raises(DatasetError, match=r"dataset\.yaml: '.*' is no day: write it as"):
            form.open_dataset(tmp_path / "known")


def test_a_joined_card_is_as_old_as_the_oldest_if_all_say() -> None:
    cards = [DatasetCard(*"nksdlc", collected=day) for day in ("2026-05-01", "2025-12-31")]
    assert joined_card(cards, kind="identities")["collected"] == "2025-12-31"
    cards.append(DatasetCard(*"nksdlc"))
    assert joined_card(cards, kind="identities")["collected"] == ""
