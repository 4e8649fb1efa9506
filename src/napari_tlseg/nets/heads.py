"""Heads that turn an encoder into something other than a segmenter."""

from __future__ import annotations

from math import ceil

from torch import Tensor, nn

from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import pad_to

THIN, HIDDEN = 32, 128


class Localizer(nn.Module):
    """Where the target's centre is: square image (B, C, size, size) in [0, 1] to (B, 2) yx, fractions of the side.

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
        if image.shape[-2:] != (self.size, self.size):
            raise ValueError(f"the localizer takes {self.size}×{self.size} pixels, not {tuple(image.shape[-2:])}")
        point: Tensor = self.head(self.encoder(pad_to(image, self.encoder.strides[-1]))[-1])
        return point
