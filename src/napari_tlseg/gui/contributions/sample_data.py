"""Synthetic images under File > Open Sample: what the tool works on, without anyone's patients."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_tlseg.data.phantoms import chest_ct, fundus

LayerData = tuple[Any, dict[str, Any], str]

LUNG_WINDOW = (-1000.0, 400.0)
"""HU."""

PAINT = {"colormap": {None: "transparent", 1: "cyan", 2: "magenta"}, "opacity": 0.3}


def fundus_phantoms(count: int = 4) -> list[LayerData]:
    """A stack of fundus photographs (N, Y, X, 3), their discs as labels and a click on each."""
    photographs = [fundus(seed) for seed in range(count)]
    clicks = [(index, *photograph.click) for index, photograph in enumerate(photographs)]
    ring = {"size": 12, "face_color": "transparent", "border_color": "yellow", "border_width": 0.15}
    return [
        (np.stack([each.image for each in photographs]), {"name": "fundus phantoms", "rgb": True}, "image"),
        (np.stack([each.mask for each in photographs]), {"name": "disc", **PAINT}, "labels"),
        (np.array(clicks), {"name": "clicks", **ring}, "points"),
    ]


def chest_ct_phantom() -> list[LayerData]:
    """A chest CT in HU, (Z, Y, X) axial, in mm; its lungs and the infected parts of them as labels."""
    phantom = chest_ct(1)
    place = {"scale": phantom.geometry.plane_spacing, "units": ("mm", "mm", "mm")}
    shown = {"name": "chest CT phantom", "contrast_limits": LUNG_WINDOW, "colormap": "gray"}
    return [
        (phantom.geometry.to_planes(phantom.image), {**place, **shown}, "image"),
        (phantom.geometry.to_planes(phantom.mask), {**place, "name": "lung, infection", **PAINT}, "labels"),
    ]
