"""Great Expectations: the rules as suites, run on their tables, with Data Docs to read."""

import html
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.datasets.rules import Rule
from facewright.files import storage_errors

# A fixed time, so that the same verdicts give the same pages.
RUN_TIME = datetime(2000, 1, 1, tzinfo=UTC)
EXAMPLES = 20  # rows named per broken expectation


@dataclass(frozen=True)
class Suite:
    """A table, the rules that hold for it, and the columns that must be filled."""

    name: str
    table: pd.DataFrame
    rules: list[Rule]
    index: str  # the column that names a row
    present: tuple[str, ...] = ()


def write_data_docs(folder: Path, suites: list[Suite]) -> int:
    """Run `suites` and write their pages below `folder`; returns how many expectations failed.

    The context lives in memory, and nothing is sent anywhere. The pages need no network: what
    Great Expectations would load from other servers, its logo with a time stamp among it, is
    replaced by a style sheet of a few lines.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when it is imported
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    folder.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.delete_data_docs_site("local_site")  # it would write into a temporary folder
    context.add_data_docs_site(
        "data_docs",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder.resolve()),
            },
        },
    )
    source = context.data_sources.add_pandas("facewright")
    results = []
    for suite in suites:
        asset = source.add_dataframe_asset(suite.name)
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(
                name=suite.name,
                data=asset.add_batch_definition_whole_dataframe("whole"),
                suite=context.suites.add(_expectations(gx, suite)),
            )
        )
        result = definition.run(
            batch_parameters={"dataframe": suite.table},
            run_id=RunIdentifier(run_name="validate", run_time=RUN_TIME),
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": EXAMPLES,
                "unexpected_index_column_names": [suite.index],
            },
        )
        results.append(result)
    with storage_errors(folder):
        context.build_data_docs(site_names=["data_docs"])
        _make_portable(folder, suites, results)
    return sum(result.statistics["unsuccessful_expectations"] for result in results)


def _expectations(gx: Any, suite: Suite) -> Any:
    expectations = [
        gx.expectations.ExpectColumnValuesToBeBetween(
            column=rule.column,
            min_value=rule.low,
            max_value=rule.high,
            notes=f"{rule.reason}: {rule.says}",
            meta={"reason": rule.reason},
        )
        for rule in suite.rules
    ]
    expectations += [
        gx.expectations.ExpectColumnValuesToNotBeNull(column=name) for name in suite.present
    ]
    return gx.ExpectationSuite(suite.name, expectations=expectations)


_REMOTE = [
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<style\b.*?</style>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<nav class=\"navbar.*?</nav>\s*</div>\s*</nav>", re.DOTALL),
    re.compile(r"<footer.*?</footer>", re.DOTALL),
]
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z")
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { border: 1px solid #bbb; padding: .3em .6em; text-align: left; vertical-align: top; }
ul { padding-inline-start: 20px; }
.navbar, .breadcrumb { list-style: none; }
</style>"""


def _make_portable(folder: Path, suites: list[Suite], results: list[Any]) -> None:
    """Pages that look the same without a network, and have the same bytes for the same verdicts."""
    shutil.rmtree(folder / "static", ignore_errors=True)  # fonts and pictures of tutorials
    for page in sorted(folder.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        for pattern in _REMOTE:
            text = pattern.sub("", text)
        # Identifiers are drawn at random and only have to differ within their page.
        for number, name in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(name, f"part-{number}")
        text = _TIME.sub(RUN_TIME.strftime("%Y%m%dT%H%M%S.%fZ"), text)
        page.write_text(text.replace("</head>", f"{_STYLE}</head>"), encoding="utf-8")
    (folder / "index.html").write_text(_index(folder, suites, results), encoding="utf-8")


def _index(folder: Path, suites: list[Suite], results: list[Any]) -> str:
    """One table with a line per expectation, and links to the pages of each suite."""
    pages = {page.stem: page for page in sorted((folder / "validations").rglob("*.html"))}
    rows = []
    for suite, result in zip(suites, results, strict=True):
        page = pages[f"facewright-{suite.name}"].relative_to(folder).as_posix()
        named = f'<a href="{html.escape(page)}">{html.escape(suite.name)}</a>'
        says = {rule.reason: rule.says for rule in suite.rules}
        for one in result.results:
            reason = one.expectation_config.meta.get("reason", "missing")
            broken = one.result.get("unexpected_count", 0)
            limits = one.expectation_config.kwargs
            cells = [
                limits["column"],
                reason,
                says.get(reason, "Stated on the dataset's card."),
                "" if limits.get("min_value") is None else f"{limits['min_value']:g}",
                "" if limits.get("max_value") is None else f"{limits['max_value']:g}",
                f"{broken} of {one.result.get('element_count', 0)}",
                "holds" if one.success else "broken",
            ]
            rows.append(
                f"<tr><td>{named}</td>"
                + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
                + "</tr>"
            )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("table", "column", "reason", "what", "least", "most", "rows", "verdict")
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>'
        f"{_STYLE}</head><body><h1>Data Docs</h1><p>What the photos were asked, and which rows "
        f"did not answer. A table's name leads to its page, with examples.</p>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table></body></html>\n"
    )
