"""The training of an embedding network under a head, from the first step to the last."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from facewright.errors import TrainingError
from facewright.files import values_digest, write_json
from facewright.models.heads import build_head
from facewright.progress import progress, say
from facewright.refusals import refuse_triplets
from facewright.training.augmentation import apply_changes, draw_changes
from facewright.training.batches import (
    CropSource,
    Step,
    crops_digest,
    make_plan,
    read_ahead,
    seed_of,
)
from facewright.training.checkpoint import (
    Checkpoint,
    last_checkpoint,
    must_see,
    named_checkpoint,
    only_writer,
    save_checkpoint,
)
from facewright.training.distributed import Processes, must_agree, process_group
from facewright.training.label_noise import label_noise_table
from facewright.training.learner import Learner, build_learner
from facewright.training.precision import PRECISIONS, precision_on
from facewright.training.schedule import build_optimizer, learning_rate_at, set_learning_rate
from facewright.training.validation import hold_out, validate_epoch

REPORT_EVERY = 20  # steps

# Arguments that each process may have its own of.
OF_A_PROCESS = (
    *("crops", "start", "readers", "resume", "report"),
    *("checkpoints", "checkpoint_dir", "checkpoint_key"),
)

Report = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class Trained:
    """A trained network, on the CPU, in evaluation mode, and how it went."""

    network: nn.Module
    crops: CropSource  # those that were trained on
    history: list[dict[str, float]]  # one row per report: step, epoch and the reported metrics
    precision: str  # that it was trained in
    seconds: float  # all runs together if it was cut off and went on
    images_per_second: float  # mean over all of it
    waited: float  # share of the time that was spent waiting for crops
    resumed: list[int] = field(default_factory=list)  # the steps after which it went on …
    checkpoints: list[str] = field(default_factory=list)  # … and what from, as `checkpoint_digest`
    chosen_epoch: int | None = None  # whose weights these are, where epochs were compared
    label_noise: pd.DataFrame | None = None  # of a head with sub-centres, on the first process


def fit(
    crops: CropSource,
    *,
    network: str,
    embedding_size: int,
    dropout: float,
    start: Mapping[str, torch.Tensor] | None,
    frozen: bool,
    head: Mapping[str, Any],
    sampled_identities: float,
    label_smoothing: float,
    epochs: int,
    batch_size: int,
    passes: int,
    crops_per_identity: int | None,
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    schedule: Mapping[str, Any],
    clip_norm: float,
    average: float,
    precision: str,
    compiled: bool,
    augmentation: Mapping[str, Any],
    validation_identities: int,
    seed: int,
    readers: int,
    resume: Path | None,
    checkpoint_every: int,
    checkpoints: int,
    checkpoint_dir: Path | None,
    checkpoint_key: str,
    report: Report,
) -> Trained:
    """Train `network` to tell the identities of `crops` apart.

    params.yaml explains the arguments. `start` is the state dict of a network to start from;
    `frozen` then trains its embedding layers alone. `report` is called every `REPORT_EVERY` steps
    and at the end of every epoch, on the first process only. With a `checkpoint_dir` the state is
    saved every `checkpoint_every` steps, and a training with the same `checkpoint_key` goes on from
    the last to the very weights that it would have reached; `resume` names one of any training of
    the same network, head, crops, steps, seed and optimizer. The same crops, parameters, seed,
    machine and number of threads give, on a CPU, the same weights. PyTorch's generators of the CPU
    and of the GPU that trains are afterwards as they were.

    Raises:
        TrainingError: an unknown name; settings that do not go together; too few identities
            or crops; a checkpoint that is not there or does not fit; processes with different
            crops or settings; a loss, gradient or weight that is not finite.
    """
    # First of all, while nothing but the arguments is there.
    settings = {name: value for name, value in locals().items() if name not in OF_A_PROCESS}
    if reason := refuse_triplets(crops_per_identity, batch_size, passes, head["name"]):
        raise TrainingError(f"crops_per_identity is {crops_per_identity}: {reason}")
    with (
        process_group() as group,
        only_writer(checkpoint_dir, group),
        torch.random.fork_rng(devices=group.gpus),
    ):
        of_first = (start, checkpoint_key, precision_on(group.device, precision))
        start, checkpoint_key, precision = group.from_first(of_first)
        crops, held = hold_out(crops, identities=validation_identities, seed=seed)
        plan = make_plan(
            crops,
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            passes=passes,
            crops_per_identity=crops_per_identity,
            rank=group.rank,
            processes=group.count,
        )
        about = {
            "network": network,
            "embedding_size": embedding_size,
            "head": head["name"],
            "sub_centres": head.get("sub_centres", 1),
            "optimizer": optimizer,
            "identities": len(crops.identities),
            "names_digest": values_digest(list(crops.identities)),
            "crops": len(crops),  # these say what a step and an epoch are, and what is left of it
            "crops_digest": crops_digest(crops),
            "batch_size": batch_size,
            "crops_per_identity": crops_per_identity,
            "seed": seed,
        }
        must_agree(values_digest([settings, about]), group)
        learner = build_learner(
            group,
            network=network,
            embedding_size=embedding_size,
            dropout=dropout,
            start=start,
            frozen=frozen,
            head=partial(
                build_head,
                embedding_size=embedding_size,
                label_smoothing=label_smoothing,
                **head,
            ),
            identities=len(crops.identities),
            sampled=sampled_identities,
            optimizer=partial(
                build_optimizer,
                name=optimizer,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
            ),
            average=average,
            precision=precision,
            seed=seed,
        )
        first = _resume(learner, group, resume, checkpoint_dir, checkpoint_key, about, plan.steps)
        if group.main:
            for row in learner.tally.history:  # so that the new run's curves are whole
                report({k: row[k] for k in row.keys() - {"step", "epoch"}}, int(row["step"]))
        tally, numbers = learner.tally, torch.from_numpy(plan.labels)
        run = torch.compile(learner.network) if compiled else learner.network
        parallel = group.wrap(run)  # type: ignore[arg-type]
        dtype = PRECISIONS[precision]

        batches = read_ahead(
            crops, plan, start=first, threads=readers, pinned=group.device.type == "cuda"
        )
        if group.main:
            batches = progress(batches, total=plan.steps - first, label="train steps")
        learner.training_mode(frozen=frozen)
        clock = time.monotonic()
        for step, images, waited in batches:
            # All randomness of a step comes from its number, so that nothing needs to be saved.
            generator = torch.Generator().manual_seed(seed_of(seed, "changes", step.number))
            changes = draw_changes(len(step.crops), augmentation, generator)
            torch.manual_seed(seed_of(seed, f"dropout {group.rank}", step.number))
            rate = learning_rate_at(
                step.number, steps=plan.steps, peak=learning_rate, warmup=warmup, schedule=schedule
            )
            set_learning_rate(learner.optimizer, rate)
            labels = numbers[step.crops]
            learner.classifier.sample(labels, step.number, learner.optimizer)
            labels = labels.to(group.device, non_blocking=True)

            loss, used = torch.zeros((), device=group.device), 0
            for each in step.passes:
                part = each.parts[group.rank]
                own = images[used : used + part.stop - part.start]
                used += len(own)
                inputs = apply_changes(own.to(group.device, non_blocking=True), changes[part])
                last = each is step.passes[-1]
                with group.alone(parallel, when=not last):
                    with torch.autocast(group.device.type, dtype, enabled=dtype != torch.float32):
                        embeddings = parallel(inputs)
                        mean = learner.classifier(embeddings, labels[each.whole], each)
                    share = mean * (sum(each.sizes) / len(step.crops))  # of the mean of the step
                    (share * learner.loss_scale).backward()
                loss += share.detach()

            length = learner.clip(clip_norm, group)
            value, norm = torch.stack((loss.double(), length.double())).tolist()  # one wait
            if math.isfinite(norm) and math.isfinite(value):
                learner.optimizer.step()
                if learner.average is not None:
                    learner.average.update_parameters(learner.network)
            elif dtype is not torch.float16 or not math.isfinite(value) or learner.loss_scale < 1:
                folder = checkpoint_dir if group.main else None
                raise TrainingError(not_finite(step, crops, value, norm, rate, folder=folder))
            learner.classifier.observe()
            learner.classifier.keep(learner.optimizer)
            learner.optimizer.zero_grad()
            if dtype is torch.float16:
                learner.adapt_loss_scale(finite=math.isfinite(norm))

            now = time.monotonic()
            tally.loss += value
            tally.steps += 1
            tally.crops += len(step.crops)
            tally.waited += waited
            tally.seconds += now - clock
            clock = now
            done = step.number + 1
            epoch_ends = done % plan.steps_per_epoch == 0
            if done % REPORT_EVERY == 0 or epoch_ends:
                # Who waits for crops lets the others wait for him, unseen: the longest counts.
                tally.waited = group.largest(tally.waited)
                metrics = tally.close(rate, norm)
                if epoch_ends and held is not None:
                    metrics |= validate_epoch(
                        learner, held, step.epoch + 1, precision=dtype, readers=readers, group=group
                    )
                    learner.training_mode(frozen=frozen)
                tally.history.append({"step": done, "epoch": step.epoch + 1, **metrics})
                if group.main:
                    report(metrics, done)
                clock = time.monotonic()
            if checkpoint_dir is not None and done % checkpoint_every == 0:
                save_checkpoint(
                    checkpoint_dir,
                    learner.state(),
                    learner.classifier.state(learner.optimizer),
                    head_rows=learner.classifier.rows.stop - learner.classifier.rows.start,
                    key=checkpoint_key,
                    step=done,
                    about=about,
                    kept=checkpoints,
                    group=group,
                )
        table: pd.DataFrame | None = None
        if head.get("sub_centres", 1) > 1:  # by the last weights, which the centres belong to
            table = label_noise_table(
                learner.network,
                learner.classifier,
                crops,
                precision=dtype,
                group=group,
                readers=readers,
            )
    return _trained(learner, table, crops)


def _resume(
    learner: Learner,
    group: Processes,
    resume: Path | None,
    folder: Path | None,
    key: str,
    about: Mapping[str, Any],
    steps: int,
) -> int:
    """Go on from a checkpoint; how many steps are done."""
    found: Checkpoint | None = None
    if group.main:
        found = None if resume is None else named_checkpoint(resume, about=about)
        own = None if folder is None else last_checkpoint(folder, key=key)
        if own is not None:
            if found is not None:
                say(f"train: it went on from {found.path} before, and goes on from its own last")
            found = own
    found = group.from_first(found)
    if found is None:
        return 0
    must_see(found.path, group)
    if found.step > steps:
        raise TrainingError(
            f"{found.path} is of step {found.step} and this training ends with {steps}: "
            "raise epochs, or name an earlier one"
        )
    before = learner.restore(found)
    if group.main:
        if before != learner.precision:
            say(
                f"train: it was trained in {before} so far and goes on in {learner.precision}: the "
                "weights will be others than without the stop; set precision to have them equal"
            )
        say(f"train: going on after step {found.step} of {steps}")
    return found.step


def _trained(learner: Learner, label_noise: pd.DataFrame | None, crops: CropSource) -> Trained:
    network = learner.result()
    if learner.best:
        network.load_state_dict(learner.best["weights"])
    network = finished(network)
    tally = learner.tally
    return Trained(
        network=network,
        label_noise=label_noise,
        crops=crops,
        history=tally.history,
        precision=learner.precision,
        seconds=tally.all_seconds,
        images_per_second=tally.all_crops / tally.all_seconds,
        waited=tally.all_waited / tally.all_seconds,
        resumed=tally.resumed,
        checkpoints=tally.checkpoints,
        chosen_epoch=learner.best.get("epoch"),
    )


def finished(network: nn.Module, *, what: str = "training") -> nn.Module:
    """`network` as it is kept: on the CPU, in evaluation mode, without gradients.

    Raises:
        TrainingError: a weight that is not finite.
    """
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise TrainingError(
            f"{what} ended with weights that are not finite: lower learning_rate, or lengthen "
            "warmup"
        )
    network = network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    for parameter in network.parameters():
        parameter.grad = None
    return network


def not_finite(
    step: Step,
    crops: CropSource,
    loss: float,
    norm: float,
    rate: float,
    *,
    folder: Path | None = None,
    what: str = "training",
) -> str:
    """What to tell; the names of all crops of the step go to a file in `folder`."""
    ids = [crops.ids[index] for index in step.crops]
    named = f"crops {', '.join(ids[:8])}{f' and {len(ids) - 8} more' if len(ids) > 8 else ''}"
    if folder is not None:
        path = folder / "not-finite.json"
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {"loss": str(loss), "gradient_norm": str(norm), "learning_rate": rate}
        write_json(path, {"step": step.number + 1, **numbers, "crops": ids})
        named += f" (all in {path})"
    return (
        f"{what} became unstable at step {step.number + 1}: loss {loss}, gradient norm {norm}, "
        f"learning rate {rate:.3g}, {named}: look at them, or lower learning_rate, or lengthen "
        "warmup"
    )
