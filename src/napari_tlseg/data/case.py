"""What a dataset is made of: cases, each an image with what is known about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.geometry import Geometry

Labels = NDArray[np.uint8]
"""Class of each pixel, 0 for background."""


@dataclass(frozen=True, eq=False)
class Image:
    """An array as it is stored, with its geometry."""

    array: NDArray[Any]
    """(Y, X) or (Z, Y, X), with channels (..., C), in the file's own values (HU for a CT)."""
    geometry: Geometry
    path: Path | None = None
    """The file, of several the first, for what is to be said of it."""
    modalities: bool = False
    """Whether each channel is an image of its own, such as an MR sequence, with values of its own."""

    @property
    def planes(self) -> NDArray[Any]:
        """A view: (N, Y, X, C)."""
        planes = self.geometry.to_planes(self.array)
        return planes if planes.ndim == 4 else planes[..., None]

    @property
    def coloured(self) -> bool:
        """Whether the channels are red, green and blue."""
        return self.planes.shape[-1] == 3 and not self.modalities

    @property
    def picture(self) -> NDArray[Any]:
        """A view (N, Y, X, C) of what a person is shown: of several modalities the first."""
        return self.planes[..., :1] if self.modalities else self.planes


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image (or volume, or page of a stack) and what is annotated in it; files are read when asked for."""

    name: str
    """File name without its ending; of a page, with `#page`; of several channels, without their numbers."""
    image: Path
    geometry: Geometry = field(repr=False, compare=False)
    page: int | None = None
    """Which page of a multi-page TIFF, or None for the whole file."""
    further: tuple[Path, ...] = ()
    """Where its channels are files, the second and those that follow; `image` is the first."""
    mask: Path | None = None
    roi: Path | None = None
    click: tuple[float, ...] | None = None
    """Target centre in stored pixel indices: (y, x) or (z, y, x). `()` says: looked at, no target visible."""
    tags: tuple[float, ...] | None = None
    """Of each label of the dataset 1 (there), 0 (not there) or NaN (not known)."""
    patient: str = ""
    painted: tuple[int, ...] | None = None
    """Planes that are fully painted; None for all of them."""

    @property
    def planes(self) -> range | tuple[int, ...]:
        """The planes whose mask can be trusted."""
        return range(self.geometry.plane_shape[0]) if self.painted is None else self.painted

    @property
    def files(self) -> tuple[Path, ...]:
        """Of its channels, in their order; mostly one."""
        return (self.image, *self.further)

    @property
    def key(self) -> str:
        """What the tables of a dataset folder call it: its (first) image's file name, of a page with `#page`."""
        return normalize("NFC", self.image.name) + ("" if self.page is None else f"#{self.page}")

    def page_of(self, file: Path) -> int | None:
        """Which page of a mask's or ROI's file is this case's: its own, unless the file is named after the page."""
        return None if normalize("NFC", file.name).startswith(f"{self.name}.") else self.page


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The cases of one folder, in the order of their names."""

    folder: Path
    cases: tuple[Case, ...]
    classes: tuple[str, ...] = ("background", "target")
    labels: tuple[str, ...] = ()
    """Of whole images, in labels.csv."""
    channels: tuple[str, ...] = ()
    """What the channels of a case are, where each is a file."""
    modality: str | None = None
    """`fundus`, `ct` (HU), `ct-slices` (8-bit, windowed) or None where nobody said."""
    notes: tuple[str, ...] = ()
    """What was assumed while reading, in sentences for the user."""
    left_out: Mapping[Path, str] = field(default_factory=dict)
    """Image files that cannot be opened, and are no case → why, and the way out, in a sentence that is a note too."""

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __getitem__(self, name: str) -> Case:
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)

    @property
    def labelled(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.mask is not None)

    @property
    def tagged(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.tags is not None)

    @property
    def clicked(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.click)
