"""MAKNet: dense blocks of mixed asymmetric kernels, with attention (Virk and Bathula).

What their description leaves open is settled here: kernels of 3, four stages of 3, 3, 6 and 6 mixed convolutions,
widths for the 4.5 million parameters that they name for a classifier of 171 labels, and MixPool as the mean of maximum
and average.

References
----------
.. [1] Virk and Bathula, MAKNet, on lesions in CT.
.. [2] Woo, Park, Lee and Kweon, "CBAM: convolutional block attention module", ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 3
STAGES = ((3, 16, 64), (3, 32, 128), (6, 64, 256), (6, 64, 320))
"""(mixed convolutions, channels that each adds, channels of the stage), finest first."""
STEM = 32
REDUCTION = 16
"""How much narrower the middle of CBAM's channel attention is."""


class MAKNetBody(nn.Module):
    """Image (B, C, Y, X) to features at strides 1, 2, 4, 8, 16: a stem, then per stage MixPool, dense block, CBAM."""

    def __init__(self, in_channels: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = convolution(in_channels, STEM)
        inputs = (STEM, *(width for _, _, width in STAGES))
        self.stages = nn.ModuleList(DenseBlock(width, *stage) for width, stage in zip(inputs, STAGES, strict=False))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(mix_pool(features[-1])))
        return [*features[:-1], self.dropout(features[-1])]


class DenseBlock(nn.Module):
    """Mixed convolutions, each of all that came before; then a standard convolution to the stage's width, and CBAM."""

    def __init__(self, inputs: int, layers: int, growth: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MixedConv(inputs + number * growth, growth) for number in range(layers))
        self.join = convolution(inputs + layers * growth, outputs)
        self.attention = CBAM(outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        attended: Tensor = self.attention(self.join(x))
        return attended


class MixedConv(nn.Module):
    """Four convolutions side by side, k×k, 1×k, k×1 and 1×1, each of all input channels to a quarter of the outputs.

    Batch-norm and Mish follow. Of a k×k convolution of the same width it has (k + 1)² / 4k² of the weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = KERNEL) -> None:
        if outputs % 4:
            raise ValueError(f"four groups of kernels cannot share {outputs} channels")
        super().__init__()
        shapes = ((kernel, kernel), (1, kernel), (kernel, 1), (1, 1))
        self.groups = nn.ModuleList(
            nn.Conv2d(inputs, outputs // 4, shape, padding=(shape[0] // 2, shape[1] // 2), bias=False)
            for shape in shapes
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(self.norm(torch.cat([group(x) for group in self.groups], dim=1)))


class CBAM(nn.Module):
    """Attention to channels, then to places (Woo et al. [2]_).

    Channels are weighted by σ(MLP(average) + MLP(maximum)) over all places, places by σ of a 7×7 convolution of the
    average and the maximum over all channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // REDUCTION),
            nn.ReLU(inplace=True),
            nn.Linear(channels // REDUCTION, channels),
        )
        self.places = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        channels = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = x * torch.sigmoid(channels)[:, :, None, None]
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        attended: Tensor = x * torch.sigmoid(self.places(summary))
        return attended


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, batch-norm, Mish."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.Mish(inplace=True)
    )


def mix_pool(x: Tensor) -> Tensor:
    """The mean of 2×2 maximum and average pooling, at half the resolution."""
    return (F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)) / 2
