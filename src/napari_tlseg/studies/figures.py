"""The figures that the method is known for, drawn from a finished run or study, as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_tlseg.data.files import atomic_path
from napari_tlseg.studies.recommend import name

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito, told apart without red-green vision."""
CHANCE = 0.05
"""A p below it has a star."""
APART = 0.06
"""Decades from one line to the next, so that their error bars do not hide each other."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measure against λ."""

    label: str
    points: Mapping[float, tuple[float, float | None]]
    """λ → (mean, spread or None)."""
    dashed: bool = False
    starred: Collection[float] = ()
    """The λ where the difference to λ = 0 is no chance."""


def line_of(
    label: str, rows: Sequence[Mapping[str, Any]], mean: str, spread: str | None = None, *, starred: bool = False
) -> Line:
    """Of rows with a `lambda`, those that have the mean; starred: where their p against λ = 0 is small."""
    found = {float(row["lambda"]): row for row in rows if row[mean] is not None}
    small = [λ for λ, row in found.items() if (row.get("p_against_0") or 1) < CHANCE] if starred else ()
    points = {λ: (row[mean], row[spread] if spread else None) for λ, row in found.items()}
    return Line(label=label, points=points, starred=small)


Levels = Mapping[str, float]
"""What has no λ, drawn as horizontal lines."""


def lambda_curve(lines: Sequence[Line], levels: Levels | None = None, spread: str = "SE") -> Figure:
    """Dice and precision against λ, a line each (Sagie et al., fig. 1).

    λ is logarithmic, with 0 and ∞ at the ends, set off.
    """
    figure, (axes,) = _figure(6.4, 4.2)
    _draw_curve(axes, lines, levels or {})
    axes.set_ylabel(f"mean ± {spread}")
    return figure


def source_curves(dice: Sequence[Line], precision: Sequence[Line], levels: Levels, spread: str = "SE") -> Figure:
    """The same of several sources: Dice on the left, precision on the right, a line per source (Sagie et al., fig. 1).

    levels: Dice without a source.
    """
    figure, (left, right) = _figure(11.0, 4.4, 2)
    _draw_curve(left, dice, levels)
    _draw_curve(right, precision, {})
    left.set_ylabel(f"Dice, mean ± {spread}")
    right.set_ylabel("precision, mean")
    return figure


def positions(strengths: Sequence[float]) -> dict[float, float]:
    """λ → place on a logarithmic axis; 0 and ∞ one step beyond the finite ones."""
    finite = [math.log10(λ) for λ in strengths if 0 < λ < math.inf] or [0.0]
    step = max(0.5, (max(finite) - min(finite)) / max(len(finite) - 1, 1))
    ends = {0.0: min(finite) - 1.2 * step, math.inf: max(finite) + 1.2 * step}
    return {λ: ends[λ] if λ in ends else math.log10(λ) for λ in strengths}


def efficiency_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Dice against the number of masks, a line per source, ± SE; a star where p < CHANCE against no source (Hu et al.).

    rows: of the summary of an efficiency study.
    """
    figure, (axes,) = _figure(6.4, 4.2)
    for number, source in enumerate(dict.fromkeys(row["source"] for row in rows)):
        own = sorted((row for row in rows if row["source"] == source), key=lambda row: row["masks"])
        x, y = [row["masks"] for row in own], [row["dice_mean"] for row in own]
        label = "no source" if source == "none" else source
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(x, y, [row["dice_se"] or 0 for row in own], marker="o", capsize=3, label=label, color=colour)
        for row in own:
            if row["p"] is not None and row["p"] < CHANCE:
                _star(axes, (row["masks"], row["dice_mean"]), colour)
    axes.set_xscale("log", base=2)
    sizes = sorted({row["masks"] for row in rows})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("masks")
    axes.set_ylabel("Dice, mean ± SE over patients")
    axes.legend(frameon=False, loc="lower right")
    return figure


def case_grid(rows: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8]]]]]) -> Figure:
    """A row per case: the plane, then the overlay at several λ (Sagie et al., fig. 2).

    rows: (name of the case, (title, picture (Y, X, 3)) of each column).
    """
    wide = max(len(pictures) for _, pictures in rows)
    figure = Figure(figsize=(2.2 * wide, 2.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), wide, squeeze=False)
    for line, (case, pictures) in zip(grid, rows, strict=True):
        for axes, (title, picture) in zip(line, pictures, strict=False):
            axes.imshow(picture)
            axes.set_title(title, fontsize=8)
        line[0].set_ylabel(case, fontsize=8)
        for axes in line:
            axes.set(xticks=[], yticks=[])
    return figure


def write_figure(figure: Figure, folder: Path, stem: str) -> tuple[Path, Path]:
    """As PNG, to look at, and SVG, for print; the same figure gives the same bytes."""
    import matplotlib

    paths = folder / f"{stem}.png", folder / f"{stem}.svg"
    writers: Iterable[tuple[Path, Callable[[Path], None]]] = (
        (paths[0], lambda path: figure.savefig(path, format="png", dpi=150, metadata={"Software": None})),
        (paths[1], lambda path: figure.savefig(path, format="svg", metadata={"Date": None})),
    )
    with matplotlib.rc_context({"svg.hashsalt": "napari-tlseg"}):  # else its ids are drawn at random
        for target, write in writers:
            with atomic_path(target) as path:
                write(path)
    return paths


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """The figure, and its axes side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    row = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    return figure, row


def _draw_curve(axes: Axes, lines: Sequence[Line], levels: Levels) -> None:
    strengths = sorted({λ for line in lines for λ in line.points})
    places = positions(strengths)
    for number, line in enumerate(lines):
        aside = APART * (number - (len(lines) - 1) / 2)
        beside = {λ: place + aside for λ, place in places.items()}
        _draw_line(axes, line, beside, COLOURS[number % len(COLOURS)])
    for number, (label, level) in enumerate(levels.items()):
        axes.axhline(level, color="#555555", linestyle=(":", "-.")[number % 2], label=label)
    axes.set_xticks([places[λ] for λ in strengths], [name(λ) for λ in strengths], rotation=45)
    axes.set_xlabel("λ: plain fine-tuning on the left, frozen encoder on the right")
    axes.legend(frameon=False)


def _draw_line(axes: Axes, line: Line, places: Mapping[float, float], colour: str) -> None:
    """The finite λ joined; the way to 0 and ∞ thinner, as it has no length."""
    strengths = sorted(line.points)
    x = [places[λ] for λ in strengths]
    y, error = ([line.points[λ][part] or 0.0 for λ in strengths] for part in (0, 1))
    style = "--" if line.dashed else "-"
    axes.errorbar(x, y, error, fmt="o", capsize=3, color=colour, markersize=4)
    axes.plot(x, y, style, color=colour, linewidth=0.8, alpha=0.5)
    finite = [(place, value) for place, value, λ in zip(x, y, strengths, strict=True) if 0 < λ < math.inf]
    axes.plot(*zip(*finite, strict=True) if finite else ([], []), style, color=colour, label=line.label)
    for λ in line.starred:
        _star(axes, (places[λ], line.points[λ][0]), colour)


def _star(axes: Axes, at: tuple[float, float], colour: str) -> None:
    axes.annotate("*", at, (5, 3), textcoords="offset points", color=colour)
