"""A training whose server is away goes on, and the server gets its run later: whole, and once."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from facewright import cli
from facewright.errors import RegistryError, StorageError
from facewright.registry import server, tracking
from facewright.registry.gate import decide
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import register
from facewright.registry.spool import SPOOL, begin, waiting
from facewright.registry.tracking import RECOGNIZER_TAG, Tracked, connect, sync, track

TRAIN = {"params": {"seed": 1, "sgd": {"rate": 0.1}}, "tags": {"k": "v"}}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def online(store: Path) -> str:
    """The address of an empty store."""
    return f"sqlite:///{store}/mlflow.db"


@pytest.fixture
def offline(online: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is away; configured, with a password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://me:s3cr3t@127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Configure another address."""
    return lambda address: monkeypatch.setenv("MLFLOW_TRACKING_URI", address)


def runs() -> list[Any]:
    client = server.open_client()
    found = client.get_experiment_by_name("facewright")
    return list(client.search_runs([found.experiment_id])) if found else []


def curve(run: Any, key: str) -> list[tuple[int, float]]:
    history = server.open_client().get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in history)


def files(run: Any, folder: str | None = None) -> list[str]:
    return [f.path for f in server.open_client().list_artifacts(run.info.run_id, folder)]


def test_a_run_without_a_server_is_sent_later_as_it_was(
    offline: str, online: str, switch: Callable[[str], None], capsys: Capture, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"picture 1")
    begun = time.time() * 1000
    with track("train", spool=True, **TRAIN) as run:
        for step in range(1200):
            run.report({"loss": 1.0 / (step + 1), "rate": 0.1}, step)
        run.report({"loss": math.nan, "peak": math.inf}, 1200)
        run.tag("late", "x" * 6000)
        run.file(sheet, "samples")
        sheet.write_bytes(b"picture 2")
        run.file(sheet, "samples")
        run.file(sheet)
    ended = time.time() * 1000
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # away at the start; still away at the end
    assert "no MLflow server answers" in lines[0]
    assert "the run goes on and is kept in .mlflow-spool" in lines[0]
    assert "facewright sync" in lines[1]
    assert not any("s3cr3t" in line for line in lines)
    time.sleep(0.05)  # so that the time of sending is another one

    switch(online)
    connect()
    (sent,) = runs()
    assert capsys.readouterr().err.startswith("mlflow: sent run 'train' (FINISHED) from .mlflow")
    assert waiting() == []
    assert (sent.info.run_name, sent.info.status) == ("train", "FINISHED")
    assert begun <= sent.info.start_time <= sent.info.end_time <= ended
    assert sent.data.params == {"seed": "1", "sgd.rate": "0.1"}
    assert sent.data.tags["k"] == "v"
    assert sent.data.tags["late"] == "x" * 5000
    history = server.open_client().get_metric_history(sent.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1201))
    assert history[3].value == 0.25
    assert math.isnan(history[-1].value)
    assert all(begun <= point.timestamp <= ended for point in history)
    assert files(sent, "samples") == ["samples/sheet.png"]
    assert "sheet.png" in files(sent)
    got = server.open_client().download_artifacts(sent.info.run_id, "samples/sheet.png")
    assert Path(got).read_bytes() == b"picture 2"
    connect()
    assert len(runs()) == 1


def test_a_healthy_run_leaves_nothing_on_disk_and_says_nothing(
    online: str, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "sheet.png").write_bytes(b"picture")
    with track("train", spool=True, **TRAIN) as run:
        run.report({"loss": 1.0}, 0)
        (kept,) = SPOOL.iterdir()
        run.report({"loss": 0.5}, 1)
        assert b"0.5" in (kept / "events.jsonl").read_bytes()  # at once, not with the next flush
        run.file(tmp_path / "sheet.png", "samples")
        run.tag("late", "1")
        assert files(runs()[0], "samples") == ["samples/sheet.png"]  # there while it runs
    assert not SPOOL.exists()
    (sent,) = runs()
    assert (sent.info.run_id, sent.info.status) == (run.run_id, "FINISHED")
    assert sent.data.tags["late"] == "1"
    assert curve(sent, "loss") == [(0, 1.0), (1, 0.5)]
    assert capsys.readouterr().err == ""


