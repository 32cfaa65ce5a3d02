"""The lists of templates of IJB-B and IJB-C."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from facewright.datasets.readers.templates import read_template_pairs, read_templates
from facewright.errors import DatasetError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_images_templates_and_media_are_text(tmp_path: Path) -> None:
    lines = "1.jpg 1 69544\nimg/2.jpg 1 69544\r\n\n./3.png 007 NA\n1.jpg 2 69544"
    table = read_templates(written(tmp_path / "face_tid_mid.txt", lines))
    assert table.columns.tolist() == ["image", "template", "media"]
    assert table.to_numpy().tolist() == [
        ["1.jpg", "1", "69544"],
        ["img/2.jpg", "1", "69544"],
        ["3.png", "007", "NA"],
        ["1.jpg", "2", "69544"],
    ]


def test_pairs_are_cut_into_ten_folds_that_share_both_labels(tmp_path: Path) -> None:
    genuine = [f"{k} {k + 100} 1" for k in range(20)]
    impostor = [f"{k} {k + 200} 0" for k in range(50)]
    path = written(tmp_path / "pairs.txt", "\n".join([*genuine, *impostor]))
    pairs = read_template_pairs(path)
    assert pairs.columns.tolist() == ["fold", "label", "a", "b"]
    assert pairs.iloc[0].tolist() == [0, 1, "0", "100"]
    assert pairs.iloc[-1].tolist() == [9, 0, "49", "249"]
    counts = pd.crosstab(pairs["fold"], pairs["label"])
    assert counts[1].tolist() == [2] * 10
    assert counts[0].tolist() == [5] * 10
    assert pairs.groupby("label")["fold"].apply(lambda fold: fold.is_monotonic_increasing).all()


@pytest.mark.parametrize("read", [read_templates, read_template_pairs])
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1 2 1\n\n1 2\n3 4 1", "line 3: '1 2' is not"),
        ("1 2 1\n3 4 1 5", "line 2: '3 4 1 5' is not"),
        ("1 2 1 7\n3 4 1 5", "line 1: '1 2 1 7' is not"),
        ("1 2 1\n3 4 1 5 6 7", "line 2: '3 4 1 5 6 7' is not"),
        ("1,2,1", "line 1: '1,2,1' is not"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, read: Callable, text: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        read(written(tmp_path / "list.txt", text))
    assert "list.txt" in str(caught.value)


def test_other_refusals(tmp_path: Path) -> None:
    path = written(tmp_path / "list.txt", "1 2 1\n3 4 yes\n")
    with pytest.raises(DatasetError, match="line 2: '3 4 yes' is not two templates and the label"):
        read_template_pairs(path)
    path = written(tmp_path / "list.txt", "1.jpg 2 1\n1.jpg 3 1\n1.jpg 2 9\n")
    with pytest.raises(DatasetError, match=r"image '1\.jpg' is in template '2' twice"):
        read_templates(path)
    for one, other in (("1.jpg", "1.png"), ("1", "1.jpg")):
        path = written(tmp_path / "list.txt", f"0.jpg 1 1\n{one} 2 1\n{other} 3 1\n")
        with pytest.raises(DatasetError, match=f"'{one}' and '{other}' differ by their suffix alo"):
            read_templates(path)
    csv = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X\n1,2,img/3.jpg,4,5\n"
    with pytest.raises(DatasetError, match=r"is NIST's CSV, with boxes .* cut the faces out"):
        read_templates(written(tmp_path / "list.txt", csv))
    path.write_bytes(b"1.jpg 2 1\n\xff\xfe 2 1\n")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_templates(path)
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_template_pairs(tmp_path / "absent.txt")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_template_pairs(tmp_path)
