"""A student learns the teacher's embeddings; the relation loss is what the paper says."""

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facewright.compression import distillation
from facewright.compression.distillation import distill, relation_loss
from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.models.recognizer import RecognizerCard, to_input
from facewright.models.vit import Block
from facewright.training.augmentation import NAMES
from facewright.training.batches import seed_of
from facewright.training.precision import precision_on

SETTINGS: dict[str, Any] = {
    "network": "resnet_tiny",
    "embedding_size": 32,
    "seed": 3,
    "epochs": 1,
    "batch_size": 24,
    "learning_rate": 0.003,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "clip_norm": 5.0,
    "precision": "bf16",
    "relation_weight": 1.0,
    "augmentation": dict.fromkeys(NAMES, 0.0) | {"flip": 0.5, "shift": 0.05, "brightness": 0.1},
    "report": lambda metrics, step: None,
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def likeness(student: nn.Module, teacher: nn.Module, crops: Any) -> float:
    """Mean cosine between what the two say of the same crops."""
    card = RecognizerCard("", "torch", "", 32, "fp32", "", "", "")
    images = torch.from_numpy(to_input(crops.images, card))
    with torch.inference_mode():
        return float(F.cosine_similarity(student(images), teacher(images)).mean())


def test_student_comes_close_to_the_teacher(crops: Any, teacher: nn.Module) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    reported: list[tuple[int, dict[str, float]]] = []
    distilled = distill(
        crops,
        teacher=teacher,
        **SETTINGS
        | {"epochs": 16, "report": lambda metrics, step: reported.append((step, metrics))},
    )
    torch.manual_seed(0)
    untrained = build_network("resnet_tiny", embedding_size=32).eval()
    assert abs(likeness(untrained, teacher, crops)) < 0.5
    assert likeness(distilled.network, teacher, crops) > 0.8
    assert distilled.history[-1]["cosine"] > distilled.history[0]["cosine"] + 0.2
    assert distilled.history[-1]["train_loss"] < distilled.history[0]["train_loss"]
    assert [row["step"] for row in distilled.history] == [step for step, _ in reported]
    assert distilled.history[-1]["step"] == 16 * 3
    assert distilled.seconds > 0
    assert distilled.images_per_second > 0
    assert not distilled.network.training
    assert all((before[key] == value).all() for key, value in teacher.state_dict().items())


def with_stochastic_depth(name: str, *, embedding_size: int) -> nn.Module:
    """A stand-in for `vit_*`, whose blocks draw while training."""
    return nn.Sequential(
        nn.AvgPool2d(28), nn.Flatten(2), Block(16, 0.5), nn.Flatten(), nn.Linear(48, embedding_size)
    )


@pytest.mark.parametrize("build", [build_network, with_stochastic_depth])
def test_same_seed_same_weights(
    crops: Any, teacher: nn.Module, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "build_network", build)
    torch.manual_seed(1)
    first = distill(crops, teacher=teacher, **SETTINGS).network.state_dict()
    torch.manual_seed(2)
    random_state = torch.get_rng_state()
    again = distill(crops, teacher=teacher, **SETTINGS).network.state_dict()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = distill(crops, teacher=teacher, **SETTINGS | {"seed": 4}).network.state_dict()
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
        ("auto", torch.float32),  # fp16 on such a GPU, which would need a scale
    ],
)
def test_precision_is_that_of_the_teacher_and_the_student(
    crops: Any, precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(
        distillation,
        "precision_on",
        lambda device, *asked, **more: precision_on(gpu, *asked, **more),
    )

    class Watched(nn.Module):
        seen: ClassVar[set[torch.dtype]] = set()

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 32)

        def forward(self, images: Tensor) -> Tensor:
            embeddings: Tensor = self.layer(images.mean(dim=(2, 3)))
            self.seen.add(embeddings.dtype)
            return embeddings

    distilled = distill(crops, teacher=Watched(), **SETTINGS | {"precision": precision})
    assert Watched.seen == {dtype}
    kinds = {p.dtype for p in distilled.network.parameters() if p.is_floating_point()}
    assert kinds == {torch.float32}
    assert distilled.history[-1]["train_loss"] < distilled.history[0]["train_loss"] + 0.5


