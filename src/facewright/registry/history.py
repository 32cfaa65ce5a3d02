"""What people read of the registry: its history, two versions side by side, one version explained.

All of it is plain text, at most 99 columns wide.
"""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from facewright.errors import EvaluationError, RegistryError
from facewright.evaluation import comparison
from facewright.evaluation.record import people_of
from facewright.registry.chain import Entry, Ledger
from facewright.registry.evidence import SEED
from facewright.registry.gate import gain_of
from facewright.registry.ledger import CHECK, read_ledger
from facewright.registry.lineage import UNKNOWN
from facewright.registry.server import registry_errors
from facewright.registry.tracking import connect
from facewright.registry.versions import (
    DIGEST,
    OUTCOME,
    PAIRS,
    PARENT_RUN,
    PARENTS,
    Version,
    all_versions,
    get_aliases,
    get_decision,
    get_scores,
    get_version,
)

WIDTH = 99  # columns
SHOWN = 24  # characters of a name in a table
ENDS = ("_low", "_high")  # of the keys of an interval
VERDICTS = {
    comparison.BETTER: "better",
    comparison.WORSE: "worse",
    comparison.UNCLEAR: "no evidence of a difference",
}
ORIGIN = {  # tags, and what people call them
    "facewright.data_md5": "data (md5)",
    "facewright.git_commit": "git commit",
    "facewright.params_digest": "parameters",
    "facewright.code_digest": "code",
    "facewright.data_digest": "crops",
    PAIRS: "pairs",
    DIGEST: "content",
    PARENT_RUN: "training run",
}


def history(model: str) -> str:
    """Every entry of the ledger, and the versions that it does not know.

    Raises:
        RegistryError: the server cannot be used, or there is no such model.
    """
    client = connect()
    with registry_errors(f"the history of {model} cannot be read"):
        aliases = _by_version(get_aliases(client, model))
        ledger = read_ledger(client, model)
        versions = all_versions(client, model)
    last = {entry.version: entry.number for entry in ledger.entries}
    rows = [["#", "version", "when (UTC)", "who", "action", "gate"]]
    whys = []
    for entry in ledger.entries:
        names = aliases.get(entry.version, "") if last[entry.version] == entry.number else ""
        gone = "" if entry.version in versions else " (deleted)"
        who, when = _cut(entry.actor, SHOWN), entry.time[:16].replace("T", " ")
        version = f"{entry.version}{gone}"
        rows.append([str(entry.number), version, when, who, entry.action, entry.outcome])
        whys.append(f"{names}{entry.reason}")
    for number, unknown in versions.items():
        if number not in last:
            rows.append(["-", str(number), "", "", "", unknown.tags.get(OUTCOME, "")])
            whys.append(f"{aliases.get(number, '')}not in the ledger")
    if len(rows) == 1:
        return f"{model} has no versions"
    header, *lines = _columns(rows)
    text = [header]
    for line, why in zip(lines, whys, strict=True):
        text += [line, f"     {_cut(why, WIDTH - 5)}"]
    return "\n".join([*text, *_warning(ledger)])


def compare(model: str, first: int, second: int) -> str:
    """The figures of two versions side by side, each with its interval, and which serves better.

    Where the versions were measured on different pairs it says so, and takes no difference.

    Raises:
        RegistryError: the server cannot be used, there is no such version or no figure of it, or
            its scores or its decision were edited.
    """
    client = connect()
    with registry_errors(f"versions of {model} cannot be compared"):
        versions = [get_version(client, model, number) for number in (first, second)]
        figures = [_figures(client, version) for version in versions]
        pairs = [version.tags.get(PAIRS, "") for version in versions]
        same = pairs[0] == pairs[1] != ""
        verdict = _by_pairs(client, *versions) if same else []
    rows = [["figure", f"version {first}", f"version {second}", *(["change"] if same else [])]]
    for key in sorted({*figures[0], *figures[1]}, key=_by_recognizer):
        if _is_end(key, {*figures[0], *figures[1]}):
            continue
        row = [_cut(key, 38), *(_with_interval(values, key) for values in figures)]
        if same:
            row.append(_change(figures[0].get(key), figures[1].get(key)))
        rows.append(row)
    lines = [f"{model} version {v.version}{_in_brackets(v)}, serves {v.serve}" for v in versions]
    if same:
        lines += [f"both on the same pairs ({pairs[0][:12]})", *verdict]
    else:
        shown = [value[:12] or UNKNOWN for value in pairs]
        lines.append(
            f"THE PAIRS DIFFER ({shown[0]}, {shown[1]}): the figures say nothing of each other"
        )
    return "\n".join([*lines, "", *_columns(rows, right=1)])


