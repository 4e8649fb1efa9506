"""How an image of one modality becomes what a network sees: named, frozen, and invertible to the native grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Case, Dataset, Image
from napari_tlseg.data.images import image_of
from napari_tlseg.data.letterbox import Box, Letterbox
from napari_tlseg.errors import InputError

TILES = 8
"""Of CLAHE, along a side."""
BLACK = 0.04
"""What is no brighter is the surrounding of a photograph."""
ROOM = 0.1
"""Brightness that a stretched crop leaves at either end, as its margin may be darker or brighter."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Intensities to [0, 1], the plane into a square, then the steps of the modality."""

    name: str
    says: str
    """In words, for the user."""
    size: int = 256
    """Side of the square when nobody asks for another, pixels."""
    window: tuple[float, float] | None = None
    """HU that become 0 and 1; 8-bit slices count as windowed already."""
    grey: bool = False
    clahe: float = 0.0
    """Clip limit of contrast-limited adaptive histogram equalisation on 8 × 8 tiles of the square; 0 for none."""
    gamma: float = 1.0
    neighbours: int = 0
    """Planes on either side that become further channels."""
    black: float = 0.0
    """Surroundings no brighter than this, 0 to 1, are clipped off; 0 leaves them."""
    augment: Augment = field(default=Augment(), repr=False)

    def channels(self, image: Image) -> int:
        """How many channels a prepared plane has."""
        return (1 if self.grey and image.coloured else image.planes.shape[-1]) * (2 * self.neighbours + 1)

    def limits(self, image: Image) -> NDArray[np.float64]:
        """(2, 1): the stored values that become 0 and 1, the same for all planes of a case; (2, C) of C modalities.

        InputError where a window would leave nothing to see, as with a CT whose values are not HU.
        """
        parts = np.moveaxis(image.array, -1, 0) if image.modalities else image.array[None]
        return np.array([self._limits(part, image) for part in parts]).T

    def _limits(self, array: NDArray[Any], image: Image) -> tuple[float, float]:
        if array.dtype == np.uint8:
            return 0.0, 255.0
        low, high = map(float, np.percentile(array[:: max(1, array.shape[0] // 32)], (0.5, 99.5)))
        if self.window is None:
            return low, max(high, low + 1e-6)
        if low < high and (high <= self.window[0] or low >= self.window[1]):
            values = f"{_short(low)} to {_short(high)}"
            reason = f"holds values of some {values}, which are not HU: recipe {self.name} would show nothing"
            raise InputError(reason, image.path, "export it in HU, or train with --recipe plain")
        return self.window

    def frame(self, image: Image, size: int) -> Letterbox:
        """Where the planes of an image lie in the square, the same for all of them, and the way back."""
        box = None
        if self.black:
            low, high = self.limits(image)
            box = Box.of_bright(image.planes, low + self.black * (high - low))
        return Letterbox(image.geometry.plane_shape[1:], size, box)

    def squares(self, image: Image, planes: Iterable[int], size: int) -> Iterator[NDArray[np.float32]]:
        """The planes asked for, each as (C, size, size) float32 in [0, 1]."""
        frame = self.frame(image, size)
        return self._views(image, planes, lambda values: self._steps(frame.image(values).transpose(2, 0, 1)))

    def natives(self, image: Image, planes: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """The planes asked for on their own grid, each as (Y, X, C) float32 in [0, 1]: to cut crops from."""
        return (
            view.transpose(1, 2, 0) for view in self._views(image, planes, lambda values: values.transpose(2, 0, 1))
        )

    def crop(self, native: NDArray[np.float32], frame: Letterbox, kept: int | None = None) -> NDArray[np.float32]:
        """A crop of what `natives` gave: (C, size, size) float32 in [0, 1].

        Where the recipe evens out contrast, a crop is stretched by what is in it, of its middle `kept` pixels: CLAHE on
        tiles smaller than the target would take away what tells it from its surroundings.
        """
        picture = frame.image(native).transpose(2, 0, 1)
        if not self.clahe:
            return self._steps(picture)
        edge = (frame.size - (kept or frame.size)) // 2
        seen = slice(edge, frame.size - edge)
        return np.stack([_stretch(channel, channel[seen, seen], ROOM) for channel in picture])

    def _views(
        self, image: Image, planes: Iterable[int], place: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> Iterator[NDArray[np.float32]]:
        """(C, ...) of each plane, with its neighbours; `place` is what is done to each (Y, X, C)."""
        limits, stack, merges = self.limits(image), image.planes, self.grey and image.coloured
        offsets = range(-self.neighbours, self.neighbours + 1)
        for plane in planes:
            chosen = [min(max(plane + offset, 0), len(stack) - 1) for offset in offsets]
            scaled = (_scaled(stack[index], limits, merges) for index in chosen)
            yield np.concatenate([place(values) for values in scaled])

    def _steps(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C, Y, X) to the same."""
        if self.clahe:
            picture = np.stack([_equalise(channel, self.clahe) for channel in picture])
        bright: NDArray[np.float32] = picture ** np.float32(1 / self.gamma)
        return bright


def _scaled(plane: NDArray[Any], limits: NDArray[np.float64], grey: bool) -> NDArray[np.float32]:
    """(Y, X, C) in [0, 1]; one channel where colours become grey."""
    low, span = limits[0].astype(np.float32), (limits[1] - limits[0]).astype(np.float32)
    values: NDArray[np.float32] = np.clip((plane.astype(np.float32) - low) / span, 0, 1)
    return cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None] if grey else values


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def _equalise(channel: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
    """Contrast stretched, then CLAHE; black stays black."""
    seen, stretched = channel > BLACK, _stretch(channel, channel)
    levels = (stretched * 255 + 0.5).astype(np.uint8)
    equal = np.where(seen, cv2.createCLAHE(clip, (TILES, TILES)).apply(levels), 0)
    return equal.astype(np.float32) / np.float32(255)


def _stretch(channel: NDArray[np.float32], sample: NDArray[np.float32], room: float = 0.0) -> NDArray[np.float32]:
    """The 1st and 99th percentile of what is not black in a sample become `room` and 1 − `room`; black stays black."""
    bright = sample[sample > BLACK]
    low, high = np.percentile(bright, (1, 99)) if bright.size else (0.0, 1.0)
    stretched = np.clip(room + (1 - 2 * room) * (channel - low) / max(high - low, 1e-6), 0, 1)
    return np.where(channel > BLACK, stretched, 0).astype(np.float32)


FUNDUS = Recipe(
    name="fundus",
    says="fundus photograph: grey, contrast normalised, CLAHE, gamma 1.2 (Hu et al.)",
    size=192,
    grey=True,
    clahe=2.0,
    gamma=1.2,
    augment=Augment(flip_x=True),
)
CT_LUNG = Recipe(
    name="ct-lung",
    says="chest CT: window -1000 to 0 HU, slice by slice (Sagie et al.)",
    size=384,
    window=(-1000.0, 0.0),
    grey=True,
    augment=Augment(rotate=10, shift=0.05, gamma=0.15, contrast=0.1, brightness=0.05),
)
CT_LUNG_3 = Recipe(
    name="ct-lung-3",
    says="chest CT: as ct-lung, with the slices above and below as channels (Virk & Bathula)",
    size=256,
    window=CT_LUNG.window,
    grey=True,
    neighbours=1,
    augment=CT_LUNG.augment,
)
CT_LUNG_3_CLIPPED = replace(
    CT_LUNG_3,
    name="ct-lung-3-clipped",
    says="chest CT: as ct-lung-3, without the air around the body (the input of MAKNet, Virk & Bathula)",
    black=0.25,
)
PLAIN = Recipe(name="plain", says="any image: values scaled to 0..1, colours and modalities kept")

RECIPES = {recipe.name: recipe for recipe in (FUNDUS, CT_LUNG, CT_LUNG_3, CT_LUNG_3_CLIPPED, PLAIN)}
_OF_MODALITY = {"fundus": FUNDUS, "ct": CT_LUNG, "ct-slices": CT_LUNG}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name."""
    try:
        return RECIPES[name]
    except KeyError:
        raise InputError(f"there is no recipe '{name}'", remedy=f"choose one of {', '.join(RECIPES)}") from None


def pick_recipe(dataset: Dataset) -> tuple[Recipe, str]:
    """The recipe that fits the data, and a sentence that says why."""
    if dataset.modality is not None:
        says = f"dataset.toml says modality = '{dataset.modality}'"
        recipe = _OF_MODALITY.get(dataset.modality.strip().lower())
        if recipe is None:
            known = f"{says}, which is not known ({', '.join(_OF_MODALITY)} are)"
            return PLAIN, f"Recipe {PLAIN.name} ({PLAIN.says}), as {known}; --recipe names another."
        return recipe, f"Recipe {recipe.name} ({recipe.says}), as {says}."
    recipe = _recipe_of(image_of(dataset.cases[0]))
    return (
        recipe,
        f"Recipe {recipe.name} ({recipe.says}), judged from {dataset.cases[0].image.name}; --recipe names another.",
    )


def _recipe_of(image: Image) -> Recipe:
    if image.modalities:
        return PLAIN
    if image.array.dtype.kind in "if" and image.geometry.unit == "mm" and image.array.min() < -500:
        return CT_LUNG
    return FUNDUS if image.coloured and _round_and_red(image.planes[0]) else PLAIN


def _round_and_red(plane: NDArray[Any]) -> bool:
    """Whether a photograph is red in the middle and dark in its corners, as a fundus photograph is."""
    y, x = plane.shape[0] // 12 + 1, plane.shape[1] // 12 + 1
    middle = plane[4 * y : -4 * y, 4 * x : -4 * x].reshape(-1, 3).mean(axis=0)
    corners = np.mean(
        [plane[rows, columns].mean() for rows in (slice(y), slice(-y, None)) for columns in (slice(x), slice(-x, None))]
    )
    return bool(middle[0] > middle[1] > middle[2] and corners < 0.35 * middle[0])


def square_size(recipe: Recipe, case: Case) -> int:
    """The recipe's side, or less where the image has no more to show; a multiple of 32."""
    longest = max(case.geometry.plane_shape[1:])
    return min(recipe.size, -(-longest // 32) * 32)
