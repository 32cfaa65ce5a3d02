"""The chain of entries: one altered byte anywhere is caught and named; without MLflow."""

import errno
import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from facewright.errors import RegistryError, StorageError
from facewright.registry.audit import verify_file
from facewright.registry.chain import Draft, Ledger, Standing, examine, sign
from facewright.registry.ledger_keys import Signer, signer, trust, trusted_keys

MOVES = (("register", 1), ("promote", 1), ("register", 2), ("promote", 2), ("rollback", 1))
Me = Callable[[str], Signer]


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Me:
    """The key of somebody in a project of its own."""
    monkeypatch.chdir(tmp_path)

    def somebody(name: str) -> Signer:
        monkeypatch.setenv("FACEWRIGHT_LEDGER_KEY", str(tmp_path / f"{name}.key"))
        return signer()

    return somebody


def draft(action: str, version: int) -> Draft:
    return Draft(action, version, "Zoë", 'why: "ü" \\', "promote", "e" * 64, "f" * 64)


def written(mine: Signer, trusted: dict[str, str]) -> Ledger:
    ledger = examine((), model="m", trusted=trusted)
    for action, version in MOVES:
        lines = (*ledger.lines, sign(draft(action, version), ledger, mine).line())
        ledger = examine(lines, model="m", trusted=trusted)
        assert not ledger.faults
    return ledger


def test_an_entry_is_what_anybody_can_check_without_our_code(me: Me) -> None:
    mine = me("me")
    lines = written(mine, {mine.id: "me"}).lines
    before = "0" * 64
    for line in lines:
        values = json.loads(line)
        signature, found = values.pop("signature"), values.pop("hash")
        body = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
        message = b"facewright ledger entry\n" + body
        assert hashlib.sha256(message).hexdigest() == found
        public = b64decode(values["public_key"])
        assert hashlib.sha256(public).hexdigest()[:16] == values["key"]
        Ed25519PublicKey.from_public_bytes(public).verify(b64decode(signature), message)
        assert values["previous"] == before
        before = found
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert [json.loads(line)["previous_champion"] for line in lines] == [None, None, 1, 1, 2]


def test_one_altered_byte_anywhere_is_caught_and_its_entry_named(me: Me, tmp_path: Path) -> None:
    mine = me("me")
    trust(mine, "me")
    trusted = trusted_keys()
    *first, fourth, fifth = written(mine, trusted).lines
    text = f"{fourth}\n{fifth}\n".encode()
    file = tmp_path / "export.jsonl"
    for place, byte in enumerate(text):
        altered = text[:place] + bytes([byte ^ (0x20 if place % 2 else 1)]) + text[place + 1 :]
        if byte == ord("\n") or place % 50 == 0:  # as a file, which is slower
            file.write_bytes("".join(f"{line}\n" for line in first).encode() + altered)
            faults = verify_file(file).faults
        else:
            lines = altered.decode("ascii", errors="replace").split("\n")[:2]
            faults = examine([*first, *lines], model="m", trusted=trusted).faults
        number = len(first) + text[:place].count(b"\n") + 1
        assert faults, place
        assert faults[0].startswith(f"entry {number}: "), (place, faults)


def test_entries_taken_away_put_in_or_exchanged_are_named(me: Me, tmp_path: Path) -> None:
    mine = me("me")
    trust(mine, "me")
    lines = list(written(mine, trusted_keys()).lines)
    check = lambda lines: examine(lines, model="m", trusted=trusted_keys()).faults  # noqa: E731
    assert check([*lines[:2], "", *lines[3:]])[0] == "entry 3: it is missing"
    assert "entry 3: it says that it is number 4" in check([*lines[:2], *lines[3:]])[0]
    assert "entry 2: it says that it is number 3" in check([lines[0], lines[2], lines[1]])[0]
    # Written anew after the third, by the same key, with the rest kept: the chain breaks there.
    part = examine(lines[:3], model="m", trusted=trusted_keys())
    forged = sign(replace(draft("promote", 2), actor="Bob"), part, mine).line()
    faults = check([*lines[:3], forged, lines[4]])
    assert faults[0].startswith("entry 5: it follows an entry with hash")
    file = tmp_path / "cut.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines)[:-1])
    assert verify_file(file).faults == ("entry 5: its line has no end",)
    file.write_text("")
    assert "holds no entry" in verify_file(file).faults[0]
    with pytest.raises(RegistryError, match=r"none\.jsonl cannot be read"):
        verify_file(tmp_path / "none.jsonl")


def test_a_key_that_nobody_trusts_signs_in_vain(me: Me) -> None:
    mine, other = me("me"), me("other")
    assert mine.id != other.id
    ledger = written(mine, {mine.id: "me"})
    forged = sign(draft("promote", 2), ledger, other)
    faults = examine((*ledger.lines, forged.line()), model="m", trusted={mine.id: "me"}).faults
    assert len(faults) == 1
    assert f"entry 6: key {other.id} of 'Zoë' is not trusted" in faults[0]
    # To name the trusted key does not help: it did not sign.
    named = replace(forged, key=mine.id, public_key=mine.public)
    named = replace(named, hash=hashlib.sha256(named.message()).hexdigest())
    faults = examine((*ledger.lines, named.line()), model="m", trusted={mine.id: "me"}).faults
    assert faults == (f"entry 6: the signature is not that of key {mine.id}",)


