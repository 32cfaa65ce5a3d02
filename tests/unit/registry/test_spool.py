"""A training whose server is away goes on, and what it reports is kept, whole."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from facewright.errors import RegistryError, StorageError
from facewright.registry import server, tracking
from facewright.registry.spool import SPOOL, begin, waiting
from facewright.registry.tracking import Tracked, connect, sync, track

from .runs import TRAIN, Capture, curve, files, runs


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
