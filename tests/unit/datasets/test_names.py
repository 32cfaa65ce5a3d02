"""Names: what is a label, and which spellings are one name."""

import pytest

from facewright.datasets.names import check_identity, comparable, is_label, named_among, tell_apart
from facewright.errors import DatasetError


@pytest.mark.parametrize(
    "identity", ["0000045", "n000123", "m-17", "7", "A", "a_1_b", "", "x\u0302_1", "Ａ1", "❤️"]
)
def test_labels(identity: str) -> None:
    assert is_label(identity)


@pytest.mark.parametrize(
    "identity",
    [
        *("Ann", "ann_0001", "Jo", "12_Ann", "Ян", "王芳", "Le\u0301a"),
        *("陳", "陳_0001", "김", "あ"),
        # Devanagari, Thai, Tamil: vowel signs stand between two letters, or after one.
        *("रीमा", "क्षि", "ปู", "สมชาย", "மீனா"),
    ],
)
def test_names(identity: str) -> None:
    assert not is_label(identity)


@pytest.mark.parametrize(
    "spelling",
    ["Rene Zoe", "René_Zoë", "RENE-ZOE", "Rene\u0301  Zoe\u0308", " rene.zoe ", "Ｒｅｎｅ Zoe"],
)
def test_spellings_of_one_name(spelling: str) -> None:
    assert comparable(spelling) == "rene zoe"


def test_other_names_stay_apart() -> None:
    names = ["Rene Zo", "ReneZoe", "Renee Zoe", "Rene Zoe 2", "Ян", "Иван", "王芳", "王方"]
    assert len({comparable(name) for name in names}) == len(names)


def test_no_letters_no_name() -> None:
    assert comparable("__ -- ") == ""


def test_case_of_scripts() -> None:
    assert comparable("STRASSE") == comparable("Straße")
    assert comparable("ΑΣ") == comparable("ας")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("मीना", "मोना"),  # Devanagari: only the vowel signs differ
        ("रीमा", "राम"),
        ("สมชาย", "สมชัย"),  # Thai
        ("ปู", "ปี"),
        ("மீனா", "மோனா"),  # Tamil
        ("かき", "がき"),  # the voicing mark comes off in NFKD, and spells another syllable
    ],
)
def test_vowel_signs_spell_the_name(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)
    assert comparable(one) == one
    assert " " not in comparable(other)


def test_points_that_most_writing_leaves_out_are_left_out() -> None:
    assert comparable("مُحَمَّد") == comparable("محمد") == "محمد"
    assert comparable("דָּנִי") == comparable("דני") == "דני"


def test_a_mark_alone_is_no_word() -> None:
    assert comparable("❤️ Ann") == "ann"


def test_labels_are_told_apart_by_the_names_of_their_people() -> None:
    stated = [
        *(("a", "01", "Ann"), ("b", "01", "ANN"), ("c", "01", ""), ("d", "01", "Bo")),
        *(("a", "02", "Cy"), ("b", "02", "cy")),  # one person
        *(("a", "03", ""), ("b", "03", "")),  # nobody knows: two
        *(("a", "04", "Di"), ("a", "04", "Ed"), ("b", "04", "Di")),  # of two names, so of none
        *(("a", "Ann", ""), ("b", "Ann", "")),  # a name is one person
        ("a", "05", "Ann"),
    ]
    assert tell_apart(stated) == {
        **{("a", "01"): "a", ("b", "01"): "a", ("c", "01"): "c", ("d", "01"): "d"},
        **{("a", "03"): "a", ("b", "03"): "b"},
        **{("a", "04"): "a", ("b", "04"): "b"},
    }


@pytest.mark.parametrize("identity", ["", " ", ".", "..", "a/b", "a\\b", "a\0b", "a\nb", "\x7f"])
def test_an_identity_that_is_no_folder_is_refused(identity: str) -> None:
    with pytest.raises(DatasetError, match=r"^there: .* can be no identity"):
        check_identity(identity, where="there")
    check_identity("Zoë_Ω 7.", where="there")


def test_named_among_takes_spellings_for_one_and_labels_for_nobody() -> None:
    names = ["Ana_Test", "ANA-TÉST", "0000045", "Ben_Test", "__"]
    assert named_among(names, ["ana test", "0000045", "__"]) == {"Ana_Test", "ANA-TÉST"}
    assert named_among(names, []) == set()
