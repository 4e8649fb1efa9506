"""A classifier of several labels at once, on any encoder.

References
----------
.. [1] Yan et al., "Holistic and comprehensive annotation of clinically significant findings on diverse CT images",
   CVPR 2019: LesaNet, whose score propagation this is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import pad_to


class Classifier(nn.Module):
    """Image (B, C, Y, X) in [0, 1] to scores (B, 2, L), logits of L labels before and after propagation.

    Global concatenate pooling, the maximum and the average of the deepest feature over all places, then a fully
    connected layer. Score propagation [1]_ is a linear map of the L scores, the identity at first: it learns which
    labels speak for and against each other. The answer is the propagated scores; both are trained. `dropout` drops
    pooled features, in training only; at first none.
    """

    def __init__(self, encoder: Encoder, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0)
        self.scores = nn.Linear(2 * encoder.channels[-1], labels)
        self.propagation = nn.Linear(labels, labels, bias=False)
        nn.init.eye_(self.propagation.weight)

    def forward(self, image: Tensor) -> Tensor:
        deepest = self.encoder(pad_to(image, self.encoder.scales[-1]))[-1]
        scores = self.scores(self.dropout(torch.cat([deepest.amax((2, 3)), deepest.mean((2, 3))], dim=1)))
        return torch.stack([scores, self.propagation(scores)], dim=1)
