"""Great Expectations: the rules as suites, run on their tables, with Data Docs to read."""

import html
import os
import re
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
