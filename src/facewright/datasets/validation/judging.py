"""Verdicts: rules, a user's own expectations and a person's decisions, on photos and identities."""

from dataclasses import dataclass

import pandas as pd

from facewright.datasets.validation.cleaning import Decisions
from facewright.datasets.validation.expectations import Expectations, OwnSuite, Rejections, Suite
from facewright.datasets.validation.rules import Rule, Rules
from facewright.datasets.validation.tables import identity_table, reject, usable
from facewright.errors import DatasetError


@dataclass(frozen=True)
class Examiner:
    """Runs the suite of a table, and the user's own for that table."""

    expectations: Expectations
    own: dict[str, OwnSuite]

    def examine(self, suite: Suite) -> Rejections:
        """Returns the rows that the user's own suite rejects, by reason."""
        self.expectations.run(suite)
        own = self.own.get(suite.name)
        return self.expectations.run_own(own, suite) if own else {}


def judge_photos(
    train: pd.DataFrame,
    verify: pd.DataFrame,
    *,
    rules: Rules,
    decisions: Decisions,
    examiner: Examiner,
) -> None:
    """Set status and reason of every photo by the first rule that it breaks.

    Raises:
        DatasetError: a person keeps a photo that a hard rule rejects.
    """
    for rule in (rule for rule in rules.train if rule.in_train):
        kept = decisions.kept & (not rule.hard)
        reject(train, rule.broken(train).to_numpy() & ~kept, reason=rule.reason)
    for rule in (rule for rule in rules.verify if rule.in_verify):
        reject(verify, rule.broken(verify).to_numpy(), reason=rule.reason)
    decisions.check_kept(train["reason"])
    own = examiner.examine(Suite("train_images", train, rules.train, index="id"))
    for reason, rows in own.items():
        reject(train, rows & ~decisions.kept, reason=reason)
    own = examiner.examine(Suite("verify_images", verify, rules.verify, index="id"))
    for reason, rows in own.items():
        reject(verify, rows, reason=reason)


def judge_identities(
    train: pd.DataFrame, *, rules: Rules, decisions: Decisions, examiner: Examiner
) -> None:
    """Reject all photos of the identities that break a rule, but for those that a person keeps.

    Adds to `train` the columns of the rules that reject nothing: a photo has its identity's values.
    """
    table = identity_table(train)
    for rule in rules.noticed:
        values = table.set_index("identity")[rule.column].astype("float32")
        train[rule.column] = train["identity"].map(values)
    broken = {
        rule.reason: rule.broken(table).to_numpy() for rule in rules.identities if rule.in_train
    }
    suite = Suite("train_identities", table, rules.identities, index="identity")
    broken |= examiner.examine(suite)
    for reason, rows in broken.items():
        theirs = train["identity"].isin(table.loc[rows, "identity"]).to_numpy()
        reject(train, theirs & ~decisions.kept, reason=reason)


def judge_sets(
    train: pd.DataFrame,
    verify: pd.DataFrame,
    *,
    pairs: int,
    overlap: int,
    rules: Rules,
    examiner: Examiner,
) -> None:
    """Refuse sets from which nothing can be learnt; `overlap`: training identities dropped for it.

    Raises:
        DatasetError: a rule on sets is broken.
    """
    table = pd.DataFrame(
        {
            "set": ["train", "verify"],
            "images": [len(train), len(verify)],
            "identities": [usable(train)["identity"].nunique(), verify["identity"].nunique()],
            "overlap": [overlap / train["identity"].nunique(), None],
            "pairs": [None, pairs],
        }
    )
    for rule in rules.sets:
        _refuse(table, rule)
    examiner.examine(Suite("sets", table, rules.sets, index="set"))


def _refuse(table: pd.DataFrame, rule: Rule) -> None:
    for row in table[rule.broken(table)].to_dict("records"):
        limit = f"at least {rule.low:g}" if rule.high is None else f"at most {rule.high:g}"
        raise DatasetError(
            f"the {row['set']} set: {rule.says.rstrip('.').lower()}: {row[rule.column]:g}, "
            f"needed {limit}: {rule.mend}"
        )
