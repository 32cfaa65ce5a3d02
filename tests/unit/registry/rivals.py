"""Two processes that write the ledger of the configured store at the same moment."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from facewright.files import PACKAGE

WORKER = """
import sys
from facewright.errors import FacewrightError
from facewright.registry.chain import Draft
from facewright.registry.ledger import append
from facewright.registry.promotion import promote
from facewright.registry.tracking import connect

me = int(sys.argv[1])
connect()
print("ready", flush=True)
for line in sys.stdin:
    what, model = line.split()
    try:
        if what == "promote":
            promote(model, me, actor=f"process {me}")
        else:
            draft = Draft("register", me, f"process {me}", "", "promote", "", "")
            append(connect(), model, draft, needed=lambda ledger: True)
        print("done", flush=True)
    except FacewrightError as error:
        print(error, flush=True)
"""


@contextmanager
def two_processes() -> Iterator[Callable[[str], list[str]]]:
    """Say one line to both, `promote MODEL` or `enter MODEL`; returns what they answer.

    Process N, from 1, promotes or enters version N.
    """
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for number in (1, 2)
    ]

    def answers() -> list[str]:
        return [process.stdout.readline().strip() for process in processes if process.stdout]

    def say(line: str) -> list[str]:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        return answers()

    try:
        assert answers() == ["ready", "ready"]
        yield say
    finally:
        for process in processes:
            process.kill()
            process.communicate()
