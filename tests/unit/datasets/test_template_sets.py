"""Sets of templates: imported as IJB-B and IJB-C are laid out, checked, cut, and erased from."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facewright import cli
from facewright.datasets.card import CARD
from facewright.datasets.checking import show_datasets, verify_datasets
from facewright.datasets.editing import merge_datasets, subset_dataset
from facewright.datasets.elsewhere import find_elsewhere
from facewright.datasets.erasing import Person, find_rows, read_decisions
from facewright.datasets.exporting import export_dataset
from facewright.datasets.form import MANIFEST, PAIRS, TEMPLATES, Dataset, open_dataset
from facewright.datasets.importing import import_dataset
from facewright.datasets.rewriting import rewrite_dataset
from facewright.datasets.templates import TemplateLists
from facewright.datasets.versions import _Search
from facewright.errors import DatasetError
from facewright.files import directory_digest

from .making import archive, contents, dataset, folder, people, picture, refused

# Templates 10, 11 and 14 are one person (a genuine pair, a shared image), 12 and 13 another.
LIST = """\
1.jpg 10 500
2.jpg 10 500
3.jpg 11 501
1.jpg 14 502
4.jpg 12 503
5.jpg 12 504
6.jpg 13 505
8.jpg 15 506
2.jpg 16 7
1.jpg 16 8
"""
# The last two are of one person all the same, and of the same photos.
TEMPLATE_PAIRS = "10 11 1\n12 13 1\n10 12 0\n11 15 0\n11 14 0\n10 16 1\n"
PHOTOS = {f"{k}.jpg": picture(k) for k in range(1, 10)}  # 7 and 9 are in no template
WHO = dict.fromkeys(("1", "2", "3"), "000000") | dict.fromkeys(("4", "5", "6"), "000001")
WHO |= {"8": "000002"}


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "tid_mid.txt").write_text(LIST)
    (tmp_path / "pair_label.txt").write_text(TEMPLATE_PAIRS)
    return {"templates": tmp_path / "tid_mid.txt", "pairs": tmp_path / "pair_label.txt"}


def held(made: Dataset) -> list[list[str]]:
    assert made.templates is not None
    return made.templates.to_numpy().tolist()


def test_ijbs_folder_becomes_a_set(
    tmp_path: Path, lists: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "loose_crop", PHOTOS)
    points = " ".join(str(k) for k in range(10))
    (tmp_path / "5pts.txt").write_text("".join(f"{k}.jpg {points} 0.9\n" for k in (1, 7, 8)))
    command = ["dataset", "import", str(tmp_path / "loose_crop"), str(tmp_path / "out")]
    command += [f"--{name}={path}" for name, path in lists.items()]
    assert cli.main([*command, f"--landmarks={tmp_path / '5pts.txt'}"]) == 0
    told = capsys.readouterr()
    assert "7 images of 3 identities" in told.out
    assert "1 of 6 impostor pairs are of one identity by the genuine pairs" in told.err
    assert "1 of 6 pairs are of two templates of the very same images; set aside" in told.err

    made = open_dataset(tmp_path / "out")
    assert made.card.kind == "verification"
    rows = made.manifest.set_index("id")
    assert dict(zip(rows["origin"].str.removesuffix(".jpg"), rows["identity"], strict=True)) == WHO
    assert contents(made) == {f"{who}/{k}": PHOTOS[f"{k}.jpg"] for k, who in WHO.items()}
    stated = rows["landmarks"].dropna()
    assert stated.index.tolist() == ["000000/1", "000002/8"]
    assert stated.iloc[0].tolist() == list(range(10))
    lines = [line.removesuffix("\n").split() for line in LIST.splitlines()]
    assert held(made) == [
        [f"{WHO[name[:-4]]}/{name[:-4]}", template, media] for name, template, media in lines
    ]
    assert made.pairs is not None
    assert made.pairs[["a", "b", "label"]].to_numpy().tolist() == [
        ["10", "11", 1], ["12", "13", 1], ["10", "12", 0], ["11", "15", 0]
    ]  # fmt: skip
    assert made.pairs["fold"].tolist() == [0, 5, 0, 5]
    assert verify_datasets(made.root) == []
    assert "templates" in (shown := show_datasets(made.root))
    assert "7, each of 1 to 2 images, median 1, and 1 to 2 media" in shown

    # The same from an archive with a folder around, whatever else lies in it.
    source = archive(tmp_path / "ijb.tar", PHOTOS | {"note.txt": b"x"}, top="ijb/loose_crop/")
    again = import_dataset(source, tmp_path / "again", **lists)
    assert contents(again) == contents(made)
    assert held(again) == held(made)
    import_dataset(source, tmp_path / "twice" / "again", **lists)
    assert directory_digest(tmp_path / "twice" / "again") == directory_digest(again.root)


def test_identities_are_what_images_and_genuine_pairs_connect(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = sorted({(int(random.integers(90)), int(random.integers(70))) for _ in range(110)})
    random.shuffle(rows)
    known = sorted({template for _, template in rows})
    chosen = random.permutation(list(combinations(known, 2)))[:30].tolist()
    pairs = [(a, b, int(random.random() < 0.3)) for a, b in chosen]
    (tmp_path / "list").write_text("".join(f"{image}.png {t} 0\n" for image, t in rows))
    (tmp_path / "pairs").write_text("".join(f"{a} {b} {label}\n" for a, b, label in pairs))
    listed = TemplateLists(tmp_path / "list", pairs=tmp_path / "pairs")
    groups = [({image}, {t}) for image, t in rows] + [
        (set(), {a, b}) for a, b, label in pairs if label
    ]
    done: list[tuple[set[int], set[int]]] = []
    for images, templates in groups:
        for other in [o for o in done if o[0] & images or o[1] & templates]:
            done.remove(other)
            images, templates = images | other[0], templates | other[1]
        done.append((images, templates))
    order = list(dict.fromkeys(image for image, _ in rows))
    done.sort(key=lambda group: min(map(order.index, group[0])))
    assert 5 < len(done) < 40
    for number, (images, _) in enumerate(done):
        at = [order.index(image) for image in images]
        assert set(map(listed.number, at)) == {f"{number:06d}"}


OWN = "Ada/1.jpg a1 v\nAda/2.jpg a1 v\nAda/3.jpg a2 v\nBo/1.jpg b1 w\n"
FOLDERS = {f"photos/{name}": data for name, data in people("Ada Bo", photos=4).items()}


def test_folders_of_identities_count_where_there_are_any(tmp_path: Path) -> None:
    folder(tmp_path, FOLDERS)
    (tmp_path / "list").write_text(OWN)
    (tmp_path / "pairs").write_text("a1 a2 1\na1 b1 0\n")
    options = {"templates": tmp_path / "list", "pairs": tmp_path / "pairs"}
    made = import_dataset(tmp_path / "photos", tmp_path / "out", **options)
    assert made.manifest["identity"].tolist() == ["Ada", "Ada", "Ada", "Bo"]
    assert held(made) == [[line.split()[0][:-4], *line.split()[1:]] for line in OWN.splitlines()]

    (tmp_path / "pairs").write_text("a1 b1 1\n")
    said = refused(tmp_path / "photos", tmp_path / "none", **options)
    assert "pairs: 'a1' and 'b1' are called one identity, and the identities say otherwise" in said
    (tmp_path / "pairs").write_text("a1 a2 1\na2 a1 1\n")
    said = refused(tmp_path / "photos", tmp_path / "none", **options)
    assert "pairs: the pair 'a2', 'a1' is there twice" in said
    (tmp_path / "pairs").write_text("a1 a2 1\n")
    (tmp_path / "list").write_text(OWN + "Bo/2.jpg a1 w\n")
    said = refused(tmp_path / "photos", tmp_path / "none", **options)
    assert "template 'a1' holds images of two identities, 'Ada' and 'Bo'" in said
    (tmp_path / "list").write_text(OWN.replace("Ada/", "").replace("Bo/1", "Bo/3"))
    said = refused(tmp_path / "photos", tmp_path / "none", **options)
    assert "'1.jpg' may be 'Ada/1.jpg' or 'Bo/1.jpg' of photos: name each image by its f" in said


def origins(made: Dataset) -> set[str]:
    assert {len(id.split("/")[0]) for id in made.manifest["id"]} == {6}  # numbers, not folders
    return set(made.manifest["origin"])


@pytest.mark.parametrize(
    ("above", "named", "imported"),
    [
        ("", "", "loose_crop"),
        ("", "loose_crop/", "loose_crop"),
        ("", "./loose_crop/", "ijb"),
        ("", "ijb/loose_crop/", "ijb"),
        ("", "", "ijb"),
        ("img/", "img/", "loose_crop"),
        ("img/", "loose_crop/img/", "ijb"),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", "", ".png"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_list_names_photos_as_people_have_them(
    tmp_path: Path,
    lists: dict[str, Path],
    above: str,
    named: str,
    imported: str,
    suffix: str,
    packed: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With their folder or without, with their suffix, another one or none, strays beside them."""
    rows = [line.split(".jpg") for line in LIST.splitlines()]
    lists["templates"].write_text("".join(f"{named}{n}{suffix}{rest}\n" for n, rest in rows))
    crops = f"ijb/loose_crop/{above}"
    folder(tmp_path, {f"{crops}{name}": data for name, data in PHOTOS.items()})
    strays = {"ijb/a.jpg": picture("a"), f"{crops}z.png": picture("z"), "ijb/x/y.bmp": picture(1)}
    folder(tmp_path, strays)
    source = tmp_path / ("ijb" if imported == "ijb" else "ijb/loose_crop")
    inside = {
        file.relative_to(source).as_posix(): file.read_bytes()
        for file in sorted(source.rglob("*"), reverse=True)
        if file.is_file()
    }
    if packed:
        source = archive(tmp_path / f"{imported}.tar", inside, top=f"{imported}/")
    made = import_dataset(source, tmp_path / "out", **lists)
    assert {name.rpartition("/")[2] for name in origins(made)} == {f"{k}.jpg" for k in WHO}
    of = {f"{who}/{name}" for name, who in WHO.items()}
    assert set(made.manifest["id"]) == of
    left = len(inside) - len(WHO)
    assert f"{left} images that the list does not mean left out, first" in capsys.readouterr().err


