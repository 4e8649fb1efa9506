"""Layers for planes and for volumes alike, by the number of axes that they see: 2 (Y, X) or 3 (Z, Y, X)."""

from __future__ import annotations

from torch import nn

CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT: dict[int, type[nn.Dropout2d | nn.Dropout3d]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


def double_conv(inputs: int, outputs: int, axes: int = 2) -> nn.Sequential:
    """Two of (convolution with 3 along each axis, batch-norm, ReLU)."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        convolution = CONVOLUTION[axes](width, outputs, 3, padding=1, bias=False)
        layers += [convolution, NORM[axes](outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
