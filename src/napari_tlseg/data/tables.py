"""The small CSV files of a dataset: read with errors that name the line, written whole or not at all."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import writable, write_text
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

CLICKS = ("image", "y", "x")
CLICKS_3D = ("image", "z", "y", "x")
PAINTED = ("image", "z")
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of a table, which knows where it stands."""

    path: Path
    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def error(self, reason: str, remedy: str = "") -> InputError:
        return InputError(f"line {self.line}: {reason}", self.path, remedy)

    def number(self, column: str) -> float:
        """The cell as a finite number."""
        try:
            value = float(self[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"{column} is {self[column]!r}, expected a number like 140.8")
        return value

    def numbers(self, *columns: str) -> tuple[float, ...]:
        """Of the columns that there are, without the empty ones."""
        return tuple(self.number(column) for column in columns if self.cells.get(column))


def read_rows(path: Path, *headers: Sequence[str]) -> list[Row]:
    """The rows of a comma-separated UTF-8 file that has one of `headers`; none where there is no file."""
    if not path.exists():
        return []
    expected = " or ".join(",".join(header) for header in headers)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", path, "save it as 'CSV UTF-8, comma separated'") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path, f"expected a table {expected}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = _header(path, next(reader, []), headers, expected)
        return [_row(path, reader.line_num, header, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"line {reader.line_num}: {error}", path, f"expected {expected}") from None


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def nfc(name: str) -> str:
    """The composed Unicode form: a file name with an umlaut is spelled differently on macOS."""
    return unicodedata.normalize("NFC", name)


def write_clicks(folder: Path, clicks: Mapping[str, tuple[float, ...]], left_out: Iterable[Path] = ()) -> None:
    """Replace clicks.csv: `Case.key` → (y, x) or (z, y, x) in stored pixel indices, `()` for no target visible.

    Of image files that are left out of the dataset, what the tables say stays.
    """
    _require_writable(folder, "the clicks")
    path = folder / "clicks.csv"
    kept = {row["image"]: row.numbers("z", "y", "x") for row in _rows_of(path, left_out, CLICKS, CLICKS_3D)}
    write_points(path, {**clicks, **kept})


def read_clicks(folder: Path, cases: Iterable[Case], left_out: Iterable[Path] = ()) -> dict[str, tuple[float, ...]]:
    """Case name → click, from clicks.csv."""
    return {case.name: point for _, case, point in point_rows(folder / "clicks.csv", cases, left_out)}


def write_points(
    path: Path,
    points: Mapping[str, tuple[float, ...]],
    columns: Sequence[str] = (),
    more: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """A table like clicks.csv: `Case.key` → (y, x) or (z, y, x) in stored pixel indices, or `()`; `more` columns."""
    header = CLICKS_3D if any(len(point) == 3 for point in points.values()) else CLICKS
    width = len(header) - 1
    rows = [[name, *[""] * (width - len(point)), *map(shortest, point)] for name, point in points.items()]
    write_rows(path, (*header, *columns), [[*row, *(more[row[0]] if more else ())] for row in rows])


def point_rows(
    path: Path, cases: Iterable[Case], left_out: Iterable[Path] = (), *columns: Sequence[str]
) -> Iterator[tuple[Row, Case, tuple[float, ...]]]:
    """Each row of what `write_points` wrote, its case and its point; none where there is no file.

    columns: those that may follow, each a choice.
    """
    by_key, seen = {case.key: case for case in cases}, set[str]()
    headers = [(*header, *more) for more in ((), *columns) for header in (CLICKS, CLICKS_3D)]
    for row, case in rows_with(read_rows(path, *headers), by_key, left_out):
        if case.name in seen:
            raise row.error(f"{row['image']} appears twice", "keep one target per image")
        seen.add(case.name)
        yield row, case, _point(row, case)


def _point(row: Row, case: Case) -> tuple[float, ...]:
    if not row["y"] and not row["x"]:
        return ()
    shape, z = case.geometry.shape, row.cells.get("z", "")
    if bool(z) != (len(shape) == 3):
        kind = "is a volume and needs a z" if len(shape) == 3 else "is no volume and has no z"
        raise row.error(f"{row['image']} {kind}", f"expected {','.join(CLICKS_3D if len(shape) == 3 else CLICKS)}")
    point = tuple(row.number(axis) for axis in "zyx"[-len(shape) :])
    if not all(-0.5 <= place <= size - 0.5 for place, size in zip(point, shape, strict=True)):
        places = ", ".join(f"{place:g}" for place in point)
        where = f"the click ({places}) is outside {row['image']}, which has {extent(case.geometry)} pixels"
        raise row.error(where, "click the image again, or delete the line")
    return point


def read_patients(folder: Path, cases: list[Case], notes: list[str], left_out: Iterable[Path] = ()) -> dict[str, str]:
    """Case name → patient; a row may name a page or the whole file."""
    if not (folder / "patients.csv").exists():
        notes.append("There is no patients.csv: every image counts as a patient of its own.")
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        for key in {case.key, nfc(case.image.name)}:
            groups[key].append(case)
    patients: dict[str, str] = {}
    for row, group in rows_with(read_rows(folder / "patients.csv", ("image", "patient")), groups, left_out):
        if not row["patient"]:
            raise row.error(f"{row['image']} has no patient", "expected image,patient")
        for case in group:
            if case.name in patients:
                raise row.error(f"{row['image']} appears twice", "delete one of the lines")
            patients[case.name] = row["patient"]
    if patients and (rest := len(cases) - len(patients)):
        notes.append(f"patients.csv does not name {rest} images: each counts as a patient of its own.")
    return patients


def read_painted(folder: Path, cases: Iterable[Case], left_out: Iterable[Path] = ()) -> dict[str, tuple[int, ...]]:
    """Case name → planes that are fully painted."""
    by_key = {case.key: case for case in cases}
    painted: dict[str, set[int]] = defaultdict(set)
    for row, case in rows_with(read_rows(folder / "labelled.csv", PAINTED), by_key, left_out):
        count = case.geometry.plane_shape[0]
        if len(case.geometry.shape) == 2:
            raise row.error(f"{row['image']} is no volume and has no slices", "delete the line")
        z = row.number("z")
        if z != int(z) or not 0 <= z < count:
            raise row.error(f"{row['image']} has no slice {row['z']}", f"expected a whole number from 0 to {count - 1}")
        plane = case.geometry.stored_plane(int(z))
        if plane in painted[case.name]:
            raise row.error(f"slice {row['z']} of {row['image']} appears twice", "delete one of the lines")
        painted[case.name].add(plane)
    return {name: tuple(sorted(planes)) for name, planes in painted.items()}


def write_painted(folder: Path, painted: Mapping[str, Iterable[int]], left_out: Iterable[Path] = ()) -> None:
    """Replace labelled.csv: `Case.key` → the slices that are fully painted, as `Geometry.stored_plane` counts them.

    A volume without any is refused: one that the table does not name counts as painted throughout.
    """
    _require_writable(folder, "what is painted")
    slices = {name: sorted(set(stored)) for name, stored in painted.items()}
    if nothing := next((name for name, stored in slices.items() if not stored), ""):
        reason = f"without a painted slice of {nothing}, all of its slices would count as painted"
        raise InputError(reason, folder / "labelled.csv", "mark a slice as painted, or delete the mask")
    rows = [(name, str(z)) for name, stored in slices.items() for z in stored]
    kept = [(row["image"], row["z"]) for row in _rows_of(folder / "labelled.csv", left_out, PAINTED)]
    write_rows(folder / "labelled.csv", PAINTED, [*rows, *kept])


def extent(geometry: Geometry) -> str:
    return " × ".join(map(str, geometry.shape))


def _require_writable(folder: Path, what: str) -> None:
    if not writable(folder):
        raise InputError(f"is read-only, {what} cannot be kept there", folder, "choose a project folder")


def _header(path: Path, cells: list[str], headers: Sequence[Sequence[str]], expected: str) -> list[str]:
    found = [cell.strip() for cell in cells]
    if found not in [list(header) for header in headers]:
        separated = next((sign for sign in (";", "\t") if len(found) == 1 and sign in found[0]), None)
        wrong = f"its columns are separated by {separated!r}" if separated else f"reads {','.join(found)!r}"
        raise InputError(f"line 1: {wrong}", path, f"expected {expected}, separated by commas")
    return found


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise InputError(f"line {line}: has {len(cells)} columns, expected {','.join(header)}", path)
    name, *values = cells
    return Row(path, line, dict(zip(header, [nfc(name), *(value.strip() for value in values)], strict=True)))


def rows_with(rows: Iterable[Row], images: Mapping[str, T], left_out: Iterable[Path]) -> Iterator[tuple[Row, T]]:
    """Each row with what it speaks of; those of left out files are passed over."""
    names = {nfc(path.name) for path in left_out}
    for row in rows:
        if row["image"] in images:
            yield row, images[row["image"]]
        elif not _speaks_of(row, names):
            raise row.error(f"there is no image {row['image']!r}", f"expected a file name like {next(iter(images))!r}")


def _rows_of(path: Path, left_out: Iterable[Path], *headers: Sequence[str]) -> list[Row]:
    """Those of left out files."""
    names = {nfc(path.name) for path in left_out}
    return [row for row in read_rows(path, *headers) if _speaks_of(row, names)] if names else []


def _speaks_of(row: Row, files: Container[str]) -> bool:
    """Of one of these files, or of a page of it."""
    return row["image"] in files or row["image"].rpartition("#")[0] in files


def shortest(number: float) -> str:
    """As few digits as give the same number back."""
    return repr(float(number))
