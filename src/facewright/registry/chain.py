"""Entries of the ledger: their form, their chain, and what follows from them. Knows no MLflow.

Each entry holds the hash of the one before and a signature (Ed25519) over all that it says, so that
nobody changes one unseen, whatever they can write to.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from facewright.errors import RegistryError
from facewright.registry.decision import PROMOTE
from facewright.registry.ledger_keys import Signer, is_signed, key_id, keys_folder

ACTIONS = ("register", "accept", "reject", "promote", "rollback", "retire")
MOVES = ("promote", "rollback", "retire")  # those that change the champion
DECISIONS = ("register", "accept", "reject")  # those that say what the gate decided
GENESIS = "0" * 64  # the hash before the first
CONTEXT = b"facewright ledger entry\n"  # no signature of these bytes means anything elsewhere
REASON_LENGTH = 600  # characters; with all of it in \uXXXX an entry stays below …
LINE_LENGTH = 5900  # … what MLflow keeps of a parameter: it would cut the rest off


@dataclass(frozen=True)
class Draft:
    """What an entry is to say."""

    action: str  # one of ACTIONS
    version: int  # registered, accepted, rejected, promoted, restored by a rollback, retired
    actor: str
    reason: str
    outcome: str  # of the gate on that version
    evidence: str  # sha256 of the gate's decision
    lineage: str  # sha256 of what the version says of its origin, `Version.lineage`


@dataclass(frozen=True)
class Entry:
    """An entry: a draft in its place in the chain, hashed and signed."""

    number: int  # from 1, without gaps
    time: str  # UTC, ISO 8601 in seconds
    model: str
    action: str
    version: int
    previous_champion: int | None  # that served before this entry
    actor: str
    reason: str
    outcome: str
    evidence: str
    lineage: str
    previous: str  # hash of the entry before
    key: str  # id of the key that signed
    public_key: str  # that key, base64
    hash: str = ""  # sha256 of all above
    signature: str = ""  # of the same bytes, base64

    def message(self) -> bytes:
        """What is hashed and signed."""
        values = asdict(self)
        del values["hash"], values["signature"]
        return CONTEXT + canonical(values).encode()

    def line(self) -> str:
        """The entry as it is kept and exported."""
        return canonical(asdict(self))


def canonical(values: Mapping[str, Any]) -> str:
    """The one form of plain values: JSON, ASCII, sorted keys, no spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Standing:
    """What follows from entries."""

    champions: tuple[int, ...] = ()  # each replaced the one before it; the last one serves
    rolled_back: frozenset[int] = frozenset()  # a person took these back

    @property
    def champion(self) -> int | None:
        """The version that serves."""
        return self.champions[-1] if self.champions else None

    def after(self, action: str, version: int) -> "Standing":
        """The standing after one more entry.

        Raises:
            ValueError: the champion is promoted or returned to, a rollback to a version that no
                other replaced, or another version than the champion is retired.
        """
        if action == "promote":
            if version == self.champion:
                raise ValueError(f"version {version} is champion already")
            return Standing((*self.champions, version), self.rolled_back - {version})
        if action == "rollback":
            if version == self.champion or version not in self.champions[:-1]:
                raise ValueError(f"version {version} is no earlier champion")
            last = len(self.champions) - 2 - self.champions[-2::-1].index(version)
            left = frozenset(self.champions[last + 1 :])
            return Standing(self.champions[: last + 1], self.rolled_back | left)
        if action == "retire":
            if version != self.champion:
                raise ValueError(f"version {version} is not champion")
            return Standing((), self.rolled_back)
        return self


@dataclass(frozen=True)
class Ledger:
    """What is written, and what is wrong with it."""

    model: str
    run_id: str  # empty before the first entry
    entries: tuple[Entry, ...]  # those that can be read
    faults: tuple[str, ...]  # a line each, the first entry's first
    lines: tuple[str, ...]
    standing: Standing

    @property
    def last_move(self) -> Entry | None:
        """The entry that made the champion, or left none."""
        moves = [entry for entry in self.entries if entry.action in MOVES]
        return moves[-1] if moves else None

    def of(self, version: int) -> list[Entry]:
        """The entries of a version."""
        return [entry for entry in self.entries if entry.version == version]

    @property
    def last_decision(self) -> Entry | None:
        """The last that the gate decided, on whatever version."""
        decisions = [entry for entry in self.entries if entry.action in DECISIONS]
        return decisions[-1] if decisions else None

    def decision(self, version: int) -> Entry | None:
        """The last that the gate decided on a version: the one that counts."""
        decisions = [entry for entry in self.of(version) if entry.action in DECISIONS]
        return decisions[-1] if decisions else None

    def decided(self, version: int, *, evidence: str, outcome: str) -> bool:
        """Whether that decision, with that outcome, is the last one on a version."""
        last = self.decision(version)
        return last is not None and (last.evidence, last.outcome) == (evidence, outcome)