def test_gradients_are_clipped(crops: Any, teacher: nn.Module) -> None:
    torch.manual_seed(seed_of(SETTINGS["seed"], "weights", 0))
    start = dict(build_network("resnet_tiny", embedding_size=32).named_parameters())

    def moved(clip_norm: float) -> float:
        settings = SETTINGS | {"clip_norm": clip_norm, "weight_decay": 0.0}
        network = distill(crops, teacher=teacher, **settings).network
        return max(
            float((p - start[n]).detach().abs().max()) for n, p in network.named_parameters()
        )

    assert moved(5.0) > 1e-3
    # AdamW makes steps of one size of whatever gradient is above its 1e-8.
    assert moved(1e-12) < 1e-5


def test_relation_loss_is_zero_for_a_turned_copy() -> None:
    torch.manual_seed(0)
    wanted = F.normalize(torch.randn(9, 6, dtype=torch.float64))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert float(relation_loss(wanted @ turn, wanted)) == pytest.approx(0, abs=1e-20)
    assert float(relation_loss(F.normalize(torch.randn(9, 6).double()), wanted)) > 1e-3


def test_relation_loss_is_the_mean_over_pairs() -> None:
    torch.manual_seed(0)
    given, wanted = F.normalize(torch.randn(5, 4)), F.normalize(torch.randn(5, 7))
    slow = []
    for i in range(5):
        for j in range(i):
            apart = float(given[i] @ given[j] - wanted[i] @ wanted[j])
            slow.append(apart**2 / 2 if abs(apart) <= 1 else abs(apart) - 0.5)
    assert float(relation_loss(given, wanted)) == pytest.approx(sum(slow) / 10, rel=1e-5)


def test_another_embedding_size_is_refused(crops: Any, teacher: nn.Module) -> None:
    with pytest.raises(TrainingError, match="embedding_size must be the teacher's"):
        distill(crops, teacher=teacher, **SETTINGS | {"embedding_size": 16})


def test_a_teacher_that_gives_no_numbers_stops_it(crops: Any) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 32), torch.nan)

    with pytest.raises(TrainingError, match="unstable at step 1"):
        distill(crops, teacher=Broken(), **SETTINGS)


def linear(name: str, *, embedding_size: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, embedding_size))


def test_an_infinite_gradient_stops_it_before_the_weights_move(
    crops: Any, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(name: str, *, embedding_size: int) -> nn.Module:
        network = linear(name, embedding_size=embedding_size)
        for parameter in network.parameters():
            parameter.register_hook(lambda gradient: gradient * torch.inf)
        return network

    monkeypatch.setattr(distillation, "build_network", build)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *unused: pytest.fail("weights moved"))
    told = r"distillation became unstable at step 1: loss \d.*gradient norm (inf|nan),"
    with pytest.raises(TrainingError, match=rf"{told} .*crops \d+/\d+, .* and 16 more") as caught:
        distill(crops, teacher=teacher, **SETTINGS)
    assert "\n" not in str(caught.value)


def test_weights_that_an_update_made_infinite_are_no_result(
    crops: Any, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_step(self: torch.optim.Optimizer, *unused: object) -> None:
        self.param_groups[0]["params"][0].data.fill_(torch.inf)

    monkeypatch.setattr(distillation, "build_network", linear)
    monkeypatch.setattr(torch.optim.AdamW, "step", last_step)
    with pytest.raises(TrainingError, match="ended with weights that are not finite"):
        distill(crops, teacher=teacher, **SETTINGS | {"batch_size": len(crops)})


def test_an_unknown_network_is_refused(crops: Any, teacher: nn.Module) -> None:
    with pytest.raises(TrainingError, match="unknown network 'vgg'"):
        distill(crops, teacher=teacher, **SETTINGS | {"network": "vgg"})