def test_no_password_is_written(offline: str) -> None:
    with track("train", spool=True, **TRAIN) as run:
        run.report({"loss": 1.0}, 0)
    written = [path for path in SPOOL.rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert b"s3cr3t" not in path.read_bytes()
        assert b"127.0.0.1" not in path.read_bytes()


def test_a_server_that_comes_back_in_mid_run_gets_the_run(
    offline: str, online: str, switch: Callable[[str], None], capsys: Capture
) -> None:
    with track("train", spool=True, **TRAIN) as run:
        for step in range(3):
            run.report({"loss": float(step)}, step)
        run.tag("early", "1")
        assert (run.run_id, run.away) == ("", True)
        switch(online)
        run.report({"loss": 3.0}, 3)
        assert run.away  # it is not tried at every step
        run.due = 0.0
        run.report({"loss": 4.0}, 4)
        (there,) = runs()
        assert (there.info.run_id, there.info.status) == (run.run_id, "RUNNING")
        assert curve(there, "loss") == [(n, float(n)) for n in range(5)]
        run.report({"loss": 5.0}, 5)
    (sent,) = runs()
    assert sent.info.status == "FINISHED"
    assert sent.data.tags["early"] == "1"
    assert curve(sent, "loss") == [(n, float(n)) for n in range(6)]
    assert waiting() == []
    assert len(capsys.readouterr().err.splitlines()) == 1


def down(*arguments: Any, **named: Any) -> None:
    raise mlflow.MlflowException("connection refused\nmore\nlines")


@pytest.mark.parametrize("call", ["log_batch", "set_tag", "log_artifact", "set_terminated"])
def test_a_call_that_fails_stops_nothing_and_is_made_up_for(
    online: str, call: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "sheet.png").write_bytes(b"picture")
    with track("train", spool=True, **TRAIN) as run:
        run.report({"loss": 3.0}, 0)
        monkeypatch.setattr(mlflow.MlflowClient, call, down)
        run.due = 0.0
        run.report({"loss": 2.0}, 1)
        run.tag("late", "1")
        run.file(tmp_path / "sheet.png")
        run.report({"loss": 1.0}, 2)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", online)
    said = capsys.readouterr().err
    assert "connection refused; " in said
    assert len(said.splitlines()) <= 2
    assert sync().startswith("runs sent to sqlite") or waiting() == []
    (sent,) = runs()
    assert sent.info.run_id == run.run_id
    assert sent.info.status == "FINISHED"
    assert curve(sent, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert sent.data.tags["late"] == "1"
    assert files(sent) == ["sheet.png"]
    assert waiting() == []


def test_a_run_cut_off_on_one_server_is_whole_on_another(
    online: str, monkeypatch: pytest.MonkeyPatch, switch: Callable[[str], None], tmp_path: Path
) -> None:
    with monkeypatch.context() as patch, track("train", spool=True, **TRAIN) as run:
        for step in range(3):
            run.due = 0.0
            run.report({"loss": float(step)}, step)
        patch.setattr(mlflow.MlflowClient, "set_terminated", down)
    assert len(waiting()) == 1
    switch(f"sqlite:///{tmp_path}/other.db")
    connect()
    (sent,) = runs()
    assert sent.info.run_id != run.run_id
    assert sent.data.params["sgd.rate"] == "0.1"
    assert curve(sent, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_how_a_run_ended_is_kept(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    error: type[BaseException],
    status: str,
) -> None:
    with pytest.raises(error), track("train", spool=True, **TRAIN):
        raise error
    switch(online)
    connect()
    assert [run.info.status for run in runs()] == [status]


def test_an_interrupted_sending_is_completed_without_doubles(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    with track("train", spool=True, **TRAIN) as run:
        for step in range(2500):
            run.report({"loss": math.nan if step == 7 else 0.5}, step)
        run.report({"loss": math.inf}, 0)  # the same step as before
    switch(online)
    real, passed = mlflow.MlflowClient.log_batch, []

    def counted(self: Any, run_id: str, **named: Any) -> None:
        if len(named.get("metrics", ())) and sum(passed) >= limit:
            raise mlflow.MlflowException("gone")
        real(self, run_id, **named)
        passed.append(len(named.get("metrics", ())))

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", counted)
    limit = 2000
    capsys.readouterr()
    with pytest.raises(RegistryError, match=r"0 runs were sent, 1 not: .mlflow-spool/\S+ cannot"):
        sync()
    assert sum(passed) == 2000
    assert [run.info.status for run in runs()] == ["RUNNING"]
    assert len(waiting()) == 1
    limit = 9999
    assert sync().startswith("runs sent to sqlite")
    assert sync() == "no run waits in .mlflow-spool"
    assert sum(passed) == 2501  # those that had arrived were not sent again
    (sent,) = runs()
    assert sent.info.status == "FINISHED"
    assert len(curve(sent, "loss")) == 2501


def test_a_run_that_was_sent_but_not_forgotten_is_not_sent_twice(
    offline: str, online: str, switch: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with track("train", spool=True, **TRAIN) as run:
        run.report({"loss": 1.0}, 0)
    switch(online)
    with monkeypatch.context() as patch:
        patch.setattr("facewright.registry.sending.remove", lambda folder: None)  # as if killed
        connect()
    assert len(waiting()) == 1
    assert sync().endswith(": 1")
    assert len(runs()) == 1


def test_a_refused_run_blocks_no_other(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("one", "two", "three"):
        with track(name, spool=True, **TRAIN) as run:
            run.report({"a metric" if name != "two" else "no, this: (is) none?": 1.0}, 0)
    switch(online)
    capsys.readouterr()
    connect()
    ended = sorted((r.info.start_time, r.info.run_name) for r in runs() if r.info.end_time)
    assert [name for _, name in ended] == ["one", "three"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be sent" in line]
    assert len(lines) == 1
    assert lines[0].endswith("it stays in .mlflow-spool")
    assert len(waiting()) == 1


def break_missing(folder: Path) -> None:
    (folder / "events.jsonl").unlink()


def break_json(folder: Path) -> None:
    (folder / "run.json").write_text('{"id": "20')


def break_shape(folder: Path) -> None:
    (folder / "run.json").write_text("[1, 2]")


def break_line(folder: Path) -> None:
    path = folder / "events.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[:9] + b"\0\0\n" + b"".join(rest))


def break_value(folder: Path) -> None:
    path = folder / "events.jsonl"
    path.write_bytes(b'{"points":[["loss","many",1,1]]}\n' + path.read_bytes())


def break_kind(folder: Path) -> None:
    path = folder / "events.jsonl"
    path.write_bytes(b'{"what":[]}\n' + path.read_bytes())


def break_file(folder: Path) -> None:
    (path,) = folder.rglob("sheet.png")
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "harm",
    [break_missing, break_json, break_shape, break_line, break_value, break_kind, break_file],
)
def test_a_damaged_run_is_set_aside_and_blocks_no_other(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    capsys: Capture,
    tmp_path: Path,
    harm: Callable[[Path], None],
) -> None:
    (tmp_path / "sheet.png").write_bytes(b"picture")
    for name in ("broken", "well"):
        with track(name, spool=True, **TRAIN) as run:
            run.report({"loss": 1.0}, 0)
            run.file(tmp_path / "sheet.png")
    for folder in waiting():
        if json.loads((folder / "run.json").read_text())["name"] == "broken":
            harm(folder)
    switch(online)
    capsys.readouterr()
    connect()
    assert [run.info.run_name for run in runs()] == ["well"]  # nothing of the broken one
    (line,) = (li for li in capsys.readouterr().err.splitlines() if "damaged" in li)
    (aside,) = SPOOL.glob("*.damaged")
    assert line.endswith(f"set aside as {aside}")
    connect()
    assert capsys.readouterr().err == ""  # told once


def test_a_last_line_that_was_cut_off_does_not_count(
    offline: str, online: str, switch: Callable[[str], None]
) -> None:
    record = begin("train", params={}, tags={})
    record.metrics(server.points({"loss": 1.0}, 0))
    record.metrics(server.points({"loss": 0.5}, 1))
    record.close()
    events = record.folder / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-5])
    switch(online)
    connect()
    (sent,) = runs()
    assert curve(sent, "loss") == [(0, 1.0)]
    assert sent.info.status == "KILLED"
    assert sent.info.end_time >= sent.info.start_time


def test_a_run_under_way_is_left_alone(online: str) -> None:
    record = begin("train", params={}, tags={})
    assert sync() == (
        f"runs sent to {server.shown_uri()}: 0; under way, and left until they end: 1"
    )
    assert record.folder.exists()
    assert runs() == []
    record.close()
    assert sync().endswith(": 1")
    assert len(runs()) == 1


CHILD = """
import itertools, sys, time
from facewright.registry.tracking import track
with track("train", params={"a": 1}, tags={}, spool=True) as run:
    for step in itertools.count():
        run.report({"loss": 1.0 / (step + 1)}, step)
        print(step, flush=True)
        time.sleep(0.001)
"""


@pytest.mark.parametrize("away", [True, False])
def test_a_killed_process_loses_nothing_that_it_reported(
    offline: str, online: str, switch: Callable[[str], None], away: bool
) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": offline if away else online}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    step = -1
    while step < 300:
        step = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    step = int((child.stdout.read().split("\n")[-2:-1] or [step])[0])  # what it still had said
    child.wait()

    switch(online)
    before = runs()
    assert [run.info.status for run in before] == ([] if away else ["RUNNING"])
    connect()
    (sent,) = runs()
    assert sent.info.status == "KILLED"
    found = curve(sent, "loss")
    assert [n for n, _ in found] == list(range(len(found)))
    assert len(found) >= step + 1
    assert sent.info.end_time - sent.info.start_time < 60_000
    if before:
        assert sent.info.run_id == before[0].info.run_id


SENDER = """
import sys, time
from pathlib import Path
from facewright.registry import tracking
tracking.open_client()  # so that both begin at the same moment
Path(sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.001)
print(tracking.sync())
"""


def test_two_senders_send_each_run_once(
    offline: str, online: str, switch: Callable[[str], None], tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        with track(name, spool=True, **TRAIN) as run:
            for step in range(500):
                run.report({"loss": float(step)}, step)
    switch(online)
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, f"ready-{n}"], stdout=subprocess.PIPE, text=True
        )
        for n in range(2)
    ]
    until = time.monotonic() + 60
    while not all(Path(f"ready-{n}").exists() for n in range(2)):
        assert time.monotonic() < until
        time.sleep(0.01)
    Path("go").touch()
    said = [sender.communicate(timeout=60)[0] for sender in senders]
    assert [sender.returncode for sender in senders] == [0, 0]
    assert sum(int(line.split(": ")[1]) for line in said if "sent to" in line) == 3, said
    assert sorted(run.info.run_name for run in runs()) == ["one", "three", "two"]
    assert all(len(curve(run, "loss")) == 500 for run in runs())


def test_a_sender_that_never_ends_is_one_line(
    online: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    import fcntl

    begin("train", params={}, tags={}).close()
    monkeypatch.setattr("facewright.registry.spool.LOCK_SECONDS", 0.2)
    with (SPOOL / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match="another process has been sending"):
            sync()
        connect()  # is not stopped by it
        assert "another process has been sending" in capsys.readouterr().err
    assert sync().endswith(": 1")


def test_a_registered_version_finds_its_run_that_was_sent_later(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    folders: Callable[..., dict[str, Path]],
) -> None:
    from facewright.models.recognizer import read_card

    made = folders("one")
    with track("train", spool=True, **TRAIN) as run:
        run.tag(RECOGNIZER_TAG, read_card(made["teacher"]).weights_sha256)
    assert run.run_id == ""
    switch(online)
    metrics = {
        f"{name}.{key}": value
        for name in ("student", "student-int8")
        for key, value in (("accuracy", 0.9), ("latency_ms", 2.0))
    }
    policy = {
        "min_accuracy": 0.8,
        "max_int8_accuracy_drop": 0.02,
        "min_int8_speedup": 1.0,
        "max_accuracy_drop_from_champion": 0.01,
    }
    version = register(
        model="facewright",
        folders=made,
        metrics=metrics,
        evaluation_files=[],
        decision=decide(metrics, pairs_digest="a" * 64, policy=policy, champion=None),
        lineage=Lineage(data_md5="m5.dir", git_commit="c0ffee", params_digest="p" * 64),
    )
    (trained,) = (found for found in runs() if found.info.run_name == "train")
    assert version.tags["facewright.parent_run"] == trained.info.run_id


def test_sync_sends_or_says_why_not(
    offline: str, online: str, switch: Callable[[str], None], capsys: Capture
) -> None:
    assert cli.main(["sync"]) == 0
    assert "no run waits" in capsys.readouterr().out
    with track("train", spool=True, **TRAIN):
        pass
    capsys.readouterr()
    for address, why in ((offline, "no MLflow server answers"), ("bogus://there", "cannot be")):
        switch(address)
        assert cli.main(["sync"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("facewright: ")
        assert why in line
        assert "s3cr3t" not in line
        assert len(waiting()) == 1
    switch(online)
    assert cli.main(["sync"]) == 0
    assert capsys.readouterr().out.startswith(f"runs sent to {online}: 1")
    assert len(runs()) == 1


def test_where_the_folder_cannot_be_written_the_server_must_be_up(
    offline: str,
    online: str,
    switch: Callable[[str], None],
    capsys: Capture,
) -> None:
    SPOOL.write_text("a file in the way")
    with (
        pytest.raises(RegistryError, match="no MLflow server answers"),
        track("train", spool=True, **TRAIN),
    ):
        pytest.fail("the run must not begin")
    switch(online)
    with track("train", spool=True, **TRAIN) as run:
        run.report({"loss": 1.0}, 0)
    assert "train goes on, but needs the server up to its end" in capsys.readouterr().err
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_a_full_disk_leaves_no_half_line(
    offline: str, online: str, switch: Callable[[str], None]
) -> None:
    record = begin("train", params={}, tags={})
    record.metrics(server.points({"loss": 1.0}, 0))
    whole = record._events

    class Full:
        """A file with room for ten bytes."""

        def write(self, line: bytes) -> int:
            return whole.write(line[:10])

        def __getattr__(self, name: str) -> Any:
            return getattr(whole, name)

    record._events = Full()  # type: ignore[assignment]
    with pytest.raises(StorageError, match="the disk is full"):
        record.metrics(server.points({"loss": 0.5}, 1))
    record._events = whole
    record.metrics(server.points({"loss": 0.25}, 2))
    record.close()
    switch(online)
    connect()
    assert curve(runs()[0], "loss") == [(0, 1.0), (2, 0.25)]


def test_pauses_between_trials_grow(offline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = []

    def away() -> None:
        trials.append(now[0])
        raise RegistryError("away")

    now = [0.0]
    with track("train", spool=True, **TRAIN) as run:
        monkeypatch.setattr(tracking, "open_client", away)
        monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
        run.due, run.pause = 0.0, tracking.OUTAGE_SECONDS
        for second in range(2500):
            now[0] = float(second)
            Tracked.report(run, {"loss": 0.0}, second)
        # A day without a server must not cost a trial of seconds every minute.
        assert trials == [0, 60, 180, 420, 900, 1500, 2100]
