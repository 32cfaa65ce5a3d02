"""Tar archives (plain, gzip, bzip2, xz) and zip archives of identity folders, read as streams.

Nothing is ever unpacked to a path that the archive names. Links, devices, absolute paths and
paths with `..` are refused by name, even where they are no images: such an archive was made to
harm, or by mistake.
"""

import bz2
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from facewright.datasets.readers import Entry, checked_name, checked_size
from facewright.datasets.readers.inflate import Inflated
from facewright.errors import DatasetError

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # zipfile's word for a compression it does not know
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
)


def read_archive(path: Path) -> Generator[Entry]:
    """Every file of the archive `path`, in its order; its kind is told from its first bytes.

    Raises:
        DatasetError: it is no archive, is damaged or cut short, or holds what is refused.
    """
    with _damage(path), path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _read_zip(path, file)
        elif magic[:2] == b"\x1f\x8b":
            with Inflated(file) as stream:
                yield from _read_tar(path, stream)
        elif magic[:3] == b"BZh":
            with bz2.open(file) as stream:
                yield from _read_tar(path, stream)
        elif magic == b"\xfd7zXZ\0":
            with lzma.open(file) as stream:
                yield from _read_tar(path, stream)
        else:
            yield from _read_tar(path, file)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise DatasetError(
            f"{path} is not a folder, tar or zip that can be read to its end ({error}): "
            "get it again"
        ) from error


class _Member(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; here it is damage."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise EOFError(f"it is no tar, or cut short, at byte {tarfile_.offset}") from error


def _read_tar(path: Path, stream: IO[bytes] | Inflated) -> Generator[Entry]:
    tar = tarfile.TarFile(fileobj=stream, mode="r", tarinfo=_Member)  # type: ignore[arg-type]
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every member; half a million fill the memory
        name = checked_name(member.name, source=path.name)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise DatasetError(
                f"{path.name}: {member.name!r} is a link or a special file: "
                "pack the archive again with plain files (tar --dereference)"
            )

        def read(size: int = member.size) -> bytes:
            # After its header was read, the stream stands at the member's first byte.
            with _damage(path):
                data = stream.read(size)
                if len(data) != size:
                    raise EOFError("it is cut short")
            return data

        yield checked_size(Entry(name, member.size, read), source=path.name)


def _read_zip(path: Path, file: IO[bytes]) -> Generator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = checked_name(info.filename, source=path.name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise DatasetError(
                    f"{path.name}: {info.filename!r} is a link or a special file: "
                    "pack the archive again with plain files"
                )
            if info.flag_bits & 1:
                raise DatasetError(
                    f"{path.name}: {info.filename!r} is encrypted: unpack it and import the folder"
                )

            def read(info: zipfile.ZipInfo = info) -> bytes:
                with _damage(path):
                    return archive.read(info)

            yield checked_size(Entry(name, info.file_size, read), source=path.name)
