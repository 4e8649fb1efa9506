"""The mask of one case on the disk, while it is painted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.annotations import ENDINGS, mask_path, read_mask, write_mask
from napari_tlseg.data.case import Case, Dataset, Labels
from napari_tlseg.data.tables import read_painted, write_painted
from napari_tlseg.errors import InputError
from napari_tlseg.options import Format


class MaskFile:
    """Read, and written anew as planes change; used in the writing thread alone, after what was written before.

    A write that failed keeps what was painted: the next one writes that too.
    """

    def __init__(self, case: Case, dataset: Dataset) -> None:
        self.case = case
        self._cases, self._folder, self._classes = dataset.cases, dataset.folder, len(dataset.classes)
        self._left_out = dataset.left_out
        self._labels: Labels | None = None
        self._painted: frozenset[int] = frozenset()

    @property
    def volume(self) -> bool:
        """Whether it is said which of its planes are fully painted."""
        return len(self.case.geometry.shape) == 3

    def read(self) -> tuple[Labels, frozenset[int]]:
        """(N, Y, X) and the planes that are fully painted: as on the disk, or as a write that failed would have it."""
        if self._labels is None:
            path = self._own() or self._shared
            if path is None:
                self._labels = np.zeros(self.case.geometry.plane_shape, np.uint8)
            else:
                self._labels = np.array(read_mask(self.case, self._classes, path), order="C")
                listed = self._listed().get(self.case.name) if self.volume else None
                self._painted = frozenset(range(len(self._labels)) if listed is None else listed)
        return self._labels.copy(), self._painted

    def write(self, planes: Mapping[int, NDArray[np.uint8]], painted: Iterable[int] | None) -> bool:
        """Write it with these planes in place of those before, and with other `painted` ones where that is not None;
        whether a dataset that was read earlier knows less.
        """
        self.read()
        if self._labels is None:
            raise RuntimeError("read sets the labels")
        for plane, labels in planes.items():
            self._labels[plane] = labels
        if painted is not None:
            self._painted = frozenset(painted)
        if (top := int(self._labels.max())) >= self._classes:
            known = f"there are {self._classes} classes, 0 to {self._classes - 1}"
            raise InputError(f"the label {top} is painted, but {known}", remedy="paint with another label")
        listed = self.volume and self._list_planes()  # first: without it all of a volume would count as painted
        earlier = self._own()
        path = write_mask(self.case, self._labels, self._folder / "masks", self._classes, _format(self.case))
        if earlier is not None and not earlier.samefile(path):  # two masks of a case would be refused
            earlier.rename(earlier.with_name(f".replaced-{earlier.name}"))
        return listed or earlier != path or self.case.mask != path

    def _list_planes(self) -> bool:
        """Whether labelled.csv is to be written for it, and was."""
        listed = self._listed()
        planes = tuple(sorted(self._painted))
        if listed.get(self.case.name) == planes:
            return False
        listed[self.case.name] = planes
        known = [(case, listed[case.name]) for case in self._cases if case.name in listed]
        write_painted(
            self._folder,
            {case.key: [case.geometry.stored_plane(plane) for plane in painted] for case, painted in known},
            self._left_out,
        )
        return True

    def _listed(self) -> dict[str, tuple[int, ...]]:
        return read_painted(self._folder, self._cases, self._left_out)

    @property
    def _shared(self) -> Path | None:
        """The file that holds the masks of all pages of a stack."""
        mask = self.case.mask
        return mask if mask is not None and self.case.page_of(mask) is not None else None

    def _own(self) -> Path | None:
        """Where its own mask lies now: the dataset may have been read before there was one."""
        written = mask_path(self.case, self._folder / "masks", _format(self.case))
        known = self.case.mask if self._shared is None else None
        return next((path for path in (known, written) if path is not None and path.exists()), None)


def _format(case: Case) -> Format:
    """That of the mask there is, where it can be written."""
    name = "" if case.mask is None else case.mask.name.lower()
    return next((format for format, endings in ENDINGS.items() if name.endswith(endings)), "auto")