def test_of_photos_that_differ_by_their_suffix_the_named_one_is_meant(
    tmp_path: Path, lists: dict[str, Path]
) -> None:
    twins = {"1.png": picture("p"), "2.bmp": picture("b"), "5.JPG": picture("J")}
    source = folder(tmp_path / "loose_crop", PHOTOS | twins)
    made = import_dataset(source, tmp_path / "out", **lists)
    assert origins(made) == {f"{k}.jpg" for k in WHO}
    packed = archive(tmp_path / "one.tar", twins | PHOTOS)  # the others come first
    assert contents(import_dataset(packed, tmp_path / "again", **lists)) == contents(made)

    lists["templates"].write_text(LIST.replace("1.jpg", "1.png").replace("2.jpg", "2.bmp"))
    made = import_dataset(source, tmp_path / "out", **lists)
    assert origins(made) == {"1.png", "2.bmp", *(f"{k}.jpg" for k in WHO if k not in "12")}
    for name in ("1", "1.webp"):  # the list says of neither that it is meant
        lists["templates"].write_text(LIST.replace("1.jpg", name))
        said = refused(source, tmp_path / "none", **lists)
        assert f"tid_mid.txt: '{name}' may be '1.jpg' or '1.png' of loose_crop: name each" in said


def test_of_photos_in_several_folders_the_one_on_the_path_is_meant(
    tmp_path: Path, lists: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for top in ("a", "loose_crop"):
        folder(tmp_path / "ijb" / top, PHOTOS)
    said = refused(tmp_path / "ijb", tmp_path / "none", **lists)
    assert "'1.jpg' may be 'a/1.jpg' or 'loose_crop/1.jpg' of ijb: name each" in said
    folder(tmp_path / "ijb", PHOTOS)
    assert all("/" not in name for name in origins(
        import_dataset(tmp_path / "ijb", tmp_path / "out", **lists)
    ))  # fmt: skip
    lines = [f"loose_crop/{line}\n" for line in LIST.splitlines()]
    lists["templates"].write_text("".join(lines))
    made = import_dataset(tmp_path / "ijb", tmp_path / "out", **lists)
    assert origins(made) == {f"loose_crop/{k}.jpg" for k in WHO}
    assert "20 images that the list does not mean left out, first 1.jpg" in capsys.readouterr().err


def test_nists_two_folders_are_nobodys(tmp_path: Path, lists: dict[str, Path]) -> None:
    """Photos and frames are numbered apart, so that both folders may have a 1.jpg."""
    where = {"3": "frames/1", "4": "frames/4"}
    name = {k: where.get(k, f"img/{k}") for k in WHO}
    folder(tmp_path / "images", {f"{name[k]}.jpg": PHOTOS[f"{k}.jpg"] for k in WHO})
    rows = [line.split(".jpg") for line in LIST.splitlines()]
    lists["templates"].write_text("".join(f"{name[k]}.jpg{rest}\n" for k, rest in rows))
    made = import_dataset(tmp_path / "images", tmp_path / "out", **lists)
    expected = {f"{who}/{name[k].replace('/', '-')}": PHOTOS[f"{k}.jpg"] for k, who in WHO.items()}
    assert contents(made) == expected


def test_templates_of_copies_are_of_the_same_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path, FOLDERS | {"photos/Ada/copy.jpg": FOLDERS["photos/Ada/3.jpg"]})
    (tmp_path / "list").write_text(OWN + "Ada/3.jpg a3 v\nAda/copy.jpg a4 x\n")
    (tmp_path / "pairs").write_text("a2 a3 1\na3 a4 1\na1 b1 0\n")
    options = {"templates": tmp_path / "list", "pairs": tmp_path / "pairs"}
    made = import_dataset(tmp_path / "photos", tmp_path / "out", **options)
    assert made.pairs is not None
    assert made.pairs[["a", "b"]].to_numpy().tolist() == [["a1", "b1"]]
    assert "2 of 3 pairs are of two templates of the very same images" in capsys.readouterr().err


