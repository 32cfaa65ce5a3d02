"""Great Expectations: the rules as suites that a user can open, and suites of a user's own.

A suite of one's own lies in `data/expectations/TABLE.json`, as Great Expectations writes it; a
copy of what `validate` wrote to `expectations/TABLE.json` is a good start. An expectation whose
meta has `"reject": "REASON"` rejects the rows that break it; any other is only noticed.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.validation.rules import Rule
from facewright.errors import DatasetError
from facewright.files import storage_errors, write_json

# A fixed time, so that the same verdicts give the same pages.
RUN_TIME = datetime(2000, 1, 1, tzinfo=UTC)
EXAMPLES = 20  # rows named per broken expectation

TABLES = ("train_images", "train_identities", "verify_images", "sets", "cards", "drift")
REJECTING = TABLES[:3]  # tables whose rows can be rejected
REASON = re.compile(r"[a-z][a-z0-9_]*")

Json = dict[str, Any]
Rejections = dict[str, npt.NDArray[np.bool_]]  # reason → rows


@dataclass(frozen=True)
class Suite:
    """A table, the rules that hold for it, and the columns that must be filled."""

    name: str  # one of TABLES
    table: pd.DataFrame
    rules: list[Rule]
    index: str  # the column that names a row
    present: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations found on one suite, `name` as its page is named."""

    name: str
    rules: list[Rule]
    names: "pd.Series[str]"  # of the rows, by number
    result: Any


@dataclass(frozen=True)
class OwnSuite:
    """A user's suite: the JSON of its file."""

    path: Path
    values: Json

    def refuse(self, what: str) -> NoReturn:
        raise DatasetError(f"{self.path}: {what}")


