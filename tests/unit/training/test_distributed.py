"""Two gloo processes against one, at the same global batch.

BatchNorm takes its statistics over each process's own crops, so that a network with it sees
other numbers on two processes, as it should. What can be equal is compared with a network
without BatchNorm: the same crops, the same changes, the same sums of gradients.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from facewright.training import learner

from .faces import train_without_batchnorm, without_batchnorm

HERE = Path(__file__).parent
WORKER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from faces import train_without_batchnorm, without_batchnorm
from facewright.training import learner
learner.build_network = without_batchnorm
seen = train_without_batchnorm(Path(sys.argv[3]))
with open(sys.argv[2], "w") as file:
    json.dump(seen, file)
"""


def start(rank: int, port: int, output: Path, checkpoints: Path) -> subprocess.Popen[str]:
    """What `torchrun` does: a process with its place in the environment."""
    torchrun = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    source = {"PYTHONPATH": str(HERE.parents[2] / "src")}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(HERE), str(output), str(checkpoints)],
        env=os.environ | torchrun | address | source,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_learn_what_one_does_and_one_goes_on_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    outputs = [tmp_path / "0.json", tmp_path / "1.json"]
    checkpoints = tmp_path / "checkpoints"
    workers = [start(rank, port, output, checkpoints) for rank, output in enumerate(outputs)]
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    try:
        one = train_without_batchnorm(None)
        for worker in workers:
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    first, second = (json.loads(output.read_text()) for output in outputs)
    assert one["losses"][-1] < one["losses"][0]
    for key in ("losses", "norms", "weights", "centres"):
        assert first[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5)
        assert second[key] == ([] if key == "centres" else first[key])  # they are the first's
    assert first["reports"] == one["reports"]
    assert (first["main"], second["main"], second["reports"]) == (True, False, [])

    # The last checkpoint of the two lies one step before the end, amid a row of the history.
    alone = train_without_batchnorm(checkpoints)
    assert alone["reports"] == one["reports"]
    for key in ("losses", "norms", "weights", "centres"):
        assert alone[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5)
