"""The command against a server that speaks Kubeflow's API; kfp's own client calls it."""

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from facewright import params
from pipelines import server, submit, watch
from pipelines.cluster import CLUSTER, STEPS, Cluster
from pipelines.graph import pipeline
from tests.unit.pipelines.conftest import REMOTE, git, pushed
from tests.unit.pipelines.kubeflow import Kubeflow, task

Submit = Callable[..., int]
DONE = ("SUCCEEDED", [task(step, "SUCCEEDED", 60) for step in STEPS])


TRACED: dict[str, Any] = {}


def traced(cluster: Cluster, *, start_moves: bool) -> Any:
    """The pipeline for a cluster, traced once."""
    key = f"{cluster} {start_moves}"
    if key not in TRACED:
        TRACED[key] = pipeline(cluster, start_moves=start_moves)
    return TRACED[key]


@pytest.fixture
def run(checkout: Path, kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Submit from the checkout to the server; returns the exit code."""
    kubeflow.progress = [DONE]
    # kfp looks at the whole stack for each setting of a step: seconds, under pytest.
    monkeypatch.setattr(submit, "pipeline", traced)
    return lambda *words: submit.main(["--host", kubeflow.address, *words])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pipelines.submit: ")
    return line


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_run_is_started_with_what_the_checkout_says(
    run: Submit, kubeflow: Kubeflow, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    (made,) = kubeflow.runs
    assert capsys.readouterr().out == f"{kubeflow.address}/#/runs/details/{made['run_id']}\n"
    given = made["runtime_config"]["parameters"]
    head = git(checkout, "rev-parse", "HEAD")
    assert (given["revision"], given["git_commit"], given["repository"]) == (head, head, REMOTE)
    assert given["data_md5"] == yaml.safe_load(Path("data.dvc").read_text())["outs"][0]["md5"]
    for stage, section in params.as_json().items():
        assert given[f"{stage}_params"] == section
    assert made["service_account"] == "facewright-pipeline"
    assert kubeflow.asked("GET", "/runs/") == 0  # without --wait nobody looks at it


def test_a_training_on_many_nodes_runs_as_who_may_make_one(
    run: Submit, kubeflow: Kubeflow, checkout: Path
) -> None:
    cluster = checkout / "cluster.yaml"
    cluster.write_text(CLUSTER.read_text().replace("nodes: null", "nodes: 4"))
    assert run("--cluster", str(cluster)) == 0
    (made,) = kubeflow.runs
    assert made["service_account"] == "facewright-train"


def test_the_same_pipeline_is_uploaded_once(
    run: Submit, kubeflow: Kubeflow, checkout: Path
) -> None:
    assert run() == 0
    edit(checkout / "params.yaml", "epochs: 14", "epochs: 15")  # an argument, not the pipeline
    assert run() == 0
    assert kubeflow.asked("POST", "upload_version") == 1
    used = [one["pipeline_version_reference"]["pipeline_version_id"] for one in kubeflow.runs]
    assert len(used) == 2
    assert len(set(used)) == 1

    cluster = checkout / "cluster.yaml"
    cluster.write_text(CLUSTER.read_text().replace("memory: 8Gi", "memory: 64Gi"))
    assert run("--cluster", str(cluster)) == 0
    first, second = (version["display_name"] for version in kubeflow.versions)
    assert first != second
    assert len(kubeflow.pipelines) == len(kubeflow.experiments) == 1


def test_it_is_followed_step_by_step_to_success(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.progress = [
        ("PENDING", []),
        ("RUNNING", [task("pin", "RUNNING"), task("pin-driver", "SUCCEEDED", 3)]),
        ("RUNNING", [task("pin", "SUCCEEDED", 7), task("fetch", "RUNNING")]),
        ("RUNNING", [task("pin", "SUCCEEDED", 7), task("fetch", "RUNNING")]),
        DONE,
    ]
    assert run("--wait") == 0
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines() if "[" in line]
    assert lines[:4] == [
        "[ 0/13] pin       running",
        "[ 1/13] pin       done in 7 s",
        "[ 1/13] fetch     running",
        "[ 2/13] fetch     done in 60 s",
    ]
    assert lines[-1] == "[13/13] tell      done in 60 s"


def test_parts_of_align_are_followed_as_one_step(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    file = checkout / "cluster.yaml"
    file.write_text(CLUSTER.read_text().replace("parts: 1", "parts: 2"))
    slow, fast = task("align-part", "SUCCEEDED", 9), task("align-part", "SUCCEEDED", 7)
    join = task("align-join", "SUCCEEDED", 5)
    kubeflow.progress = [
        ("RUNNING", [fast, task("align-part", "RUNNING"), fast]),
        ("RUNNING", [fast, slow, fast]),
        ("FAILED", [fast, task("align-part", "FAILED", 3), slow, join]),
    ]
    assert run("--wait", "--cluster", str(file)) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in said if "[" in line] == [
        "[ 0/14] align-part running",
        "[ 1/14] align-part done in 9 s",
        "[ 1/14] align-part FAILED in 3 s",
        "[ 2/14] align-join done in 5 s",
    ]
    assert "at align-part" in said[-1]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_a_run_that_does_not_succeed_is_exit_code_1(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    ended = [task("pin", "SUCCEEDED", 5), task("fetch", "FAILED", 9, "exit code\n2")]
    kubeflow.progress = [("RUNNING", ended[:1]), (state, ended)]
    assert run("--wait") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{state.lower()} after" in last
    assert "at fetch: exit code 2; its logs: http" in last


def test_a_run_that_hangs_is_told_of_and_left_after_a_while(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "STILL_SECONDS", 0.1)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    kubeflow.progress = [("RUNNING", [task("train", "RUNNING")])]
    assert run("--wait", "0.01") == 1
    said = capsys.readouterr().err
    assert "under way: train; if that cannot be, look for an image that is missing" in said
    assert "kubectl -n facewright get events" in said
    assert re.search(r"has not ended after \d+ s, and goes on: http", said.splitlines()[-1])


def test_an_interrupt_leaves_the_run_alone(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server.Server, "run", interrupt)
    assert run("--wait") == 130
    assert "the run goes on: http" in capsys.readouterr().err
    assert kubeflow.asked("POST", "terminate") == 0


def test_a_server_that_is_away_meanwhile_is_waited_for(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.faults = [("GET", "/runs/", status) for status in (503, 502, 504, 429)]
    assert run("--wait") == 0
    said = capsys.readouterr().err
    assert said.count("; asking again") == 4
    assert len(kubeflow.runs) == 1


def test_a_server_that_stays_away_is_an_error_and_the_run_goes_on(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "AWAY_SECONDS", 0.1)
    kubeflow.faults = [("GET", "/runs/", 503)] * 1000
    assert run("--wait") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "(503): told to fail; the run was not stopped: http" in last


def test_what_starts_something_is_asked_once(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.faults = [("POST", "/runs", 503)]
    assert run("--wait") == 2
    assert "cannot start a run in namespace facewright (503)" in capsys.readouterr().err
    assert kubeflow.asked("POST", "/runs") == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("warmup:", "warmpu:", "train.warmpu: unknown key: did you mean 'warmup'?"),
        ("epochs: 14", "epochs: many", "train.epochs: input should be a valid integer"),
        ("distill:", "destill:", "unknown section 'destill': did you mean 'distill'?"),
    ],
)
def test_parameters_are_refused_before_anything_starts(
    run: Submit,
    kubeflow: Kubeflow,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    told: str,
) -> None:
    other = checkout / "other.yaml"
    other.write_text((checkout / "params.yaml").read_text())
    edit(other, old, new)
    assert run("--params", str(other)) == 2
    line = refusal(capsys)
    assert str(other) in line
    assert told in line
    assert not kubeflow.requests


def test_parameters_of_another_file_are_those_of_the_run(
    run: Submit, kubeflow: Kubeflow, checkout: Path
) -> None:
    other = checkout / "other.yaml"
    other.write_text((checkout / "params.yaml").read_text())
    edit(other, "epochs: 14", "epochs: 99")
    assert run("--params", str(other)) == 0
    assert '"epochs": 99' in kubeflow.runs[0]["runtime_config"]["parameters"]["train_params"]


@pytest.mark.parametrize(
    ("start", "reused"),
    [("models:/facewright/3", True), ("folder@home", True), ("models:/facewright@champion", False)],
)
@pytest.mark.parametrize("nodes", ["null", "4"])
def test_a_training_from_an_alias_is_never_taken_from_the_cache(
    run: Submit, kubeflow: Kubeflow, checkout: Path, start: str, reused: bool, nodes: str
) -> None:
    """Kubeflow's cache would know the alias, and not which version it names by now."""
    edit(checkout / "params.yaml", "start: null", f"start: {start}")
    cluster = checkout / "cluster.yaml"
    cluster.write_text(CLUSTER.read_text().replace("nodes: null", f"nodes: {nodes}"))
    assert run("--cluster", str(cluster)) == 0
    (uploaded,) = kubeflow.specs.values()
    tasks = uploaded["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    name = "train" if nodes == "null" else "train-job"
    assert bool(tasks[name]["cachingOptions"]) is reused
    for other in ("align", "distill"):  # distill is given the teacher, which is another one
        assert tasks[other]["cachingOptions"] == {"enableCache": True}


def test_an_image_needs_a_tag(
    run: Submit, kubeflow: Kubeflow, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = checkout / "cluster.yaml"
    for image in ("facewright", "registry.example.org:5000/facewright", "facewright:latest"):
        cluster.write_text(
            CLUSTER.read_text().replace("image: facewright:0.1.0", f"image: {image}")
        )
        assert run("--cluster", str(cluster)) == 2
        assert "image: value error, an image needs a tag other than latest" in refusal(capsys)
    assert not kubeflow.requests


def test_a_code_commit_leaves_the_revision_of_the_data(
    run: Submit, kubeflow: Kubeflow, checkout: Path
) -> None:
    """`fetch` is reused by its arguments: they must not change with every commit."""
    data = git(checkout, "rev-parse", "HEAD")
    git(checkout, "commit", "--allow-empty", "-m", "code")
    pushed(checkout)
    assert run() == 0
    given = kubeflow.runs[0]["runtime_config"]["parameters"]
    assert given["revision"] == data
    assert given["git_commit"] == git(checkout, "rev-parse", "HEAD") != data


def test_an_older_revision_of_the_data_can_be_named(
    run: Submit, kubeflow: Kubeflow, checkout: Path
) -> None:
    git(checkout, "tag", "v1")
    first = yaml.safe_load(Path("data.dvc").read_text())["outs"][0]["md5"]
    edit(checkout / "data.dvc", first, "0" * 32 + ".dir")
    git(checkout, "commit", "-am", "two")
    pushed(checkout)
    assert run() == 0
    assert run("--data-rev", "v1") == 0
    new, old = (one["runtime_config"]["parameters"] for one in kubeflow.runs)
    assert new["data_md5"] == "0" * 32 + ".dir"
    assert (old["data_md5"], old["revision"]) == (first, git(checkout, "rev-parse", "v1"))


@pytest.mark.parametrize("revision", ["v9", "0" * 40, "--all", "HEAD:data.dvc"])
def test_a_revision_that_does_not_exist_is_refused(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], revision: str
) -> None:
    assert run(f"--data-rev={revision}") == 2
    assert f"data revision {revision!r}: git knows no such commit here" in refusal(capsys)
    assert not kubeflow.requests


def test_data_that_the_cluster_cannot_fetch_is_refused(
    run: Submit, kubeflow: Kubeflow, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(checkout / "data.dvc", "md5: ", "md5: 0")
    assert run() == 2
    assert "data.dvc is changed and not committed" in refusal(capsys)
    git(checkout, "commit", "-am", "two")
    assert run() == 2
    assert "is on no branch of origin: push it" in refusal(capsys)
    # The cluster clones origin: what another remote has does not help it.
    git(checkout, "update-ref", "refs/remotes/fork/main", "HEAD")
    assert run() == 2
    assert "is on no branch of origin: push it" in refusal(capsys)
    git(checkout, "rm", "data.dvc")
    git(checkout, "commit", "-m", "three")
    assert run() == 2
    assert "has no data.dvc" in refusal(capsys)
    assert not kubeflow.requests


@pytest.mark.parametrize(
    ("option", "address", "told"),
    [
        ("--repository", "https://me:s3cr3t@git.example.org/x", "holds a password"),
        ("--repository", "https://s3cr3t@git.example.org/x", "holds a name or a token"),
        ("--repository", "ssh://git:s3cr3t@git.example.org/x", "holds a password"),
        ("--repository", "https://git.example.org/x?private_token=s3cr3t", "goes on after a ?"),
        ("--repository", "http://[s3cr3t", "the repository's address cannot be read"),
        ("--repository", "/home/me/facewright", "a folder of this machine"),
        ("--tracking-uri", "sqlite:///mlflow.db", "MLflow at sqlite: not a server's address"),
        ("--tracking-uri", "http://localhost:5000", "a pod would ask itself"),
        ("--tracking-uri", "https://me:s3cr3t@mlflow.example.org", "holds a password"),
        ("--tracking-uri", "https://s3cr3t@mlflow.example.org", "holds a name or a token"),
        ("--tracking-uri", "https://mlflow.example.org/?token=s3cr3t", "goes on after a ?"),
        ("--tracking-uri", "http://[s3cr3t", "MLflow's address cannot be read"),
    ],
)
def test_addresses_are_for_pods_and_for_all_to_see(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    option: str,
    address: str,
    told: str,
) -> None:
    assert run(option, address) == 2
    line = refusal(capsys)
    assert told in line
    assert "s3cr3t" not in line
    assert not kubeflow.requests


@pytest.mark.parametrize("address", ["ssh://git@git.example.org/x", "git@git.example.org:x"])
def test_a_name_over_ssh_is_no_secret(run: Submit, kubeflow: Kubeflow, address: str) -> None:
    assert run("--repository", address) == 0
    assert kubeflow.runs[0]["runtime_config"]["parameters"]["repository"] == address


def test_nothing_answers(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert submit.main(["--host", f"http://127.0.0.1:{port}"]) == 2
    assert f"nothing answers at http://127.0.0.1:{port}: " in refusal(capsys)


def test_a_server_that_never_answers_is_given_up(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CALL_SECONDS", (0.2, 0.1))
    kubeflow.silent = 0.5
    assert run() == 2
    assert "nothing answers at" in refusal(capsys)


def test_the_token_is_read_from_its_file_for_every_call(
    run: Submit,
    kubeflow: Kubeflow,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubeflow.token = "good"
    assert run() == 2
    assert "refuses the token (401): renew it" in refusal(capsys)
    file = checkout / "token"
    monkeypatch.setenv(server.TOKEN_FILE, str(file))
    assert run() == 2
    assert f"names {file}, and there is no such file" in refusal(capsys)
    file.write_text("good")
    kubeflow.progress = [("RUNNING", []), DONE]
    look = server.Server.run

    def renew(self: server.Server, run_id: str) -> Any:
        file.write_text("newer")
        kubeflow.token = "newer"
        return look(self, run_id)

    monkeypatch.setattr(server.Server, "run", renew)
    assert run("--wait") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--namespace", "elsewhere"], "does not let you list experiments in namespace elsewhere"),
        (["--namespace", "kubeflow"], "does not let you list experiments in namespace kubeflow"),
    ],
)
def test_a_namespace_that_is_not_ours(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run(*words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert told.replace("experiments", "pipelines") in line
    assert "(403): User 'me' is not authorized" in line


def test_a_namespace_that_is_not_there(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.faults = [("GET", "/pipelines", 404)]
    assert run() == 2
    assert "cannot list pipelines in namespace facewright (404): no such thing" in refusal(capsys)


def test_an_address_that_is_not_the_api(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.page = "<html>Log in</html>"
    assert run() == 2
    assert "answers, but not as Kubeflow Pipelines: a login page" in refusal(capsys)
    kubeflow.page = ""
    assert submit.main(["--host", f"{kubeflow.address}/wrong"]) == 2
    assert "cannot use it" in (line := refusal(capsys))
    assert "(404)" in line


def test_an_installation_for_one_user_is_told_no_namespace(run: Submit, kubeflow: Kubeflow) -> None:
    kubeflow.multi_user = False
    assert run("--wait") == 0
    assert "namespace" not in kubeflow.experiments[0]


def test_a_recurring_run_takes_the_data_of_a_branch_as_it_is_then(
    run: Submit, kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--every", "6h") == 0
    (made,) = kubeflow.recurring
    assert made["trigger"] == {"periodic_schedule": {"interval_second": "21600"}}
    assert (made["mode"], made["max_concurrency"], made["no_catchup"]) == ("ENABLE", "1", True)
    given = made["runtime_config"]["parameters"]
    assert (given["revision"], given["data_md5"]) == ("main", "")
    where = f"{kubeflow.address}/#/recurringrun/details/{made['recurring_run_id']}"
    assert capsys.readouterr().out.strip() == where
    assert not kubeflow.runs

    assert run("--every", "6h") == 2  # not a second one of the same kind
    assert "is there: delete it first: http" in capsys.readouterr().err
    assert run("--every", "0 0 3 * * 1-5") == 0
    assert kubeflow.recurring[1]["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1-5"}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--every", "6 hours"], "give 30m, 6h, 1d, or six fields"),
        (["--every", "0 3 * * *"], "give 30m, 6h, 1d, or six fields"),
        (["--every", "0h"], "give 30m, 6h, 1d, or six fields"),
        (["--every", "1d", "--data-rev", "v9"], "origin has no such branch"),
        (["--every", "1d", "--data-rev", "HEAD~0"], "origin has no such branch"),
    ],
)
def test_a_recurring_run_that_could_not_be_is_refused(
    run: Submit,
    kubeflow: Kubeflow,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    assert run(*words) == 2
    assert told in refusal(capsys)
    assert not kubeflow.requests


@pytest.mark.parametrize("words", [["--wait", "0"], ["--wait", "-1"], ["--wait", "--every", "1d"]])
def test_options_that_make_no_sense(run: Submit, kubeflow: Kubeflow, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    assert not kubeflow.requests
