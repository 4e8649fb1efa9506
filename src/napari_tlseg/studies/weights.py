"""The models of a path in a folder: the first in full, of every other what its weights differ by, at half the size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_tlseg.data.files import atomic_path
from napari_tlseg.errors import InputError
from napari_tlseg.studies.drift import DriftCurve

Weights = Mapping[str, Tensor]
"""The state of a model, by name."""
SMALL = 4096
"""Tensors of fewer elements, as the statistics of batch-norm, are kept whole: they cost nothing."""
REMEDY = "make the path anew"


def write_weights(folder: Path, number: int, strength: float, weights: Weights, base: Weights) -> dict[str, Tensor]:
    """Keep the model at `strength`; returns it as it can be read again, which is the model to go on with.

    A large tensor is kept as its difference from `base` in float16, with 11 significant bits of how far it went: of
    a weight that moved by 1 % these are 1e-5 of the weight itself. number: 0 is the base, kept in full.
    """
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}  # not the live ones
    if number:
        kept = {name: _difference(tensor, base[name].cpu()) for name, tensor in kept.items()}
    with atomic_path(file_of(folder, number)) as path:
        save_file(kept, path, metadata={"lambda": str(float(strength))})
    return _restore(kept, base) if number else kept


def read_weights(folder: Path, count: int) -> dict[float, dict[str, Tensor]]:
    """λ → weights, of the `count` models of a path, from ∞ down."""
    found: dict[float, dict[str, Tensor]] = {}
    base: dict[str, Tensor] = {}
    for number in range(count):
        path = file_of(folder, number)
        try:
            with safe_open(path, framework="pt") as file:
                kept = {name: file.get_tensor(name) for name in file.keys()}
                strength = float(file.metadata()["lambda"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError("cannot be read: it is damaged, or no model of a path", path, REMEDY) from error
        base = base or kept
        found[strength] = _restore(kept, base) if number else kept
    return found


def file_of(folder: Path, number: int) -> Path:
    return folder / f"{number}.safetensors"


@dataclass(frozen=True, eq=False)
class Between:
    """The weights at any λ: those of the path where it has that λ, else between those of its two neighbours.

    θ(λ) = θ_a + t (θ_b − θ_a), with t by how far the drift at λ is on its way from that of one neighbour to the other.
    """

    weights: Mapping[float, Weights]
    """λ → weights."""
    curve: DriftCurve
    _strengths: Sequence[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_strengths", sorted(self.weights))

    def at(self, strength: float) -> Weights:
        """ValueError for λ below 0."""
        low, high, t = self.neighbours(strength)
        if t == 0:
            return self.weights[low]
        return {name: _mix(tensor, self.weights[high][name], t) for name, tensor in self.weights[low].items()}

    def nearest(self, strength: float) -> float:
        """The computed λ whose drift is nearest."""
        low, high, t = self.neighbours(strength)
        return low if t < 0.5 else high

    def neighbours(self, strength: float) -> tuple[float, float, float]:
        """(λ below, λ above, how far from the one to the other, from 0 to 1)."""
        if not strength >= 0:
            raise ValueError(f"λ must lie between 0 and ∞, not at {strength}")
        place = bisect_left(self._strengths, strength)
        if place == len(self._strengths) or self._strengths[place] == strength or place == 0:
            λ = self._strengths[min(place, len(self._strengths) - 1)]
            return λ, λ, 0.0
        low, high = self._strengths[place - 1], self._strengths[place]
        start, here, end = (self.curve.share(λ) for λ in (low, strength, high))
        return low, high, (start - here) / (start - end) if start > end else 0.0


def _difference(tensor: Tensor, base: Tensor) -> Tensor:
    if tensor.numel() < SMALL or not tensor.is_floating_point():
        return tensor
    return (tensor - base).to(torch.float16)


def _restore(kept: Weights, base: Weights) -> dict[str, Tensor]:
    return {
        name: base[name].cpu() + tensor.to(base[name].dtype) if tensor.dtype == torch.float16 else tensor
        for name, tensor in kept.items()
    }


def _mix(low: Tensor, high: Tensor, t: float) -> Tensor:
    return torch.lerp(low, high, t) if low.is_floating_point() else low
