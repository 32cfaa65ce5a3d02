"""Import keeps every byte, gives the same bytes again, and refuses what could harm."""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facewright.datasets.form import find_datasets, open_dataset, read_bytes
from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.folder import read_folder
from facewright.datasets.tars import member_name
from facewright.errors import DatasetError
from facewright.files import directory_digest

from .making import PHOTOS, archive, folder, jpeg, refused


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize("top", ["", "faces/"])
def test_every_image_keeps_its_bytes(tmp_path: Path, kind: str, top: str) -> None:
    if kind == "folder":
        source = tmp_path / "in"
        folder(source / top)
    else:
        source = archive(tmp_path / kind, top=top)
    dataset = import_dataset(source, tmp_path / "out", licence="CC0", consent="asked")
    rows = {row["id"]: row for row in dataset.manifest.to_dict("records")}
    assert set(rows) == {name.rpartition(".")[0] for name in PHOTOS}
    for name, data in PHOTOS.items():
        row = rows[name.rpartition(".")[0]]
        place = {key: row[key] for key in ("shard", "offset", "length")}
        assert read_bytes(dataset.root, **place) == data
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["width"], row["height"]) == (40, 32)
        assert (row["identity"], row["origin"]) == (name.split("/")[0], top + name)
    assert (dataset.card.kind, dataset.card.licence) == ("identities", "CC0")