def read_own_suites(folder: Path, *, taken: set[str]) -> dict[str, OwnSuite]:
    """The suites `TABLE.json` in `folder`, by table; none if there is no folder.

    Great Expectations itself looks at the expectations only when they run.

    Raises:
        DatasetError: a file is no suite or for no table, or rejects for a reason that is no word,
            is `taken`, or where nothing can be rejected.
    """
    found = {}
    for path in sorted(folder.glob("[!.]*.json")):
        if path.stem not in TABLES:
            raise DatasetError(
                f"{path}: no table is named so: rename it to one of {', '.join(TABLES)}"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # also text that is not UTF-8
            raise DatasetError(
                f"{path} cannot be read as JSON: {error}: copy "
                f"artifacts/validate/expectations/{path.name} anew"
            ) from error
        own = OwnSuite(path, values)
        listed = values.get("expectations") if isinstance(values, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            own.refuse(
                "no suite of Great Expectations, which has a list `expectations`: copy "
                f"artifacts/validate/expectations/{path.name} anew"
            )
        for one in listed:
            meta = one.get("meta") or {}
            if not isinstance(meta, dict):
                own.refuse('meta must be {"reject": "REASON"} or absent')
            if "reject" not in meta:
                continue
            reason = meta["reject"]
            if path.stem not in REJECTING:
                own.refuse(f"rows are rejected only in {', '.join(REJECTING)}: remove `reject`")
            if not isinstance(reason, str) or not REASON.fullmatch(reason):
                own.refuse(f"reject {reason!r} is no reason: use a word such as `too_old`")
            if reason in taken:
                own.refuse(f"reject {reason!r} is a reason of `validate` itself: use another word")
        found[path.stem] = own
    return found


@dataclass
class Expectations:
    """Runs suites in a context in memory; nothing is sent anywhere.

    `pages` is where `build` writes the pages of Great Expectations, `suites` where the built-in
    suites are written as JSON.
    """

    pages: Path
    suites: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        import great_expectations as gx

        self._gx = gx
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        self._context.delete_data_docs_site("local_site")  # it would write to a temporary folder
        self._context.add_data_docs_site(
            "data_docs",
            {
                "class_name": "SiteBuilder",
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(self.pages.resolve()),
                },
            },
        )
        self._source = self._context.data_sources.add_pandas("facewright")

    @property
    def failed(self) -> int:
        """How many expectations are broken."""
        return sum(one.result.statistics["unsuccessful_expectations"] for one in self.outcomes)

    def run(self, suite: Suite) -> None:
        """Run the rules of `suite`, and write them as JSON."""
        made = self._built_in(suite)
        self.suites.mkdir(parents=True, exist_ok=True)
        write_json(self.suites / f"{suite.name}.json", made.to_json_dict())
        used = dict.fromkeys([suite.index, *(rule.column for rule in suite.rules), *suite.present])
        table = suite.table[list(used)].reset_index(drop=True)
        result = self._run(suite.name, made, table, page=True)
        self.outcomes.append(Outcome(suite.name, suite.rules, table[suite.index], result))

    def run_own(self, own: OwnSuite, suite: Suite) -> Rejections:
        """Run a user's expectations on the table of `suite`; returns the rows that they reject.

        Raises:
            DatasetError: Great Expectations does not know one of them, or a column of theirs.
        """
        name = f"{suite.name}_own"
        table = suite.table.reset_index(drop=True)
        result = self._run(name, self._own(own, name), table, page=True)
        for one in result.results:
            if failure := _exception(one):
                config = one.expectation_config
                column = config.kwargs.get("column")
                if column is not None and column not in table:
                    failure = f"no column {column!r}, there are {', '.join(map(str, table))}"
                own.refuse(f"{config.type}: {failure}: correct or remove that expectation")
        self.outcomes.append(Outcome(name, [], table[suite.index], result))
        rejecting = [
            one for one in own.values["expectations"] if (one.get("meta") or {}).get("reject")
        ]
        if not rejecting:
            return {}
        only = OwnSuite(own.path, own.values | {"expectations": rejecting})
        whole = self._run(f"{name}_rows", self._own(only, f"{name}_rows"), table, page=False)
        rejections: Rejections = {}
        for one in whole.results:
            rows = one.result.get("unexpected_index_list")
            if rows is None and not one.success:
                own.refuse(f"{one.expectation_config.type} is not about rows: remove `reject`")
            reason = one.expectation_config.meta["reject"]
            broken = rejections.setdefault(reason, np.zeros(len(table), bool))
            broken[np.array(rows or [], np.int64)] = True
        return rejections

    def build(self) -> None:
        """Write the pages of Great Expectations."""
        with storage_errors(self.pages):
            self._context.build_data_docs(site_names=["data_docs"])

    def _run(self, name: str, suite: Any, table: pd.DataFrame, *, page: bool) -> Any:
        """With `page`, for the pages and with examples; else with the number of every row."""
        from great_expectations.core.run_identifier import RunIdentifier

        asset = self._source.add_dataframe_asset(name)
        definition = self._gx.ValidationDefinition(
            name=name,
            data=asset.add_batch_definition_whole_dataframe("whole"),
            suite=self._context.suites.add(suite),
        )
        # The query would list every row that is broken, in words.
        wanted: Json = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
        if page:
            definition = self._context.validation_definitions.add(definition)
            # Rows by number: their names, from a column, would take 50 µs for each that is broken.
            wanted |= {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        return definition.run(
            batch_parameters={"dataframe": table},
            run_id=RunIdentifier(run_name="validate", run_time=RUN_TIME),
            result_format=wanted,
        )

    def _built_in(self, suite: Suite) -> Any:
        gx = self._gx
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
            gx.expectations.ExpectColumnValuesToNotBeNull(
                column=name, notes="Stated on the dataset's card.", meta={"reason": "missing"}
            )
            for name in suite.present
        ]
        return gx.ExpectationSuite(suite.name, expectations=expectations)

    def _own(self, own: OwnSuite, name: str) -> Any:
        from great_expectations.expectations.expectation_configuration import (
            ExpectationConfiguration,
        )

        # A suite leaves out what it does not know, and only writes a line into a log.
        try:
            expectations = [
                ExpectationConfiguration(**{k: v for k, v in one.items() if k != "id"})
                for one in own.values["expectations"]
            ]
            return self._gx.ExpectationSuite(
                name, expectations=[one.to_domain_obj() for one in expectations]
            )
        except Exception as error:  # it has no class of its own for all that can be wrong here
            said = " ".join(str(error).split())
            own.refuse(
                f"Great Expectations refuses the suite: {said}: correct or remove that expectation"
            )


def _exception(one: Any) -> str:
    """What Great Expectations stumbled over while it ran an expectation, empty if nothing."""
    told = one.exception_info or {}
    for info in [told, *(value for value in told.values() if isinstance(value, dict))]:
        if info.get("raised_exception"):
            return " ".join(str(info.get("exception_message")).split())
    return ""
