"""Pieces of HTML that the sections of the report are made of. What comes in as text is escaped."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

Line = tuple[str, Sequence[str]]  # a name, escaped here, and cells that are HTML already


def section(heading: str, *content: str) -> str:
    return (
        f'<section id="{anchor(heading)}"><h2>{escape(heading)}</h2>\n'
        + "\n".join(content)
        + "</section>"
    )


def anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def subheading(words: str) -> str:
    return f"<h3>{escape(words)}</h3>"


def paragraph(words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{escape(words)}</p>"


def fine(words: str) -> str:
    """What explains figures: smaller and softer."""
    return paragraph(words, "fine")


def bullets(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(words)}</li>" for words in lines) + "</ul>"


def figure(plot: str, caption: str = "") -> str:
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{words}{plot}</figure>"


def panels(figures: Sequence[str], *, small: bool = False) -> str:
    """Figures side by side, as many as the page is wide enough for: two, or three small ones."""
    return f'<div class="panels{" small" * small}">{"".join(figures)}</div>'


def figures_behind(words: str, content: str) -> str:
    """Content that opens at a click, and is open in print."""
    return f"<details><summary>{escape(words)}</summary>{content}</details>"


def table(head: Sequence[str], lines: Sequence[Line]) -> str:
    """A table; lines of one name that follow each other share it."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    rows = []
    for number, (name, cells) in enumerate(lines):
        named = ""
        if not number or lines[number - 1][0] != name:
            end = next((n for n in range(number, len(lines)) if lines[n][0] != name), len(lines))
            several = f'group" rowspan="{end - number}' if end - number > 1 else ""
            named = f'<th scope="row{several}">{escape(name)}</th>'
        rows.append("<tr>" + named + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def plain_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of mappings, column title → value."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    return table(
        head,
        [
            (cell(row.get(head[0])), [escape(cell(row.get(key))) for key in head[1:]])
            for row in rows
        ],
    )


def facts(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(cell(value) or '–')}</dd></div>"
        for key, value in values.items()
    )
    return f"<dl>{items}</dl>"


def with_interval(value: str, interval: str) -> str:
    """A figure and below it its interval, as a cell."""
    small = f"<small>{escape(interval)}</small>" if interval else ""
    return escape(value) + small


def with_words(value: str, words: str) -> str:
    """A figure and below it words, which may go over several lines."""
    return f'{escape(value)}<small class="words">{escape(words)}</small>'


def cell(value: Any) -> str:
    """A value as text, not yet escaped."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.7g}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return str(value)


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
