"""The dataset form: a card, a manifest, tar shards with the original bytes, and perhaps pairs.

    NAME/
    ├── dataset.yaml       the card: name, kind, source and its digest, licence, consent basis
    ├── manifest.parquet   one row per image, in the order of the shards
    ├── pairs.parquet      verification sets only: fold, label, a, b (ids of images)
    └── shards/00000.tar   the images' bytes as they came; a member is named ID + its suffix

A manifest may have more columns, each only where its source states it:

    person      name of the person, where the identity is a number
    landmarks   10 numbers: x and y of left eye, right eye, nose and the mouth's corners as seen in
                the picture, px from the centre of the first pixel of the upright picture
    aligned     true for a picture that is a 112 px crop on the ArcFace template already
    source      what the photo was taken from: a site, a film, a camera
    merged_from the dataset that it was in before `dataset merge`
    and any column that a list of paths brings, as it stands there

The same input gives the same bytes: members carry no times or owners, the order is the writer's.
Any image can be read by its offset, without an index of the tar; any WebDataset reader can stream
the shards.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from facewright.datasets.columns import check_values, stored
from facewright.datasets.images import is_hidden
from facewright.datasets.tars import end_of_tar, member_header, member_name, shard_path
from facewright.errors import DatasetError
from facewright.files import file_digest, storage_errors, write_yaml

SHARD_BYTES = 256 * 1024 * 1024
BUFFER = 1024 * 1024  # bytes gathered before a write
ROWS = 32_768  # of the manifest, kept in memory before they are set aside
CARD = "dataset.yaml"
MANIFEST = "manifest.parquet"
PAIRS = "pairs.parquet"
MANIFEST_COLUMNS = ["id", "identity", "shard", "offset", "length", "sha256"]
PAIR_COLUMNS = ["fold", "label", "a", "b"]
FOLDS = 10  # of a protocol that states none
# Columns that a source may not bring: import, validate and align state them.
RESERVED = frozenset(
    (
        *MANIFEST_COLUMNS,
        *("width", "height", "origin", "dataset", "status", "reason"),
        *("own_id", "stated_identity", "person_name", "only_labels", "cleaned"),
        *("names", "earlier_copies", "identity_in_verify", "content_in_verify", "near_in_verify"),
        *("decodable", "animated", "side", "aspect", "sharpness", "brightness", "colour"),
        *("hashed", "hash", "score", "quality", "box", "photo_sha256"),
    )
)
_NO_FOLDER = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True)
class DatasetCard:
    """Where a dataset comes from and what may be done with it."""

    name: str
    kind: str  # "identities" (for training) or "verification" (has pairs)
    source: str  # file name of the archive or folder, or "sample:train" and "sample:verify"
    source_digest: str  # sha256 of the archive, or over the folder's names and digests
    licence: str
    consent: str  # the legal or ethical basis on which the faces are used


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. `manifest` has a unique `id` and an `identity` per row."""

    root: Path
    card: DatasetCard
    manifest: pd.DataFrame
    pairs: pd.DataFrame | None

    @property
    def digest(self) -> str:
        """sha256 of the manifest, which holds the digest of every image."""
        return file_digest(self.root / MANIFEST)


