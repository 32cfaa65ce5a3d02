import pytest

from facewright.evaluation.limits import LFW_TERMS, SAMPLE_NOTICE, limits, notice_of

FULL = {"name": "doors", "source": "doors.tar", "licence": "own", "consent": "signed"}


@pytest.mark.parametrize("source", ["lfw.tgz", "lfw-funneled.tgz", "LFW/view1", "a+lfw_bin"])
def test_lfw_is_known_by_its_source(source: str) -> None:
    assert limits({"Verification": FULL | {"source": source}}) == [LFW_TERMS]


@pytest.mark.parametrize("source", ["calfw.zip", "cplfw.zip", "doors", "belfwood"])
def test_others_are_not_taken_for_lfw(source: str) -> None:
    assert limits({"Verification": FULL | {"source": source}}) == []


def test_a_basis_that_is_not_stated_is_told() -> None:
    found = limits({"Training": FULL | {"licence": "", "consent": ""}, "Verification": FULL})
    assert len(found) == 1
    assert "Training data: no licence and no legal or ethical basis" in found[0]


def test_rendered_people_have_a_notice_and_others_none() -> None:
    assert notice_of("sample:verify") == SAMPLE_NOTICE
    assert notice_of("lfw.tgz") == ""
