"""register: all forms of the recognizer become one version in MLflow, the challenger."""

from dataclasses import asdict
from pathlib import Path

from facewright.evaluation.card import model_card_of
from facewright.evaluation.record import read_facts
from facewright.files import whole_directory, write_json
from facewright.models.recognizer import read_card
from facewright.params import Gate
from facewright.progress import say
from facewright.registry.decision import confirm, read_decision
from facewright.registry.evidence import judge
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import judged_against, register
from facewright.stages.metrics import read_metrics


def run(
    *,
    train: Path,
    distill: Path,
    quantize: Path,
    compile: Path,
    evaluate: Path,
    gate: Path,
    output: Path,
    policy: Gate,
    lineage: Lineage,
) -> None:
    """Write `version.json` (model, version) and `model-card.md`.

    The same content is registered once. The gate's decision is taken anew, from evaluate's files
    and the policy as they are now, and entered only if it is the one that the gate wrote.
    """
    folders = {
        "teacher": train / "teacher",
        "student-torch": distill / "student",
        "student": quantize / "student",
        "student-int8": quantize / "student-int8",
    }
    folders |= {card.parent.name: card.parent for card in sorted(compile.glob("*/recognizer.yaml"))}
    told = read_decision(gate / "decision.json")
    model, metrics = told.model, read_metrics(evaluate, stage="evaluate")
    against = judged_against(model, told)
    facts = read_facts(evaluate)
    decision = judge(
        evaluate, facts=facts, metrics=metrics, policy=policy.model_dump(), serving=against
    )
    confirm(told, decision, path=gate / "decision.json")
    with whole_directory(output) as folder:
        described = model_card_of(
            evaluate,
            model=model,
            serve=decision.serve,
            recognizers={name: asdict(read_card(source)) for name, source in folders.items()},
            decision=decision.values(),
            lineage=asdict(lineage),
        )
        (folder / "model-card.md").write_text(described, encoding="utf-8")
        evaluated = sorted(file for file in evaluate.iterdir() if file.is_file())
        version = register(
            model=model,
            folders=folders,
            metrics=metrics,
            evaluation_files=[*evaluated, folder / "model-card.md"],
            decision=decision,
            lineage=lineage,
            flip=bool(facts["flip"]),
            judged=against.judged if against else (),
        )
        write_json(folder / "version.json", {"model": version.model, "version": version.version})
    say(f"register: {version.model} version {version.version} ({', '.join(version.aliases)})")
