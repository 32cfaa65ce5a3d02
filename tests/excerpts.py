"""Excerpts of YAML in guides, held against what programs print.

In an excerpt a line `…` stands for lines that are left out, all indented at least as far as it is:
so that what it shows below a key is below that key.
"""

import re
from pathlib import Path

LEFT_OUT = "…"


def excerpts(guide: Path, language: str = "yaml") -> list[str]:
    """The fenced blocks of a guide in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text("utf-8"), re.M | re.S)


def misfit(excerpt: str, document: str) -> str | None:
    """The first line of the excerpt that the document does not have there; none when it fits."""
    lines, at, depth = document.splitlines(), 0, None
    for shown in excerpt.splitlines():
        if shown.strip() == LEFT_OUT:
            depth = _indent(shown)
            continue
        while depth is not None and at < len(lines) and lines[at] != shown:
            if lines[at] and _indent(lines[at]) < depth:
                return shown
            at += 1
        if at == len(lines) or lines[at] != shown:
            return shown
        at, depth = at + 1, None
    return None if at == len(lines) or depth == 0 else lines[at]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
