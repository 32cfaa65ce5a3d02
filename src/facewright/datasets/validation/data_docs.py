"""Data Docs: pages that need no network and have the same bytes for the same verdicts."""

import html
import re
import shutil
from pathlib import Path
from typing import Any

from facewright.datasets.validation.expectations import RUN_TIME, Outcome
from facewright.files import storage_errors


def finish_data_docs(folder: Path, outcomes: list[Outcome], *, troubles: dict[str, str]) -> None:
    """Make the pages of Great Expectations below `folder` portable, and write `index.html`.

    What they would load from other servers, a logo with a time stamp among it, is replaced by a
    style sheet of a few lines. `troubles` are pages of thumbnails to link: title → path below
    `folder`.
    """
    with storage_errors(folder):
        _make_portable(folder)
        page = _index(folder, outcomes, troubles)
        (folder / "index.html").write_text(page, encoding="utf-8")


_REMOTE = [
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<style\b.*?</style>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<nav class=\"navbar.*?</nav>\s*</div>\s*</nav>", re.DOTALL),
    re.compile(r"<footer.*?</footer>", re.DOTALL),
]
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z")
STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { border: 1px solid #bbb; padding: .3em .6em; text-align: left; vertical-align: top; }
ul { padding-inline-start: 20px; }
.navbar, .breadcrumb { list-style: none; }
</style>"""


def _make_portable(folder: Path) -> None:
    shutil.rmtree(folder / "static", ignore_errors=True)  # fonts and pictures of tutorials
    for page in sorted(folder.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        for pattern in _REMOTE:
            text = pattern.sub("", text)
        # Identifiers are drawn at random and only have to differ within their page.
        for number, name in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(name, f"part-{number}")
        text = _TIME.sub(RUN_TIME.strftime("%Y%m%dT%H%M%S.%fZ"), text)
        page.write_text(text.replace("</head>", f"{STYLE}</head>"), encoding="utf-8")


def _index(folder: Path, outcomes: list[Outcome], troubles: dict[str, str]) -> str:
    """One table with a line per expectation, and links to the pages of each suite."""
    pages = {page.stem: page for page in sorted((folder / "validations").rglob("*.html"))}
    rows = []
    for outcome in outcomes:
        page = pages[f"facewright-{outcome.name}"].relative_to(folder).as_posix()
        named = f'<a href="{html.escape(page)}">{html.escape(outcome.name)}</a>'
        says = {rule.reason: rule.says for rule in outcome.rules}
        for one in outcome.result.results:
            cells = _cells(one, says)
            rows.append(
                f"<tr><td>{named}</td>"
                + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
                + "</tr>"
            )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("table", "column", "reason", "what", "least", "most", "rows", "verdict")
    )
    links = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(title)}</a></li>'
        for title, path in troubles.items()
    )
    seen = f"<h2>Thumbnails</h2><ul>{links}</ul>" if links else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>'
        f"{STYLE}</head><body><h1>Data Docs</h1><p>What the photos were asked, and which rows "
        f"did not answer. A table's name leads to its page, with examples.</p>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>{seen}</body></html>\n"
    )


def _cells(one: Any, says: dict[str, str]) -> list[object]:
    """The line of one expectation: column, reason, what, least, most, rows, verdict."""
    config = one.expectation_config
    limits, meta = config.kwargs, config.meta or {}
    reason = meta.get("reject") or meta.get("reason", "own")
    least, most = limits.get("min_value"), limits.get("max_value")
    broken = one.result.get("unexpected_count")
    return [
        limits.get("column", ""),
        reason,
        says.get(reason) or config.notes or config.type.replace("_", " "),
        f"{least:g}" if isinstance(least, int | float) else least or "",
        f"{most:g}" if isinstance(most, int | float) else most or "",
        "" if broken is None else f"{broken} of {one.result.get('element_count', 0)}",
        "holds" if one.success else "broken",
    ]
