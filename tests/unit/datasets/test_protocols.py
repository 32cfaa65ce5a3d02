"""CFP, AgeDB, CALFW and CPLFW as their authors publish them."""

import shutil
from pathlib import Path

import pytest

from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.protocols import read_protocol
from facewright.errors import DatasetError

from .making import archive, folder, picture, refused


def cfp(root: Path) -> Path:
    photos = {}
    for person in ("001", "002"):
        for view, count in (("frontal", 2), ("profile", 1)):
            for k in range(1, count + 1):
                name = f"Data/Images/{person}/{view}/{k:02d}.jpg"
                photos[name] = picture(name)
    folder(root, photos)
    (root / "Data" / "Fiducials" / "001" / "frontal").mkdir(parents=True)
    (root / "Data" / "Fiducials" / "001" / "frontal" / "01.txt").write_text("1,2\n")
    protocol = root / "Protocol"
    protocol.mkdir()
    for letter, view, count in (("F", "frontal", 2), ("P", "profile", 1)):
        names = [
            f"../Data/Images/{person}/{view}/{k:02d}.jpg"
            for person in ("001", "002")
            for k in range(1, count + 1)
        ]
        lines = [f"{number} {name}" for number, name in enumerate(names, 1)]
        (protocol / f"Pair_list_{letter}.txt").write_text("\r\n".join(lines))
    splits = {"FF": (["1,2", "3,4"], ["1,3", "2,4"]), "FP": (["1,1", "3,2"], ["1,2", "4,1"])}
    for split, halves in splits.items():
        for fold in (0, 1):
            part = protocol / "Split" / split / f"{fold + 1:02d}"
            part.mkdir(parents=True)
            for name, pairs in zip(("same", "diff"), halves, strict=True):
                (part / f"{name}.txt").write_text(f"{pairs[fold]}\n")
    return root


def test_cfp_frontal_to_profile_and_to_frontal(tmp_path: Path) -> None:
    source = cfp(tmp_path / "cfp-dataset")
    split = source / "Protocol" / "Split"
    dataset = import_dataset(source, tmp_path / "fp", pairs=split / "FP")
    assert dataset.manifest["id"].tolist() == [
        f"{person}/{stem}"
        for person in ("001", "002")
        for stem in ("frontal-01", "frontal-02", "profile-01")
    ]
    assert dataset.manifest["origin"][2] == "Data/Images/001/profile/01.jpg"
    assert dataset.pairs is not None
    assert dataset.pairs.values.tolist() == [
        [0, 1, "001/frontal-01", "001/profile-01"],
        [0, 0, "001/frontal-01", "002/profile-01"],
        [1, 1, "002/frontal-01", "002/profile-01"],
        [1, 0, "002/frontal-02", "001/profile-01"],
    ]
    pairs = read_protocol(split / "FF").pairs
    assert pairs["a"].tolist()[:2] == ["001/frontal-01", "001/frontal-01"]
    assert pairs["b"].tolist()[:2] == ["001/frontal-02", "002/frontal-01"]


def test_cfp_in_an_archive(tmp_path: Path) -> None:
    source = cfp(tmp_path / "cfp-dataset")
    photos = {
        f"cfp-dataset/{path.relative_to(source)}": path.read_bytes()
        for path in sorted(source.rglob("*.jpg"))
    }
    packed = archive(tmp_path / "cfp-dataset.zip", photos)
    split = source / "Protocol" / "Split" / "FF"
    dataset = import_dataset(packed, tmp_path / "out", pairs=split)
    assert dataset.manifest["identity"].tolist() == ["001"] * 3 + ["002"] * 3
    assert dataset.pairs is not None
    assert len(dataset.pairs) == 4


