"""`python -m tests.servers start | stop | status | remove`: MLflow, PostgreSQL and S3, here."""

import argparse
import sys
from pathlib import Path

from tests.servers.processes import ServerError
from tests.servers.stack import BUCKET, Stack, is_ours

FOLDER = Path(".servers")


def main() -> int:
    """Run a command; 0 when it went well, 2 with one line on standard error when not."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=main.__doc__)
    commands = {"start": _start, "stop": _stop, "status": _status, "remove": _remove}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is kept")
    options = parser.parse_args()
    if options.command != "start" and not is_ours(options.folder):
        print(f"servers: none were started in {options.folder}", file=sys.stderr)
        return 2
    try:
        commands[options.command](Stack(options.folder))
    except ServerError as error:
        print(f"servers: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("servers: interrupted; nothing runs", file=sys.stderr)
        return 130
    return 0


def _start(stack: Stack) -> None:
    print("servers: starting, about a minute the first time", file=sys.stderr)
    stack.start()
    _status(stack)
    print(f"export MLFLOW_TRACKING_URI={stack.tracking.uri}")


def _stop(stack: Stack) -> None:
    stack.stop()
    print(f"servers: stopped; {stack.folder} keeps what they stored", file=sys.stderr)


def _status(stack: Stack) -> None:
    """To standard error, so that `eval "$(… start)"` sees the last line only."""
    lines = {
        "PostgreSQL": (stack.postgres.process, stack.postgres.uri),
        "SeaweedFS": (stack.store.process, f"{stack.store.endpoint}, bucket {BUCKET}"),
        "MLflow": (stack.tracking.process, stack.tracking.uri),
    }
    for name, (process, where) in lines.items():
        runs = "does not run" if process.pid is None else f"process {process.pid}"
        print(f"{name:<11} {where}  {runs}, log {process.log}", file=sys.stderr)


def _remove(stack: Stack) -> None:
    stack.remove()
    print(f"servers: stopped, and {stack.folder} is removed", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
