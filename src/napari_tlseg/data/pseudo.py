"""Pseudo-labels: masks that a model gives to images without one, how sure it is, and what a person says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from napari_tlseg.data.files import locked
from napari_tlseg.data.tables import read_rows, write_rows
from napari_tlseg.errors import InputError

ROUNDS, FOLDER, UNSURE = "rounds", "pseudo", "unsure"
"""`<run>/rounds/<number>/pseudo/`: the masks of one teacher; in `unsure/` the pixels that are not to be learned."""
TABLE: Final = "pseudo.csv"
HEADER = ("image", "accepted", "confidence")
ANSWERS = {"": None, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True)
class Pseudo:
    """What is known of one pseudo-label."""

    confidence: float
    """The mean probability of what is marked; where nothing is, of the background."""
    accepted: bool | None = None
    """True: a person vouches for all of it. False: it is not learned from. None: nobody said."""


def latest(run: Path) -> Path | None:
    """The folder of the last pseudo-labels in the run folder of a student that are whole."""
    whole = [path.parent for path in (run / ROUNDS).glob(f"*/{FOLDER}/{TABLE}") if path.parent.parent.name.isdigit()]
    return max(whole, key=lambda path: int(path.parent.name), default=None)


def read_pseudo(folder: Path) -> dict[str, Pseudo]:
    """`Case.key` → what is known; empty where there is no table."""
    found: dict[str, Pseudo] = {}
    for row in read_rows(folder / TABLE, HEADER):
        if row["accepted"] not in ANSWERS:
            raise row.error(f"accepted is {row['accepted']!r}", "expected 1, 0 or nothing")
        if row["image"] in found:
            raise row.error(f"{row['image']} appears twice", "delete one of the lines")
        found[row["image"]] = Pseudo(confidence=row.number("confidence"), accepted=ANSWERS[row["accepted"]])
    return found


def write_pseudo(folder: Path, found: Mapping[str, Pseudo]) -> None:
    """The table; it is written last, so that a folder that has one is whole."""
    words = {answer: word for word, answer in ANSWERS.items()}
    rows = [(key, words[pseudo.accepted], f"{pseudo.confidence:.4f}") for key, pseudo in found.items()]
    write_rows(folder / TABLE, HEADER, rows)


def decide(folder: Path, key: str, accepted: bool | None) -> None:
    """Keep what a person says of one pseudo-label; None takes an answer back."""
    with locked(folder / TABLE):
        found = read_pseudo(folder)
        if key not in found:
            raise InputError(f"there is no image {key!r}", folder / TABLE, "look at the latest round")
        write_pseudo(folder, {**found, key: replace(found[key], accepted=accepted)})
