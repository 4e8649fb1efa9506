"""A HydraNet: one encoder shared by several segmentations, each with a decoder of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import Decoder, UNet, crop_to, pad_to


class HydraNet(nn.Module):
    """Images (T·B, C, Y, X), B of each of T tasks in their order, to a list of T logits (B, K, Y, X).

    With an encoder that sees volumes, (T·B, C, Z, Y, X), it is the network of Med3D (Chen et al.).
    All pass through the encoder together, so that its batch-norm sees the mixture that its running statistics are of;
    each task's own then pass through its decoder (Sagie et al.).
    """

    def __init__(self, encoder: Encoder, classes: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self._classes = encoder, tuple(classes)
        self.decoders = nn.ModuleList(UNet(encoder, count).decoder for count in classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.encoder(pad_to(images, self.encoder.scales[-1]))
        of_tasks = zip(*(feature.chunk(len(self.decoders)) for feature in features), strict=True)
        logits = (decoder(list(own)) for decoder, own in zip(self.decoders, of_tasks, strict=True))
        return [crop_to(images, found) for found in logits]

    def unet(self, task: int) -> UNet:
        """The U-Net of one task; its weights are those of the HydraNet."""
        decoder = self.decoders[task]
        assert isinstance(decoder, Decoder)
        return UNet(self.encoder, self._classes[task], decoder)
