"""From a network that learned on crops back to the native grid: crops that move and grow to hold the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tlseg.data.case import Image, Labels
from napari_tlseg.data.crops import Crop
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.events import Control
from napari_tlseg.learn.focus import Focus
from napari_tlseg.learn.locator import Locator, Place, usual_plane
from napari_tlseg.learn.predict import BATCH, Found, Segmenter, choose, telling

TURNS = 5
"""So often a crop is moved or enlarged."""
STILL, GROWTH = 0.04, 1.25
"""A crop within so much of its side of the mask's middle need not move; where the mask touches it, it grows by this.

Once: the side has room for all training masks, and a network that sees too much would go on to see more in more.
"""
SMALL, LARGE = 0.6, 1.5
"""A mask of less or more than so many times the smallest or largest training mask's extent is doubtful."""
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """A mask found about one place, and why it may be wrong."""

    labels: Labels
    crop: Crop
    doubts: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class FocusedSegmenter(Segmenter):
    """A U-Net that learned on crops, with what it takes to cut them.

    The crop is cut about the click, or else about where the localizer sees the target; it moves to the middle of the
    mask that is found in it, and grows where that touches its border. Where there is doubt the network is tried all
    over the image too. The doubts that remain are said.
    """

    focus: Focus
    locator: Locator

    def find(self, image: Image, click: tuple[int, float, float] | None, control: Control) -> Found | None:
        """The classes of each plane (N, Y, X), (plane, y, x) of a click known; None after a stop."""
        natives = []
        count = image.geometry.plane_shape[0]
        for native in find_recipe(self.provenance.recipe).natives(image, range(count)):
            natives.append(native.astype(np.float16))
            if control.stop:
                return None
        seek = _Seek(self, natives, control)
        if click is not None:
            spacing = image.geometry.plane_spacing[0] if count > 1 else 1.0
            attempt = seek.about_click(click, self.focus.depth / spacing)
            doubts, by = attempt.doubts, "click"
        else:
            plane = usual_plane(self.focus.height, count)
            place = self.locator.find(image, plane)
            attempt, searched = seek.about_guess(place, plane)
            doubts, by = (*(("the localizer is unsure",) if place.unsure else ()), *attempt.doubts), "localizer"
            doubts = (*doubts, "found by a search of the whole image") if searched else doubts
        return (
            None if control.stop else Found(list(attempt.labels), focus=by, doubt="; ".join(doubts), crop=attempt.crop)
        )

    def looking_at(self, image: Image, plane: int, click: tuple[int, float, float] | None) -> Callable[[], Labels]:
        """As `find`, though in a volume the crop follows the mask in this plane alone."""
        natives = find_recipe(self.provenance.recipe).natives(image, [plane])
        seek = _Seek(self, [native.astype(np.float16) for native in natives], Control())
        self.model.eval()
        if click is not None:
            return lambda: seek.about_click((0, *click[1:]), 0).labels[0]
        place = self.locator.find(image, usual_plane(self.focus.height, image.geometry.plane_shape[0]))
        return lambda: seek.about_guess(place, 0)[0].labels[0]


