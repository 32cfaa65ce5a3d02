"""A cluster that this process plays, and a client of it that does not wait long."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from facewright.cluster import api, nodes, train_jobs
from facewright.cluster.api import Api, connect
from tests.unit.cluster.fake_cluster import FakeCluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Runs until the end of the test, and then must have understood all that was asked."""
    monkeypatch.setattr(api, "PAUSES", (0.05, 0.1))
    monkeypatch.setattr(nodes, "PAUSE", 0.05)
    monkeypatch.setattr(train_jobs, "TICK", 0.05)
    monkeypatch.setattr(train_jobs, "ASK_WHY", 0.1)
    fake = FakeCluster()
    with fake.running(tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield fake
    assert fake.complaints == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that people read."""
    lines: list[str] = []
    for module in (api, nodes, train_jobs):
        monkeypatch.setattr(module, "say", lines.append)
    return lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which a TrainJob's clock is ahead."""
    ahead = [0.0]
    time_of = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0], sleep=time.sleep)
    monkeypatch.setattr(train_jobs, "time", time_of)
    return ahead


@pytest.fixture
def here(cluster: FakeCluster) -> Api:
    return connect()
