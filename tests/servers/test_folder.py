"""Folders and processes of the servers, without the servers."""

import sys
from pathlib import Path

import pytest

from tests.servers.__main__ import main
from tests.servers.processes import Process, ServerError
from tests.servers.stack import Stack


def test_no_command_touches_a_folder_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: str, folder: Path) -> int:
        monkeypatch.setattr(sys, "argv", ["servers", command, "--folder", str(folder)])
        return main()

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    for command in ("remove", "stop", "status"):
        assert run(command, theirs) == 2
        assert f"none were started in {theirs}" in capsys.readouterr().err
    assert run("start", theirs) == 2
    assert f"{theirs} holds other files" in capsys.readouterr().err
    assert [file.name for file in theirs.iterdir()] == ["thesis.txt"]
    Stack(tmp_path / "ours")
    assert run("remove", tmp_path / "ours") == 0
    assert not (tmp_path / "ours").exists()


def test_a_process_that_does_not_get_ready_is_stopped(tmp_path: Path) -> None:
    process = Process("sleep", tmp_path)
    pids = []

    def why_not() -> str:
        pids.append(process.pid)
        return "it sleeps"

    with pytest.raises(ServerError, match=r"sleep is not ready after 0 s \(it sleeps\)"):
        process.run_until_ready(
            lambda: ["sleep", "60"],
            environment={},
            cwd=lambda: tmp_path,
            ready=why_not,
            seconds=0.4,
            stop=lambda: process.stop(all=True),
        )
    assert pids[0] is not None
    assert process.pid is None
