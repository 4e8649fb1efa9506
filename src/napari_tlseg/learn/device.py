"""Which device and which number format a job uses, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from napari_tlseg.errors import InputError
from napari_tlseg.options import Precision


def pick_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"the device '{name}' cannot be used here", remedy="leave --device at auto, or use cpu"
        ) from error
    return device


LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The memory format that convolutions are fastest with, by the axes of their kernels and of the images."""


def settle(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, in the memory format that its convolutions are fastest with."""
    axes = max(parameter.ndim for parameter in model.parameters())
    model.to(device, memory_format=LAYOUT.get(axes))  # type: ignore[call-overload]


def move(images: Tensor, device: torch.device) -> Tensor:
    """Images (B, C, Y, X) or volumes (B, C, Z, Y, X) to a device, in that format."""
    return images.to(device, memory_format=LAYOUT[images.ndim])


def pick_precision(name: Precision, device: torch.device, *, learns_volumes: bool = False) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32.

    To learn from volumes a CPU takes float32: of a 3×3×3 convolution on 2×2×2 voxels, as there are in a U-Net's depth,
    its gradients in bfloat16 hold numbers that were never written (oneDNN, as of PyTorch 2.15).
    """
    if learns_volumes and device.type == "cpu":
        if name == "bfloat16":
            raise InputError("a CPU cannot learn from volumes in bfloat16", remedy="leave --precision at auto")
        return torch.float32
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """Convolutions in `precision`; nothing at all for float32."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count numbers below 1e-38 as 0: Adam's moments decay to them, and CPUs are slow at them.

    Only for a process of our own: without those numbers SciPy's cKDTree dies of a recursion.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
