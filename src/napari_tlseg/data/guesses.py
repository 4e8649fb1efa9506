"""Where a localizer sees the targets: a table like clicks.csv, with its doubt; proposals, not annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_tlseg.data.case import Case
from napari_tlseg.data.tables import point_rows, shortest, write_points

DOUBT, UNSURE = "doubt", "unsure"


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Of the target's centre in one image."""

    point: tuple[float, ...]
    """(y, x) or (z, y, x), stored pixel indices."""
    doubt: float | None = None
    """How far off it is to be expected (root mean square), pixels of the image; None where no doubt is known."""
    unsure: bool = False
    """More doubt than is usual: someone should look."""


def write_guesses(path: Path, guesses: Mapping[str, Guess]) -> None:
    """`Case.key` → guess, to a hundredth of a pixel; the columns of doubt only where there is any."""
    points = {key: tuple(round(place, 2) for place in guess.point) for key, guess in guesses.items()}
    if all(guess.doubt is None for guess in guesses.values()):
        write_points(path, points)
    else:
        write_points(path, points, (DOUBT, UNSURE), {key: _cells(guess) for key, guess in guesses.items()})


def read_guesses(path: Path, cases: Iterable[Case], left_out: Iterable[Path] = ()) -> dict[str, Guess]:
    """Case name → guess; empty where there is no file."""
    rows = point_rows(path, cases, left_out, (DOUBT,), (DOUBT, UNSURE))
    return {
        case.name: Guess(
            point=point,
            doubt=row.number(DOUBT) if row.cells.get(DOUBT) else None,
            unsure=row.cells.get(UNSURE, "") == "yes",
        )
        for row, case, point in rows
        if point
    }


def _cells(guess: Guess) -> tuple[str, str]:
    doubt = "" if guess.doubt is None else shortest(round(guess.doubt, 2))
    return doubt, "yes" if guess.unsure else ""
