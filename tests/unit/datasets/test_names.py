"""Names: what is a label, and which spellings are one name."""

import pytest

from facewright.datasets.names import comparable, is_label


@pytest.mark.parametrize("identity", ["0000045", "n000123", "m-17", "7", "A", "a_1_b", ""])
def test_labels(identity: str) -> None:
    assert is_label(identity)


@pytest.mark.parametrize("identity", ["Ann", "ann_0001", "Jo", "12_Ann", "Ян", "王芳", "Le\u0301a"])
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
