"""Data Docs: pages that need no network and have the same bytes for the same verdicts."""

import html
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.datasets.validation.expectations import RUN_TIME, Outcome
from facewright.files import storage_errors

SHOWN = 3  # rows named per line of the index; the pages name more

_REMOTE = [
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<style\b.*?</style>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<nav class=\"navbar.*?</nav>\s*</div>\s*</nav>", re.DOTALL),
    re.compile(r"<footer.*?</footer>", re.DOTALL),
]
_TAG = re.compile(r"<[^>]*>")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z")
STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { border: 1px solid #bbb; padding: .3em .6em; text-align: left; vertical-align: top; }
ul { padding-inline-start: 20px; }
.navbar, .breadcrumb { list-style: none; }
</style>"""


def make_portable(folder: Path) -> None:
    """Make the pages of Great Expectations below `folder` need no network, and repeat.

    What they would load from other servers, a logo with a time stamp among it, is replaced by a
    style sheet of a few lines.
    """
    with storage_errors(folder):
        shutil.rmtree(folder / "static", ignore_errors=True)  # fonts and pictures of tutorials
        for page in sorted(folder.rglob("*.html")):
            text = page.read_text(encoding="utf-8")
            for pattern in _REMOTE:
                text = pattern.sub("", text)
            text = _renumber(text)
            text = _TIME.sub(RUN_TIME.strftime("%Y%m%dT%H%M%S.%fZ"), text)
            page.write_text(text.replace("</head>", f"{STYLE}</head>"), encoding="utf-8")


def _renumber(text: str) -> str:
    """Number what a page's tags call each other: drawn at random, and only told apart by it."""
    numbers: dict[str, str] = {}

    def number(name: re.Match[str]) -> str:
        return numbers.setdefault(name[0], f"part-{len(numbers)}")

    # Only within tags: a photo may be named by such an identifier too.
    return _TAG.sub(lambda tag: _UUID.sub(number, tag[0]), text)


def write_index(folder: Path, outcomes: list[Outcome], *, troubles: dict[str, str]) -> None:
    """Write `index.html` beside the pages of Great Expectations.

    `troubles` are pages of thumbnails to link: title → path below `folder`.
    """
    with storage_errors(folder):
        page = _index(folder, outcomes, troubles)
        (folder / "index.html").write_text(page, encoding="utf-8")


def _index(folder: Path, outcomes: list[Outcome], troubles: dict[str, str]) -> str:
    """Links to the thumbnails, and a line per expectation, those that do not hold first."""
    pages = {page.stem: page for page in sorted((folder / "validations").rglob("*.html"))}
    held: list[str] = []
    broken: list[str] = []
    for outcome in outcomes:
        page = pages[f"facewright-{outcome.name}"].relative_to(folder).as_posix()
        named = f'<a href="{html.escape(page)}">{html.escape(outcome.name)}</a>'
        says = {rule.reason: rule.says for rule in outcome.rules}
        for one in outcome.result.results:
            cells = _cells(one, says, names=outcome.names)
            (held if one.success else broken).append(
                f"<tr><td>{named}</td>"
                + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
                + "</tr>"
            )
    head = "".join(
        f"<th>{name}</th>"
        for name in (
            "table",
            "column",
            "reason",
            "what",
            "least",
            "most",
            "rows",
            "such as",
            "verdict",
        )
    )
    links = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(title)}</a></li>'
        for title, path in troubles.items()
    )
    seen = f"<h2>Look</h2><ul>{links}</ul><h2>All that was asked</h2>" if links else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>'
        f"{STYLE}</head><body><h1>Data Docs</h1><p>What the photos were asked, and which rows "
        f"did not answer. A table's name leads to what Great Expectations says of it.</p>"
        f"{seen}<table><tr>{head}</tr>{''.join(broken + held)}</table></body></html>\n"
    )


def _cells(one: Any, says: dict[str, str], *, names: "pd.Series[str]") -> list[object]:
    """The line of one expectation: column, reason, what, least, most, rows, such as, verdict."""
    config = one.expectation_config
    limits, meta = config.kwargs, config.meta or {}
    reason = meta.get("reject") or meta.get("reason", "own")
    least, most = limits.get("min_value"), limits.get("max_value")
    broken = one.result.get("unexpected_count")
    examples = one.result.get("partial_unexpected_index_list") or []
    return [
        limits.get("column", ""),
        reason,
        says.get(reason) or config.notes or config.type.replace("_", " "),
        f"{least:g}" if isinstance(least, int | float) else least or "",
        f"{most:g}" if isinstance(most, int | float) else most or "",
        "" if broken is None else f"{broken} of {one.result.get('element_count', 0)}",
        ", ".join(str(names.iloc[row]) for row in examples[:SHOWN]),
        "holds" if one.success else "broken",
    ]
