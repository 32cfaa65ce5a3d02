"""Write a dataset anew without the rows that go, and tidy what a killed command has left."""

import os
import shutil
from pathlib import Path

from facewright.datasets.card import CARD
from facewright.datasets.erasing import Found
from facewright.datasets.form import MANIFEST, PAIRS, TEMPLATES
from facewright.datasets.shards import Member, members
from facewright.datasets.tars import end_of_tar, shard_path
from facewright.errors import DatasetError
from facewright.files import whole_directory

CHUNK = 1 << 20  # bytes copied at a time


def rewrite_dataset(found: Found) -> None:
    """Replace the dataset by one without the rows, pairs and rows of templates that go.

    Only shards that hold them are written anew; all others become further links to the same bytes.
    No file is ever written in place, since it may be a link into DVC's cache.
    """
    root, kept = found.dataset.root, found.dataset.manifest[~found.gone].copy()
    with whole_directory(root) as folder:
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            if (
                file.is_file()
                and inside.parts[0] != "shards"
                and inside.as_posix() not in (MANIFEST, PAIRS, TEMPLATES)
            ):
                _link(file, folder / inside)
        touched = set(found.shards)
        for shard in kept["shard"].unique():
            if not shard:
                continue
            path = shard_path(root, shard)
            if shard not in touched:
                _link(path, folder / shard)
                continue
            rows = kept["shard"] == shard
            moved = _cut(path, folder / shard, keep=set(kept.loc[rows, "offset"]))
            kept.loc[rows, "offset"] = kept.loc[rows, "offset"].map(moved)
        if found.dataset.pairs is not None:
            found.dataset.pairs[~found.gone_pairs].to_parquet(folder / PAIRS, index=False)
        if found.dataset.templates is not None:
            left = found.dataset.templates[~found.gone_templates]
            left.to_parquet(folder / TEMPLATES, index=False)
        kept.to_parquet(folder / MANIFEST, index=False)


def _link(source: Path, target: Path) -> None:
    """One more name for the same bytes; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _cut(source: Path, target: Path, *, keep: set[int]) -> dict[int, int]:
    """Copy the members whose bytes lie at the offsets `keep`; returns new offsets by old ones."""
    wanted: list[Member] = [member for member in members(source) if member.offset in keep]
    if len(wanted) < len(keep):
        raise DatasetError(
            f"{source} lacks {len(keep) - len(wanted)} images of the manifest: import or pull it "
            "again before anything is erased"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    moved = {}
    with source.open("rb") as old, target.open("wb") as new:
        for member in wanted:
            moved[member.offset] = new.tell() + member.offset - member.start
            old.seek(member.start)
            left = member.end - member.start
            while left and (part := old.read(min(left, CHUNK))):
                new.write(part)
                left -= len(part)
        new.write(end_of_tar(new.tell()))
    return moved


def recover(data: Path) -> None:
    """Finish what was killed between two renames, so that every dataset is there again."""
    for replaced, path in _half_renamed(data):
        replaced.rename(path)


def check_whole(data: Path) -> None:
    """Refuse to look for anybody where a dataset is out of its place, without putting it back.

    Raises:
        DatasetError: a command was killed between two renames.
    """
    for replaced, path in _half_renamed(data):
        raise DatasetError(
            f"{replaced} holds what was {path} when a command was killed: rename it to "
            f"{path.name}, then run the same command again"
        )


def _half_renamed(data: Path) -> list[tuple[Path, Path]]:
    found = []
    for replaced in sorted([*data.glob(".*.replaced"), *data.glob("*/.*.replaced")]):
        path = replaced.with_name(replaced.name.removeprefix(".").removesuffix(".replaced"))
        if not path.exists() and (replaced / CARD).exists():
            found.append((replaced, path))
    return found


def remove_leftovers(data: Path) -> None:
    """Remove `.NAME.partial` and `.NAME.replaced` (see `files.whole_directory`): photos lie there.

    Call `recover` first.
    """
    for kind in ("partial", "replaced"):
        for left in [*data.glob(f".*.{kind}"), *data.glob(f"*/.*.{kind}")]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
