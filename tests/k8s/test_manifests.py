"""k8s/ says the same as the rest of the project: versions, settings, rights, sizes, names."""

import re
import stat
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from components.images import IMAGE
from pipelines.cluster import load
from tests.k8s.rendering import FOLDER, ROOT, SITE, Copy, Document, render
from tests.k8s.test_policy import find
from tests.k8s.world import pods, world

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]
GUIDE = (FOLDER / "README.md").read_text(encoding="utf-8")


def _environment(documents: list[Document], container: Document) -> dict[str, str | None]:
    """The environment of a container; none stands for what comes from a Secret."""
    found: dict[str, str | None] = {}
    for each in container.get("envFrom", []):
        found |= find(documents, "ConfigMap", each["configMapRef"]["name"])["data"]
    for each in container.get("env", []):
        found[each["name"]] = each.get("value")
    return found


def test_images_are_those_of_the_project_and_of_compose(dev: list[Document]) -> None:
    used = {container["image"] for pod in pods(dev) for container in pod.containers}
    composed = {each["image"] for each in COMPOSE.values()}
    assert used == composed | {IMAGE}


def test_prod_takes_the_projects_images_from_its_registry(prod: list[Document]) -> None:
    used = {container["image"] for pod in pods(prod) for container in pod.containers}
    cuda = IMAGE.replace("facewright:", "facewright-cuda:")
    assert {each for each in used if each.startswith(SITE["registry"] + "/")} == {
        f"{SITE['registry']}/{each}" for each in (COMPOSE["mlflow"]["image"], cuda)
    }
    others = {each for each in used if not each.startswith(SITE["registry"])}
    assert {each.split(":")[0] for each in others} == {"postgres", "nginxinc/nginx-unprivileged"}


def test_servers_are_set_up_as_in_compose(dev: list[Document]) -> None:
    by_name = {each.name.split("/")[1]: each.containers[0] for each in pods(dev)}
    composed = COMPOSE["mlflow"]["environment"]
    deployed = _environment(dev, by_name["mlflow"])
    assert composed.keys() - deployed.keys() == set()
    for key in composed.keys() - {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ALLOWED_HOSTS"}:
        assert deployed[key] == (None if "${" in composed[key] else composed[key]), key
    # The address of the database is in libpq's own variables, for dump and restore as well.
    driver, _, rest = composed["MLFLOW_BACKEND_STORE_URI"].partition("://")
    told = "{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**deployed)
    assert (deployed["MLFLOW_BACKEND_STORE_URI"], told) == (f"{driver}://", rest)
    hosts = re.search(r":-([^}]*)\}", composed["MLFLOW_SERVER_ALLOWED_HOSTS"])
    assert hosts
    assert str(deployed["MLFLOW_SERVER_ALLOWED_HOSTS"]).startswith(hosts[1] + ",mlflow:*,")

    assert by_name["seaweedfs"]["args"] == COMPOSE["seaweedfs"]["command"]
    postgres = _environment(dev, by_name["postgres"])
    for key, value in COMPOSE["postgres"]["environment"].items():
        assert postgres[key] == (None if "${" in value else value), key
    for name in ("mlflow", "seaweedfs"):
        test = str(COMPOSE[name]["healthcheck"]["test"])
        address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", test)
        assert address
        probed = by_name[name]["readinessProbe"]["httpGet"]
        ports = {each["name"]: each["containerPort"] for each in by_name[name]["ports"]}
        assert (str(ports[probed["port"]]), probed["path"]) == address.groups()
    assert by_name["postgres"]["readinessProbe"]["exec"]["command"] == COMPOSE["postgres"][
        "healthcheck"]["test"][1:]  # fmt: skip


def test_mlflow_runs_as_its_image_says(dev: list[Document]) -> None:
    dockerfile = (ROOT / "mlflow" / "Dockerfile").read_text()
    user = re.search(r"(?m)^USER (\d+)$", dockerfile)
    assert user
    mlflow = find(dev, "Deployment", "mlflow")["spec"]["template"]["spec"]
    assert mlflow["securityContext"]["runAsUser"] == int(user[1])
    assert "command" not in mlflow["containers"][0]


def test_rights_are_these_and_no_others(documents: list[Document]) -> None:
    there = world(documents)
    rules = {each["metadata"]["name"]: each["rules"] for each in there.of("Role")}
    rights: dict[str, set[str]] = {}
    for binding in there.of("RoleBinding"):
        for subject in binding["subjects"]:
            rights.setdefault(subject["name"], set()).update(
                " ".join([f"{verb} {group}/{resource}", *rule.get("resourceNames", [])])
                for rule in rules[binding["roleRef"]["name"]]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            )
    pipeline = {
        "create argoproj.io/workflowtaskresults", "patch argoproj.io/workflowtaskresults",
        "get /pods", "list /pods", "watch /pods",
        "get /configmaps kfp-launcher", "get /secrets mlpipeline-minio-artifact",
    }  # fmt: skip
    training = {
        f"{verb} trainer.kubeflow.org/trainjobs"
        for verb in ("create", "get", "list", "watch", "delete")
    }
    assert rights == {
        "facewright-pipeline": pipeline,
        "facewright-train": pipeline | training | {"get /pods/log", "list /events"},
    }
    for each in there.of("RoleBinding"):
        assert {one["namespace"] for one in each["subjects"]} == {"facewright"}


def _bytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMGT]i)?", size).groups()  # type: ignore[union-attr]
    return int(number) * 1024 ** (["", "Ki", "Mi", "Gi", "Ti"].index(unit or ""))


