"""The peer of `benchmarks/training.py`: the loop that InsightFace's `arcface_torch` runs, retold.

What it does was read in its `dataset.py`, `train_v2.py`, `partial_fc_v2.py` and `losses.py`, and is
told here in other words, for one process and any device:

- each crop is decoded by a worker of a `DataLoader` (its two, if no other number is asked for),
  made a PIL picture, mirrored with a chance of one half, and made a normalized float tensor, one by
  one and with the steps that torchvision's transforms take (torchvision itself has no CPU build
  beside the PyTorch of this project);
- the network runs in fp32 and in PyTorch's usual layout (`bf16` stands for its `fp16` switch);
- the head multiplies unit embeddings with unit centres, adds ArcFace's margin and scales by 64;
- SGD with momentum 0.9, weight decay 5e-4 on everything, gradients clipped at 5.

Left out is what would only slow it down: `DistributedDataParallel` around one process, its
distributed softmax, its logging and its verification between steps. Left out too, and of use to it
on a GPU, is its `DataLoaderX`, which gets the next batch in a thread and copies it on a stream of
its own: what that is worth was not measured. Its crops are JPEGs in a `.rec`; here they come from
the same source as for the loop that it is compared with.
"""

import math
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from facewright.models import build_network
from facewright.training.batches import CropSource

WORKERS = 2
RATE, MOMENTUM, DECAY, CLIP = 0.02, 0.9, 5e-4, 5.0
SCALE, MARGIN = 64.0, 0.5


class PlainCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops one at a time: `(3, 112, 112) float32 in [-1, 1]`, RGB, and the label."""

    def __init__(self, crops: CropSource):
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = self.crops.batch(np.array([index]))[0]
        picture = Image.fromarray(pixels)
        if torch.rand(1) < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = torch.from_numpy(np.array(picture, copy=True)).permute(2, 0, 1).contiguous()
        image = values.to(torch.float32).div(255).clone()
        mean, deviation = (torch.as_tensor([0.5] * 3).view(-1, 1, 1) for _ in range(2))
        image.sub_(mean).div_(deviation)
        return image, torch.tensor(int(self.crops.labels[index]))


class PlainHead(nn.Module):
    """ArcFace (Deng et al., CVPR 2019) over all identities; mean loss of a batch."""

    def __init__(self, *, identities: int, embedding_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0, 0.01, (identities, embedding_size)))

    def forward(self, embeddings: Tensor, labels: Tensor, *, precision: torch.dtype) -> Tensor:
        kind = embeddings.device.type
        with torch.autocast(kind, precision, enabled=precision != torch.float32):
            cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        cosines = cosines.float().clamp(-1, 1)
        rows = torch.arange(len(labels), device=labels.device)
        own = cosines[rows, labels]
        sines = torch.sqrt(1 - own**2)
        turned = own * math.cos(MARGIN) - sines * math.sin(MARGIN)
        beyond = own - math.sin(math.pi - MARGIN) * MARGIN  # past π - m it falls on in a line
        cosines[rows, labels] = torch.where(own > math.cos(math.pi - MARGIN), turned, beyond)
        return F.cross_entropy(cosines * SCALE, labels)


def plain_rate(
    crops: CropSource,
    *,
    network: str,
    embedding_size: int,
    batch_size: int,
    warm: int,
    steps: int,
    precision: torch.dtype = torch.float32,
    device: torch.device | None = None,
    workers: int = WORKERS,
) -> float:
    """Images per second of `steps` steps, after `warm` that are not counted."""
    place = device or torch.device("cpu")
    torch.manual_seed(0)
    backbone = build_network(network, embedding_size=embedding_size, dropout=0.0).to(place).train()
    head = PlainHead(identities=len(crops.identities), embedding_size=embedding_size).to(place)
    optimizer = torch.optim.SGD(
        [{"params": backbone.parameters()}, {"params": head.parameters()}],
        lr=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
    )
    data = PlainCrops(crops)
    loader = DataLoader(
        data,
        batch_size=batch_size,
        sampler=RandomSampler(data, replacement=True, num_samples=batch_size * (warm + steps)),
        num_workers=workers,
        pin_memory=place.type == "cuda",
        drop_last=True,
    )
    search = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    begin = 0.0
    try:
        for number, (images, labels) in enumerate(loader):
            if number == warm:
                begin = time.perf_counter()
            images = images.to(place, non_blocking=True)
            labels = labels.to(place, non_blocking=True)
            with torch.autocast(place.type, precision, enabled=precision != torch.float32):
                embeddings = backbone(images)
            loss = head(embeddings.float(), labels, precision=precision)
            loss.backward()
            nn.utils.clip_grad_norm_(backbone.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # it keeps a mean of the losses, and so waits for the device each step
        return steps * batch_size / (time.perf_counter() - begin)
    finally:
        torch.backends.cudnn.benchmark = search
