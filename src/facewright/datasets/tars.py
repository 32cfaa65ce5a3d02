"""The shards of a dataset as files: what they and their members are called, byte for byte."""

import re
import tarfile
from pathlib import Path

from facewright.errors import DatasetError

SHARD = re.compile(r"shards/[0-9]{5,}\.tar")


def shard_path(root: Path, shard: str) -> Path:
    """The file of a shard of the dataset `root`; its name comes from a manifest.

    Raises:
        DatasetError: the name is not `shards/NNNNN.tar`. A manifest is a file that anybody may
            have written.
    """
    if not SHARD.fullmatch(shard):
        raise DatasetError(
            f"{root}: the manifest names a shard {shard!r}, which is no shards/NNNNN.tar: "
            "import or pull it again"
        )
    return root / shard


def member_header(name: str, size: int) -> bytes:
    """What stands before an image in its shard: no time, no owner, the same bytes every time."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    # The pax form adds records only where ustar cannot hold the name, and takes longer to try.
    plain = name.isascii() and len(name) <= tarfile.LENGTH_NAME
    return member.tobuf(tarfile.USTAR_FORMAT if plain else tarfile.PAX_FORMAT)


def end_of_tar(end: int) -> bytes:
    """What closes a tar of `end` bytes, as POSIX asks: two empty blocks, up to a whole record."""
    closing = 2 * tarfile.BLOCKSIZE
    return bytes(closing + -(end + closing) % tarfile.RECORDSIZE)


def member_name(id: str, suffix: str) -> str:
    """The name of an image in its shard.

    WebDataset ends a sample's key at the first dot of the file name, so that `J.R._1` and `J.R._2`
    would become one sample: dots (and the per cent sign) in the last part are written as %2E (%25).
    """
    folder, slash, stem = id.rpartition("/")
    return folder + slash + stem.replace("%", "%25").replace(".", "%2E") + suffix
