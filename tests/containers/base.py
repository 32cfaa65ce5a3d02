"""The base image of the project's Dockerfiles: pulled where a registry is reachable, else a
stand-in of the same name, made of this machine's own packages.

A stand-in is Debian's smallest system with Python, from the mirror that apt uses here. It is told
how pip finds packages on this machine; folders of packages are served to it over loopback.
"""

import configparser
import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.containers.daemon import Docker, client
from tests.servers.processes import ServerError

ROOT = Path(__file__).parents[2]
BASE = re.search(r"^FROM (\S+) AS base$", (ROOT / "components/Dockerfile").read_text(), re.M)[1]  # type: ignore[index]
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PULL_SECONDS = 300.0
PIP_CONFIG = "/etc/pip.conf"  # in the image


def provide_base(docker: Docker) -> bool:
    """Have the base image; True if it is a stand-in.

    Raises:
        ServerError: it cannot be pulled, and no stand-in can be made here.
    """
    if not docker.has(BASE):
        try:
            docker.run("pull", BASE, timeout=PULL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            make_stand_in(docker)
    label = docker.run("image", "inspect", "-f", '{{index .Config.Labels "stand-in"}}', BASE)
    return bool(label.stdout.strip())


def make_stand_in(docker: Docker) -> None:
    """Make the base image of this machine's packages.

    Raises:
        ServerError: debootstrap is missing, or failed.
    """
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ServerError(f"{BASE} cannot be pulled: apt-get install debootstrap to stand in")
    with tempfile.TemporaryDirectory(prefix="facewright-base-") as made:
        system = Path(made) / "system"
        command = [program, "--variant=minbase", f"--include={PACKAGES}", SUITE, system, mirror()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            error = ServerError("debootstrap failed")
            error.add_note(done.stdout[-2000:] + done.stderr[-2000:])
            raise error
        # What the official image does not have either.
        for marker in system.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(system / folder, ignore_errors=True)
        (system / "usr/bin/python").symlink_to("python3")
        if CERTIFICATES.exists():  # with those that this machine trusts beside Debian's
            shutil.copy(CERTIFICATES, system / CERTIFICATES.relative_to("/"))
        packed = subprocess.Popen(["tar", "-C", system, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            [client(), "import", "-c", "LABEL stand-in=debootstrap", "-", BASE],
            stdin=packed.stdout,
            env={**os.environ, **docker.environment},
            capture_output=True,
            check=True,
        )
        if packed.wait():
            raise ServerError("the stand-in's files could not be packed")


def mirror() -> str:
    """The address of Debian's main archive, as apt has it here."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(SUITE) $(CODENAME) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in asked.stdout.splitlines():
        address, *names = line.split()
        if SUITE in names and "main" in names and address.rstrip("/").endswith("debian"):
            return address
    raise ServerError(f"apt knows no mirror of Debian {SUITE}: there is nothing to stand in with")


@contextmanager
def pip_settings() -> Iterator[Path]:
    """A `pip.conf` for builds: this machine's, with its folders of packages served meanwhile."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    told = dict(re.findall(r"^(?:global|:env:)\.(\S+?)='(.*)'$", asked.stdout, re.M))
    kept: dict[str, str] = {}
    folders: list[Path] = []
    for key in ("index-url", "extra-index-url", "find-links"):
        places = []
        for place in told.get(key, "").replace("\\n", " ").split():
            path = urlsplit(place).path if place.startswith("file:") else place
            if Path(path).is_dir():
                # An index's pages lead to files beside it.
                root = Path(path).parent
                folders.append(root)
                places.append(f"http://127.0.0.1:PORT/{len(folders) - 1}/{Path(path).name}/")
            elif "://" in place:
                places.append(place)
        if places:
            kept[key] = " ".join(places)
    if CERTIFICATES.exists():
        kept["cert"] = str(CERTIFICATES)
    with _served(folders) as port, tempfile.TemporaryDirectory() as folder:
        parser = configparser.ConfigParser(interpolation=None)
        parser["global"] = {key: value.replace("PORT", str(port)) for key, value in kept.items()}
        text = io.StringIO()
        parser.write(text)
        path = Path(folder) / "pip.conf"
        path.write_text(text.getvalue())
        yield path


@contextmanager
def _served(folders: list[Path]) -> Iterator[int]:
    """The folders as /0/, /1/ … of a server on loopback; yields its port."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            number, _, rest = path.lstrip("/").partition("/")
            if not number.isdigit() or int(number) >= len(folders):
                return os.devnull
            inside = super().translate_path(f"/{rest}")
            return str(folders[int(number)] / Path(inside).relative_to(self.directory))

        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
