"""What others do at the same moment is told as it was, and what is the same is done once."""

from collections.abc import Callable
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.registry import promotion
from facewright.registry.audit import verify
from facewright.registry.promotion import champion, promote, rollback
from tests.unit.registry.runs import said

MODEL = "facewright"

Add = Callable[..., int]
Meanwhile = Callable[[str, Callable[[], object]], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Somebody else acts just before the next call of that function of `promotion`."""

    def run(name: str, act: Callable[[], object]) -> None:
        real = getattr(promotion, name)

        def late(*arguments: Any, **named: Any) -> Any:
            monkeypatch.setattr(promotion, name, real)
            act()
            return real(*arguments, **named)

        monkeypatch.setattr(promotion, name, late)

    return run


def test_the_same_promotion_and_the_same_rollback_are_done_once(
    add: Add, meanwhile: Meanwhile, capsys: Capture
) -> None:
    add("one")
    meanwhile("append", lambda: promote(MODEL, 1, actor="Ada"))
    assert promote(MODEL, 1, actor="Bob").version == 1
    assert "facewright: a promote by Ada at " in capsys.readouterr().err
    add("two", against=1)
    promote(MODEL)
    meanwhile("append", lambda: rollback(MODEL, actor="Ada"))
    back = rollback(MODEL, actor="Bob")
    assert back is not None
    assert (back.version, back.aliases) == (1, ("champion",))
    assert "a rollback by Ada at " in capsys.readouterr().err
    assert [action for action, *_ in said()] == ["register", "promote"] * 2 + ["rollback"]
    assert not verify(MODEL).faults


def test_another_move_is_named_and_nothing_else_is(add: Add, meanwhile: Meanwhile) -> None:
    add("one")
    promote(MODEL)
    for seed in ("two", "three"):
        add(seed, against=1)

    def registers_last() -> None:
        promote(MODEL, 2, actor="Ada")
        add("four", against=2)

    meanwhile("append", registers_last)
    faster = "somebody was faster: champion of facewright is version {} since a {} by {} at "
    with pytest.raises(RegistryError, match=faster.format(2, "promote", "Ada") + ".*gate again"):
        promote(MODEL, 3)
    meanwhile("append", lambda: rollback(MODEL, actor="Bob"))
    add("three", against=2)
    with pytest.raises(RegistryError, match=faster.format(1, "rollback", "Bob") + ".*gate again"):
        promote(MODEL, 3)
    promote(MODEL, 2)
    meanwhile("append", lambda: promote(MODEL, 3, actor="Eve"))
    with pytest.raises(RegistryError, match=faster.format(3, "promote", "Eve") + ".*run this ag"):
        rollback(MODEL)
    assert champion(MODEL).version == 3  # type: ignore[union-attr]
    assert not verify(MODEL).faults


def test_what_was_rolled_back_at_this_moment_is_not_brought_in_again(
    add: Add, meanwhile: Meanwhile
) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)

    def there_and_back() -> None:
        promote(MODEL, 2, actor="Ada")
        rollback(MODEL, actor="Bob")

    meanwhile("append", there_and_back)
    with pytest.raises(RegistryError, match="is version 1 since a rollback by Bob at "):
        promote(MODEL, 2)
    assert said()[-1] == ("rollback", 1, 2)


def test_a_registration_disturbs_no_promotion_but_a_rejection_does(
    add: Add, meanwhile: Meanwhile
) -> None:
    add("one")
    meanwhile("append", lambda: add("two"))
    assert promote(MODEL, 1).version == 1
    add("two", against=1)
    meanwhile("append", lambda: add("two", outcome="hold", against=1))
    with pytest.raises(RegistryError, match=r"is not the ledger's last one \(reject, entry"):
        promote(MODEL, 2)
    assert champion(MODEL).version == 1  # type: ignore[union-attr]


def test_a_promotion_between_two_reads_accuses_nobody(
    add: Add, meanwhile: Meanwhile, capsys: Capture
) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    add("three", against=1)
    capsys.readouterr()
    meanwhile("get_aliases", lambda: promote(MODEL, 2))
    assert champion(MODEL).version == 2  # type: ignore[union-attr]
    assert capsys.readouterr().err == ""
    meanwhile("get_aliases", lambda: rollback(MODEL))
    assert promote(MODEL, 3).version == 3
    assert capsys.readouterr().err == ""


def test_a_rollback_tells_what_it_passes_over(add: Add, capsys: Capture) -> None:
    from facewright.registry.tracking import connect

    for number, seed in enumerate(("one", "two", "three"), 1):
        add(seed, against=number - 1 or None)
        promote(MODEL)
    connect().delete_model_version(MODEL, "2")
    assert rollback(MODEL).version == 1  # type: ignore[union-attr]
    assert "version 2 was deleted in MLflow, and is passed over" in capsys.readouterr().err
