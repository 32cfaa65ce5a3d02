"""Distillation: a small network learns where a large one puts each face."""

import copy
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.progress import progress
from facewright.training.augmentation import apply_changes, draw_changes
from facewright.training.batches import CropSource, make_plan, read_ahead, seed_of
from facewright.training.loop import REPORT_EVERY, Report, Trained, finished, not_finite
from facewright.training.precision import precision_on
from facewright.training.schedule import build_optimizer, learning_rate_at, set_learning_rate


def distill(
    crops: CropSource,
    *,
    teacher: nn.Module,
    network: str,
    embedding_size: int,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    clip_norm: float,
    precision: str,
    relation_weight: float,
    augmentation: Mapping[str, Any],
    report: Report,
) -> Trained:
    """Train `network` to give each crop the direction of the teacher's embedding.

    The loss is 1 - cosine to the teacher's embedding, plus `relation_weight` times
    `relation_loss`. AdamW with linear warm-up and a cosine, channels-last, on one process. The
    same crops, teacher, parameters, machine and number of threads give, on a CPU, the same
    weights. PyTorch's generators of the CPU and of the GPU are afterwards as they were.

    Args:
        crops: as `training.fit` takes them; labels are not used.
        teacher: `(N, 3, S, S) float32 in [-1, 1], RGB` → `(N, embedding_size)`; stays unchanged.
        clip_norm: largest norm of the gradient.
        precision: `bf16` (autocast) or `fp32`, of teacher and student alike; `auto`: bf16 where the
            device has units for it.
        augmentation: drawn anew for every crop, as in training; teacher and student see the same.
        report: called every few steps and at the end of every epoch.

    Raises:
        TrainingError: an unknown network, too few crops, a teacher with another embedding size,
            or a loss, gradient or weight that is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_on(device, precision, fp16=False)
    plan = make_plan(crops, batch_size=batch_size, epochs=epochs, seed=seed)
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed_of(seed, "weights", 0))
        student = build_network(network, embedding_size=embedding_size)
        guide = copy.deepcopy(teacher).eval()  # the caller's stays where and as it is
        for module in (student, guide):
            module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        student.train()
        update = build_optimizer(
            student.parameters(),
            name="adamw",
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        history: list[dict[str, float]] = []
        since = {"loss": 0.0, "cosine": 0.0, "steps": 0, "crops": 0}
        begin = clock = time.monotonic()
        batches = progress(read_ahead(crops, plan), total=plan.steps, label="distill steps")
        waits = 0.0
        for step, images, waited in batches:
            waits += waited
            generator = torch.Generator().manual_seed(seed_of(seed, "changes", step.number))
            changes = draw_changes(len(step.crops), augmentation, generator)
            inputs = apply_changes(images.to(device), changes)
            torch.manual_seed(seed_of(seed, "dropout", step.number))  # and stochastic depth
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                with torch.no_grad():
                    wanted = guide(inputs)
                given = student(inputs)
            if given.shape != wanted.shape:
                raise TrainingError(
                    f"the teacher's embeddings have {wanted.shape[1]} values, the student's "
                    f"{given.shape[1]}: embedding_size must be the teacher's"
                )
            given, wanted = F.normalize(given.float()), F.normalize(wanted.float())
            cosine = (given * wanted).sum(dim=1).mean()
            loss: Tensor = 1 - cosine + relation_weight * relation_loss(given, wanted)
            rate = learning_rate_at(
                step.number,
                steps=plan.steps,
                peak=learning_rate,
                warmup=warmup,
                schedule={"name": "cosine"},
            )
            set_learning_rate(update, rate)
            update.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            length = nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
            numbers = torch.stack((loss.detach(), length, cosine.detach()))
            value, norm, alike = numbers.tolist()  # one wait
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise TrainingError(not_finite(step, crops, value, norm, rate, what="distillation"))
            update.step()

            since["loss"] += value
            since["cosine"] += alike
            since["steps"] += 1
            since["crops"] += len(step.crops)
            done = step.number + 1
            if done % REPORT_EVERY == 0 or done % plan.steps_per_epoch == 0:
                now = time.monotonic()
                metrics = {
                    "train_loss": since["loss"] / since["steps"],
                    "cosine": since["cosine"] / since["steps"],
                    "learning_rate": rate,
                    "images_per_second": since["crops"] / (now - clock),
                }
                history.append({"step": done, "epoch": step.epoch + 1, **metrics})
                report(metrics, done)
                since, clock = dict.fromkeys(since, 0), now
        seconds = time.monotonic() - begin
    return Trained(
        network=finished(student, what="distillation"),
        crops=crops,
        history=history,
        precision=precision,
        seconds=seconds,
        images_per_second=plan.count * plan.epochs / seconds,
        waited=waits / seconds,
    )


def relation_loss(given: Tensor, wanted: Tensor) -> Tensor:
    """How differently two sets of embeddings see the same faces as alike.

    Huber loss between the cosine similarities of all pairs of a batch, after the distance-wise
    relational distillation of Park et al. (CVPR 2019), with similarities in place of distances
    since those are what verification compares.

    Args:
        given: `(N, E)`, of length 1 each; gradients flow through it.
        wanted: `(N, E')`, of length 1 each.

    Returns:
        A scalar ≥ 0: zero when all similarities agree, however the embeddings are turned.
    """
    above = torch.triu(torch.ones(len(given), len(given), device=given.device), 1).bool()
    loss: Tensor = F.huber_loss((given @ given.T)[above], (wanted @ wanted.T)[above])
    return loss