def test_a_damaged_cfp_protocol_is_named(tmp_path: Path) -> None:
    source = cfp(tmp_path / "cfp-dataset")
    split = source / "Protocol" / "Split" / "FP"
    (split / "01" / "same.txt").write_text("1,9\n")
    with pytest.raises(DatasetError, match=r"same\.txt: '1,9' is no pair of numbers"):
        read_protocol(split)
    (split / "01" / "diff.txt").unlink()
    (split / "01" / "same.txt").write_text("1,1\n")
    with pytest.raises(DatasetError, match=r"diff\.txt cannot be read"):
        read_protocol(split)
    (tmp_path / "x" / "empty").mkdir(parents=True)
    for wrong in (tmp_path / "x" / "empty", source, split.parent, split / "01"):
        with pytest.raises(DatasetError, match="name the folder Protocol/Split/FP or Protocol/"):
            read_protocol(wrong)
    (tmp_path / "Split" / "FF").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"Pair_list_F\.txt cannot be read"):
        read_protocol(tmp_path / "Split" / "FF")
    shutil.rmtree(split)
    split.mkdir()
    with pytest.raises(DatasetError, match="holds no folds"):
        read_protocol(split)


def test_cfp_may_be_named_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = cfp(tmp_path / "cfp-dataset") / "Protocol" / "Split" / "FP"
    whole = read_protocol(split).pairs
    monkeypatch.chdir(split)
    assert read_protocol(Path()).pairs.equals(whole)
    (tmp_path / "link").symlink_to(split)
    assert read_protocol(tmp_path / "link").pairs.equals(whole)


@pytest.mark.parametrize("top", ["", "AgeDB/"])
def test_agedb_says_name_age_and_gender(tmp_path: Path, top: str) -> None:
    names = ["0_AnnLee_35_f.jpg", "1_AnnLee_40_f.jpg", "10_Bo_Ek_7_M.jpg"]
    packed = archive(tmp_path / "AgeDB.tar", {top + name: picture(name) for name in names})
    manifest = import_dataset(packed, tmp_path / "out").manifest
    assert manifest["identity"].tolist() == ["AnnLee", "AnnLee", "Bo_Ek"]
    assert manifest["id"][2] == "Bo_Ek/10_Bo_Ek_7_M"
    assert manifest["age"].tolist() == [35, 40, 7]
    assert manifest["gender"].tolist() == ["f", "f", "m"]
    mixed = archive(tmp_path / "b.tar", {names[0]: picture(1), "Ann/1.jpg": picture(2)})
    assert "'Ann/1.jpg' does not lie like '0_AnnLee_35_f.jpg'" in refused(mixed, tmp_path / "no")


@pytest.mark.parametrize("kind", ["folder", "a.zip", "a.tar", "data"])
def test_folders_of_identities_outweigh_names_like_agedbs(tmp_path: Path, kind: str) -> None:
    """`1_front_30_m` may be a view and a number: two people would become one, called `front`."""
    photos = {
        f"{who}/{k}_front_3{k}_m.jpg": picture((who, k)) for who in ("Ann", "Bo") for k in (1, 2)
    }
    source = folder(tmp_path / "in", photos) if kind in ("folder", "data") else None
    if kind == "data":
        source = import_dataset(tmp_path / "in", tmp_path / "set").root / "shards"
    manifest = import_dataset(source or archive(tmp_path / kind, photos), tmp_path / "out").manifest
    assert manifest["identity"].tolist() == ["Ann", "Ann", "Bo", "Bo"]
    assert manifest["id"][0] == "Ann/1_front_31_m"


AGEDB = ["0_AnnLee_35_f.jpg", "1_AnnLee_40_f.jpg", "10_Bo_Ek_7_M.jpg"]


