"""Buckets: every object once and in order, and one clear line for whatever goes wrong."""

import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facewright.datasets.form import Dataset, read_bytes
from facewright.datasets.importing import import_dataset
from facewright.datasets.readers import s3
from facewright.errors import DatasetError

from .making import archive, picture
from .s3_server import BUCKET, KEY, Server, serving

PHOTOS = {
    "train/Ada Ünal/one photo.jpg": picture(1),
    "train/Ada Ünal/2+2=4.jpg": picture(2),
    "train/Bo/1.jpg": picture(3),
    "train/Bo/2.jpg": picture(4),
    "train/陳/写真.jpg": picture(5),
    "train/notes.txt": b"none",
    "training/C/1.jpg": picture(6),
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "nothing"))
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(PHOTOS) as state:
        yield state


def imported(server: Server, output: Path, url: str = f"s3://{BUCKET}/train") -> Dataset:
    return import_dataset(url, output, endpoint_url=server.endpoint)


def refused(server: Server, output: Path, url: str = f"s3://{BUCKET}/train") -> str:
    with pytest.raises(DatasetError) as caught:
        imported(server, output, url)
    assert not output.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(dataset: Dataset) -> dict[str, bytes]:
    rows = dataset.manifest[["origin", "shard", "offset", "length"]].to_dict("records")
    return {row.pop("origin"): read_bytes(dataset.root, **row) for row in rows}


def test_a_prefix_is_a_folder_of_identities(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = imported(server, tmp_path / "out")
    photos = {
        key.removeprefix("train/"): data
        for key, data in PHOTOS.items()
        if key.startswith("train/") and key.endswith(".jpg")
    }
    assert contents(dataset) == photos
    assert dataset.manifest["origin"].tolist() == sorted(photos)
    assert set(dataset.manifest["identity"]) == {"Ada Ünal", "Bo", "陳"}
    assert dataset.card.source == f"s3://{BUCKET}/train"
    assert "first notes.txt" in capsys.readouterr().err
    assert not any("notes" in request for request in server.requests)


def test_the_environment_names_the_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    dataset = import_dataset(f"s3://{BUCKET}/train/", tmp_path / "out")
    assert len(dataset.manifest) == 5


def test_only_wanted_photos_are_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "people").write_text("Bo\n")
    url = f"s3://{BUCKET}/train"
    import_dataset(url, tmp_path / "out", people=tmp_path / "people", endpoint_url=server.endpoint)
    fetched = [request for request in server.requests if request != "GET ?"]
    assert sorted(fetched) == ["GET train/Bo/1.jpg", "GET train/Bo/2.jpg"]


def gone(server: Server) -> None:
    server.objects.pop("train/Bo/2.jpg", None)


def changed(server: Server) -> None:
    server.objects["train/Bo/2.jpg"] = picture("another")


@pytest.mark.parametrize("change", [gone, changed])
@pytest.mark.parametrize("ignores_if_match", [False, True])
def test_keys_that_vanish_or_change_after_the_listing_are_named(
    server: Server, tmp_path: Path, change: object, ignores_if_match: bool
) -> None:
    server.listed = change  # type: ignore[assignment]
    server.ignores_if_match = ignores_if_match
    line = refused(server, tmp_path / "out")
    assert f"s3://{BUCKET}/train/Bo/2.jpg: it is not there, or was changed" in line


def test_an_object_that_breaks_off_is_read_again(server: Server, tmp_path: Path) -> None:
    server.cut = {"train/Bo/2.jpg", "train/Ada Ünal/2+2=4.jpg"}
    assert contents(imported(server, tmp_path / "out"))["Bo/2.jpg"] == picture(4)


