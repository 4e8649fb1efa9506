"""Where several models disagree about a case: the votes of their masks, and what of it a run folder keeps.

The models are those of a path of λ: a committee that costs nothing more to train. Where a committee disagrees most is
what to label next (Seung, Opper and Sompolinsky, *Query by committee*, COLT 1992).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.annotations import mask_path, read_mask, write_mask
from napari_tlseg.data.case import Case, Dataset, Labels
from napari_tlseg.data.split import read_split
from napari_tlseg.data.tables import read_rows, write_rows

PERCENT = 101
"""Values of a map: 0 to 100 % of the pairs of models."""
COLUMNS = ("case", "disagreement", "mask")


@dataclass(eq=False)
class Votes:
    """How many of the models, two or more, name each class at each pixel of a case.

    >>> votes = Votes(classes=2)
    >>> for mask in ([0, 1, 1], [0, 0, 1]):
    ...     votes.add(np.array([[mask]], np.uint8))
    >>> votes.disagreement, votes.percent().tolist()
    (0.3333333333333333, [[[0, 100, 0]]])
    """

    classes: int
    models: int = 0
    _counts: list[NDArray[np.uint8]] = field(default_factory=list)
    """Of each foreground class (N, Y, X)."""

    def add(self, labels: Labels) -> None:
        """What one more model, of 255 at most, finds (N, Y, X)."""
        self._counts = self._counts or [np.zeros_like(labels) for _ in range(1, self.classes)]
        for label, count in enumerate(self._counts, 1):
            count += labels == label
        self.models += 1

    def percent(self) -> NDArray[np.uint8]:
        """Of all pairs of models those that name different classes at a pixel (N, Y, X), in per cent.

        0 where all agree; of nine models at most 56, where five say one thing and four another.
        """
        return np.stack([self._percent(plane) for plane in range(len(self._counts[0]))])

    @property
    def disagreement(self) -> float | None:
        """The chance that a pixel which one model marks is not marked by another, 0 to 1; None where none marks any.

        That is 1 − Dice between two of the models, the sums over all pairs taken before they are divided. Dice between
        samples of a model says of a case without a mask how good its segmentation is (Roy et al., *Bayesian QuickNAT*,
        NeuroImage 2019); unlike an entropy per pixel it does not depend on how large the target is. Of several classes
        the mean over those that any model marks.
        """
        found = [one for count in self._counts if (one := self._of(count)) is not None]
        return fmean(found) if found else None

    def _percent(self, plane: int) -> NDArray[np.uint8]:
        counts = [count[plane].astype(np.int32) for count in self._counts]
        background = self.models - np.sum(counts, axis=0)
        agreeing = np.sum([count * (count - 1) for count in (background, *counts)], axis=0)
        share: NDArray[np.float64] = 1 - agreeing / (self.models * (self.models - 1))
        return np.rint(100 * share).astype(np.uint8)

    def _of(self, count: NDArray[np.uint8]) -> float | None:
        """Of a pixel counts by how many models it is marked: v of m give v (m − v) pairs of which one misses it."""
        pixels, votes = np.bincount(count.ravel(), minlength=self.models + 1), np.arange(self.models + 1)
        marks = int(pixels @ votes)
        return float(pixels @ (votes * (self.models - votes)) / (marks * (self.models - 1))) if marks else None


@dataclass(frozen=True)
class Disagreements:
    """The maps and the table in a run folder, of the cases that were looked at so far."""

    run: Path

    @property
    def folder(self) -> Path:
        return self.run / "path" / "disagreement"

    @property
    def table(self) -> Path:
        return self.folder / "disagreement.csv"

    def map_of(self, case: Case) -> Path:
        """The file of its map, on the grid of the image."""
        return mask_path(case, self.folder)

    def write_map(self, case: Case, votes: Votes) -> Path:
        return write_mask(case, votes.percent(), self.folder, PERCENT)

    def read_map(self, case: Case) -> NDArray[np.uint8]:
        """(N, Y, X), per cent."""
        return read_mask(case, PERCENT, self.map_of(case))

    def read(self) -> dict[str, float | None]:
        """Case name → disagreement, the largest first; None where no model marks anything."""
        rows = read_rows(self.table, COLUMNS)
        return {row["case"]: row.number("disagreement") if row["disagreement"] else None for row in rows}

    def write(self, found: Mapping[str, float | None], masked: Container[str]) -> None:
        """masked: the names of the cases that have a mask."""
        rows = ([name, "" if found[name] is None else found[name], name in masked] for name in most_first(found))
        write_rows(self.table, COLUMNS, rows)


def most_first(found: Mapping[str, float | None]) -> Iterable[str]:
    """Those that are undefined last."""
    return sorted(found, key=lambda name: -1 if (value := found[name]) is None else value, reverse=True)


def next_mask(dataset: Dataset, found: Mapping[str, float | None]) -> str | None:
    """Of the cases that a mask would be learned from, hence no held-out ones, that with most disagreement."""
    taken = {case.name for case in dataset.labelled}
    taken |= {name for name, part in read_split(dataset.folder).items() if part == "held-out"}
    return next((name for name in most_first(found) if found[name] is not None and name not in taken), None)
