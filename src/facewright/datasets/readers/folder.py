"""A folder with a folder per identity."""

import os
import stat
from collections.abc import Generator
from functools import partial
from pathlib import Path

from facewright.datasets.readers import Entry, checked_name, checked_size, readable
from facewright.errors import DatasetError


def read_folder(root: Path) -> Generator[Entry]:
    """Every file below `root`, sorted by path, so that the order is the same on every machine.

    An empty folder is an entry whose name ends with a slash. A linked file is read like any other;
    a linked folder is refused, since it may lead in circles.

    Raises:
        DatasetError: a linked folder, an unreadable file or folder, a name that is not UTF-8, a
            pipe or device, or a link to one.
    """
    waiting = [""]  # names below `root`, the next one last; folders end with a slash
    while waiting:
        name = waiting.pop()
        if not name or name.endswith("/"):
            inside = _inside(root, name)
            if not inside and name:
                yield Entry(checked_name(name, source=str(root)) + "/", 0, bytes)
            # One folder's names at a time; with their slashes they sort as whole paths do.
            waiting += sorted(inside, key=os.fsencode, reverse=True)
            continue
        path = os.path.join(root, name)  # noqa: PTH118  (pathlib takes longer than the file)
        checked_name(name, source=str(root))
        with readable(f"{root}: {path}"):
            found = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise DatasetError(f"{root}: {name!r} is no plain file: remove it from the source")
        entry = Entry(name=name, size=found.st_size, read=partial(_read, path, root=root))
        yield checked_size(entry, source=str(root))


def _inside(root: Path, folder: str) -> list[str]:
    with readable(f"{root}: {root / folder}"), os.scandir(root / folder) as found:
        names = []
        for item in found:
            linked = item.is_symlink()
            if linked and Path(item.path).is_dir():  # a link that leads in circles is none
                raise DatasetError(
                    f"{root}: the folder {item.name!r} is a link, which is not followed: "
                    "put the folder itself there"
                )
            inner = not linked and item.is_dir()
            names.append(f"{folder}{item.name}/" if inner else folder + item.name)
        return names


def _read(path: str, *, root: Path) -> bytes:
    with readable(f"{root}: {path}"):
        return Path(path).read_bytes()
