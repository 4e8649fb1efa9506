"""The runs and sources of a folder, as its docks list them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from napari_tlseg.data.card import Card, read_source
from napari_tlseg.data.disagreement import Disagreements
from napari_tlseg.data.run import is_run, read_summary
from napari_tlseg.data.split import FEW, read_split
from napari_tlseg.errors import InputError
from napari_tlseg.gui.notices import logger

RUNS, SOURCES = "runs", "sources"
"""Folders beside images/."""
STUDIES = ("crossval", "efficiency")
"""What job.json calls them."""
COLUMNS = {"case", "part", "class", "dice"}
"""Of scores.csv, those that are read here."""


@dataclass(frozen=True)
class Run:
    """A run folder with a model; where it was killed before its end there is no summary."""

    path: Path
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def strength(self) -> float | None:
        """λ; None without a source, or where the run did not come to its end."""
        unanchored = self.summary.get("source", "none") == "none"
        return None if unanchored else float(self.summary["lambda"])

    @property
    def source(self) -> str:
        return str(self.summary.get("source", "?"))

    @property
    def validation(self) -> Mapping[str, Any]:
        """dice_mean, dice_sd, precision_mean …; a score that is undefined is None."""
        found: Mapping[str, Any] = self.summary.get("validation", {})
        return found

    @property
    def too_few(self) -> bool:
        """Whether there are too few validation cases to judge the run by."""
        return len(self.validation.get("cases", ())) < FEW

    @property
    def masks(self) -> Path:
        """Where the masks lie that its model found."""
        return self.path / "masks"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The foreground classes that were scored."""
        return tuple(dict.fromkeys(row["class"] for row in self.scores))

    @cached_property
    def scores(self) -> list[dict[str, str]]:
        """Rows of scores.csv as text; an undefined score is empty."""
        file = self.path / "scores.csv"
        if not file.exists():
            return []
        try:
            with file.open(encoding="utf-8", newline="") as text:
                rows = list(csv.DictReader(text))
            _require_scores(rows)
        except (csv.Error, ValueError):  # also what is no text
            reason = "is not the table of scores of a run"
            raise InputError(reason, file, "delete it, or run the training again") from None
        return rows

    @cached_property
    def dice(self) -> Mapping[str, float | None]:
        """Of each case that was scored, over its classes; None where it is undefined."""
        found: dict[str, list[float]] = {row["case"]: [] for row in self.scores}
        for row in self.scores:
            if row["dice"]:
                found[row["case"]].append(float(row["dice"]))
        return {case: fmean(each) if each else None for case, each in found.items()}

    @cached_property
    def seen(self) -> frozenset[str]:
        """The scored cases that the source was trained on."""
        return frozenset(row["case"] for row in self.scores if row.get("seen", "").lower() == "true")

    @cached_property
    def doubts(self) -> Mapping[str, str]:
        """Why the mask of a case may be wrong, of the cases where the run says so."""
        return {row["case"]: row["doubt"] for row in self.scores if row.get("doubt")}

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """What was said of each λ of a path, from ∞ down; empty where the run holds none."""
        found: Sequence[Mapping[str, Any]] = self.summary.get("path", ())
        return found

    @cached_property
    def disagreement(self) -> Mapping[str, float | None]:
        """Of each case that was looked at, how far the λ of the path disagree in it, from 0 to 1; see `Votes`."""
        return Disagreements(self.path).read() if self.stages else {}

    def hides(self, case: str, folder: Path) -> bool:
        """Whether a case is held out: of the run, or of the folder where the run did not see it."""
        return "held-out" in (self.part_of(case), read_split(folder).get(case))

    def part_of(self, case: str) -> str:
        """training, validation or held-out; empty where the run did not see it, or was killed before it said so."""
        summary = self.summary
        parts = {"training": summary.get("training", {}), "validation": self.validation, "held-out": summary}
        named = next((part for part, facts in parts.items() if case in facts.get("cases", ())), "")
        return named or next((row["part"] for row in self.scores if row["case"] == case), "")


def runs_of(folder: Path) -> list[Run]:
    """Those with a model, the latest first."""
    found = [path.parent for path in (folder / RUNS).glob("*/model.safetensors") if is_run(path.parent)]
    runs = [Run(path, _summary(path)) for path in found]
    return sorted(runs, key=lambda run: (run.path / "job.json").stat().st_mtime, reverse=True)


@dataclass(frozen=True)
class StudyRun:
    """The folder of a study, through or not."""

    path: Path
    record: Mapping[str, Any] = field(repr=False)
    """Its options, as `Study.record`."""
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Empty as long as nothing is known."""


def studies_of(folder: Path) -> list[StudyRun]:
    """The latest first."""
    found = [path.parent for path in (folder / RUNS).glob("*/job.json")]
    studies = [StudyRun(path, job_of(path), _summary(path)) for path in found]
    kept = [study for study in studies if study.record.get("job") in STUDIES]
    return sorted(kept, key=lambda study: (study.path / "job.json").stat().st_mtime, reverse=True)


def sources_of(folder: Path) -> list[Path]:
    """The files that pretraining made, the latest first."""
    return sorted((folder / SOURCES).glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)


def card_of(source: object) -> Card | None:
    """What a file or a run folder says of itself as a source; None where it says nothing, as foreign weights do."""
    if not isinstance(source, Path) or not source.exists():
        return None
    try:
        return read_source(source / "model.safetensors" if source.is_dir() else source)
    except InputError:
        return None


def localizer_of(folder: Path, picked: object = None) -> Path | None:
    """What says where to look: the picked source, or else the latest of the folder, that finds centres by heat map."""
    found = [picked, *sources_of(folder)]
    return next((path for path in found if isinstance(path, Path) and _says_where(card_of(path))), None)


def _says_where(card: Card | None) -> bool:
    return card is not None and card.facts["task"] == "localize" and card.facts.get("head") in ("heatmap", "unet")


def job_of(run: Path) -> dict[str, Any]:
    """What the run was asked to do, as job.json says; empty where that cannot be read."""
    try:
        found = json.loads((run / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def free_name(folder: Path, stem: str, suffix: str = "") -> Path:
    """`stem`, or `stem-2` and so on: the first that is not there."""
    names = (f"{stem}{'' if number == 1 else f'-{number}'}{suffix}" for number in range(1, 10_000))
    return next(folder / name for name in names if not (folder / name).exists())


def _require_scores(rows: list[dict[str, str]]) -> None:
    """ValueError where what is read here is not there, or no number."""
    for row in rows:
        if None in row.values() or not row.keys() >= COLUMNS:
            raise ValueError(row)
        float(row["dice"] or 0)


def _summary(path: Path) -> dict[str, Any]:
    try:
        return read_summary(path)
    except InputError as error:  # killed before its end, or written to by hand: its model is still of use
        logger.info("%s", error)
        return {}