def test_pairs_may_name_photos_alone_where_names_say_who_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("0\t1\t{}\t{}\n1\t0\t{}\t{}\n".format(*AGEDB[:2], *AGEDB[1:]))
    source = folder(tmp_path / "AgeDB", {name: picture(name) for name in AGEDB})
    pairs = import_dataset(source, tmp_path / "a", pairs=path).pairs
    assert pairs is not None
    assert pairs[["a", "b"]].to_numpy().tolist() == [
        ["AnnLee/0_AnnLee_35_f", "AnnLee/1_AnnLee_40_f"],
        ["AnnLee/1_AnnLee_40_f", "Bo_Ek/10_Bo_Ek_7_M"],
    ]
    path.write_text(f"fold\tlabel\tpath\tpath\n0\t1\t{FLAT[0]}\t{FLAT[1]}\n")
    together = folder(tmp_path / "flat", {f"in/{name}": picture(name) for name in FLAT})
    apart = folder(tmp_path / "lfw", {f"{n.rpartition('_')[0]}/{n}": picture(n) for n in FLAT})
    for source in (together, apart):
        pairs = import_dataset(source, tmp_path / "b", pairs=path).pairs
        assert pairs is not None
        assert pairs.iloc[0].tolist() == [0, 1, "Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002"]
    path.write_text("0\t1\tphoto.jpg\tAnn_Lee_0001.jpg\n")
    with pytest.raises(DatasetError, match="is no pair"):
        read_protocol(path)


FLAT = ["Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", "Bo_0001.jpg", "Bo_0002.jpg"]


def halves(path: Path, *pairs: tuple[int, int, int]) -> Path:
    lines = [f"{FLAT[k]} {number}" for a, b, number in pairs for k in (a, b)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_calfw_numbers_are_folds_of_genuine_pairs(tmp_path: Path) -> None:
    genuine = [(0, 1, fold) for fold in range(1, 11)]
    impostor = [(0, 2, 0)] * 10
    path = halves(tmp_path / "pairs_CALFW.txt", *genuine, *impostor)
    pairs = read_protocol(path).pairs
    assert pairs["label"].tolist() == [1] * 10 + [0] * 10
    assert pairs["fold"].tolist() == list(range(10)) * 2
    assert pairs.iloc[0][["a", "b"]].tolist() == ["Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002"]


def test_cplfw_numbers_are_labels(tmp_path: Path) -> None:
    path = halves(tmp_path / "pairs_CPLFW.txt", *[(0, 1, 1)] * 20, *[(1, 3, 0)] * 20)
    pairs = read_protocol(path).pairs
    assert (pairs.groupby(["fold", "label"]).size() == 2).all()
    assert sorted(pairs["fold"].unique()) == list(range(10))


@pytest.mark.parametrize("top", ["", "aligned images/"])
def test_photos_of_calfw_lie_in_one_folder(tmp_path: Path, top: str) -> None:
    path = halves(tmp_path / "pairs_CALFW.txt", (0, 1, 1), (1, 2, 0))
    packed = archive(tmp_path / "calfw.zip", {top + name: picture(name) for name in FLAT})
    dataset = import_dataset(packed, tmp_path / "out", pairs=path)
    assert dataset.card.kind == "verification"
    assert dataset.manifest["identity"].tolist() == ["Ann_Lee", "Ann_Lee", "Bo", "Bo"]
    assert dataset.manifest["id"][0] == "Ann_Lee/Ann_Lee_0001"
    unlike = archive(tmp_path / "b.zip", {FLAT[0]: picture(1), "photo.jpg": picture(2)})
    assert "'photo.jpg' does not lie like" in refused(unlike, tmp_path / "no", pairs=path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ann_0001.jpg 1\nAnn_0002.jpg 0\n", "have the numbers 1 and 0"),
        ("Ann_0001.jpg 1\nAnn_0002.jpg 1\nBo_0001.jpg 0\n", "'Bo/Bo_0001', has no other"),
        ("Ann_0001.jpg 1\nAnn.jpg 1\n", "'Ann.jpg 1' is no photo"),
        ("Ann_0001.jpg 1\nAnn_0002.jpg\n", "'Ann_0002.jpg' is no photo"),
    ],
)
def test_halves_that_make_no_pair_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_protocol(tmp_path / "pairs")
    assert said in str(caught.value)


def test_labels_that_contradict_the_names_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {name: picture(name) for name in FLAT})
    path = halves(tmp_path / "pairs", (0, 2, 1))
    assert "called one identity" in refused(source, tmp_path / "out", pairs=path)
