"""Export: a dataset back to a folder per identity, with its source's bytes and suffixes."""

import errno
import posixpath
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facewright.datasets.form import MANIFEST, RESERVED, open_dataset
from facewright.datasets.readers import checked_name
from facewright.datasets.shards import read_images
from facewright.errors import DatasetError
from facewright.files import storage_errors, whole_directory, write_yaml
from facewright.progress import progress, say

EXPORTED_PAIRS = "pairs.tsv"
EXPORTED_CARD = "card.yaml"
LIST = "list.parquet"


def export_dataset(root: Path, output: Path) -> int:
    """Write the images of the dataset `root` to `output/IDENTITY/NAME.ext`; returns their number.

    `import_dataset(output, …, pairs=output/pairs.tsv)` makes the same ids, bytes and pairs again;
    `import_dataset(output/list.parquet, …)` does so too, and brings back the columns that a source
    may have. The card is kept beside them as `card.yaml`, to be read by people. Rows without a
    picture are left out, and counted aloud.

    Raises:
        DatasetError: `output` is there and not empty, a name leads outside it or is taken twice, a
            picture is not what the manifest says, pairs cannot be written as lines, or are of
            templates.
    """
    with storage_errors(output):
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise DatasetError(f"{output} is there: name a new folder")
    dataset = open_dataset(root)
    if dataset.templates is not None:
        raise DatasetError(
            f"{root} has templates, which no folder of photos can tell: copy the dataset's folder "
            "as it is"
        )
    if output.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"{output} lies in the dataset {root}: name a folder elsewhere")
    rows = dataset.manifest[dataset.manifest["shard"] != ""]
    origins = rows["origin"] if "origin" in rows.columns else pd.Series("", index=rows.index)
    paths: dict[str, str] = {}
    with whole_directory(output) as folder:
        named = zip(rows["id"], rows["identity"], origins, strict=True)
        images = zip(named, read_images(root, rows), strict=True)
        for (id, identity, origin), (suffix, data) in progress(
            images, total=len(rows), label=f"export {root.name}"
        ):
            paths[id] = _path(id, identity, suffix=_suffix(origin, suffix), source=str(root))
            _write(folder / paths[id], data or b"", id=id, source=str(root))
        if dataset.pairs is not None:
            _write_pairs(folder / EXPORTED_PAIRS, dataset.pairs, paths, source=str(root))
        _write_list(folder / LIST, root, paths)
        write_yaml(folder / EXPORTED_CARD, asdict(dataset.card))
    if bare := len(dataset.manifest) - len(rows):
        say(f"export {root}: {bare} rows without a picture left out")
    return len(rows)


def _write_list(path: Path, root: Path, paths: dict[str, str]) -> None:
    """As `readers.listing` reads it. Arrow keeps the columns' types, as pandas would not."""
    rows = pq.read_table(root / MANIFEST)
    rows = rows.filter(pc.not_equal(rows["shard"], ""))
    left = RESERVED - {"identity"}
    if "photo_sha256" in rows.column_names:
        left |= {"landmarks"}  # of a crop, and they lie in the photo it was cut from
    listed = pa.array([paths[id] for id in rows["id"].to_pylist()], pa.string())
    more = {name: rows[name] for name in rows.column_names if name not in left | {"path"}}
    pq.write_table(pa.table({"path": listed} | more), path)


def _suffix(origin: object, stored: str) -> str:
    """The suffix as the source wrote it, if it is that of the stored picture: `.JPG` for `.jpg`."""
    suffix = posixpath.splitext(str(origin))[1]
    return suffix if suffix.lower() == stored else stored


def _path(id: str, identity: str, *, suffix: str, source: str) -> str:
    """Where an image goes, with forward slashes; anything that is not a plain path is refused."""
    stem = id.removeprefix(f"{identity}/")
    path = f"{identity}/{stem.replace('/', '_')}{suffix}"
    ours = identity in (EXPORTED_PAIRS, EXPORTED_CARD, LIST)
    if ours or not identity or not stem or checked_name(path, source=source) != path:
        raise DatasetError(f"{source}: {id!r} of {identity!r} cannot be a file: import it again")
    return path


def _write(path: Path, data: bytes, *, id: str, source: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except (FileExistsError, NotADirectoryError) as error:
        raise DatasetError(
            f"{source}: {id!r} and another image would be one file: take one of them out with "
            "`facewright dataset subset`"
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DatasetError(f"{source}: {id!r} is too long to be the name of a file") from error


def _write_pairs(path: Path, pairs: pd.DataFrame, paths: dict[str, str], *, source: str) -> None:
    """Tab separated, as `readers.lfw.read_pairs` reads them."""
    lines = ["fold\tlabel\tpath\tpath"]
    for fold, label, *ids in pairs[["fold", "label", "a", "b"]].itertuples(index=False):
        names = [paths.get(id, "") for id in ids]
        for id, name in zip(ids, names, strict=True):
            plain = name and name.splitlines() == [name] and "\t" not in name
            if not plain or name != name.strip():
                raise DatasetError(f"{source}: the pairs name {id!r}, which fits into no line")
        lines.append("\t".join([str(fold), str(label), *names]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
