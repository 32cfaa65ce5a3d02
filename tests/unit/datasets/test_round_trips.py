"""What export writes, import reads again: names with blanks, single shards; damage is one line."""

import shutil
from pathlib import Path

import pytest

from facewright.datasets.exporting import EXPORTED_CARD, LIST, export_dataset
from facewright.datasets.form import DatasetWriter, open_dataset
from facewright.datasets.importing import import_dataset
from facewright.datasets.names import check_identity
from facewright.errors import DatasetError
from tests.unit.datasets.making import contents, folder, jpeg

CARD = dict.fromkeys(("name", "source", "source_digest", "licence", "consent"), "x")


def written(root: Path, *identities: str) -> Path:
    """A dataset with a small shard per photo."""
    root.mkdir()
    with DatasetWriter(root, shard_bytes=600) as writer:
        for k, identity in enumerate(identities):
            photo = jpeg(k)
            writer.add(id=f"{identity}/J.R._{k}", identity=identity, data=photo, suffix=".jpg")
        writer.finish(CARD | {"kind": "identities"})
    return root


def test_blanks_around_a_name_come_back_through_the_list(tmp_path: Path) -> None:
    names = {f"{who}/{k}.jpg": jpeg(k) for k, who in enumerate((" Anna", "Bob ", "Cy"))}
    first = import_dataset(folder(tmp_path / "in", names), tmp_path / "first")
    export_dataset(first.root, tmp_path / "out")
    again = import_dataset(tmp_path / "out" / LIST, tmp_path / "again")
    assert contents(again) == contents(first)
    assert set(again.manifest["identity"]) == {" Anna", "Bob ", "Cy"}


def test_one_shard_gives_the_ids_that_the_folder_gives(tmp_path: Path) -> None:
    root = written(tmp_path / "set", "Ada", "Bo")
    whole = import_dataset(root / "shards", tmp_path / "whole")
    one = import_dataset(root / "shards" / "00001.tar", tmp_path / "one")
    assert whole.manifest["id"].tolist() == ["Ada/J.R._0", "Bo/J.R._1"]
    assert one.manifest["id"].tolist() == ["Bo/J.R._1"]


@pytest.mark.parametrize("lost", [True, False])
def test_a_later_shard_that_is_damaged_or_gone_is_named(tmp_path: Path, lost: bool) -> None:
    root = written(tmp_path / "set", "Ada", "Bo", "Cy")
    shard = root / "shards" / "00001.tar"
    if lost:
        shard.unlink()
    else:
        shard.write_bytes(b"no tar" * 200)
    with pytest.raises(DatasetError, match=r"00001\.tar"):
        export_dataset(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_person_named_like_a_file_of_the_export_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path / "set", EXPORTED_CARD)
    with pytest.raises(DatasetError, match="cannot be a file"):
        export_dataset(root, tmp_path / "out")


@pytest.mark.parametrize("name", [".anna", "@eaDir", "__MACOSX", "..", " "])
def test_identities_that_no_import_would_find_again_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="no identity"):
        check_identity(name, where="list")


def test_landmarks_of_other_photos_are_refused_beside_stated_ones(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"a.jpg": jpeg(1)})
    points = " ".join(map(str, range(10)))
    (source / "list.csv").write_text(f"path,identity,landmarks\na.jpg,Ada,{points}\n")
    (source / "wrong.tsv").write_text("Zed/z.jpg\t" + "\t".join(map(str, range(10))) + "\n")
    with pytest.raises(DatasetError, match="the landmarks name none of its images"):
        import_dataset(source / "list.csv", tmp_path / "out", landmarks=source / "wrong.tsv")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert import_dataset(source / "list.csv", tmp_path / "out").manifest["landmarks"].notna().all()
    assert len(open_dataset(tmp_path / "out").manifest) == 1
