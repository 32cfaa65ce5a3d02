"""The dataset form: a card, a manifest, tar shards with the original bytes, and perhaps pairs.

    NAME/
    ├── dataset.yaml       the card: name, kind, source and its digest, licence, consent basis
    ├── manifest.parquet   one row per image, in the order of the shards
    ├── pairs.parquet      verification sets only: fold, label, a, b (ids of images)
    ├── templates.parquet  some of these: id, template, media; then a and b are templates
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
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from facewright.datasets.card import CARD, DatasetCard, read_card, write_card
from facewright.datasets.columns import DAMAGE, Unread, check_values, stored
from facewright.datasets.pairs import PAIR_COLUMNS, TEMPLATE_COLUMNS, check_pairs
from facewright.datasets.tars import end_of_tar, member_header, member_name, shard_path
from facewright.errors import DatasetError
from facewright.files import file_digest, storage_errors

SHARD_BYTES = 256 * 1024 * 1024
BUFFER = 1024 * 1024  # bytes gathered before a write
ROWS = 32_768  # of the manifest, kept in memory before they are set aside
MANIFEST = "manifest.parquet"
PAIRS = "pairs.parquet"
TEMPLATES = "templates.parquet"
MANIFEST_COLUMNS = ["id", "identity", "shard", "offset", "length", "sha256"]
# Columns that a source may not bring: import, validate and align state them.
RESERVED = frozenset(
    (
        *MANIFEST_COLUMNS,
        *("width", "height", "origin", "dataset", "status", "reason"),
        *("own_id", "stated_identity", "person_name", "only_labels", "cleaned"),
        *("names", "earlier_copies", "identity_in_verify", "content_in_verify", "near_in_verify"),
        *("times_median", "main_source_share"),
        *("decodable", "animated", "side", "aspect", "sharpness", "brightness", "colour"),
        *("hashed", "hash", "score", "quality", "box", "photo_sha256"),
    )
)


_ROWS: Any = Unread(lambda root: _read_manifest(root))
_PAIRS: Any = Unread(lambda root: _read_pairs(root))
_TEMPLATES: Any = Unread(lambda root: _read_templates(root))


@dataclass(frozen=True)
class Dataset:
    """A dataset whose tables are read when they are first asked for (see `open_dataset`)."""

    root: Path
    card: DatasetCard

    manifest: pd.DataFrame = _ROWS  # with an `id`, which is unique, and an `identity`
    pairs: pd.DataFrame | None = _PAIRS
    templates: pd.DataFrame | None = _TEMPLATES  # of which the pairs are then; see `pairs`

    def counts(self) -> tuple[int, int]:
        """(images, identities), read a part of the manifest at a time."""
        identities: set[str] = set()
        with _unreadable(self.root), pq.ParquetFile(self.root / MANIFEST) as file:
            for batch in file.iter_batches(columns=["identity"]):
                identities.update(batch["identity"].unique().to_pylist())
            return file.metadata.num_rows, len(identities)

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
    with _unreadable(root):
        card = read_card(root)
    dataset = Dataset(root=root, card=card)
    dataset.manifest, dataset.pairs, dataset.templates  # noqa: B018  (now, and not in the midst of what is done)
    return dataset


def _read_manifest(root: Path) -> pd.DataFrame:
    with _unreadable(root):
        manifest = pd.read_parquet(root / MANIFEST)
    text, whole = ("id", "identity", "shard", "sha256"), ("offset", "length")
    check_values(manifest, path=root / MANIFEST, text=text, whole=whole)
    return manifest


def _read_pairs(root: Path) -> pd.DataFrame | None:
    return _read_more(root / PAIRS, text=("a", "b"), whole=("fold", "label"))


def _read_templates(root: Path) -> pd.DataFrame | None:
    return _read_more(root / TEMPLATES, text=TEMPLATE_COLUMNS)


def _read_more(
    path: Path, *, text: Sequence[str], whole: Sequence[str] = ()
) -> pd.DataFrame | None:
    """A table that only some datasets have."""
    with _unreadable(path.parent):
        table = pd.read_parquet(path) if path.exists() else None
    if table is not None:
        check_values(table, path=path, text=text, whole=whole)
    return table


@contextmanager
def _unreadable(root: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} is not a dataset ({Path(error.filename or CARD).name} is missing): "
            f"write it with `facewright dataset import SOURCE {root}`"
        ) from error
    except DAMAGE as error:
        raise DatasetError(f"{root} cannot be read ({error}): import it again") from error


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
        # Rows set aside: no more are in memory at any size, but in the end for a while all ids.
        self._parts: list[Path] = []
        self._identity = ""  # of the last row,
        self._origins: dict[str, object] = {}  # and by id where its images came from
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

        Raises:
            DatasetError: the id is that of an earlier image of the same run of one identity.
        """
        if identity != self._identity:
            self._identity, self._origins = identity, {}
        origin = (columns or {}).get("origin")
        if id in self._origins:
            raise _two_of(id, [self._origins[id], origin])
        self._origins[id] = origin
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

    def finish(
        self,
        card: Mapping[str, Any],
        *,
        pairs: pd.DataFrame | None = None,
        templates: pd.DataFrame | None = None,
    ) -> None:
        """Write manifest, pairs, the templates that these are of, and the card; call it once, last.

        Raises:
            DatasetError: no image was added, two have one id, a pair names an image or a template
                that is not there, a template is none (see `pairs.template_faults`), or a column
                holds values of several kinds.
        """
        self._close_shard()
        if not self._rows:
            raise DatasetError(f"no image was found in {card['source']}: nothing was imported")
        self._write_manifest()
        images = pd.read_parquet(self.root / MANIFEST, columns=["id", "identity"])
        if (twice := images["id"][images["id"].duplicated()]).size:
            id = twice.iloc[0]
            rows = pd.read_parquet(self.root / MANIFEST, filters=[("id", "==", id)])
            raise _two_of(id, list(rows["origin"][:2]) if "origin" in rows else [])
        if pairs is not None:
            check_pairs(pairs, images=images, templates=templates, where=str(card["source"]))
            pairs[PAIR_COLUMNS].to_parquet(self.root / PAIRS, index=False)
            if templates is not None:
                templates[TEMPLATE_COLUMNS].to_parquet(self.root / TEMPLATES, index=False)
        write_card(self.root, DatasetCard(**card))


def _two_of(id: str, origins: Sequence[object]) -> DatasetError:
    """Why one id twice is refused; with both files, where it is known what they were."""
    known = [repr(origin) for origin in origins if isinstance(origin, str)]
    files = f" ({' and '.join(known)})" if len(known) > 1 else ""
    return DatasetError(f"two images are named {id!r}{files}: rename one of them")
