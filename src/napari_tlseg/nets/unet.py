"""A U-Net on any encoder, with the transposed-convolution decoder of Sagie et al."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.layers import CONVOLUTION, DROPOUT, TRANSPOSED, double_conv

WIDEST = 256  # of the decoder's first block; each later one is at most half as wide, down to NARROWEST
NARROWEST = 16


class UNet(nn.Module):
    """Image (B, C, Y, X) in [0, 1] to logits (B, K, Y, X): K = 1 for two classes (sigmoid), else one per class.

    Of an encoder that sees volumes (B, C, Z, Y, X) to (B, K, Z, Y, X), with a decoder of 3×3×3 kernels. Sides that the
    deepest stride does not divide are padded with their border's values, and the logits cropped.
    `dropout` drops whole channels of the deepest feature, in training only; at first none.
    """

    def __init__(self, encoder: Encoder, classes: int, decoder: Decoder | None = None) -> None:
        """With a new decoder, or one that there is already."""
        if classes < 2:
            raise ValueError(f"a segmentation has background and at least one more class, not {classes}")
        super().__init__()
        self.encoder = encoder
        self.dropout = DROPOUT[encoder.axes](0)
        self.decoder = decoder or Decoder(encoder.channels, encoder.scales, 1 if classes == 2 else classes)

    def forward(self, image: Tensor) -> Tensor:
        *finer, deepest = self.encoder(pad_to(image, self.encoder.scales[-1]))
        return crop_to(image, self.decoder([*finer, self.dropout(deepest)]))

    @torch.no_grad()
    def expect(self, shares: Tensor) -> None:
        """Let the untrained output say the classes' shares of the pixels, (classes,) that sum to 1.

        A small target is then not sought everywhere first: the bias alone would take thousands of steps of Adam to
        get there (Lin et al., "Focal loss for dense object detection", ICCV 2017, section 3.3).
        """
        bias, logs = self.decoder.logits.bias, shares.clamp(min=1e-4).log()
        assert bias is not None
        bias.copy_(logs[1:] - logs[:1] if len(shares) == 2 else logs - logs.mean())


class Decoder(nn.Module):
    """Features, finest first, to logits at full resolution: a block per skip, one up to stride 1, a 1×1 convolution.

    A block is as wide as its skip, but no wider than 256, 128, … 16: with deep encoders the decoder then costs
    about as much as the encoder, not many times more.
    """

    def __init__(self, channels: Sequence[int], scales: Sequence[tuple[int, ...]], outputs: int) -> None:
        super().__init__()
        skips, width, blocks = [*channels[-2::-1]], channels[-1], []
        ratios = [_ratio(*pair) for pair in zip(scales[:0:-1], scales[-2::-1], strict=True)]
        if max(scales[0]) > 1:  # nothing is left to skip from: the image itself is no feature
            skips, ratios = [*skips, 0], [*ratios, scales[0]]
        for level, (skip, ratio) in enumerate(zip(skips, ratios, strict=True)):
            narrow = min(skip or width, max(WIDEST >> level, NARROWEST))
            blocks.append(UpBlock(width, skip, narrow, ratio))
            width = narrow
        self.blocks = nn.ModuleList(blocks)
        self.logits = CONVOLUTION[len(scales[0])](width, outputs, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x, skips = features[-1], features[-2::-1]
        for level, block in enumerate(self.blocks):
            x = block(x, skips[level] if level < len(skips) else None)
        logits: Tensor = self.logits(x)
        return logits


class UpBlock(nn.Module):
    """Transposed convolution, concatenation with the skip, two of (3×3 convolution, batch-norm, ReLU).

    `ratio` is by how much the features grow along each axis.
    """

    def __init__(self, inputs: int, skip: int, outputs: int, ratio: tuple[int, ...]) -> None:
        super().__init__()
        self.up = TRANSPOSED[len(ratio)](inputs, outputs, kernel_size=ratio, stride=ratio)  # type: ignore[arg-type]
        self.convs = double_conv(outputs + skip, outputs, len(ratio))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        joined: Tensor = self.convs(x if skip is None else torch.cat([x, skip], dim=1))
        return joined


def _ratio(coarse: tuple[int, ...], fine: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(c // f for c, f in zip(coarse, fine, strict=True))


def pad_to(image: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """The image (B, C, ...) with its last pixels repeated until `multiple` divides its sides, an axis each."""
    missing = [-side % factor for side, factor in zip(image.shape[2:], multiple, strict=True)]
    padding = [pixels for more in reversed(missing) for pixels in (0, more)]
    return nn.functional.pad(image, padding, mode="replicate") if any(missing) else image


def crop_to(image: Tensor, padded: Tensor) -> Tensor:
    """Of what was made of the padded image, (B, K, ...), what lies on the image."""
    for axis, side in enumerate(image.shape[2:], 2):
        padded = padded.narrow(axis, 0, side)
    return padded


def probabilities(logits: Tensor) -> Tensor:
    """(B, K, ...) logits to (B, classes, ...) float32 that sum to 1, background first."""
    logits = logits.float()
    if logits.shape[1] > 1:
        return logits.softmax(dim=1)
    return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)
