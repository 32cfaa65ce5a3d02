"""A folder with a folder per identity."""

import os
import stat
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from facewright.datasets.readers import Entry, checked_name, checked_size
from facewright.errors import DatasetError


def read_folder(root: Path) -> Generator[Entry]:
    """Every file below `root`, sorted by path, so that the order is the same on every machine.

    A linked file is read like any other; a linked folder is refused, since it may lead in circles.

    Raises:
        DatasetError: a linked folder, an unreadable file or folder, a name that is not UTF-8, a
            pipe or device, or a link to one.
    """
    for path in sorted(_files(root), key=os.fsencode):
        name = Path(path).relative_to(root).as_posix()
        checked_name(name, source=str(root))
        try:
            found = Path(path).stat()
        except OSError as error:
            raise _unreadable(error, root=root) from error
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise DatasetError(f"{root}: {name!r} is no plain file: remove it from the source")
        entry = Entry(name=name, size=found.st_size, read=partial(_read, path, root=root))
        yield checked_size(entry, source=str(root))


def _files(root: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise _unreadable(error, root=root) from error

    for folder, folders, files in os.walk(root, onerror=fail):
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DatasetError(
                    f"{root}: the folder {name!r} is a link, which is not followed: "
                    "put the folder itself there"
                )
        yield from (str(Path(folder) / name) for name in files)


def _read(path: str, *, root: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(error, root=root) from error


def _unreadable(error: OSError, *, root: Path) -> DatasetError:
    return DatasetError(
        f"{root}: {error.filename} cannot be read ({error.strerror}): check it and its permissions"
    )
