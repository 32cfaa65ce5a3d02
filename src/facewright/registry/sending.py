"""Sending the runs that wait in the spool: each whole, once, as of when it was."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from facewright.errors import FacewrightError, RegistryError, StorageError
from facewright.files import storage_errors
from facewright.progress import say
from facewright.registry.server import (
    Point,
    experiment,
    open_client,
    open_run,
    registry_errors,
    send_params,
    send_points,
)
from facewright.registry.spool import (
    DamagedError,
    Kept,
    Record,
    claimed,
    only_sender,
    read,
    remove,
    set_aside,
    tidy,
    waiting,
)

SPOOL_TAG = "facewright.spool_id"  # on a run: by this it is found again, and never made twice


@dataclass
class Outcome:
    """What came of sending what waits."""

    sent: int = 0
    alive: int = 0  # runs still under way, which are left to their processes
    problems: list[FacewrightError] = field(default_factory=list)  # of runs that stay


def send_waiting(client: Any) -> Outcome:
    """Send every run that waits and whose process is gone, then forget it; aloud.

    A run that cannot be read is set aside; one that the server refuses stays and is a problem; the
    others are sent all the same.

    Raises:
        RegistryError: another process has been sending for a long time.
        StorageError: the spool cannot be written.
    """
    outcome = Outcome()
    if not waiting():
        return outcome
    with only_sender():
        tidy()
        for folder in waiting():
            try:
                with claimed(folder) as free:
                    if not free:
                        outcome.alive += 1
                        continue
                    kept = read(folder)
                    status = kept.status or "KILLED"
                    with registry_errors(f"{folder} cannot be sent"):
                        send(client, kept, status=status)
                    remove(folder)
                    outcome.sent += 1
                    say(f"mlflow: sent run {kept.name!r} ({status}) from {folder}")
            except DamagedError as error:
                say(f"mlflow: {folder} is damaged ({error}): set aside as {set_aside(folder)}")
            except (RegistryError, StorageError) as error:
                outcome.problems.append(error)
                try:
                    open_client()
                except RegistryError:  # it went away: the others would only wait for it too
                    break
    return outcome


def send_record(client: Any, record: Record) -> str:
    """Send all that a run under way has kept so far; returns the id of the run on the server.

    Raises:
        RegistryError: what was kept is damaged.
    """
    try:
        return send(client, read(record.folder), status=None)
    except DamagedError as error:
        raise RegistryError(f"{record.folder} is damaged: {error}") from error


def send(client: Any, kept: Kept, *, status: str | None) -> str:
    """Make the run on the server what was kept: made if it is not there, completed if it is.

    Points that the server has are not sent again. With a `status` the run ends.
    """
    wanted = f"tags.`{SPOOL_TAG}` = '{kept.spool_id}'"
    found = client.search_runs([experiment(client)], wanted, max_results=1)
    points = kept.points
    if found:
        run_id = str(found[0].info.run_id)
        send_params(client, run_id, kept.params)
        points = _missing(client, run_id, points)
        for key, value in kept.tags.items():
            client.set_tag(run_id, key, value)
    else:
        marked = kept.tags | {SPOOL_TAG: kept.spool_id}
        run_id = open_run(client, kept.name, params=kept.params, tags=marked, start=kept.start)
    send_points(client, run_id, points)
    for path, folder in kept.files:
        with storage_errors(path):
            client.log_artifact(run_id, str(path), folder or None)
    if status is not None:
        client.set_terminated(run_id, status, end_time=kept.last)
    return run_id


def _missing(client: Any, run_id: str, points: Sequence[Point]) -> list[Point]:
    """The points that the run lacks."""
    there: Counter[tuple[str, str, int, int]] = Counter()
    for key in sorted({point.key for point in points}):
        for old in client.get_metric_history(run_id, key):
            there[_identity(Point(key, old.value, old.timestamp, old.step))] += 1
    lacking = []
    for point in points:
        if there[_identity(point)]:
            there[_identity(point)] -= 1
        else:
            lacking.append(point)
    return lacking


def _identity(point: Point) -> tuple[str, str, int, int]:
    """A point as stores keep it: NaN is equal to NaN, infinity the largest number."""
    value = point.value
    if math.isinf(value):
        value = math.copysign(sys.float_info.max, value)
    return point.key, repr(value), point.time, point.step
