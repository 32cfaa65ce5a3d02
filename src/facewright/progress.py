"""Progress of long work: one moving line on a terminal, plain lines now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def say(message: str) -> None:
    """One line to a person, on standard error, so that standard output stays for results."""
    print(message, file=sys.stderr, flush=True)


def progress(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Pass `items` on, and tell how many are done, how fast, and how long the rest takes.

    `total` is None where nobody knows it: then how long the rest takes is not told.

    On a terminal the line is drawn again twice a second; elsewhere a line is written every
    fifteen seconds and one at the end.
    """
    terminal = sys.stderr.isatty()
    pause = 0.5 if terminal else 15.0
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= pause:
            last = now
            _draw(label, done, total, now - start, terminal)
    _draw(label, done, total, time.monotonic() - start, terminal)
    if terminal:
        print(file=sys.stderr, flush=True)


def _draw(label: str, done: int, total: int | None, seconds: float, terminal: bool) -> None:
    rate = done / seconds if seconds > 0 else 0.0
    left = f", {(total - done) / rate:.0f} s left" if total and rate and done < total else ""
    text = f"{label}: {done}{f'/{total}' if total is not None else ''}, {rate:.1f}/s{left}"
    if terminal:
        print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)
    else:
        say(text)
