"""Where a model that looks at crops has looked: a table beside the masks that it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_tlseg.data.case import Case
from napari_tlseg.data.letterbox import Box
from napari_tlseg.data.tables import nfc, read_rows, write_rows

NAME = "crops.csv"
AXES = "zyx"
HEADER = ("case", *(f"{axis}_{end}" for axis in AXES for end in ("first", "last")))


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A box of the planes (N, Y, X) of a case."""

    planes: range
    """Those that were looked at."""
    box: Box
    """The same in each of them; it may overhang the image."""


def keep_crop(folder: Path, case: Case, crop: Crop | None) -> None:
    """Write it into the table of a folder of masks, in place of what was said of the case before.

    As voxels of the stored array, first and last; None where the whole image was looked at.
    """
    path = folder / NAME
    rows = [list(row.cells.values()) for row in read_rows(path, HEADER) if row["case"] != nfc(case.name)]
    if crop is not None:
        rows.append([case.name, *_cells(case, crop)])
    if rows or path.exists():
        write_rows(path, HEADER, rows)


def read_crop(folder: Path, case: Case) -> Crop | None:
    """What the table says of a case; None where it says nothing."""
    row = next((row for row in read_rows(folder / NAME, HEADER) if row["case"] == nfc(case.name)), None)
    if row is None:
        return None
    axes = AXES[-len(case.geometry.shape) :]
    ends = [tuple(row.number(f"{axis}_{end}") for axis in axes) for end in ("first", "last")]
    one, other = (case.geometry.point_to_planes(end) for end in ends)
    (first, last), (top, bottom), (left, right) = (
        sorted((round(a), round(b))) for a, b in zip(one, other, strict=True)
    )
    return Crop(planes=range(first, last + 1), box=Box(top, left, bottom - top + 1, right - left + 1))


def _cells(case: Case, crop: Crop) -> list[str]:
    box, geometry = crop.box, case.geometry
    one = geometry.point_from_planes(crop.planes[0], box.top, box.left)
    other = geometry.point_from_planes(crop.planes[-1], box.top + box.height - 1, box.left + box.width - 1)
    ends = [f"{round(end)}" for pair in zip(one, other, strict=True) for end in sorted(pair)]
    return [*[""] * (2 * len(AXES) - len(ends)), *ends]
