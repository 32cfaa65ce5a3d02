"""The MLflow server: runs and models in PostgreSQL, files in S3, which it alone can reach.

Clients need the server's address and nothing else: files pass through it.
"""

import http.client
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.postgres import Postgres
from tests.servers.processes import Process, remembered
from tests.servers.seaweedfs import SeaweedFS

READY_SECONDS = 600.0  # some seconds on a free core, minutes on a busy machine


@dataclass
class Tracking:
    """An MLflow server that can be killed and started again."""

    folder: Path
    postgres: Postgres
    store: SeaweedFS
    process: Process = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = remembered(self.folder / "settings.json", ports=["http"])["ports"]["http"]
        self.process = Process("mlflow", self.folder)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers; nothing is started twice.

        Raises:
            ServerError: it does not start.
        """
        self.process.run_until_ready(
            lambda: [
                sys.executable, "-m", "mlflow", "server",
                "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
                "--artifacts-destination", f"s3://{self.store.bucket}/artifacts",
            ],
            environment=self.environment, cwd=lambda: self.folder,
            ready=self._why_not_ready, seconds=READY_SECONDS, stop=self.stop,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.postgres.environment,
            **self.store.environment,
            "MLFLOW_BACKEND_STORE_URI": self.postgres.uri,
            "MLFLOW_S3_ENDPOINT_URL": self.store.endpoint,
            "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",  # no other page in a browser
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes, unused here
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "AWS_MAX_ATTEMPTS": "2",  # a store that is away is told soon; clients try again
        }

    def _why_not_ready(self) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()
        return None if status == 200 else f"status {status}"

    def stop(self) -> None:
        """Let it answer what was asked, then end it and its workers."""
        self.process.stop(all=True)
