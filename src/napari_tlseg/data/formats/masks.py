"""What makes an array the mask of an image: its grid, and values that are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels
from napari_tlseg.data.formats.opened import Pixels
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

_WHOLE = 1e-4
"""How far a label may be from a whole number: the rounding of a scaled one."""


ON_GRID = "export the mask on the grid of its image"


def check_grid(path: Path, mask: Geometry, image: Geometry, named: str = "image", remedy: str = ON_GRID) -> None:
    """A mask may lack axes of length one, and an affine, but it may not contradict its image."""
    if [side for side in mask.shape if side != 1] != [side for side in image.shape if side != 1]:
        here, there = (" × ".join(map(str, geometry.shape)) for geometry in (mask, image))
        raise InputError(f"is {here} pixels, but its {named} is {there}", path, remedy)
    if mask.affine is None or image.affine is None or np.allclose(mask.affine, image.affine, atol=1e-3):
        return
    here, there = _rows(mask.affine), _rows(image.affine)
    raise InputError(f"has the affine {here}, but its {named} has {there}", path, remedy)


def _rows(affine: NDArray[np.float64]) -> str:
    return "[" + "; ".join(" ".join(f"{value:.6g}" for value in row) for row in affine[:3]) + "]"


def to_grey(path: Path, colours: Pixels) -> Pixels:
    """A mask saved as colours that are all grey: (..., C) to (...)."""
    if (colours != colours[..., :1]).any():
        raise InputError("is a colour picture, not a mask", path, "save the class numbers as grey values")
    return np.ascontiguousarray(colours[..., 0])


def to_labels(path: Path, values: Pixels, classes: int, lossy: bool) -> Labels:
    """0 … `classes` - 1; 0 and 255 alone are 0/1, and so is a bright JPEG of two classes, cut at 128."""
    whole = _whole(path, values)
    low, high = whole.min(), whole.max()
    if lossy and classes == 2 and high >= 128:
        return np.asarray(whole >= 128, dtype=np.uint8)
    if high == 255 and ((whole == 0) | (whole == 255)).all():
        return np.asarray(whole == 255, dtype=np.uint8)
    if low < 0 or high >= classes:
        reason = f"holds the value {low if low < 0 else high:g}, but there are {classes} classes, 0 to {classes - 1}"
        remedy = "JPEG blurs class numbers, so save it as PNG" if lossy else "correct the mask or the list of classes"
        raise InputError(reason, path, remedy)
    return whole.astype(np.uint8)


def _whole(path: Path, values: Pixels) -> Pixels:
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    off = np.abs(values - whole)
    if off.max() > _WHOLE:
        reason = f"holds the value {values.flat[off.argmax()]:g}, which is no class number"
        raise InputError(reason, path, "threshold the mask and save it again")
    return whole
