"""What files beside the photos say: every line reaches its photo, and no other."""

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.annotations import (
    PhotoNames,
    parse_points,
    read_landmarks,
    read_names,
    read_photo_names,
    without_suffix,
)
from facewright.errors import DatasetError

from .making import archive, folder, picture, refused

VGG = {
    "train/n000002/0001_01.jpg": picture(1),
    "train/n000002/0002_01.jpg": picture(2),
    "train/n000003/0001_01.jpg": picture(3),
    "test/n000001/0001_01.jpg": picture(4),
}
META = (
    "Class_ID, Name, Sample_Num, Flag, Gender\n"
    'n000001, "Ann_Lee",424,0, m,\n'
    'n000002, "Bo,_the_Elder",315,1, f,\n'
)


def numbers(start: float) -> list[float]:
    return [start + k for k in range(10)]


def landmark_csv(*rows: tuple[str, float]) -> str:
    head = "NAME_ID," + ",".join(f"P{k}{axis}" for k in range(1, 6) for axis in "XY")
    lines = [f'"{name}",' + ",".join(map(str, numbers(start))) for name, start in rows]
    return "\n".join([head, *lines, ""])


def vggface2(root: Path) -> Path:
    folder(root, VGG)
    (root / "meta").mkdir()
    (root / "meta" / "identity_meta.csv").write_text(META)
    (root / "bb_landmark").mkdir()
    train = landmark_csv(("n000003/0001_01", -1.5), ("n000002/0001_01", 30.25))
    (root / "bb_landmark" / "loose_landmark_train.csv").write_text(train)
    test = landmark_csv(("n000001/0001_01", 7.0))
    (root / "bb_landmark" / "loose_landmark_test.csv").write_text(test)
    return root


def test_vggface2_brings_names_gender_and_landmarks(tmp_path: Path) -> None:
    source = vggface2(tmp_path / "VGGFace2")
    manifest = import_dataset(source / "train", tmp_path / "out").manifest.set_index("id")
    assert manifest.index.tolist() == ["n000002/0001_01", "n000002/0002_01", "n000003/0001_01"]
    assert manifest["person"].fillna("?").tolist() == ["Bo,_the_Elder", "Bo,_the_Elder", "?"]
    assert manifest["gender"].fillna("?").tolist() == ["f", "f", "?"]
    assert list(manifest.loc["n000002/0001_01", "landmarks"]) == numbers(30.25)
    assert list(manifest.loc["n000003/0001_01", "landmarks"]) == numbers(-1.5)
    assert manifest.loc["n000002/0002_01", "landmarks"] is None


def test_an_archive_of_vggface2_finds_what_lies_beside_it(tmp_path: Path) -> None:
    vggface2(tmp_path)
    photos = {name: data for name, data in VGG.items() if name.startswith("test/")}
    source = archive(tmp_path / "vggface2_test.tgz", photos)
    manifest = import_dataset(source, tmp_path / "out" / "set").manifest
    assert manifest["person"].tolist() == ["Ann_Lee"]
    assert list(manifest["landmarks"][0]) == numbers(7.0)


def test_both_halves_of_vggface2_ask_for_a_choice(tmp_path: Path) -> None:
    source = vggface2(tmp_path / "VGGFace2")
    line = refused(source, tmp_path / "out")
    assert f"import {source / 'train'} or {source / 'test'}" in line
    (tmp_path / "train_list.txt").write_text("n000002/0001_01.jpg\nn000003/0001_01.jpg\n")
    chosen = import_dataset(source, tmp_path / "out", images=tmp_path / "train_list.txt").manifest
    assert chosen["id"].tolist() == ["n000002/0001_01", "n000003/0001_01"]
    assert [points is not None for points in chosen["landmarks"]] == [True, True]
    both = archive(tmp_path / "both.tar", VGG)
    assert "does not lie like" in refused(both, tmp_path / "none")
    again = import_dataset(both, tmp_path / "out", images=tmp_path / "train_list.txt").manifest
    assert again["sha256"].tolist() == chosen["sha256"].tolist()


def test_a_list_of_images_may_name_them_by_whole_paths(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {f"top/A/{k}.jpg": picture(k) for k in range(3)})
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "list").write_text(f"{source}/top/A/0.jpg\n{tmp_path}/link/top/A/2.jpg\n/A/1.jpg\n")
    found = import_dataset(tmp_path / "link", tmp_path / "out", images=tmp_path / "list").manifest
    assert found["id"].tolist() == ["A/0", "A/2"]


def test_lists_that_name_no_photo_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": picture(1)})
    (tmp_path / "list").write_text("A/2.jpg\nB/1.jpg\n")
    assert "none of the 2 images" in refused(source, tmp_path / "out", images=tmp_path / "list")
    (tmp_path / "list").write_text("\n")
    assert "names no photo" in refused(source, tmp_path / "out", images=tmp_path / "list")


