"""Heads that turn an encoder into something other than a segmenter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import Decoder, pad_to
from napari_tlseg.options import Head

THIN, HIDDEN = 32, 128
FINE = 4
"""Pixels per cell of the heat map that the light decoder makes."""
SIGMA = 0.02
"""Standard deviation of the Gaussian that a click becomes, as a share of the side; at least a cell of the map."""


class AnyLocalizer(nn.Module, ABC):
    """What says where the target's centre is, in a square image (B, C, size, size) with values in [0, 1]."""

    encoder: Encoder
    size: int

    @abstractmethod
    def places(self, output: Tensor) -> Tensor:
        """What `forward` gave as (B, 3) float32: y, x and doubt, fractions of the side; the doubt NaN where unknown."""

    @abstractmethod
    def loss(self, output: Tensor, centres: Tensor) -> Tensor:
        """A scalar; centres: (B, 2) yx, fractions of the side."""

    def _features(self, image: Tensor) -> list[Tensor]:
        if image.shape[-2:] != (self.size, self.size):
            raise ValueError(f"the localizer takes {self.size}×{self.size} pixels, not {tuple(image.shape[-2:])}")
        features: list[Tensor] = self.encoder(pad_to(image, self.encoder.scales[-1]))
        return features


class Localizer(AnyLocalizer):
    """(B, C, size, size) to the centre (B, 2) yx, fractions of the side.

    Hu et al.: encoder arm, its deepest feature flattened, fully connected, linear. Two things are added. A 1×1
    convolution thins the feature to 32 channels first; its resolution stays, as that carries the place. And
    batch-norm precedes every ReLU: without it RMSprop stayed at the mean of the clicks at a learning rate of 3e-4 and
    1e-3 (at 1e-4 it learned). Dropout is the encoder's. The output is not squashed: the mean of
    the targets, about the middle, is where it starts.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size
        places = ceil(size / encoder.strides[-1]) ** 2
        output = nn.Linear(HIDDEN, 2)
        nn.init.constant_(output.bias, 0.5)
        self.head = nn.Sequential(
            nn.Conv2d(encoder.channels[-1], THIN, 1, bias=False),
            nn.BatchNorm2d(THIN),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(THIN * places, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(inplace=True),
            output,
        )

    def forward(self, image: Tensor) -> Tensor:
        point: Tensor = self.head(self._features(image)[-1])
        return point

    def places(self, output: Tensor) -> Tensor:
        """The output itself; it knows no doubt."""
        return F.pad(output.float(), (0, 1), value=torch.nan)

    def loss(self, output: Tensor, centres: Tensor) -> Tensor:
        """Mean squared error, fractions of the side, squared."""
        return F.mse_loss(output.float(), centres)


class HeatmapLocalizer(AnyLocalizer):
    """(B, C, size, size) to logits (B, 1, h, w) of a map whose softmax says where the centre may be.

    A click is a Gaussian on the map, the loss the cross-entropy of the map with it. The point is the mean of the map
    about its peak (a local soft-argmax, which knows fractions of a cell); the doubt is the map's root mean square
    distance from that point, beyond that of the Gaussian itself: a second peak far away raises it. Unlike a fully
    connected layer it learns what the target looks like, not where it mostly is (Nibali et al., "Numerical coordinate
    regression with convolutional neural networks", 2018).

    `decoder` is the light `Pyramid`, or that of a U-Net, which is then pretrained too.
    """

    def __init__(self, encoder: Encoder, size: int, decoder: Pyramid | Decoder) -> None:
        super().__init__()
        self.encoder, self.size, self.decoder = encoder, size, decoder

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self._features(image))
        cells = ceil(self.size / self._cell)  # without those of the padding
        return logits[..., :cells, :cells]

    def places(self, output: Tensor) -> Tensor:
        """Point and doubt of each map."""
        chances = output.float().flatten(1).softmax(1)
        cells = self._cells(output)
        distance = torch.cdist(cells[chances.argmax(1)], cells)
        near = chances * (distance <= 3 * self._sigma)
        point = near @ cells / near.sum(1, keepdim=True)
        spread = (chances * torch.cdist(point, cells).square()).sum(1, keepdim=True)
        return torch.cat([point, (spread - 2 * self._sigma**2).clamp(min=0).sqrt()], 1)

    def loss(self, output: Tensor, centres: Tensor) -> Tensor:
        """Cross-entropy of the softmax with the Gaussian about each centre, both over all cells of the map."""
        cells = self._cells(output)
        wanted = (-torch.cdist(centres, cells).square() / (2 * self._sigma**2)).softmax(1)
        return F.cross_entropy(output.float().flatten(1), wanted)

    def _cells(self, output: Tensor) -> Tensor:
        """(h·w, 2) yx: the middle of each cell, fractions of the side."""
        places = (torch.arange(output.shape[-1], device=output.device) + 0.5) * (self._cell / self.size)
        return torch.cartesian_prod(places, places)

    @property
    def _sigma(self) -> float:
        return max(SIGMA, self._cell / self.size)

    @property
    def _cell(self) -> int:
        return self.decoder.cell if isinstance(self.decoder, Pyramid) else 1


class Pyramid(nn.Module):
    """Features, finest first, to one logit per cell of about 4 pixels: each thinned, enlarged and added.

    Lin et al., "Feature pyramid networks for object detection", CVPR 2017, without the maps in between.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.first = next(level for level, stride in enumerate(encoder.strides) if stride >= FINE)
        self.cell = encoder.strides[self.first]
        self.thin = nn.ModuleList(nn.Conv2d(width, THIN, 1) for width in encoder.channels[self.first :])
        self.out = nn.Sequential(
            nn.BatchNorm2d(THIN),
            nn.ReLU(inplace=True),
            nn.Conv2d(THIN, THIN, 3, padding=1, bias=False),
            nn.BatchNorm2d(THIN),
            nn.ReLU(inplace=True),
            nn.Conv2d(THIN, 1, 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        kept = features[self.first :]
        shape = kept[0].shape[-2:]
        thinned = (thin(feature) for thin, feature in zip(self.thin, kept, strict=True))
        total = sum(F.interpolate(map_, shape, mode="bilinear") for map_ in thinned)
        logits: Tensor = self.out(total)
        return logits


def make_localizer(head: Head, encoder: Encoder, size: int) -> AnyLocalizer:
    """The localizer that a head's name stands for."""
    if head == "regression":
        return Localizer(encoder, size)
    decoder = Pyramid(encoder) if head == "heatmap" else Decoder(encoder.channels, encoder.scales, 1)
    return HeatmapLocalizer(encoder, size, decoder)
