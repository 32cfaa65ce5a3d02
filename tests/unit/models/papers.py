"""The heads' formulas as the papers print them, with plain Python floats (64 bits) and acos."""

import math
from typing import Any

import torch
from torch import nn

from facewright.models.heads import Head, build_head

# Options with which rows of norm 1 to 9 meet every branch of every head.
OPTIONS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normface": {"scale": 32.0},
    "sphereface": {
        "margin": 4,
        "lambda_base": 1000.0,
        "lambda_gamma": 0.12,
        "lambda_power": 1.0,
        "lambda_min": 5.0,
    },
    "cosface": {"scale": 32.0, "margin": 0.35},
    "arcface": {"scale": 32.0, "margin": 0.5},
    "combined": {"scale": 32.0, "m1": 1.5, "m2": 0.4, "m3": 0.15},
    "adaface": {"scale": 32.0, "margin": 0.4, "h": 0.333, "t_alpha": 0.01},
    "magface": {"scale": 32.0, "l_a": 2.0, "u_a": 8.0, "l_m": 0.45, "u_m": 0.8, "lambda_g": 35.0},
    "subcentre": {"scale": 32.0, "margin": 0.5, "sub_centres": 3},
}
CLASSIFIERS = tuple(OPTIONS)
ANGULAR = tuple(name for name in OPTIONS if name != "softmax")


def make(
    name: str, *, smoothing: float = 0.0, identities: int = 5, size: int = 6, **options: Any
) -> Head:
    torch.manual_seed(0)
    head = build_head(
        name,
        embedding_size=size,
        identities=identities,
        label_smoothing=smoothing,
        **(OPTIONS[name] | options),
    )
    assert isinstance(head, Head)
    if name == "softmax":  # a bias of zero would prove nothing
        nn.init.normal_(head.weight[:, -1])
    return head


def cosine_of(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return max(-1.0, min(1.0, dot / math.hypot(*one) / math.hypot(*other)))


def arcface(theta: float, margin: float) -> float:
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - margin * math.sin(margin)


def psi(theta: float, margin: int) -> float:
    """SphereFace's (-1)^k·cos(mθ) - 2k for θ in [kπ/m, (k + 1)π/m]."""
    for k in range(margin):
        if k * math.pi / margin <= theta <= (k + 1) * math.pi / margin:
            return (-1.0) ** k * math.cos(margin * theta) - 2 * k
    raise AssertionError(theta)


def true_value(name: str, theta: float, norm: float, batch: list[float]) -> float:
    """What stands for cos θ of the true identity, in the second training step.

    `batch` are the norms of the first one's batch.
    """
    o = OPTIONS[name]
    match name:
        case "cosface":
            return math.cos(theta) - o["margin"]
        case "arcface" | "subcentre":
            return arcface(theta, o["margin"])
        case "sphereface":
            easing = max(5.0, 1000.0 / (1 + 0.12 * 2))
            return (easing * math.cos(theta) + psi(theta, 4)) / (1 + easing)
        case "combined":
            shifted = 1.5 * theta + 0.4  # at most 1.63 π
            if shifted > math.pi:
                return -math.cos(shifted) - 2 - 0.15
            return math.cos(shifted) - 0.15
        case "adaface":
            mean = sum(batch) / len(batch)
            deviation = math.sqrt(sum((n - mean) ** 2 for n in batch) / (len(batch) - 1))
            z = max(-1.0, min(1.0, 0.333 * (norm - mean) / (deviation + 0.001)))
            angle = max(0.0, min(math.pi, theta - 0.4 * z))
            return math.cos(angle) - (0.4 + 0.4 * z)
        case "magface":
            a = max(2.0, min(8.0, norm))
            return arcface(theta, 0.45 + (0.8 - 0.45) / (8.0 - 2.0) * (a - 2.0))
    return math.cos(theta)


def logits_of(
    name: str, embedding: list[float], rows: list[list[float]], label: int, batch: list[float]
) -> list[float]:
    """One crop's logits; `label` -1 for an identity that is not there."""
    if name == "softmax":
        return [
            sum(a * b for a, b in zip(embedding, row[:-1], strict=True)) + row[-1] for row in rows
        ]
    norm = math.hypot(*embedding)
    scale = norm if name == "sphereface" else 32.0
    per_identity = OPTIONS[name].get("sub_centres", 1)
    logits = []
    for index in range(len(rows) // per_identity):
        own = rows[per_identity * index : per_identity * (index + 1)]
        cosine = max(cosine_of(embedding, row) for row in own)
        if index == label:
            cosine = true_value(name, math.acos(cosine), norm, batch)
        logits.append(scale * cosine)
    return logits


def loss_of(
    name: str,
    embeddings: list[list[float]],
    rows: list[list[float]],
    labels: list[int],
    smoothing: float,
) -> float:
    """Mean cross-entropy of the batch, which the first step had too, and MagFace's regularizer."""
    batch = [math.hypot(*row) for row in embeddings]
    total = 0.0
    for embedding, label in zip(embeddings, labels, strict=True):
        logits = logits_of(name, embedding, rows, label, batch)
        top = max(logits)
        log_sum = top + math.log(sum(math.exp(value - top) for value in logits))
        uniform = sum(log_sum - value for value in logits) / len(logits)
        total += (1 - smoothing) * (log_sum - logits[label]) + smoothing * uniform
        if name == "magface":
            a = max(2.0, min(8.0, math.hypot(*embedding)))
            total += 35.0 * (1 / a + a / 8.0**2)
    return total / len(labels)