def test_what_does_not_fit_is_one_line(tmp_path: Path, lists: dict[str, Path]) -> None:
    source = folder(tmp_path / "in", {name: PHOTOS[name] for name in sorted(PHOTOS)[:5]})
    out = tmp_path / "out"
    assert "2 of its 7 images are not in the source, first '6.jpg'" in refused(source, out, **lists)
    said = refused(source, out, templates=lists["templates"])
    assert "tid_mid.txt has no pairs: give the pairs of its templates, --pairs" in said
    for more in ("people", "images"):
        said = refused(source, out, **lists, **{more: lists["pairs"]})
        assert "says itself which images are imported" in said
    lists["pairs"].write_text("10 11 1\n10 99 0\n98 10 0\n97 10 0\n")
    said = refused(source, out, **lists)
    assert "2 pairs name a template that is not in" in said
    assert "first '98': give the two lists of one set" in said
    assert "none of the 7 images on the list is there" in refused(
        folder(tmp_path / "other", {"x.jpg": picture(0)}), out, templates=lists["templates"],
        pairs=lists["pairs"].write_text(TEMPLATE_PAIRS) and lists["pairs"],
    )  # fmt: skip


# ---- what is there -------------------------------------------------------------------------------

ROWS = [
    ("Ada/0", "a", "v"),
    ("Ada/1", "a", "v"),
    ("Ada/2", "b", "v"),
    ("Bo/0", "c", "v"),
    ("Bo/1", "c", "w"),
    ("Cy/0", "d", "v"),
    ("Cy/1", "e", "v"),
]
PAIRS_OF = [(0, 1, "a", "b"), (0, 0, "b", "c"), (1, 1, "d", "e"), (1, 0, "c", "d")]


