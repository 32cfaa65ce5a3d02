"""The training of an embedding network under a margin head, from the first step to the last."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.models.heads import build_head
from facewright.progress import progress, say
from facewright.training.augmentation import apply_changes, draw_changes
from facewright.training.batches import CropSource, Step, make_plan, read_ahead, seed_of
from facewright.training.checkpoint import load_checkpoint, save_checkpoint
from facewright.training.distributed import process_group
from facewright.training.schedule import build_optimizer, learning_rate_at, set_learning_rate

REPORT_EVERY = 20  # steps

Report = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class Trained:
    """A trained network, on the CPU, in evaluation mode, and how it went."""

    network: nn.Module
    history: list[dict[str, float]]  # one row per report: step, epoch and the reported metrics
    seconds: float  # all runs together if it was cut off and went on
    images_per_second: float  # mean over all of it


@dataclass
class Tally:
    """Sums since the last report, and since the start; part of a checkpoint."""

    loss: float = 0.0  # this process's share of the mean loss of each step, summed
    steps: int = 0
    crops: int = 0
    seconds: float = 0.0
    all_crops: int = 0
    all_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def close(self, loss_sum: float, rate: float, norm: float) -> dict[str, float]:
        """The metrics since the last report, given the loss summed over processes; starts anew."""
        metrics = {
            "train_loss": loss_sum / self.steps,
            "learning_rate": rate,
            "images_per_second": self.crops / self.seconds,
            "gradient_norm": norm,  # of the last step, before clipping
        }
        self.all_crops += self.crops
        self.all_seconds += self.seconds
        self.loss, self.steps, self.crops, self.seconds = 0.0, 0, 0, 0.0
        return metrics


class Recognition(nn.Module):
    """Network and head as one module, so that their gradients are averaged together."""

    def __init__(self, network: nn.Module, head: nn.Module):
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.head(self.network(images), labels)
        return loss


def fit(
    crops: CropSource,
    *,
    network: str,
    embedding_size: int,
    head: str,
    scale: float,
    margin: float,
    label_smoothing: float,
    dropout: float,
    epochs: int,
    batch_size: int,
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    clip_norm: float,
    precision: str,
    augmentation: Mapping[str, float],
    seed: int,
    checkpoint_every: int,
    checkpoint_dir: Path | None,
    checkpoint_key: str,
    report: Report,
) -> Trained:
    """Train `network` to tell the identities of `crops` apart.

    `batch_size` counts the crops of a step over all processes; `report` is called every
    `REPORT_EVERY` steps and at the end of every epoch, on the first process only. With a
    `checkpoint_dir` the state is saved every `checkpoint_every` steps, and a training with the
    same `checkpoint_key` goes on from there to the very weights that it would have reached. The
    same crops, parameters, seed, machine and number of threads give, on a CPU, the same weights.

    Raises:
        TrainingError: an unknown network, head or optimizer; too few identities or crops; a loss
            or gradient that is not finite.
    """
    with process_group() as group, torch.random.fork_rng(devices=[]):
        plan = make_plan(
            crops,
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            rank=group.rank,
            processes=group.count,
        )
        torch.manual_seed(seed_of(seed, "weights", 0))
        model = Recognition(
            build_network(network, embedding_size=embedding_size, dropout=dropout),
            build_head(
                head,
                embedding_size=embedding_size,
                identities=len(crops.identities),
                scale=scale,
                margin=margin,
                label_smoothing=label_smoothing,
            ),
        ).to(device=group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        update = build_optimizer(
            model, name=optimizer, learning_rate=learning_rate, weight_decay=weight_decay
        )
        tally, start = Tally(), 0
        if checkpoint_dir is not None:
            found = load_checkpoint(checkpoint_dir, key=checkpoint_key) if group.main else None
            state = group.same(found)
            if state is not None:
                start = _restore(state, model, update, tally)
                tally.loss /= group.count  # it was saved for all processes together
                if group.main:
                    say(f"train: going on after step {start} of {plan.steps}")
                    for row in tally.history:  # so that the new run's curves are whole
                        metrics = {key: row[key] for key in row.keys() - {"step", "epoch"}}
                        report(metrics, int(row["step"]))
        parallel = group.wrap(model.train())
        weights = [p for p in model.parameters() if p.requires_grad]

        batches = read_ahead(crops, plan, start=start)
        if group.main:
            batches = progress(batches, total=plan.steps - start, label="train steps")
        clock = time.monotonic()
        for step, images, labels in batches:
            # All randomness of a step comes from its number, so that nothing needs to be saved.
            generator = torch.Generator().manual_seed(seed_of(seed, "changes", step.number))
            changes = draw_changes(step.total, augmentation, generator)[step.part]
            torch.manual_seed(seed_of(seed, f"dropout {group.rank}", step.number))
            inputs = apply_changes(images.to(group.device), changes.to(group.device))

            rate = learning_rate_at(
                step.number, steps=plan.steps, peak=learning_rate, warmup=warmup
            )
            set_learning_rate(update, rate)
            with torch.autocast(group.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = parallel(inputs, labels.to(group.device))
            # Gradients are averaged over processes: a process with more crops weighs more.
            share = len(labels) / step.total
            (loss * share * group.count).backward()
            norm = float(nn.utils.clip_grad_norm_(weights, clip_norm))
            value = float(loss.detach())
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise TrainingError(_not_finite(step, crops, value, norm, rate))
            update.step()
            update.zero_grad()

            now = time.monotonic()
            tally.loss += value * share
            tally.steps += 1
            tally.crops += step.total
            tally.seconds += now - clock
            clock = now
            done = step.number + 1
            epoch_ends = done % plan.steps_per_epoch == 0
            if done % REPORT_EVERY == 0 or epoch_ends:
                metrics = tally.close(group.total(tally.loss), rate, norm)
                tally.history.append({"step": done, "epoch": step.epoch + 1, **metrics})
                if group.main:
                    report(metrics, done)
            if checkpoint_dir is not None and done % checkpoint_every == 0:
                state = _state(model, update, replace(tally, loss=group.total(tally.loss)), done)
                if group.main:
                    save_checkpoint(checkpoint_dir, state, key=checkpoint_key, step=done)
    trained = model.network.to("cpu", memory_format=torch.contiguous_format).eval()
    for parameter in trained.parameters():
        parameter.grad = None
    return Trained(
        network=trained,
        history=tally.history,
        seconds=tally.all_seconds,
        images_per_second=tally.all_crops / tally.all_seconds,
    )


def _state(
    model: nn.Module, update: torch.optim.Optimizer, tally: Tally, done: int
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": update.state_dict(),
        "tally": asdict(tally),
        "done": done,
    }


def _restore(
    state: dict[str, Any], model: nn.Module, update: torch.optim.Optimizer, tally: Tally
) -> int:
    """Put everything back in place; returns the number of steps that are done."""
    model.load_state_dict(state["model"])
    update.load_state_dict(state["optimizer"])
    for name, value in state["tally"].items():
        setattr(tally, name, value)
    done: int = state["done"]
    return done


def _not_finite(step: Step, crops: CropSource, loss: float, norm: float, rate: float) -> str:
    named = [crops.ids[index] for index in step.indices[:8]]
    more = f" and {len(step.indices) - 8} more" if len(step.indices) > 8 else ""
    return (
        f"training became unstable at step {step.number + 1}: loss {loss}, gradient norm {norm}, "
        f"learning rate {rate:.3g}, crops {', '.join(named)}{more}: look at them, or lower "
        "learning_rate, or lengthen warmup"
    )
