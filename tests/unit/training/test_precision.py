"""What `auto` stands for on a device."""

import pytest
import torch

from facewright.training.precision import precision_on

from .test_fit import train

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_a_cpu_without_units_for_bf16_trains_in_fp32(
    monkeypatch: pytest.MonkeyPatch, units: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert precision_on(CPU, "auto") == expected


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_units_for_bf16_trains_in_fp16(
    monkeypatch: pytest.MonkeyPatch, units: bool, expected: str
) -> None:
    def supported(*, including_emulation: bool) -> bool:
        return units or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision_on(GPU, "auto") == expected
    assert precision_on(GPU, "auto", fp16=False) == ("bf16" if units else "fp32")


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
def test_what_is_named_is_taken(device: torch.device, name: str) -> None:
    assert precision_on(device, name) == name


def test_training_tells_what_it_was_done_in() -> None:
    assert train(epochs=1, precision="auto").precision == precision_on(CPU, "auto")
    assert train(epochs=1, precision="bf16").precision == "bf16"
