"""Tar archives (plain, gzip, bzip2, xz) and zip archives of identity folders, read as streams.

Nothing is ever unpacked to a path that the archive names. Links, devices, absolute paths and
paths with `..` are refused by name, even where they are no images: such an archive was made to
harm, or by mistake. What an archive says of its members decides how much memory they may take:
a file of some kilobytes can inflate to gigabytes. A tar takes the same memory at any size; the list
of a zip stands at its end and is read whole, some 600 bytes for each member.
"""

import copy
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Self

from facewright.datasets.images import is_image_name
from facewright.datasets.readers import Entry, checked_name, checked_size
from facewright.datasets.readers.inflate import BOMB_RATIO, Inflated
from facewright.errors import DatasetError

MAX_HEADER_BYTES = 1024 * 1024  # a long name, or a member's pax records; tarfile reads them whole
MAX_HEADERS = 8  # for one member; tarfile goes into them one within the other
BOMB_BYTES = 16_000_000  # of one image of a zip that may be more than BOMB_RATIO its packed size
_ZIP_HEADER = 30  # bytes before a member's name (APPNOTE.TXT 4.3.7)

_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # zipfile's word for a form that it does not know
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,  # both modules' word for a number or a name that is none
)


def read_archive(path: Path) -> Generator[Entry]:
    """Every file of the archive `path`, in its order; its kind is told from its first bytes.

    A folder that the archive lists is an entry whose name ends with a slash.

    Raises:
        DatasetError: it is no archive, is damaged or cut short, or holds what is refused.
    """
    with _damage(path), path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _read_zip(path, file)
        elif magic[:2] == b"\x1f\x8b":
            with Inflated(file, kind="gzip") as stream:
                yield from _read_tar(path, stream)
        elif magic[:3] == b"BZh":
            with Inflated(file, kind="bzip2") as stream:
                yield from _read_tar(path, stream)
        elif magic == b"\xfd7zXZ\0":
            with Inflated(file, kind="xz") as stream:
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


class _Tar(tarfile.TarFile):
    """Counts the headers of the member that is being read."""

    headers = 0


class _Member(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; here it is damage.

    tarfile also reads long names, pax records and maps of sparse files to their end before anyone
    can look at them, so they are refused where it starts to.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise EOFError(f"it is no tar, or cut short, at byte {tarfile_.offset}") from error

    def _proc_member(self, tar: _Tar) -> Self:
        if self.type in _EXTENDED:
            tar.headers += 1
            if not 0 <= self.size <= MAX_HEADER_BYTES or tar.headers > MAX_HEADERS:
                raise tarfile.ReadError(f"the header of a member at byte {self.offset} has no end")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _special(tar, self.name)
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]

    def _proc_gnusparse_10(self, member: Self, records: object, tar: _Tar) -> None:
        raise _special(tar, member.name)


def _special(tar: _Tar, name: str) -> DatasetError:
    return DatasetError(
        f"{Path(str(tar.name)).name}: {name!r} is a link or a special file: "
        "pack the archive again with plain files (tar --dereference)"
    )


def _read_tar(path: Path, stream: IO[bytes] | Inflated) -> Generator[Entry]:
    tar = _Tar(path.name, fileobj=stream, mode="r", tarinfo=_Member)  # type: ignore[arg-type]
    while (member := tar.next()) is not None:
        # tarfile remembers every member and global header; half a million fill the memory.
        tar.members.clear()  # type: ignore[attr-defined]
        tar.pax_headers = {}
        tar.headers = 0
        name = checked_name(member.name, source=path.name)
        if member.isdir():
            if name:
                yield Entry(f"{name}/", 0, bytes)
            continue
        if not member.isreg() or member.issparse():
            raise _special(tar, member.name)
        if member.size < 0:
            raise tarfile.ReadError(f"{member.name!r} has a negative size")

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
        _check_places(path, archive)
        for info in archive.infolist():
            if not info.filename:  # zipfile stumbles over it
                raise zipfile.BadZipFile("a member has no name")
            name = checked_name(info.filename, source=path.name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                if name:
                    yield Entry(f"{name}/", 0, bytes)
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
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The other decompressors know no limit.
                raise DatasetError(
                    f"{path.name}: {info.filename!r} is neither stored nor deflated: unpack it "
                    "and import the folder"
                )
            swollen = info.file_size > BOMB_RATIO * info.compress_size
            if swollen and info.file_size > BOMB_BYTES and is_image_name(name):
                raise DatasetError(
                    f"{path.name}: {info.filename!r} has {info.compress_size} bytes and claims to "
                    f"inflate to {info.file_size / 1e6:.0f} MB, as no photo does: remove it"
                )

            def read(info: zipfile.ZipInfo = info) -> bytes:
                # zipfile cuts a member at its stated size without a word: state one byte more.
                longer = copy.copy(info)
                longer.file_size += 1
                with _damage(path), archive.open(longer) as member:
                    data = member.read(longer.file_size)
                    if len(data) != info.file_size:
                        raise zipfile.BadZipFile(f"{info.filename!r} has not the size it states")
                return data

            yield checked_size(Entry(name, info.file_size, read), source=path.name)


def _check_places(path: Path, archive: zipfile.ZipFile) -> None:
    """Members that share bytes are one photo under many names, or a bomb; no program packs so."""
    places = sorted(archive.infolist(), key=lambda info: info.header_offset)
    for info, after in pairwise(places):
        if info.header_offset + _ZIP_HEADER + info.compress_size > after.header_offset:
            raise DatasetError(
                f"{path.name}: {info.filename!r} and {after.filename!r} share bytes of the "
                "archive: pack it again"
            )