def examine(
    lines: Sequence[str], *, model: str | None, trusted: Mapping[str, str], run_id: str = ""
) -> Ledger:
    """Check numbers, chain, hashes, signatures, keys, what each entry says of the champion, and
    that promotions follow from decisions.

    Args:
        lines: by number, from 1; an empty one is missing.
        model: that all entries must be of; None takes the first one's.
        trusted: names by key id.
    """
    entries: list[Entry] = []
    faults: list[str] = []
    standing = Standing()
    before: str | None = GENESIS  # None after an entry whose hash cannot be read
    for number, line in enumerate(lines, 1):
        try:
            entry = parse(line)
        except ValueError as error:
            faults.append(f"entry {number}: {error}")
            before = None
            continue
        model = model or entry.model
        wrong = _faults(entry, number=number, model=model, before=before, trusted=trusted)
        if entry.previous_champion != standing.champion:
            wrong.append(
                f"it names {named(entry.previous_champion)} as champion before, the entries "
                f"before it {named(standing.champion)}"
            )
        wrong += _unfounded(entry, entries)
        try:
            standing = standing.after(entry.action, entry.version)
        except ValueError as error:
            wrong.append(str(error))
        faults += [f"entry {number}: {fault}" for fault in wrong]
        entries.append(entry)
        before = entry.hash
    return Ledger(model or "", run_id, tuple(entries), tuple(faults), tuple(lines), standing)


def shortened(reason: str) -> str:
    """A reason of the gate as an entry takes it; the whole of it is in the decision."""
    return reason if len(reason) <= REASON_LENGTH else f"{reason[: REASON_LENGTH - 1]}…"


def sign(draft: Draft, ledger: Ledger, mine: Signer) -> Entry:
    """The next entry of a ledger.

    Raises:
        RegistryError: it would be longer than MLflow keeps.
    """
    last = ledger.entries[-1] if ledger.entries else None
    values = {
        **{name: _plain(value) for name, value in asdict(draft).items()},
        "number": last.number + 1 if last else 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": ledger.model,
        "previous_champion": ledger.standing.champion,
        "previous": last.hash if last else GENESIS,
        "key": mine.id,
        "public_key": mine.public,
    }
    message = Entry(**values).message()
    entry = Entry(**values, hash=hashlib.sha256(message).hexdigest(), signature=mine.sign(message))
    if len(entry.line()) > LINE_LENGTH:
        raise RegistryError(
            f"an entry of {len(entry.line())} bytes is too long: shorten reason or actor"
        )
    return entry


def _plain(value: Any) -> Any:
    """A text as one line of characters that can be printed."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(value.split()))


def parse(line: str) -> Entry:
    """The entry that a line holds, whoever wrote it.

    Raises:
        ValueError: the line is not exactly what `Entry.line` gives.
    """
    if not line:
        raise ValueError("it is missing")
    try:
        values = json.loads(line)
        wanted = {field.name: field.type for field in fields(Entry)}
        if not isinstance(values, dict) or set(values) != set(wanted):
            raise ValueError
        for name, kind in wanted.items():
            whole = type(values[name]) is int
            if not (isinstance(values[name], str) if kind is str else whole) and not (
                name == "previous_champion" and values[name] is None
            ):
                raise ValueError
            if not str(values[name]).isprintable():  # nothing that commands a terminal
                raise ValueError
        entry = Entry(**values)
        line.encode("ascii")
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not an entry in JSON") from error
    if entry.line() != line:
        raise ValueError("its JSON is not in the form that it was written in")
    return entry


def _faults(
    entry: Entry, *, number: int, model: str, before: str | None, trusted: Mapping[str, str]
) -> list[str]:
    """What is wrong with one entry, but for what it says of the champion."""
    faults = []
    if entry.number != number:
        faults.append(f"it says that it is number {entry.number}")
    if entry.model != model:
        faults.append(f"it is of another model, {entry.model!r}")
    if entry.action not in ACTIONS:
        faults.append(f"unknown action {entry.action!r}")
    if before is not None and entry.previous != before:
        faults.append(f"it follows an entry with hash {entry.previous[:12]}…, not {before[:12]}…")
    return faults + unsigned(entry, trusted)


def _unfounded(entry: Entry, before: Sequence[Entry]) -> list[str]:
    """Why an entry does not follow from what the gate said: a person promotes nothing past it."""
    passed = entry.outcome == PROMOTE
    if (entry.action == "accept" and not passed) or (entry.action == "reject" and passed):
        return [f"it says {entry.action}, and the gate's outcome in it is {entry.outcome!r}"]
    if entry.action != "promote":
        return []
    decisions = [e for e in before if e.version == entry.version and e.action in DECISIONS]
    if not decisions:
        return [f"it promotes version {entry.version}, on which no entry before holds a decision"]
    last = decisions[-1]
    if not passed or (last.outcome, last.evidence) != (PROMOTE, entry.evidence):
        return [
            f"it promotes version {entry.version} by {entry.outcome!r} ({entry.evidence[:12]}), "
            f"and the last decision on it is {last.outcome!r} ({last.evidence[:12]}, entry "
            f"{last.number})"
        ]
    return []


def unsigned(entry: Entry, trusted: Mapping[str, str]) -> list[str]:
    """Why an entry is not what somebody who is trusted signed, wherever it stands."""
    faults = []
    if hashlib.sha256(entry.message()).hexdigest() != entry.hash:
        faults.append("its content was changed: the hash disagrees")
    if not is_signed(entry.message(), signature=entry.signature, public=entry.public_key):
        faults.append(f"the signature is not that of key {entry.key}")
    try:
        agrees = key_id(entry.public_key) == entry.key
    except ValueError:
        agrees = False
    if not agrees:
        faults.append(f"key id {entry.key} is not that of its public key")
    elif entry.key not in trusted:
        faults.append(
            f"key {entry.key} of {entry.actor!r} is not trusted: is its file missing from "
            f"{keys_folder()}?"
        )
    return faults


def named(version: int | None) -> str:
    """A version in a sentence."""
    return "none" if version is None else f"version {version}"