def test_the_namespace_lets_each_step_of_the_pipeline_in(documents: list[Document]) -> None:
    """Steps bring limits of their own, since the default ones would be below a large request."""
    hard = find(documents, "ResourceQuota", "facewright")["spec"]["hard"]
    for name, step in load().steps.items():
        assert step.cpu <= int(hard["requests.cpu"]), name
        assert _bytes(step.memory) <= _bytes(hard["requests.memory"]), name


def test_requests_of_what_always_runs_fit_the_quota(documents: list[Document]) -> None:
    hard = find(documents, "ResourceQuota", "facewright")["spec"]["hard"]
    running = [each for each in pods(documents) if each.long_running]
    asked = [one["resources"]["requests"]["memory"] for each in running for one in each.containers]
    assert sum(map(_bytes, asked)) < _bytes(hard["requests.memory"]) / 2
    gpus = [
        int(one["resources"]["requests"].get("nvidia.com/gpu", 0))
        for each in pods(documents)
        for one in each.containers
    ]
    assert sum(gpus) <= int(hard["requests.nvidia.com/gpu"])


def test_the_runtime_is_for_gpus_in_prod_and_for_cpus_in_dev(
    dev: list[Document], prod: list[Document]
) -> None:
    def pod(documents: list[Document]) -> Document:
        runtime = find(documents, "ClusterTrainingRuntime", "facewright-torchrun")
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        # What the trainer looks for: the job's label, and a container of this name.
        labels = job["template"]["metadata"]["labels"]
        assert labels["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
        spec = job["template"]["spec"]["template"]["spec"]
        assert [each["name"] for each in spec["containers"]] == ["node"]
        return dict(spec)

    with_gpus, without = pod(prod), pod(dev)
    (node,) = with_gpus["containers"]
    limits, requests = node["resources"]["limits"], node["resources"]["requests"]
    assert limits["nvidia.com/gpu"] == requests["nvidia.com/gpu"]
    (toleration,) = with_gpus["tolerations"]
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    shared = {each["name"]: each for each in with_gpus["volumes"]}["shared-memory"]
    assert shared["emptyDir"]["medium"] == "Memory"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in node["volumeMounts"]
    assert _bytes(shared["emptyDir"]["sizeLimit"]) < _bytes(limits["memory"])
    assert "nvidia.com/gpu" not in str(without)


def test_prods_settings_are_those_of_its_site(prod: list[Document]) -> None:
    (ingress,) = [each for each in prod if each["kind"] == "Ingress"]
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]] == [SITE["host"]]
    (deployment,) = [each for each in pods(prod) if each.name == "Deployment/mlflow"]
    mlflow = _environment(prod, deployment.containers[0])
    assert str(mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"]).split(",")[0] == SITE["host"]
    assert mlflow["PGHOST"] == SITE["database-host"]
    assert mlflow["PGSSLMODE"] == "verify-full"
    assert mlflow["MLFLOW_S3_ENDPOINT_URL"] == SITE["s3-endpoint"]
    assert mlflow["MLFLOW_ARTIFACTS_DESTINATION"] == SITE["mlflow-artifacts"]
    assert not [each for each in prod if each["kind"] in ("Secret", "StatefulSet")]
    assert not [each for each in prod if each["metadata"]["name"] == "site"]
    assert "CHANGE-ME" not in str(prod)
    for pod in pods(prod):  # whoever calls the database knows whom it trusts
        for container in pod.containers:
            path = str(_environment(prod, container).get("PGSSLROOTCERT", ""))
            if path:
                mounted = {each["mountPath"] for each in container["volumeMounts"]}
                assert str(Path(path).parent) in mounted, pod.name


def test_secrets_of_dev_are_made_once_and_for_their_owner_alone(copy: Copy) -> None:
    files = {each: each.read_text() for each in copy.dev.glob("*.env")}
    examples = {each.name: each.read_text() for each in copy.dev.glob("*.env.example")}
    assert len(files) == len(examples) == 2
    for path, text in files.items():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert re.sub(r"=.{24,}", "=", text) == examples[f"{path.name}.example"]
    subprocess.run(["sh", str(copy.dev / "secrets.sh")], check=True)
    assert {each: each.read_text() for each in copy.dev.glob("*.env")} == files
    assert len(copy.secret_values()) == 3


def test_git_passes_the_secrets_of_dev_over() -> None:
    for name in ("database.env", "s3.env"):
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", f"k8s/overlays/dev/{name}"], cwd=ROOT, check=False
        )
        assert done.returncode in (0, 128)  # 128: not a git checkout
    done = subprocess.run(
        ["git", "check-ignore", "--quiet", "k8s/base/mlflow/server.env"], cwd=ROOT, check=False
    )
    assert done.returncode in (1, 128)