def test_landmarks_between_blanks_may_have_a_score_in_the_end(tmp_path: Path) -> None:
    """As InsightFace's `ijbc_name_5pts_score.txt`."""
    scored = f"1.jpg {' '.join(map(str, numbers(46.5)))} 0.998\n"
    (tmp_path / "points").write_text(scored + f"2.png {' '.join(map(str, numbers(-3.0)))}\n")
    found = read_landmarks([tmp_path / "points"])
    for name, start in (("1", 46.5), ("2.png", -3.0)):
        points = found.find(name)
        assert points is not None
        assert points.tolist() == numbers(start)
    for line in (scored.replace("0.998", "0.998 1"), scored.replace(" ", "\t")):
        (tmp_path / "points").write_text(line)
        with pytest.raises(DatasetError, match="line 1: landmarks are ten numbers"):
            read_landmarks([tmp_path / "points"])


@pytest.mark.parametrize("between", [" ", "\t", "   "])
def test_names_of_casia_identities(tmp_path: Path, between: str) -> None:
    photos = {"0000045/001.jpg": picture(1), "0000099/001.jpg": picture(2)}
    source = folder(tmp_path / "CASIA-WebFace", photos)
    (tmp_path / "names").write_text(f"0000045{between}Ann_Lee\n0000100{between}Bo Ek Ö\n")
    manifest = import_dataset(source, tmp_path / "out", names=tmp_path / "names").manifest
    assert manifest["identity"].tolist() == ["0000045", "0000099"]
    assert manifest["person"].fillna("?").tolist() == ["Ann_Lee", "?"]
    assert read_names(tmp_path / "names")["0000100"] == {"person": "Bo Ek Ö"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0000045\n", "line 1: '0000045' is no identity with its name"),
        ("a b\n\n0000045\t \n", "line 3"),
        ("", "names nobody"),
        ("Class_ID, Name, Sample_Num, Flag, Gender\nn1, x\n", "line 2"),
    ],
)
def test_names_that_say_nothing_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(DatasetError, match="names") as caught:
        read_names(tmp_path / "names")
    assert said in str(caught.value)


def test_tab_separated_landmarks_reach_their_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path / "in", {f"top/Ann/J.R._{k}.jpg": picture(k) for k in range(3)})
    lines = [f"Ann/J.R._{k}.jpg\t" + "\t".join(map(str, numbers(k / 4))) for k in (2, 0)]
    (tmp_path / "points").write_text("\n".join(lines))
    manifest = import_dataset(source, tmp_path / "out", landmarks=tmp_path / "points").manifest
    points = [None if p is None else list(p) for p in manifest["landmarks"]]
    assert points == [numbers(0), None, numbers(0.5)]
    assert "2 of 3 images have landmarks" in capsys.readouterr().err
    other = folder(tmp_path / "other", {"Bo/1.jpg": picture(1)})
    line = refused(other, tmp_path / "none", landmarks=tmp_path / "points")
    assert "the landmarks name none of its images" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A/1.jpg\t" + "\t".join("123456789"), "line 1"),
        ("A/1.jpg\t" + "\t".join(["nan"] * 10), "line 1"),
        ("A/1.jpg\t" + "\t".join(["-inf"] * 10), "line 1"),
        ("A/1.jpg\t" + "\t".join(["1e300"] * 10), "line 1"),
        ("A/1.jpg\t" + "\t".join(["x"] * 10), "line 1"),
        (("A/1.jpg\t" + "\t".join("0123456789") + "\n") * 2, "photo 2 is named twice"),
        ("A/1.jpg\t" + "\t".join("0123456789") + "\nA/1,1,2,3,4,5,6,7,8,9,0", "named twice"),
        ("", "names no photo"),
    ],
)
def test_landmarks_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "points").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_landmarks([tmp_path / "points"])
    assert said in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "bad", tmp_path / "gone", tmp_path):
        for read in (read_names, read_photo_names, lambda path: read_landmarks([path])):
            with pytest.raises(DatasetError, match="cannot be read as text"):
                read(path)


NAMES = st.text(string.printable + "éß陳\u0301").map(lambda name: f"{name}p")


@given(st.lists(NAMES, unique=True), NAMES)
def test_every_name_is_found_where_it_stands(names: list[str], stranger: str) -> None:
    kept = list({without_suffix(name): name for name in names}.values())
    found = PhotoNames(kept)
    assert [found.find(name) for name in kept] == list(range(len(kept)))
    assert [found.find(f"{name}.jpg") for name in kept] == list(range(len(kept)))
    assert found.twice() is None
    if without_suffix(stranger) not in map(without_suffix, kept):
        assert found.find(stranger) is None
    if kept:
        assert PhotoNames([*kept, kept[-1]]).twice() == len(kept)


@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=10, max_size=10))
def test_points_keep_their_values_as_numbers_and_as_text(values: list[float]) -> None:
    for form in (values, tuple(values), " ".join(map(repr, values)), [repr(v) for v in values]):
        assert np.array_equal(parse_points(form, where=""), np.array(values, np.float32))


def test_a_cell_without_end_is_refused(tmp_path: Path) -> None:
    head = "Class_ID, Name, Sample_Num, Flag, Gender\n"
    (tmp_path / "names").write_text(f"{head}n000001, {'x' * 200_000},1,0, m\n")
    with pytest.raises(DatasetError, match="line 2 is no line of CSV"):
        read_names(tmp_path / "names")
