"""The words a user can choose from, where the jobs and the learning below them share the choice."""

from __future__ import annotations

from typing import Literal

Head = Literal["regression", "heatmap", "unet"]
"""Of a localizer: a point by a fully connected layer, a heat map from the encoder's features, or from a whole U-Net."""
Format = Literal["auto", "png", "tiff", "nifti"]
Loss = Literal["dice", "cross-entropy", "both"]
Norm = Literal["target", "source"]
"""Whose batch-norm statistics the encoder uses."""
Precision = Literal["auto", "float32", "bfloat16"]
Solver = Literal["stable", "paper"]
