"""LFW's files: folds, labels and ids as their authors define them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.lfw import read_pairs, read_people
from facewright.errors import DatasetError


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def faces(path: Path, *ids: str) -> Path:
    for number, name in enumerate(ids):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"{path / name}.png", np.full((8, 8, 3), number, np.uint8))
    return path


def test_people_with_and_without_counts(tmp_path: Path) -> None:
    view2 = write(tmp_path / "1", "2", "2", "Ann\t1", "Bo\t2", "1", "Ann\t1")
    assert read_people(view2) == ["Ann", "Bo"]
    assert read_people(write(tmp_path / "2", "0000045", "Ann Lee", "")) == ["0000045", "Ann Lee"]
    numbers = write(tmp_path / "3", "2", "0000045\t3", "0000102\t1")
    assert read_people(numbers) == ["0000045", "0000102"]


def test_view_2_has_its_own_folds(tmp_path: Path) -> None:
    lines = ["A\t1\t2", "A\t1\tB\t12", "C\t1\t2", "C\t1\tD\t1"]
    pairs = read_pairs(write(tmp_path / "pairs.txt", "2\t1", *lines))
    assert pairs.values.tolist() == [
        [0, 1, "A/A_0001", "A/A_0002"],
        [0, 0, "A/A_0001", "B/B_0012"],
        [1, 1, "C/C_0001", "C/C_0002"],
        [1, 0, "C/C_0001", "D/D_0001"],
    ]


def test_names_with_dots_need_no_suffix(tmp_path: Path) -> None:
    lines = ["0\t1\tA/J.R._1\tA/J.R._2.JPG", "0\t0\tA/J.R._1\tB/Dr. No"]
    pairs = read_pairs(write(tmp_path / "pairs.tsv", *lines))
    assert pairs["a"].tolist() == ["A/J.R._1", "A/J.R._1"]
    assert pairs["b"].tolist() == ["A/J.R._2", "B/Dr. No"]


def test_view_1_gets_ten_folds_with_both_labels_in_equal_shares(tmp_path: Path) -> None:
    genuine = [f"A\t{k}\t{k + 1}" for k in range(1, 31)]
    impostor = [f"A\t{k}\tB\t{k}" for k in range(1, 31)]
    pairs = read_pairs(write(tmp_path / "pairs.txt", "30", *genuine, *impostor))
    assert pairs["label"].tolist() == [1] * 30 + [0] * 30
    assert (pairs.groupby(["fold", "label"]).size() == 3).all()
    assert sorted(pairs["fold"].unique()) == list(range(10))


def test_tab_separated_pairs(tmp_path: Path) -> None:
    line = "3\t0\tx/Ann Lee/photo 1.jpg\tBo/b.v2.jpg"
    for lines in ([line], ["fold\tlabel\ta\tb", line]):
        pairs = read_pairs(write(tmp_path / "pairs.tsv", *lines))
        assert pairs.values.tolist() == [[3, 0, "Ann Lee/photo 1", "Bo/b.v2"]]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no verification pair"),
        (["0"], "no verification pair"),
        (["fold\tlabel\ta\tb"], "no verification pair"),
        (["2", "A\t1\t2", "A\t1\t3", "A\t1\tB\t1"], "announces 4 pairs and holds 3"),
        (["1", "A\tone\t2", "A\t1\tB\t1"], "'A\\tone\\t2' is no pair"),
        (["0\t2\tA/1.jpg\tA/2.jpg"], "is no pair"),
        (["hello"], "'hello' is no pair"),
        (["0\t1\t1.jpg\tA/2.jpg"], "'0\\t1\\t1.jpg\\tA/2.jpg' is no pair"),
        (["0\t1\tA/1.jpg\t2.jpg"], "is no pair"),
    ],
)
def test_pairs_that_say_nothing_are_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    path = write(tmp_path / "pairs.txt", *lines)
    with pytest.raises(DatasetError) as caught:
        read_pairs(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "bad", tmp_path / "gone"):
        with pytest.raises(DatasetError, match="cannot be read as text"):
            read_people(path)
    with pytest.raises(DatasetError, match="names nobody"):
        read_people(write(tmp_path / "none"))


def test_import_with_people_and_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = faces(tmp_path / "in", "A/A_0001", "A/A_0002", "B/B_0001", "C/C_0001")
    people = write(tmp_path / "people", "3", "A\t2", "B\t1", "Z\t1")
    pairs = write(tmp_path / "pairs", "1", "A\t1\t2", "A\t1\tB\t1")
    dataset = import_dataset(source, tmp_path / "out", people=people, pairs=pairs)
    assert dataset.card.kind == "verification"
    assert dataset.manifest["identity"].tolist() == ["A", "A", "B"]
    assert dataset.pairs is not None
    assert len(dataset.pairs) == 2
    assert "2 of the 3 people on the list are there" in capsys.readouterr().err


def test_pairs_and_people_that_do_not_fit_the_images_are_refused(tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "A/A_0001", "A/A_0002", "B/B_0001")
    missing = write(tmp_path / "1", "1", "A\t1\t7", "A\t1\tB\t1")
    with pytest.raises(DatasetError, match="not there, first 'A/A_0007'"):
        import_dataset(source, tmp_path / "out", pairs=missing)
    liar = write(tmp_path / "2", "0\t1\tA/A_0001.png\tB/B_0001.png")
    with pytest.raises(DatasetError, match="called one identity"):
        import_dataset(source, tmp_path / "out", pairs=liar)
    strangers = write(tmp_path / "3", "Nobody")
    with pytest.raises(DatasetError, match="none of the 1 people"):
        import_dataset(source, tmp_path / "out", people=strangers)
    assert not (tmp_path / "out").exists()
