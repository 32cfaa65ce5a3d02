"""The type that convolutions are computed in, under autocast; weights stay in float32."""

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_UNITS = ("avx512_bf16", "amx_bf16")  # as PyTorch names them


def precision_on(device: torch.device, name: str, *, fp16: bool = True) -> str:
    """The one of PRECISIONS that `name` stands for on this device.

    `auto` is bf16 where the device has units for it. Else it is fp16 on a GPU, and on a CPU fp32,
    which would take twice as long in bf16: each product is then made of several in float32.

    Args:
        fp16: whether the training scales its loss, without which gradients in fp16 vanish; else
            such a GPU gets fp32 as well.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        with_units = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if with_units else "fp16" if fp16 else "fp32"
    found = torch.cpu.get_capabilities()
    return "bf16" if any(found.get(unit) for unit in CPU_UNITS) else "fp32"
