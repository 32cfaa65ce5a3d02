"""Pages of thumbnails: which photos, side by side where that tells more, and none where none."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np

from facewright.datasets.validation.thumbnails import Photo, Trouble, write_thumbnails
from facewright.files import directory_digest
from tests.unit.datasets.validation.photos import (
    GOOD,
    VERIFY,
    Build,
    flat,
    photo,
    scene,
    validate,
)


def figures(page: str) -> list[np.ndarray | None]:
    parts = re.findall(r"<figure>(.*?)<figcaption>", page)
    images = [re.search(r'src="data:image/jpeg;base64,([^"]*)"', part) for part in parts]
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(found[1]), np.uint8), cv2.IMREAD_COLOR)
        if found
        else None
        for found in images
    ]


def test_a_page_shows_the_photos_small(tmp_path: Path) -> None:
    files = [scene(1, side=200), photo(2, height=200, width=100), b"no image"]
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.tar").write_bytes(b"".join(files))
    ends = np.cumsum([len(data) for data in files])
    photos = [
        Photo("shards/00000.tar", int(end) - len(data), len(data), f"<{k}>\nside {k}")
        for k, (end, data) in enumerate(zip(ends, files, strict=True))
    ]
    troubles = [
        Trouble("dark", "Rejected", 7, [[photos[0]], [photos[2]]]),
        Trouble("dark", "Noticed", 1, [photos[:2]]),
    ]
    links = write_thumbnails(tmp_path / "docs", troubles, data=tmp_path)
    assert links == {"dark (8)": "trouble/dark.html"}
    page = (tmp_path / "docs" / "trouble" / "dark.html").read_text()
    shown = figures(page)
    assert [None if image is None else image.shape[:2] for image in shown] == [
        (96, 96),
        None,
        (96, 96),
        (96, 48),
    ]
    small = cv2.resize(cv2.imdecode(np.frombuffer(files[0], np.uint8), 1), (96, 96))
    assert np.abs(shown[0].astype(int) - small).mean() < 8
    assert page.count('<div class="group">') == 1
    assert "&lt;0&gt;<br>side 0" in page
    assert "Rejected: 7" in page


def test_every_trouble_has_its_page_linked_from_the_index(build: Build) -> None:
    faults = {
        "Ann/text.jpg": b"a text file",
        "Bea/copy.png": GOOD["Bea/0.png"],
        "Cyd/leaked.png": VERIFY["Xia/0.png"],
        "Yva/1.png": photo(96),
        "Dot/1.jpg": scene(1),
        "Dot/2.jpg": scene(1, side=90),
    }
    data = build(GOOD | faults, verify=VERIFY | {"Xia/flat.png": flat(128)})
    validate(data, near_distance=40, thumbnails=4)
    docs = data.parent / "validate" / "data_docs"
    pages = {page.stem: page.read_text() for page in (docs / "trouble").iterdir()}
    assert set(pages) == {
        "undecodable",
        "duplicate",
        "content_overlap",
        "identity_overlap",
        "blurred",
        "near_duplicate",
        "near_overlap_identity",  # Cyd's photo may not be the only one
    }
    index = (docs / "index.html").read_text()
    for name in pages:
        assert f'href="trouble/{name}.html"' in index
    assert figures(pages["undecodable"]) == [None]
    assert "Noticed verification photos: 1" in pages["blurred"]
    for name in ("duplicate", "content_overlap", "identity_overlap", "near_duplicate"):
        group = re.findall(r'<div class="group">(.*?)</div>', pages[name])
        assert len(group) == 1, name
        assert group[0].count("<figure>") >= 2, name
    assert "Bea/copy" in pages["duplicate"]
    assert "Bea/0" in pages["duplicate"]
    for page in pages.values():
        assert not re.search(r"(src|href)=\"(https?:|//)", page)
        assert str(data.parent) not in page
    first = directory_digest(docs)
    validate(data, near_distance=40, thumbnails=4)
    assert directory_digest(docs) == first


def test_no_more_than_asked_and_none_at_all(build: Build) -> None:
    dark = {f"Dot/{k}.png": photo(k, low=0, high=30) for k in range(9)}
    data = build(GOOD | dark)
    docs = data.parent / "validate" / "data_docs"
    validate(data, thumbnails=3)
    page = (docs / "trouble" / "dark.html").read_text()
    assert re.findall(r"<figcaption>([^<]*)", page) == ["Dot/0", "Dot/4", "Dot/8"]
    assert "Rejected training photos: 9" in page
    validate(data, thumbnails=0)
    assert not (docs / "trouble").exists()
    assert "Thumbnails" not in (docs / "index.html").read_text()


def test_names_stay_as_they_are_on_every_page(build: Build) -> None:
    """Random identifiers of Great Expectations are numbered; a photo's name may look like one."""
    name = "Ann/3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    data = build(GOOD | {f"{name}.png": flat(128)})
    asked = {
        "type": "expect_column_values_to_not_be_in_set",
        "kwargs": {"column": "id", "value_set": [name]},
    }
    (data / "expectations").mkdir()
    own = json.dumps({"name": "mine", "expectations": [asked]})
    (data / "expectations" / "train_images.json").write_text(own)
    validate(data, thumbnails=3)
    docs = data.parent / "validate" / "data_docs"
    assert f"<figcaption>{name}<br>" in (docs / "trouble" / "blurred.html").read_text()
    assert f"<td>{name}</td>" in (docs / "index.html").read_text()
    pages = (docs / "validations").rglob("facewright-train_images_own.html")
    page = next(pages).read_text()
    assert name in re.sub("<[^>]*>", "", page)
    assert "part-0" in page


def test_names_on_the_index_are_escaped(build: Build) -> None:
    dark = {f"Dot/<b>{k}.png": photo(k, low=0, high=30) for k in range(5)}
    data = build(GOOD | dark)
    validate(data)
    index = (data.parent / "validate" / "data_docs" / "index.html").read_text()
    assert "<td>Dot/&lt;b&gt;0, Dot/&lt;b&gt;1, Dot/&lt;b&gt;2</td>" in index
