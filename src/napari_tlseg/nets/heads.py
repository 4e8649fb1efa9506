"""Heads that turn an encoder into something other than a segmenter."""

from __future__ import annotations

from math import ceil

from torch import Tensor, nn

from .encoders import Encoder
from .unet import pad_to

HIDDEN = 128
MOST_WEIGHTS = 10_000_000  # of the fully connected layer


class Localizer(nn.Module):
    """Where the target's centre is: square image (B, C, size, size) in [0, 1] to (B, 2) yx, fractions of the side.

    Hu et al.: encoder arm, its deepest feature flattened, fully connected, linear. The output is not squashed: the
    mean of the targets, about the middle, is where it starts. Where the fully connected layer would exceed ten
    million weights (large images), a 1×1 convolution first thins the channels: the resolution carries the place.
    """

    def __init__(self, encoder: Encoder, size: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size
        places = ceil(size / encoder.strides[-1]) ** 2
        width = min(encoder.channels[-1], max(1, MOST_WEIGHTS // (HIDDEN * places)))
        thin = [nn.Conv2d(encoder.channels[-1], width, 1)] if width < encoder.channels[-1] else []
        output = nn.Linear(HIDDEN, 2)
        nn.init.constant_(output.bias, 0.5)
        self.head = nn.Sequential(
            *thin, nn.Flatten(), nn.Linear(width * places, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout), output
        )

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (self.size, self.size):
            raise ValueError(f"the localizer takes {self.size}×{self.size} pixels, not {tuple(image.shape[-2:])}")
        point: Tensor = self.head(self.encoder(pad_to(image, self.encoder.strides[-1]))[-1])
        return point
