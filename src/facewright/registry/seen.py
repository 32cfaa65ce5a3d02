"""What this person saw last of each ledger: the number and the hash of its last entry.

A chain cannot tell that its last entries were taken away. So whoever reads a ledger keeps a mark of
it beside the key that signs, in `KEY.seen/`, where nobody who can write to MLflow gets at it. A
ledger that lacks that entry later was cut off, or replaced. Where that folder cannot be written, as
in a container, no mark is kept.
"""

import hashlib
import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from facewright.errors import RegistryError
from facewright.registry.chain import Entry, Ledger
from facewright.registry.ledger_keys import key_file, trusted_keys
from facewright.registry.server import place


@dataclass(frozen=True)
class Mark:
    """The last entry that was seen of a ledger."""

    server: str  # `place` of the store
    model: str
    number: int
    hash: str
    time: str  # of the entry


def read_mark(model: str) -> Mark | None:
    """The mark of a model's ledger in the configured store; None where none was kept.

    Read it before the ledger: another process of the same person may write both at any moment.
    Of a database in a folder in which nobody is trusted yet there is none: a project lay there
    before, with a ledger and keys of its own, and its mark is removed.

    Raises:
        RegistryError: the file holds something else.
    """
    path = _file(model)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if Path(place()).is_absolute() and not trusted_keys():
        path.unlink(missing_ok=True)
        return None
    try:
        values = json.loads(content)
        mark = Mark(**values)
        if type(mark.number) is not int or not isinstance(mark.hash, str):
            raise TypeError
    except (ValueError, TypeError) as error:
        raise RegistryError(
            f"{path} does not say what was seen last of the ledger of {model}: remove it"
        ) from error
    return mark


def cut_off(ledger: Ledger, mark: Mark | None) -> str | None:
    """The fault of a ledger that lacks the entry of the mark."""
    if mark is None or any((e.number, e.hash) == (mark.number, mark.hash) for e in ledger.entries):
        return None
    return (
        f"entry {mark.number} that was seen here ({mark.hash[:12]}…, of {mark.time}) is gone or "
        "another: restore MLflow's database from a backup, or, if the ledger was begun anew on "
        f"purpose, remove {_file(ledger.model)}"
    )


def keep_mark(entry: Entry) -> None:
    """Note that an entry was seen, if it is later than the one noted; silent where that fails."""
    path = _file(entry.model)
    mark = Mark(place(), entry.model, entry.number, entry.hash, entry.time)
    with suppress(OSError, RegistryError):
        before = read_mark(entry.model)
        if before is not None and before.number >= mark.number:
            return
        path.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        partial.write_text(json.dumps(asdict(mark), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def _file(model: str) -> Path:
    """One per model and store: the same name elsewhere is another ledger."""
    key = key_file()
    store = hashlib.sha256(place().encode()).hexdigest()[:16]
    return key.with_name(f"{key.name}.seen") / f"{model}-{store}.json"
