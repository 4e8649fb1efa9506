"""True and false positives and false negatives painted over the image: the picture of a case in a run folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_tlseg.data.case import Labels
from napari_tlseg.data.files import atomic_path

RGB = tuple[int, int, int]
WHITE: RGB = (255, 255, 255)
Picture = NDArray[np.uint8]
"""(Y, X, 3)."""

TN, FP, FN, TP = range(4)
"""What a pixel of a confusion is: predicted + 2 · true."""

PALETTES: dict[str, tuple[RGB, RGB, RGB, RGB]] = {
    "classic": ((0, 0, 0), (255, 0, 0), (255, 255, 0), (0, 255, 0)),
    "colour-blind": ((0, 0, 0), (213, 94, 0), (240, 228, 66), (86, 180, 233)),
}
"""Colours of TN (not painted), FP, FN, TP: green, red and yellow as in Sagie et al., fig. 2, or vermillion, yellow and
sky blue of Okabe and Ito, told apart without red-green vision."""

DIFFERENCES: dict[str, tuple[RGB, RGB, RGB, RGB]] = {
    "classic": ((0, 0, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
    "colour-blind": ((0, 0, 0), (230, 159, 0), (86, 180, 233), (255, 255, 255)),
}
"""Of two predictions A and B: neither (not painted), only A, only B, both. None of them is the truth, so none is red or
green: magenta, cyan and white, or orange, sky blue and white."""

FOR, AGAINST = (255, 0, 255), (0, 255, 255)
"""Colours of what speaks for an answer and against it: seen on a red photograph too, and none of an error."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many pixels of one class are right and wrong."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @classmethod
    def of(cls, confusion: NDArray[np.uint8]) -> Counts:
        tp, fp, fn = (int(np.count_nonzero(confusion == code)) for code in (TP, FP, FN))
        return cls(tp=tp, fp=fp, fn=fn)

    def __add__(self, other: Counts) -> Counts:
        return Counts(tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn)

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None where the class is in neither mask."""
        size = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / size if size else None


def confusion_map(truth: Labels, prediction: Labels, label: int = 1) -> NDArray[np.uint8]:
    """TN, FP, FN or TP of each pixel for one class. Of several classes a pixel of the wrong one is an FN of the true
    and an FP of the predicted class, so they are looked at one at a time.

    >>> confusion_map(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])).tolist()
    [0, 1, 2, 3]
    """
    given, true = (np.asarray(labels == label).view(np.uint8) for labels in (prediction, truth))
    return given | true << np.uint8(1)


def confusion_planes(
    truth: Labels, prediction: Labels, label: int = 1, painted: Collection[int] | None = None
) -> tuple[NDArray[np.uint8], list[Counts | None]]:
    """`confusion_map` of (N, Y, X), and the counts of each plane.

    Planes that are not `painted` (None: all are) have no truth: all TN, and no counts.
    """
    confusion = np.zeros(truth.shape, np.uint8)
    counts: list[Counts | None] = [None] * len(truth)
    for index in range(len(truth)) if painted is None else painted:  # by planes: they stay in the processor's cache
        confusion[index] = confusion_map(truth[index], prediction[index], label)
        counts[index] = Counts.of(confusion[index])
    return confusion, counts


def worst_plane(confusion: NDArray[np.uint8]) -> int:
    """Of (N, Y, X) the plane with the most wrong pixels; of equals, the one with the most target."""
    counts = np.array([np.bincount(plane.ravel(), minlength=4) for plane in confusion])
    return int(np.lexsort((counts[:, FN] + counts[:, TP], counts[:, FP] + counts[:, FN]))[-1])


def displayable(plane: NDArray[Any], window: tuple[float, float] | None = None) -> Picture:
    """An image (Y, X) or (Y, X, C) of any type as 8-bit RGB.

    8-bit images are shown as they are, others stretched between their percentiles 0.5 and 99.5; with a `window`
    (low, high), such as (-1000, 0) HU, between these. An alpha channel is dropped.
    """
    plane = plane if plane.ndim == 3 else plane[..., None]
    plane = plane[..., :3] if plane.shape[-1] >= 3 else plane[..., :1]
    if plane.dtype != np.uint8 or window:
        values = plane.astype(np.float32)
        low, high = window or np.percentile(values, (0.5, 99.5))
        plane = (np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(plane, (*plane.shape[:2], 3)))


def paint(
    plane: NDArray[Any],
    confusion: NDArray[np.uint8],
    *,
    palette: str = "classic",
    alpha: float = 0.45,
    outline: bool = False,
    window: tuple[float, float] | None = None,
) -> Picture:
    """The image (Y, X) or (Y, X, C) under a confusion (Y, X): alpha 0 shows the image alone, 1 the plain colours.

    outline: the rims of the regions in plain colours and nothing within, to see what lies beneath.
    """
    picture = displayable(plane, window)
    if outline:
        square = np.ones((3, 3), np.uint8)
        confusion = np.ascontiguousarray(confusion)
        confusion = np.where(cv2.dilate(confusion, square) != cv2.erode(confusion, square), confusion, np.uint8(TN))
    colours = np.array(PALETTES[palette], np.float32)[confusion]
    blend = (1.0 if outline else alpha) * (confusion != TN)[..., None]
    mixed: NDArray[np.float64] = picture * (1 - blend) + colours * blend
    return mixed.round().astype(np.uint8)


def caption(picture: Picture, words: Sequence[tuple[str, RGB]]) -> Picture:
    """With a strip of coloured words beneath, as large as its width allows; what is not ASCII becomes `?`."""
    texts = [word.encode("ascii", "replace").decode() for word, _ in words]
    width = picture.shape[1]
    scale = min(0.6, 0.94 * width / max(sum(_text_size(text, 1.0)[0] for text in texts), 1))
    height = max(_text_size(text, scale)[1] for text in texts)
    strip = np.zeros((2 * height, width, 3), np.uint8)
    x = int(0.03 * width)
    for text, (_, colour) in zip(texts, words, strict=True):
        cv2.putText(strip, text, (x, 3 * height // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
        x += _text_size(text, scale)[0]
    return np.concatenate([picture, strip])


def describe(confusion: NDArray[np.uint8], palette: str = "classic") -> list[tuple[str, RGB]]:
    """Counts in their colours, a legend at once, and Dice; a Dice of nothing and nothing is a dash.

    >>> "".join(word for word, colour in describe(np.array([[0, 1, 2, 3]], np.uint8)))
    'TP 1   FP 1   FN 1   Dice 0.500'
    """
    counts = Counts.of(confusion)
    dice = "-" if counts.dice is None else f"{counts.dice:.3f}"
    named = (("TP", TP, counts.tp), ("FP", FP, counts.fp), ("FN", FN, counts.fn))
    return [*((f"{name} {count}   ", PALETTES[palette][code]) for name, code, count in named), (f"Dice {dice}", WHITE)]


def write_overlay(
    path: Path,
    planes: NDArray[Any],
    truth: Labels,
    prediction: Labels,
    *,
    classes: tuple[str, ...],
    numbers: Sequence[int] = (),
    palette: str = "classic",
    alpha: float = 0.45,
    outline: bool = False,
    window: tuple[float, float] | None = None,
) -> None:
    """A PNG of the worst plane of a case: its foreground classes side by side, each with counts and Dice of the plane.

    planes: (N, Y, X, C) or (N, Y, X). truth, prediction: (N, Y, X). classes: names with the background first.
    numbers: of a volume, what the planes are called there, for the caption.
    Small images are enlarged by a whole factor, pixels staying squares.
    """
    index = worst_plane(np.where(truth != prediction, FP, np.where(truth != 0, TP, TN)).astype(np.uint8))
    panels = []
    for label, name in enumerate(classes[1:], start=1):
        confusion = confusion_map(truth[index], prediction[index], label)
        panel = paint(planes[index], confusion, palette=palette, alpha=alpha, outline=outline, window=window)
        zoom = max(1, 384 // max(panel.shape[:2]))
        where = f"{name}, z = {numbers[index]}" if numbers else name
        panels.append(
            caption(panel.repeat(zoom, 0).repeat(zoom, 1), [(f"{where}:   ", WHITE), *describe(confusion, palette)])
        )
    height = max(len(panel) for panel in panels)  # captions differ in height
    sheet = np.concatenate([np.pad(panel, ((0, height - len(panel)), (0, 0), (0, 0))) for panel in panels], axis=1)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


def _text_size(text: str, scale: float) -> tuple[int, int]:
    """(width, height) in pixels."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    return width, height + below