def open_dataset(root: Path) -> Dataset:
    """Open the dataset folder `root`.

    Raises:
        DatasetError: a part of the form is missing or cannot be read, or a value that everything
            relies on is of another kind.
    """
    try:
        values = yaml.safe_load((root / CARD).read_text(encoding="utf-8"))
        names = {f.name for f in fields(DatasetCard)}
        if not isinstance(values, dict) or set(values) != names:
            raise DatasetError(f"{root / CARD}: its keys must be {', '.join(sorted(names))}")
        card = DatasetCard(**{key: _card_text(root, key, values[key]) for key in values})
        manifest = pd.read_parquet(root / MANIFEST)
        pairs = pd.read_parquet(root / PAIRS) if (root / PAIRS).exists() else None
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} is not a dataset ({Path(error.filename or CARD).name} is missing): "
            f"write it with `facewright dataset import SOURCE {root}`"
        ) from error
    except (yaml.YAMLError, OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DatasetError(f"{root} cannot be read ({error}): import it again") from error
    text, whole = ("id", "identity", "shard", "sha256"), ("offset", "length")
    check_values(manifest, path=root / MANIFEST, text=text, whole=whole)
    if pairs is not None:
        check_values(pairs, path=root / PAIRS, text=("a", "b"), whole=("fold", "label"))
    return Dataset(root=root, card=card, manifest=manifest, pairs=pairs)


def _card_text(root: Path, key: str, value: object) -> str:
    """A value of a card, which people may edit by hand."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatasetError(f"{root / CARD}: {key} must be text: put it into quotes")
    return value


def find_datasets(folder: Path) -> list[Dataset]:
    """Open `folder` itself if it is a dataset, else every dataset directly below it, by name.

    Hidden folders are what an import that was stopped has left, and no datasets.

    Raises:
        DatasetError: there is none.
    """
    if (folder / CARD).exists():
        return [open_dataset(folder)]
    cards = sorted(folder.glob(f"[!.]*/{CARD}"))
    found = [open_dataset(card.parent) for card in cards]
    if not found:
        raise DatasetError(
            f"no dataset in {folder}: write one with `facewright dataset import SOURCE "
            f"{folder}/NAME`"
        )
    return found


def all_datasets(folder: Path) -> list[Dataset]:
    """`folder` itself if it is a dataset, else every dataset up to two folders below, by path.

    Raises:
        DatasetError: there is none.
    """
    cards = [card for depth in ("*", "*/*") for card in folder.glob(f"{depth}/{CARD}")]
    below = {card.parent.relative_to(folder) for card in cards}
    seen = [path for path in sorted(below) if not any(p.startswith(".") for p in path.parts)]
    if (folder / CARD).exists() or not seen:
        return find_datasets(folder)
    return [open_dataset(folder / path) for path in seen]


def joined_card(
    cards: Sequence[DatasetCard], *, kind: str, name: str | None = None
) -> dict[str, str]:
    """The card of what is made from several datasets: sources, licences and consents of all.

    Its name is `name`, else theirs joined.
    """
    values = {
        key: "+".join(getattr(card, key) for card in cards)
        for key in ("name", "source", "source_digest")
    }
    for key in ("licence", "consent"):
        values[key] = "; ".join(sorted({getattr(card, key) for card in cards} - {""}))
        missing = [card.name for card in cards if not getattr(card, key)]
        if values[key] and missing:
            values[key] += f"; none stated for {', '.join(missing)}"
    return values | {"name": name or values["name"], "kind": kind}


def check_output(output: Path, *, sources: Sequence[Path]) -> None:
    """Refuse to replace anything but a dataset, and a folder that holds or lies in a source."""
    with storage_errors(output):
        empty = output.is_dir() and not any(output.iterdir())
        if output.exists() and not empty and not (output / CARD).exists():
            raise DatasetError(
                f"{output} is there and is no dataset: name a new folder, such as {output}/NAME"
            )
    outside = output.resolve()
    for source in sources:
        inside = source.resolve()
        if inside == outside or outside in inside.parents or inside in outside.parents:
            raise DatasetError(f"{source} and {output} lie in one another: name a folder elsewhere")


def read_bytes(root: Path, *, shard: str, offset: int, length: int) -> bytes:
    """The bytes of one image: `length` bytes at `offset` of the tar `root/shard`.

    Folders may stand before the shard's own name, as in the tables of validate:
    `train/NAME/shards/00000.tar`.
    """
    above, _, name = shard.rpartition("shards/")
    path = shard_path(root / above, f"shards/{name}")
    if above.startswith("/") or ".." in above.split("/"):
        raise DatasetError(f"{root}: {shard!r} leads outside: import or pull the dataset again")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # The length is checked first: a damaged manifest may ask for any amount of memory.
            data = os.pread(file.fileno(), length, offset) if offset + length <= size else b""
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: import or pull it again") from error
    if len(data) != length:
        raise DatasetError(f"{path} is cut short at byte {offset}: import or pull it again")
    return data


class DatasetWriter:
    """Writes a dataset folder image by image; a context manager.

    The folder must exist and be empty (see `files.whole_directory`). Rows without bytes, such as
    a photo in which no face was found, are kept in the manifest with an empty shard.
    """

    def __init__(self, root: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
        self.root = root
        self._shard_bytes = shard_bytes
        self._columns: dict[str, list[Any]] = {}
        self._kinds: dict[str, str] = {}  # by column
        self._rows = 0
        # Rows set aside, so that the memory holds the same at any size.
        self._parts: list[Path] = []
        self._tar: IO[bytes] | None = None
        self._shard = ""
        self._shards = 0
        self._end = 0  # bytes in the open shard
        (root / "shards").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_shard()

    def add(
        self,
        *,
        id: str,
        identity: str,
        data: bytes | None,
        suffix: str = "",
        columns: Mapping[str, Any] | None = None,
    ) -> str:
        """Append one image. `suffix` starts with a dot; `columns` are more for the manifest.

        Returns the bytes' sha256, empty without bytes.
        """
        row: dict[str, Any] = {"id": id, "identity": identity}
        if data is None:
            row |= {"shard": "", "offset": 0, "length": 0, "sha256": ""}
        else:
            shard, offset = self._append(member_name(id, suffix), data)
            digest = hashlib.sha256(data).hexdigest()
            row |= {"shard": shard, "offset": offset, "length": len(data), "sha256": digest}
        row |= columns or {}
        waiting = len(self._columns["id"]) if self._columns else 0
        for name in row:  # in this order: that of a set changes with the process
            if name not in self._columns:
                self._columns[name] = [None] * waiting
        for name, values in self._columns.items():
            values.append(row.get(name))
        self._rows += 1
        if waiting + 1 == ROWS:
            self._set_aside()
        return str(row["sha256"])

    def _set_aside(self) -> None:
        part = self.root / f".rows-{len(self._parts):05d}.parquet"
        columns = {}
        for name, values in self._columns.items():
            columns[name], self._kinds[name] = stored(
                name, values, before=self._kinds.get(name, "")
            )
        pq.write_table(pa.table(columns), part)
        self._parts.append(part)
        self._columns = {}

    def _write_manifest(self) -> None:
        """Join what was set aside; a column that some rows lack is empty there."""
        if self._columns:
            self._set_aside()
        schema = pa.unify_schemas(
            [pq.read_schema(part) for part in self._parts], promote_options="permissive"
        )
        with pq.ParquetWriter(self.root / MANIFEST, schema) as manifest:
            for part in self._parts:
                rows = pq.read_table(part)
                for name in schema.names:
                    if name not in rows.column_names:
                        rows = rows.append_column(name, pa.nulls(len(rows)))
                manifest.write_table(rows.select(schema.names).cast(schema))
                part.unlink()

    def _two_of(self, id: str, *, source: str) -> DatasetError:
        """Why one id twice is refused; with both files, where it is known what they were."""
        rows = pd.read_parquet(self.root / MANIFEST, filters=[("id", "==", id)])
        origins = rows["origin"].dropna() if "origin" in rows else ()
        files = f" ({' and '.join(map(repr, origins[:2]))})" if len(origins) > 1 else ""
        return DatasetError(f"{source}: two images are named {id!r}{files}: rename one of them")

    def _append(self, name: str, data: bytes) -> tuple[str, int]:
        header = member_header(name, len(data))
        if self._tar is None or self._end + len(header) + len(data) > self._shard_bytes:
            self._close_shard()
            self._shard = f"shards/{self._shards:05d}.tar"
            self._shards += 1
            self._tar = (self.root / self._shard).open("wb", buffering=BUFFER)
            self._end = 0
        offset = self._end + len(header)
        padding = bytes(-len(data) % tarfile.BLOCKSIZE)
        self._tar.write(header + data + padding)
        self._end = offset + len(data) + len(padding)
        return self._shard, offset

    def _close_shard(self) -> None:
        if self._tar is not None:
            with self._tar as tar:
                tar.write(end_of_tar(self._end))
            self._tar = None

    def finish(self, card: Mapping[str, Any], *, pairs: pd.DataFrame | None = None) -> None:
        """Write manifest, pairs and card; call it once, last.

        Raises:
            DatasetError: no image was added, two have one id, a pair names an image that is not
                there, or a column holds values of several kinds.
        """
        self._close_shard()
        if not self._rows:
            raise DatasetError(f"no image was found in {card['source']}: nothing was imported")
        self._write_manifest()
        ids = pd.read_parquet(self.root / MANIFEST, columns=["id"])["id"]
        if (twice := ids[ids.duplicated()]).size:
            raise self._two_of(twice.iloc[0], source=card["source"])
        if pairs is not None:
            check_pairs(pairs, known=set(ids), where=str(card["source"]))
            pairs[PAIR_COLUMNS].to_parquet(self.root / PAIRS, index=False)
        write_yaml(self.root / CARD, asdict(DatasetCard(**card)))


def check_pairs(pairs: pd.DataFrame, *, known: set[str], where: str) -> None:
    """Refuse an empty list of pairs, and pairs that name an unknown image."""
    if pairs.empty:
        raise DatasetError(f"{where}: no verification pair was found: check the pairs file")
    for side in ("a", "b"):
        missing = pairs.loc[~pairs[side].isin(known), side]
        if len(missing):
            raise DatasetError(
                f"{where}: the pairs name {len(missing)} images that are not there, "
                f"first {missing.iloc[0]!r}: check the pairs file against the images"
            )


def check_labels(pairs: pd.DataFrame, identity_of: Callable[[str], str], *, where: str) -> None:
    """Genuine pairs come from one identity, impostor pairs from two; else a label is wrong.

    `identity_of` an image's id; `where`: what is to be corrected, such as the pairs file.
    """
    same = pairs["a"].map(identity_of) == pairs["b"].map(identity_of)
    wrong = pairs[same != (pairs["label"] == 1)]
    if len(wrong):
        first = wrong.iloc[0]
        said = "one identity" if first["label"] == 1 else "two identities"
        raise DatasetError(
            f"{where}: {first['a']!r} and {first['b']!r} are called {said}, and the "
            f"identities say otherwise ({len(wrong)} such pairs): correct it"
        )


def check_identity(identity: str, *, where: str) -> None:
    """Refuse an identity that could be no folder's name, or one that no import looks into."""
    if is_hidden(identity) or not identity.strip() or _NO_FOLDER.search(identity):
        raise DatasetError(
            f"{where}: {identity!r} can be no identity, since it can be no folder's name: rename it"
        )


def fold_of(k: int, n: int) -> int:
    """The fold of the k-th (from 0) of n pairs: ten folds of equal size, in the order given."""
    return k * FOLDS // n
