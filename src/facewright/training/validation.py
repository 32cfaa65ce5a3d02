"""Choosing among the epochs of a training by people that it does not train on.

They are training identities, held out: the set that is reported in the end chooses nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from facewright.errors import TrainingError
from facewright.training.batches import CropSource, ahead, seed_of
from facewright.training.distributed import Processes
from facewright.training.learner import Learner

FMR = 0.01  # where the true matches are counted
BATCH = 128  # crops at a time
MOST = 4096  # held-out crops, since each is compared with each; two of a person at least


@dataclass(frozen=True)
class Part:
    """Some identities of a `CropSource`, as a `CropSource`."""

    whole: CropSource
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    identities: Sequence[str]

    @cached_property
    def ids(self) -> Sequence[str]:
        return [self.whole.ids[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return self.whole.batch(self.indices[indices])


def hold_out(crops: CropSource, *, identities: int, seed: int) -> tuple[CropSource, Part | None]:
    """Crops to train on and crops to choose by: `identities` drawn from those with two or more.

    Of the people held out `MOST` crops take part, dealt out in turns: each has as many as any
    other, give or take one, as far as she has them, and two at least.

    Raises:
        TrainingError: there are not that many, they cannot all take part, or no two would be left
            to train on.
    """
    if not identities:
        return crops, None
    counts = np.bincount(crops.labels, minlength=len(crops.identities))
    able = np.flatnonzero(counts >= 2)
    most = min(len(able), len(crops.identities) - 2, MOST // 2)
    if identities < 2 or identities > most:
        possible = f"2 to {most}" if most >= 2 else "none"
        raise TrainingError(
            f"validation_identities is {identities}: {possible} of the {len(crops.identities)} "
            f"identities can be held out (each needs two crops, at most {MOST} crops take part, "
            "and two identities must be left): change it, or set it to 0"
        )
    random = np.random.default_rng(seed_of(seed, "validation", 0))
    held = np.zeros(len(counts), dtype=bool)
    held[random.choice(able, identities, replace=False)] = True
    return part_of(crops, ~held), part_of(crops, held, most=MOST)


def part_of(crops: CropSource, chosen: npt.NDArray[np.bool_], most: int | None = None) -> Part:
    """The crops of the `chosen (identities,)`, or `most` of them, dealt out in turns."""
    number = np.cumsum(chosen) - 1
    labels = np.asarray(crops.labels)
    indices = np.flatnonzero(chosen[labels])
    if most is not None:
        turns = np.argsort(_turns(labels[indices]), kind="stable")
        indices = np.sort(indices[turns[:most]])
    names = [name for name, kept in zip(crops.identities, chosen, strict=True) if kept]
    return Part(crops, indices, number[labels[indices]], names)


def _turns(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many crops of the same label each has before it."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    turns = np.empty(len(labels), dtype=np.int64)
    turns[order] = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[order]]
    return turns


def embed(
    network: nn.Module,
    crops: CropSource,
    *,
    device: torch.device,
    precision: torch.dtype,
    readers: int,
) -> torch.Tensor:
    """Embeddings `(N, E)` float32 of `crops`, of length 1, by `network` in evaluation mode."""
    parts = embed_in_parts(network, crops, device=device, precision=precision, readers=readers)
    return torch.cat(list(parts))


def embed_in_parts(
    network: nn.Module,
    crops: CropSource,
    *,
    device: torch.device,
    precision: torch.dtype,
    readers: int,
) -> Iterator[torch.Tensor]:
    """What `embed` gives, `BATCH` rows at a time: those of millions of crops fill no memory."""

    def read(start: int) -> torch.Tensor:
        return torch.from_numpy(crops.batch(np.arange(start, min(start + BATCH, len(crops)))))

    for _, images, _ in ahead(read, iter(range(0, len(crops), BATCH)), threads=readers):
        # Closed before each yield: whoever asks for the next part must not be inside these.
        with (
            torch.no_grad(),
            torch.autocast(device.type, precision, enabled=precision != torch.float32),
        ):
            inputs = images.to(device).permute(0, 3, 1, 2) / 127.5 - 1
            embeddings = F.normalize(network(inputs).float())
        yield embeddings


def true_match_rate(embeddings: torch.Tensor, labels: npt.NDArray[np.int64]) -> float:
    """Share of same-identity pairs whose cosine is above that of all but `FMR` of the others.

    All pairs of embeddings `(N, E)`, of length 1, with `labels (N,)`.
    """
    similarity = embeddings @ embeddings.T
    first, second = torch.triu_indices(len(embeddings), len(embeddings), 1)
    same = torch.from_numpy(labels)
    genuine = same[first] == same[second]
    values = similarity[first.to(similarity.device), second.to(similarity.device)].cpu()
    impostors = values[~genuine].numpy()
    threshold = float(np.quantile(impostors, 1 - FMR))
    return float((values[genuine] > threshold).double().mean())


def validate_epoch(
    learner: Learner,
    held: CropSource,
    epoch: int,
    *,
    precision: torch.dtype,
    readers: int,
    group: Processes,
) -> dict[str, float]:
    """How well the held-out people are verified; the best epoch's weights are kept."""
    rate = 0.0
    network = learner.result()
    if group.main:
        network.eval()
        embeddings = embed(network, held, device=group.device, precision=precision, readers=readers)
        rate = true_match_rate(embeddings, held.labels)
    rate = group.from_first(rate)
    if rate >= learner.best.get("rate", 0.0):  # of equal ones the later, which has learnt longer
        weights = {name: value.cpu().clone() for name, value in network.state_dict().items()}
        learner.best = {"rate": rate, "epoch": epoch, "weights": weights}
    return {"validation_true_match_rate": rate}
