"""Where the pixels of a stored array lie, and how to look at it as a stack of axial planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Unit = Literal["mm", "px"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """Shape, spacing and orientation of an array as it is stored: (Y, X), or (Z, Y, X) for a volume.

    A NIfTI array (i, j, k) is held as (k, j, i). Everything that learns or predicts sees *planes* instead: (N, Y, X),
    axial, rows towards posterior, columns towards the patient's left, N towards superior, whatever the stored
    orientation (from the affine). An image without an affine is taken as it lies; a 2-D image is a stack of one plane.

    >>> ct = Geometry(shape=(64, 128, 128), spacing=(5.0, 3.0, 3.0), unit="mm", affine=np.diag([3.0, 3.0, 5.0, 1.0]))
    >>> ct.to_planes(np.zeros((64, 128, 128))).shape
    (64, 128, 128)
    """

    shape: tuple[int, ...]
    """(Y, X) or (Z, Y, X), pixels."""
    spacing: tuple[float, ...]
    """`unit` per pixel along each axis of `shape`."""
    unit: Unit = "px"
    affine: NDArray[np.float64] | None = None
    """(4, 4), voxel (i, j, k) to mm in RAS+; None where the file says nothing of orientation."""

    @cached_property
    def _view(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(stored axis of each plane axis, plane axes to flip after the transposition)."""
        if self.affine is None or len(self.shape) == 2:
            return tuple(range(len(self.shape))), ()
        codes = nib.aff2axcodes(self.affine)[::-1]  # of the stored (k, j, i)
        order = [next(axis for axis, code in enumerate(codes) if code in pair) for pair in ("IS", "AP", "RL")]
        thin = [axis for axis in order if self.shape[axis] == 1]
        if len(thin) == 1:  # a single slice is a plane, in whatever direction it was cut, the head at its top
            order = [*thin, *(axis for axis in order if axis != thin[0])]
        return tuple(order), tuple(
            place for place, axis in enumerate(order) if codes[axis] in ("SAR" if place else "IAR")
        )

    def to_planes(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of a stored array, (Y, X, ...) or (Z, Y, X, ...), as planes (N, Y, X, ...)."""
        order, flips = self._view
        rest = tuple(range(len(self.shape), array.ndim))
        planes = np.flip(array.transpose(*order, *rest), flips)
        return planes if len(self.shape) == 3 else planes[None]

    def from_planes(self, planes: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `to_planes`: a view of planes (N, Y, X, ...) as they are stored."""
        order, flips = self._view
        array = planes if len(self.shape) == 3 else planes[0]
        rest = tuple(range(len(self.shape), array.ndim))
        return np.flip(array, flips).transpose(*np.argsort(order), *rest)

    @property
    def plane_shape(self) -> tuple[int, int, int]:
        """(N, Y, X) of the planes."""
        shape = [self.shape[axis] for axis in self._view[0]]
        return (shape[-3] if len(shape) == 3 else 1, shape[-2], shape[-1])

    @property
    def plane_spacing(self) -> tuple[float, ...]:
        """Spacing along the axes of the planes: (N, Y, X) of a volume, (Y, X) of an image; `unit` per pixel."""
        return tuple(self.spacing[axis] for axis in self._view[0])

    @property
    def pixel_size(self) -> float:
        """mm³ of a voxel, mm² of a pixel with known spacing, else 1 px."""
        return prod(self.spacing)

    def point_to_planes(self, point: tuple[float, ...]) -> tuple[int, float, float]:
        """(plane, y, x) of a point given in stored pixel indices, (y, x) or (z, y, x)."""
        order, flips = self._view
        moved = [
            self.shape[axis] - 1 - point[axis] if place in flips else point[axis] for place, axis in enumerate(order)
        ]
        return (round(moved[-3]) if len(moved) == 3 else 0, moved[-2], moved[-1])

    def point_from_planes(self, plane: int, y: float, x: float) -> tuple[float, ...]:
        """The inverse of `point_to_planes`."""
        order, flips = self._view
        moved = (float(plane), y, x)[-len(self.shape) :]
        point = [0.0] * len(self.shape)
        for place, axis in enumerate(order):
            point[axis] = self.shape[axis] - 1 - moved[place] if place in flips else moved[place]
        return tuple(point)

    def stored_plane(self, plane: int) -> int:
        """The index of a plane along the stored slice axis (`z` in labelled.csv)."""
        order, flips = self._view
        return self.shape[order[0]] - 1 - plane if len(self.shape) == 3 and 0 in flips else plane