@pytest.fixture
def made(tmp_path: Path) -> Dataset:
    root = tmp_path / "data" / "verify" / "set"
    return dataset(root, people("Ada Bo Cy"), pairs=PAIRS_OF, templates=ROWS)


def change(made: Dataset, name: str, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    how(pd.read_parquet(made.root / name)).to_parquet(made.root / name, index=False)


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        (TEMPLATES, lambda t: t.replace("Bo/1", "Bo/7"), "a template names 'Bo/7', which is no im"),
        (TEMPLATES, lambda t: t.replace("Bo/1", "Cy/2"), "two identities, 'Bo' and 'Cy'"),
        (TEMPLATES, lambda t: t.replace("Bo/1", "Bo/0"), "'Bo/0' is in template 'c' twice"),
        (PAIRS, lambda t: t.replace("e", "d"), "'d' is paired with itself (1 such pairs)"),
        (PAIRS, lambda t: pd.concat([t, t.iloc[2:]]), "the pair 'd', 'e' is there twice, in this"),
        (PAIRS, lambda t: t.replace("e", "Cy/1"), "a pair names 'Cy/1', which is no template"),
    ],
)
def test_verify_finds_wrong_templates(
    made: Dataset, name: str, how: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    assert verify_datasets(made.root) == []
    change(made, name, how)
    faults = verify_datasets(made.root)
    assert len(faults) == 1
    assert said in faults[0]


def test_templates_are_of_text(made: Dataset) -> None:
    change(made, TEMPLATES, lambda t: t.assign(media=range(len(t))))
    with pytest.raises(DatasetError, match=r"templates.parquet, row 1: its media is 0 and must be"):
        open_dataset(made.root)


def test_a_set_with_wrong_templates_is_not_written(tmp_path: Path) -> None:
    for rows, pairs, said in (
        (
            [("Bo/0", "a", "v"), *ROWS],
            PAIRS_OF,
            r"two identities, .*\(1 faults\): correct the list",
        ),
        (ROWS, [(0, 1, "a", "f")], "the pairs name 1 templates that are not there, first 'f'"),
    ):
        with pytest.raises(DatasetError, match=said):
            dataset(tmp_path / said[:5], people("Ada Bo Cy"), pairs=pairs, templates=rows)


def test_subset_keeps_what_is_left_of_templates(
    tmp_path: Path, made: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text("Ada/1\nAda/2\nBo/0\nCy/0\nCy/2\n")
    part = subset_dataset(made.root, tmp_path / "part", images=tmp_path / "list")
    assert held(part) == [list(ROWS[k]) for k in (1, 2, 3, 5)]
    assert part.pairs is not None
    assert part.pairs[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["b", "c"], ["c", "d"]]
    assert verify_datasets(part.root) == []
    told = capsys.readouterr().err
    assert "2 templates lost some of their images" in told
    assert "1 of 4 pairs lost a template and were dropped" in told


def test_what_cannot_tell_templates_refuses_them(tmp_path: Path, made: Dataset) -> None:
    with pytest.raises(DatasetError, match="has templates, which no folder of photos can tell"):
        export_dataset(made.root, tmp_path / "out")
    other = dataset(tmp_path / "other", people("Dan"), pairs=[(0, 1, "Dan/0", "Dan/1")])
    with pytest.raises(DatasetError, match="set has templates, which are not merged"):
        merge_datasets(tmp_path / "out", [other.root, made.root])
    assert not (tmp_path / "out").exists()


def test_an_erased_person_leaves_templates_and_pairs(tmp_path: Path, made: Dataset) -> None:
    data = tmp_path / "data"
    # Bo goes whole, and one photo of Cy (its only template) and one of two of Ada's first.
    photos = made.manifest.set_index("id")["sha256"]
    gone = Person(names=frozenset({"bo"}), photos=frozenset(photos[["Cy/1", "Ada/0"]]))
    (one,) = find_rows(data, gone, datasets=[made])
    assert one.gone_pairs.tolist() == [False, True, True, True]
    rewrite_dataset(one)
    after = open_dataset(made.root)
    assert held(after) == [list(ROWS[k]) for k in (1, 2, 5)]
    assert after.pairs is not None
    assert after.pairs.to_numpy().tolist() == [list(PAIRS_OF[0])]
    assert verify_datasets(made.root) == []
    assert find_elsewhere(data, gone, datasets=[after], found=[one]) == []


@pytest.mark.parametrize(("template", "expected"), [("c", True), ("x", False)])
def test_earlier_versions_that_name_them_are_found(
    made: Dataset, tmp_path: Path, template: str, expected: bool
) -> None:
    """The pairs hold a person where they name a template of theirs."""
    change(made, PAIRS, lambda t: t.replace("c", template))
    read = {name: (made.root / name).read_bytes() for name in (CARD, MANIFEST, PAIRS, TEMPLATES)}
    project: Any = SimpleNamespace(read=read.get)
    decisions = read_decisions(tmp_path / "data", datasets=[made])
    search = _Search(project, Person(names=frozenset({"bo"})), decisions)
    found = search.folder({f"verify/set/{name}": name for name in read})
    assert found.objects == {MANIFEST, TEMPLATES} | ({PAIRS} if expected else set())
    for lost in (b"damaged", None):
        partly: Any = SimpleNamespace(read=(read | {TEMPLATES: lost}).get)
        search = _Search(partly, Person(names=frozenset({"bo"})), decisions)
        found = search.folder({f"verify/set/{name}": name for name in read})
        assert found.objects == {MANIFEST, TEMPLATES, PAIRS}
        assert found.unread == [f"verify/set/{MANIFEST}"]
    nobody = _Search(project, Person(names=frozenset({"dan"})), decisions)
    assert nobody.folder({f"verify/set/{name}": name for name in read}).objects == set()
