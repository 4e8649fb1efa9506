"""Labels layers saved as NIfTI, TIFF or PNG on the grid of the image that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_tlseg.data.formats import write_labels
from napari_tlseg.errors import InputError
from napari_tlseg.gui.layers import stored


def write_mask(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write a Labels layer, its labels as they are numbered."""
    target, mask = Path(path), stored((data, about, "labels"))
    if mask.source and target.exists() and target.samefile(mask.source):
        raise InputError("is the image itself, which the mask would replace", target, "choose another name")
    write_labels(target, mask.labels, mask.source, mask.geometry, 256)
    return [path]