class _Seek:
    """The target in the prepared planes of one image."""

    def __init__(self, segmenter: FocusedSegmenter, natives: list[NDArray[np.float16]], control: Control) -> None:
        self._segmenter, self._natives, self._control = segmenter, natives, control
        self._focus, self._size = segmenter.focus, segmenter.provenance.size
        self._recipe = find_recipe(segmenter.provenance.recipe)
        height, width = natives[0].shape[:2]
        self._shape, self._side = (height, width), segmenter.focus.pixels((height, width))

    def about_click(self, click: tuple[int, float, float], depth: float) -> _Attempt:
        """In the planes within `depth` of the click's; in all where the mask goes on beyond."""
        plane, y, x = click
        everywhere = range(len(self._natives))
        near = range(*(round(min(max(end, 0), len(everywhere))) for end in (plane - depth, plane + depth + 1)))
        attempt = self._about((y, x), near)
        ends = [end for end in (near[0], near[-1]) if end not in (everywhere[0], everywhere[-1])]
        return self._about((y, x), everywhere) if attempt.labels[ends].any() else attempt

    def about_guess(self, place: Place, plane: int) -> tuple[_Attempt, bool]:
        """About the localizer's guess, or about the place that looks most like the target, if there is less doubt.

        Where the localizer is sure and there is something, it is believed.
        """
        everywhere, start = range(len(self._natives)), (place.y, place.x)
        attempt = self._about(start, everywhere)
        sure = place.doubt is not None and not place.unsure
        if not attempt.doubts or (sure and attempt.labels.any()):
            return attempt, False
        other = self._search(plane)
        if other is None or np.hypot(*np.subtract(other, start)) < self._side / 4:
            return attempt, False
        second = self._about(other, everywhere)
        better = len(second.doubts) < len(attempt.doubts)
        return (second, True) if better else (attempt, False)

    def _about(self, start: Point, planes: range) -> _Attempt:
        """Move and enlarge a crop until the mask lies in its middle."""
        centre, side = start, self._side
        for _ in range(TURNS):
            frame = self._frame(centre, side)
            labels = self._labels(frame, planes)
            box = _box(labels)
            if box is None or self._control.stop:
                break
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            if max(np.abs(np.subtract(middle, centre))) > STILL * side:
                centre = middle
            elif _touches(box, frame) and side == self._side:
                side *= GROWTH
            else:
                break
        crop = Crop(planes=planes, box=frame.box)
        return _Attempt(labels=labels, crop=crop, doubts=tuple(self._doubts(labels, frame, start)))

    def _doubts(self, labels: Labels, frame: Letterbox, start: Point) -> Iterator[str]:
        box = _box(labels)
        if box is None:
            yield "nothing was found"
            return
        extent = (max(box[2] - box[0], box[3] - box[1]) + 1) / max(self._shape)
        if _touches(box, frame):
            yield "the mask touches the border of the crop"
        if extent < SMALL * self._focus.smallest:
            yield "smaller than the training masks"
        if extent > LARGE * self._focus.largest:
            yield "larger than the training masks"
        if max(np.abs(np.subtract(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), start))) > self._side / 2:
            yield "away from where it was looked for"

    def _search(self, plane: int) -> Point | None:
        """The middle of the crop with most target in it, of crops all over a plane; None where none shows any."""
        step = self._side / 2
        grid = [np.arange(step / 2, length + step / 2, step) for length in self._shape]
        best, most = None, 0.0
        for y in grid[0]:
            if self._control.stop:
                return None
            frames = [self._frame((y, x), self._side) for x in grid[1]]
            for frame, found in zip(frames, self._forward([(plane, frame) for frame in frames]), strict=True):
                target = 1 - found[0]
                if (total := float(target[target > 0.5].sum())) > most:
                    best, most = frame, total
        return best.native_point((best.size - 1) / 2, (best.size - 1) / 2) if best else None

    def _frame(self, centre: Sequence[float], side: float) -> Letterbox:
        return Letterbox.around(self._shape, self._size, (centre[0], centre[1]), side)

    def _labels(self, frame: Letterbox, planes: range) -> Labels:
        """(N, Y, X) of the whole image; background outside the crop."""
        labels = np.zeros((len(self._natives), *self._shape), np.uint8)
        for first in range(planes.start, planes.stop, BATCH):
            if self._control.stop:
                break
            chunk = range(first, min(first + BATCH, planes.stop))
            for plane, found in zip(chunk, self._forward([(plane, frame) for plane in chunk]), strict=True):
                labels[plane] = choose(frame.native(telling(found)))
        return labels

    def _forward(self, views: list[tuple[int, Letterbox]]) -> Iterator[NDArray[np.float32]]:
        """(classes, size, size) probabilities of each plane and frame."""
        for start in range(0, len(views), BATCH):
            chunk = views[start : start + BATCH]
            squares = [self._recipe.crop(self._natives[plane].astype(np.float32), frame) for plane, frame in chunk]
            yield from self._segmenter.forward(squares)


def _box(labels: Labels) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right), inclusive, of the largest piece of foreground, all planes seen through."""
    pieces, count = ndimage.label(labels.any(axis=0))
    if not count:
        return None
    largest = int(np.argmax(np.bincount(pieces.ravel())[1:]))
    rows, columns = ndimage.find_objects(pieces)[largest]
    return rows.start, columns.start, rows.stop - 1, columns.stop - 1


def _touches(box: tuple[int, int, int, int], frame: Letterbox) -> bool:
    """Whether a mask reaches the crop's border, where that is not the image's own."""
    crop = frame.box
    last = crop.top + crop.height - 1, crop.left + crop.width - 1
    return bool(
        (box[0] <= crop.top > 0)
        or (box[1] <= crop.left > 0)
        or (box[2] >= last[0] < frame.shape[0] - 1)
        or (box[3] >= last[1] < frame.shape[1] - 1)
    )
