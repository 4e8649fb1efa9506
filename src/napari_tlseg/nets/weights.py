"""Pretrained weights that others made, from files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Set
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_tlseg.errors import InputError

LEFT_OVER = re.compile(r"(classifier|fc|_fc|head|conv_seg)\.")
"""Keys of what stands on an encoder."""


def fill(body: nn.Module, name: str, path: Path) -> None:
    """Copy a file's weights of encoder `name` into its body; only keys of what stands on one may be left over."""
    wanted = body.state_dict().keys()
    state = {_rename(key, wanted): tensor for key, tensor in read_tensors(path).items()}
    state = {key: tensor for key, tensor in state.items() if key in wanted or not LEFT_OVER.match(key)}
    remedy = f"give pretrained weights of {name}"
    try:
        missing, unexpected = nn.Module.load_state_dict(body, state, strict=False)
    except RuntimeError as error:
        raise InputError(f"its tensors have other shapes than those of encoder {name!r}", path, remedy) from error
    if missing or unexpected:
        kinds = ("missing", missing), ("unexpected", unexpected)
        wrong = [f"{len(keys)} tensors {kind} ({_some(keys)})" for kind, keys in kinds if keys]
        raise InputError(f"does not hold encoder {name!r}: {', '.join(wrong)}", path, remedy)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _rename(key: str, wanted: Set[str]) -> str:
    """DenseNet's keys as old torchvision files write them (`norm.1`), MedicalNet's, and timm's without smp's prefix."""
    key = key.removeprefix("module.")
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)", r"\1", key)
    prefixed = f"model.{key}"
    return prefixed if prefixed in wanted else key


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a foreign `.pth` or `.safetensors` file; code in a pickle is refused, never run.

    Also where they are the `state_dict` of a training's checkpoint, as MedicalNet's are.
    """
    readers: dict[str, Callable[[Path], object]] = {".safetensors": _read_safetensors}
    readers |= dict.fromkeys((".pth", ".pt", ".bin"), _read_pickle)
    if not path.is_file():
        raise InputError("there is no such file of weights", path)
    if path.suffix.lower() not in readers:
        raise InputError("is not a file of weights", path, "give a .pth or .safetensors file")
    try:
        tensors = readers[path.suffix.lower()](path)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            "cannot be read as weights: it is damaged, or holds code, which is never run", path, "download it again"
        ) from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise InputError("holds other things than named tensors", path, "save the model's state_dict")
    return {str(key): tensor for key, tensor in tensors.items()}


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pickle(path: Path) -> object:
    with warnings.catch_warnings(action="ignore"):  # of a pickle's protocol, before the refusal says the same
        return torch.load(path, map_location="cpu", weights_only=True)
