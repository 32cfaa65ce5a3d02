"""What was kept while the server was away is sent later: whole, and once."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from facewright import cli
from facewright.errors import RegistryError
from facewright.registry import server
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import register
from facewright.registry.spool import SPOOL, begin, waiting
from facewright.registry.tracking import RECOGNIZER_TAG, connect, sync, track
from tests.unit.registry.decisions import decided, evaluation_files

from .runs import TRAIN, Capture, curve, runs


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
    tmp_path: Path,
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
    files = evaluation_files(tmp_path / "evaluation")
    version = register(
        model="facewright",
        folders=made,
        metrics=metrics,
        evaluation_files=files,
        decision=decided("promote", "student", None, folders=made, files=files),
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
