"""Masks that models find in the same cases, and how far they agree."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.engine.predicting import segment
from napari_tlseg.events import Control
from napari_tlseg.learn.predict import Segmenter

Masks = list[NDArray[np.bool_]]
"""Foreground or not, of each case on its native grid."""


def find(segmenter: Segmenter, cases: Sequence[Case], weights: Mapping[str, Tensor] | None = None) -> Masks:
    """The masks as they would be exported; of other weights, which the segmenter then keeps."""
    if weights is not None:
        segmenter.model.load_state_dict(weights)
    return [segment(segmenter, case, Control())[0] > 0 for case in cases]


def drawn(cases: Sequence[Case]) -> Masks:
    """The true ones."""
    return [read_mask(case, 256) > 0 for case in cases]


def dice(one: Masks, other: Masks) -> float:
    """Mean over cases of 2 |A ∩ B| / (|A| + |B|); of two empty masks 1."""
    return statistics.fmean(_dice(a, b) for a, b in zip(one, other, strict=True))


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