def test_shards_are_tars_in_webdataset_naming(tmp_path: Path) -> None:
    import_dataset(folder(tmp_path / "in"), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shards" / "00000.tar") as shard:
        members = {m.name: shard.extractfile(m).read() for m in shard.getmembers()}
        assert all(m.mtime == 0 and m.uid == 0 for m in shard.getmembers())
    assert members == {
        member_name(*os.path.splitext(name)).replace(".JPG", ".jpg"): data  # noqa: PTH122
        for name, data in PHOTOS.items()
    }
    # WebDataset takes what comes before the first dot of the file name as the sample's key.
    keys = [name.rpartition("/")[2].split(".")[0] for name in members]
    assert len(set(keys)) == len(PHOTOS)


def test_same_source_gives_same_bytes(tmp_path: Path) -> None:
    first = folder(tmp_path / "1" / "faces")
    again = folder(tmp_path / "2" / "faces", dict(reversed(PHOTOS.items())))
    for source, output in ((first, "a"), (again, "b"), (first, "a")):
        import_dataset(source, tmp_path / output / "set")
    assert directory_digest(tmp_path / "a") == directory_digest(tmp_path / "b")


def test_exif_orientation_stays_in_the_file(tmp_path: Path) -> None:
    from PIL import Image

    from facewright.datasets.images import decode_rgb

    image = Image.fromarray(np.zeros((20, 50, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    source = folder(tmp_path / "in", {"A/1.jpg": out.getvalue()})
    dataset = import_dataset(source, tmp_path / "out")
    row = dataset.manifest.iloc[0]
    assert (row["width"], row["height"]) == (50, 20)
    data = read_bytes(dataset.root, shard=row["shard"], offset=row["offset"], length=row["length"])
    assert data == out.getvalue()
    assert decode_rgb(data).shape == (50, 20, 3)


def test_other_files_are_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {"README.txt": b"x", "A/Thumbs.db": b"x", "A/._1.jpg": b"x", "__MACOSX/A/1.jpg": b"x"}
    source = archive(tmp_path / "a.zip", {"A/1.jpg": jpeg(1)} | others)
    assert import_dataset(source, tmp_path / "out").manifest["id"].tolist() == ["A/1"]
    assert "4 files that are no images left out, first README.txt" in capsys.readouterr().err


def test_what_cannot_be_decoded_is_imported_without_a_size(tmp_path: Path) -> None:
    photos = {"A/text.jpg": b"no photo at all", "A/empty.png": b"", "A/cut.jpg": jpeg(1)[:-200]}
    manifest = import_dataset(folder(tmp_path / "in", photos), tmp_path / "out").manifest
    sizes = manifest.set_index("id")[["width", "height"]].T.to_dict("list")
    assert sizes == {"A/cut": [40, 32], "A/empty": [0, 0], "A/text": [0, 0]}


@pytest.mark.parametrize(
    "name", ["../A/1.jpg", "A/../../1.jpg", "/A/1.jpg", "C:/A/1.jpg", "A\\1.jpg"]
)
@pytest.mark.parametrize("kind", ["a.tar", "a.tgz", "a.zip"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    source = archive(tmp_path / kind, {"A/0.jpg": jpeg(1), name: jpeg(2)})
    assert repr(name) in refused(source, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_special_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        member = tarfile.TarInfo("A/link.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        packed.addfile(member)
    assert "'A/link.jpg' is a link" in refused(tmp_path / "a.tar", tmp_path / "out")


def test_zip_links_and_encrypted_members_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("A/link.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    assert "'A/link.jpg' is a link" in refused(tmp_path / "a.zip", tmp_path / "out")
    locked = bytearray(archive(tmp_path / "b.zip", {"A/1.jpg": jpeg(1)}).read_bytes())
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "b.zip").write_bytes(locked)
    assert "'A/1.jpg' is encrypted" in refused(tmp_path / "b.zip", tmp_path / "out")


def test_linked_folders_are_refused_and_linked_files_read(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1)})
    (tmp_path / "elsewhere.jpg").write_bytes(jpeg(2))
    (source / "A" / "2.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    assert len(import_dataset(source, tmp_path / "ok").manifest) == 2
    (source / "loop").symlink_to(source)
    assert "'loop' is a link" in refused(source, tmp_path / "out")


def test_a_folder_with_a_backslash_in_its_name_is_named(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"A\\B/1.jpg": jpeg(1)})
    said = refused(source, tmp_path / "out")
    assert repr("A\\B/1.jpg") in said
    assert "rename it" in said
    assert "archive" not in said


def test_links_that_lead_in_circles_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    (source / "陳" / "a.jpg").symlink_to("b.jpg")
    (source / "陳" / "b.jpg").symlink_to("a.jpg")
    said = refused(source, tmp_path / "out")
    assert "a.jpg cannot be read (Too many levels of symbolic links)" in said


def test_pipes_and_devices_are_refused_unread(tmp_path: Path) -> None:
    pipe, device = tmp_path / "1" / "x.jpg", tmp_path / "2" / "x.jpg"
    for path in (pipe, device):
        path.parent.mkdir()
    os.mkfifo(pipe)
    device.symlink_to(os.devnull)
    for path in (pipe, device):
        with pytest.raises(DatasetError, match=r"'x\.jpg' is no plain file"):
            next(read_folder(path.parent))


def test_only_images_have_a_largest_size(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1), "A/film.mp4": b"", "A/2.jpg": b""})
    os.truncate(source / "A" / "film.mp4", 10**9)  # a hole: takes no disk
    assert len(import_dataset(source, tmp_path / "ok").manifest) == 2
    os.truncate(source / "A" / "2.jpg", 10**9)
    assert "'A/2.jpg' claims 1000 MB" in refused(source, tmp_path / "out")


def test_claims_beyond_any_photo_are_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("A/1.jpg")
    member.size = 10**12
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(1024))
    assert "'A/1.jpg' claims 1000000 MB" in refused(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", ["a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_archives_that_are_cut_short_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    # Packed with bytes that do not compress, so that every cut hits a photo or its header.
    whole = archive(tmp_path / kind, {f"A/{k}.jpg": os.urandom(4000) for k in range(20)})
    data = whole.read_bytes()
    if kind == "a.tar":
        data = data[: 20 * 4608]
    whole.write_bytes(data[: int(len(data) * share)])
    assert "read to its end" in refused(whole, tmp_path / "out")


def test_damage_inside_a_tar_is_not_its_end(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", {f"A/{k}.jpg": jpeg(k) for k in range(4)})
    data = bytearray(path.read_bytes())
    data[data.index(b"A/2.jpg") + 120] ^= 0xFF
    path.write_bytes(data)
    assert "read to its end" in refused(path, tmp_path / "out")


def test_gzip_files_in_a_row_are_one_stream(tmp_path: Path) -> None:
    import gzip

    data = archive(tmp_path / "a.tar").read_bytes()
    parts = [data[:3000], data[3000:3001], data[3001:]]
    (tmp_path / "a.tgz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert len(import_dataset(tmp_path / "a.tgz", tmp_path / "out").manifest) == len(PHOTOS)


def test_sources_without_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image was found in empty" in refused(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "text.tar").write_text("not a tar at all")
    assert "read to its end" in refused(tmp_path / "text.tar", tmp_path / "out")
    assert "does not exist" in refused(tmp_path / "nowhere", tmp_path / "out")
    assert "sample:train and sample:verify" in refused("sample:test", tmp_path / "out")


def test_photos_outside_identity_folders_are_refused(tmp_path: Path) -> None:
    flat = folder(tmp_path / "flat", {"1.jpg": jpeg(1)})
    assert "'1.jpg' lies in no identity's folder" in refused(flat, tmp_path / "out")
    mixed = folder(tmp_path / "mixed", {"A/1.jpg": jpeg(1), "B/sub/2.jpg": jpeg(2)})
    assert "'B/sub/2.jpg' does not lie like 'A/1.jpg'" in refused(mixed, tmp_path / "out")


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1), "A/1.png": jpeg(2)})
    assert "two images are named 'A/1'" in refused(source, tmp_path / "out")


def test_nothing_but_a_dataset_is_replaced(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(DatasetError, match="is no dataset"):
        import_dataset(source, tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
    for output in (source, source / "out", tmp_path):
        with pytest.raises(DatasetError):
            import_dataset(source, output)
    assert directory_digest(source) == directory_digest(folder(tmp_path / "same"))


def test_a_failed_import_leaves_the_old_dataset(tmp_path: Path) -> None:
    import_dataset(folder(tmp_path / "in"), tmp_path / "out")
    before = directory_digest(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        import_dataset(tmp_path / "empty", tmp_path / "out")
    assert directory_digest(tmp_path / "out") == before
    assert len(open_dataset(tmp_path / "out").manifest) == len(PHOTOS)


def test_hidden_folders_are_no_datasets(tmp_path: Path) -> None:
    import_dataset(folder(tmp_path / "in"), tmp_path / "sets" / "b")
    shutil.copytree(tmp_path / "sets" / "b", tmp_path / "sets" / ".a.replaced")
    assert [found.root.name for found in find_datasets(tmp_path / "sets")] == ["b"]


def test_small_shards_split_and_read_back(tmp_path: Path) -> None:
    from facewright.datasets.form import DatasetWriter

    card = dict.fromkeys(("name", "kind", "source", "source_digest", "licence", "consent"), "x")
    with DatasetWriter(tmp_path, shard_bytes=6000) as writer:
        for k in range(20):
            writer.add(id=f"A/{k}", identity="A", data=bytes([k]) * 700 * (k % 4), suffix=".jpg")
        writer.finish(card)
    dataset = open_dataset(tmp_path)
    assert dataset.manifest["shard"].nunique() > 3
    for k, row in enumerate(dataset.manifest[["shard", "offset", "length"]].to_dict("records")):
        assert read_bytes(tmp_path, **row) == bytes([k]) * 700 * (k % 4)
    for shard in (tmp_path / "shards").iterdir():
        assert shard.stat().st_size % tarfile.RECORDSIZE == 0
        with tarfile.open(shard) as tar:
            tar.getmembers()


def test_a_shard_that_is_gone_or_short_is_named(tmp_path: Path) -> None:
    import_dataset(folder(tmp_path / "in"), tmp_path / "out")
    shard = tmp_path / "out" / "shards" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(DatasetError, match="cut short"):
        read_bytes(tmp_path / "out", shard="shards/00000.tar", offset=512, length=500)
    with pytest.raises(DatasetError, match=r"00009\.tar cannot be read"):
        read_bytes(tmp_path / "out", shard="shards/00009.tar", offset=512, length=500)
    (tmp_path / "out" / "manifest.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DatasetError, match="import it again"):
        open_dataset(tmp_path / "out")


def test_identities_without_images_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path / "in", {"top/A/1.jpg": jpeg(1), "top/Bo Ek/note.txt": b"", "x": b""})
    for name in ("Cy", "Dé", "A/later"):
        (source / "top" / name).mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        packed.add(source, "in")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for path in sorted(source.rglob("*")):
            packed.write(path, path.relative_to(source))
    for found in (source, tmp_path / "a.tar", tmp_path / "a.zip"):
        assert len(import_dataset(found, tmp_path / "out").manifest) == 1
        assert "no image in the folder of Bo Ek, Cy, Dé\n" in capsys.readouterr().err


def test_gif_files_are_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1), "A/2.GIF": b"GIF89a", "A/3.gif": b"x"})
    assert import_dataset(source, tmp_path / "out").manifest["id"].tolist() == ["A/1"]
    assert "2 GIF files left out, first A/2.GIF: save them as PNG" in capsys.readouterr().err


def test_identities_may_lie_deep_but_side_by_side(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"a/b/c/A/1.jpg": jpeg(1), "a/b/c/B/1.jpg": jpeg(2)})
    assert import_dataset(source, tmp_path / "out").manifest["id"].tolist() == ["A/1", "B/1"]


@pytest.mark.parametrize("name", ["A\nB", "A\tB", " ", "\x7f"])
def test_identities_that_would_break_lists_are_refused(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.tar", {f"{name}/1.jpg": jpeg(1)})
    assert "can be no identity" in refused(source, tmp_path / "out")


def test_folders_are_read_in_the_order_of_whole_paths(tmp_path: Path) -> None:
    names = ["a-b/1.jpg", "a/1.jpg", "a.jpg", "a/b.jpg", "a/b/1.jpg", "B/1.jpg", "é/1.jpg", "z"]
    source = folder(tmp_path / "in", dict.fromkeys(names, b""))
    found = [entry.name for entry in read_folder(source)]
    assert found == sorted(names, key=str.encode)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=4), st.sampled_from([".tar", ".zip"]))
def test_names_come_back_as_they_were(names: dict[str, str], kind: str) -> None:
    names = {
        identity: stem
        for identity, stem in names.items()
        if identity.strip() and identity[0] != "." and stem[0] != "."
        if not set("/\\") & set(identity + stem) and identity[1:2] != ":"
    }
    assume(names)
    photos = {f"{identity}/{stem}.jpg": b"x" for identity, stem in names.items()}
    with tempfile.TemporaryDirectory() as there:
        source = archive(Path(there) / f"a{kind}", photos)
        manifest = import_dataset(source, Path(there) / "out").manifest
    assert dict(zip(manifest["identity"], manifest["id"], strict=True)) == {
        identity: f"{identity}/{stem}" for identity, stem in names.items()
    }
    assert manifest["origin"].tolist() == list(photos)


def test_hidden_folders_are_left_out_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = {".trash/1.jpg": jpeg(2), "A/.thumbs/1.jpg": jpeg(3), "@eaDir/A/1.jpg": jpeg(4)}
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1)} | hidden)
    assert import_dataset(source, tmp_path / "out").manifest["id"].tolist() == ["A/1"]
    said = capsys.readouterr().err
    assert "3 files that are no images left out, first .trash/1.jpg" in said
    assert "no image in the folder" not in said