def test_wrong_credentials_buckets_and_prefixes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no such bucket" in refused(server, tmp_path / "out", "s3://fases/train")
    assert "no image was found" in refused(server, tmp_path / "out", f"s3://{BUCKET}/nothing")
    assert "is not there" in refused(server, tmp_path / "out", f"s3://{BUCKET}/nothing.tgz")
    assert "names no bucket" in refused(server, tmp_path / "out", "s3://")
    assert "cannot be read" in refused(server, tmp_path / "out", "s3://Not A Bucket!/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    for url in (f"s3://{BUCKET}/train", f"s3://{BUCKET}/faces.zip"):
        assert "refuses these credentials" in refused(server, tmp_path / "out", url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials were found" in refused(server, tmp_path / "out")


def test_a_server_that_is_not_there_is_named_soon(tmp_path: Path) -> None:
    start = time.monotonic()
    nowhere = Server({}, endpoint="http://127.0.0.1:9")
    assert "the server does not answer" in refused(nowhere, tmp_path / "out")
    assert "check boto3's settings" in refused(Server({}, endpoint="nonsense"), tmp_path / "out")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("key", ["train/../x/1.jpg", "train/a\\b/1.jpg"])
def test_keys_that_lead_outside_are_refused(server: Server, tmp_path: Path, key: str) -> None:
    server.objects[key] = picture(7)
    said = "has a backslash" if "\\" in key else "leads outside"
    assert said in refused(server, tmp_path / "out")


def test_archives_and_lists_in_a_bucket(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("Bo/1.jpg")
        member.size = len(picture(3))
        tar.addfile(member, io.BytesIO(picture(3)))
    server.objects["sets/faces.tgz"] = packed.getvalue()
    dataset = imported(server, tmp_path / "a", f"s3://{BUCKET}/sets/faces.tgz")
    assert contents(dataset) == {"Bo/1.jpg": picture(3)}
    assert dataset.card.source == f"s3://{BUCKET}/sets/faces.tgz"
    server.objects["list.csv"] = b"path,identity\ntraining/C/1.jpg,See\ntrain/Bo/1.jpg,Bo\n"
    dataset = imported(server, tmp_path / "b", f"s3://{BUCKET}/list.csv")
    assert contents(dataset) == {"training/C/1.jpg": picture(6), "train/Bo/1.jpg": picture(3)}
    assert dataset.manifest["id"].tolist() == ["See/training-C-1", "Bo/1"]
    for path in (b"../x/1.jpg", b"/train/Bo/1.jpg"):
        server.objects["list.csv"] = b"path,identity\n" + path + b",See\n"
        line = refused(server, tmp_path / "out", f"s3://{BUCKET}/list.csv")
        assert "leads out of the list's folder in the bucket" in line
    server.objects["list.csv"] = b"path,identity\ntraining/C/7.jpg,See\n"
    line = refused(server, tmp_path / "out", f"s3://{BUCKET}/list.csv")
    assert f"s3://{BUCKET}/training/C/7.jpg: it is not there" in line


def test_shards_in_a_bucket_are_those_of_a_folder(server: Server, tmp_path: Path) -> None:
    """One after the other, and no more than one on the disk."""
    shards = tmp_path / "shards"
    shards.mkdir()
    archive(shards / "s-0.tar", {"0.jpg": picture(0), "0.cls": b"Bo"})
    archive(shards / "s-1.tgz", {"0.jpg": picture(1), "0.cls": b"Bo"})
    archive(shards / "s-2.tar", {"x/1.jpg": picture(2)})
    (shards / "sizes.json").write_bytes(b"{}")
    for path in shards.iterdir():
        server.objects[f"shards/{path.name}"] = path.read_bytes()
    local = import_dataset(shards, tmp_path / "local").manifest
    remote = imported(server, tmp_path / "remote", f"s3://{BUCKET}/shards/").manifest
    assert remote.equals(local)
    assert remote["id"].tolist() == ["Bo/s-0-0", "Bo/s-1-0", "x/1"]
    server.objects["shards/s-1.tgz"] = server.objects["shards/s-1.tgz"][:200]
    assert "s-1.tgz is not a folder, tar or zip that can be read to its end" in refused(
        server, tmp_path / "out", f"s3://{BUCKET}/shards"
    )
    server.objects["shards/in/A.jpg"] = picture(1)  # then its folders are identities
    remote = imported(server, tmp_path / "remote", f"s3://{BUCKET}/shards").manifest
    assert remote["id"].tolist() == ["in/A"]


def test_few_photos_wait_in_the_memory(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from facewright.datasets import sources

    server.objects = {f"many/P/{k:03d}.jpg": bytes(1000) for k in range(120)}
    monkeypatch.setattr(sources, "AHEAD_BYTES", 5000)
    with sources.open_source(f"s3://{BUCKET}/many", endpoint_url=server.endpoint) as source:
        first = next(source.photos)
        time.sleep(0.3)
        asked = sum(request.startswith("GET many") for request in server.requests)
        assert first.entry.read() == bytes(1000)
        assert 1 <= asked <= 7
        assert [photo.entry.name for photo in source.photos] == [
            f"P/{k:03d}.jpg" for k in range(1, 120)
        ]


def test_objects_larger_than_an_image_are_refused_unread(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "MAX_IMAGE_BYTES", 100)
    assert "is larger than an image can be" in refused(server, tmp_path / "out")


@pytest.mark.parametrize("name", ["faces.zip", "train.rec"])
def test_what_is_not_read_from_below_a_prefix_is_told(
    server: Server, tmp_path: Path, name: str
) -> None:
    server.objects |= {f"sets/{name}": b"x", "sets/property": b"1,112,112"}
    line = refused(server, tmp_path / "out", f"s3://{BUCKET}/sets")
    assert f"holds no image, and 1 files such as {name}: name one of them, or copy them" in line


def test_records_of_a_bucket_are_refused_by_name(server: Server, tmp_path: Path) -> None:
    line = refused(server, tmp_path / "out", f"s3://{BUCKET}/sets/train.rec")
    assert "copy it with its .idx and property into a folder here" in line
    assert not server.requests


def test_the_size_of_what_is_downloaded_is_said(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.objects["faces.tar"] = bytes(1_260_000)
    refused(server, tmp_path / "out", f"s3://{BUCKET}/faces.tar")
    assert f"s3://{BUCKET}/faces.tar: downloading 1.3 MB to " in capsys.readouterr().err


def test_photos_of_unknown_size_wait_in_small_numbers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facewright.datasets import sources

    names = [f"P/{k:03d}.jpg" for k in range(120)]
    server.objects = {f"many/{name}": bytes(1000) for name in names}
    rows = "".join(f"{name},P\n" for name in names)
    server.objects["many/list.csv"] = f"path,identity\n{rows}".encode()
    with sources.open_source(
        f"s3://{BUCKET}/many/list.csv", endpoint_url=server.endpoint
    ) as source:
        next(source.photos)
        time.sleep(0.3)
        asked = sum(request.startswith("GET many/P") for request in server.requests)
        assert 1 <= asked <= 10
        assert [photo.entry.name for photo in source.photos] == names[1:]
