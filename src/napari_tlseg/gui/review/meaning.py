"""What the colours of the overlay stand for: errors, what was found, or where two predictions differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from napari_tlseg.data.overlay import DIFFERENCES, FN, FP, PALETTES, RGB, TP

Palette = Literal["classic", "colour-blind"]
CODES = (TP, FP, FN)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the codes of an overlay stand for, in words and colours."""

    title: str
    """Of the layer, before the case's name."""
    names: Mapping[int, str]
    hints: Mapping[int, str]
    colours: Mapping[str, tuple[RGB, RGB, RGB, RGB]]
    """By palette, by code."""
    dice: str
    """What Dice says here."""


ERRORS = Meaning(
    title="errors",
    names={TP: "TP · found", FP: "FP · false", FN: "FN · missed"},
    hints={
        TP: "True positive: found and true",
        FP: "False positive: found but not true",
        FN: "False negative: missed",
    },
    colours=PALETTES,
    dice="2 TP / (2 TP + FP + FN): 1 is a perfect match",
)

FOUND = replace(
    ERRORS,
    title="found",
    names={TP: "", FP: "found", FN: ""},
    hints={TP: "", FP: "Found; there is no mask to compare it with", FN: ""},
    colours={name: (none, found, found, missed) for name, (none, found, _, missed) in PALETTES.items()},
)
"""Of a prediction alone, next to a truth that is empty."""


def difference(a: str = "A", b: str = "B") -> Meaning:
    """Of two predictions, neither of which is the truth.

    >>> difference("λ = 1", "λ = 0").hints[FP]
    'Found only by A: λ = 1'
    """
    return Meaning(
        title="A and B",
        names={TP: "both", FP: "only A", FN: "only B"},
        hints={TP: "Found by both", FP: f"Found only by A: {a}", FN: f"Found only by B: {b}"},
        colours=DIFFERENCES,
        dice="Dice of A and B: 1 where they are the same",
    )
