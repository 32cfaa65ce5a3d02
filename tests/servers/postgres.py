"""A real PostgreSQL on this machine: the system's programs, a data folder of our own.

It listens on loopback only (no Unix socket, whose path must be short), asks for a password, and
is stopped by its process id. PostgreSQL refuses to run as root: then it runs as `postgres`, the
user that Debian's package makes, with its data in `/var/tmp`, since that user may not enter the
folders of root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.processes import Process, ServerError, remembered

USER = "mlflow"  # in the database
SYSTEM_USER = "postgres"  # on the machine, if we are root
PLACES = Path("/usr/lib/postgresql")  # Debian's: a folder per version, not on the path
READY_SECONDS = 60.0


@dataclass
class Postgres:
    """A server that can be stopped and started again on what it had stored."""

    folder: Path
    database: str
    process: Process = field(init=False)
    port: int = field(init=False)
    password: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        known = remembered(self.folder / "settings.json", ports=["sql"])
        self.port, self.password = known["ports"]["sql"], known["password"]
        self.process = Process("postgres", self.folder)

    @property
    def home(self) -> Path:
        """Where the data lies: `folder/home`, or what that points to."""
        return (self.folder / "home").resolve()

    @property
    def uri(self) -> str:
        """For SQLAlchemy, without the password. The driver is named: its default changed."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{self.database}"

    @property
    def environment(self) -> dict[str, str]:
        """What clients read the password from, so that it stands in no address and no log."""
        return {"PGPASSWORD": self.password}

    def connect(self, database: str | None = None) -> Any:
        """A psycopg2 connection on which each statement counts at once."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password,
            dbname=database or self.database, connect_timeout=2,
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def start(self) -> None:
        """Start, and wait until the database is there; nothing is started twice.

        Raises:
            ServerError: it is not installed, or does not start.
        """
        self.process.run_until_ready(
            self._prepared,
            environment={},
            cwd=lambda: self.home,
            user=_system_user(),
            ready=self._why_not_ready,
            seconds=READY_SECONDS,
            stop=self.stop,
        )

    def _prepared(self) -> list[str]:
        """The command, for which everything is there."""
        bin = programs()
        self._make_home()
        if not (self.home / "data" / "PG_VERSION").exists():
            self._make_cluster(bin / "initdb")
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "shared_buffers": "32MB", "max_connections": 50,
        }  # fmt: skip
        return [
            str(bin / "postgres"), "-D", str(self.home / "data"),
            *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
        ]  # fmt: skip

    def _make_home(self) -> None:
        user = _system_user()
        if self.home.exists():
            return
        if user is None:
            self.home.mkdir()
            return
        made = Path(tempfile.mkdtemp(prefix="facewright-postgres-", dir="/var/tmp"))
        shutil.chown(made, user, user)
        (self.folder / "home").unlink(missing_ok=True)  # points to what is gone
        (self.folder / "home").symlink_to(made)

    def _make_cluster(self, initdb: Path) -> None:
        user = _system_user()
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        if user is not None:
            shutil.chown(password, user, user)
        other: dict[str, Any] = {} if user is None else {
            "user": user, "group": user, "extra_groups": [],
        }  # fmt: skip
        # Beside, then renamed: one that was killed in the middle is not taken for a cluster.
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            done = subprocess.run(
                [
                    str(initdb), "-D", str(partial), "-U", USER, f"--pwfile={password}",
                    "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
                ],
                cwd=self.home, capture_output=True, text=True, **other,
            )  # fmt: skip
        finally:
            password.unlink()
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ServerError(f"PostgreSQL's initdb fails in {self.home}: {last}")
        partial.rename(self.home / "data")

    def _why_not_ready(self) -> str | None:
        import psycopg2

        try:
            connection = self.connect("postgres")
        except psycopg2.OperationalError as error:
            return str(error).strip()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database])
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{self.database}"')
        connection.close()
        return None

    def stop(self) -> None:
        """Break off what is open, write everything, end."""
        self.process.stop(signal.SIGINT, all=False)

    def remove(self) -> None:
        """Stop, and remove its data; the folder too."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def programs() -> Path:
    """The folder of PostgreSQL's programs, of the newest version that is installed.

    Raises:
        ServerError: there is none, or we are root and there is no user to run it.
    """
    places = [place for place in PLACES.glob("*/bin") if (place / "initdb").exists()]
    found = max(places, key=lambda place: float(place.parent.name), default=None)
    on_path = shutil.which("initdb")
    if found is None and on_path is not None:
        found = Path(on_path).resolve().parent
    if found is None:
        raise ServerError(
            "no PostgreSQL: apt-get install --no-install-recommends postgresql (or your system's)"
        )
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError as error:
            raise ServerError(
                f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER!r}: "
                f"useradd --system {SYSTEM_USER}"
            ) from error
    return found


def _system_user() -> str | None:
    return SYSTEM_USER if os.geteuid() == 0 else None
