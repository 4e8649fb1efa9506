"""The words a user can choose from, where the jobs and the learning below them share the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from napari_tlseg.errors import InputError

Head = Literal["regression", "heatmap", "unet"]
"""Of a localizer: a point by a fully connected layer, a heat map from the encoder's features, or from a whole U-Net."""
Format = Literal["auto", "png", "tiff", "nifti"]
Loss = Literal["dice", "cross-entropy", "both"]
Norm = Literal["target", "source"]
"""Whose batch-norm statistics the encoder uses."""
Origin = Literal["none", "imagenet", "medicalnet"]
"""Where the weights of an encoder come from, where that is no file."""
Precision = Literal["auto", "float32", "bfloat16"]
Solver = Literal["stable", "paper"]
Unreadable = Literal["refuse", "skip"]
"""What to do about an image file that cannot be opened."""

INFLATED, MED3D = "-3d", "-med3d"
"""How the names of encoders end that see volumes: a 2-D one inflated, or one of Med3D."""


def is_volumetric(encoder: str) -> bool:
    """Whether the encoder of that name sees volumes and not planes."""
    return encoder.endswith((INFLATED, MED3D))


@dataclass(frozen=True)
class Transfer:
    """What of a source is taken (Raghu et al.): all of it, its layers' mean and variance, or its lowest layers."""

    kind: Literal["full", "mean-var", "lowest"] = "full"
    layers: int = 0
    """How many of the lowest convolution layers."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`full`, `mean-var` or `lowest:K`."""
        match text.partition(":"):
            case ("full" | "mean-var") as kind, "", "":
                return cls(kind)
            case "lowest", ":", layers if layers.isdecimal() and int(layers):
                return cls("lowest", int(layers))
        raise InputError(f"--transfer {text} is not possible", remedy="give full, mean-var or lowest:K with K from 1")
