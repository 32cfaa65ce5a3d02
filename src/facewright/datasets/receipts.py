"""Receipts of erasures: JSON files without names, in `docs/erasures/` beside `data/`.

They are to be committed with `data.dvc`: beside the data they could not name its new hash, and
`artifacts/` is rebuilt by every run. Of the name there is only a salted scrypt hash (RFC 7914,
n 2^14, r 8, p 1), by which whoever knows the name finds it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facewright.datasets.erasing import Person
from facewright.datasets.form import Dataset
from facewright.errors import DatasetError
from facewright.files import write_json
from facewright.progress import say

RECEIPTS = "docs/erasures"
Receipt = dict[str, Any]


def write_receipt(data: Path, receipt: Receipt) -> Path:
    """Write it beside `data`; one that is there by the same date and hash is replaced."""
    folder = data.parent / RECEIPTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{receipt['date']}-{receipt['person']['scrypt'][:8]}.json"
    write_json(path, receipt)
    return path


def earlier_receipt(data: Path, asked: Person) -> Receipt:
    """The receipt about this person that was begun and not done, else the last; empty without.

    Raises:
        DatasetError: a file among the receipts is none.
    """
    last: Receipt = {}
    for path, receipt in _receipts(data.parent / RECEIPTS):
        try:
            if name_hash(asked, receipt["person"]["salt"]) == receipt["person"]["scrypt"]:
                last = receipt
                if receipt["state"] == "begun":
                    break
        except (ValueError, KeyError, TypeError) as error:
            raise _no_receipt(path, error) from error
    return last


def name_hash(asked: Person, salt: str) -> str:
    """By what a receipt is found again; `salt` is hexadecimal."""
    known = [*asked.names, *(f"{dataset}/{label}" for dataset, label in asked.labels)]
    return hashlib.scrypt(
        "\n".join(sorted(known)).encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32
    ).hex()


def tell_if_erased(dataset: Dataset) -> None:
    """Say, a line for each receipt, that photos which were erased are in the dataset again.

    Receipts are looked for in `docs/erasures` of every folder above it, and of the present one.
    Photos are known by their bytes, and the line names nobody.
    """
    for folder in dict.fromkeys((*dataset.root.resolve().parents, Path.cwd())):
        for path in sorted((folder / RECEIPTS).glob("*.json")):
            try:
                # The manifest is read only where there are receipts.
                held, gone = dataset.manifest["sha256"], _receipt(path).get("photos_sha256", [])
                if count := int(held.isin(gone).sum()):
                    say(
                        f"{dataset.root} holds {count} photos that were taken out on request, see "
                        f"{path}: unless consent was given again, erase that person again"
                    )
            except (DatasetError, TypeError) as error:
                say(
                    str(error) if isinstance(error, DatasetError) else str(_no_receipt(path, error))
                )


def _receipts(folder: Path) -> Iterator[tuple[Path, Receipt]]:
    for path in sorted(folder.glob("*.json")):
        yield path, _receipt(path)


def _receipt(path: Path) -> Receipt:
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(receipt, dict):
            raise ValueError("no mapping")
    except ValueError as error:
        raise _no_receipt(path, error) from error
    return receipt


def _no_receipt(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path} is no receipt ({error}): restore it from git")