def test_rolling_back_goes_back_one_by_one_and_never_in_a_circle() -> None:
    standing = Standing()
    for version in (1, 2, 3):
        standing = standing.after("register", version).after("promote", version)
    assert (standing.champion, standing.rolled_back) == (3, frozenset())
    standing = standing.after("rollback", 2)
    assert (standing.champions, standing.rolled_back) == ((1, 2), frozenset({3}))
    again = standing.after("promote", 3)
    assert (again.champions, again.rolled_back) == ((1, 2, 3), frozenset())
    skipped = again.after("rollback", 1)  # version 2 was deleted
    assert (skipped.champions, skipped.rolled_back) == ((1,), frozenset({2, 3}))
    for wrong in (1, 2, 3):
        with pytest.raises(ValueError, match="is no earlier champion"):
            skipped.after("rollback", wrong)
    with pytest.raises(ValueError, match="is no earlier champion"):
        Standing().after("rollback", 1)
    with pytest.raises(ValueError, match="version 1 is champion already"):
        skipped.after("promote", 1)
    circle = Standing((1, 2, 1))  # if version 2 was deleted, there is nothing to go back to
    with pytest.raises(ValueError, match="is no earlier champion"):
        circle.after("rollback", 1)
    retired = skipped.after("retire", 1)
    assert (retired.champion, retired.rolled_back) == (None, frozenset({2, 3}))
    for standing in (retired, again):
        with pytest.raises(ValueError, match="version 2 is not champion"):
            standing.after("retire", 2)


def test_a_signed_entry_must_also_make_sense(me: Me) -> None:
    mine = me("me")
    ledger = written(mine, {mine.id: "me"})
    nonsense = sign(draft("rollback", 2), ledger, mine)
    strange = sign(draft("crown", 2), ledger, mine)
    wrong = sign(draft("promote", 2), replace(ledger, standing=Standing((5,))), mine)
    for entry, fault in (
        (nonsense, "entry 6: version 2 is no earlier champion"),
        (strange, "entry 6: unknown action 'crown'"),
        (wrong, "entry 6: it names version 5 as champion before, the entries before it version 1"),
    ):
        faults = examine((*ledger.lines, entry.line()), model="m", trusted={mine.id: "me"}).faults
        assert faults == (fault,)


def test_nothing_in_an_entry_commands_a_terminal(me: Me) -> None:
    mine = me("me")
    empty = examine((), model="m", trusted={})
    said = replace(draft("register", 1), reason="line\nwith \x1b[2J and \u202e", actor=" a  b ")
    entry = sign(said, empty, mine)
    assert (entry.reason, entry.actor) == ("line with \ufffd[2J and \ufffd", "a b")
    assert not examine((entry.line(),), model="m", trusted={mine.id: "me"}).faults
    raw = replace(entry, reason="\x1b[2J")
    raw = replace(raw, hash=hashlib.sha256(raw.message()).hexdigest())
    signed = replace(raw, signature=mine.sign(raw.message()))
    (fault,) = examine((signed.line(),), model="m", trusted={mine.id: "me"}).faults
    assert fault == "entry 1: it is not an entry in JSON"


def test_the_key_is_its_owners_alone_and_stays_the_same(
    me: Me, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    mine = me("me")
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
    assert me("me").id == mine.id
    assert not trusted_keys()
    path = trust(mine, "Me & you")
    assert path.name == "Me-you.pub"
    assert trusted_keys() == {mine.id: "Me-you"}
    with pytest.raises(RegistryError, match="is another key"):
        trust(me("other"), "Me & you")
    (tmp_path / "bad.key").write_text("no key")
    with pytest.raises(RegistryError, match=r"bad\.key holds no private key"):
        me("bad")
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(
        RegistryError, match=r"folder\.key cannot be read as a key \(Is a dir.*name a"
    ):
        me("folder")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(StorageError, match=r"me\.key cannot be read or written"):
            me("me")
    path.write_text("no key")
    with pytest.raises(RegistryError, match=r"Me-you\.pub is no Ed25519 public key"):
        trusted_keys()
    path.unlink()
    path.mkdir()
    with pytest.raises(RegistryError, match=r"Me-you\.pub is no Ed25519 public key"):
        trusted_keys()


@pytest.mark.parametrize(
    ("said", "entry", "fault"),
    [
        (None, {}, "it promotes version 3, on which no entry before holds a decision"),
        ({"outcome": "hold"}, {}, "the last decision on it is 'hold' (eeeeeeeeeeee, entry 6)"),
        ({"outcome": "hold"}, {"outcome": "hold"}, "it promotes version 3 by 'hold'"),
        ({}, {"outcome": "hold"}, "it promotes version 3 by 'hold' (eeeeeeeeeeee)"),
        ({"evidence": "d" * 64}, {}, "is 'promote' (dddddddddddd, entry 6)"),
        ({"outcome": "hold"}, {"action": "accept"}, "last decision on it is 'hold'"),
        ({}, {"action": "reject"}, "it says reject, and the gate's outcome in it is 'promote'"),
        ({}, {"action": "accept", "outcome": "hold"}, "it says accept, and the gate's outcome in"),
    ],
)
def test_a_promotion_must_follow_from_what_the_gate_said_last(
    me: Me, said: dict[str, str] | None, entry: dict[str, str], fault: str
) -> None:
    """Whoever has a trusted key cannot promote past the gate unseen either."""
    mine = me("me")
    trusted = {mine.id: "me"}
    lines = written(mine, trusted).lines
    drafts = [] if said is None else [replace(draft("register", 3), **said)]
    if entry == {"action": "accept"}:  # what was accepted must be what is promoted, and last
        drafts = [draft("register", 3), replace(draft("reject", 3), outcome="hold")]
        entry = {}
    for one in (*drafts, replace(draft("promote", 3), **entry)):
        ledger = examine(lines, model="m", trusted=trusted)
        lines = (*lines, sign(one, ledger, mine).line())
    (found,) = examine(lines, model="m", trusted=trusted).faults
    assert found.startswith(f"entry {len(lines)}: ")
    assert fault in found
