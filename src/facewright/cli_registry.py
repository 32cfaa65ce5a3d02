"""The commands on registered versions: promote, rollback, history, compare, explain, ledger."""

import argparse
from pathlib import Path
from typing import Any

from facewright.errors import ParamsError, RegistryError
from facewright.progress import say

MODEL = "registered model; else the promotion policy's"


def add_registry_commands(commands: Any) -> None:
    """Add them to the command line's own."""
    promote = commands.add_parser("promote", help="make a registered version the champion")
    promote.add_argument(
        "version", nargs="?", type=int, help="else the one that the gate decided on last"
    )
    rollback = commands.add_parser(
        "rollback", help="make the champion before the present one champion again"
    )
    for command in (promote, rollback):
        command.add_argument("--reason", help="why, for the ledger; else what the gate said")
        command.add_argument("--actor", help="who does it; else git's user.email or the user")
    history = commands.add_parser("history", help="who made which version champion, and why")
    compare = commands.add_parser("compare", help="the figures of two versions side by side")
    compare.add_argument("first", type=int, help="a version")
    compare.add_argument("second", type=int, help="another one")
    explain = commands.add_parser("explain", help="a version's origin, gate and ledger entries")
    explain.add_argument("version", type=int)

    ledger = commands.add_parser("ledger", help="the signed record of all promotions")
    actions = ledger.add_subparsers(required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check every entry, and MLflow against them")
    verify.add_argument("--file", type=Path, help="check this export in place of MLflow's ledger")
    verify.add_argument(
        "--extends", type=Path, help="an earlier export that the ledger must begin with"
    )
    verify.add_argument(
        "--files", action="store_true", help="download what the versions hold, and check it too"
    )
    export = actions.add_parser("export", help="write all entries to a file, one a line")
    export.add_argument("file", type=Path)
    key = actions.add_parser("key", help="show the key that signs what you promote")
    key.add_argument("--trust", metavar="NAME", help="write it to mlflow/ledger-keys/NAME.pub")
    key.set_defaults(command=_key)

    for command, function in (
        (promote, _promote),
        (rollback, _rollback),
        (history, _history),
        (compare, _compare),
        (explain, _explain),
        (verify, _verify),
        (export, _export),
    ):
        command.add_argument("--model", help=MODEL)
        command.set_defaults(command=function)


def _promote(options: argparse.Namespace) -> None:
    from facewright.registry.promotion import promote

    promoted = promote(
        _model(options),
        options.version,
        actor=options.actor,
        reason=options.reason,
        policy=_policy(options),
    )
    print(f"{promoted} is champion")


def _policy(options: argparse.Namespace) -> dict[str, Any] | None:
    """The promotion policy of this folder, if it is on the model that is asked for."""
    from facewright import params

    if options.model is not None and not params.POLICY.exists():
        why = f"there is no {params.POLICY} here"
    else:
        policy = params.load_policy(params.POLICY)
        if options.model in (None, policy.model):
            return policy.model_dump()
        why = f"{params.POLICY} is on {policy.model}"
    say(f"promote: {why}, so {options.model} is promoted by the policy that the gate judged it by")
    return None


def _rollback(options: argparse.Namespace) -> None:
    from facewright.registry.promotion import rollback

    model = _model(options)
    restored = rollback(model, actor=options.actor, reason=options.reason)
    if restored is None:
        print(f"{model} has no champion: the last one was deleted, and is retired in the ledger")
    else:
        print(f"{restored} is champion again")


def _history(options: argparse.Namespace) -> None:
    from facewright.registry.history import history

    print(history(_model(options)))


def _compare(options: argparse.Namespace) -> None:
    from facewright.registry.history import compare

    print(compare(_model(options), options.first, options.second))


def _explain(options: argparse.Namespace) -> None:
    from facewright.registry.history import explain

    print(explain(_model(options), options.version))


def _verify(options: argparse.Namespace) -> None:
    from facewright.registry.audit import verify, verify_file

    if options.file is not None and (options.extends is not None or options.files):
        raise RegistryError("--file checks an export: give --extends or --files by themselves")
    if options.file is not None:
        ledger, where = verify_file(options.file), str(options.file)
    else:
        ledger = verify(_model(options), extends=options.extends, files=options.files)
        where = f"the ledger of {ledger.model}"
    for fault in ledger.faults:
        print(fault)
    if ledger.faults:
        first = ledger.faults[0]
        raise RegistryError(f"{where} has {len(ledger.faults)} faults, first: {first}")
    serving = ledger.standing.champion
    now = "nothing" if serving is None else f"version {serving}"
    print(f"{where}: {len(ledger.entries)} entries hold; champion is {now}")


def _export(options: argparse.Namespace) -> None:
    from facewright.registry.audit import export

    print(f"{options.file}: {export(_model(options), options.file)} entries")


def _key(options: argparse.Namespace) -> None:
    from facewright.registry.ledger_keys import signer, trust, trusted_keys

    mine = signer()
    if options.trust:
        print(f"wrote {trust(mine, options.trust)}: have it reviewed and commit it")
    name = trusted_keys().get(mine.id)
    print(f"{mine.id} {'is trusted as ' + name if name else 'is not trusted here'}")


def _model(options: argparse.Namespace) -> str:
    from facewright import params

    if options.model is None:
        return params.load_policy(params.POLICY).model
    try:
        return params.model_name(options.model)
    except ValueError as error:
        raise ParamsError(f"--model {options.model!r} is no model's name: {error}") from error