def _by_pairs(client: Any, first: Version, second: Version) -> list[str]:
    """Whether what the second serves is better than what the first serves, pair by pair, as the
    policy that the second was judged by asks, but with no loss allowed and no others counted."""
    policy = get_decision(client, second).policy.get("champion") if second.evidence else None
    if policy is None:
        return [
            f"not compared by pairs: no policy stands in a decision on version {second.version}"
        ]
    old, new = (get_scores(client, version) for version in (first, second))
    if old is None or new is None:
        return ["not compared by pairs: scores of both were not kept"]
    try:
        found = comparison.compare(
            new,
            old,
            identities=people_of(new),
            fmr_target=policy["fmr"],
            level=policy["level"],
            bootstrap=policy["bootstrap"],
            seed=SEED,
        )
    except EvaluationError as error:
        return _wrapped(f"not compared by pairs: {error}", indent=0)
    lines = []
    figures = {"accuracy": found.accuracy, f"FNMR at FMR {found.fmr_target:g}": found.fnmr}
    for name, one in figures.items():
        said = f"version {second.version} against {first.version} by pairs, {name}: "
        if one is None:
            said += "too few pairs"
        else:
            sure = f"at {100 * (1 - found.level):.4g}%"
            said += f"{VERDICTS[one.verdict]} {sure}: {gain_of(one)}"
        lines += _wrapped(said, indent=0)
    return lines


def explain(model: str, version: int) -> str:
    """Where a version comes from, what the gate found rule by rule, and what the ledger says.

    Raises:
        RegistryError: the server cannot be used, there is no such version, or its decision was
            edited.
    """
    client = connect()
    with registry_errors(f"{model} version {version} cannot be explained"):
        chosen = get_version(client, model, version)
        ledger = read_ledger(client, model)
        entries = [entry for entry in ledger.entries if entry.version == version]
        decision = get_decision(client, chosen).values() if chosen.evidence else None
    lines = [f"{model} version {version}{_in_brackets(chosen)}, serves {chosen.serve}", ""]
    origin = [[name, chosen.tags.get(tag, UNKNOWN)] for tag, name in ORIGIN.items()]
    origin += [["started from", chosen.tags.get(PARENTS, "no registered version")]]
    origin += [["files", f"MLflow run {chosen.run_id}"]]
    lines += ["Made from", *(f"  {line}" for line in _columns(origin))]
    lines += ["", *_gate(decision, chosen)]
    if decision and not ledger.decided(
        version, evidence=chosen.evidence, outcome=decision["outcome"]
    ):
        lines.append("  THIS IS NOT THE LAST DECISION ON IT IN THE LEDGER")
    lines += ["", "Ledger"]
    for entry in entries:
        lines += _entry(entry, chosen)
    return "\n".join([*lines, *([] if entries else ["  nothing"]), *_warning(ledger)])


def _gate(decision: Mapping[str, Any] | None, version: Version) -> list[str]:
    """The decision that counts, a rule after the other, in whatever order the gate took them."""
    if decision is None:
        return ["Gate", "  it passed none"]
    compared = decision["champion"]
    against = f"compared with version {compared}" if compared else "there was no champion"
    lines = [f"Gate: {decision['outcome']}, {against} (evidence {version.evidence[:12]})"]
    for rule in decision["rules"]:
        found = rule["result"]
        lines += _wrapped(f"{found:7}  {rule['name']}: {rule['evidence']}")
    return lines


def _entry(entry: Entry, version: Version) -> list[str]:
    head = f"{entry.number}  {entry.time}  {entry.action} by {entry.actor}, key {entry.key}"
    before = entry.previous_champion
    if entry.action in ("promote", "rollback"):
        head += f", after version {before}" if before else ", when there was no champion"
    lines = [*_wrapped(head), *_wrapped(entry.reason, indent=5)]
    if entry.lineage != version.lineage:
        lines += _wrapped("THE TAGS OR THE RUN ABOVE ARE NOT THOSE THAT WERE ENTERED", indent=5)
    return lines


def _figures(client: Any, version: Version) -> dict[str, float]:
    if not version.run_id:
        raise RegistryError(f"{version.model} version {version.version} has no run with figures")
    return dict(client.get_run(version.run_id).data.metrics)


def _with_interval(values: Mapping[str, float], key: str) -> str:
    if key not in values:
        return "none"
    low, high = (values.get(key + end) for end in ENDS)
    interval = "" if low is None or high is None else f" [{_number(low)}, {_number(high)}]"
    return _number(values[key]) + interval


def _change(first: float | None, second: float | None) -> str:
    if first is None or second is None or math.isnan(first) or math.isnan(second):
        return ""
    return _number(0.0) if first == second else f"{second - first:+.3g}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _is_end(key: str, keys: Collection[str]) -> bool:
    """Whether it is an end of another figure's interval, which is shown with that."""
    return key.endswith(ENDS) and key.rpartition("_")[0] in keys


def _by_recognizer(key: str) -> tuple[str, str]:
    recognizer, _, figure = key.partition(".")
    return recognizer, figure


def _by_version(aliases: Mapping[str, int]) -> dict[int, str]:
    """`[champion] ` before what is said of a version."""
    return {
        number: f"[{', '.join(sorted(name for name, of in aliases.items() if of == number))}] "
        for number in aliases.values()
    }


def _in_brackets(version: Version) -> str:
    return f" ({', '.join(sorted(version.aliases))})" if version.aliases else ""


def _warning(ledger: Ledger) -> list[str]:
    return ["", _cut(f"THE LEDGER DOES NOT VERIFY: {CHECK}", WIDTH)] if ledger.faults else []


def _columns(rows: Sequence[Sequence[str]], *, right: int = 99) -> list[str]:
    """Aligned lines; columns from `right` on to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _cut(
            "  ".join(
                cell.ljust(width) if i < right else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip(),
            WIDTH,
        )
        for row in rows
    ]


def _wrapped(text: str, *, indent: int = 2) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 3),
        break_on_hyphens=False,
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