def test_the_guide_names_what_there_is(dev: list[Document], prod: list[Document]) -> None:
    both = [*dev, *prod]
    made = {(each["kind"], each["metadata"]["name"]) for each in both}
    made |= {("Secret", name) for kind, name in made if kind == "ExternalSecret"}
    section = GUIDE.split("## What is made here")[1].split("\n## ")[0]
    listed = set(re.findall(r"(?m)^\| (\w+) \| `([\w-]+)` \|", section))
    assert len(listed) == 8
    assert listed <= made
    assert {("Secret", name) for kind, name in made if kind == "Secret"} <= listed | {
        ("Secret", "facewright-ledger")
    }
    for kind, name in re.findall(r"(deployment|statefulset|cronjob)/([\w-]+)", GUIDE):
        kinds = {"deployment": "Deployment", "statefulset": "StatefulSet", "cronjob": "CronJob"}
        assert (kinds[kind], name) in made
    for path in re.findall(r"`((?:base|overlays|examples)/[\w./-]+)`", GUIDE):
        assert (FOLDER / path).exists(), path


def test_the_ledgers_variables_are_those_that_facewright_reads(dev: list[Document]) -> None:
    code = (ROOT / "src" / "facewright" / "registry" / "ledger_keys.py").read_text()
    for key in find(dev, "ConfigMap", "facewright-pipeline")["data"]:
        if key.startswith("FACEWRIGHT_"):
            assert f'"{key}"' in code


def test_an_upgrade_makes_the_tables_before_mlflow_starts(
    dev: list[Document], prod: list[Document]
) -> None:
    """By the guide's commands, in either overlay."""
    section = GUIDE.split("\nUpgrade: ")[1].split("\n## ")[0]
    commands = re.findall(r"^    kubectl (.+)$", section, re.M)
    for documents in (dev, prod):
        made, running = False, True
        brought: set[tuple[str, str]] = set()
        for command in commands:
            key, _, value = command.partition(" -l ")[2].partition(" ")[0].partition("=")
            if scaled := re.search(r"scale deployment/mlflow --replicas (\d)", command):
                running = scaled[1] != "0"
            elif "--for=delete" in command:
                (pod,) = [each for each in pods(documents) if each.labels.get(key) == value]
                assert pod.name == "Deployment/mlflow"
            elif "create job" in command:
                assert ("CronJob", "mlflow-upgrade") in brought
                assert not running
                made = True
            elif command.startswith("apply"):
                for each in documents:
                    if not key or each["metadata"].get("labels", {}).get(key) == value:
                        name = (each["kind"], each["metadata"]["name"])
                        brought.add(name)
                        # Without a number it keeps the one that it was scaled to.
                        if name == ("Deployment", "mlflow") and each["spec"].get("replicas"):
                            running = True
            assert made or not running, command
        assert made
        assert running
        assert ("Deployment", "mlflow") in brought


def test_all_accounts_can_be_given_a_pull_secret(tmp_path: Path) -> None:
    """By the patch that the guide shows."""
    copy = Copy.make(tmp_path / "k8s")
    shown = re.search(r"^( +)patches:\n(?:\1 .+\n)+", GUIDE, re.M)
    assert shown
    file = copy.prod / "kustomization.yaml"
    assert file.read_text().count("patches:\n") == 1
    file.write_text(file.read_text().replace("patches:\n", dedent(shown[0])))
    accounts = [each for each in render(copy.prod) if each["kind"] == "ServiceAccount"]
    names = {each["metadata"]["name"] for each in accounts}
    assert names >= {"facewright-pipeline", "facewright-train", "facewright-worker", "mlflow"}
    assert all(each["imagePullSecrets"] == [{"name": "YOURS"}] for each in accounts)
