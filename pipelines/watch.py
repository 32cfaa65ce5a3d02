"""Follow a run: a line whenever a step begins or ends, and now and then what is under way."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import kfp_server_api as api

from facewright.progress import say
from pipelines.server import Server

POLL_SECONDS = 10.0
STILL_SECONDS = 600.0  # without news until it is said what is under way
ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
WORDS = {"SUCCEEDED": "done", "FAILED": "FAILED", "SKIPPED": "skipped", "CANCELED": "cancelled"}


@dataclass(frozen=True)
class Outcome:
    """`state` is Kubeflow's, or empty where watching stopped before the run did."""

    state: str
    failed: tuple[str, ...]  # steps
    why: str  # the server's words, or empty
    seconds: float


def follow(server: Server, run_id: str, steps: Sequence[str], *, minutes: float | None) -> Outcome:
    """Tell what happens until the run ends, or for `minutes`.

    Raises:
        PipelineError: the server was away for too long, or does not know the run any more.
    """
    start = news = time.monotonic()
    seen: dict[str, str] = {}
    while True:
        run = server.run(run_id)
        states = _states(run, steps)
        now = time.monotonic()
        for step, (state, seconds) in states.items():
            if seen.get(step) != state:
                news = now
                seen[step] = state
                _tell(step, state, seconds, sum(one in ENDED for one in seen.values()), len(steps))
        if run.state in ENDED:
            failed = tuple(step for step, (state, _) in states.items() if state == "FAILED")
            return Outcome(run.state, failed, _why(run), now - start)
        if minutes is not None and now - start >= 60 * minutes:
            return Outcome("", (), "", now - start)
        if now - news >= STILL_SECONDS:
            news = now
            under_way = [step for step, state in seen.items() if state not in ENDED] or ["nothing"]
            # Kubeflow 2.17 says neither that a pod waits for room nor that its image is missing.
            say(
                f"under way: {', '.join(under_way)}; if that cannot be, look for an image that is "
                f"missing or a node that is full: kubectl -n {server.namespace or 'kubeflow'} "
                "get events"
            )
        time.sleep(POLL_SECONDS)


def _states(run: api.V2beta1Run, steps: Sequence[str]) -> dict[str, tuple[str, float | None]]:
    """State and seconds of each step that has begun, in the order of `steps`.

    A step that runs in parts is done when all of them are.
    """
    found: dict[str, tuple[str, float | None]] = {}
    details = run.run_details.task_details if run.run_details else None
    for task in details or []:
        if task.display_name in steps and task.state:
            lasted = None
            if task.state in ENDED and task.start_time and task.end_time:
                lasted = (task.end_time - task.start_time).total_seconds()
            part = (task.state, lasted)
            found[task.display_name] = max(found.get(task.display_name, part), part, key=_weight)
    return {step: found[step] for step in steps if step in found}


def _weight(part: tuple[str, float | None]) -> tuple[int, float]:
    """The heaviest part says how a step stands: one under way, else one that failed, else the
    longest."""
    state, seconds = part
    return 2 * (state not in ENDED) + (state == "FAILED"), seconds or 0.0


def _tell(step: str, state: str, seconds: float | None, ended: int, total: int) -> None:
    word = WORDS.get(state, state.lower())
    lasted = f" in {duration(seconds)}" if seconds and state in ("SUCCEEDED", "FAILED") else ""
    say(f"{time.strftime('%H:%M:%S')} [{ended:2}/{total}] {step:9} {word}{lasted}")


def _why(run: api.V2beta1Run) -> str:
    """What the server says of a failure; version 2.17 mostly says nothing."""
    errors = [run.error] if run.error else []
    if run.run_details:
        errors += [task.error for task in run.run_details.task_details or [] if task.error]
    return next((" ".join(one.message.split())[:300] for one in errors if one.message), "")


def duration(seconds: float) -> str:
    """`7 s`, `12 min` or `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
